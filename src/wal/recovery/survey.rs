//! Reading all files of a log to the end, whatever is wrong with them: nothing is changed.
//!
//! The judge is the one of a start, [`Reader`]. Where it refuses, the error is kept, and it begins
//! anew behind the place, as if the log began there. What a start does not read, since a snapshot
//! made it superfluous, is read as well, each file by itself: a crash may have left any of them.

use std::path::PathBuf;

use super::error::{RecoveryError, io_error};
use super::reader::Reader;
use super::repair::plan;
use super::start::{Bad, Start};
use super::{Ending, Found, Repair, Replay, Report, retire};
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::fs::Fs;
use crate::wal::name::LogName;

/// What the files of a log hold.
#[derive(Debug, Default)]
pub struct Survey {
    /// Segments and snapshots.
    pub files: usize,
    /// Bytes of them all.
    pub bytes: u64,
    /// What was read, as a start would report it; its repairs are not done.
    pub report: Report,
    /// The first operation that a file holds, or has room for.
    pub first: Option<Lsn>,
    /// The time of the last frame.
    pub time: Option<Timestamp>,
    /// How the log ends; `None` if it is refused before its end.
    pub ending: Option<Ending>,
    /// Why a server would not start. Empty if it would.
    pub refusals: Vec<RecoveryError>,
    /// What is damaged, and not needed: a server would start.
    pub spoilt: Vec<String>,
}

impl Survey {
    /// Reads the log `name`; `None` where none is. Every operation and every record of every file
    /// goes to `replay`: the snapshots from the oldest to the newest, and those that are damaged
    /// are discarded.
    pub fn of(
        fs: &dyn Fs,
        name: &LogName,
        replay: &mut dyn Replay,
    ) -> Result<Option<Self>, RecoveryError> {
        let found = Found::look(fs, name)?;
        if found.is_nothing() {
            return Ok(None);
        }
        let mut survey = Self {
            first: found.files.segments.first().copied(),
            ..Self::default()
        };
        survey.count(fs, name, &found)?;
        let mut start = survey.read_snapshots(fs, name, &found, replay);
        let segments = found.files.segments.as_slice();
        start.superfluous = retire::superfluous(fs, name, segments, start.next, None)
            .map_err(|source| io_error("looking into the segments in", name.dir(), source))?;
        let (superfluous, live) = segments.split_at(start.superfluous.len());
        for &base in superfluous {
            survey.read_superfluous(fs, name, base, replay);
        }
        survey.read_live(fs, name, &found, (start, live), replay)?;
        Ok(Some(survey))
    }

    /// Whether there is any damage.
    pub fn is_damaged(&self) -> bool {
        !self.refusals.is_empty() || !self.spoilt.is_empty()
    }

    fn count(&mut self, fs: &dyn Fs, name: &LogName, found: &Found) -> Result<(), RecoveryError> {
        let segments = found.files.segments.iter().map(|&base| name.segment(base));
        let snapshots = found.files.snapshots.iter();
        let snapshots = snapshots.map(|&next| name.snapshot(next));
        for path in segments.chain(snapshots) {
            let len = fs
                .file_len(&path)
                .map_err(|source| io_error("reading", &path, source))?;
            self.bytes += len.unwrap_or(0);
            self.files += 1;
        }
        Ok(())
    }

    /// Reads all snapshots; says with which a start would begin.
    fn read_snapshots(
        &mut self,
        fs: &dyn Fs,
        name: &LogName,
        found: &Found,
        replay: &mut dyn Replay,
    ) -> Start {
        let mut start = Start::at(Lsn::FIRST);
        for &next in &found.files.snapshots {
            let mut this = Start::at(Lsn::FIRST);
            match this.load(fs, name, next, found, replay) {
                Ok(()) => {
                    // A start would not come to those before it.
                    let refusals = self.refusals.drain(..).map(|error| error.to_string());
                    self.spoilt.extend(refusals);
                    start = this;
                }
                Err(Bad::Broken(error)) => {
                    replay.discard_snapshot();
                    self.spoilt.push(error.to_string());
                    start.broken.insert(0, (next, error));
                }
                Err(Bad::Refused(error)) => {
                    replay.discard_snapshot();
                    let refusals = self.refusals.drain(..).map(|error| error.to_string());
                    self.spoilt.extend(refusals);
                    self.refusals.push(error);
                    // The segments are judged as if it were whole.
                    start = Start::at(next);
                }
            }
        }
        start
    }

