//! Reading the log of a server that does not run: every frame in order, and nothing is changed.
//!
//! It judges as [`recovery`](crate::wal::recovery) does, whose decision table holds here too, with
//! two exceptions. A log may begin at any operation: snapshots are not looked at, and what lies
//! behind what is missing is worth seeing. And what recovery would mend is told only ([`Ending`]).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{ToolError, io_error, lock};
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::frame::{Frame, FrameError, FrameHeader, FrameKind};
use crate::wal::fs::{Fs, Lock};
use crate::wal::name::LogName;
use crate::wal::recovery::RecoveryError;
use crate::wal::segment::{self, SegmentHeader, read_segment};

/// A log whose lock is held.
#[derive(Debug)]
pub(super) struct ClosedLog<'a> {
    fs: &'a dyn Fs,
    name: LogName,
    /// Where its segments begin, in order; there is one at least.
    segments: Vec<Lsn>,
    _lock: Box<dyn Lock>,
}

/// Where a frame stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) offset: u64,
}

impl Place<'_> {
    /// The error that says that what stands here is whole, and impossible.
    pub(super) fn impossible(&self, reason: String) -> ToolError {
        ToolError::Log(RecoveryError::Impossible {
            path: self.path.to_path_buf(),
            offset: self.offset,
            reason,
        })
    }
}

/// How a log ends that holds no damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The last operation; `None` if there is none.
    pub last: Option<Lsn>,
    /// What stands behind it.
    pub how: End,
}

/// What stands behind the last operation of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The mark of an orderly stop.
    Closed,
    /// Nothing.
    Open,
    /// The remnant of a write that a crash cut short.
    Torn {
        /// The segment.
        path: PathBuf,
        /// Where it begins.
        offset: u64,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            Some(last) => write!(f, "the log ends with operation {last}")?,
            None => f.write_str("the log holds no operation")?,
        }
        match &self.how {
            End::Closed => f.write_str(", and the mark of an orderly stop"),
            End::Open => f.write_str(", without the mark of an orderly stop"),
            End::Torn { path, offset } => write!(
                f,
                "; a write that a crash cut short is behind it, in {} at offset {offset}, and the \
                 next start sets that aside",
                path.display()
            ),
        }
    }
}

/// The part of the log that was read.
#[derive(Debug)]
struct Chain {
    path: PathBuf,
    log_id: u64,
    /// Where the next frame should begin.
    position: u64,
    next_lsn: Lsn,
    time: Timestamp,
    last_kind: Option<FrameKind>,
    /// What is wrong at `position`, where the segment has no seal.
    ended_with: Option<FrameError>,
    torn: bool,
}

/// Is shown every frame.
pub(super) type Each<'a> = dyn FnMut(&Place<'_>, &Frame<'_>) -> Result<(), ToolError> + 'a;

impl<'a> ClosedLog<'a> {
    /// Locks the log at `path`, which must be there: nothing is made where there is none.
    pub(super) fn open(fs: &'a dyn Fs, path: &Path) -> Result<Self, ToolError> {
        let name = LogName::new(path)?;
        if list_segments(fs, &name)?.is_empty() {
            return Err(ToolError::NoLog {
                path: path.to_path_buf(),
            });
        }
        let lock = lock(fs, &name.lock(), path)?;
        Ok(Self {
            // Again: up to here a server could have gone on to another one.
            segments: list_segments(fs, &name)?,
            fs,
            name,
            _lock: lock,
        })
    }

    /// Shows `each` all frames in order, from that on which holds the operation `from`, or from the
    /// first one behind it. Holds one segment at a time.
    pub(super) fn read(&self, from: Lsn, each: &mut Each<'_>) -> Result<Ending, ToolError> {
        let mut chain: Option<Chain> = None;
        for &base in self.segments_from(from)? {
            let path = self.name.segment(base);
            let bytes = self.segment(base)?;
            let header = SegmentHeader::decode(&bytes).map_err(|cause| RecoveryError::Header {
                path: path.clone(),
                cause,
            })?;
            check_place(chain.as_ref(), &header, base, &path)?;
            if joins(chain.as_ref(), &header, &bytes, &path)? {
                let time = chain.map_or(Timestamp::default(), |chain| chain.time);
                chain = Some(read_frames(&header, path, time, &bytes, each)?);
            }
        }
        match chain {
            Some(chain) if chain.last_kind == Some(FrameKind::Seal) => {
                let path = self.name.segment(chain.next_lsn);
                Err(RecoveryError::MissingSegment { path }.into())
            }
            Some(chain) => Ok(chain.ending()),
            None => Ok(Ending {
                last: None,
                how: End::Open,
            }),
        }
    }

    /// The segments from the one on that holds `from`.
    fn segments_from(&self, from: Lsn) -> Result<&[Lsn], ToolError> {
        let behind = self.segments.partition_point(|base| *base <= from);
        let mut first = behind.saturating_sub(1);
        // An empty one may be a leftover, and what it would hold be in the one before it.
        while first > 0 {
            let base = self.segments.get(first).copied().unwrap_or(Lsn::FIRST);
            if holds_anything(&self.segment(base)?) {
                break;
            }
            first -= 1;
        }
        Ok(self.segments.get(first..).unwrap_or_default())
    }

