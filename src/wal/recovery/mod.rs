//! Recovery: reads the log back, gives every operation to the caller in order, and decides what
//! each irregularity means.
//!
//! # The decision table
//!
//! It is total: whatever the files hold, exactly one row applies. *X* is where the next frame
//! should begin, *n* the LSN it should have. A *witness* is a frame header behind X, its checksum
//! good, that says the log was durable beyond X when it was written.
//!
//! | what is found | verdict |
//! |---|---|
//! | no segment | a new log |
//! | a file at the bare path, and no segment | refuse: it is not a log of this format |
//! | a segment still being prepared (`.new`) | removed: it never held an operation |
//! | a header that is short, damaged, foreign, or of a later version | refuse |
//! | a name or log id that contradicts the header | refuse: renamed, or from another log |
//! | the first segment does not begin at LSN 1 | refuse: what was before is missing |
//! | a segment begins behind n | refuse: what is between is missing |
//! | a segment begins before n, or at n behind a segment without a seal, and holds only zeros | removed: left by an interrupted change of segments |
//! | the same at n, and holds anything | refuse: the seal before it is damaged |
//! | the same before n, and holds anything | refuse: its operations are there twice |
//! | a seal, and no segment behind it | refuse: the next segment is missing |
//! | zeros from X to the end of the last segment | the clean end |
//! | anything else at X in the last segment, no witness | a torn tail: kept aside, zeroed, reported |
//! | anything that is not a frame at X, and a witness | refuse: damage |
//! | a good frame at X with another LSN than n, a time before its predecessor's, or operations that contradict their count | refuse |
//! | a good operation that this version cannot apply | refuse |
//! | the last segment is shorter than it was prepared | reported; what is there is judged as above, and the rest filled with zeros |
//! | bytes behind a seal | nothing: no frame can be there |
//!
//! What is read may be in the system's cache only: the server before this one may have been killed
//! between a write and its sync, or ended because a sync failed. So the frames that no later frame
//! proves durable are written once more, and synced, before anything of them is served (P2) or
//! anything is appended that would vouch for them.
//!
//! Nothing is changed on the disk before the whole log has been read and accepted; then the
//! removals, the copy set aside and the zeroing are each synced before the log is appended to. A
//! crash in between leaves files that the same rows apply to.

mod error;
mod reader;
mod repair;

use std::path::PathBuf;
use std::sync::Arc;

use super::frame::FrameKind;
use super::fs::{Fs, FsFile, Lock};
use super::name::{FileKind, LogName};
use super::segment::{self, Segment, SegmentHeader, SegmentMaker};
use super::writer::{End, LogWriter};
use super::{LogOptions, Lsn};
use crate::time::Timestamp;
use error::io_error;
use reader::Reader;
use repair::mend;

pub use error::RecoveryError;
pub use repair::{Repair, Report};

/// Told how far the reading has come, after every segment and every few megabytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read and applied.
    pub done: u64,
    /// Bytes of all segments. The last one's unused room is among them.
    pub total: u64,
    /// Operations applied.
    pub operations: u64,
}

/// What the log asks of the one who recovers from it.
pub trait Replay {
    /// Applies one operation. An error stops the recovery; it says what is wrong with it.
    fn operation(&mut self, lsn: Lsn, time: Timestamp, bytes: &[u8]) -> Result<(), String>;
    /// Learns how far the recovery has come.
    fn progress(&mut self, progress: Progress);
}

/// Opens the log at `options.path`, making it where there is none: locks it, gives every
/// operation to `replay`, mends what the table allows, and returns the writer that continues it.
pub fn open(
    fs: Arc<dyn Fs>,
    options: &LogOptions,
    replay: &mut dyn Replay,
) -> Result<(LogWriter, Report), RecoveryError> {
    let name = LogName::new(&options.path)?;
    let dir = name.dir();
    fs.create_dir_all(dir)
        .map_err(|source| io_error("making the folder", dir, source))?;
    let lock = fs
        .lock(&name.lock())
        .map_err(|source| RecoveryError::Locked {
            path: name.lock(),
            source,
        })?;
    let found = Found::look(&*fs, &name)?;
    let mut reader = Reader::new(&*fs, &name, replay);
    reader.read_all(&found)?;
    let (chain, mut report) = (reader.chain, reader.report);
    mend(&*fs, &name, &found, chain.as_ref(), &mut report)?;
    let writer = continue_log(fs, name, options, chain, lock)?;
    Ok((writer, report))
}

