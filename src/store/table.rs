//! Many small tables instead of one large one.
//!
//! Whatever must look at a whole table (its growth, a snapshot's copy, a scan's step) looks at a
//! small one, so its time does not depend on how many keys there are in all (P6). Which table a
//! key lies in is told by a keyed hash, so that a client that chooses its keys cannot fill one.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use super::entry::Entry;

/// Tables in a store, all its shards together: small enough at 100 million keys (6,100 each), and
/// half a megabyte when empty.
pub(super) const TABLES: usize = 16_384;

/// A table smaller than this is not shrunk.
const MIN_SHRINK: usize = 64;

/// A power of two of small tables, and the hash that picks among them and places keys in them.
#[derive(Debug)]
pub(super) struct Tables {
    tables: Box<[HashTable<Entry>]>,
    hasher: RandomState,
}

impl Tables {
    /// At least `count` tables with room for `capacity` keys in all.
    pub(super) fn new(count: usize, capacity: usize) -> Self {
        let count = count.next_power_of_two();
        let each = capacity / count;
        Self {
            tables: (0..count).map(|_| HashTable::with_capacity(each)).collect(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.tables.len()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        let (hash, index) = self.place(key);
        self.tables
            .get(index)?
            .find(hash, |entry| entry.key() == key)
    }

    /// Puts an entry in, and hands back the one that it replaces: whoever calls drops it, once
    /// the lock is released.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let (hash, index) = self.place(entry.key());
        let hasher = &self.hasher;
        let slot = self.tables.get_mut(index)?.entry(
            hash,
            |other| other.key() == entry.key(),
            |other| hash_of(hasher, other.key()),
        );
        match slot {
            Slot::Occupied(mut slot) => Some(std::mem::replace(slot.get_mut(), entry)),
            Slot::Vacant(slot) => {
                slot.insert(entry);
                None
            }
        }
    }

    /// Takes an entry out. A table that has become mostly empty gives back its room.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let (hash, index) = self.place(key);
        let table = self.tables.get_mut(index)?;
        let (entry, _) = table
            .find_entry(hash, |entry| entry.key() == key)
            .ok()?
            .remove();
        if table.capacity() >= MIN_SHRINK && table.len() < table.capacity() / 8 {
            let hasher = &self.hasher;
            table.shrink_to(table.len() * 2, |other| hash_of(hasher, other.key()));
        }
        Some(entry)
    }

    pub(super) fn entries(&self, index: usize) -> Vec<Entry> {
        self.tables
            .get(index)
            .map(|table| table.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// The key's hash, and the table it lies in.
    fn place(&self, key: &[u8]) -> (u64, usize) {
        let hash = hash_of(&self.hasher, key);
        (
            hash,
            (hash >> PICK_SHIFT) as usize & (self.tables.len() - 1),
        )
    }
}

/// The bits that pick the table are from the middle of the hash: inside a table hashbrown places
/// by the lowest and tells neighbours apart by the highest seven.
const PICK_SHIFT: u32 = 32;

fn hash_of(hasher: &RandomState, key: &[u8]) -> u64 {
    hasher.hash_one(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_all_tables() {
        let mut tables = Tables::new(64, 0);
        for n in 0..64_000_u32 {
            assert!(tables.insert(Entry::new(&n.to_le_bytes(), b"")).is_none());
        }
        for index in 0..tables.count() {
            let len = tables.entries(index).len();
            assert!(
                (700..1300).contains(&len),
                "table {index} holds {len} of about 1000"
            );
        }
    }

    #[test]
    fn a_table_that_was_emptied_gives_back_its_room() {
        let mut tables = Tables::new(2, 0);
        let keys: Vec<_> = (0..10_000_u32).map(u32::to_le_bytes).collect();
        for key in &keys {
            tables.insert(Entry::new(key, b""));
        }
        let full: usize = tables.tables.iter().map(HashTable::capacity).sum();
        for key in &keys {
            assert!(tables.remove(key).is_some());
        }
        let empty: usize = tables.tables.iter().map(HashTable::capacity).sum();
        assert!(
            empty <= 2 * MIN_SHRINK,
            "room for {empty} keys is left of {full}"
        );
    }
}
