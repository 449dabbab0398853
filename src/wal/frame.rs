//! Frames: the unit in which operations reach the disk. The layout is specified in
//! [the module's doc](super); this file is the only one that writes or reads it.

use super::{Lsn, sabotage};
use crate::time::Timestamp;

/// Bytes of a frame before its body.
pub const HEADER_LEN: usize = 48;
/// The largest body, in bytes. A frame that claims more is damaged. The longest key with the longest value
/// is 1 GiB, and must fit, or no snapshot could hold it; the rest is for what stands beside them.
pub const MAX_BODY_LEN: usize = (1 << 30) + (64 << 10);
/// Frames begin at multiples of this many bytes, so that a search for one has fewer places to look.
pub const ALIGNMENT: usize = 8;
/// Bytes of the length before each operation.
pub const OPERATION_PREFIX_LEN: usize = 4;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Carries operations.
    Operations = 1,
    /// The last of its segment: the log goes on in the next one.
    Seal = 2,
    /// Written at an orderly stop: all before it was durable then.
    Close = 3,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Operations),
            2 => Some(Self::Seal),
            3 => Some(Self::Close),
            _ => None,
        }
    }
}

/// The fields of a frame's header, save the checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is for.
    pub kind: FrameKind,
    /// LSN of the first operation; of the operation to come, where there is none.
    pub lsn: Lsn,
    /// When the frame was made. Never less than in any frame before it.
    pub time: Timestamp,
    /// Offset in the segment below which all was known durable when this frame was written.
    pub synced: u64,
    /// How many operations follow.
    pub count: u32,
    /// Bytes of the body, its padding not counted.
    pub body_len: u32,
}

impl FrameHeader {
    /// The LSN of the frame behind this one.
    pub fn next_lsn(&self) -> Lsn {
        Lsn(self.lsn.0.saturating_add(u64::from(self.count)))
    }

    /// Bytes from this frame's first to the next one's.
    pub fn frame_len(&self) -> usize {
        HEADER_LEN + (self.body_len as usize).next_multiple_of(ALIGNMENT)
    }
}

/// A frame that was read back whole.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The operations, in log order.
    pub fn operations(&self) -> Operations<'a> {
        Operations { rest: self.body }
    }
}

/// Splits the body of a frame (or of a submission, which has the same form) into operations.
#[derive(Debug, Clone)]
pub struct Operations<'a> {
    rest: &'a [u8],
}

impl<'a> Operations<'a> {
    /// Over length-prefixed operations as [`push_operation`] writes them.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Operations<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (prefix, rest) = self.rest.split_first_chunk::<OPERATION_PREFIX_LEN>()?;
        let (operation, rest) = rest.split_at_checked(u32::from_le_bytes(*prefix) as usize)?;
        self.rest = rest;
        Some(operation)
    }
}

/// Appends one operation, which `write` puts behind its length. Says the operation's length.
pub fn push_operation(body: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
    let prefix_at = body.len();
    body.extend_from_slice(&[0; OPERATION_PREFIX_LEN]);
    write(body);
    let len = body.len() - prefix_at - OPERATION_PREFIX_LEN;
    // Lengths stay below MAX_BODY_LEN, which the writer checks before it accepts a body.
    let prefix = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(place) = body.get_mut(prefix_at..prefix_at + OPERATION_PREFIX_LEN) {
        place.copy_from_slice(&prefix);
    }
    len
}

/// Why there is no good frame at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a header has.
    #[error("the file ends inside a frame's header")]
    ShortHeader,
    /// The header's checksum does not match (this includes zeros, and frames of another salt).
    #[error("the checksum of a frame's header does not match")]
    HeaderChecksum,
    /// The header is whole, the file ends before the body does.
    #[error("the file ends inside a frame's body")]
    ShortBody,
    /// The header is whole, the body's checksum does not match.
    #[error("the checksum of a frame's body does not match")]
    BodyChecksum,
    /// Both checksums match, and yet the content is impossible: not a crash's doing.
    #[error("a frame's checksums match, but its content contradicts itself")]
    Malformed,
}

