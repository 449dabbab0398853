//! Counters and histograms that cost next to nothing to keep.
//!
//! Each thread counts in a shard of its own that nobody else writes, so to count is to load and to
//! store, and no two threads fight over a line of their caches. Whoever wants to know adds up all
//! shards. A thread that ends leaves its shard, and what it has counted, to the next.
//!
//! To begin anew ([`Metrics::reset`]) is to remember what was counted so far and to tell only what
//! came on top: nobody else's shard is written.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

/// What is counted beside commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "INFO has them under these names")]
pub enum Counter {
    ConnectionsReceived,
    ConnectionsRejected,
    CommandsProcessed,
    InputBytes,
    OutputBytes,
    Reads,
    Writes,
    KeyspaceHits,
    KeyspaceMisses,
    /// Wrong passwords.
    AuthDenied,
    /// Commands of clients that had not given a password.
    CommandDenied,
    /// Monitors that were too slow.
    OutputLimit,
}

/// A command that was carried out, so many times one behind the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Its number.
    pub command: usize,
    /// How many times.
    pub count: u64,
    /// How long that took in all. Of several each counts as if it had taken as long as the others.
    pub took: Duration,
    /// How many of the replies are errors.
    pub failed: u64,
    /// How many keys were found.
    pub hits: u64,
    /// How many were looked for and not found.
    pub misses: u64,
}

impl Calls {
    /// These, and others of the same command behind them.
    pub fn and(self, others: Self) -> Self {
        Self {
            command: others.command,
            count: self.count + others.count,
            took: self.took + others.took,
            failed: self.failed + others.failed,
            hits: self.hits + others.hits,
            misses: self.misses + others.misses,
        }
    }

    /// How long one of them took, on average.
    pub fn each(&self) -> Duration {
        // Most are one, which need not be divided.
        if self.count == 1 {
            return self.took;
        }
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        self.took.checked_div(count).unwrap_or_default()
    }
}

const COUNTERS: usize = Counter::OutputLimit as usize + 1;

/// Texts of errors that are told apart, at most, by each thread.
const MAX_ERROR_CODES: usize = 128;

/// The longest time that has a bucket of its own is below 2^34 ns, 17 s.
const OCTAVES: usize = 24;

/// The exponent of the first octave: what took less than 1.024 us is in the bucket before it.
const FIRST_OCTAVE: usize = 10;

/// Buckets of an octave.
const PARTS: usize = 4;

const BUCKETS: usize = 1 + OCTAVES * PARTS;

/// Counters, and what each of a number of commands took.
#[derive(Debug)]
pub struct Metrics {
    shards: Arc<Shards>,
    /// What had been counted when the last reset came.
    before: Mutex<Totals>,
}

#[derive(Debug)]
struct Shards {
    commands: usize,
    all: Mutex<Vec<Arc<Shard>>>,
    /// Those of `all` whose thread has ended.
    free: Mutex<Vec<Arc<Shard>>>,
}

/// What one thread has counted. Only that thread writes it, but for `errors`.
#[derive(Debug)]
struct Shard {
    counters: [AtomicU64; COUNTERS],
    commands: Box<[OnceLock<Box<Tally>>]>,
    errors: Mutex<BTreeMap<String, u64>>,
}

#[derive(Debug)]
struct Tally {
    calls: AtomicU64,
    nanos: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// A thread's hold on its shard.
struct Lease {
    shards: Arc<Shards>,
    shard: Arc<Shard>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shards.free.lock().push(Arc::clone(&self.shard));
    }
}

thread_local! {
    static MINE: RefCell<Option<Lease>> = const { RefCell::new(None) };
}

impl Metrics {
    /// Counts nothing yet; commands have the numbers below `commands`.
    pub fn new(commands: usize) -> Self {
        Self {
            shards: Arc::new(Shards {
                commands,
                all: Mutex::default(),
                free: Mutex::default(),
            }),
            before: Mutex::default(),
        }
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, by: u64) {
        self.add_all([(counter, by)]);
    }

    /// Adds to several counters.
    pub fn add_all<const N: usize>(&self, counted: [(Counter, u64); N]) {
        self.with_shard(|shard| {
            for (counter, by) in counted {
                shard.add(counter, by);
            }
        });
    }

