//! The store of `-shards N`: N maps, each behind its own lock.

use std::cmp::Ordering;

use smallvec::SmallVec;

use super::entry::Entry;
use super::table::{self, Each, HashSeed, TABLES, TABLES_OF_A_SHARD, WARM_AT_ONCE};
use super::{HashMap, InMemStore};
use crate::time::Timestamp;

/// N maps; the DJB2 hash of a key picks its map, as it did in post-go-res.
#[derive(Debug)]
pub struct ShardedMap {
    shards: Box<[HashMap]>,
    tables_each: usize,
}

impl ShardedMap {
    /// An empty store of `shards` maps (at least one) with room for `capacity` keys in all.
    pub fn new(shards: usize, capacity: usize) -> Self {
        let shards = shards.max(1);
        let tables = TABLES.div_ceil(shards).max(TABLES_OF_A_SHARD);
        let seed = HashSeed::random();
        let shards: Box<[_]> = (0..shards)
            .map(|_| HashMap::with_tables(tables, capacity / shards, seed))
            .collect();
        Self {
            tables_each: shards.first().map_or(1, InMemStore::table_count),
            shards,
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "a remainder of the length is a valid index"
    )]
    fn shard(&self, key: &[u8]) -> &HashMap {
        &self.shards[self.lane(key)]
    }

    /// The shard of a table, and the table's index in it.
    fn table_at(&self, index: usize) -> (Option<&HashMap>, usize) {
        (
            self.shards.get(index / self.tables_each),
            index % self.tables_each,
        )
    }
}

/// Bernstein's hash: 5381, then times 33 plus each byte.
///
/// Four bytes at a time, since a multiplication that waits for the one before takes four times as
/// long as one that does not.
fn djb2(key: &[u8]) -> u64 {
    const TIMES: [u64; 4] = [33 * 33 * 33, 33 * 33, 33, 1];
    let (fours, rest) = key.as_chunks::<4>();
    let hash = fours.iter().fold(5381, |hash: u64, four| {
        let own = four.iter().zip(TIMES);
        let own: u64 = own.map(|(byte, times)| u64::from(*byte) * times).sum();
        hash.wrapping_mul(33 * TIMES[0]).wrapping_add(own)
    });
    rest.iter().fold(hash, |hash, &byte| {
        hash.wrapping_mul(33).wrapping_add(u64::from(byte))
    })
}

impl InMemStore for ShardedMap {
    fn get(&self, key: &[u8]) -> Option<Entry> {
        self.shard(key).get(key)
    }

    fn get_pair(&self, first: &[u8], second: &[u8]) -> (Option<Entry>, Option<Entry>) {
        match self.lane(first).cmp(&self.lane(second)) {
            // A lock that one thread takes twice may wait for a writer that waits for the thread.
            Ordering::Equal => self.shard(first).get_pair(first, second),
            Ordering::Less => {
                let (one, two) = (self.shard(first).tables(), self.shard(second).tables());
                (one.get(first), two.get(second))
            }
            // Of two locks that of the lower shard is taken first, or two threads that hold one each, and two
            // writers who are waiting, would wait for each other.
            Ordering::Greater => {
                let (two, one) = self.get_pair(second, first);
                (one, two)
            }
        }
    }

    fn warm(&self, keys: &[&[u8]]) {
        // Held all at a time. None is waited for, so nobody who holds one waits for another.
        let held = keys
            .iter()
            .filter_map(|key| Some((self.shard(key).try_tables()?, *key)));
        let held: SmallVec<[_; WARM_AT_ONCE]> = held.collect();
        table::warm(held.iter().map(|(tables, key)| (&**tables, *key)));
    }

    fn get_each(&self, keys: &[&[u8]]) -> Each {
        // Held all at a time, and none of them waited for, as above.
        let mut held = SmallVec::<[_; WARM_AT_ONCE]>::new();
        for key in keys {
            let Some(tables) = self.shard(key).try_tables() else {
                // Some are being changed.
                drop(held);
                self.warm(keys);
                return keys.iter().map(|key| self.get(key)).collect();
            };
            held.push((tables, *key));
        }
        table::get_each(held.iter().map(|(tables, key)| (&**tables, *key)))
    }

    fn set(&self, entry: Entry) -> Option<Entry> {
        self.shard(entry.key()).set(entry)
    }

    fn set_all(&self, entries: &mut Vec<Entry>) {
        let mut of_shard: Vec<Vec<Entry>> = self.shards.iter().map(|_| Vec::new()).collect();
        for entry in entries.drain(..) {
            if let Some(own) = of_shard.get_mut(self.lane(entry.key())) {
                own.push(entry);
            }
        }
        for (shard, entries) in self.shards.iter().zip(&mut of_shard) {
            if !entries.is_empty() {
                shard.set_all(entries);
            }
        }
    }