/// Encodes and decodes the frames of one segment, whose salt is in every checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameCodec {
    seed: u32,
}

impl FrameCodec {
    /// A codec for a segment with this salt.
    pub fn new(salt: u64) -> Self {
        Self {
            seed: crc32c::crc32c(&salt.to_le_bytes()),
        }
    }

    /// Makes a frame of what `buffer` holds behind its first [`HEADER_LEN`] bytes (the body):
    /// pads it, and writes the header before it. `header.body_len` is set from the buffer.
    ///
    /// The caller has checked the body against [`MAX_BODY_LEN`].
    pub fn seal(&self, buffer: &mut Vec<u8>, mut header: FrameHeader) {
        let body_len = buffer.len().saturating_sub(HEADER_LEN);
        assert!(
            body_len <= MAX_BODY_LEN,
            "a body of {body_len} bytes passed the writer's check"
        );
        header.body_len = u32::try_from(body_len).unwrap_or(u32::MAX);
        buffer.resize(header.frame_len(), 0);
        let Some((place, body)) = buffer.split_first_chunk_mut::<HEADER_LEN>() else {
            return;
        };
        let mut fields = Vec::with_capacity(HEADER_LEN);
        fields.extend_from_slice(&crc32c::crc32c_append(self.seed, body).to_le_bytes());
        fields.extend_from_slice(&header.body_len.to_le_bytes());
        fields.extend_from_slice(&[header.kind as u8, 0, 0, 0]);
        fields.extend_from_slice(&header.lsn.0.to_le_bytes());
        fields.extend_from_slice(&header.time.0.to_le_bytes());
        fields.extend_from_slice(&header.synced.to_le_bytes());
        fields.extend_from_slice(&header.count.to_le_bytes());
        fields.extend_from_slice(&[0; 4]);
        let header_crc = crc32c::crc32c_append(self.seed, &fields).to_le_bytes();
        let (crc_place, fields_place) = place.split_at_mut(header_crc.len());
        crc_place.copy_from_slice(&header_crc);
        fields_place.copy_from_slice(&fields);
    }

    /// Reads the header at the start of `bytes`, and the body's checksum, not the body.
    pub fn open_header(&self, bytes: &[u8]) -> Result<(FrameHeader, u32), FrameError> {
        let raw = bytes
            .first_chunk::<HEADER_LEN>()
            .ok_or(FrameError::ShortHeader)?;
        let (crc, fields) = raw
            .split_first_chunk::<4>()
            .ok_or(FrameError::ShortHeader)?;
        if crc32c::crc32c_append(self.seed, fields) != u32::from_le_bytes(*crc) {
            return Err(FrameError::HeaderChecksum);
        }
        let mut fields = Fields(fields);
        let body_crc = u32::from_le_bytes(fields.take()?);
        let body_len = u32::from_le_bytes(fields.take()?);
        let [kind, reserved @ ..] = fields.take::<4>()?;
        let header = FrameHeader {
            kind: FrameKind::from_byte(kind).ok_or(FrameError::Malformed)?,
            lsn: Lsn(u64::from_le_bytes(fields.take()?)),
            time: Timestamp(u64::from_le_bytes(fields.take()?)),
            synced: u64::from_le_bytes(fields.take()?),
            count: u32::from_le_bytes(fields.take()?),
            body_len,
        };
        if body_len as usize > MAX_BODY_LEN || reserved != [0; 3] || fields.0 != [0; 4] {
            return Err(FrameError::Malformed);
        }
        Ok((header, body_crc))
    }

