//! Reading a snapshot and the log back into a store.

use std::time::Instant;

use crate::command::{self, Applier, Operation, Record};
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::recovery::{Progress, Replay};
use crate::wal::snapshot::{Block, SnapshotHeader};

/// Recovery's side of `apply`: the same function over the operations read back.
pub(super) struct Replayer<'a> {
    applier: &'a mut Applier,
    /// The snapshot that is read.
    snapshot: Option<SnapshotHeader>,
    begun: Instant,
    told: Instant,
}

impl<'a> Replayer<'a> {
    pub(super) fn new(applier: &'a mut Applier) -> Self {
        let now = Instant::now();
        Self {
            applier,
            snapshot: None,
            begun: now,
            told: now,
        }
    }
}

impl Replay for Replayer<'_> {
    fn begin_snapshot(&mut self, header: &SnapshotHeader) {
        self.snapshot = Some(*header);
    }

    fn block(&mut self, block: Block) -> Result<(), String> {
        let store = self.applier.view().store();
        let rest = command::restore(store, block.records()).map_err(|error| error.to_string())?;
        for record in rest {
            if let Record::RecentChanges { forgotten, changes } = record {
                self.applier.restore_recent(forgotten, changes);
            }
        }
        Ok(())
    }

    fn end_snapshot(&mut self) -> Result<(), String> {
        if let Some(header) = self.snapshot.take() {
            let last = header.next.0.saturating_sub(1);
            self.applier.continue_from(last, header.time);
        }
        Ok(())
    }

    fn discard_snapshot(&mut self) {
        self.snapshot = None;
        self.applier.forget();
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn operation(&mut self, lsn: Lsn, time: Timestamp, bytes: &[u8]) -> Result<(), String> {
        let operation = Operation::decode(bytes).map_err(|error| error.to_string())?;
        // Whoever was owed the reply got it in an earlier life.
        let _ = self.applier.apply(&operation, lsn.0, time);
        Ok(())
    }

    fn progress(&mut self, progress: Progress) {
        const TELL_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
        if self.told.elapsed() < TELL_EVERY || progress.total == 0 {
            return;
        }
        self.told = Instant::now();
        let elapsed = self.begun.elapsed().as_secs_f64();
        let share = progress.done as f64 / progress.total as f64;
        let left = elapsed / share.max(f64::EPSILON) - elapsed;
        tracing::info!(
            percent = (share * 100.0) as u64,
            operations = progress.operations,
            operations_per_second = (progress.operations as f64 / elapsed) as u64,
            seconds_left = left.ceil() as u64,
            "replaying the log"
        );
    }
}
