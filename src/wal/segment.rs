//! Segments: preparing a file, naming it, reading its header.
//!
//! A segment has its final name only once its zeros and its header are durable. So a file of that
//! name with a bad header is never the trace of a crash: it is damage.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Lsn;
use super::frame::{self, FrameCodec};
use super::fs::{Fs, FsFile, read_full_at, write_all_at, write_zeros};
use super::header;
use super::name::LogName;
use super::page_buffer::PageBuffer;
use super::room::{RESERVED_SEGMENT, Reserve};
use super::sabotage;

pub use super::header::{HEADER_LEN, HeaderError};

/// Capacity of a segment unless told otherwise.
pub const DEFAULT_CAPACITY: u64 = 64 << 20;
/// The least capacity of a segment: its header and as much again.
pub const MIN_CAPACITY: u64 = 2 * HEADER_LEN;

/// The largest capacity of a segment.
pub const MAX_CAPACITY: u64 = 1 << 30;
/// No segment is longer: one oversized frame, and a seal, behind a header.
const MAX_LEN: u64 = MAX_CAPACITY + frame::MAX_BODY_LEN as u64 + 2 * HEADER_LEN;

const MAGIC: [u8; 8] = *b"postrwal";

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

impl SegmentHeader {
    /// The codec of this segment's frames.
    pub fn codec(&self) -> FrameCodec {
        FrameCodec::new(self.salt)
    }

    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        header::encode(MAGIC, &[self.log_id, self.base.0, self.salt, self.capacity])
    }

    /// Reads a header from the start of a segment.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let [log_id, base, salt, capacity] = header::decode(MAGIC, bytes)?;
        // A frame larger than a segment makes the file longer, but not what is said here.
        if capacity > MAX_CAPACITY {
            return Err(HeaderError::Capacity(capacity));
        }
        Ok(Self {
            log_id,
            base: Lsn(base),
            salt,
            capacity,
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
    /// A file to be written anew, if there is one.
    pub recycled: Recycled,
    /// What a new segment leaves free on the disk.
    pub reserve: Reserve,
}

/// A segment that is no longer needed, to become one that is: its blocks on the disk are
/// allocated, and to zero them takes no room.
#[derive(Debug, Clone, Default)]
pub struct Recycled(Arc<Mutex<Option<PathBuf>>>);

impl Recycled {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_none()
    }

    /// Takes the file at `path`, which must have lost its name as a segment for good.
    pub fn put(&self, path: PathBuf) {
        *self.0.lock() = Some(path);
    }

    fn take(&self) -> Option<PathBuf> {
        self.0.lock().take()
    }
}

/// How a file comes by its zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeros {
    /// They are written. On ext4 a sync into blocks that were written before costs about half of one
    /// that must also record that they are now: the better for small frames.
    Written,
    /// The file system only notes that the blocks count as zeros, if it can. Each byte comes to the disk
    /// once, not twice: the better for large frames.
    Declared,
}

/// A file full of durable zeros, waiting to become a segment.
#[derive(Debug)]
pub struct Prepared {
    file: Box<dyn FsFile>,
    path: PathBuf,
    capacity: u64,
}

impl SegmentMaker {
    /// Makes a file of zeros: the slow part, which needs to know nothing of the segment but a
    /// name that nothing else uses. `pause` is told now and then how long it has worked since, and how many
    /// bytes are done, unless all are.
    pub fn prepare(
        &self,
        base: Lsn,
        zeros: Zeros,
        pause: impl FnMut(Duration, u64),
    ) -> io::Result<Prepared> {
        let (path, file) = match self.recycle() {
            Some(recycled) => recycled,
            None => {
                self.check_room(self.capacity, 0)?;
                let path = self.name.new_segment(base);
                let file = self.fs.create(&path)?;
                (path, file)
            }
        };
        match self.fill(&*file, zeros, pause) {
            Ok(()) => Ok(Prepared {
                file,
                path,
                capacity: self.capacity,
            }),
            Err(error) => {
                // Gives back what room it took; at the next start it would be removed anyway.
                drop(file);
                let _ = self.fs.remove(&path);
                Err(error)
            }
        }
    }

    /// Whether the log may take so many bytes more of the disk, where what is logged next may add so many
    /// to the next snapshot.
    pub fn check_room(&self, takes: u64, adds: u64) -> io::Result<()> {
        let dir = self.name.dir();
        self.reserve.check(&*self.fs, dir, takes, adds)
    }

    /// The same for what removes keys.
    pub fn check_removal(&self, takes: u64) -> io::Result<()> {
        let dir = self.name.dir();
        self.reserve.check_removal(&*self.fs, dir, takes)
    }

