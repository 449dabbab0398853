//! The store: what the log says, in memory.
//!
//! [`InMemStore`] is the trait; [`HashMap`] and [`ShardedMap`] implement it. Nothing here knows of
//! files, sockets or commands, and nothing here decides: whatever depends on what is stored is
//! decided in `command::apply`, the only caller of the methods that change a store.

mod bucket;
mod buckets;
mod entry;
mod frozen;
mod hash_map;
mod leb128;
mod sharded_map;
mod shared_bytes;
mod table;

use std::fmt;

pub use entry::{Entry, Value};
pub use hash_map::HashMap;
pub use sharded_map::ShardedMap;
pub use table::{Each, HashSeed, WARM_AT_ONCE};

use crate::time::Timestamp;

/// Bytes of a line of the processor's cache, on the machines that most servers are.
const LINE: usize = 64;

/// A map from keys to values, both any bytes, shared by many readers and one writer.
///
/// One thread at a time changes a store (the engine's applier). Readers may run beside it and see
/// each change whole or not at all.
pub trait InMemStore: fmt::Debug + Send + Sync {
    /// The entry of `key`, not copied: it stays valid whatever happens to the key. One that has
    /// expired is still found until it is swept; whoever asks knows what time it is.
    fn get(&self, key: &[u8]) -> Option<Entry>;
    /// The entries of two keys, as they were at one moment.
    fn get_pair(&self, first: &[u8], second: &[u8]) -> (Option<Entry>, Option<Entry>);
    /// Has the processor fetch what a look at these keys needs: all of it at a time, where looks
    /// one after the other each wait for memory several times over. Changes nothing, waits for
    /// nobody, and need not do anything.
    fn warm(&self, keys: &[&[u8]]);
    /// The entries of these keys, each as [`get`](Self::get) finds it at some moment meanwhile, none at an earlier
    /// one than a key before it. What the looks need is fetched as [`warm`](Self::warm) does. Where keys are being
    /// changed it waits, as `get` does.
    fn get_each(&self, keys: &[&[u8]]) -> Each;
    /// Puts an entry in, in place of the one its key had, which is handed back: a large one is
    /// freed by the caller, not under a lock.
    fn set(&self, entry: Entry) -> Option<Entry>;
    /// Puts many entries in, under few locks, and leaves the vector empty.
    fn set_all(&self, entries: &mut Vec<Entry>);
    /// The seed of the hash by which keys are spread over tables.
    fn seed(&self) -> HashSeed;
    /// Makes room for so many keys in an empty store, and spreads them by this seed: entries that
    /// come in the order in which a store of the same seed held them then go into few tables at a
    /// time, which stay in the processor's cache.
    fn prepare(&self, seed: HashSeed, keys: usize);
    /// Gives back most of the room that was made for keys which have not come.
    fn fit(&self);
    /// A number that is the same for keys that share a lock: two threads that change keys of
    /// different lanes do not wait for each other.
    fn lane(&self, key: &[u8]) -> usize;
    /// Removes `key`, and hands back its entry.
    fn del(&self, key: &[u8]) -> Option<Entry>;
    /// Changes the value of `key` where it lies, its length staying as it is. Says whether it did:
    /// not if there is no such key, nor if a reader holds the entry at the moment.
    fn change_in_place(&self, key: &[u8], change: &mut dyn FnMut(&mut [u8])) -> bool;
    /// Removes every key.
    fn clear(&self);
    /// From now on keeps what every table holds at this moment, for [`Self::take_frozen`]: until
    /// it is taken, or [`Self::thaw`]. Nothing is copied. What is changed meanwhile is kept beside
    /// its successor. Nobody changes the store while this is called.
    fn freeze(&self);
    /// What one table held when the store was frozen, expired keys included; once for each table.
    /// Readers are not held up, and who changes the store is for no longer than it takes to look
    /// at one table.
    fn take_frozen(&self, index: usize) -> Vec<Entry>;
    /// Ends what [`Self::freeze`] began.
    fn thaw(&self);
    /// How many keys there are, expired ones that have not been swept included.
    fn len(&self) -> usize;
    /// How many of them have an expiry.
    fn expiring(&self) -> usize;
    /// Bytes of memory that all entries take (see [`Entry::memory`]).
    fn bytes(&self) -> usize;
    /// Whether there is no key.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many small tables the keys lie in. Never changes.
    fn table_count(&self) -> usize;
    /// The entries of one table, in no order: what walks over all keys walks table by table, so
    /// that no lock is held for longer because there are more keys (P6).
    fn table(&self, index: usize) -> Vec<Entry>;
    /// Whether a key of this table may have expired by `now`. Cheap.
    fn is_due(&self, index: usize, now: Timestamp) -> bool;
    /// Removes the keys of one table that have expired by `now`; says how many.
    fn sweep(&self, index: usize, now: Timestamp) -> usize;
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
