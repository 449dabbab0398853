//! One conformance suite over every store, and against a plain model.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;

use super::{Entry, HashMap, InMemStore, ShardedMap, with_shards};
use crate::time::Timestamp;

/// Stores of every kind, with shard counts that are and are not powers of two.
fn stores() -> Vec<Box<dyn InMemStore>> {
    let mut stores: Vec<Box<dyn InMemStore>> = vec![
        Box::new(HashMap::with_capacity(0)),
        Box::new(HashMap::with_capacity(100_000)),
        Box::new(ShardedMap::new(1, 64)),
    ];
    stores.extend([2, 7, 8, 1000].map(|shards| with_shards(shards, 64)));
    stores
}

/// Gives `key` a value without an expiry.
fn set(store: &dyn InMemStore, key: &[u8], value: &[u8]) {
    store.set(Entry::new(key, value, None));
}

fn value(store: &dyn InMemStore, key: &[u8]) -> Option<Vec<u8>> {
    store.get(key).map(|entry| entry.value().to_vec())
}

/// What a store holds of a key: its value, and when it expires.
type Held = (Vec<u8>, Option<Timestamp>);

fn contents(store: &dyn InMemStore) -> BTreeMap<Vec<u8>, Held> {
    let mut found = BTreeMap::new();
    for entry in (0..store.table_count()).flat_map(|index| store.table(index)) {
        let held = (entry.value().to_vec(), entry.expires());
        let before = found.insert(entry.key().to_vec(), held);
        assert!(before.is_none(), "{entry:?} lies in two places");
    }
    found
}

fn sweep_all(store: &dyn InMemStore, now: Timestamp) -> usize {
    let due = (0..store.table_count()).filter(|&index| store.is_due(index, now));
    due.map(|index| store.sweep(index, now)).sum()
}

#[test]
fn a_value_is_there_from_set_to_del() {
    for store in stores() {
        assert_eq!(store.get(b"k"), None);
        set(&*store, b"k", b"v");
        assert_eq!(value(&*store, b"k").unwrap(), b"v");
        assert_eq!(store.del(b"k").unwrap().value(), b"v");
        assert_eq!(store.del(b"k"), None);
        assert_eq!(store.get(b"k"), None);
        assert!(store.is_empty());
    }
}

#[test]
fn to_warm_keys_changes_nothing_and_waits_for_nobody_who_changes_some() {
    for store in stores() {
        (0..1000_u32).for_each(|n| set(&*store, &n.to_le_bytes(), b"v"));
        let before = contents(&*store);
        let keys: Vec<_> = (900..1100_u32).map(u32::to_le_bytes).collect();
        let keys: Vec<_> = keys.iter().chain(&keys).map(<[u8; 4]>::as_slice).collect();
        store.warm(&[]);
        store.warm(&keys);
        assert_eq!(contents(&*store), before);
        // Under the lock that whoever changes a key holds.
        let mut warmed = false;
        store.change_in_place(&900_u32.to_le_bytes(), &mut |_| {
            store.warm(&keys);
            warmed = true;
        });
        assert!(warmed);
        assert_eq!(contents(&*store), before);
    }
}

#[test]
fn each_of_many_keys_is_found_as_it_would_be_by_itself() {
    // So many that some have others before them whose hashes look the same.
    const KEYS: u32 = 100_000;
    for store in [with_shards(1, 0), with_shards(8, 0)] {
        (0..KEYS).for_each(|n| set(&*store, &n.to_le_bytes(), &n.to_be_bytes()));
        assert!(store.get_each(&[]).is_empty());
        let keys: Vec<_> = (0..KEYS + 100).map(u32::to_le_bytes).collect();
        // As many as are fetched together, and more; with one that comes twice and one that is not there.
        for some in keys.chunks(13).chain(keys.chunks(1000).take(3)) {
            let mut asked: Vec<_> = some.iter().map(<[u8; 4]>::as_slice).collect();
            asked.extend([&b"\0\0\0\0"[..], b"none", b"\0\0\0\0"]);
            let found = store.get_each(&asked);
            assert_eq!(found.len(), asked.len());
            for (entry, key) in found.into_iter().zip(asked) {
                assert_eq!(entry, store.get(key), "{key:?}");
            }
        }
    }
}

