//! Reading a snapshot and the log back into a store.
//!
//! Both are read by one thread and taken in by as many as there are cores. The blocks of a snapshot
//! have no order. The operations of the log have one; but between two that concern one key each,
//! and not the same, nobody could tell it. So a run of such operations is divided by key among the
//! threads, and what concerns several keys waits until all before it is done.

mod run;
mod workers;

use std::time::Instant;

use crate::command::{Applier, Operation, Record};
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::recovery::{Progress, Replay};
use crate::wal::snapshot::{Block, SnapshotHeader};
use run::Run;
use workers::Workers;

/// A run, or a block of a snapshot, that is longer than this is not handed to another thread.
const LARGE: usize = 8 << 20;

/// A run of so many bytes is worth a change of threads; a shorter one is applied at once.
const RUN_BYTES: usize = 256 << 10;

/// Recovery's side of `apply`: the same function over the operations read back.
pub(super) struct Replayer<'a> {
    applier: &'a mut Applier,
    workers: Workers,
    run: Run,
    run_bytes: usize,
    /// Whether room was made for keys that may not come.
    prepared: bool,
    /// The snapshot that is read, and how many keys and blocks of it were.
    snapshot: Option<(SnapshotHeader, u64, u64)>,
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
            prepared: false,
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
        self.snapshot = Some((*header, 0, 0));
    }

    fn block(&mut self, block: Block) -> Result<(), String> {
        let Some((header, keys, blocks)) = &mut self.snapshot else {
            return Err("a block without a snapshot".to_owned());
        };
        let entries = block.records().filter(|bytes| Record::is_entry(bytes));
        *keys += entries.count() as u64;
        *blocks += 1;
        // What the first holds beside entries says how the others are to be taken in.
        let is_first = *blocks == 1;
        if !is_first && self.workers.count() > 0 && block.len() <= LARGE {
            self.workers.block(block);
            return Ok(());
        }
        let keys = usize::try_from(header.keys).unwrap_or(usize::MAX);
        for bytes in block.records() {
            let record = Record::decode(bytes).map_err(|error| error.to_string())?;
            self.applier.restore(record, keys.min(MAX_PREPARED));
        }
        Ok(())
    }

    fn end_snapshot(&mut self) -> Result<(), String> {
        self.workers.settle(self.applier)?;
        if let Some((header, keys, _)) = self.snapshot.take() {
            header.check_keys(keys)?;
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
        // Several that are large, waiting each for a thread, would take much memory.
        if self.workers.count() == 0 || self.run.len() > LARGE {
            return self.settle();
        }
        let run = std::mem::replace(&mut self.run, Run::with_capacity(2 * self.run_bytes));
        self.workers.run(run);
        Ok(())
    }

    /// A log without a snapshot is most likely one of new keys: without room for them every table
    /// would grow time and again, and each time move all its keys.
    fn begin_log(&mut self, operations: u64, bytes: u64) {
        let store = self.applier.view().store();
        let keys = usize::try_from(operations.min(bytes / BYTES_A_KEY)).unwrap_or(usize::MAX);
        if store.is_empty() && keys > store.table_count() {
            store.prepare(store.seed(), keys.min(MAX_PREPARED));
            self.prepared = true;
        }
    }

    fn end(&mut self) -> Result<(), String> {
        self.settle()?;
        if self.prepared {
            self.applier.view().store().fit();
        }
        Ok(())
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

/// Room is made for no more keys than if each had so many bytes in the log: so that it comes to
/// a quarter of the log's length at most, but for the last bucket of each table, also where that holds few
/// keys many times over.
const BYTES_A_KEY: u64 = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::store::{self, InMemStore};

    fn applier() -> (Arc<dyn InMemStore>, Applier) {
        let store: Arc<dyn InMemStore> = store::with_shards(5, 0).into();
        let applier = Applier::new(Arc::clone(&store), Arc::default(), Arc::default());
        (store, applier)
    }

    fn contents(store: &dyn InMemStore) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let entries = (0..store.table_count()).flat_map(|index| store.table(index));
        entries
            .map(|entry| (entry.key().to_vec(), entry.value().to_vec()))
            .collect()
    }

    fn recent(applier: &Applier) -> Record<'static> {
        let [_, recent] = applier.freeze().records();
        recent
    }

    fn encoded(operation: &Operation<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        operation.encode(&mut bytes);
        bytes
    }

    /// An operation on few keys, by number; now and then one that concerns several, or depends on
    /// what was changed last.
    fn operation(kind: u8, key: u8, position: u64) -> Vec<u8> {
        let (name, other) = ([key], [key.wrapping_add(1)]);
        let value: &[u8] = &name;
        match kind {
            0..8 => encoded(&Operation::Append {
                key: &name,
                value: value.into(),
            }),
            8..12 => encoded(&Operation::Del {
                key: name.as_slice().into(),
            }),
            12 => encoded(&Operation::MSet {
                pairs: vec![(&name, b"one"), (&other, b"two")],
            }),
            13 => encoded(&Operation::Rename {
                from: &name,
                to: &other,
            }),
            _ => {
                let append = encoded(&Operation::Append {
                    key: &name,
                    value: b"x".as_slice().into(),
                });
                encoded(&Operation::Exec {
                    base: position.saturating_sub(5),
                    watched: vec![(&other, true)],
                    operations: vec![&append],
                })
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

        #[test]
        fn many_threads_make_of_a_log_what_one_makes_of_it(
            steps in prop::collection::vec((0_u8..15, 0_u8..12), 0..600),
            singles in 0_u8..15,
            threads in 2_usize..4,
            run_bytes in 1_usize..200,
            expected in 0_u64..100_000,
        ) {
            let (serial_store, mut serial) = applier();
            let (store, mut main) = applier();
            let mut replayer = Replayer::new(&mut main, threads, &|_| ());
            replayer.run_bytes = run_bytes;
            replayer.begin_log(expected, u64::MAX);
            for (position, (kind, key)) in (1..).zip(&steps) {
                // So that there are long runs, too.
                let bytes = operation((*kind).min(singles), *key, position);
                let operation = Operation::decode(&bytes).unwrap();
                let _ = serial.apply(&operation, position, Timestamp(position));
                replayer.operation(Lsn(position), Timestamp(position), &bytes).unwrap();
            }
            replayer.end().unwrap();
            drop(replayer);
            prop_assert_eq!(contents(&*store), contents(&*serial_store));
            prop_assert_eq!(recent(&main), recent(&serial));
            prop_assert_eq!(main.freeze().position, serial.freeze().position);
            prop_assert_eq!(main.time(), serial.time());
        }
    }
}