    /// A command was carried out.
    pub fn executed(&self, calls: &Calls) {
        let nanos = |took: Duration| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.with_shard(|shard| {
            let Some(tally) = shard.tally(calls.command) else {
                return;
            };
            bump(&tally.calls, calls.count);
            bump(&tally.nanos, nanos(calls.took));
            if let Some(bucket) = tally.buckets.get(bucket_of(nanos(calls.each()))) {
                bump(bucket, calls.count);
            }
            shard.add(Counter::CommandsProcessed, calls.count);
            if calls.failed > 0 {
                bump(&tally.failed, calls.failed);
            }
            if calls.hits > 0 {
                shard.add(Counter::KeyspaceHits, calls.hits);
            }
            if calls.misses > 0 {
                shard.add(Counter::KeyspaceMisses, calls.misses);
            }
        });
    }

    /// A command was refused before it was carried out.
    pub fn rejected(&self, command: usize) {
        self.with_shard(|shard| {
            if let Some(tally) = shard.tally(command) {
                bump(&tally.rejected, 1);
            }
        });
    }

    /// An error with this code, its first word, was told.
    pub fn error(&self, code: &str) {
        self.with_shard(|shard| {
            let mut errors = shard.errors.lock();
            if let Some(count) = errors.get_mut(code) {
                *count += 1;
            } else if errors.len() < MAX_ERROR_CODES {
                errors.insert(code.to_owned(), 1);
            }
        });
    }

    /// What was counted since the last reset.
    pub fn totals(&self) -> Totals {
        let mut totals = self.all();
        totals.subtract(&self.before.lock());
        totals
    }

    /// Counts from nothing.
    pub fn reset(&self) {
        *self.before.lock() = self.all();
    }

    /// A counter's sum, whether or not there was a reset.
    pub fn ever(&self, counter: Counter) -> u64 {
        let shards = self.shards.all.lock();
        let counters = shards.iter().filter_map(|shard| {
            let counter = shard.counters.get(counter as usize)?;
            Some(counter.load(Ordering::Relaxed))
        });
        counters.sum()
    }

    fn all(&self) -> Totals {
        let mut totals = Totals::default();
        totals
            .commands
            .resize_with(self.shards.commands, CommandTotals::default);
        for shard in self.shards.all.lock().iter() {
            totals.add(shard);
        }
        totals
    }

    fn with_shard(&self, count: impl FnOnce(&Shard)) {
        // A thread that is about to end may not have its shard any more: that goes uncounted.
        let _ = MINE.try_with(|mine| {
            let mut mine = mine.borrow_mut();
            let lease = match &mut *mine {
                Some(lease) if Arc::ptr_eq(&lease.shards, &self.shards) => lease,
                other => other.insert(self.lease()),
            };
            count(&lease.shard);
        });
    }

    fn lease(&self) -> Lease {
        let left = self.shards.free.lock().pop();
        let shard = left.unwrap_or_else(|| {
            let shard = Arc::new(Shard {
                counters: [const { AtomicU64::new(0) }; COUNTERS],
                commands: (0..self.shards.commands).map(|_| OnceLock::new()).collect(),
                errors: Mutex::default(),
            });
            self.shards.all.lock().push(Arc::clone(&shard));
            shard
        });
        Lease {
            shards: Arc::clone(&self.shards),
            shard,
        }
    }
}

/// Only the thread whose shard it is in does this, so nothing is lost between load and store.
fn bump(counter: &AtomicU64, by: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(by);
    counter.store(sum, Ordering::Relaxed);
}

impl Shard {
    fn add(&self, counter: Counter, by: u64) {
        if let Some(counter) = self.counters.get(counter as usize) {
            bump(counter, by);
        }
    }

    fn tally(&self, command: usize) -> Option<&Tally> {
        let slot = self.commands.get(command)?;
        Some(slot.get_or_init(|| {
            Box::new(Tally {
                calls: AtomicU64::new(0),
                nanos: AtomicU64::new(0),
                rejected: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                buckets: [const { AtomicU64::new(0) }; BUCKETS],
            })
        }))
    }
}

fn bucket_of(nanos: u64) -> usize {
    let Some(exponent) = nanos.checked_ilog2() else {
        return 0;
    };
    let exponent = exponent as usize;
    if exponent < FIRST_OCTAVE {
        return 0;
    }
    let part = (nanos >> (exponent - 2)) as usize & (PARTS - 1);
    let bucket = 1 + (exponent - FIRST_OCTAVE) * PARTS + part;
    bucket.min(BUCKETS - 1)
}

/// The time, in nanoseconds, below which all of a bucket lies.
fn end_of(bucket: usize) -> u64 {
    let Some(bucket) = bucket.checked_sub(1) else {
        return 1 << FIRST_OCTAVE;
    };
    let exponent = FIRST_OCTAVE + bucket / PARTS;
    ((PARTS + bucket % PARTS + 1) as u64) << (exponent - 2)
}