    /// Reads a segment that a start would remove.
    fn read_superfluous(
        &mut self,
        fs: &dyn Fs,
        name: &LogName,
        base: Lsn,
        replay: &mut dyn Replay,
    ) {
        let mut reader = Reader::new(fs, name, replay, Start::at(base));
        let read = reader.read_segments(&[base]).and_then(|()| reader.finish());
        let holds_frames = reader
            .chain
            .as_ref()
            .is_some_and(|chain| chain.last_kind.is_some() || chain.torn.is_some());
        let what = match read {
            Err(RecoveryError::MissingSegment { .. }) => None,
            Err(error) => Some(error.to_string()),
            Ok(()) if !holds_frames => None,
            Ok(()) => reader.chain.as_ref().map(|chain| {
                format!(
                    "{} is damaged at offset {}: it ends without a seal, and a segment follows",
                    chain.path.display(),
                    chain.position
                )
            }),
        };
        self.report.operations += reader.report.operations;
        self.report.segments += reader.report.segments;
        self.spoilt.extend(what);
    }

    /// Reads the segments that a start would read.
    fn read_live(
        &mut self,
        fs: &dyn Fs,
        name: &LogName,
        found: &Found,
        (start, mut segments): (Start, &[Lsn]),
        replay: &mut dyn Replay,
    ) -> Result<(), RecoveryError> {
        let log_id = start.log_id;
        let mut reader = Reader::new(fs, name, &mut *replay, start);
        loop {
            // Also what the first segment holds that the snapshot holds too.
            reader.replay_from = Lsn::FIRST;
            let read = reader
                .read_segments(segments)
                .and_then(|()| reader.finish());
            let next_lsn = reader.chain.as_ref().map(|chain| chain.next_lsn);
            self.add(&reader.report);
            self.time = reader
                .chain
                .as_ref()
                .map(|chain| chain.time)
                .or(self.time)
                .max(Some(reader.start.time).filter(|time| time.0 > 0));
            let Err(error) = read else {
                if self.refusals.is_empty() {
                    let chain = reader.chain.as_ref();
                    self.ending = Some(Ending::of(chain));
                    let repairs = plan(fs, name, found, &reader.start, chain)?;
                    self.report.repairs.extend(repairs);
                }
                return Ok(());
            };
            segments = behind(&error, name, segments, next_lsn.is_none());
            self.refusals.push(error);
            let Some(&base) = segments.first() else {
                return Ok(());
            };
            let mut start = Start::at(base);
            start.log_id = reader
                .chain
                .as_ref()
                .map(|chain| chain.header.log_id)
                .or(log_id);
            reader = Reader::new(fs, name, &mut *replay, start);
        }
    }

    fn add(&mut self, report: &Report) {
        let own = &mut self.report;
        own.operations += report.operations;
        own.segments += report.segments;
        own.log_bytes += report.log_bytes;
        if report.snapshot.is_some() {
            own.snapshot.clone_from(&report.snapshot);
            own.last_snapshot = report.last_snapshot;
            own.snapshot_bytes = report.snapshot_bytes;
            own.records = report.records;
        }
        let repairs = report.repairs.iter();
        // It is told as damage.
        let repairs = repairs.filter(|repair| !matches!(repair, Repair::BrokenSnapshot { .. }));
        own.repairs.extend(repairs.cloned());
    }
}

/// The segments that are still to be read behind what is wrong.
fn behind<'a>(
    error: &RecoveryError,
    name: &LogName,
    segments: &'a [Lsn],
    none_read: bool,
) -> &'a [Lsn] {
    let index = |path: &PathBuf| {
        let paths = segments.iter().map(|&base| name.segment(base));
        paths.into_iter().position(|segment| segment == *path)
    };
    let from = match error {
        // What is missing is before it.
        RecoveryError::Gap { path, .. } => index(path),
        RecoveryError::BrokenSnapshot { .. } if none_read => Some(0),
        RecoveryError::Header { path, .. }
        | RecoveryError::Misplaced { path, .. }
        | RecoveryError::Damaged { path, .. }
        | RecoveryError::Impossible { path, .. }
        | RecoveryError::Io { path, .. } => index(path).map(|index| index + 1),
        _ => None,
    };
    from.and_then(|from| segments.get(from..))
        .unwrap_or_default()
}