/// The log's files by kind.
#[derive(Debug, Default)]
struct Found {
    segments: Vec<Lsn>,
    unfinished: Vec<Lsn>,
    total_bytes: u64,
}

impl Found {
    fn look(fs: &dyn Fs, name: &LogName) -> Result<Self, RecoveryError> {
        let mut found = Self::default();
        let names = fs.list(name.dir());
        for file in names.map_err(|source| io_error("listing", name.dir(), source))? {
            match name.parse(&file) {
                Some(FileKind::Segment(base)) => found.segments.push(base),
                Some(FileKind::New(base)) => found.unfinished.push(base),
                None => {}
            }
        }
        found.segments.sort_unstable();
        for &base in &found.segments {
            let path = name.segment(base);
            let len = fs
                .file_len(&path)
                .map_err(|source| io_error("reading", &path, source))?;
            found.total_bytes += len.unwrap_or(0);
        }
        let bare = name.bare();
        let len = fs
            .file_len(&bare)
            .map_err(|source| io_error("looking at", &bare, source))?;
        if found.segments.is_empty() && len.is_some_and(|len| len > 0) {
            return Err(RecoveryError::NotALog { path: bare });
        }
        Ok(found)
    }
}

/// The part of the log that was read and accepted.
#[derive(Debug)]
struct Chain {
    header: SegmentHeader,
    path: PathBuf,
    file: Box<dyn FsFile>,
    /// Length of the last segment's file.
    len: u64,
    /// Where its next frame goes.
    position: u64,
    next_lsn: Lsn,
    time: Timestamp,
    /// Kind of its last frame, if it has one.
    last_kind: Option<FrameKind>,
    /// Frames, up to `position`, of which nothing says that they are durable: where they begin,
    /// and their bytes.
    unproven: (u64, Vec<u8>),
    /// The segment before, if this one holds no frame: then its seal is unproven, too.
    before: Option<Box<Chain>>,
    /// What stands at `position`, if it is a torn tail.
    torn: Option<Vec<u8>>,
    /// Segments that hold nothing and belong nowhere.
    leftovers: Vec<Lsn>,
}

fn continue_log(
    fs: Arc<dyn Fs>,
    name: LogName,
    options: &LogOptions,
    chain: Option<Chain>,
    lock: Box<dyn Lock>,
) -> Result<LogWriter, RecoveryError> {
    let mut maker = SegmentMaker {
        fs,
        name,
        log_id: 0,
        capacity: options
            .segment_capacity
            .clamp(segment::MIN_CAPACITY, segment::MAX_CAPACITY),
        entropy: options.entropy,
    };
    let end = match chain {
        Some(chain) => {
            maker.log_id = chain.header.log_id;
            End {
                next_lsn: chain.next_lsn,
                time: chain.time,
                closed: chain.last_kind == Some(FrameKind::Close),
                segment: Segment {
                    header: chain.header,
                    file: chain.file,
                    position: chain.position,
                },
            }
        }
        None => {
            maker.log_id = (options.entropy)();
            let made = maker
                .prepare(Lsn::FIRST)
                .and_then(|new| maker.finish(new, Lsn::FIRST));
            let path = maker.name.segment(Lsn::FIRST);
            let segment = made.map_err(|source| io_error("making", &path, source))?;
            End {
                segment,
                next_lsn: Lsn::FIRST,
                time: Timestamp::default(),
                closed: false,
            }
        }
    };
    Ok(LogWriter::new(maker, options, end, lock))
}
