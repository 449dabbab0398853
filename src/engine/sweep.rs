//! Removing keys that have expired and that nobody asks for: a little at a time.
//!
//! What has expired by the time of the last frame is gone for every operation to come, so to remove
//! it changes nothing that a replay would have to repeat. While nobody writes, no frame comes and
//! that time stands still; then an operation is logged that is nothing but its time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Batch, Engine};
use crate::command::Operation;
use crate::time::Timestamp;

/// How often some tables are looked at.
const EVERY: Duration = Duration::from_millis(100);

/// Rounds in which all tables are looked at once.
const ROUNDS: usize = 10;

/// Tables that are swept in one round, at most.
const MAX_SWEPT: usize = 256;

/// Milliseconds for which the sweep waits for somebody else's frame.
const PATIENCE: u64 = 1000;

impl Engine {
    /// Sweeps for as long as it is polled.
    pub async fn sweep_expired(&self) {
        let mut rounds = tokio::time::interval(EVERY);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next = 0;
        loop {
            rounds.tick().await;
            if self.store().expiring() > 0 {
                next = self.sweep_some(next).await;
            }
        }
    }

    /// How many keys were removed because they had expired.
    pub fn expired_keys(&self) -> u64 {
        self.state.expired().load(Ordering::Relaxed)
    }

    /// Looks at some tables from `first` on; says where to go on.
    async fn sweep_some(&self, first: usize) -> usize {
        let (store, now) = (self.store(), self.time());
        let tables = store.table_count();
        let some = first..first + tables.div_ceil(ROUNDS);
        let due = some.clone().map(|index| index % tables);
        let due: Vec<_> = due
            .filter(|&index| store.is_due(index, now))
            .take(MAX_SWEPT)
            .collect();
        let Some(&last) = due.last() else {
            return some.end % tables;
        };
        let Timestamp(frame) = self.state.applier().read().time();
        if frame.saturating_add(PATIENCE) < now.0 {
            let mut tick = Batch::default();
            tick.write(&Operation::Tick {});
            // A log that refuses it refuses everything; the keys are swept later.
            let _ = self.submit(tick).await;
        }
        for &index in &due {
            let swept = self.state.applier().write().sweep(index);
            self.state
                .expired()
                .fetch_add(swept as u64, Ordering::Relaxed);
        }
        let next = if due.len() < MAX_SWEPT {
            some.end
        } else {
            last + 1
        };
        next % tables
    }
}
