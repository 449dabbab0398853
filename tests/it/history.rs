//! P4 and P5: any history, applied live and read back from its log, gives equal stores; and a log
//! written by a released version still gives what it gave then.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postres::command::{Applier, Command, Operation};
use postres::engine::{Batch, CompactionOptions, Engine, Transaction};
use postres::protocol::Dialect;
use postres::store::{self, InMemStore};
use postres::time::Timestamp;
use postres::wal::fs::StdFs;
use postres::wal::recovery::{self, Progress, Replay};
use postres::wal::snapshot::{Block, SnapshotHeader, SnapshotReader};
use postres::wal::{LogOptions, Lsn, SyncPolicy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};

use crate::disk::{Disk, Fate};
use crate::support::log::options;
use crate::support::requests::{Requests, Times, Words, interpreted, sent};
use crate::support::server::contents_of;

/// Where the clock of a history begins.
pub const START: u64 = 1_700_000_000_000;

/// Keys, values and expiries.
pub type Contents = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

/// What is there at this time.
pub fn contents_at(store: &dyn InMemStore, time: Timestamp) -> Contents {
    let entries = (0..store.table_count()).flat_map(|index| store.table(index));
    let live = entries.filter(|entry| entry.is_live(time));
    live.map(|entry| {
        let expires = entry.expires().map(|at| at.0);
        (entry.key().to_vec(), (entry.value().to_vec(), expires))
    })
    .collect()
}

/// A part of a batch.
#[derive(Debug, Clone)]
enum Part {
    Request(Words),
    Tick,
    Transaction(Exec),
}

/// A transaction.
#[derive(Debug, Clone)]
struct Exec {
    requests: Vec<Words>,
    /// By how many operations its base is older than what was applied when it was sent.
    age: u64,
    /// Keys, and whether each was there, if that is not to be as it was.
    watched: Vec<(Vec<u8>, Option<bool>)>,
}

/// Batches that are submitted at the same time.
#[derive(Debug, Clone)]
pub struct Turn {
    /// By how much the clock moves before.
    pub clock: i64,
    batches: Vec<Vec<Part>>,
    /// Whether keys that have expired are swept behind them.
    sweep: bool,
}

#[derive(Debug, Clone)]
pub struct History {
    pub turns: Vec<Turn>,
    pub policy: SyncPolicy,
    pub shards: usize,
}

pub fn history() -> impl Strategy<Value = History> {
    let key = || vec(0_u8..3, 0..3);
    let requests = Requests {
        key: key().boxed(),
        times: Times::around(START),
        flush: true,
    };
    let request = prop_oneof![12 => requests.write(), 1 => requests.get()].boxed();
    let age = prop_oneof![3 => Just(0), 1 => 0..6_u64];
    let watched = vec((key(), prop::option::weighted(0.2, any::<bool>())), 0..3);
    let exec = (vec(request.clone(), 1..6), age, watched);
    let exec = exec.prop_map(|(requests, age, watched)| {
        Part::Transaction(Exec {
            requests,
            age,
            watched,
        })
    });
    let part = prop_oneof![
        30 => request.prop_map(Part::Request),
        8 => exec,
        1 => Just(Part::Tick),
    ];
    let batches = prop_oneof![
        3 => vec(vec(part.clone(), 1..8), 1),
        1 => vec(vec(part, 1..8), 2..5),
    ];
    let clock = prop_oneof![2 => Just(0), 3 => 0..3000_i64, 1 => -4000..0_i64];
    let turn = (clock, batches, prop::bool::weighted(0.2));
    let turn = turn.prop_map(|(clock, batches, sweep)| Turn {
        clock,
        batches,
        sweep,
    });
    let policy = prop_oneof![
        Just(SyncPolicy::Always),
        Just(SyncPolicy::EverySecond),
        Just(SyncPolicy::Never)
    ];
    (vec(turn, 1..30), policy, 1_usize..10).prop_map(|(turns, policy, shards)| History {
        turns,
        policy,
        shards,
    })
}

