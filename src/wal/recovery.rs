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
//! Nothing is changed on the disk before the whole log has been read and accepted; then the
//! removals, the copy set aside and the zeroing are each synced before the log is appended to. A
//! crash in between leaves files that the same rows apply to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{ALIGNMENT, Frame, FrameCodec, FrameError, FrameKind};
use super::fs::{Fs, FsFile, Lock, LockError, write_all_at, write_zeros};
use super::name::{BadLogName, FileKind, LogName};
use super::segment::{self, HeaderError, Segment, SegmentHeader, SegmentMaker, read_segment};
use super::writer::{End, LogWriter};
use super::{LogOptions, Lsn};
use crate::time::Timestamp;

/// Why a log was not opened. Each says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The path cannot name a log.
    #[error(transparent)]
    Name(#[from] BadLogName),
    /// Another server uses the log, or the lock file cannot be made.
    #[error("cannot lock the log {}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: LockError,
    },
    /// The file system failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else lies where the log would begin.
    #[error("{} is a file that this postres did not write (a log of post-go-res?), and starting an empty log over it would hide it: move it away, or choose another -wal", path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// A segment's header is no good.
    #[error("{}: {cause}. {RESTORE}", path.display())]
    Header {
        /// The segment.
        path: PathBuf,
        /// What is wrong.
        cause: HeaderError,
    },
    /// A segment is not where it belongs.
    #[error("{} does not belong here: its header says that it {says}. {RESTORE}", path.display())]
    Misplaced {
        /// The segment.
        path: PathBuf,
        /// What its header says.
        says: String,
    },
    /// Operations are missing between two files, or before the first.
    #[error("the log's operations {from} to {to} are missing: no file before {} holds them. {RESTORE}", path.display())]
    Gap {
        /// First missing position.
        from: Lsn,
        /// Last missing position.
        to: Lsn,
        /// The file behind the gap.
        path: PathBuf,
    },
    /// A segment is sealed, and its successor is not there.
    #[error("{} is missing: the segment before it says that the log goes on there. {RESTORE}", path.display())]
    MissingSegment {
        /// The missing file.
        path: PathBuf,
    },
    /// Bytes that were durable once are no longer what they were.
    #[error("{} is damaged at offset {offset} (operation {lsn}): {cause}, and {witness} shows that it was whole once. {RESTORE}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the bad frame begins.
        offset: u64,
        /// The LSN it should have.
        lsn: Lsn,
        /// What is wrong with it.
        cause: FrameError,
        /// What proves that this is no torn tail.
        witness: String,
    },
    /// A frame or an operation is whole, and impossible.
    #[error("{} holds at offset {offset} what no postres of this version writes: {reason}. {RESTORE}", path.display())]
    Impossible {
        /// The segment.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
        /// What is impossible about it.
        reason: String,
    },
}

const RESTORE: &str = "Nothing was changed. Bring the file back from a copy, or move all files of this log away to start empty";

/// What recovery did, for the log line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments read.
    pub segments: usize,
    /// Operations given to the caller.
    pub operations: u64,
    /// What was irregular, harmless, and mended.
    pub repairs: Vec<Repair>,
}

/// Something that recovery mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// A torn tail was cut.
    TornTail {
        /// The segment.
        path: PathBuf,
        /// Where it was cut.
        offset: u64,
        /// How many bytes were not zero from there on.
        bytes: u64,
        /// Where they are kept.
        kept: PathBuf,
    },
    /// The last segment was shorter than it was prepared, and is no longer.
    ShortFile {
        /// The segment.
        path: PathBuf,
        /// The length it had.
        len: u64,
    },
    /// A segment without any operation was removed.
    Leftover {
        /// The file.
        path: PathBuf,
    },
}

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
    /// What stands at `position`, if it is a torn tail.
    torn: Option<Vec<u8>>,
    /// Segments that hold nothing and belong nowhere.
    leftovers: Vec<Lsn>,
}

struct Reader<'a> {
    fs: &'a dyn Fs,
    name: &'a LogName,
    replay: &'a mut dyn Replay,
    chain: Option<Chain>,
    /// What was wrong at the end of the last segment, should another one follow.
    ended_with: Option<FrameError>,
    report: Report,
    progress: Progress,
}

impl<'a> Reader<'a> {
    fn new(fs: &'a dyn Fs, name: &'a LogName, replay: &'a mut dyn Replay) -> Self {
        let progress = Progress {
            done: 0,
            total: 0,
            operations: 0,
        };
        let report = Report::default();
        Self {
            fs,
            name,
            replay,
            chain: None,
            ended_with: None,
            report,
            progress,
        }
    }

    fn read_all(&mut self, found: &Found) -> Result<(), RecoveryError> {
        self.progress.total = found.total_bytes;
        for &base in &found.segments {
            let path = self.name.segment(base);
            let (file, bytes) = read_segment(self.fs, &path)
                .map_err(|source| io_error("reading", &path, source))?;
            let header = SegmentHeader::decode(&bytes).map_err(|cause| RecoveryError::Header {
                path: path.clone(),
                cause,
            })?;
            self.check_place(&header, base, &path)?;
            if self.joins_chain(&header, &bytes, &path)? {
                self.read_frames(header, &path, file, &bytes)?;
            }
            self.replay.progress(self.progress);
        }
        match &self.chain {
            Some(chain) if chain.last_kind == Some(FrameKind::Seal) => {
                Err(RecoveryError::MissingSegment {
                    path: self.name.segment(chain.next_lsn),
                })
            }
            _ => Ok(()),
        }
    }

