//! Segments: preparing a file, naming it, reading its header.
//!
//! A segment has its final name only once its zeros and its header are durable. So a file of that
//! name with a bad header is never the trace of a crash: it is damage.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Lsn;
use super::frame::{self, FrameCodec};
use super::fs::{Fs, FsFile, read_full_at, write_all_at, write_zeros};
use super::name::LogName;

/// Bytes of a segment's header; where its first frame begins.
pub const HEADER_LEN: u64 = 4096;
/// Capacity of a segment unless told otherwise.
pub const DEFAULT_CAPACITY: u64 = 64 << 20;
/// The least capacity of a segment: its header and as much again.
pub const MIN_CAPACITY: u64 = 2 * HEADER_LEN;

/// The largest capacity of a segment.
pub const MAX_CAPACITY: u64 = 1 << 30;
/// No segment is longer: one oversized frame, and a seal, behind a header.
const MAX_LEN: u64 = MAX_CAPACITY + frame::MAX_BODY_LEN as u64 + 2 * HEADER_LEN;

const MAGIC: [u8; 8] = *b"postrwal";
const VERSION: u32 = 1;
const CRC_LEN: usize = 4;

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log it belongs to.
    pub log_id: u64,
    /// LSN of its first operation.
    pub base: Lsn,
    /// Enters every checksum of its frames.
    pub salt: u64,
    /// Length of the file as it was prepared.
    pub capacity: u64,
}

/// Why a segment's header was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The file is shorter than a header.
    #[error("it is shorter than a segment's header")]
    Short,
    /// The checksum does not match.
    #[error("the checksum of its header does not match")]
    Checksum,
    /// Whole, but not a segment of postres.
    #[error("it is not a segment of a postres log")]
    Magic,
    /// Written by a version of postres that this one does not know.
    #[error("it has format version {0}, and this postres reads version {VERSION}: use a newer one")]
    Version(u32),
}

impl SegmentHeader {
    /// The codec of this segment's frames.
    pub fn codec(&self) -> FrameCodec {
        FrameCodec::new(self.salt)
    }

    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN as usize);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(HEADER_LEN as u32).to_le_bytes());
        for field in [self.log_id, self.base.0, self.salt, self.capacity] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.resize(HEADER_LEN as usize - CRC_LEN, 0);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header from the start of a segment.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header = bytes.get(..HEADER_LEN as usize).ok_or(HeaderError::Short)?;
        let (fields, crc) = header
            .split_last_chunk::<CRC_LEN>()
            .ok_or(HeaderError::Short)?;
        if crc32c::crc32c(fields) != u32::from_le_bytes(*crc) {
            return Err(HeaderError::Checksum);
        }
        // The places of the magic, the version and the checksum are the same in every version.
        let (magic, rest) = fields.split_first_chunk::<8>().ok_or(HeaderError::Short)?;
        if *magic != MAGIC {
            return Err(HeaderError::Magic);
        }
        let (version, rest) = rest.split_first_chunk().ok_or(HeaderError::Short)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(HeaderError::Version(u32::from_le_bytes(*version)));
        }
        let numbers = rest.get(4..36).ok_or(HeaderError::Short)?;
        let mut numbers = numbers
            .as_chunks::<8>()
            .0
            .iter()
            .map(|raw| u64::from_le_bytes(*raw));
        let mut number = || numbers.next().ok_or(HeaderError::Short);
        Ok(Self {
            log_id: number()?,
            base: Lsn(number()?),
            salt: number()?,
            capacity: number()?,
        })
    }
}

/// A segment that is being appended to.
#[derive(Debug)]
pub struct Segment {
    /// Its header.
    pub header: SegmentHeader,
    /// Its file.
    pub file: Box<dyn FsFile>,
    /// Where the next frame goes.
    pub position: u64,
}

/// Makes new segments of one log.
#[derive(Debug, Clone)]
pub struct SegmentMaker {
    /// The file system.
    pub fs: Arc<dyn Fs>,
    /// The names.
    pub name: LogName,
    /// The log's id.
    pub log_id: u64,
    /// Length of new segments.
    pub capacity: u64,
    /// The source of salts.
    pub entropy: fn() -> u64,
}

