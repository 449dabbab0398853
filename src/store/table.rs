//! Many small tables instead of one large one.
//!
//! Whatever must look at a whole table (its growth, a snapshot's copy, a scan's step) looks at a
//! small one, so its time does not depend on how many keys there are in all (P6). Which table a
//! key lies in is told by a keyed hash, so that a client that chooses its keys cannot fill one.

use std::hash::{BuildHasher, RandomState};

use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use super::buckets::Buckets;
use super::entry::{Entry, Held};
use super::frozen::Changes;
use crate::time::Timestamp;

/// Tables in a store, all its shards together: small enough at 100 million keys (6,100 each), and
/// half a megabyte when empty.
pub(super) const TABLES: usize = 16_384;

/// Tables that each of very many shards has nevertheless: which shard a key goes to whoever chooses it
/// can choose, too, and in one table millions of keys would be found ever more slowly.
pub(super) const TABLES_OF_A_SHARD: usize = 16;

/// A table smaller than this is not shrunk.
const MIN_SHRINK: usize = 64;

/// A power of two of small tables, and the hash that picks among them and places keys in them.
#[derive(Debug)]
pub(super) struct Tables {
    /// As close together as can be: where they begin stays in the processor's cache, and so a look at
    /// a key waits for memory once less.
    tables: Box<[Buckets]>,
    /// What else there is of each, which few look at.
    notes: Box<[Notes]>,
    hasher: Hasher,
    /// Whether [`Self::freeze`] was called and [`Self::thaw`] was not.
    frozen: bool,
    /// Frozen tables that these ones stand in place of, since everything was removed.
    cleared: Option<Box<Tables>>,
}

#[derive(Debug)]
struct Notes {
    /// No entry expires before this; `NEVER` if none does at all.
    next_expiry: Timestamp,
    /// While the table is frozen: what was changed since.
    changes: Option<Changes>,
}

const NEVER: Timestamp = Timestamp(u64::MAX);

impl Notes {
    fn removed(&mut self, hash: u64, entry: &Entry) {
        if let Some(changes) = &mut self.changes {
            changes.note(hash, Some(entry), None);
        }
    }
}

/// A table that has become mostly empty gives back its room.
fn shrink(table: &mut Buckets) {
    if table.capacity() >= MIN_SHRINK && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2);
    }
}

impl Tables {
    /// At least `count` tables with room for `capacity` keys in all.
    pub(super) fn new(count: usize, capacity: usize, seed: HashSeed) -> Self {
        let count = count.next_power_of_two();
        // By chance some get more keys than others: by two standard deviations, a few in a hundred.
        let mean = capacity / count;
        let each = mean + 2 * mean.isqrt();
        Self {
            tables: (0..count).map(|_| Buckets::with_capacity(each)).collect(),
            notes: (0..count)
                .map(|_| Notes {
                    next_expiry: NEVER,
                    changes: None,
                })
                .collect(),
            hasher: Hasher::new(seed),
            frozen: false,
            cleared: None,
        }
    }

    /// Empty tables in place of these, which are handed back unless they are still needed for
    /// what they held when they were frozen.
    pub(super) fn clear(&mut self, seed: HashSeed) -> Option<Self> {
        let empty = Self::new(self.count(), 0, seed);
        let mut full = std::mem::replace(self, empty);
        // What was set since an earlier clearing is no part of what was frozen.
        self.cleared = full.cleared.take();
        if full.frozen {
            self.cleared = Some(Box::new(full));
            return None;
        }
        Some(full)
    }

    /// From now on every table keeps what it holds, until that is released.
    pub(super) fn freeze(&mut self) {
        self.frozen = true;
        self.cleared = None;
        for notes in &mut self.notes {
            notes.changes = Some(Changes::default());
        }
    }

    /// Keeps nothing any more.
    pub(super) fn thaw(&mut self) -> impl Sized + use<> {
        self.frozen = false;
        let changes = self.notes.iter_mut().map(|notes| notes.changes.take());
        (changes.collect::<Vec<_>>(), self.cleared.take())
    }

    /// What a table held when it was frozen.
    pub(super) fn frozen_entries(&self, index: usize) -> Vec<Entry> {
        let tables = self.cleared.as_deref().unwrap_or(self);
        let Some((table, notes)) = tables.at(index) else {
            return Vec::new();
        };
        let changes = notes.changes.as_ref();
        changes.map_or_else(Vec::new, |changes| {
            changes.undo(table, |key| hash_of(&tables.hasher, key))
        })
    }

