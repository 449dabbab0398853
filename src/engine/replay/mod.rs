//! Reading a snapshot and the log back into a store.
//!
//! Both are read by one thread and taken in by as many as there are cores. The blocks of a snapshot
//! have no order. The operations of the log have one; but between two that concern one key each,
//! and not the same, nobody could tell it. So a run of such operations is divided by key among the
//! threads, and what concerns several keys waits until all before it is done.

mod run;
mod workers;

use std::time::Instant;

use crate::command::{self, Applier, Operation};
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::recovery::{Progress, Replay};
use crate::wal::snapshot::{Block, SnapshotHeader};
use run::Run;
use workers::Workers;

/// A run of so many bytes is worth a change of threads; a shorter one is applied at once.
const RUN_BYTES: usize = 256 << 10;

/// Recovery's side of `apply`: the same function over the operations read back.
pub(super) struct Replayer<'a> {
    applier: &'a mut Applier,
    workers: Workers,
    run: Run,
    run_bytes: usize,
    /// The snapshot that is read, and whether its first block was.
    snapshot: Option<(SnapshotHeader, bool)>,
    told: &'a dyn Fn(Progress),
    begun: Instant,
    last_told: Instant,
}

impl<'a> Replayer<'a> {
    /// With so many threads beside the one that reads; with one or none, it applies alone.
    pub(super) fn new(
        applier: &'a mut Applier,
        threads: usize,
        told: &'a dyn Fn(Progress),
    ) -> Self {
        let now = Instant::now();
        Self {
            workers: Workers::new(if threads > 1 { threads } else { 0 }, applier),
            applier,
            run: Run::default(),
            run_bytes: RUN_BYTES,
            snapshot: None,
            told,
            begun: now,
            last_told: now,
        }
    }

    /// Waits for the workers, and applies what was kept for them.
    fn settle(&mut self) -> Result<(), String> {
        self.workers.settle(self.applier)?;
        self.run.apply(self.applier, |_| true);
        self.run.clear();
        Ok(())
    }
}

impl Replay for Replayer<'_> {
    fn begin_snapshot(&mut self, header: &SnapshotHeader) {
        self.snapshot = Some((*header, true));
    }

    fn block(&mut self, block: Block) -> Result<(), String> {
        let Some((header, is_first)) = &mut self.snapshot else {
            return Err("a block without a snapshot".to_owned());
        };
        // What the first holds beside entries says how the others are to be taken in.
        if !std::mem::take(is_first) && self.workers.count() > 0 {
            self.workers.block(block);
            return Ok(());
        }
        let keys = usize::try_from(header.keys).unwrap_or(usize::MAX);
        for bytes in block.records() {
            let record = command::Record::decode(bytes).map_err(|error| error.to_string())?;
            self.applier.restore(record, keys.min(MAX_PREPARED));
        }
        Ok(())
    }

    fn end_snapshot(&mut self) -> Result<(), String> {
        self.workers.settle(self.applier)?;
        if let Some((header, _)) = self.snapshot.take() {
            let last = header.next.0.saturating_sub(1);
            self.applier.continue_from(last, header.time);
        }
        Ok(())
    }

    fn discard_snapshot(&mut self) {
        // Whatever was wrong with what they took in, it is to be forgotten.
        let _ = self.workers.settle(self.applier);
        self.snapshot = None;
        self.applier.forget();
    }

    fn operation(&mut self, lsn: Lsn, time: Timestamp, bytes: &[u8]) -> Result<(), String> {
        let operation = Operation::decode(bytes).map_err(|error| error.to_string())?;
        let Some(key) = operation.only_key() else {
            self.settle()?;
            // Whoever was owed the reply got it in an earlier life.
            let _ = self.applier.apply(&operation, lsn.0, time);
            return Ok(());
        };
        let lane = self.applier.view().store().lane(key);
        self.run.push(lsn, time, bytes, lane);
        if self.run.len() < self.run_bytes {
            return Ok(());
        }
        if self.workers.count() == 0 {
            return self.settle();
        }
        let run = std::mem::replace(&mut self.run, Run::with_capacity(2 * self.run_bytes));
        self.workers.run(run);
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        self.settle()
    }

    fn progress(&mut self, progress: Progress) {
        const TELL_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
        (self.told)(progress);
        if self.last_told.elapsed() < TELL_EVERY || progress.total == 0 {
            return;
        }
        self.last_told = Instant::now();
        let elapsed = self.begun.elapsed().as_secs_f64();
        let share = progress.done as f64 / progress.total as f64;
        let left = elapsed / share.max(f64::EPSILON) - elapsed;
        tracing::info!(
            percent = (share * 100.0) as u64,
            operations = progress.operations,
            operations_per_second = (progress.operations as f64 / elapsed) as u64,
            seconds_left = left.ceil() as u64,
            "reading the log"
        );
    }
}

/// Room is made at once for no more keys than this, whatever a file says.
const MAX_PREPARED: usize = 1 << 30;
