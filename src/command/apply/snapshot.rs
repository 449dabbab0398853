//! The state as of one position: handed out for a snapshot, and taken in from one.

use super::super::operation::BadOperation;
use super::super::record::Record;
use super::{Applier, Recent};
use crate::store::{Entry, InMemStore};
use crate::time::Timestamp;

/// What a snapshot begins with. The entries are in the store, which is frozen.
#[derive(Debug)]
pub struct Frozen {
    /// The position of the last operation that was applied.
    pub position: u64,
    /// The time of its frame.
    pub time: Timestamp,
    /// How many keys the store held.
    pub keys: usize,
    recent: Recent,
}

impl Frozen {
    /// What of the state is not in the store.
    pub fn record(&self) -> Record<'static> {
        self.recent.record()
    }
}

impl Applier {
    /// Freezes the store as of the last operation. Whoever is told so must thaw it.
    pub fn freeze(&self) -> Frozen {
        self.store.freeze();
        Frozen {
            position: self.position,
            time: self.now,
            keys: self.store.len(),
            recent: self.recent.clone(),
        }
    }

    /// Goes on behind a snapshot whose records were all taken in.
    pub fn continue_from(&mut self, position: u64, time: Timestamp) {
        (self.position, self.now) = (position, time);
        self.watches.publish(position);
    }

    /// Takes in what of a snapshot is not in the store.
    pub fn restore_recent(&mut self, forgotten: u64, changes: Vec<(u64, u32)>) {
        self.recent = Recent::restored(forgotten, changes);
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.store.clear();
        self.recent = Recent::default();
        self.continue_from(0, Timestamp::default());
    }
}

/// Puts the entries among `records` into a store, beside others who do the same with other
/// records; returns the rest.
pub fn restore<'a>(
    store: &dyn InMemStore,
    records: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Record<'a>>, BadOperation> {
    let mut rest = Vec::new();
    for bytes in records {
        match Record::decode(bytes)? {
            Record::Entry {
                key,
                value,
                expires,
            } => drop(store.set(Entry::new(key, value, expires))),
            other @ Record::RecentChanges { .. } => rest.push(other),
        }
    }
    Ok(rest)
}