/// A batch, and for each of its operations how to find its reply among those of the batch.
#[derive(Default)]
struct Built {
    batch: Batch,
    /// The steps that write, each with the elements of its reply that are no write's.
    writes: Vec<(usize, Option<Vec<bool>>)>,
}

fn build(engine: &Engine, parts: &[Part]) -> Built {
    let mut built = Built::default();
    let mut step = 0;
    for part in parts {
        let batch = &mut built.batch;
        let write = match part {
            Part::Tick => {
                batch.write(&Operation::Tick {});
                Some(None)
            }
            Part::Request(words) => interpreted(words, Dialect::Resp2, |command| {
                match command {
                    Command::Write(operation) => {
                        batch.write(&operation);
                        return Some(None);
                    }
                    Command::Read { run, args, sees } => batch.read(run, args, sees),
                    Command::Ready(reply) => batch.ready(reply),
                    Command::Server(_) => {}
                }
                None
            }),
            Part::Transaction(exec) => {
                let (transaction, writes) = transaction(exec);
                // The server answers one that only reads from the store.
                if transaction.only_reads() {
                    continue;
                }
                let base = engine.watches().applied().saturating_sub(exec.age);
                let watched = exec.watched.iter().map(|(key, claimed)| {
                    let there = || engine.read_whole(|view| view.get(key).is_some());
                    (key.as_slice(), claimed.unwrap_or_else(there))
                });
                batch.transaction(transaction, base, watched.collect());
                Some(Some(writes))
            }
        };
        built.writes.extend(write.map(|write| (step, write)));
        step += 1;
    }
    built
}

/// The transaction, and which of its commands write.
fn transaction(exec: &Exec) -> (Transaction, Vec<bool>) {
    let (mut transaction, mut writes) = (Transaction::default(), Vec::new());
    for words in &exec.requests {
        writes.push(interpreted(words, Dialect::Resp2, |command| {
            match command {
                Command::Write(operation) => {
                    transaction.write(&operation);
                    return true;
                }
                Command::Read { run, args, sees } => transaction.read(run, args, sees),
                Command::Ready(reply) => transaction.ready(reply),
                Command::Server(_) => {}
            }
            false
        }));
    }
    (transaction, writes)
}

/// What a reply says of the operation, without what the transaction read.
fn told(reply: postres::command::Reply, writes: Option<&[bool]>) -> Vec<u8> {
    use postres::command::Reply;
    let reply = match (reply, writes) {
        (Reply::Array(replies), Some(writes)) => {
            assert_eq!(replies.len(), writes.len());
            let kept = replies.into_iter().zip(writes);
            Reply::Array(kept.filter(|(_, w)| **w).map(|(reply, _)| reply).collect())
        }
        (reply, _) => reply,
    };
    sent(reply, Dialect::Resp2)
}

/// What was seen of a history while it was carried out.
struct Lived {
    contents: Contents,
    /// The last time that anyone was told.
    time: Timestamp,
    applied: u64,
    /// The replies of operations by their position, as far as their place is known.
    replies: BTreeMap<u64, Vec<u8>>,
    /// The disk as a crash would have left it before the orderly stop.
    crashed: Disk,
}

/// Carries out a history on `disk`, to an orderly stop.
fn live(disk: &Disk, history: &History) -> Lived {
    let store: Arc<dyn InMemStore> = store::with_shards(history.shards, 0).into();
    let clock = Arc::new(AtomicU64::new(START));
    let source = Arc::clone(&clock);
    let options = LogOptions {
        policy: history.policy,
        clock: Arc::new(move || Timestamp(source.load(Ordering::Relaxed))),
        ..options()
    };
    let (shared, disk) = (Arc::clone(&store), disk.clone());
    runtime().block_on(async move {
        let (engine, mut running, _) = Engine::recover(
            shared,
            Arc::new(disk.clone()),
            &options,
            CompactionOptions::default(),
        )
        .unwrap();
        let engine = Arc::new(engine);
        let mut replies = BTreeMap::new();
        for turn in &history.turns {
            let now = clock
                .load(Ordering::Relaxed)
                .saturating_add_signed(turn.clock);
            clock.store(now, Ordering::Relaxed);
            take_turn(&engine, turn, &mut replies).await;
        }
        clock.store(0, Ordering::Relaxed);
        let (time, applied) = (engine.time(), engine.watches().applied());
        let crashed = disk.crash(Fate::Lost);
        engine.close();
        running.ended().await.unwrap();
        Lived {
            contents: contents_at(&*store, time),
            time,
            applied,
            replies,
            crashed,
        }
    })
}

