//! One conformance suite over every store, and against a plain model.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;

use super::{HashMap, InMemStore, ShardedMap, with_shards};

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

fn contents(store: &dyn InMemStore) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in (0..store.table_count()).flat_map(|index| store.table(index)) {
        let before = found.insert(entry.key().to_vec(), entry.value().to_vec());
        assert!(before.is_none(), "{entry:?} lies in two places");
    }
    found
}

#[test]
fn a_value_is_there_from_set_to_del() {
    for store in stores() {
        assert_eq!(store.get(b"k"), None);
        assert!(!store.contains(b"k"));
        store.set(b"k", b"v");
        assert_eq!(store.get(b"k").unwrap().as_ref(), b"v");
        assert!(store.contains(b"k"));
        assert!(store.del(b"k"));
        assert!(!store.del(b"k"));
        assert_eq!(store.get(b"k"), None);
        assert!(store.is_empty());
    }
}

#[test]
fn set_replaces_and_counts_once() {
    for store in stores() {
        store.set(b"k", b"a long first value");
        store.set(b"k", b"");
        assert_eq!(store.get(b"k").unwrap().as_ref(), b"");
        assert_eq!(store.len(), 1);
    }
}

#[test]
fn keys_and_values_are_any_bytes() {
    for store in stores() {
        let keys = [&b""[..], b"\0", b"\xff\xfe", b"a b\nc", &[7; 100_000]];
        for key in keys {
            store.set(key, key);
        }
        for key in keys {
            assert_eq!(store.get(key).unwrap().as_ref(), key);
        }
        assert_eq!(store.len(), keys.len());
    }
}

#[test]
fn a_value_that_was_read_survives_what_happens_to_its_key() {
    for store in stores() {
        store.set(b"k", b"old");
        let old = store.get(b"k").unwrap();
        store.set(b"k", b"new");
        assert!(store.del(b"k"));
        assert_eq!(old.as_ref(), b"old");
    }
}

#[test]
fn walking_the_tables_meets_every_key_once() {
    for store in stores() {
        for n in 0..5000 {
            store.set(format!("{n}").as_bytes(), b"v");
        }
        assert_eq!(contents(&*store).len(), 5000);
        assert!(store.table(store.table_count()).is_empty());
    }
}

#[test]
fn readers_beside_the_writer_see_whole_values() {
    for store in stores() {
        store.set(b"k", &[0; 300]);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let readers = [0; 3].map(|_| {
                scope.spawn(|| {
                    let mut reads = 0_u64;
                    while !done.load(Ordering::Relaxed) || reads == 0 {
                        let value = store.get(b"k").expect("the key is never removed");
                        let bytes = value.as_ref();
                        assert!(bytes.len() == 300 && bytes.iter().all(|b| *b == bytes[0]));
                        reads += 1;
                    }
                })
            });
            for n in 0..3000_u32 {
                store.set(b"k", &[n as u8; 300]);
                store.set(format!("other {n}").as_bytes(), b"makes the tables grow");
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
    Set(Vec<u8>, Vec<u8>),
    Del(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop::collection::vec(0_u8..4, 0..3);
    prop_oneof![
        (key(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(k, v)| Step::Set(k, v)),
        key().prop_map(Step::Del),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn any_history_leaves_what_it_leaves_in_a_plain_model(steps in prop::collection::vec(step(), 0..200)) {
        for store in stores() {
            let mut model = BTreeMap::new();
            for step in &steps {
                match step {
                    Step::Set(key, value) => {
                        store.set(key, value);
                        model.insert(key.clone(), value.clone());
                    }
                    Step::Del(key) => prop_assert_eq!(store.del(key), model.remove(key).is_some()),
                }
                prop_assert_eq!(store.len(), model.len());
            }
            prop_assert_eq!(contents(&*store), model);
        }
    }
}
