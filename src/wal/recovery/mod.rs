//! Recovery: reads the newest snapshot and the log behind it, gives both to the caller in order, and
//! decides what each irregularity means.
//!
//! # The decision table
//!
//! It is total: whatever the files hold, exactly one row applies. *X* is where the next frame
//! should begin, *n* the LSN it should have; *s* is where the log goes on behind the snapshot, 1 without one. A *witness* is a frame header behind X, its checksum
//! good, that says the log was durable beyond X when it was written.
//!
//! | what is found | verdict |
//! |---|---|
//! | no segment, no snapshot | a new log |
//! | a file at the bare path, and neither | refuse: it is not a log of this format |
//! | a segment or a snapshot that was not finished (`.new`) | removed: it held nothing that is not elsewhere |
//! | a whole snapshot | the state begins with it; snapshots before it, and segments behind which the log went on, at s or before it, in one that holds a frame, are removed unread: it made them superfluous |
//! | a newer snapshot that is damaged, or whose header contradicts its name | reported and left where it is; the next older one is taken, or none, if the log then reaches as far as the damaged one |
//! | the same, and the log does not reach back to an older one, or not as far as the damaged one | refuse |
//! | a snapshot of a later version | refuse |
//! | a snapshot whose header promises more keys than the file has room for, or another number than it holds | refuse: no such was ever written |
//! | a snapshot, and no segment; or the log ends before s | refuse: the log's end is missing |
//! | a header that is short, damaged, foreign, or of a later version, or tells of a longer segment than any is made | refuse |
//! | a name or log id that contradicts the header | refuse: renamed, or from another log |
//! | the first segment begins behind s | refuse: what was before is missing |
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

mod ending;
mod error;
mod reader;
mod repair;
mod start;
mod survey;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::FrameKind;
use super::fs::{Fs, FsFile, Lock};
use super::name::{Files, LogName};
use super::retire;
use super::room::Reserve;
use super::segment::{self, Recycled, Segment, SegmentHeader, SegmentMaker, Zeros};
use super::snapshot::{Block, SnapshotHeader};
use super::writer::{End, LogWriter};
use super::{LogOptions, Lsn};
use crate::time::Timestamp;
use error::io_error;
use reader::Reader;
use repair::{mend, plan};
use start::Start;

pub use ending::{End as LogEnd, Ending};
pub use error::RecoveryError;
pub use repair::{Repair, Report};
pub use survey::Survey;

/// Told how far the reading has come, after every segment and every few megabytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read and applied.
    pub done: u64,
    /// Bytes of the snapshot and of all segments. The last one's unused room is among them.
    pub total: u64,
    /// Operations applied.
    pub operations: u64,
}

/// What the log asks of the one who recovers from it: first a snapshot, if there is one, and then
/// the operations behind it.
pub trait Replay {
    /// The state begins with this snapshot.
    fn begin_snapshot(&mut self, header: &SnapshotHeader);
    /// Takes in a block of the snapshot. An error says what is wrong with it.
    fn block(&mut self, block: Block) -> Result<(), String>;
    /// The snapshot was read to its end, and is whole. An error says what it holds that it should not,
    /// or lacks.
    fn end_snapshot(&mut self) -> Result<(), String>;
    /// The snapshot is damaged: all of it that was taken in is to be forgotten.
    fn discard_snapshot(&mut self);
    /// The log is read next. What it is likely to hold, going by its files' names and lengths: so
    /// many operations behind the snapshot, in so many bytes.
    fn begin_log(&mut self, _operations: u64, _bytes: u64) {}
    /// Everything was read.
    fn end(&mut self) -> Result<(), String>;
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
    refuse_folder(&*fs, &name)?;
    let dir = name.dir();
    fs.create_dir_all(dir)
        .map_err(|source| io_error("making the folder", dir, source))?;
    let lock = fs
        .lock(&name.lock())
        .map_err(|source| RecoveryError::Locked {
            path: name.lock(),
            source,
        })?;
    let mut accepted = Accepted::read(&*fs, &name, replay)?;
    accepted.mend(&*fs, &name)?;
    let Accepted {
        start,
        chain,
        report,
        ..
    } = accepted;
    let writer = continue_log(fs, name, options, &start, chain, lock)?;
    Ok((writer, report))
}

/// Refuses a path that is a folder's: most likely that of the folder which the log lies in.
pub fn refuse_folder(fs: &dyn Fs, name: &LogName) -> Result<(), RecoveryError> {
    let path = name.bare();
    match fs.file_len(&path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            Err(RecoveryError::Folder { path })
        }
        // Whatever else is wrong is told by what is done with it.
        _ => Ok(()),
    }
}