pub async fn take_turn(engine: &Arc<Engine>, turn: &Turn, replies: &mut BTreeMap<u64, Vec<u8>>) {
    let before = engine.watches().applied();
    let built: Vec<_> = turn
        .batches
        .iter()
        .map(|parts| build(engine, parts))
        .collect();
    let operations: usize = built.iter().map(|built| built.writes.len()).sum();
    let alone = built.len() == 1;
    let mut submitted = tokio::task::JoinSet::new();
    for Built { batch, writes } in built {
        let engine = Arc::clone(engine);
        submitted
            .spawn(async move { (engine.submit(batch).await.unwrap().into_replies(), writes) });
    }
    while let Some(answered) = submitted.join_next().await {
        let (answers, writes) = answered.unwrap();
        if !alone {
            continue;
        }
        let mut answers: Vec<_> = answers.into_iter().map(Some).collect();
        for (position, (step, writes)) in (before + 1..).zip(writes) {
            let reply = answers[step].take().unwrap();
            replies.insert(position, told(reply, writes.as_deref()));
        }
    }
    assert_eq!(engine.watches().applied(), before + operations as u64);
    // Behind a frame of this very time the sweep has nothing to wait for, and logs nothing.
    if turn.sweep && operations > 0 {
        let _ = tokio::time::timeout(Duration::ZERO, engine.sweep_expired()).await;
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap()
}

/// What a server finds that starts on `disk`, at `time`, with a clock that shows less; how far its log goes, and what
/// time it is for that server.
fn restarted(disk: &Disk, shards: usize, time: Timestamp) -> (Contents, u64, Timestamp) {
    let store: Arc<dyn InMemStore> = store::with_shards(shards, 0).into();
    let options = LogOptions {
        clock: Arc::new(|| Timestamp(0)),
        ..options()
    };
    runtime().block_on(async {
        let disk = Arc::new(disk.clone());
        let (engine, mut running, _) = Engine::recover(
            Arc::clone(&store),
            disk,
            &options,
            CompactionOptions::default(),
        )
        .unwrap();
        let (applied, now) = (engine.watches().applied(), engine.time());
        engine.close();
        running.ended().await.unwrap();
        (contents_at(&*store, time), applied, now)
    })
}

#[test]
fn a_start_does_not_go_back_behind_a_frame_that_holds_nothing() {
    let disk = Disk::default();
    let get = Turn {
        clock: 5,
        batches: vec![vec![Part::Request(vec![b"GET".to_vec(), b"key".to_vec()])]],
        sweep: false,
    };
    let history = History {
        turns: vec![get],
        policy: SyncPolicy::Always,
        shards: 1,
    };
    let lived = live(&disk, &history);
    let (_, _, now) = restarted(&lived.crashed, 1, lived.time);
    assert_eq!((lived.time, now), (Timestamp(START + 5), lived.time));
}

/// A log, folded once more, with what its clients must have been told.
struct Fold {
    store: Arc<dyn InMemStore>,
    applier: Applier,
    replies: Vec<Vec<u8>>,
    seen: Seen,
}

/// What histories were made of.
#[derive(Debug, Default)]
struct Seen {
    codes: BTreeSet<u8>,
    carried_out: usize,
    aborted: usize,
}

impl Fold {
    fn of(disk: &Disk) -> Self {
        let store: Arc<dyn InMemStore> = store::with_shards(1, 0).into();
        let mut fold = Self {
            applier: Applier::new(Arc::clone(&store), Arc::default(), Arc::default()),
            store,
            replies: Vec::new(),
            seen: Seen::default(),
        };
        recovery::open(Arc::new(disk.clone()), &options(), &mut fold).unwrap();
        fold
    }
}

impl Replay for Fold {
    fn begin_snapshot(&mut self, _: &SnapshotHeader) {
        panic!("there is no snapshot");
    }

    fn block(&mut self, _: Block) -> Result<(), String> {
        panic!("there is no snapshot");
    }

    fn end_snapshot(&mut self) -> Result<(), String> {
        panic!("there is no snapshot");
    }

    fn discard_snapshot(&mut self) {
        panic!("there is no snapshot");
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn operation(&mut self, lsn: Lsn, time: Timestamp, bytes: &[u8]) -> Result<(), String> {
        let operation = Operation::decode(bytes).unwrap();
        self.seen.codes.insert(bytes[0]);
        let reply = self.applier.apply(&operation, lsn.0, time);
        if let Operation::Exec { operations, .. } = &operation {
            self.seen
                .codes
                .extend(operations.iter().map(|inside| inside[0]));
            let aborted = reply == postres::command::Reply::Aborted;
            self.seen.aborted += usize::from(aborted);
            self.seen.carried_out += usize::from(!aborted);
        }
        self.replies.push(sent(reply, Dialect::Resp2));
        Ok(())
    }

    fn progress(&mut self, _: Progress) {}
}

fn check(history: &History, seen: &RefCell<Seen>) -> TestCaseResult {
    let disk = Disk::default();
    let lived = live(&disk, history);
    let fold = Fold::of(&disk.crash(Fate::Lost));
    prop_assert_eq!(&contents_at(&*fold.store, lived.time), &lived.contents);
    for (position, reply) in &lived.replies {
        let again = &fold.replies[*position as usize - 1];
        prop_assert_eq!(again, reply, "the reply to operation {}", position);
    }
    // Read back by a store of another kind, after a crash that keeps only what was synced.
    let mut crashes = vec![disk.crash(Fate::Lost)];
    if history.policy == SyncPolicy::Always {
        crashes.push(lived.crashed);
    }
    for disk in crashes {
        let (replayed, applied, _) = restarted(&disk, 10 - history.shards, lived.time);
        prop_assert_eq!(&replayed, &lived.contents);
        prop_assert_eq!(applied, lived.applied);
    }
    let mut seen = seen.borrow_mut();
    seen.codes.extend(fold.seen.codes);
    seen.carried_out += fold.seen.carried_out;
    seen.aborted += fold.seen.aborted;
    Ok(())
}

#[test]
fn a_history_applied_live_and_replayed_gives_equal_stores() {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(60)
    };
    let seen = RefCell::default();
    let run = TestRunner::new(config).run(&history(), |history| check(&history, &seen));
    if let Err(failure) = run {
        panic!("{failure}");
    }
    let seen = seen.into_inner();
    let codes: Vec<_> = seen.codes.iter().copied().collect();
    assert_eq!(codes, Operation::CODES, "the codes that occurred");
    assert!(seen.carried_out > 50 && seen.aborted > 50, "{seen:?}");
}

/// What the frozen log of version 1 holds. It was made by `cargo run --example freeze_log`.
fn frozen() -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut frozen: BTreeMap<_, _> = (0..60_u32)
        .filter(|n| n % 7 != 3)
        .map(|n| {
            (
                format!("key:{n}").into_bytes(),
                vec![n as u8; n as usize * 3],
            )
        })
        .collect();
    frozen.insert(b"binary\0\xff".to_vec(), b"\r\n\0\xfe".to_vec());
    frozen.insert(Vec::new(), Vec::new());
    frozen
}