    /// What the next segment takes of the disk: nothing if a file is written anew for it.
    pub fn takes(&self) -> u64 {
        if self.recycled.is_empty() {
            self.capacity
        } else {
            0
        }
    }

    /// One whose segments are small, and may be made of the room that is kept for the next snapshot.
    pub fn of_the_reserve(&self) -> Self {
        Self {
            capacity: self.capacity.min(RESERVED_SEGMENT),
            reserve: Reserve::default(),
            ..self.clone()
        }
    }

    /// A segment to be written anew. One that cannot be opened is as good as none.
    fn recycle(&self) -> Option<(PathBuf, Box<dyn FsFile>)> {
        let path = self.recycled.take()?;
        let opened = self.fs.open(&path).and_then(|file| {
            // A frame larger than a segment had made it longer.
            if file.len()? > self.capacity {
                file.set_len(self.capacity)?;
            }
            Ok(file)
        });
        match opened {
            Ok(file) => Some((path, file)),
            Err(error) => {
                tracing::debug!(%error, "a segment could not be recycled");
                let _ = self.fs.remove(&path);
                None
            }
        }
    }

    /// Zeros the whole file; by writing in steps, so that a sync of the log beside it waits for
    /// little of it, and with pauses between pieces of them.
    fn fill(
        &self,
        file: &dyn FsFile,
        zeros: Zeros,
        mut pause: impl FnMut(Duration, u64),
    ) -> io::Result<()> {
        const PIECE: u64 = 256 << 10;
        const STEP: u64 = 1 << 20;
        let declared = zeros == Zeros::Declared && !sabotage::is("recycled-unzeroed");
        // What keeps the system from that may not keep it from writing, and if it does, says why.
        if declared && file.zero_range(self.capacity).is_ok() {
            return file.sync_data();
        }
        let mut at = if sabotage::is("recycled-unzeroed") {
            file.len()?
        } else {
            0
        };
        while at < self.capacity {
            let begun = Instant::now();
            let end = self.capacity.min(at + PIECE);
            write_zeros(file, at, end)?;
            if end.is_multiple_of(STEP) || end == self.capacity {
                file.sync_data()?;
            }
            at = end;
            if at < self.capacity {
                pause(begun.elapsed(), at);
            }
        }
        Ok(())
    }

    /// Gives a prepared file its header and then, when that is durable, its name.
    ///
    /// A failed sync here is not final for the log: the file has never held an operation, and the
    /// next attempt begins with another one.
    pub fn finish(&self, prepared: Prepared, base: Lsn) -> io::Result<Segment> {
        let Prepared {
            file,
            path,
            capacity,
        } = prepared;
        let header = SegmentHeader {
            log_id: self.log_id,
            base,
            salt: if sabotage::is("recycled-unsalted") {
                1
            } else {
                (self.entropy)()
            },
            capacity,
        };
        write_all_at(&*file, &header.encode(), 0)?;
        file.sync_data()?;
        let named = self.name.segment(base);
        self.fs.rename(&path, &named)?;
        let skipped = sabotage::is("segment-name-unsynced");
        let synced = if skipped {
            Ok(())
        } else {
            self.fs.sync_dir(self.name.dir())
        };
        if let Err(error) = synced {
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

/// Whether a segment's first frame was written, as far as its header's place can tell.
pub(super) fn holds_frame(fs: &dyn Fs, path: &Path) -> io::Result<bool> {
    let mut place = [0; frame::HEADER_LEN];
    read_full_at(&*fs.open(path)?, &mut place, HEADER_LEN)?;
    Ok(place != [0; frame::HEADER_LEN] || sabotage::is("empty-segment-counts"))
}

/// Reads a segment's file whole, into this room if it is enough; a file longer than any segment is an
/// error.
pub fn read_segment(
    fs: &dyn Fs,
    path: &Path,
    room: PageBuffer,
) -> io::Result<(Box<dyn FsFile>, PageBuffer)> {
    let file = fs.open(path)?;
    let bytes = read_whole(&*file, room)?;
    Ok((file, bytes))
}

/// Reads an open segment whole, into this room if it is enough.
pub fn read_whole(file: &dyn FsFile, room: PageBuffer) -> io::Result<PageBuffer> {
    let len = Some(file.len()?).filter(|len| *len <= MAX_LEN);
    let len = len
        .and_then(|len| usize::try_from(len).ok())
        .ok_or(io::ErrorKind::FileTooLarge)?;
    let mut bytes = room.with_len(len);
    let read = read_full_at(file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