    /// A header must say what the name says, and what the segments before say of the log.
    fn check_place(
        &self,
        header: &SegmentHeader,
        base: Lsn,
        path: &Path,
    ) -> Result<(), RecoveryError> {
        let other_log = self
            .chain
            .as_ref()
            .is_some_and(|c| c.header.log_id != header.log_id);
        let says = match (header.base == base, other_log) {
            (true, false) => return Ok(()),
            (false, _) => format!("begins at operation {}", header.base),
            (true, true) => "belongs to another log".to_owned(),
        };
        Err(RecoveryError::Misplaced {
            path: path.to_path_buf(),
            says,
        })
    }

    /// Whether this segment continues the chain; if it does not, it is a leftover or an error.
    fn joins_chain(
        &mut self,
        header: &SegmentHeader,
        bytes: &[u8],
        path: &Path,
    ) -> Result<bool, RecoveryError> {
        let expected = self
            .chain
            .as_ref()
            .map_or(Lsn::FIRST, |chain| chain.next_lsn);
        if header.base > expected {
            // Where the segment before ends in bytes that are no frame, these are what is missing.
            if let (Some(chain), Some(source)) = (&self.chain, self.ended_with) {
                return Err(damaged(chain, source, path));
            }
            let to = Lsn(header.base.0 - 1);
            return Err(RecoveryError::Gap {
                from: expected,
                to,
                path: path.to_path_buf(),
            });
        }
        let Some(chain) = &mut self.chain else {
            return Ok(true);
        };
        let sealed = chain.last_kind == Some(FrameKind::Seal);
        if sealed && header.base == expected {
            return Ok(true);
        }
        if last_nonzero(bytes, segment::HEADER_LEN).is_none() {
            chain.leftovers.push(header.base);
            return Ok(false);
        }
        match self.ended_with {
            Some(source) if header.base == expected => Err(damaged(chain, source, path)),
            _ => {
                let says = format!(
                    "begins at operation {}, which is in a file before it",
                    header.base
                );
                Err(RecoveryError::Misplaced {
                    path: path.to_path_buf(),
                    says,
                })
            }
        }
    }

    fn read_frames(
        &mut self,
        header: SegmentHeader,
        path: &Path,
        file: Box<dyn FsFile>,
        bytes: &[u8],
    ) -> Result<(), RecoveryError> {
        /// Progress is told this often within a segment.
        const TELL_EVERY: u64 = 4 << 20;
        let previous = self.chain.take();
        let leftovers = previous
            .as_ref()
            .map(|chain| chain.leftovers.clone())
            .unwrap_or_default();
        let mut chain = Chain {
            header,
            path: path.to_path_buf(),
            file,
            len: bytes.len() as u64,
            position: segment::HEADER_LEN,
            next_lsn: header.base,
            time: previous.map_or(Timestamp::default(), |chain| chain.time),
            last_kind: None,
            torn: None,
            leftovers,
        };
        let codec = header.codec();
        let (done_before, mut told) = (self.progress.done, 0);
        self.ended_with = loop {
            if chain.last_kind == Some(FrameKind::Seal) {
                break None;
            }
            let frame = match codec.open(tail(bytes, chain.position)) {
                Ok(frame) => frame,
                Err(error) => break Some(error),
            };
            self.replay_frame(&chain, &frame)?;
            chain.position += frame.header.frame_len() as u64;
            chain.next_lsn = frame.header.next_lsn();
            chain.time = frame.header.time;
            chain.last_kind = Some(frame.header.kind);
            self.progress.done = done_before + chain.position;
            if chain.position - told > TELL_EVERY {
                told = chain.position;
                self.replay.progress(self.progress);
            }
        };
        if let Some(error) = self.ended_with {
            chain.torn = judge_tail(&chain, bytes, codec, error)?;
        }
        self.progress.done = done_before + chain.len;
        self.report.segments += 1;
        self.chain = Some(chain);
        Ok(())
    }

    fn replay_frame(&mut self, chain: &Chain, frame: &Frame<'_>) -> Result<(), RecoveryError> {
        let header = frame.header;
        if header.lsn != chain.next_lsn {
            let reason = format!(
                "operation {} where {} should be",
                header.lsn, chain.next_lsn
            );
            return Err(impossible(chain, reason));
        }
        if header.time < chain.time {
            return Err(impossible(
                chain,
                "a time before the previous frame's".to_owned(),
            ));
        }
        for (lsn, operation) in (header.lsn.0..).map(Lsn).zip(frame.operations()) {
            self.replay
                .operation(lsn, header.time, operation)
                .map_err(|reason| impossible(chain, format!("operation {lsn}: {reason}")))?;
        }
        self.report.operations += u64::from(header.count);
        self.progress.operations = self.report.operations;
        Ok(())
    }
}

