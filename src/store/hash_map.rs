//! The store of `-shards 1`: one map behind one lock.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::InMemStore;
use super::entry::{Entry, Value};
use super::table::{TABLES, Tables};

/// A map behind one lock. [`super::ShardedMap`] is many of these.
#[derive(Debug)]
pub struct HashMap {
    tables: RwLock<Tables>,
    table_count: usize,
    len: AtomicUsize,
}

impl HashMap {
    /// An empty map with room for `capacity` keys.
    pub fn with_capacity(capacity: usize) -> Self {
        Self::with_tables(TABLES, capacity)
    }

    /// An empty map of at least this many small tables.
    pub(super) fn with_tables(tables: usize, capacity: usize) -> Self {
        let tables = Tables::new(tables, capacity);
        Self {
            table_count: tables.count(),
            tables: RwLock::new(tables),
            len: AtomicUsize::new(0),
        }
    }
}

impl InMemStore for HashMap {
    fn get(&self, key: &[u8]) -> Option<Value> {
        self.tables.read().get(key).cloned().map(Value::from)
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.tables.read().get(key).is_some()
    }

    fn set(&self, key: &[u8], value: &[u8]) {
        let entry = Entry::new(key, value);
        // The guard ends with the statement: the old entry is freed outside the lock.
        let replaced = self.tables.write().insert(entry);
        if replaced.is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn del(&self, key: &[u8]) -> bool {
        let removed = self.tables.write().remove(key);
        if removed.is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        removed.is_some()
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn table_count(&self) -> usize {
        self.table_count
    }

    fn table(&self, index: usize) -> Vec<Entry> {
        self.tables.read().entries(index)
    }
}
