//! The first bytes of every file of the log: what it is, and what is known of it from the start.

/// Bytes of a header; where a file's first frame begins.
pub const HEADER_LEN: u64 = 4096;

/// The version of the format that this postres writes, and the only one so far.
pub const VERSION: u32 = 1;
const CRC_LEN: usize = 4;
/// Where the numbers begin: behind magic, version, and the offset of the first frame.
const NUMBERS_AT: usize = 16;

/// Why a file's header was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The file is shorter than a header.
    #[error("it is shorter than the header of a log's file")]
    Short,
    /// The checksum does not match.
    #[error("the checksum of its header does not match")]
    Checksum,
    /// Whole, but another kind of file.
    #[error("its header is not that of such a file of a postres log")]
    Magic,
    /// Written by a version of postres that this one does not know.
    #[error("it has format version {0}, and this postres reads version {VERSION}: use a newer one")]
    Version(u32),
    /// No segment is made with so many bytes.
    #[error("its header says that it was made with {0} bytes, which is more than any segment is")]
    Capacity(u64),
}

/// A header's bytes.
pub(super) fn encode(magic: [u8; 8], numbers: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN as usize);
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(HEADER_LEN as u32).to_le_bytes());
    for number in numbers {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.resize(HEADER_LEN as usize - CRC_LEN, 0);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// The numbers of a header of this kind.
pub(super) fn decode<const N: usize>(
    magic: [u8; 8],
    bytes: &[u8],
) -> Result<[u64; N], HeaderError> {
    let header = bytes.get(..HEADER_LEN as usize).ok_or(HeaderError::Short)?;
    let (fields, crc) = header
        .split_last_chunk::<CRC_LEN>()
        .ok_or(HeaderError::Short)?;
    if crc32c::crc32c(fields) != u32::from_le_bytes(*crc) {
        return Err(HeaderError::Checksum);
    }
    // The places of the magic, the version and the checksum are the same in every version.
    let (found, rest) = fields.split_first_chunk::<8>().ok_or(HeaderError::Short)?;
    if *found != magic {
        return Err(HeaderError::Magic);
    }
    let (version, _) = rest.split_first_chunk().ok_or(HeaderError::Short)?;
    if u32::from_le_bytes(*version) != VERSION {
        return Err(HeaderError::Version(u32::from_le_bytes(*version)));
    }
    let numbers = fields.get(NUMBERS_AT..).ok_or(HeaderError::Short)?;
    let mut decoded = [0; N];
    for (number, raw) in decoded.iter_mut().zip(numbers.as_chunks::<8>().0) {
        *number = u64::from_le_bytes(*raw);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 8] = *b"magical!";

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        assert_eq!(decode(MAGIC, &encode(MAGIC, &[1, 2, 3])), Ok([1, 2, 3]));
    }

    #[test]
    fn every_flipped_byte_of_a_header_is_noticed() {
        for at in 0..HEADER_LEN as usize {
            let mut bytes = encode(MAGIC, &[1]);
            bytes[at] ^= 0x01;
            assert!(decode::<1>(MAGIC, &bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_header_cut_short_is_noticed() {
        for len in [0, 8, 48, HEADER_LEN as usize - 1] {
            let bytes = encode(MAGIC, &[1]);
            assert_eq!(decode::<1>(MAGIC, &bytes[..len]), Err(HeaderError::Short));
        }
    }

    #[test]
    fn another_kind_and_a_later_version_are_told_from_damage() {
        let mut bytes = encode(MAGIC, &[1]);
        assert_eq!(decode::<1>(*b"mundane!", &bytes), Err(HeaderError::Magic));
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..4092]);
        bytes[4092..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode::<1>(MAGIC, &bytes), Err(HeaderError::Version(2)));
    }
}
