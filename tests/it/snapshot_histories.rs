//! Snapshots are exact: what one holds is the fold of the log before it, and a start from it and
//! from the log behind it leads to the state that was lived, the memory of the last changes
//! included, on which transactions depend that are yet to come.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use postres::command::{self, Applier, Operation, Record, Rest};
use postres::engine::{Batch, CompactionOptions, Engine, Transaction};
use postres::protocol::Dialect;
use postres::store::{self, InMemStore};
use postres::time::Timestamp;
use postres::wal::recovery::{self, Progress, Replay, Report};
use postres::wal::snapshot::{Block, SnapshotHeader, SnapshotReader};
use postres::wal::{LogOptions, Lsn, SyncPolicy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseResult, TestRunner};

use crate::disk::{Call, Disk, EIO, Fate, Fault};
use crate::history::{Contents, History, START, contents_at, history, runtime, take_turn};
use crate::support::log::options;
use crate::support::requests::sent;

/// What is done about snapshots at one moment of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Nothing,
    /// One begins, and the history goes on.
    Begin,
    /// One begins while the batches of the turn are on their way.
    BeginAmidst,
    /// One is written while nothing else happens.
    Wait,
}

fn moments() -> impl Strategy<Value = Vec<Moment>> {
    let moment = prop_oneof![
        12 => Just(Moment::Nothing),
        3 => select(vec![Moment::Begin, Moment::BeginAmidst, Moment::Wait]),
    ];
    vec(moment, 30)
}

/// Whether the stop, or the crash, waits for the snapshot that is being written.
#[derive(Debug, Clone, Copy)]
struct AtEnd {
    waits: bool,
}