/// Tells a torn tail (its bytes, up to the last that is not zero) from a clean end (`None`) and
/// from damage.
fn judge_tail(
    chain: &Chain,
    bytes: &[u8],
    codec: FrameCodec,
    error: FrameError,
) -> Result<Option<Vec<u8>>, RecoveryError> {
    if error == FrameError::Malformed {
        return Err(impossible(chain, error.to_string()));
    }
    let Some(end) = last_nonzero(bytes, chain.position) else {
        return Ok(None);
    };
    let mut at = chain.position + ALIGNMENT as u64;
    while at < end {
        let witness = codec
            .open_header(tail(bytes, at))
            .ok()
            .filter(|(header, _)| {
                // Further conditions than the checksum, since this looks at millions of places.
                header.lsn >= chain.next_lsn && header.time >= chain.time && header.synced <= at
            });
        if witness.is_some_and(|(header, _)| header.synced > chain.position) {
            return Err(RecoveryError::Damaged {
                path: chain.path.clone(),
                offset: chain.position,
                lsn: chain.next_lsn,
                cause: error,
                witness: format!("the frame at offset {at}"),
            });
        }
        at += ALIGNMENT as u64;
    }
    let torn = tail(bytes, chain.position);
    let len = usize::try_from(end - chain.position).unwrap_or(torn.len());
    Ok(Some(torn.get(..len).unwrap_or(torn).to_vec()))
}

/// Removes leftovers, keeps a torn tail aside and zeroes it: each durable before the log goes on.
fn mend(
    fs: &dyn Fs,
    name: &LogName,
    found: &Found,
    chain: Option<&Chain>,
    report: &mut Report,
) -> Result<(), RecoveryError> {
    let leftovers = chain
        .map(|chain| chain.leftovers.as_slice())
        .unwrap_or_default();
    let leftovers = leftovers.iter().map(|&base| name.segment(base));
    let unfinished = found.unfinished.iter().map(|&base| name.new_segment(base));
    let removed: Vec<PathBuf> = leftovers.chain(unfinished).collect();
    for path in &removed {
        fs.remove(path)
            .map_err(|source| io_error("removing", path, source))?;
    }
    if !removed.is_empty() {
        fs.sync_dir(name.dir())
            .map_err(|source| io_error("syncing", name.dir(), source))?;
    }
    report
        .repairs
        .extend(removed.into_iter().map(|path| Repair::Leftover { path }));
    let Some(chain) = chain else { return Ok(()) };
    if let Some(torn) = &chain.torn {
        let kept = name.torn(chain.header.base, chain.position);
        keep_aside(fs, name, &kept, torn)
            .map_err(|source| io_error("keeping a torn tail in", &kept, source))?;
        report.repairs.push(Repair::TornTail {
            path: chain.path.clone(),
            offset: chain.position,
            bytes: torn.len() as u64,
            kept,
        });
    }
    let full_len = chain.header.capacity.max(chain.position);
    let short = chain.len < full_len;
    if short {
        report.repairs.push(Repair::ShortFile {
            path: chain.path.clone(),
            len: chain.len,
        });
    }
    if chain.torn.is_some() || short {
        zero_tail(chain, full_len)
            .map_err(|source| io_error("zeroing the tail of", &chain.path, source))?;
    }
    Ok(())
}

fn keep_aside(fs: &dyn Fs, name: &LogName, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = fs.create(path)?;
    write_all_at(&*file, bytes, 0)?;
    file.sync_data()?;
    fs.sync_dir(name.dir())
}

fn zero_tail(chain: &Chain, full_len: u64) -> io::Result<()> {
    if chain.len > full_len {
        chain.file.set_len(full_len)?;
    }
    let torn = chain.torn.as_ref().map_or(0, Vec::len) as u64;
    write_zeros(
        &*chain.file,
        chain.position,
        (chain.position + torn).min(full_len),
    )?;
    write_zeros(&*chain.file, chain.len.max(chain.position), full_len)?;
    chain.file.sync_data()
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

fn tail(bytes: &[u8], from: u64) -> &[u8] {
    usize::try_from(from)
        .ok()
        .and_then(|from| bytes.get(from..))
        .unwrap_or_default()
}

/// The offset behind the last byte at or after `from` that is not zero.
fn last_nonzero(bytes: &[u8], from: u64) -> Option<u64> {
    let at = tail(bytes, from).iter().rposition(|&byte| byte != 0)?;
    Some(from + at as u64 + 1)
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> RecoveryError {
    RecoveryError::Io {
        doing,
        path: path.to_path_buf(),
        source,
    }
}

fn impossible(chain: &Chain, reason: String) -> RecoveryError {
    RecoveryError::Impossible {
        path: chain.path.clone(),
        offset: chain.position,
        reason,
    }
}

fn damaged(chain: &Chain, source: FrameError, witness: &Path) -> RecoveryError {
    RecoveryError::Damaged {
        path: chain.path.clone(),
        offset: chain.position,
        lsn: chain.next_lsn,
        cause: source,
        witness: format!("the next segment, {},", witness.display()),
    }
}