    /// Reads the frame at the start of `bytes`.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let (header, body_crc) = self.open_header(bytes)?;
        let padded = bytes
            .get(HEADER_LEN..header.frame_len())
            .ok_or(FrameError::ShortBody)?;
        let good = crc32c::crc32c_append(self.seed, padded) == body_crc;
        if !good && !sabotage::is("body-unchecked") {
            return Err(FrameError::BodyChecksum);
        }
        let frame = Frame {
            header,
            body: padded.get(..header.body_len as usize).unwrap_or_default(),
        };
        if !frame.is_consistent() {
            return Err(FrameError::Malformed);
        }
        Ok(frame)
    }

    /// The offset of a frame's header behind `position` that says that the log was durable beyond
    /// `position`, if `bytes`, a segment's, have one. `next_lsn` and `time` are those that a frame
    /// at `position` would have at the least.
    pub fn witness(
        &self,
        bytes: &[u8],
        position: u64,
        next_lsn: Lsn,
        time: Timestamp,
    ) -> Option<u64> {
        // Behind the last frame there are zeros, which need not be looked at.
        let end = bytes.iter().rposition(|byte| *byte != 0)? as u64;
        let mut at = position + ALIGNMENT as u64;
        while at <= end {
            let rest = bytes.get(usize::try_from(at).ok()?..)?;
            let is_witness = self.open_header(rest).is_ok_and(|(header, _)| {
                // Further conditions than the checksum, since this looks at millions of places.
                let behind = header.lsn >= next_lsn && header.time >= time;
                behind && (position + 1..=at).contains(&header.synced)
            });
            if is_witness {
                return Some(at);
            }
            at += ALIGNMENT as u64;
        }
        None
    }
}

impl Frame<'_> {
    /// Whether the operations fill the body exactly and are as many as the header says.
    fn is_consistent(&self) -> bool {
        let mut operations = self.operations();
        let count = operations.by_ref().count();
        let only_operations = self.header.kind == FrameKind::Operations || count == 0;
        count == self.header.count as usize && operations.rest.is_empty() && only_operations
    }
}

/// Takes fixed fields off the front of a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (field, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(FrameError::Malformed)?;
        self.0 = rest;
        Ok(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(codec: FrameCodec, operations: &[&[u8]]) -> Vec<u8> {
        let mut buffer = vec![0; HEADER_LEN];
        for operation in operations {
            push_operation(&mut buffer, |body| body.extend_from_slice(operation));
        }
        let header = FrameHeader {
            kind: FrameKind::Operations,
            lsn: Lsn(7),
            time: Timestamp(1_700_000_000_000),
            synced: 4096,
            count: u32::try_from(operations.len()).unwrap(),
            body_len: 0,
        };
        codec.seal(&mut buffer, header);
        buffer
    }

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let codec = FrameCodec::new(42);
        let all: [&[&[u8]]; 3] = [&[], &[b"one"], &[b"one", b"", b"three\0\n"]];
        for operations in all {
            let bytes = sample(codec, operations);
            let frame = codec.open(&bytes).unwrap();
            assert_eq!(frame.operations().collect::<Vec<_>>(), operations);
            assert_eq!(frame.header.lsn, Lsn(7));
            assert_eq!(frame.header.next_lsn(), Lsn(7 + operations.len() as u64));
            assert_eq!(frame.header.synced, 4096);
            assert_eq!(frame.header.frame_len(), bytes.len());
            assert_eq!(bytes.len() % ALIGNMENT, 0);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let codec = FrameCodec::new(42);
        let good = sample(codec, &[b"key", b"value"]);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(codec.open(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_cut_at_any_byte_is_noticed() {
        let codec = FrameCodec::new(42);
        let good = sample(codec, &[b"key", b"value"]);
        for len in 0..good.len() {
            assert!(codec.open(&good[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_frame_of_another_salt_and_zeros_are_no_frames() {
        let bytes = sample(FrameCodec::new(42), &[b"key"]);
        let other = FrameCodec::new(43);
        assert_eq!(other.open(&bytes).unwrap_err(), FrameError::HeaderChecksum);
        assert_eq!(
            other.open(&[0; 4096]).unwrap_err(),
            FrameError::HeaderChecksum
        );
    }

    #[test]
    fn a_count_that_contradicts_the_body_is_malformed() {
        let codec = FrameCodec::new(42);
        let mut buffer = vec![0; HEADER_LEN];
        push_operation(&mut buffer, |body| body.extend_from_slice(b"one"));
        let header = codec.open(&sample(codec, &[])).unwrap().header;
        codec.seal(&mut buffer, FrameHeader { count: 2, ..header });
        assert_eq!(codec.open(&buffer).unwrap_err(), FrameError::Malformed);
    }
}