async fn until_snapshots_ended(engine: &Engine) {
    while engine.compaction_status().running_since.is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The replies to transactions that watch each key of a history, from each position of the last
/// ones on: which of them are carried out tells what is remembered of the last changes.
async fn probed(engine: &Engine) -> Vec<Vec<u8>> {
    let applied = engine.watches().applied();
    let keys = (0..=2).flat_map(|len| (0..3_usize.pow(len)).map(move |n| (len, n)));
    let keys: Vec<Vec<u8>> = keys
        .map(|(len, n)| (0..len).map(|at| (n / 3_usize.pow(at) % 3) as u8).collect())
        .collect();
    let mut batch = Batch::default();
    for key in &keys {
        let there = engine.read_whole(|view| view.get(key).is_some());
        for age in 0..60.min(applied) {
            let mut transaction = Transaction::default();
            transaction.write(&Operation::Set {
                key: b"probe",
                value: Rest(b""),
            });
            batch.transaction(transaction, applied - age, vec![(key.as_slice(), there)]);
        }
    }
    let replies = engine.submit(batch).await.unwrap().into_replies();
    let replies = replies.into_iter();
    replies.map(|reply| sent(reply, Dialect::Resp2)).collect()
}

/// What was seen of a history.
#[derive(Debug, PartialEq, Eq)]
struct Lived {
    contents: Contents,
    applied: u64,
    probed: Vec<Vec<u8>>,
}

/// Lives through a history on `disk`. Says what came of it, when, and what a crash then leaves.
fn live(
    disk: &Disk,
    history: &History,
    moments: &[Moment],
    end: AtEnd,
) -> (Lived, Timestamp, Disk) {
    let store: Arc<dyn InMemStore> = store::with_shards(history.shards, 0).into();
    let clock = Arc::new(AtomicU64::new(START));
    let source = Arc::clone(&clock);
    let options = LogOptions {
        policy: history.policy,
        clock: Arc::new(move || Timestamp(source.load(Ordering::Relaxed))),
        ..options()
    };
    let (shared, disk) = (Arc::clone(&store), Arc::new(disk.clone()));
    runtime().block_on(async move {
        let (engine, mut running, _) = Engine::recover(
            shared,
            Arc::clone(&disk) as _,
            &options,
            CompactionOptions::default(),
        )
        .unwrap();
        let engine = Arc::new(engine);
        let compacting = tokio::spawn(Arc::clone(&engine).compact());
        for (turn, moment) in history.turns.iter().zip(moments) {
            let now = clock
                .load(Ordering::Relaxed)
                .saturating_add_signed(turn.clock);
            clock.store(now, Ordering::Relaxed);
            match moment {
                Moment::Nothing => {}
                // Refused where the last one is still being written.
                Moment::Begin => drop(engine.begin_snapshot()),
                Moment::BeginAmidst => {
                    let engine = Arc::clone(&engine);
                    drop(tokio::spawn(async move { engine.begin_snapshot().is_ok() }));
                }
                Moment::Wait => {
                    until_snapshots_ended(&engine).await;
                    engine.snapshot().await.unwrap();
                }
            }
            take_turn(&engine, turn, &mut BTreeMap::new()).await;
        }
        if end.waits {
            until_snapshots_ended(&engine).await;
        }
        clock.store(0, Ordering::Relaxed);
        let time = engine.time();
        let contents = contents_at(&*store, time);
        let applied = engine.watches().applied();
        if history.policy != SyncPolicy::Always {
            engine.close();
            running.ended().await.unwrap();
        }
        // A power cut, whatever else is under way.
        let crashed = disk.crash(Fate::Lost);
        let probed = if history.policy == SyncPolicy::Always {
            let probed = probed(&engine).await;
            engine.close();
            running.ended().await.unwrap();
            probed
        } else {
            Vec::new()
        };
        compacting.abort();
        let lived = Lived {
            contents,
            applied,
            probed,
        };
        (lived, time, crashed)
    })
}

/// What a server makes of it that starts on `disk`.
fn relive(disk: &Disk, history: &History, time: Timestamp) -> (Lived, Report) {
    let store: Arc<dyn InMemStore> = store::with_shards(10 - history.shards, 0).into();
    let options = LogOptions {
        clock: Arc::new(|| Timestamp(0)),
        ..options()
    };
    runtime().block_on(async {
        let (engine, mut running, report) = Engine::recover(
            Arc::clone(&store),
            Arc::new(disk.clone()),
            &options,
            CompactionOptions::default(),
        )
        .unwrap();
        let contents = contents_at(&*store, time);
        let applied = engine.watches().applied();
        let probed = if history.policy == SyncPolicy::Always {
            probed(&engine).await
        } else {
            Vec::new()
        };
        engine.close();
        running.ended().await.unwrap();
        let lived = Lived {
            contents,
            applied,
            probed,
        };
        (lived, report)
    })
}

#[test]
fn a_history_with_snapshots_at_any_moment_is_found_again_as_it_was_lived() {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(40)
    };
    let waits = any::<bool>().prop_map(|waits| AtEnd { waits });
    let (begun_with_one, went_on, aborted) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let check = |(history, moments, end): (History, Vec<Moment>, AtEnd)| -> TestCaseResult {
        let disk = Disk::default();
        let (lived, time, crashed) = live(&disk, &history, &moments, end);
        let (relived, report) = relive(&crashed, &history, time);
        prop_assert_eq!(&relived, &lived);
        let from_snapshot = report.snapshot.is_some();
        begun_with_one.set(begun_with_one.get() + usize::from(from_snapshot));
        went_on.set(went_on.get() + usize::from(from_snapshot && report.operations > 0));
        let refused = lived
            .probed
            .iter()
            .filter(|reply| reply.starts_with(b"*-1"));
        aborted.set(aborted.get() + refused.count());
        Ok(())
    };
    let run = TestRunner::new(config).run(&(history(), moments(), waits), check);
    if let Err(failure) = run {
        panic!("{failure}");
    }
    let seen = (begun_with_one.get(), went_on.get(), aborted.get());
    println!("{seen:?}");
    assert!(seen.0 > 12 && seen.1 > 8 && seen.2 > 500, "{seen:?}");
}

/// Keys of the storm below.
const KEYS: u64 = 6000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A batch in which every operation's effect depends on what was there, so that nothing that a
/// snapshot got wrong is covered up by what is done again behind it.
fn storm(random: &mut Random, flush: bool) -> Batch {
    use postres::command::{Deadline, ExpireCondition};
    let mut batch = Batch::default();
    if flush {
        batch.write(&Operation::FlushAll {});
    }
    for _ in 0..20 {
        let key = format!("key:{}", random.below(KEYS)).into_bytes();
        let other = format!("key:{}", random.below(KEYS)).into_bytes();
        let operation = match random.below(10) {
            0 => Operation::Del { key: Rest(&key) },
            1 => Operation::Rename {
                from: &key,
                to: &other,
            },
            2 => Operation::SetBit {
                key: &key,
                offset: random.below(64),
                on: random.below(2) == 0,
            },
            3 => Operation::Expire {
                key: &key,
                at: Deadline::In(random.below(50).cast_signed()),
                condition: ExpireCondition::Always,
            },
            _ => Operation::Append {
                key: &key,
                value: Rest(b"."),
            },
        };
        batch.write(&operation);
    }
    batch
}

