//! The store of `-shards 1`: one map behind one lock.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};

use super::InMemStore;
use super::entry::Entry;
use super::table::{self, Each, HashSeed, TABLES, Tables};
use crate::time::Timestamp;

/// A map behind one lock. [`super::ShardedMap`] is many of these, side by side: aligned so that no
/// two have their locks and counts in one line of the cache, or the two that processors fetch
/// together, where those who use one would slow down those who use the other.
#[derive(Debug)]
#[repr(align(128))]
pub struct HashMap {
    tables: RwLock<Tables>,
    table_count: usize,
    counts: Counts,
}

/// What a map holds. Read by anyone; changed only by who holds the map's lock for writing, so that
/// a load and a store do, and no atomic addition is needed.
#[derive(Debug, Default)]
struct Counts {
    len: AtomicUsize,
    expiring: AtomicUsize,
    bytes: AtomicUsize,
}

impl Counts {
    fn change(&self, _: &mut Tables, entry: &Entry, change: impl Fn(usize, usize) -> usize) {
        let one = |count: &AtomicUsize, by| {
            let before = count.load(Ordering::Relaxed);
            count.store(change(before, by), Ordering::Relaxed);
        };
        one(&self.len, 1);
        one(&self.bytes, entry.memory());
        if entry.expires().is_some() {
            one(&self.expiring, 1);
        }
    }

    fn come(&self, tables: &mut Tables, entry: &Entry) {
        self.change(tables, entry, usize::wrapping_add);
    }

    fn gone(&self, tables: &mut Tables, entry: &Entry) {
        self.change(tables, entry, usize::wrapping_sub);
    }

    fn clear(&self, _: &mut Tables) {
        for count in [&self.len, &self.expiring, &self.bytes] {
            count.store(0, Ordering::Relaxed);
        }
    }
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
            counts: Counts::default(),
        }
    }

    /// The tables, once nobody is changing them.
    pub(super) fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read()
    }

    /// The tables, if nobody is changing them.
    pub(super) fn try_tables(&self) -> Option<RwLockReadGuard<'_, Tables>> {
        self.tables.try_read()
    }

    /// Removes every key; those to come are spread by this seed.
    pub(super) fn clear_with(&self, seed: HashSeed) {
        let mut tables = self.tables.write();
        let full = tables.clear(seed);
        let len = self.len();
        self.counts.clear(&mut tables);
        drop(tables);
        if len > FREED_AT_ONCE {
            free_elsewhere(full);
        }
    }

    /// Puts an entry in, under the lock that is held.
    fn insert(&self, tables: &mut Tables, entry: Entry) -> Option<Entry> {
        self.counts.come(tables, &entry);
        let replaced = tables.insert(entry)?;
        self.counts.gone(tables, &replaced);
        Some(replaced)
    }
}

impl InMemStore for HashMap {
    fn get(&self, key: &[u8]) -> Option<Entry> {
        self.tables.read().get(key)
    }

    fn get_pair(&self, first: &[u8], second: &[u8]) -> (Option<Entry>, Option<Entry>) {
        let tables = self.tables();
        (tables.get(first), tables.get(second))
    }

    fn warm(&self, keys: &[&[u8]]) {
        if let Some(tables) = self.try_tables() {
            table::warm(keys.iter().map(|key| (&*tables, *key)));
        }
    }

    fn get_each(&self, keys: &[&[u8]]) -> Each {
        let tables = self.tables();
        table::get_each(keys.iter().map(|key| (&*tables, *key)))
    }

    fn set(&self, entry: Entry) -> Option<Entry> {
        self.insert(&mut self.tables.write(), entry)
    }

    fn set_all(&self, entries: &mut Vec<Entry>) {
        let mut tables = self.tables.write();
        let replaced: Vec<_> = entries
            .drain(..)
            .filter_map(|entry| self.insert(&mut tables, entry))
            .collect();
        drop(tables);
        drop(replaced);
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

    fn fit(&self) {
        self.tables.write().fit();
    }

    fn lane(&self, _: &[u8]) -> usize {
        0
    }

    fn del(&self, key: &[u8]) -> Option<Entry> {
        let mut tables = self.tables.write();
        let removed = tables.remove(key)?;
        self.counts.gone(&mut tables, &removed);
        Some(removed)
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
        self.counts.len.load(Ordering::Relaxed)
    }

    fn expiring(&self) -> usize {
        self.counts.expiring.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> usize {
        self.counts.bytes.load(Ordering::Relaxed)
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
        let mut tables = self.tables.write();
        let expired = tables.sweep(index, now);
        for entry in &expired {
            self.counts.gone(&mut tables, entry);
        }
        drop(tables);
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
