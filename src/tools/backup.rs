//! `postres log backup`: a copy of a log, also of one that a server is writing.
//!
//! No lock is taken, so the server goes on meanwhile. What it does then, and what follows:
//!
//! | the server | the copy |
//! |---|---|
//! | appends to the last segment | has its frames up to the first place where there is none. What was acknowledged before the backup began is before that: its write had ended |
//! | goes on in a new segment | ends where the last of the segments does that were there at the beginning. The seal that was put behind it meanwhile is left out, so that no further segment is needed; but only if the segment that it names is there, or else that one was lost |
//! | removes what a new snapshot made superfluous | is begun anew, unless the file was open already |
//! | takes a segment to write a new one over it | is begun anew if the segment no longer had its name when it was read, and no seal showed that all of it had been |
//!
//! The copy is written under names of [`Staging`], read back as `log check` reads a log, and only
//! then gets its names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::ToolError;
use super::check::survey;
use super::error::io_error;
use super::existing::files;
use super::staging::Staging;
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::frame::{FrameError, FrameKind};
use crate::wal::fs::{Fs, FsFile, read_full_at, write_all_at, write_zeros};
use crate::wal::name::LogName;
use crate::wal::page_buffer::PageBuffer;
use crate::wal::recovery::RecoveryError;
use crate::wal::segment::{HEADER_LEN, SegmentHeader, read_segment, read_whole};

/// So often a copy is begun anew.
const ATTEMPTS: u32 = 30;
/// And so often for the same reason: what a server does is over by then, what remains is damage.
const SAME: u32 = 4;
/// The last segment is read again so often, where a frame that was written while it was read seems
/// to be missing before a later one.
const READS: u32 = 5;
/// Files that are opened before the first is read: the server may then remove them.
const OPEN_AT_ONCE: usize = 256;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackedUp {
    /// Segments, and the snapshot.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// The last operation; `None` if there is none.
    pub last: Option<Lsn>,
}

/// Copies the log at `path` into the folder `to`, under the same name.
pub fn backup(fs: &Arc<dyn Fs>, path: &Path, to: &Path) -> Result<BackedUp, ToolError> {
    let name = LogName::new(path)?;
    files(&**fs, &name)?;
    let stem = path.file_name().unwrap_or_default();
    let staging = Staging::new(Arc::clone(fs), &to.join(stem))?;
    staging.check_free()?;
    staging.fill(|staged| {
        let copy = Copy {
            fs: &**fs,
            from: &name,
            to: staged,
        };
        let (mut attempt, mut same, mut before) = (1, 0, None);
        loop {
            let (reason, missing) = match copy.make() {
                Ok(()) => return copy.verify(),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Again(reason)) => (reason, None),
                Err(Stop::Missing(segment)) => (segment.display().to_string(), Some(segment)),
            };
            same = if before.as_ref() == Some(&reason) {
                same + 1
            } else {
                1
            };
            if attempt == ATTEMPTS || same == SAME {
                return Err(match missing {
                    Some(path) => RecoveryError::MissingSegment { path }.into(),
                    None => ToolError::Moving {
                        path: path.to_path_buf(),
                        reason,
                    },
                });
            }
            before = Some(reason);
            copy.clear()?;
            std::thread::sleep(Duration::from_millis(5) * attempt);
            attempt += 1;
        }
    })
}

/// Why an attempt ended.
enum Stop {
    /// The server changed what was being read; or else it is damaged.
    Again(String),
    /// This segment must have been there: the server removed it, or else it was lost.
    Missing(PathBuf),
    Failed(ToolError),
}

impl From<ToolError> for Stop {
    fn from(error: ToolError) -> Self {
        Self::Failed(error)
    }
}

/// One log, and where it is copied to.
struct Copy<'a> {
    fs: &'a dyn Fs,
    from: &'a LogName,
    to: &'a LogName,
}

/// A segment's frames, as far as they could be read.
struct Frames {
    bytes: PageBuffer,
    header: SegmentHeader,
    /// Where they end.
    end: u64,
    next_lsn: Lsn,
    /// Where the seal begins.
    seal: Option<u64>,
}