/// What a server finds that starts on a copy of a frozen log: its store, and the log's time.
fn thawed(name: &str, files: usize) -> (Arc<dyn InMemStore>, Timestamp) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    let copy = tempfile::tempdir().unwrap();
    let mut found = 0;
    for file in std::fs::read_dir(source).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        found += 1;
    }
    assert!(found >= files, "the frozen log has several files");
    let store: Arc<dyn InMemStore> = store::with_shards(8, 0).into();
    let time = runtime().block_on(async {
        let options = LogOptions {
            clock: Arc::new(|| Timestamp(0)),
            ..LogOptions::new(copy.path().join("wal_file"))
        };
        let (engine, _running, report) = Engine::recover(
            Arc::clone(&store),
            Arc::new(StdFs),
            &options,
            CompactionOptions::default(),
        )
        .unwrap();
        assert_eq!(report.repairs, []);
        engine.time()
    });
    (store, time)
}

#[test]
fn the_frozen_log_of_version_1_still_loads() {
    let (store, _) = thawed("v1", 2);
    assert_eq!(contents_of(&*store), frozen());
}

/// What the log of all operations holds that are known in version 1: values, and expiries in
/// milliseconds behind [`START`]. It was made by `cargo run --example freeze_operations`.
const FROZEN_OPERATIONS: &[(&[u8], &[u8], Option<u64>)] = &[
    (b"append", b"abcd", None),
    (b"binary\0\xff", b"\r\n\0\xfe", None),
    (b"bit:a", b"\x0f\xf0\xaa", None),
    (b"bit:and", b"\x0f\x30\0", None),
    (b"bit:b", b"\xff\x3c", None),
    (b"bit:not", b"\xf0\x0f\x55", None),
    (b"bit:or", b"\xff\xfc\xaa", None),
    (b"bit:xor", b"\xf0\xcc\xaa", None),
    (b"bitfield", b"\x04\x7f\x90\x1e", None),
    (b"copy:from", b"a", Some(900_000)),
    (b"copy:replaced", b"a", Some(900_000)),
    (b"copy:taken", b"b", None),
    (b"copy:to", b"a", Some(900_000)),
    (b"delifeq:kept", b"a", None),
    (b"exec:inside", b"42", None),
    (b"expire:always", b"a", Some(66_000)),
    (b"expire:always:set", b"a", Some(66_000)),
    (b"expire:gt", b"a", None),
    (b"expire:gt:set", b"a", Some(900_000)),
    (b"expire:lt", b"a", Some(66_000)),
    (b"expire:lt:set", b"a", Some(66_000)),
    (b"expire:nx", b"a", Some(66_000)),
    (b"expire:nx:set", b"a", Some(900_000)),
    (b"expire:xx", b"a", None),
    (b"expire:xx-gt", b"a", None),
    (b"expire:xx-gt:set", b"a", Some(900_000)),
    (b"expire:xx-lt", b"a", None),
    (b"expire:xx-lt:set", b"a", Some(66_000)),
    (b"expire:xx:set", b"a", Some(66_000)),
    (b"float", b"10.6", None),
    (b"float:e", b"5000", None),
    (b"getex:in", b"a", Some(76_000)),
    (b"getex:keep", b"a", Some(900_000)),
    (b"getex:never", b"a", None),
    (b"incr", b"7", None),
    (b"incr:most", b"9223372036854775807", None),
    (b"incr:text", b"ten", None),
    (b"mset:1", b"c", None),
    (b"mset:2", b"b", None),
    (b"msetnx:1", b"a", None),
    (b"msetnx:2", b"", None),
    (b"persist", b"a", None),
    (b"rename:to", b"a", Some(900_000)),
    (b"renamenx:free", b"b", None),
    (b"renamenx:taken", b"a", None),
    (b"set", b"1", None),
    (b"setbit", b"\0\0\x40", None),
    (b"setbit:off", b"\0\0", None),
    (b"setnx", b"a", None),
    (b"setrange:behind", b"\0\0\0xy", None),
    (b"setrange:inside", b"aXYdef", None),
    (b"with:absent", b"a", Some(61_000)),
    (b"with:equal", b"a", None),
    (b"with:get", b"a", None),
    (b"with:keep", b"b", Some(500_000)),
    (b"with:never", b"b", None),
];

