//! Looking keys up and putting them in.

use std::cell::LazyCell;
use std::hint::black_box;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput};
use postres::store::{Entry, InMemStore, WARM_AT_ONCE};
use smallvec::SmallVec;

use super::input::{Input, Key, empty_store};
use super::measure;

/// The default of `-shards`.
const SHARDS: usize = 8;

/// New keys that a store gets before they are taken out again, so that it does not grow for as
/// long as it is measured.
const NEW_AT_ONCE: usize = 10_000;

/// A benchmark that is left out makes no store.
type Lazy<'a> = dyn Deref<Target = Arc<dyn InMemStore>> + 'a;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

pub(crate) fn measure_all(criterion: &mut Criterion, input: &Input) {
    for (name, shards) in [("store/hash_map", 1), ("store/sharded_map", SHARDS)] {
        let mut group = criterion.benchmark_group(name);
        let store = LazyCell::new(|| input.store(shards, None));
        get(&mut group, &store, "get_hit", &input.asked, true);
        get(&mut group, &store, "get_miss", &input.absent, false);
        get_each(&mut group, &store, &input.asked);
        set_existing(&mut group, &store, input);
        set_new(&mut group, &store, input);
        drop(store);
        let store = LazyCell::new(|| turned_over(input.store(shards, None), input));
        get(
            &mut group,
            &store,
            "turned_over/get_hit",
            &input.asked,
            true,
        );
        get(
            &mut group,
            &store,
            "turned_over/get_miss",
            &input.absent,
            false,
        );
        come_and_go(&mut group, &store, input);
        drop(store);
        fill(&mut group, shards, input);
        group.finish();
    }
}

/// One key after the other, as a client without a pipeline asks for them.
fn get(group: &mut Group<'_>, store: &Lazy<'_>, name: &str, keys: &[Key], is_there: bool) {
    let mut keys = keys.iter().cycle();
    group.bench_function(name, |bencher| {
        let store = &**store;
        let found = keys.next().and_then(|key| store.get(key));
        assert_eq!(found.is_some(), is_there, "{name}");
        measure::each(bencher, || store.get(keys.next()?));
    });
}

/// The keys of a pipeline's stretch of GETs, as `server::reads` looks them up.
fn get_each(group: &mut Group<'_>, store: &Lazy<'_>, keys: &[Key]) {
    let mut stretches = keys.chunks_exact(WARM_AT_ONCE).cycle();
    group.throughput(Throughput::Elements(WARM_AT_ONCE as u64));
    group.bench_function("get_each_16", |bencher| {
        let store = &**store;
        let mut replies = Vec::new();
        measure::each(bencher, || {
            replies.clear();
            let keys = stretches.next().unwrap_or_default();
            let keys: SmallVec<[&[u8]; WARM_AT_ONCE]> = keys.iter().map(|key| &key[..]).collect();
            for entry in store.get_each(&keys) {
                // As it is encoded: all of it is read.
                replies.extend_from_slice(entry.as_ref().map_or(&[], Entry::value));
            }
            black_box(&replies);
        });
    });
    group.throughput(Throughput::Elements(1));
}

/// With the making of the entry, and the freeing of the one that it replaces.
fn set_existing(group: &mut Group<'_>, store: &Lazy<'_>, input: &Input) {
    let mut keys = input.asked.iter().cycle();
    let mut values = input.values.iter().cycle();
    let mut replaced =
        move |store: &dyn InMemStore| store.set(Entry::new(keys.next()?, values.next()?, None));
    group.bench_function("set_existing", |bencher| {
        let store = &**store;
        assert!(replaced(&**store).is_some(), "a key is not there");
        measure::each(bencher, || replaced(&**store));
        assert_eq!(store.len(), input.present.len());
    });
}

/// With the making of the entry. Tables hardly ever grow here: see [`fill`].
fn set_new(group: &mut Group<'_>, store: &Lazy<'_>, input: &Input) {
    let mut keys = input.absent.chunks(NEW_AT_ONCE).cycle();
    group.bench_function("set_new", |bencher| {
        let store = &**store;
        bencher.iter_custom(|iterations| {
            let mut left = usize::try_from(iterations * measure::times()).unwrap_or(usize::MAX);
            let mut spent = Duration::ZERO;
            while left > 0 {
                let keys = keys.next().unwrap_or_default();
                let keys = keys.get(..left).unwrap_or(keys);
                left -= keys.len();
                let begun = Instant::now();
                for (key, value) in keys.iter().zip(input.values.iter().cycle()) {
                    black_box(store.set(Entry::new(key, value, None)));
                }
                spent += begun.elapsed();
                assert_eq!(store.len(), input.present.len() + keys.len());
                keys.iter().for_each(|key| drop(store.del(key)));
            }
            spent
        });
    });
}

/// Keys in whose place others are put, in no order, until they are back: each twice, in all.
fn successions(input: &Input) -> impl Iterator<Item = (&Key, &Key)> + Clone {
    let gone = input.asked.iter().zip(&input.absent);
    let back = input.absent.iter().zip(&input.asked);
    gone.chain(back)
}

/// A store as it is where keys come and go at one number of them.
fn turned_over(store: Arc<dyn InMemStore>, input: &Input) -> Arc<dyn InMemStore> {
    for ((gone, new), value) in successions(input).zip(input.values.iter().cycle()) {
        drop(store.del(gone));
        store.set(Entry::new(new, value, None));
    }
    store
}

/// A key goes, another comes.
fn come_and_go(group: &mut Group<'_>, store: &Lazy<'_>, input: &Input) {
    let mut keys = successions(input).cycle();
    let mut values = input.values.iter().cycle();
    let mut next = move |store: &dyn InMemStore| {
        let (gone, new) = keys.next()?;
        let there = store.del(gone);
        store.set(Entry::new(new, values.next()?, None));
        there
    };
    group.bench_function("turned_over/del_and_set_new", |bencher| {
        let store = &**store;
        assert!(next(&**store).is_some(), "a key is not there");
        measure::each(bencher, || next(&**store));
        assert_eq!(store.len(), input.present.len());
    });
}

/// All keys into an empty store: as `set_new`, with the tables' growth and memory that comes anew
/// from the system. One iteration is all of that, also where a number of iterations is asked for.
fn fill(group: &mut Group<'_>, shards: usize, input: &Input) {
    group.throughput(Throughput::Elements(input.present.len() as u64));
    // Few and long: one iteration is a million keys.
    group.sample_size(10);
    group.sampling_mode(SamplingMode::Flat);
    group.measurement_time(Duration::from_secs(10));
    group.bench_function("fill", |bencher| {
        bencher.iter_batched_ref(
            || empty_store(shards),
            |store| {
                for (key, value) in input.pairs() {
                    black_box(store.set(Entry::new(key, value, None)));
                }
            },
            BatchSize::PerIteration,
        );
    });
}
