//! The store of `-shards 1`: one map behind one lock.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};

use super::InMemStore;
use super::entry::Entry;
use super::table::{self, HashSeed, TABLES, Tables};
use crate::time::Timestamp;

/// A map behind one lock. [`super::ShardedMap`] is many of these, side by side: aligned so that no
/// two have their locks and counts in one line of the cache, or the two that processors fetch
/// together, where those who use one would slow down those who use the other.
#[derive(Debug)]
#[repr(align(128))]
pub struct HashMap {
    tables: RwLock<Tables>,
    table_count: usize,
    len: AtomicUsize,
    expiring: AtomicUsize,
    bytes: AtomicUsize,
}

impl HashMap {
    /// An empty map with room for `capacity` keys.
    pub fn with_capacity(capacity: usize) -> Self {
        Self::with_tables(TABLES, capacity, HashSeed::random())
    }

    /// An empty map of at least this many small tables.
    pub(super) fn with_tables(tables: usize, capacity: usize, seed: HashSeed) -> Self {
        let tables = Tables::new(tables, capacity, seed);
        Self {
            table_count: tables.count(),
            tables: RwLock::new(tables),
            len: AtomicUsize::new(0),
            expiring: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    /// The tables, if nobody is changing them.
    pub(super) fn try_tables(&self) -> Option<RwLockReadGuard<'_, Tables>> {
        self.tables.try_read()
    }

    /// Removes every key; those to come are spread by this seed.
    pub(super) fn clear_with(&self, seed: HashSeed) {
        let mut tables = self.tables.write();
        let full = tables.clear(seed);
        let len = self.len.swap(0, Ordering::Relaxed);
        self.expiring.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        drop(tables);
        if len > FREED_AT_ONCE {
            free_elsewhere(full);
        }
    }

    fn count_in(&self, come: &[Entry]) {
        let expiring = come.iter().filter(|entry| entry.expires().is_some());
        let bytes: usize = come.iter().map(Entry::memory).sum();
        self.len.fetch_add(come.len(), Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.expiring.fetch_add(expiring.count(), Ordering::Relaxed);
    }

    fn count_out(&self, gone: &[Entry]) {
        let expiring = gone.iter().filter(|entry| entry.expires().is_some());
        let bytes: usize = gone.iter().map(Entry::memory).sum();
        self.len.fetch_sub(gone.len(), Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.expiring.fetch_sub(expiring.count(), Ordering::Relaxed);
    }
}

impl InMemStore for HashMap {
    fn get(&self, key: &[u8]) -> Option<Entry> {
        self.tables.read().get(key).cloned()
    }

    fn warm(&self, keys: &[&[u8]]) {
        if let Some(tables) = self.try_tables() {
            table::warm(keys.iter().map(|key| (&*tables, *key)));
        }
    }

    fn set(&self, entry: Entry) -> Option<Entry> {
        self.count_in(std::slice::from_ref(&entry));
        let replaced = self.tables.write().insert(entry);
        self.count_out(replaced.as_slice());
        replaced
    }

    fn set_all(&self, entries: &mut Vec<Entry>) {
        self.count_in(entries);
        let mut tables = self.tables.write();
        let replaced: Vec<_> = entries
            .drain(..)
            .filter_map(|entry| tables.insert(entry))
            .collect();
        drop(tables);
        self.count_out(&replaced);
    }

    fn seed(&self) -> HashSeed {
        self.tables.read().seed()
    }

    fn prepare(&self, seed: HashSeed, keys: usize) {
        let mut tables = self.tables.write();
        if self.is_empty() {
            *tables = Tables::new(self.table_count, keys, seed);
        }
    }

    fn lane(&self, _: &[u8]) -> usize {
        0
    }

    fn del(&self, key: &[u8]) -> Option<Entry> {
        let removed = self.tables.write().remove(key);
        self.count_out(removed.as_slice());
        removed
    }

    fn change_in_place(&self, key: &[u8], change: &mut dyn FnMut(&mut [u8])) -> bool {
        self.tables.write().change_in_place(key, change)
    }

    fn clear(&self) {
        self.clear_with(HashSeed::random());
    }

    fn freeze(&self) {
        self.tables.write().freeze();
    }

    fn thaw(&self) {
        let kept = self.tables.write().thaw();
        drop(kept);
    }

    fn take_frozen(&self, index: usize) -> Vec<Entry> {
        // Readers go on beside the copying, and whoever changes this table in between, before it
        // is released, has noted in vain.
        let entries = self.tables.read().frozen_entries(index);
        let kept = self.tables.write().release(index);
        drop(kept);
        entries
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn expiring(&self) -> usize {
        self.expiring.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn table_count(&self) -> usize {
        self.table_count
    }

    fn table(&self, index: usize) -> Vec<Entry> {
        self.tables.read().entries(index)
    }

    fn is_due(&self, index: usize, now: Timestamp) -> bool {
        self.tables.read().is_due(index, now)
    }

    fn sweep(&self, index: usize, now: Timestamp) -> usize {
        let expired = self.tables.write().sweep(index, now);
        self.count_out(&expired);
        expired.len()
    }
}

/// So many entries are freed in less time than it takes to start a thread for it.
const FREED_AT_ONCE: usize = 1000;

/// To free many entries takes long: whoever emptied the store does not wait for it (P6). Where no
/// thread can be had, it does.
fn free_elsewhere(tables: impl Send + 'static) {
    let spawned = std::thread::Builder::new().name("postres-free".to_owned());
    // A closure that could not be sent is dropped here, and the tables with it.
    let _ = spawned.spawn(move || drop(tables));
}
