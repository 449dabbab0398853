//! Runs: operations in a row of the log, each of which concerns one key only.

use smallvec::SmallVec;

use crate::command::{Applier, Operation};
use crate::store::WARM_AT_ONCE;
use crate::time::Timestamp;
use crate::wal::Lsn;

/// Operations that may be applied beside each other, save that those on one key keep their order.
#[derive(Debug, Default)]
pub(super) struct Run {
    bytes: Vec<u8>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    lsn: Lsn,
    time: Timestamp,
    /// Where its bytes end; they begin where those of the step before end.
    end: usize,
    /// The lane of its key (see [`crate::store::InMemStore::lane`]).
    lane: usize,
}

impl Run {
    /// With room for so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        /// Most operations are longer.
        const SHORT: usize = 32;
        Self {
            bytes: Vec::with_capacity(bytes),
            steps: Vec::with_capacity(bytes / SHORT),
        }
    }

    /// Adds an operation that is known to be readable, and whose only key is in this lane.
    pub(super) fn push(&mut self, lsn: Lsn, time: Timestamp, bytes: &[u8], lane: usize) {
        self.bytes.extend_from_slice(bytes);
        self.steps.push(Step {
            lsn,
            time,
            end: self.bytes.len(),
            lane,
        });
    }

    /// Bytes of all of them.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Makes it a run of nothing, and keeps its room.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.steps.clear();
    }

    /// Applies those in lanes of which `is_own` says so. Their keys are looked at together first:
    /// see [`crate::store::InMemStore::warm`].
    pub(super) fn apply(&self, applier: &mut Applier, is_own: impl Fn(usize) -> bool) {
        let mut begin = 0;
        let operations = self.steps.iter().filter_map(|step| {
            let bytes = self.bytes.get(begin..step.end).unwrap_or_default();
            begin = step.end;
            // What cannot be read was refused before it came here.
            let operation = || Operation::decode(bytes).ok();
            is_own(step.lane)
                .then(operation)?
                .map(|operation| (step, operation))
        });
        let mut operations = operations.peekable();
        while operations.peek().is_some() {
            let some: SmallVec<[_; WARM_AT_ONCE]> =
                operations.by_ref().take(WARM_AT_ONCE).collect();
            let keys = some
                .iter()
                .filter_map(|(_, operation)| operation.only_key());
            let keys: SmallVec<[_; WARM_AT_ONCE]> = keys.collect();
            applier.view().store().warm(&keys);
            for (step, operation) in &some {
                // Whoever was owed the reply got it in an earlier life.
                let _ = applier.apply(operation, step.lsn.0, step.time);
            }
        }
    }
}
