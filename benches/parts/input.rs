//! Keys and values: the same in every run, and in no order.

use std::sync::Arc;

use postres::store::{self, Entry, HashSeed, InMemStore};
use postres::time::Timestamp;

use super::measure;

/// Sixteen bytes: the digits of a number.
pub(crate) type Key = [u8; 16];
/// What a key is given.
pub(crate) type Value = [u8; 64];

/// Places every run's keys alike.
const SEED: HashSeed = HashSeed(0x706f_7374, 0x7265_7321);

/// As many as fit into the nearest cache, where the bytes lie that a client just sent.
const VALUES: usize = 256;

/// SplitMix64, which gives every number once before it gives one again: keys drawn from one of
/// these are all different.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(0)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn key(&mut self) -> Key {
        let number = self.number();
        std::array::from_fn(|at| match (number >> (4 * at)) as u8 & 0xf {
            digit @ 0..10 => b'0' + digit,
            digit => b'a' + digit - 10,
        })
    }

    pub(crate) fn value(&mut self) -> Value {
        let mut value = [0; 64];
        for part in value.chunks_exact_mut(size_of::<Key>()) {
            part.copy_from_slice(&self.key());
        }
        value
    }

    pub(crate) fn values(&mut self) -> Vec<Value> {
        (0..VALUES).map(|_| self.value()).collect()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            // A remainder of a length fits a usize.
            items.swap(end, (self.number() % (end as u64 + 1)) as usize);
        }
    }
}

/// What a store is filled with and asked for.
#[derive(Debug)]
pub(crate) struct Input {
    /// Keys, in the order in which a store gets them.
    pub(crate) present: Vec<Key>,
    /// The same keys in another order: entries that lie side by side in memory are not asked for
    /// one after the other.
    pub(crate) asked: Vec<Key>,
    /// As many keys that no store has.
    pub(crate) absent: Vec<Key>,
    pub(crate) values: Vec<Value>,
}

impl Input {
    pub(crate) fn new() -> Self {
        let mut random = Random::new();
        let present: Vec<_> = (0..measure::keys()).map(|_| random.key()).collect();
        let absent = (0..measure::keys()).map(|_| random.key()).collect();
        let mut asked = present.clone();
        random.shuffle(&mut asked);
        Self {
            present,
            asked,
            absent,
            values: random.values(),
        }
    }

    /// Keys and values in the order in which a store gets them.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.present.iter().zip(self.values.iter().cycle())
    }

    /// A store that has every key with its value, and this expiry.
    pub(crate) fn store(&self, shards: usize, expires: Option<Timestamp>) -> Arc<dyn InMemStore> {
        let store = empty_store(shards);
        for (key, value) in self.pairs() {
            store.set(Entry::new(key, value, expires));
        }
        store
    }
}

/// A store as `-shards` asks for it.
pub(crate) fn empty_store(shards: usize) -> Arc<dyn InMemStore> {
    let store = store::with_shards(shards, 0);
    store.prepare(SEED, 0);
    store.into()
}
