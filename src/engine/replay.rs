//! Reading the log back into a store.

use std::time::Instant;

use crate::command::{Applier, Operation};
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::recovery::{Progress, Replay};

/// Recovery's side of `apply`: the same function over the operations read back.
pub(super) struct Replayer<'a> {
    applier: &'a mut Applier,
    begun: Instant,
    told: Instant,
}

impl<'a> Replayer<'a> {
    pub(super) fn new(applier: &'a mut Applier) -> Self {
        let now = Instant::now();
        Self {
            applier,
            begun: now,
            told: now,
        }
    }
}

impl Replay for Replayer<'_> {
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