#[test]
fn the_frozen_log_of_every_operation_of_version_1_still_means_the_same() {
    let frozen = FROZEN_OPERATIONS.iter().map(|(key, value, expires)| {
        let expires = expires.map(|millis| START + millis);
        (key.to_vec(), (value.to_vec(), expires))
    });
    let (store, time) = thawed("v1-operations", 2);
    // Of nine frames, a second each, the last is nothing but its time.
    assert_eq!(time, Timestamp(START + 9000));
    assert_eq!(contents_at(&*store, time), frozen.collect());
    let with_expired = contents_at(&*store, Timestamp(0));
    assert_eq!(
        with_expired.get(&b"with:soon"[..]),
        Some(&(b"a".to_vec(), Some(START + 6000)))
    );
}

#[test]
fn the_frozen_log_of_version_1_has_every_operation() {
    let disk = Disk::default();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1-operations");
    for file in std::fs::read_dir(fixtures).unwrap() {
        let file = file.unwrap();
        let name = Path::new("dir").join(file.file_name());
        disk.put(&name, std::fs::read(file.path()).unwrap());
    }
    let Seen {
        codes,
        carried_out,
        aborted,
    } = Fold::of(&disk).seen;
    // Codes that a later version adds are in a log of their own.
    assert_eq!(codes, (1..=25).collect());
    assert_eq!((carried_out, aborted), (2, 3));
}

