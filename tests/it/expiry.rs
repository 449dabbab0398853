//! Keys that expire: gone for everyone from then on, swept, gone after a restart, and never back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postres::command::{Applier, Command, Operation, ReadFn, Reply};
use postres::engine::{Batch, CompactionOptions, Engine, Running};
use postres::protocol::Dialect;
use postres::store::{self, Entry, InMemStore};
use postres::time::Timestamp;
use postres::wal::fs::StdFs;
use postres::wal::{LogOptions, recovery};
use proptest::prelude::*;

use crate::disk::Disk;
use crate::support::client::Client;
use crate::support::log::{Replayed, options};
use crate::support::process::{Server, eventually, wal_path};
use crate::support::requests::{Requests, Times, Words, interpreted, sent};
use crate::support::resp::encode;

/// What a client finds of the keys `gone:...`, of which none is to be left, beside `stays`.
#[track_caller]
fn assert_gone(client: &mut Client) {
    for n in 0..20 {
        assert_eq!(
            client.request(&format!("GET gone:{n}")),
            "-GET could not find key in store"
        );
        assert_eq!(client.request(&format!("TTL gone:{n}")), "+OK -2");
    }
    assert_eq!(client.request("EXISTS gone:1 gone:2 stays"), "+OK 1");
    assert_eq!(client.request("RANDOMKEY"), "+OK stays");
    client.send(&encode(["KEYS", "*"]));
    assert_eq!(client.bytes(15), b"*1\r\n$5\r\nstays\r\n");
    client.send(&encode(["SCAN", "0", "COUNT", "1000000"]));
    let all = b"*2\r\n$1\r\n0\r\n*1\r\n$5\r\nstays\r\n";
    assert_eq!(client.bytes(all.len()), all);
}

#[test]
fn keys_that_expired_are_gone_and_swept_while_nobody_writes_and_stay_gone_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    assert_eq!(client.request("SET stays 1 EX 1000"), "+OK");
    for n in 0..20 {
        assert_eq!(client.request(&format!("SET gone:{n} 1 PX 400")), "+OK");
    }
    std::thread::sleep(Duration::from_millis(410));
    assert_gone(&mut client);
    // Nobody writes, so the log has no frame behind their expiry until the sweep makes one.
    assert!(
        eventually(|| client.request("DBSIZE") == "+OK 1"),
        "the keys are swept"
    );
    assert_gone(&mut client);
    // With nothing left that is due, nothing more is logged.
    std::thread::sleep(Duration::from_millis(1500));
    server.kill();

    let (operations, ticks) = operations_in_log(&dir);
    assert_eq!(operations, 21 + ticks, "the SETs and the ticks");
    // One is enough, unless the SETs took seconds.
    assert!((1..4).contains(&ticks), "{ticks} ticks");
    let server = Server::start(dir.path(), &["-shards", "8"]);
    let mut client = server.connect();
    assert_gone(&mut client);
    assert!(
        eventually(|| client.request("DBSIZE") == "+OK 1"),
        "the keys are swept again"
    );
    server.stop();
}

/// How many operations there are in the log of a server that was killed, and how many of them are
/// nothing but their time.
fn operations_in_log(dir: &tempfile::TempDir) -> (usize, usize) {
    let mut replayed = Replayed::default();
    let options = LogOptions::new(wal_path(dir.path()));
    drop(recovery::open(Arc::new(StdFs), &options, &mut replayed).unwrap());
    let ticks = replayed
        .0
        .iter()
        .filter(|bytes| Operation::decode(bytes) == Ok(Operation::Tick {}));
    (replayed.0.len(), ticks.count())
}

#[test]
fn keys_are_swept_where_no_log_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-persist", "false"]);
    let mut client = server.connect();
    assert_eq!(client.request("SET gone 1 PX 100"), "+OK");
    assert!(eventually(|| client.request("DBSIZE") == "+OK 0"));
    server.stop();
}

const START: u64 = 1_700_000_000_000;

/// An engine on a disk in memory, whose clock is moved by hand.
struct Live {
    engine: Engine,
    running: Running,
    clock: Arc<AtomicU64>,
}

