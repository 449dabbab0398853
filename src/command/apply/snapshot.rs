//! The state as of one position: handed out for a snapshot, and taken in from one.

use std::sync::Arc;

use super::super::operation::BadOperation;
use super::super::record::Record;
use super::{Applier, Recent};
use crate::store::{Entry, HashSeed, InMemStore};
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
    seed: HashSeed,
}

impl Frozen {
    /// What a snapshot holds beside the entries, and before them.
    pub fn records(&self) -> [Record<'static>; 2] {
        [Record::Seed(self.seed), self.recent.record()]
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
            seed: self.store.seed(),
        }
    }

    /// Goes on behind a snapshot whose records were all taken in.
    pub fn continue_from(&mut self, position: u64, time: Timestamp) {
        (self.position, self.now) = (position, time);
        self.watches.publish(position);
    }

    /// Takes in what of a snapshot is not in the store. `keys` keys are to follow.
    pub fn restore(&mut self, record: Record<'_>, keys: usize) {
        match record {
            Record::RecentChanges { forgotten, changes } => {
                self.recent = Recent::restored(forgotten, changes);
            }
            Record::Seed(seed) => self.store.prepare(seed, keys),
            Record::Entry {
                key,
                value,
                expires,
            } => drop(self.store.set(Entry::new(key, value, expires))),
        }
    }

    /// One who applies to the same store beside this one, on another thread. What both apply must
    /// not have a key in common; and in the end this one must [`Self::absorb`] the other.
    pub fn beside(&self) -> Self {
        Self::new(Arc::clone(&self.store), Arc::default(), Arc::default())
    }

    /// Takes over what others remember that have applied beside this one, and up to where all of
    /// them have come. They begin anew.
    pub fn absorb<'a>(&mut self, others: impl Iterator<Item = &'a mut Self>) {
        let (mut position, mut now) = (self.position, self.now);
        let recents = others.map(|other| {
            (position, now) = (position.max(other.position), now.max(other.now));
            std::mem::take(&mut other.recent)
        });
        let recents: Vec<_> = recents.collect();
        self.recent.absorb(recents);
        self.continue_from(position, now);
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.store.clear();
        self.recent = Recent::default();
        self.continue_from(0, Timestamp::default());
    }
}

/// So many entries are put into the store at a time.
const ENTRIES_AT_ONCE: usize = 256;

/// Puts the entries among `records` into a store, beside others who do the same with other
/// records; returns the rest.
pub fn restore<'a>(
    store: &dyn InMemStore,
    records: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Record<'a>>, BadOperation> {
    let mut rest = Vec::new();
    let mut entries = Vec::with_capacity(ENTRIES_AT_ONCE);
    for bytes in records {
        match Record::decode(bytes)? {
            Record::Entry {
                key,
                value,
                expires,
            } => {
                entries.push(Entry::new(key, value, expires));
                if entries.len() == ENTRIES_AT_ONCE {
                    store.set_all(&mut entries);
                }
            }
            other @ (Record::RecentChanges { .. } | Record::Seed(_)) => rest.push(other),
        }
    }
    store.set_all(&mut entries);
    Ok(rest)
}
