//! The store: what the log says, in memory.
//!
//! [`InMemStore`] is the trait; [`HashMap`] and [`ShardedMap`] implement it. Nothing here knows of
//! files, sockets or commands, and nothing here decides: whatever depends on what is stored is
//! decided in `command::apply`, the only caller of the methods that change a store.

mod entry;
mod hash_map;
mod sharded_map;
mod table;

use std::fmt;

pub use entry::{Entry, Value};
pub use hash_map::HashMap;
pub use sharded_map::ShardedMap;

/// A map from keys to values, both any bytes, shared by many readers and one writer.
///
/// One thread at a time changes a store (the engine's applier). Readers may run beside it and see
/// each change whole or not at all.
pub trait InMemStore: fmt::Debug + Send + Sync {
    /// The value of `key`. It stays valid whatever happens to the key, and was not copied.
    fn get(&self, key: &[u8]) -> Option<Value>;
    /// Whether `key` is there.
    fn contains(&self, key: &[u8]) -> bool;
    /// Gives `key` this value, whether or not it had one.
    fn set(&self, key: &[u8], value: &[u8]);
    /// Removes `key`; says whether it was there.
    fn del(&self, key: &[u8]) -> bool;
    /// How many keys there are.
    fn len(&self) -> usize;
    /// Whether there is no key.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many small tables the keys lie in. Never changes.
    fn table_count(&self) -> usize;
    /// The entries of one table, in no order: what walks over all keys walks table by table, so
    /// that no lock is held for longer because there are more keys (P6).
    fn table(&self, index: usize) -> Vec<Entry>;
}

/// A store as the flags `-shards` and `-size` ask for: [`HashMap`] for one shard, [`ShardedMap`]
/// for more. `size` is how many keys to make room for at once.
pub fn with_shards(shards: usize, size: usize) -> Box<dyn InMemStore> {
    match shards {
        0 | 1 => Box::new(HashMap::with_capacity(size)),
        _ => Box::new(ShardedMap::new(shards, size)),
    }
}

#[cfg(test)]
mod tests;