impl Live {
    /// Must be called inside of a runtime.
    fn start(disk: &Disk, at: u64) -> Self {
        let clock = Arc::new(AtomicU64::new(START + at));
        let source = Arc::clone(&clock);
        let options = LogOptions {
            clock: Arc::new(move || Timestamp(source.load(Ordering::SeqCst))),
            ..options()
        };
        let store = store::with_shards(8, 0).into();
        let (engine, running, _) = Engine::recover(
            store,
            Arc::new(disk.clone()),
            &options,
            CompactionOptions::default(),
        )
        .unwrap();
        Self {
            engine,
            running,
            clock,
        }
    }

    /// Sets the clock, forward or back.
    fn at(&self, millis: u64) -> &Self {
        self.clock.store(START + millis, Ordering::SeqCst);
        self
    }

    /// Carries out a request as a connection does that has sent nothing else.
    async fn ask(&self, request: &str) -> String {
        let words: Words = request
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let mut batch = Batch::default();
        let read = interpreted(&words, Dialect::Resp2, |command| match command {
            Command::Write(operation) => {
                batch.write(&operation);
                None
            }
            Command::Read { run, args, sees } => Some(self.engine.read(run, args, sees)),
            Command::Ready(reply) => Some(reply),
            Command::Server(_) => None,
        });
        let reply = match read {
            Some(reply) => reply,
            None => self
                .engine
                .submit(batch)
                .await
                .unwrap()
                .into_replies()
                .remove(0),
        };
        String::from_utf8(sent(reply, Dialect::Resp2))
            .unwrap()
            .trim_end()
            .replace("\r\n", " ")
    }