/// The fold of a log, stopped at each of some positions to be compared.
struct Compared {
    applier: Applier,
    store: Arc<dyn InMemStore>,
    /// The snapshots: the state that begins each, by where the log goes on behind it.
    snapshots: BTreeMap<u64, Held>,
    /// How many were found to be as the fold is.
    equal: usize,
}

/// What a snapshot holds.
struct Held {
    time: Timestamp,
    contents: Contents,
    recent: Vec<u8>,
}

impl Held {
    fn read(disk: &Disk, path: &Path) -> (u64, Self) {
        let mut reader = SnapshotReader::open(disk, path).unwrap();
        let header = *reader.header();
        let store = store::with_shards(1, 0);
        let (mut recent, mut entries) = (Vec::new(), 0);
        while let Some(block) = reader.next_block().unwrap() {
            let rest = command::restore(&*store, block.records()).unwrap();
            entries += block.records().count() - rest.len();
            for record in rest {
                if matches!(record, Record::Seed(_)) {
                    continue;
                }
                assert!(matches!(record, Record::RecentChanges { .. }));
                record.encode(&mut recent);
            }
        }
        assert_eq!((entries, entries as u64), (store.len(), header.keys));
        let held = Self {
            time: header.time,
            contents: contents_at(&*store, header.time),
            recent,
        };
        (header.next.0, held)
    }
}

impl Replay for Compared {
    fn begin_snapshot(&mut self, _: &SnapshotHeader) {
        panic!("they were taken away");
    }

    fn block(&mut self, _: Block) -> Result<(), String> {
        panic!("they were taken away");
    }

    fn end_snapshot(&mut self) -> Result<(), String> {
        panic!("they were taken away");
    }