    fn segment(&self, base: Lsn) -> Result<Vec<u8>, ToolError> {
        let path = self.name.segment(base);
        let (_, bytes) = read_segment(self.fs, &path).map_err(io_error("reading", &path))?;
        Ok(bytes)
    }
}

impl Chain {
    fn place(&self) -> Place<'_> {
        Place {
            path: &self.path,
            offset: self.position,
        }
    }

    fn damaged(&self, cause: FrameError, witness: String) -> ToolError {
        ToolError::Log(RecoveryError::Damaged {
            path: self.path.clone(),
            offset: self.position,
            lsn: self.next_lsn,
            cause,
            witness,
        })
    }

    fn ending(self) -> Ending {
        Ending {
            last: self.next_lsn.0.checked_sub(1).filter(|n| *n > 0).map(Lsn),
            how: match self.last_kind {
                _ if self.torn => End::Torn {
                    path: self.path,
                    offset: self.position,
                },
                Some(FrameKind::Close) => End::Closed,
                _ => End::Open,
            },
        }
    }
}

fn list_segments(fs: &dyn Fs, name: &LogName) -> Result<Vec<Lsn>, ToolError> {
    match name.files(fs) {
        Ok(files) => Ok(files.segments),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io_error("listing", name.dir())(error)),
    }
}

/// A header must say what the name says, and what the segments before say of the log.
fn check_place(
    chain: Option<&Chain>,
    header: &SegmentHeader,
    base: Lsn,
    path: &Path,
) -> Result<(), RecoveryError> {
    let other_log = chain.is_some_and(|chain| chain.log_id != header.log_id);
    let says = match (header.base == base, other_log) {
        (true, false) => return Ok(()),
        (false, _) => format!("begins at operation {}", header.base),
        (true, true) => "belongs to another log".to_owned(),
    };
    Err(misplaced(path, says))
}

/// Whether this segment continues the chain; if not, it is a leftover or an error.
fn joins(
    chain: Option<&Chain>,
    header: &SegmentHeader,
    bytes: &[u8],
    path: &Path,
) -> Result<bool, ToolError> {
    let Some(chain) = chain else {
        return Ok(true);
    };
    let (base, expected) = (header.base, chain.next_lsn);
    let next = || format!("the next segment, {},", path.display());
    if base > expected {
        // Where the segment before ends in bytes that are no frame, these are what is missing.
        return Err(match chain.ended_with {
            Some(cause) => chain.damaged(cause, next()),
            None => ToolError::Log(RecoveryError::Gap {
                from: expected,
                to: Lsn(base.0 - 1),
                path: path.to_path_buf(),
            }),
        });
    }
    if base == expected && chain.last_kind == Some(FrameKind::Seal) {
        return Ok(true);
    }
    if !holds_anything(bytes) {
        return Ok(false);
    }
    Err(match chain.ended_with {
        Some(cause) if base == expected => chain.damaged(cause, next()),
        _ => {
            let says = format!("begins at operation {base}, which is in a file before it");
            misplaced(path, says).into()
        }
    })
}

fn read_frames(
    header: &SegmentHeader,
    path: PathBuf,
    time: Timestamp,
    bytes: &[u8],
    each: &mut Each<'_>,
) -> Result<Chain, ToolError> {
    let codec = header.codec();
    let mut chain = Chain {
        path,
        log_id: header.log_id,
        position: segment::HEADER_LEN,
        next_lsn: header.base,
        time,
        last_kind: None,
        ended_with: None,
        torn: false,
    };
    while chain.last_kind != Some(FrameKind::Seal) {
        let frame = match codec.open(tail(bytes, chain.position)) {
            Ok(frame) => frame,
            Err(error) => {
                chain.ended_with = Some(error);
                break;
            }
        };
        let FrameHeader {
            lsn, time, kind, ..
        } = frame.header;
        if lsn != chain.next_lsn {
            let reason = format!("operation {lsn} where {} should be", chain.next_lsn);
            return Err(chain.place().impossible(reason));
        }
        if time < chain.time {
            let reason = "a time before the previous frame's".to_owned();
            return Err(chain.place().impossible(reason));
        }
        each(&chain.place(), &frame)?;
        chain.position += frame.header.frame_len() as u64;
        chain.next_lsn = frame.header.next_lsn();
        chain.time = time;
        chain.last_kind = Some(kind);
    }
    if let Some(cause) = chain.ended_with {
        if cause == FrameError::Malformed {
            return Err(chain.place().impossible(cause.to_string()));
        }
        let witness = codec.witness(bytes, chain.position, chain.next_lsn, chain.time);
        if let Some(at) = witness {
            return Err(chain.damaged(cause, format!("the frame at offset {at}")));
        }
        chain.torn = tail(bytes, chain.position).iter().any(|byte| *byte != 0);
    }
    Ok(chain)
}

fn misplaced(path: &Path, says: String) -> RecoveryError {
    RecoveryError::Misplaced {
        path: path.to_path_buf(),
        says,
    }
}

fn holds_anything(segment: &[u8]) -> bool {
    let frames = tail(segment, segment::HEADER_LEN);
    frames.iter().any(|byte| *byte != 0)
}

fn tail(bytes: &[u8], from: u64) -> &[u8] {
    usize::try_from(from)
        .ok()
        .and_then(|from| bytes.get(from..))
        .unwrap_or_default()
}