    async fn stop(mut self) {
        self.engine.close();
        self.running.ended().await.unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap()
}

#[test]
fn a_key_that_was_seen_gone_does_not_come_back_when_the_clock_goes_back() {
    runtime().block_on(async {
        let disk = Disk::default();
        let live = Live::start(&disk, 0);
        for key in ["a", "b", "c"] {
            assert_eq!(live.ask(&format!("SET {key} 1 PX 1000")).await, "+OK");
        }
        assert_eq!(live.at(999).ask("EXISTS a b c").await, ":3");
        assert_eq!(live.at(1000).ask("GET a").await, "$-1");
        live.at(500);
        assert_eq!(live.ask("EXISTS a b c").await, ":0");
        // Nor for what is decided when it is applied: the frame's time does not go back either.
        assert_eq!(live.ask("SET a 2 XX").await, "$-1");
        assert_eq!(live.ask("PERSIST b").await, ":0");
        assert_eq!(live.ask("INCR c").await, ":1");
        live.stop().await;

        let live = Live::start(&disk, 500);
        assert_eq!(live.ask("MGET a b c").await, "*3 $-1 $-1 $1 1");
        live.stop().await;
    });
}

#[test]
fn what_was_looked_up_is_no_reply_once_it_has_expired() {
    runtime().block_on(async {
        let live = Live::start(&Disk::default(), 0);
        assert_eq!(live.ask("SET a old PX 1000").await, "+OK");
        assert_eq!(live.ask("SET b old").await, "+OK");
        let keys = [&b"a"[..], b"b", b"none"];
        let look_up = || live.engine.look_up(&keys).unwrap();
        let read = |key: usize, entry: &Option<Entry>| {
            let value: ReadFn = |view, args| {
                let entry = view.get(args[0]);
                entry.map_or(Reply::Integer(0), |entry| {
                    Reply::Bytes(entry.value().to_vec())
                })
            };
            live.engine.read_of(value, &keys[key..=key], entry.clone())
        };
        let bytes = |value: &[u8]| Some(Reply::Bytes(value.to_vec()));
        let before = look_up();
        // Others write meanwhile: what was looked up is as it was.
        assert_eq!(live.ask("SET b new").await, "+OK");
        assert_eq!(live.ask("SET none new").await, "+OK");
        let replies = |entries: &[Option<Entry>]| [0, 1, 2].map(|at| read(at, &entries[at]));
        assert_eq!(
            replies(&before),
            [bytes(b"old"), bytes(b"old"), Some(Reply::Integer(0))]
        );
        live.at(1000);
        // A reply from now on would be newer than those behind it.
        assert_eq!(live.ask("SET a new").await, "+OK");
        assert_eq!(read(0, &before[0]), None);
        assert_eq!(
            replies(&look_up()),
            [bytes(b"new"), bytes(b"new"), bytes(b"new")]
        );
        live.stop().await;
    });
}

#[test]
fn a_key_that_a_write_under_way_lets_live_on_is_not_seen_gone_meanwhile() {
    runtime().block_on(async {
        let disk = Disk::default();
        let live = Arc::new(Live::start(&disk, 0));
        for (key, request) in [
            ("a", "PERSIST a"),
            ("b", "EXPIRE b 100"),
            ("c", "GETEX c PERSIST"),
            ("d", "SET d 2"),
        ] {
            let set = format!("SET {key} 1 PX 1000");
            assert_eq!(live.at(0).ask(&set).await, "+OK");
            // The log's time never falls: the key expires a second behind whatever that is.
            let now = live.engine.time().0 - START;
            disk.slow_syncs(Duration::from_millis(300));
            let writer = Arc::clone(&live);
            live.at(now + 500);
            let written = tokio::spawn(async move { writer.ask(request).await });
            tokio::time::sleep(Duration::from_millis(100)).await;
            live.at(now + 2000);
            let get = format!("GET {key}");
            assert_eq!(
                live.ask(&get).await,
                "$1 1",
                "while {request} is on its way"
            );
            written.await.unwrap();
            disk.slow_syncs(Duration::ZERO);
            let value = if key == "d" { "$1 2" } else { "$1 1" };
            assert_eq!(live.ask(&get).await, value, "behind {request}");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// For what is decided when a write is applied, whether or not it was swept.
    #[test]
    fn a_key_that_has_expired_is_an_absent_one_to_every_command(
        requests in proptest::collection::vec(requests(), 1..8),
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 3),
    ) {
        let now = Timestamp(START);
        let keys = || (0..3_u8).map(|n| vec![b'k', b'0' + n]);
        let [mut with_expired, mut without] = [(), ()].map(|()| {
            let store: Arc<dyn InMemStore> = store::with_shards(1, 0).into();
            (Applier::new(Arc::clone(&store), Arc::default(), Arc::default()), store)
        });
        for (key, value) in keys().zip(&values) {
            // Two that have just expired, in the millisecond they do so in, and one that stays.
            let expires = if key == b"k2" { START + 1 } else { START };
            with_expired.1.set(Entry::new(&key, value, Some(Timestamp(expires))));
            if key == b"k2" {
                without.1.set(Entry::new(&key, value, Some(Timestamp(expires))));
            }
        }
        for (words, position) in requests.iter().zip(1..) {
            let replies = [&mut with_expired.0, &mut without.0].map(|applier| {
                interpreted(words, Dialect::Resp2, |command| match command {
                    Command::Write(operation) => applier.apply(&operation, position, now),
                    Command::Read { run, args, .. } => {
                        applier.at_once(position, now, |applier| run(&applier.view(), args))
                    }
                    Command::Ready(reply) => reply,
                    Command::Server(_) => Reply::Ok,
                })
            });
            let [one, other] = replies.map(|reply| sent(reply, Dialect::Resp2));
            prop_assert_eq!(one, other, "the reply to {:?}", words);
        }
        for key in keys() {
            let [one, other] = [&with_expired.1, &without.1]
                .map(|store| store.get(&key).filter(|entry| entry.is_live(now)));
            prop_assert_eq!(one, other);
        }
    }
}

fn requests() -> impl Strategy<Value = Words> {
    let requests = Requests {
        key: (0..3_u8).prop_map(|n| vec![b'k', b'0' + n]).boxed(),
        times: Times::around(START),
        flush: true,
    };
    prop_oneof![8 => requests.write(), 1 => requests.get()]
}