#[test]
fn set_replaces_and_counts_once() {
    for store in stores() {
        set(&*store, b"k", b"a long first value");
        let replaced = store.set(Entry::new(b"k", b"", None));
        assert_eq!(replaced.unwrap().value(), b"a long first value");
        assert_eq!(value(&*store, b"k").unwrap(), b"");
        assert_eq!(store.len(), 1);
    }
}

#[test]
fn keys_and_values_are_any_bytes() {
    for store in stores() {
        let keys = [&b""[..], b"\0", b"\xff\xfe", b"a b\nc", &[7; 100_000]];
        for key in keys {
            set(&*store, key, key);
        }
        for key in keys {
            assert_eq!(value(&*store, key).unwrap(), key);
        }
        assert_eq!(store.len(), keys.len());
    }
}

#[test]
fn a_pair_is_what_both_keys_had_at_one_moment() {
    for store in stores() {
        let store = &*store;
        let keys: Vec<_> = (0..20_u8).map(|n| [n]).collect();
        for key in &keys {
            set(store, key, key);
        }
        for (one, two) in keys.iter().zip(keys.iter().rev()) {
            let (first, second) = store.get_pair(one, two);
            assert_eq!(first.unwrap().value(), one);
            assert_eq!(second.unwrap().value(), two);
        }
        let (there, absent) = store.get_pair(&keys[0], b"absent");
        assert!(there.is_some() && absent.is_none());
        set(store, b"a", &0_u32.to_le_bytes());
        set(store, b"b", &0_u32.to_le_bytes());
        let number =
            |entry: Option<Entry>| u32::from_le_bytes(entry.unwrap().value().try_into().unwrap());
        let written = AtomicBool::new(false);
        thread::scope(|scope| {
            let (written, number) = (&written, &number);
            for _ in 0..2 {
                scope.spawn(move || {
                    while !written.load(Ordering::Relaxed) {
                        // The second is written after the first, and read in either order.
                        let (one, two) = store.get_pair(b"a", b"b");
                        let (one, two) = (number(one), number(two));
                        assert!(one == two || one == two + 1, "{one} {two}");
                        let (two, one) = store.get_pair(b"b", b"a");
                        let (one, two) = (number(one), number(two));
                        assert!(one == two || one == two + 1, "{one} {two}");
                    }
                });
            }
            for n in 1..5_000_u32 {
                set(store, b"a", &n.to_le_bytes());
                set(store, b"b", &n.to_le_bytes());
            }
            written.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn a_key_is_read_however_many_hold_its_entry() {
    for store in stores() {
        for (key, len) in [(b"a", 5), (b"b", 300)] {
            set(&*store, key, &vec![1; len]);
        }
        let held: Vec<_> = (0..70_000)
            .map(|_| (store.get(b"a"), store.get(b"b")))
            .collect();
        let (a, b) = store.get_pair(b"a", b"b");
        assert_eq!(
            (a.unwrap().value(), b.unwrap().value()),
            (&[1; 5][..], &[1; 300][..])
        );
        set(&*store, b"a", b"new");
        assert!(
            held.iter()
                .flat_map(|(a, _)| a)
                .all(|entry| entry.value() == [1; 5])
        );
        assert!(
            held.iter()
                .flat_map(|(_, b)| b)
                .all(|entry| entry.value() == [1; 300])
        );
        assert_eq!(value(&*store, b"a").unwrap(), b"new");
    }
}

#[test]
fn a_value_that_was_read_survives_what_happens_to_its_key() {
    for store in stores() {
        set(&*store, b"k", b"old");
        let old = store.get(b"k").unwrap();
        assert!(!store.change_in_place(b"k", &mut |value| value.fill(b'x')));
        set(&*store, b"k", b"new");
        store.del(b"k");
        assert_eq!(old.value(), b"old");
    }
}

#[test]
fn a_value_that_nobody_reads_is_changed_where_it_lies() {
    for store in stores() {
        set(&*store, b"k", b"old");
        assert!(store.change_in_place(b"k", &mut |value| value.fill(b'x')));
        assert_eq!(value(&*store, b"k").unwrap(), b"xxx");
        assert!(!store.change_in_place(b"other", &mut |value| value.fill(b'x')));
    }
}

#[test]
fn only_what_has_expired_is_swept_and_it_is_counted_out() {
    for store in stores() {
        for n in 0..1000_u64 {
            let expires = (n % 2 == 0).then_some(Timestamp(n));
            store.set(Entry::new(&n.to_le_bytes(), b"v", expires));
        }
        assert_eq!((store.len(), store.expiring()), (1000, 500));
        assert_eq!(sweep_all(&*store, Timestamp(499)), 250);
        assert_eq!((store.len(), store.expiring()), (750, 250));
        assert_eq!(sweep_all(&*store, Timestamp(499)), 0);
        assert_eq!(sweep_all(&*store, Timestamp(u64::MAX)), 250);
        assert_eq!((store.len(), store.expiring()), (500, 0));
    }
}

#[test]
fn an_emptied_store_holds_nothing_and_can_be_filled_again() {
    for store in stores() {
        for n in 0..3000_u64 {
            store.set(Entry::new(&n.to_le_bytes(), b"v", Some(Timestamp(n))));
        }
        store.clear();
        assert_eq!((store.len(), store.expiring()), (0, 0));
        assert!(contents(&*store).is_empty());
        set(&*store, b"k", b"v");
        assert_eq!(store.len(), 1);
    }
}

#[test]
fn walking_the_tables_meets_every_key_once() {
    for store in stores() {
        for n in 0..5000 {
            set(&*store, format!("{n}").as_bytes(), b"v");
        }
        assert_eq!(contents(&*store).len(), 5000);
        assert!(store.table(store.table_count()).is_empty());
    }
}

#[test]
fn readers_beside_the_writer_see_whole_values() {
    for store in stores() {
        set(&*store, b"k", &[0; 300]);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let readers = [0; 3].map(|_| {
                scope.spawn(|| {
                    let mut reads = 0_u64;
                    while !done.load(Ordering::Relaxed) || reads == 0 {
                        let entry = store.get(b"k").expect("the key is never removed");
                        let bytes = entry.value();
                        assert!(bytes.len() == 300 && bytes.iter().all(|b| *b == bytes[0]));
                        reads += 1;
                    }
                })
            });
            for n in 0..3000_u32 {
                if n % 3 == 0 {
                    store.change_in_place(b"k", &mut |value| value.fill(n as u8));
                } else {
                    set(&*store, b"k", &[n as u8; 300]);
                }
                set(
                    &*store,
                    format!("other {n}").as_bytes(),
                    b"makes the tables grow",
                );
            }
            done.store(true, Ordering::Relaxed);
            for reader in readers {
                reader.join().unwrap();
            }
        });
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set(Vec<u8>, Held),
    Del(Vec<u8>),
    Sweep(Timestamp),
    Clear,
    /// Gives back room.
    Fit,
    /// Notes what is there.
    Freeze,
    /// Takes what the next tables held.
    Take(usize),
    /// Changes the first byte of a value where it lies, if that can be done.
    Change(Vec<u8>, u8),
}

/// Enough for all tables of a store to be taken in the midst of a history.
const TABLES_AT_ONCE: usize = 20_000;

/// A frozen store: what it held, and what was taken of it.
#[derive(Default)]
struct Frozen {
    held: BTreeMap<Vec<u8>, Held>,
    taken: BTreeMap<Vec<u8>, Held>,
    next: usize,
}

impl Frozen {
    fn take(&mut self, store: &dyn InMemStore, count: usize) {
        let end = store.table_count().min(self.next.saturating_add(count));
        for entry in (self.next..end).flat_map(|index| store.take_frozen(index)) {
            let held = (entry.value().to_vec(), entry.expires());
            assert!(self.taken.insert(entry.key().to_vec(), held).is_none());
        }
        self.next = end;
    }

    /// Takes what is left: all of it must be what the store held.
    fn finish(mut self, store: &dyn InMemStore) {
        self.take(store, usize::MAX);
        store.thaw();
        assert_eq!(self.taken, self.held);
    }
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop::collection::vec(0_u8..4, 0..3);
    let expires = prop::option::of((0..100_u64).prop_map(Timestamp));
    let held = (prop::collection::vec(any::<u8>(), 0..200), expires);
    prop_oneof![
        8 => (key(), held).prop_map(|(key, held)| Step::Set(key, held)),
        8 => key().prop_map(Step::Del),
        2 => (0..100_u64).prop_map(|now| Step::Sweep(Timestamp(now))),
        1 => Just(Step::Clear),
        1 => Just(Step::Fit),
        1 => Just(Step::Freeze),
        3 => (0..TABLES_AT_ONCE).prop_map(Step::Take),
        4 => (key(), any::<u8>()).prop_map(|(key, byte)| Step::Change(key, byte)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn any_history_leaves_what_it_leaves_in_a_plain_model(steps in prop::collection::vec(step(), 0..100)) {
        for store in stores() {
            let mut model: BTreeMap<Vec<u8>, Held> = BTreeMap::new();
            let mut frozen: Option<Frozen> = None;
            for step in &steps {
                match step {
                    Step::Set(key, (value, expires)) => {
                        store.set(Entry::new(key, value, *expires));
                        model.insert(key.clone(), (value.clone(), *expires));
                    }
                    Step::Del(key) => {
                        prop_assert_eq!(store.del(key).is_some(), model.remove(key).is_some());
                    }
                    Step::Sweep(now) => {
                        let before = model.len();
                        model.retain(|_, (_, expires)| expires.is_none_or(|at| *now < at));
                        prop_assert_eq!(sweep_all(&*store, *now), before - model.len());
                    }
                    Step::Clear => {
                        store.clear();
                        model.clear();
                    }
                    Step::Fit => store.fit(),
                    Step::Freeze => {
                        if let Some(frozen) = frozen.take() {
                            frozen.finish(&*store);
                        }
                        store.freeze();
                        frozen = Some(Frozen { held: model.clone(), ..Frozen::default() });
                    }
                    Step::Take(count) => {
                        if let Some(frozen) = &mut frozen {
                            frozen.take(&*store, *count);
                        }
                    }
                    Step::Change(key, byte) => {
                        let changed = store.change_in_place(key, &mut |value| {
                            value.iter_mut().take(1).for_each(|first| *first = *byte);
                        });
                        if let Some((value, _)) = model.get_mut(key).filter(|_| changed) {
                            value.iter_mut().take(1).for_each(|first| *first = *byte);
                        }
                    }
                }
                prop_assert_eq!(store.len(), model.len());
                let memory = model.iter().map(|(key, (value, expires))| {
                    Entry::new(key, value, *expires).memory()
                });
                prop_assert_eq!(store.bytes(), memory.sum::<usize>());
                let expiring = model.values().filter(|(_, expires)| expires.is_some());
                prop_assert_eq!(store.expiring(), expiring.count());
            }
            if let Some(frozen) = frozen {
                frozen.finish(&*store);
            }
            prop_assert_eq!(contents(&*store), model);
        }
    }
}