/// Sums over all threads.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    counters: [u64; COUNTERS],
    commands: Vec<CommandTotals>,
    errors: BTreeMap<String, u64>,
}

/// What is known of one command.
#[derive(Debug, Clone)]
pub struct CommandTotals {
    /// How often it was carried out.
    pub calls: u64,
    /// How long that took in all, in nanoseconds.
    pub nanos: u64,
    /// How often it was refused before it was carried out.
    pub rejected: u64,
    /// How often it was carried out and failed.
    pub failed: u64,
    buckets: [u64; BUCKETS],
}

impl Default for CommandTotals {
    fn default() -> Self {
        Self {
            calls: 0,
            nanos: 0,
            rejected: 0,
            failed: 0,
            buckets: [0; BUCKETS],
        }
    }
}

impl Totals {
    /// A counter's sum.
    pub fn of(&self, counter: Counter) -> u64 {
        self.counters
            .get(counter as usize)
            .copied()
            .unwrap_or_default()
    }

    /// What is known of each command, by its number.
    pub fn commands(&self) -> &[CommandTotals] {
        &self.commands
    }

    /// How often each code of an error was told.
    pub fn errors(&self) -> impl Iterator<Item = (&str, u64)> {
        let told = self.errors.iter().filter(|(_, count)| **count > 0);
        told.map(|(code, &count)| (code.as_str(), count))
    }

    fn add(&mut self, shard: &Shard) {
        for (sum, counter) in self.counters.iter_mut().zip(&shard.counters) {
            *sum = sum.wrapping_add(counter.load(Ordering::Relaxed));
        }
        for (sum, tally) in self.commands.iter_mut().zip(&shard.commands) {
            let Some(tally) = tally.get() else {
                continue;
            };
            sum.calls += tally.calls.load(Ordering::Relaxed);
            sum.nanos = sum.nanos.wrapping_add(tally.nanos.load(Ordering::Relaxed));
            sum.rejected += tally.rejected.load(Ordering::Relaxed);
            sum.failed += tally.failed.load(Ordering::Relaxed);
            for (sum, bucket) in sum.buckets.iter_mut().zip(&tally.buckets) {
                *sum += bucket.load(Ordering::Relaxed);
            }
        }
        for (code, count) in shard.errors.lock().iter() {
            *self.errors.entry(code.clone()).or_default() += count;
        }
    }

    fn subtract(&mut self, before: &Self) {
        for (sum, before) in self.counters.iter_mut().zip(&before.counters) {
            *sum = sum.saturating_sub(*before);
        }
        for (sum, before) in self.commands.iter_mut().zip(&before.commands) {
            sum.calls = sum.calls.saturating_sub(before.calls);
            sum.nanos = sum.nanos.saturating_sub(before.nanos);
            sum.rejected = sum.rejected.saturating_sub(before.rejected);
            sum.failed = sum.failed.saturating_sub(before.failed);
            for (sum, before) in sum.buckets.iter_mut().zip(&before.buckets) {
                *sum = sum.saturating_sub(*before);
            }
        }
        for (code, before) in &before.errors {
            if let Some(count) = self.errors.get_mut(code) {
                *count = count.saturating_sub(*before);
            }
        }
    }
}