impl Copy<'_> {
    fn make(&self) -> Result<(), Stop> {
        let files = files(self.fs, self.from)?;
        let snapshot = files.snapshots.last().copied();
        let next = snapshot.unwrap_or(Lsn::FIRST);
        let first = files.segments.partition_point(|base| *base <= next);
        let live = files.segments.get(first.saturating_sub(1)..);
        let live = live.unwrap_or_default();
        let path = self.from.snapshot(next);
        let snapshot = snapshot.map(|_| self.open(&path)).transpose()?;
        let opened = live.iter().enumerate().map(|(index, &base)| {
            let early = (index < OPEN_AT_ONCE).then(|| self.open(&self.from.segment(base)));
            Ok((base, early.transpose()?))
        });
        let opened = opened.collect::<Result<Vec<_>, Stop>>()?;
        let end = self.copy_segments(opened, live)?;
        if live.first().is_none_or(|base| *base > next) || end < next {
            return Err(Stop::Again(format!(
                "the segments do not hold what belongs to the snapshot {}",
                path.display()
            )));
        }
        if let Some(file) = snapshot {
            self.copy_snapshot(&*file, &path, &self.to.snapshot(next))?;
        }
        Ok(())
    }

    /// Copies segments up to the one that is appended to; says which operation would be next.
    fn copy_segments(
        &self,
        opened: Vec<(Lsn, Option<Box<dyn FsFile>>)>,
        live: &[Lsn],
    ) -> Result<Lsn, Stop> {
        let mut expected = live.first().copied().unwrap_or(Lsn::FIRST);
        let (mut buffer, last) = (PageBuffer::default(), opened.len().saturating_sub(1));
        for (index, (base, file)) in opened.into_iter().enumerate() {
            let path = self.from.segment(base);
            let file = file.map_or_else(|| self.open(&path), Ok)?;
            if base != expected {
                return Err(Stop::Again(format!(
                    "{} is not where the segment before it ends, at operation {expected}",
                    path.display()
                )));
            }
            let frames = self.read(&*file, &path, base, buffer)?;
            expected = frames.next_lsn;
            let is_last = index == last || frames.seal.is_none();
            if frames.seal.is_none() {
                self.check_is_end(&path, live.get(index + 1..).unwrap_or_default())?;
            } else if is_last {
                self.check_goes_on(expected)?;
            }
            self.write(&frames, base, is_last)?;
            if is_last {
                break;
            }
            buffer = frames.bytes;
        }
        Ok(expected)
    }

    /// Reads frames from the segment's beginning to the first place where there is none.
    fn read(
        &self,
        file: &dyn FsFile,
        path: &Path,
        base: Lsn,
        mut buffer: PageBuffer,
    ) -> Result<Frames, Stop> {
        let again = |what: &str| Stop::Again(format!("{} {what}", path.display()));
        for _ in 0..READS {
            let bytes = read_whole(file, buffer).map_err(io_error("reading", path))?;
            let header = SegmentHeader::decode(&bytes).ok();
            let header = header.filter(|header| header.base == base);
            let header = header.ok_or_else(|| again("has no good header"))?;
            let codec = header.codec();
            let mut frames = Frames {
                bytes,
                header,
                end: HEADER_LEN,
                next_lsn: base,
                seal: None,
            };
            let mut time = Timestamp::default();
            while frames.seal.is_none() {
                let frame = match codec.open(frames.rest()) {
                    Ok(frame) => frame.header,
                    Err(FrameError::Malformed) => return Err(again("holds an impossible frame")),
                    Err(_) => break,
                };
                if frame.kind == FrameKind::Seal {
                    frames.seal = Some(frames.end);
                }
                frames.end += frame.frame_len() as u64;
                frames.next_lsn = frame.next_lsn();
                time = frame.time;
            }
            let whole = frames.seal.is_some()
                || codec
                    .witness(&frames.bytes, frames.end, frames.next_lsn, time)
                    .is_none();
            if whole {
                return Ok(frames);
            }
            buffer = frames.bytes;
        }
        Err(again("lacks a frame that a later one speaks of"))
    }

    /// A segment without a seal must be the one that is appended to.
    fn check_is_end(&self, path: &Path, behind: &[Lsn]) -> Result<(), Stop> {
        let len = self.fs.file_len(path);
        if len.map_err(io_error("looking at", path))?.is_none() {
            return Err(Stop::Again(format!("{} was removed", path.display())));
        }
        for &base in behind {
            // It may have been made already, while the seal is still to come.
            let next = self.from.segment(base);
            let read = read_segment(self.fs, &next, PageBuffer::default());
            let (_, bytes) = read.map_err(|error| again_if_gone(error, "reading", &next))?;
            if bytes
                .iter()
                .skip(HEADER_LEN as usize)
                .any(|byte| *byte != 0)
            {
                return Err(Stop::Again(format!(
                    "{} has no seal, and a segment behind it holds something",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// The copy ends at a seal, and without it. The segment that the seal names was there before it,
    /// so it is there now, or what a snapshot made superfluous is gone and the next listing tells. The
    /// seal may be the only witness of what was in it.
    fn check_goes_on(&self, next: Lsn) -> Result<(), Stop> {
        let path = self.from.segment(next);
        let len = self.fs.file_len(&path);
        match len.map_err(io_error("looking at", &path))? {
            Some(_) => Ok(()),
            None => Err(Stop::Missing(path)),
        }
    }

    fn write(&self, frames: &Frames, base: Lsn, is_last: bool) -> Result<(), ToolError> {
        let path = self.to.segment(base);
        let end = frames.seal.filter(|_| is_last).unwrap_or(frames.end);
        let len = frames.header.capacity.max(end);
        let bytes = usize::try_from(end).ok();
        let bytes = bytes.and_then(|end| frames.bytes.get(..end));
        let write = || {
            let file = self.fs.create(&path)?;
            write_all_at(&*file, bytes.unwrap_or(&frames.bytes), 0)?;
            if is_last {
                // Where it is appended to, the disk is to have room already.
                write_zeros(&*file, end, len)?;
            } else {
                file.set_len(len)?;
            }
            file.sync_data()
        };
        write().map_err(io_error("writing", &path))
    }

    fn copy_snapshot(&self, file: &dyn FsFile, from: &Path, to: &Path) -> Result<(), ToolError> {
        const PIECE: usize = 4 << 20;
        let copy = self.fs.create(to).map_err(io_error("creating", to))?;
        let (mut piece, mut at) = (PageBuffer::zeroed(PIECE), 0);
        loop {
            let read = read_full_at(file, &mut piece, at).map_err(io_error("reading", from))?;
            let bytes = piece.get(..read).unwrap_or_default();
            write_all_at(&*copy, bytes, at).map_err(io_error("writing", to))?;
            at += read as u64;
            if read < PIECE {
                return copy.sync_data().map_err(io_error("syncing", to));
            }
        }
    }

    fn open(&self, path: &Path) -> Result<Box<dyn FsFile>, Stop> {
        let opened = self.fs.open(path);
        opened.map_err(|error| again_if_gone(error, "opening", path))
    }

    /// Removes what an attempt wrote.
    fn clear(&self) -> Result<(), ToolError> {
        let written = self.to.files(self.fs);
        let written = written.map_err(io_error("listing", self.to.dir()))?;
        let segments = written.segments.iter().map(|&base| self.to.segment(base));
        let snapshots = written.snapshots.iter().map(|&next| self.to.snapshot(next));
        for path in segments.chain(snapshots) {
            self.fs.remove(&path).map_err(io_error("removing", &path))?;
        }
        Ok(())
    }

    /// Reads the copy back.
    fn verify(&self) -> Result<BackedUp, ToolError> {
        let (survey, _) = survey(self.fs, self.to)?;
        let refusal = survey.refusals.first().map(ToString::to_string);
        if let Some(reason) = refusal.or_else(|| survey.spoilt.first().cloned()) {
            return Err(ToolError::BadCopy { reason });
        }
        Ok(BackedUp {
            files: survey.files,
            bytes: survey.bytes,
            last: survey.ending.and_then(|ending| ending.last),
        })
    }
}

impl Frames {
    fn rest(&self) -> &[u8] {
        let end = usize::try_from(self.end).ok();
        end.and_then(|end| self.bytes.get(end..))
            .unwrap_or_default()
    }
}

fn again_if_gone(error: io::Error, doing: &'static str, path: &Path) -> Stop {
    if error.kind() == io::ErrorKind::NotFound {
        return Stop::Again(format!("{} was removed", path.display()));
    }
    Stop::Failed(io_error(doing, path)(error))
}
