//! Applying: what an operation costs once it is durable, and again at every start.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use postres::command::{Applier, Deadline, ExpireCondition, Operation, Reply, Rest};
use postres::store::{Entry, InMemStore, WARM_AT_ONCE};
use postres::time::Timestamp;
use smallvec::SmallVec;

use super::input::{Input, Key, Random, empty_store};
use super::measure;

/// The default of `-shards`.
const SHARDS: usize = 8;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// Long after any expiry that is set here.
const LATER: Timestamp = Timestamp(2 * NOW.0);
const HOUR: i64 = 3_600_000;

pub(crate) fn measure_all(criterion: &mut Criterion, input: &Input) {
    let mut values = input.values.iter().cycle();
    let mut set = |key| Operation::Set {
        key,
        value: Rest(values.next().map_or(&[], |value| value)),
    };
    let no_expiry = || input.store(SHARDS, None);
    one(criterion, "set", &input.asked, no_expiry, &mut set);
    warmed(criterion, &input.asked, no_expiry, &mut set);
    let numbers = || numbers(&input.present);
    one(criterion, "incr", &input.asked, numbers, |key| {
        Operation::IncrBy { key, by: 1 }
    });
    let long_expiry = || input.store(SHARDS, Some(LATER));
    let mut hours = (1..=24).cycle();
    one(criterion, "expire", &input.asked, long_expiry, |key| {
        Operation::Expire {
            key,
            at: Deadline::In(hours.next().unwrap_or(1) * HOUR),
            condition: ExpireCondition::Always,
        }
    });
}

/// A store whose values are numbers of up to ten digits.
fn numbers(keys: &[Key]) -> Arc<dyn InMemStore> {
    let store = empty_store(SHARDS);
    let mut random = Random::new();
    for key in keys {
        let number = random.number() >> 31;
        store.set(Entry::new(key, number.to_string().as_bytes(), None));
    }
    store
}

/// An applier, and where in the log it is.
#[derive(Debug)]
struct Applying {
    applier: Applier,
    store: Arc<dyn InMemStore>,
    position: u64,
}

impl Applying {
    fn new(store: Arc<dyn InMemStore>) -> Self {
        let applier = Applier::new(Arc::clone(&store), Arc::default(), Arc::default());
        Self {
            applier,
            store,
            position: 0,
        }
    }

    fn apply(&mut self, operation: &Operation<'_>) -> Reply {
        self.position += 1;
        self.applier.apply(operation, self.position, NOW)
    }
}

/// Operations on keys that are there, one after the other.
fn one<'a>(
    criterion: &mut Criterion,
    name: &str,
    keys: &'a [Key],
    store: impl Fn() -> Arc<dyn InMemStore>,
    mut operation: impl FnMut(&'a [u8]) -> Operation<'a>,
) {
    let mut group = criterion.benchmark_group("apply");
    let mut keys = keys.iter().cycle();
    let mut applying = None;
    group.bench_function(name, |bencher| {
        let applying = applying.get_or_insert_with(|| Applying::new(store()));
        let keys_before = applying.store.len();
        let mut next = || Some(applying.apply(&operation(keys.next()?)));
        let first = next();
        let done = matches!(first, Some(Reply::Ok | Reply::Integer(1..)));
        assert!(done, "{name} gives {first:?}");
        measure::each(bencher, next);
        assert_eq!(applying.store.len(), keys_before);
    });
    group.finish();
}

/// SETs as a group of the log brings them: the keys of 16 of them are looked at together before
/// the first is applied, as `engine::ahead` does it.
fn warmed<'a>(
    criterion: &mut Criterion,
    keys: &'a [Key],
    store: impl Fn() -> Arc<dyn InMemStore>,
    mut operation: impl FnMut(&'a [u8]) -> Operation<'a>,
) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(WARM_AT_ONCE as u64));
    let mut stretches = keys.chunks_exact(WARM_AT_ONCE).cycle();
    let mut applying = None;
    group.bench_function("warm_and_set_16", |bencher| {
        let applying = applying.get_or_insert_with(|| Applying::new(store()));
        measure::each(bencher, || {
            let keys = stretches.next().unwrap_or_default();
            let keys: SmallVec<[&[u8]; WARM_AT_ONCE]> = keys.iter().map(|key| &key[..]).collect();
            applying.store.warm(&keys);
            for key in keys {
                black_box(applying.apply(&operation(key)));
            }
        });
    });
    group.finish();
}
