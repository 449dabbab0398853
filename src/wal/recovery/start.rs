//! Where the state begins: with the newest snapshot that is whole.

use std::path::PathBuf;

use super::error::{RecoveryError, io_error};
use super::{Found, Progress, Repair, Replay, retire};
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::fs::Fs;
use crate::wal::header::HeaderError;
use crate::wal::name::LogName;
use crate::wal::snapshot::{SnapshotError, SnapshotHeader, SnapshotReader};

/// No record takes fewer bytes: those of its length. Room is made for as many keys as a header
/// promises, so it must be held against something before.
const LEAST_RECORD: u64 = 4;

/// What is known before the first operation is read.
#[derive(Debug)]
pub(super) struct Start {
    /// The first operation that is not in the snapshot.
    pub(super) next: Lsn,
    /// The time of the last frame that the snapshot holds anything of.
    pub(super) time: Timestamp,
    /// The id of the log that the snapshot belongs to.
    pub(super) log_id: Option<u64>,
    /// The snapshot.
    pub(super) path: Option<PathBuf>,
    /// How many bytes of it were read, and how many records.
    pub(super) bytes: u64,
    pub(super) records: u64,
    /// Newer snapshots that are no good, the newest first: what each would have begun with, and
    /// what is wrong with it.
    pub(super) broken: Vec<(Lsn, SnapshotError)>,
    /// Segments that hold only operations before `next`.
    pub(super) superfluous: Vec<Lsn>,
}

impl Start {
    /// Without a snapshot, at this operation.
    pub(super) fn at(next: Lsn) -> Self {
        Self {
            next,
            time: Timestamp::default(),
            log_id: None,
            path: None,
            bytes: 0,
            records: 0,
            broken: Vec::new(),
            superfluous: Vec::new(),
        }
    }

    /// Gives the newest whole snapshot to `replay`.
    pub(super) fn find(
        fs: &dyn Fs,
        name: &LogName,
        found: &Found,
        replay: &mut dyn Replay,
    ) -> Result<Self, RecoveryError> {
        let mut start = Self::at(Lsn::FIRST);
        for &next in found.files.snapshots.iter().rev() {
            match start.load(fs, name, next, found, replay) {
                Ok(()) => break,
                Err(Bad::Broken(error)) => {
                    replay.discard_snapshot();
                    start.broken.push((next, error));
                }
                Err(Bad::Refused(error)) => return Err(error),
            }
        }
        let segments = &found.files.segments;
        start.superfluous = retire::superfluous(fs, name, segments, start.next, None)
            .map_err(|source| io_error("looking into the segments in", name.dir(), source))?;
        Ok(start)
    }

    /// Gives the snapshot at `next` to `replay`, and begins with it if it is whole.
    pub(super) fn load(
        &mut self,
        fs: &dyn Fs,
        name: &LogName,
        next: Lsn,
        found: &Found,
        replay: &mut dyn Replay,
    ) -> Result<(), Bad> {
        let path = name.snapshot(next);
        let mut reader = SnapshotReader::open(fs, &path)?;
        let header = *reader.header();
        if header.next != next {
            let says = header.next;
            return Err(Bad::Broken(SnapshotError::Damaged {
                path,
                offset: 0,
                reason: format!("its header says that the log goes on at operation {says}"),
            }));
        }
        let (_, len) = reader.progress();
        if header.keys > len / LEAST_RECORD {
            let keys = header.keys;
            let reason = format!("its header promises {keys} keys, and it has no room for them");
            return Err(impossible(&path, 0, reason));
        }
        replay.begin_snapshot(&header);
        let mut records = 0;
        while let Some(block) = reader.next_block()? {
            let (done, _) = reader.progress();
            records += block.records().count() as u64;
            // Its checksums are good: an error here is no damage, and no older snapshot's matter.
            let taken = replay.block(block);
            taken.map_err(|reason| impossible(&path, done, reason))?;
            replay.progress(Progress {
                done,
                total: found.total_bytes.max(done),
                operations: 0,
            });
        }
        let (bytes, _) = reader.progress();
        let taken = replay.end_snapshot();
        taken.map_err(|reason| impossible(&path, bytes, reason))?;
        let SnapshotHeader { log_id, time, .. } = header;
        (self.next, self.time, self.log_id) = (next, time, Some(log_id));
        (self.path, self.bytes, self.records) = (Some(path), bytes, records);
        Ok(())
    }

    /// What is to be reported of the snapshots that are no good.
    pub(super) fn repairs(&self, name: &LogName) -> impl Iterator<Item = Repair> {
        self.broken
            .iter()
            .map(|(next, error)| Repair::BrokenSnapshot {
                path: name.snapshot(*next),
                reason: error.to_string(),
            })
    }

    /// The log was read, and ends where operation `end` would stand. It must not end before a
    /// snapshot: what the snapshot held would be lost, or would be held twice.
    pub(super) fn check_end(&self, name: &LogName, end: Lsn) -> Result<(), RecoveryError> {
        let newest_broken = self.broken.first().filter(|(next, _)| *next > end);
        if let Some((next, error)) = newest_broken {
            return Err(RecoveryError::BrokenSnapshot {
                reason: error.to_string(),
                missing: format!("the log ends before operation {end}, and {next} was to follow"),
            });
        }
        if end < self.next {
            return Err(RecoveryError::EndMissing {
                snapshot: name.snapshot(self.next),
                next: self.next,
            });
        }
        Ok(())
    }
}

/// Why a snapshot is not begun with.
#[derive(Debug)]
pub(super) enum Bad {
    /// It is damaged: an older one may do.
    Broken(SnapshotError),
    /// No older one may be taken in its place.
    Refused(RecoveryError),
}

impl From<SnapshotError> for Bad {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Io {
                doing,
                path,
                source,
            } => Self::Refused(io_error(doing, &path, source)),
            SnapshotError::Header {
                path,
                cause: cause @ HeaderError::Version(_),
            } => Self::Refused(RecoveryError::Header { path, cause }),
            error => Self::Broken(error),
        }
    }
}

fn impossible(path: &std::path::Path, offset: u64, reason: String) -> Bad {
    Bad::Refused(RecoveryError::Impossible {
        path: path.to_path_buf(),
        offset,
        reason,
    })
}