/// A file full of durable zeros, waiting to become a segment.
#[derive(Debug)]
pub struct Prepared {
    file: Box<dyn FsFile>,
    path: PathBuf,
}

impl SegmentMaker {
    /// Writes a file of zeros: the slow part, which needs to know nothing of the segment but a
    /// name that nothing else uses.
    pub fn prepare(&self, base: Lsn) -> io::Result<Prepared> {
        let path = self.name.new_segment(base);
        let file = self.fs.create(&path)?;
        match self.fill(&*file) {
            Ok(()) => Ok(Prepared { file, path }),
            Err(error) => {
                // Gives back what room it took; at the next start it would be removed anyway.
                drop(file);
                let _ = self.fs.remove(&path);
                Err(error)
            }
        }
    }

    /// Zeros the whole file, in steps, so that a sync of the log beside it waits for little of it.
    ///
    /// Written zeros, not a hole: on ext4 a sync into blocks that were written before costs about
    /// half of one that must also record new blocks.
    fn fill(&self, file: &dyn FsFile) -> io::Result<()> {
        const STEP: u64 = 4 << 20;
        let mut at = 0;
        while at < self.capacity {
            let end = self.capacity.min(at + STEP);
            write_zeros(file, at, end)?;
            file.sync_data()?;
            at = end;
        }
        Ok(())
    }

    /// Gives a prepared file its header and then, when that is durable, its name.
    ///
    /// A failed sync here is not final for the log: the file has never held an operation, and the
    /// next attempt begins with another one.
    pub fn finish(&self, prepared: Prepared, base: Lsn) -> io::Result<Segment> {
        let header = SegmentHeader {
            log_id: self.log_id,
            base,
            salt: (self.entropy)(),
            capacity: self.capacity,
        };
        let Prepared { file, path } = prepared;
        write_all_at(&*file, &header.encode(), 0)?;
        file.sync_data()?;
        let named = self.name.segment(base);
        self.fs.rename(&path, &named)?;
        if let Err(error) = self.fs.sync_dir(self.name.dir()) {
            // Best effort: an empty segment that nothing follows is removed at the next start.
            let _ = self.fs.remove(&named);
            return Err(error);
        }
        Ok(Segment {
            header,
            file,
            position: HEADER_LEN,
        })
    }
}

/// Reads a segment's file whole; a file longer than any segment is an error.
pub fn read_segment(fs: &dyn Fs, path: &Path) -> io::Result<(Box<dyn FsFile>, Vec<u8>)> {
    let file = fs.open(path)?;
    let len = Some(file.len()?).filter(|len| *len <= MAX_LEN);
    let len = len
        .and_then(|len| usize::try_from(len).ok())
        .ok_or(io::ErrorKind::FileTooLarge)?;
    let mut bytes = vec![0; len];
    let read = read_full_at(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader {
        log_id: 1,
        base: Lsn(2),
        salt: 3,
        capacity: 1 << 20,
    };

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        assert_eq!(SegmentHeader::decode(&HEADER.encode()), Ok(HEADER));
    }

    #[test]
    fn every_flipped_byte_of_a_header_is_noticed() {
        for at in 0..HEADER_LEN as usize {
            let mut bytes = HEADER.encode();
            bytes[at] ^= 0x01;
            assert!(SegmentHeader::decode(&bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_header_cut_short_is_noticed() {
        for len in [0, 8, 48, HEADER_LEN as usize - 1] {
            let bytes = HEADER.encode();
            assert_eq!(
                SegmentHeader::decode(&bytes[..len]),
                Err(HeaderError::Short)
            );
        }
    }

    #[test]
    fn a_header_of_a_later_version_is_told_from_damage() {
        let mut bytes = HEADER.encode();
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..4092]);
        bytes[4092..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderError::Version(2)));
    }
}