    /// Keeps no longer what one table held when it was frozen.
    pub(super) fn release(&mut self, index: usize) -> impl Sized + use<> {
        if let Some(cleared) = &mut self.cleared {
            let table = cleared.tables.get_mut(index);
            return (None, table.map(std::mem::take));
        }
        let notes = self.notes.get_mut(index);
        (notes.and_then(|notes| notes.changes.take()), None)
    }

    fn at(&self, index: usize) -> Option<(&Buckets, &Notes)> {
        Some((self.tables.get(index)?, self.notes.get(index)?))
    }

    fn at_mut(&mut self, index: usize) -> Option<(&mut Buckets, &mut Notes)> {
        Some((self.tables.get_mut(index)?, self.notes.get_mut(index)?))
    }

    pub(super) fn count(&self) -> usize {
        self.tables.len()
    }

    /// The seed of the hash that picks the tables.
    pub(super) fn seed(&self) -> HashSeed {
        self.hasher.seed
    }

    /// The entry of a key, shared with the table.
    pub(super) fn get(&self, key: &[u8]) -> Option<Entry> {
        let (hash, index) = self.place(key);
        let table = self.tables.get(index)?;
        table.find(hash, |entry| entry.key() == key)?.share()
    }

    /// See [`InMemStore::change_in_place`](super::InMemStore::change_in_place).
    pub(super) fn change_in_place(
        &mut self,
        key: &[u8],
        change: &mut dyn FnMut(&mut [u8]),
    ) -> bool {
        let (hash, index) = self.place(key);
        let Some((table, notes)) = self.at_mut(index) else {
            return false;
        };
        let changes = notes.changes.as_ref();
        if changes.is_some_and(|changes| !changes.has(hash, key)) {
            // What it was is still needed.
            return false;
        }
        table.change_in_place(hash, |entry| entry.key() == key, change)
    }

    /// Puts an entry in, and hands back the one that it replaces: whoever calls drops it, once
    /// the lock is released.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let (hash, index) = self.place(entry.key());
        let (table, notes) = self.at_mut(index)?;
        if let Some(at) = entry.expires() {
            notes.next_expiry = notes.next_expiry.min(at);
        }
        let noted = notes.changes.as_mut();
        let noted = noted.map(|changes| (changes, entry.clone()));
        let replaced = table.insert(hash, entry);
        if let Some((changes, new)) = noted {
            changes.note(hash, replaced.as_ref(), Some(&new));
        }
        replaced
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let (hash, index) = self.place(key);
        let (table, notes) = self.at_mut(index)?;
        let entry = table.remove(hash, |entry| entry.key() == key)?;
        notes.removed(hash, &entry);
        shrink(table);
        Some(entry)
    }

    /// Gives back what no table would have grown to by itself.
    pub(super) fn fit(&mut self) {
        self.tables.iter_mut().for_each(Buckets::fit);
    }

    pub(super) fn entries(&self, index: usize) -> Vec<Entry> {
        self.tables
            .get(index)
            .map(|table| table.iter().filter_map(Held::share).collect())
            .unwrap_or_default()
    }

    pub(super) fn is_due(&self, index: usize, now: Timestamp) -> bool {
        let notes = self.notes.get(index);
        notes.is_some_and(|notes| notes.next_expiry <= now)
    }

    /// Takes out what has expired by `now`.
    pub(super) fn sweep(&mut self, index: usize, now: Timestamp) -> Vec<Entry> {
        let (Some(table), Some(notes)) = (self.tables.get_mut(index), self.notes.get_mut(index))
        else {
            return Vec::new();
        };
        let expired = table.extract(|entry| !entry.is_live(now));
        for entry in &expired {
            notes.removed(hash_of(&self.hasher, entry.key()), entry);
        }
        let left = table.iter().filter_map(Held::expires);
        notes.next_expiry = left.min().unwrap_or(NEVER);
        shrink(table);
        expired
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

/// So many keys at a time are worth the while of warming them, and fit into the nearest cache.
pub const WARM_AT_ONCE: usize = 16;

/// See [`InMemStore::warm`](super::InMemStore::warm).
pub(super) fn warm<'a>(keys: impl Iterator<Item = (&'a Tables, &'a [u8])>) {
    let mut looks = keys.map(Look::begin).collect();
    fetch(&mut looks);
}

/// The entries of several keys: for each of them one, or nothing.
pub type Each = SmallVec<[Option<Entry>; WARM_AT_ONCE]>;

/// See [`InMemStore::get_each`](super::InMemStore::get_each).
pub(super) fn get_each<'a>(keys: impl Iterator<Item = (&'a Tables, &'a [u8])>) -> Each {
    let mut looks = keys.map(Look::begin).collect();
    fetch(&mut looks);
    looks.iter().map(Look::entry).collect()
}

/// Looks at keys that go on together.
type Looks<'a> = SmallVec<[Look<'a>; WARM_AT_ONCE]>;