/// What the log with a snapshot holds: values, and expiries in milliseconds behind [`START`]. It
/// was made by `cargo run --example freeze_snapshot`.
fn frozen_behind_a_snapshot() -> Contents {
    let mut frozen: Contents = frozen()
        .into_iter()
        .map(|(key, value)| (key, (value, None)))
        .collect();
    for n in 0..60 {
        let key = format!("behind:{n}").into_bytes();
        frozen.insert(key, (vec![b'x'; 100], None));
    }
    let behind: &[(&[u8], &[u8], Option<u64>)] = &[
        (b"counter", b"42", None),
        (b"exec:carried out", b"a", None),
        (b"expires", b"a", Some(900_000)),
        (b"expires:saved", b"a", None),
        (b"key:1", b"\x01\x01\x01behind", None),
        (b"watched", b"a", None),
        (b"watched:changed", b"a", None),
    ];
    for (key, value, expires) in behind {
        let expires = expires.map(|millis| START + millis);
        frozen.insert(key.to_vec(), (value.to_vec(), expires));
    }
    frozen.remove(&b"key:2"[..]);
    frozen
}

#[test]
fn the_frozen_snapshot_of_version_1_and_the_log_behind_it_still_load() {
    let (store, time) = thawed("v1-snapshot", 3);
    assert_eq!(time, Timestamp(START + 5000));
    assert_eq!(contents_at(&*store, time), frozen_behind_a_snapshot());
    // This one had expired when the log ended; it was in the snapshot all the same.
    let with_expired = contents_at(&*store, Timestamp(0));
    let behind = with_expired.get(&b"expires:behind"[..]);
    assert_eq!(behind, Some(&(b"a".to_vec(), Some(START + 3000))));
}

#[test]
fn the_frozen_snapshot_of_version_1_has_every_record_and_is_needed() {
    let disk = Disk::default();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1-snapshot");
    for file in std::fs::read_dir(fixtures).unwrap() {
        let file = file.unwrap();
        let name = Path::new("dir").join(file.file_name());
        disk.put(&name, std::fs::read(file.path()).unwrap());
    }
    let files = disk.files();
    let kind = |kind| move |path: &&PathBuf| path.extension().is_some_and(|found| found == kind);
    let snapshots: Vec<_> = files.keys().filter(kind("snapshot")).collect();
    let [path] = snapshots[..] else {
        panic!("one snapshot: {snapshots:?}");
    };
    let mut reader = SnapshotReader::open(&disk, path).unwrap();
    let mut codes = BTreeSet::new();
    while let Some(block) = reader.next_block().unwrap() {
        codes.extend(block.records().map(|record| record[0]));
    }
    // Codes that a later version adds are in a log of their own.
    assert_eq!(codes, BTreeSet::from([1, 2, 3, 4]));
    assert!(files.keys().filter(kind("segment")).count() > 1);
    assert!(!files.contains_key(Path::new("dir/wal_file.00000000000000000001.segment")));
}