    fn discard_snapshot(&mut self) {
        panic!("they were taken away");
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn operation(&mut self, lsn: Lsn, time: Timestamp, bytes: &[u8]) -> Result<(), String> {
        let operation = Operation::decode(bytes).unwrap();
        let _ = self.applier.apply(&operation, lsn.0, time);
        if let Some(held) = self.snapshots.get(&(lsn.0 + 1)) {
            let frozen = self.applier.freeze();
            self.store.thaw();
            let mut recent = Vec::new();
            let [_, changes] = frozen.records();
            changes.encode(&mut recent);
            assert_eq!(held.time, time, "snapshot at {lsn}");
            assert!(held.recent == recent, "last changes at {lsn}");
            let contents = contents_at(&*self.store, time);
            let differ = |(key, value): &(&Vec<u8>, _)| held.contents.get(*key) != Some(*value);
            let differing = contents.iter().filter(differ).count();
            let lens = (held.contents.len(), contents.len());
            assert!(
                held.contents == contents,
                "{lsn}: {differing} differ of {lens:?}"
            );
            self.equal += 1;
        }
        Ok(())
    }

    fn progress(&mut self, _: Progress) {}
}

/// How many batches each writer of a storm submits, at least and at most.
const STORM: (usize, usize) = (800, 20_000);

/// Lives through a storm of writers, sweeps, flushes and snapshots on a disk that removes no
/// segment. It lasts until some snapshots have been written amidst it, however long these take.
/// Says what a crash leaves, and how it was when the storm was over.
fn live_through_storm(shards: usize) -> (Disk, Contents, Timestamp, usize) {
    let disk = Disk::default();
    disk.plan(|call, path| {
        let segment = path.to_string_lossy().contains(".segment");
        let recycled = call == Call::Rename && path.extension().is_some_and(|kind| kind == "new");
        let lost = segment && (call == Call::Remove || recycled);
        lost.then_some(Fault::Fail(EIO))
    });
    let store: Arc<dyn InMemStore> = store::with_shards(shards, 0).into();
    let begun = std::time::Instant::now();
    let options = LogOptions {
        segment_capacity: 64 << 10,
        clock: Arc::new(move || Timestamp(START + begun.elapsed().as_millis() as u64)),
        ..options()
    };
    let shared = Arc::clone(&store);
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    threads.block_on(async move {
        let (engine, mut running, _) = Engine::recover(
            shared,
            Arc::new(disk.clone()),
            &options,
            CompactionOptions::default(),
        )
        .unwrap();
        let engine = Arc::new(engine);
        let compacting = tokio::spawn(Arc::clone(&engine).compact());
        let sweeping = Arc::clone(&engine);
        let sweeping = tokio::spawn(async move { sweeping.sweep_expired().await });
        let calm = Arc::new(AtomicBool::new(false));
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4 {
            let (engine, calm) = (Arc::clone(&engine), Arc::clone(&calm));
            writers.spawn(async move {
                let mut random = Random(writer);
                for turn in 1..=STORM.1 {
                    if turn > STORM.0 && calm.load(Ordering::Relaxed) {
                        break;
                    }
                    let flush = writer == 0 && turn % 130 == 0;
                    let batch = storm(&mut random, flush);
                    engine.submit(batch).await.unwrap();
                }
            });
        }
        let (mut kept, mut overlapped) = (BTreeMap::<PathBuf, Vec<u8>>::new(), 0);
        while !writers.is_empty() {
            let before = engine.watches().applied();
            // What cannot be removed is no fault of the snapshot's.
            if let Err(error) = engine.snapshot().await {
                assert!(error.to_string().contains("superfluous"), "{error}");
            }
            let last = engine.compaction_status().last.unwrap();
            assert!(
                last.next.0 > before,
                "it holds what was there when it was asked for"
            );
            overlapped += usize::from(engine.watches().applied() >= last.next.0);
            // One of them may be of the empty store, before the first change.
            calm.store(overlapped > 3, Ordering::Relaxed);
            let files = disk.files().into_iter();
            kept.extend(files.filter(|(path, _)| path.extension().unwrap() == "snapshot"));
            while let Some(done) = writers.try_join_next() {
                done.unwrap();
            }
        }
        sweeping.abort();
        let time = engine.time();
        let contents = contents_at(&*store, time);
        engine.close();
        running.ended().await.unwrap();
        compacting.abort();
        let crashed = disk.crash(Fate::Lost);
        for (path, bytes) in kept {
            crashed.put(&path, bytes);
        }
        (crashed, contents, time, overlapped)
    })
}

#[test]
fn a_snapshot_written_amidst_writers_sweeps_and_flushes_is_the_fold_of_the_log_before_it() {
    for shards in [1, 8] {
        let (disk, contents, time, overlapped) = live_through_storm(shards);
        let paths: Vec<PathBuf> = disk
            .files()
            .into_keys()
            .filter(|path| path.extension().unwrap() == "snapshot")
            .collect();
        // Each of them begins the state that the log behind it leads to the end of.
        for newest in 0..paths.len() {
            let disk = disk.copy();
            for later in &paths[newest + 1..] {
                disk.take(later);
            }
            let store: Arc<dyn InMemStore> = store::with_shards(9 - shards, 0).into();
            runtime().block_on(async {
                let disk = Arc::new(disk);
                let compaction = CompactionOptions::default();
                let recovered = Engine::recover(Arc::clone(&store), disk, &options(), compaction);
                let (engine, mut running, report) = recovered.unwrap();
                assert_eq!(report.snapshot.as_ref(), Some(&paths[newest]));
                engine.close();
                running.ended().await.unwrap();
            });
            assert!(
                contents_at(&*store, time) == contents,
                "{:?}",
                paths[newest]
            );
        }
        // And each is what the log before it makes of nothing.
        let log = disk.copy();
        let snapshots = paths.iter().map(|path| {
            let held = Held::read(&disk, path);
            log.take(path);
            held
        });
        let snapshots: BTreeMap<_, _> = snapshots.collect();
        let store: Arc<dyn InMemStore> = store::with_shards(1, 0).into();
        let mut compared = Compared {
            applier: Applier::new(Arc::clone(&store), Arc::default(), Arc::default()),
            store,
            snapshots,
            equal: 0,
        };
        recovery::open(Arc::new(log), &options(), &mut compared).unwrap();
        let empty = usize::from(compared.snapshots.contains_key(&1));
        println!(
            "{} snapshots, {overlapped} of them amidst changes",
            compared.equal
        );
        assert_eq!(compared.equal + empty, paths.len());
        assert!(
            compared.equal > 2 && overlapped > 2,
            "{} {overlapped}",
            compared.equal
        );
    }
}