/// A look at a key that goes on once its entry is there.
struct Look<'a> {
    key: &'a [u8],
    hash: u64,
    /// Each key has one.
    table: Option<&'a Buckets>,
    /// The entry that it most likely is: its hash looks the same. What is compared with the key lies elsewhere.
    likely: Option<Held<'a>>,
}

impl<'a> Look<'a> {
    fn begin((tables, key): (&'a Tables, &'a [u8])) -> Self {
        let (hash, index) = tables.place(key);
        Self {
            key,
            hash,
            table: tables.tables.get(index),
            likely: None,
        }
    }

    fn entry(&self) -> Option<Entry> {
        let likely = self.likely?;
        if likely.key() == self.key {
            return likely.share();
        }
        let is_it = |entry: Held<'_>| entry.key() == self.key;
        self.table?.find(self.hash, is_it)?.share()
    }
}

/// Has the entries fetched.
///
/// A look at a key goes to its table, from there to a slot, and from there to an entry, and each is
/// most likely not in the cache. Here the same step is done for all keys before the next: the
/// processor does not wait for one to begin the next, as none depends on another. Slots and entries are
/// asked for, not read: what is read holds up what is behind it, once the processor has begun a dozen.
fn fetch(looks: &mut Looks<'_>) {
    for look in &*looks {
        if let Some(table) = look.table {
            table.prefetch_home(look.hash);
        }
    }
    for look in looks {
        look.likely = look.table.and_then(|table| table.find(look.hash, |_| true));
        if let Some(likely) = look.likely {
            likely.prefetch();
        }
    }
}

/// The bits that pick the table are from the middle of the hash: inside a table the lowest count.
const PICK_SHIFT: u32 = 32;

/// What makes a store's hash its own: 128 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashSeed(pub u64, pub u64);

impl HashSeed {
    /// Random bits, by way of the keys that the standard library gives its own maps.
    pub(super) fn random() -> Self {
        let (one, other) = (RandomState::new(), RandomState::new());
        Self(one.hash_one(0), other.hash_one(1))
    }
}

/// SipHash-1-3, which withstands keys that are chosen, as long as its seed is not known.
#[derive(Debug)]
struct Hasher {
    seed: HashSeed,
    sip: SipHasher13,
}

impl Hasher {
    fn new(seed: HashSeed) -> Self {
        Self {
            seed,
            sip: SipHasher13::new_with_keys(seed.0, seed.1),
        }
    }
}

fn hash_of(hasher: &Hasher, key: &[u8]) -> u64 {
    hasher.sip.hash(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_all_tables() {
        let mut tables = Tables::new(64, 0, HashSeed::random());
        for n in 0..64_000_u32 {
            assert!(
                tables
                    .insert(Entry::new(&n.to_le_bytes(), b"", None))
                    .is_none()
            );
        }
        for index in 0..tables.count() {
            let len = tables.entries(index).len();
            assert!(
                (700..1300).contains(&len),
                "table {index} holds {len} of about 1000"
            );
        }
    }

    fn room(tables: &Tables) -> usize {
        tables.tables.iter().map(Buckets::capacity).sum()
    }

    #[test]
    fn room_for_keys_that_did_not_come_is_given_back_and_room_for_those_that_did_is_kept() {
        let mut tables = Tables::new(4, 100_000, HashSeed::random());
        let keys: Vec<_> = (0..95_000_u32).map(u32::to_le_bytes).collect();
        let prepared = room(&tables);
        for (n, key) in (1..).zip(&keys) {
            tables.insert(Entry::new(key, b"v", None));
            assert!(n != 1000 || room(&tables) == prepared);
        }
        tables.fit();
        assert_eq!(room(&tables), prepared);
        let mut tables = Tables::new(4, 100_000, HashSeed::random());
        for key in keys.iter().take(1000) {
            tables.insert(Entry::new(key, b"v", None));
        }
        tables.fit();
        assert!(room(&tables) < 2500, "{} of {prepared}", room(&tables));
        assert!(keys.iter().take(1000).all(|key| tables.get(key).is_some()));
    }

    #[test]
    fn a_table_that_was_emptied_gives_back_its_room() {
        let mut tables = Tables::new(2, 0, HashSeed::random());
        let keys: Vec<_> = (0..10_000_u32).map(u32::to_le_bytes).collect();
        for key in &keys {
            tables.insert(Entry::new(key, b"", None));
        }
        let full = room(&tables);
        for key in &keys {
            assert!(tables.remove(key).is_some());
        }
        let empty = room(&tables);
        assert!(
            empty <= 2 * MIN_SHRINK,
            "room for {empty} keys is left of {full}"
        );
    }
}