impl CommandTotals {
    /// A time, in nanoseconds, that so many of a hundred calls did not exceed.
    pub fn percentile(&self, percent: f64) -> u64 {
        let calls: u64 = self.buckets.iter().sum();
        let wanted = (calls as f64 * percent / 100.0).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return end_of(bucket);
            }
        }
        0
    }

    /// How many calls took less than 1.024 us, how many less than twice that, and so on, each with
    /// the time in nanoseconds; without those that are no more than the one before.
    pub fn octaves(&self) -> Vec<(u64, u64)> {
        let (first, rest) = self.buckets.split_first().unwrap_or((&0, &[]));
        let octaves = rest.chunks(PARTS).map(|parts| parts.iter().sum());
        let mut sum = 0;
        let mut told = Vec::new();
        for (octave, count) in std::iter::once(*first).chain(octaves).enumerate() {
            sum += count;
            if count > 0 {
                told.push((1 << (FIRST_OCTAVE + octave), sum));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(metrics: &Metrics, nanos: u64) {
        metrics.executed(&Calls {
            command: 1,
            count: 1,
            took: Duration::from_nanos(nanos),
            ..Calls::default()
        });
    }

    #[test]
    fn what_many_threads_count_is_all_there_even_when_they_have_ended() {
        let metrics = Metrics::new(3);
        let call = Calls {
            command: 2,
            count: 1,
            took: Duration::from_micros(1),
            failed: 1,
            hits: 2,
            misses: 1,
        };
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..1000 {
                            metrics.executed(&call);
                            metrics.rejected(0);
                            metrics.add(Counter::InputBytes, 5);
                            metrics.error("ERR");
                        }
                    });
                }
            });
        }
        let totals = metrics.totals();
        let [rejected, unused, failed] = totals.commands() else {
            panic!("not three commands");
        };
        assert_eq!((rejected.rejected, rejected.calls), (12_000, 0));
        assert_eq!((failed.calls, failed.failed), (12_000, 12_000));
        assert_eq!((failed.nanos, unused.calls), (12_000_000, 0));
        assert_eq!(totals.of(Counter::InputBytes), 60_000);
        assert_eq!(totals.of(Counter::CommandsProcessed), 12_000);
        assert_eq!(totals.of(Counter::KeyspaceHits), 24_000);
        assert_eq!(totals.of(Counter::KeyspaceMisses), 12_000);
        assert_eq!(totals.errors().collect::<Vec<_>>(), [("ERR", 12_000)]);
        assert!(
            metrics.shards.all.lock().len() <= 8,
            "a shard is left behind by each thread"
        );
    }

    #[test]
    fn several_calls_are_each_as_long_as_the_others() {
        let metrics = Metrics::new(2);
        let calls = Calls {
            command: 1,
            count: 2,
            took: Duration::from_nanos(5000),
            failed: 1,
            hits: 1,
            misses: 0,
        };
        let all = Calls::default().and(calls).and(Calls {
            count: 1,
            took: Duration::from_nanos(1000),
            ..calls
        });
        assert_eq!((all.command, all.count, all.failed, all.hits), (1, 3, 2, 2));
        metrics.executed(&all);
        let totals = metrics.totals();
        let command = &totals.commands()[1];
        assert_eq!((command.calls, command.nanos, command.failed), (3, 6000, 2));
        assert_eq!(command.octaves(), [(2048, 3)]);
        assert_eq!(totals.of(Counter::CommandsProcessed), 3);
        assert_eq!(totals.of(Counter::KeyspaceHits), 2);
        assert_eq!(Calls::default().each(), Duration::ZERO);
    }

    #[test]
    fn a_reset_forgets_what_was_counted_before_it_only() {
        let metrics = Metrics::new(2);
        took(&metrics, 5000);
        metrics.error("ERR");
        metrics.reset();
        let totals = metrics.totals();
        assert_eq!(totals.of(Counter::CommandsProcessed), 0);
        assert_eq!(
            (totals.commands()[1].calls, totals.errors().count()),
            (0, 0)
        );
        assert!(totals.commands()[1].octaves().is_empty());
        took(&metrics, 5000);
        assert_eq!(metrics.totals().commands()[1].calls, 1);
        assert_eq!(metrics.ever(Counter::CommandsProcessed), 2);
    }

    #[test]
    fn a_thread_that_counts_for_two_servers_mixes_nothing_up() {
        let (one, other) = (Metrics::new(2), Metrics::new(2));
        for _ in 0..10 {
            took(&one, 1);
            took(&other, 1);
            took(&other, 1);
        }
        assert_eq!(one.totals().commands()[1].calls, 10);
        assert_eq!(other.totals().commands()[1].calls, 20);
        assert_eq!(one.shards.all.lock().len(), 1);
    }

    #[test]
    fn every_time_lies_in_a_bucket_that_ends_behind_it_and_not_far() {
        let mut last = 0;
        for nanos in (0..5000).chain((13..40).flat_map(|e| [(1 << e) - 1, 1 << e, (1 << e) + 1])) {
            let bucket = bucket_of(nanos);
            assert!(bucket >= last, "{nanos}");
            last = bucket;
            if bucket < BUCKETS - 1 {
                assert!(nanos < end_of(bucket), "{nanos}");
                assert!(
                    end_of(bucket) <= (nanos + nanos / 4 + 1).max(1024),
                    "{nanos}"
                );
            }
        }
    }

    #[test]
    fn percentiles_and_octaves_follow_from_the_buckets() {
        let metrics = Metrics::new(2);
        for _ in 0..98 {
            took(&metrics, 900);
        }
        took(&metrics, 3000);
        took(&metrics, 1_000_000);
        let totals = metrics.totals();
        let command = &totals.commands()[1];
        assert_eq!(command.octaves(), [(1024, 98), (4096, 99), (1 << 20, 100)]);
        assert_eq!(command.percentile(50.0), 1024);
        assert_eq!(command.percentile(99.0), 3072);
        assert_eq!(command.percentile(99.9), 1 << 20);
        assert_eq!(totals.commands()[0].percentile(50.0), 0);
    }
}