/// Mends the log at `path` as [`open`] would, and does no more: `None` where no log is. Whoever
/// calls this holds the log's lock.
pub fn repair(
    fs: &dyn Fs,
    path: &Path,
    replay: &mut dyn Replay,
) -> Result<Option<Report>, RecoveryError> {
    let name = LogName::new(path)?;
    let mut accepted = Accepted::read(fs, &name, replay)?;
    if accepted.found.is_nothing() {
        return Ok(None);
    }
    accepted.mend(fs, &name)?;
    Ok(Some(accepted.report))
}

/// Gives the operations of the log at `path` to `replay`, from that on which is the first in the
/// segment that holds `from`, and tells how the log ends. What is before that is not read, nor is a
/// snapshot, and nothing is changed. `None` where no log is.
pub fn read_from(
    fs: &dyn Fs,
    path: &Path,
    from: Lsn,
    replay: &mut dyn Replay,
) -> Result<Option<Ending>, RecoveryError> {
    let name = LogName::new(path)?;
    let found = Found::look(fs, &name)?;
    if found.is_nothing() {
        return Ok(None);
    }
    let segments = found.files.segments.as_slice();
    let mut first = segments
        .partition_point(|base| *base <= from)
        .saturating_sub(1);
    // An empty one may be a leftover, and what it would hold be in the one before it.
    while first > 0 && reader::is_empty(fs, &name, segments.get(first))? {
        first -= 1;
    }
    let segments = segments.get(first..).unwrap_or_default();
    let Some(&base) = segments.first() else {
        let next = found.files.snapshots.last().copied().unwrap_or(Lsn::FIRST);
        return Err(RecoveryError::EndMissing {
            snapshot: name.snapshot(next),
            next,
        });
    };
    let mut reader = Reader::new(fs, &name, replay, Start::at(base));
    reader.read_segments(segments)?;
    reader.finish()?;
    Ok(Some(Ending::of(reader.chain.as_ref())))
}

/// A log that was read to its end, and accepted. Nothing has been changed yet.
#[derive(Debug)]
struct Accepted {
    found: Found,
    start: Start,
    chain: Option<Chain>,
    report: Report,
}

impl Accepted {
    fn read(fs: &dyn Fs, name: &LogName, replay: &mut dyn Replay) -> Result<Self, RecoveryError> {
        let found = Found::look(fs, name)?;
        let start = Start::find(fs, name, &found, replay)?;
        let mut reader = Reader::new(fs, name, replay, start);
        reader.read_all(&found)?;
        let (chain, start, report) = (reader.chain, reader.start, reader.report);
        Ok(Self {
            found,
            start,
            chain,
            report,
        })
    }

    /// Does what the table says that is to be done, and notes it in the report.
    fn mend(&mut self, fs: &dyn Fs, name: &LogName) -> Result<(), RecoveryError> {
        let repairs = plan(fs, name, &self.found, &self.start, self.chain.as_ref())?;
        mend(fs, name, &repairs, self.chain.as_ref())?;
        self.report.repairs.extend(repairs);
        Ok(())
    }
}

/// The log's files by kind.
#[derive(Debug, Default)]
struct Found {
    files: Files,
    /// Length of each segment.
    segment_lens: Vec<u64>,
    total_bytes: u64,
}

impl Found {
    fn look(fs: &dyn Fs, name: &LogName) -> Result<Self, RecoveryError> {
        let files = name.files(fs);
        let files = files.map_err(|source| io_error("listing", name.dir(), source))?;
        let len_of = |path: PathBuf| match fs.file_len(&path) {
            Ok(len) => Ok(len.unwrap_or(0)),
            Err(source) => Err(io_error("reading", &path, source)),
        };
        let newest = files.snapshots.last();
        let newest = newest.map_or(Ok(0), |&next| len_of(name.snapshot(next)))?;
        let segments = files.segments.iter();
        let segment_lens: Vec<u64> = segments
            .map(|&base| len_of(name.segment(base)))
            .collect::<Result<_, _>>()?;
        let found = Self {
            total_bytes: newest + segment_lens.iter().sum::<u64>(),
            segment_lens,
            files,
        };
        let bare = name.bare();
        let len = fs
            .file_len(&bare)
            .map_err(|source| io_error("looking at", &bare, source))?;
        if found.is_nothing() && len.is_some_and(|len| len > 0) {
            return Err(RecoveryError::NotALog { path: bare });
        }
        Ok(found)
    }

    /// Whether there is no log.
    fn is_nothing(&self) -> bool {
        self.files.segments.is_empty() && self.files.snapshots.is_empty()
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
    start: &Start,
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
        recycled: Recycled::default(),
        reserve: Reserve::default(),
    };
    let end = match chain {
        Some(chain) => {
            maker.log_id = chain.header.log_id;
            End {
                next_lsn: chain.next_lsn,
                time: chain.time.max(start.time),
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
                .prepare(Lsn::FIRST, Zeros::Written, |_, _| {})
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