    fn seed(&self) -> HashSeed {
        let first = self.shards.first();
        first.map_or_else(HashSeed::random, InMemStore::seed)
    }

    fn prepare(&self, seed: HashSeed, keys: usize) {
        for shard in &self.shards {
            shard.prepare(seed, keys / self.shards.len());
        }
    }

    fn fit(&self) {
        self.shards.iter().for_each(InMemStore::fit);
    }

    fn lane(&self, key: &[u8]) -> usize {
        // The remainder is below the number of shards, so it fits a usize.
        (djb2(key) % self.shards.len() as u64) as usize
    }

    fn del(&self, key: &[u8]) -> Option<Entry> {
        self.shard(key).del(key)
    }

    fn change_in_place(&self, key: &[u8], change: &mut dyn FnMut(&mut [u8])) -> bool {
        self.shard(key).change_in_place(key, change)
    }

    fn clear(&self) {
        // One for all, so that a snapshot can keep it.
        let seed = HashSeed::random();
        self.shards.iter().for_each(|shard| shard.clear_with(seed));
    }

    fn freeze(&self) {
        self.shards.iter().for_each(InMemStore::freeze);
    }

    fn thaw(&self) {
        self.shards.iter().for_each(InMemStore::thaw);
    }

    fn take_frozen(&self, index: usize) -> Vec<Entry> {
        let (shard, index) = self.table_at(index);
        shard
            .map(|shard| shard.take_frozen(index))
            .unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.shards.iter().map(InMemStore::len).sum()
    }

    fn expiring(&self) -> usize {
        self.shards.iter().map(InMemStore::expiring).sum()
    }

    fn bytes(&self) -> usize {
        self.shards.iter().map(InMemStore::bytes).sum()
    }

    fn table_count(&self) -> usize {
        self.shards.len() * self.tables_each
    }

    fn table(&self, index: usize) -> Vec<Entry> {
        let (shard, index) = self.table_at(index);
        shard.map(|shard| shard.table(index)).unwrap_or_default()
    }

    fn is_due(&self, index: usize, now: Timestamp) -> bool {
        let (shard, index) = self.table_at(index);
        shard.is_some_and(|shard| shard.is_due(index, now))
    }

    fn sweep(&self, index: usize, now: Timestamp) -> usize {
        let (shard, index) = self.table_at(index);
        shard.map_or(0, |shard| shard.sweep(index, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_many_tables_however_many_shards_there_are() {
        let each = |shards| ShardedMap::new(shards, 0).tables_each;
        assert_eq!([1, 8, 1000].map(each), [16_384, 2_048, 32]);
        assert_eq!([2_000, 16_384].map(each), [16, 16]);
    }

    #[test]
    fn keys_of_one_shard_are_in_all_of_its_tables() {
        // Bernstein's hash is the same of these two.
        const SAME: [&[u8; 2]; 2] = [b"Ez", b"FY"];
        let key = |n: usize| -> Vec<u8> {
            let parts = (0..13).map(|bit| SAME[n >> bit & 1]);
            parts.flatten().copied().collect()
        };
        let store = ShardedMap::new(16_384, 0);
        for n in 0..1 << 13 {
            store.set(Entry::new(&key(n), b"", None));
        }
        let lens = (0..store.table_count()).map(|index| store.table(index).len());
        let lens: Vec<_> = lens.filter(|len| *len > 0).collect();
        assert_eq!(lens.len(), TABLES_OF_A_SHARD);
        assert!(lens.iter().all(|len| (350..700).contains(len)), "{lens:?}");
    }

    #[test]
    fn djb2_gives_the_published_values() {
        assert_eq!(djb2(b""), 5381);
        assert_eq!(djb2(b"a"), 5381 * 33 + 97);
        assert_eq!(djb2(b"hello"), 210_714_636_441);
        let bytes: Vec<u8> = (0..=255).rev().collect();
        for len in 0..=bytes.len() {
            let one_by_one = bytes[..len].iter().fold(5381_u64, |hash, byte| {
                hash.wrapping_mul(33).wrapping_add(u64::from(*byte))
            });
            assert_eq!(djb2(&bytes[..len]), one_by_one);
        }
    }

    #[test]
    fn keys_reach_every_shard() {
        let store = ShardedMap::new(7, 0);
        for n in 0..10_000 {
            store.set(Entry::new(format!("key:{n}").as_bytes(), b"value", None));
        }
        assert!(store.shards.iter().all(|shard| shard.len() > 1000));
        assert_eq!(store.len(), 10_000);
    }
}
