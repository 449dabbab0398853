//! kill -9 under a load of every command that writes, transactions included, and a restart on the
//! same log, again and again.
//!
//! Each writer has keys of its own. What the server holds of them after the restart must be the
//! state after some *prefix* of the writer's requests, one that covers all that were acknowledged
//! (P1), a transaction being one request: all of it is there or nothing. What requests do is taken
//! from the crate's own `Applier`; whether that is what it should be is tested elsewhere. None of
//! them depends on what time of day it is: see `Times::far_from`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postres::command::{Applier, Command, Condition, Deadline, Expiry, Operation, Reply, Rest};
use postres::protocol::Dialect;
use postres::store::{self, InMemStore};
use postres::time::{Timestamp, system_clock};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::support::process::Server;
use crate::support::requests::{Requests, Times, Words, interpreted, sent};
use crate::support::resp::encode;

const KEYS: usize = 20;

/// How far an expiry that counts from the server's time may be off what the model's time gives, in
/// milliseconds. Any two that are meant to differ are 100 seconds apart.
const TOLERANCE: u64 = 50_000;

#[test]
fn kill_9_leaves_of_each_writer_s_requests_all_up_to_one_and_no_part_of_it() {
    crash_again_and_again(6, 3, false);
}

#[test]
fn kill_9_does_so_where_a_writer_removes_all_keys_now_and_then() {
    crash_again_and_again(3, 1, true);
}

fn crash_again_and_again(rounds: usize, writers: usize, flush: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut states = vec![State::new(); writers];
    let (mut acknowledged, mut in_flight, mut transactions) = (0, 0, 0);
    for round in 0..rounds {
        let shards = if round % 2 == 0 { "1" } else { "8" };
        let threads = if round % 4 < 2 { "1" } else { "2" };
        let server = Server::start(dir.path(), &["-shards", shards, "-threads", threads]);
        let until_kill = Duration::from_millis(400 + system_clock()().0 % 500);
        let histories = write_until_killed(server, &states, flush, until_kill);

        let server = Server::start(
            dir.path(),
            &["-shards", if shards == "1" { "8" } else { "1" }],
        );
        for (writer, (state, history)) in states.iter_mut().zip(&histories).enumerate() {
            let found = read_back(server.addr(), writer);
            if let Err(fault) = check(state, history, &found) {
                panic!(
                    "round {round}, writer {writer}: {fault}\n{}",
                    server.stderr()
                );
            }
            *state = found;
        }
        // The next round begins with a crash of this server, too, but an idle one.
        server.kill();
        acknowledged += histories.iter().map(|h| h.acknowledged).sum::<usize>();
        in_flight += usize::from(histories.iter().any(|h| h.asked.len() > h.acknowledged));
        let asked = histories.iter().flat_map(|h| &h.asked[..h.acknowledged]);
        transactions += asked.filter(|ask| ask.transaction.is_some()).count();
    }
    println!("{acknowledged} acknowledged, {transactions} transactions among them");
    assert!(acknowledged > 100, "only {acknowledged}: no load");
    assert!(transactions > 20, "only {transactions} transactions");
    assert!(in_flight > 0, "no kill hit a request");
}

/// Keys, their values and expiries.
type State = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

/// What is sent as one: a request, or a transaction.
#[derive(Debug, Clone)]
struct Ask {
    dialect: Dialect,
    words: Vec<Words>,
    transaction: Option<Watched>,
}

/// What a transaction watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Nothing,
    /// A key that nobody changes.
    Unchanged,
    /// A key that the writer itself changes before EXEC.
    Changed,
}

fn key(writer: usize, n: usize) -> Vec<u8> {
    format!("w{writer}-{n}").into_bytes()
}

fn asks(writer: usize, now: Timestamp, flush: bool) -> impl Strategy<Value = Ask> {
    let requests = Requests {
        key: (0..KEYS).prop_map(move |n| key(writer, n)).boxed(),
        times: Times::far_from(now.0),
        flush,
    };
    let dialect = || select(vec![Dialect::Resp2, Dialect::Line]);
    let write = (requests.write(), dialect())
        .prop_map(|(words, dialect)| Ask::new(vec![words], dialect, None));
    let watched = select(vec![Watched::Nothing, Watched::Unchanged, Watched::Changed]);
    let inside = prop_oneof![6 => requests.write(), 1 => requests.get()];
    let inside = proptest::collection::vec(inside, 1..6);
    let transaction = (inside, dialect(), watched)
        .prop_map(|(words, dialect, watched)| Ask::new(words, dialect, Some(watched)));
    prop_oneof![4 => write, 1 => transaction]
}

impl Ask {
    fn new(words: Vec<Words>, dialect: Dialect, transaction: Option<Watched>) -> Self {
        let fits = words.iter().all(fits_on_a_line);
        let dialect = if fits { dialect } else { Dialect::Resp2 };
        Self {
            dialect,
            words,
            transaction,
        }
    }

    /// What goes over the wire.
    fn bytes(&self, writer: usize) -> Vec<u8> {
        let key = key(writer, 0);
        let key = key.as_slice();
        let mut requests: Vec<Vec<&[u8]>> = Vec::new();
        if let Some(watched) = self.transaction {
            match watched {
                Watched::Nothing => {}
                Watched::Unchanged => requests.push(vec![b"WATCH", key, b"another"]),
                Watched::Changed => {
                    requests.push(vec![b"WATCH", b"another", key]);
                    requests.push(vec![b"APPEND", key, b"+"]);
                }
            }
            requests.push(vec![b"MULTI"]);
        }
        requests.extend(
            self.words
                .iter()
                .map(|words| words.iter().map(Vec::as_slice).collect()),
        );
        requests.extend(self.transaction.map(|_| vec![&b"EXEC"[..]]));
        let requests = requests.iter().map(|words| match self.dialect {
            Dialect::Line => [&words.join(&b' '), &b"\n"[..]].concat(),
            _ => encode(words),
        });
        requests.collect::<Vec<_>>().concat()
    }
}

/// Whether these are the words of a line with them.
fn fits_on_a_line(words: &Words) -> bool {
    let fits = |word: &Vec<u8>| {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        !word.is_empty() && !word.iter().any(blank)
    };
    let one_key = words.len() == 2 || !words[0].eq_ignore_ascii_case(b"DEL");
    one_key && words.iter().all(fits)
}

/// What a writer's keys are to hold.
struct Model {
    applier: Applier,
    position: u64,
    now: Timestamp,
    writer: usize,
}

impl Model {
    /// The one that holds what was found.
    fn new(writer: usize, state: &State, now: Timestamp) -> Self {
        let store: Arc<dyn InMemStore> = store::with_shards(1, 0).into();
        let applier = Applier::new(store, Arc::default(), Arc::default());
        let mut model = Self {
            applier,
            position: 0,
            now,
            writer,
        };
        for (key, (value, expires)) in state {
            let expiry = expires.map(|at| Expiry::New(Deadline::At(at.cast_signed())));
            model.write(&Operation::SetWith {
                key,
                expiry: expiry.unwrap_or(Expiry::Never),
                condition: Condition::Always,
                get: false,
                value: Rest(value),
            });
        }
        model
    }

    fn write(&mut self, operation: &Operation<'_>) -> Reply {
        self.position += 1;
        self.applier.apply(operation, self.position, self.now)
    }

    /// Carries out what was asked; says what the writer must be told.
    fn carry_out(&mut self, ask: &Ask) -> Vec<u8> {
        let mut replies = Vec::new();
        match ask.transaction {
            None => {}
            Some(Watched::Nothing) => replies.push(Reply::Ok),
            Some(Watched::Unchanged) => replies.extend([Reply::Ok, Reply::Ok]),
            Some(Watched::Changed) => {
                let key = key(self.writer, 0);
                let appended = self.write(&Operation::Append {
                    key: &key,
                    value: Rest(b"+"),
                });
                replies.extend([Reply::Ok, appended, Reply::Ok]);
            }
        }
        if ask.transaction.is_some() {
            replies.extend(ask.words.iter().map(|_| Reply::Status("QUEUED")));
        }
        if ask.transaction == Some(Watched::Changed) {
            replies.push(Reply::Aborted);
        } else {
            let carried_out: Vec<_> = ask
                .words
                .iter()
                .map(|words| self.request(words, ask.dialect))
                .collect();
            match ask.transaction {
                None => replies.extend(carried_out),
                Some(_) => replies.push(Reply::Array(carried_out)),
            }
        }
        let replies = replies.into_iter().map(|reply| sent(reply, ask.dialect));
        replies.collect::<Vec<_>>().concat()
    }

    fn request(&mut self, words: &Words, dialect: Dialect) -> Reply {
        interpreted(words, dialect, |command| match command {
            Command::Write(operation) => self.write(&operation),
            Command::Read { run, args, .. } => run(&self.applier.view(), args),
            Command::Ready(reply) => reply,
            Command::Server(_) => Reply::Ok,
        })
    }

    fn state(&self) -> State {
        let keys = (0..KEYS).map(|n| key(self.writer, n));
        let entries = keys.filter_map(|key| self.applier.view().get(&key));
        entries
            .map(|entry| {
                let expires = entry.expires().map(|at| at.0);
                (entry.key().to_vec(), (entry.value().to_vec(), expires))
            })
            .collect()
    }
}

/// What one writer did in one round.
#[derive(Debug)]
struct History {
    writer: usize,
    /// The model's time.
    now: Timestamp,
    /// All that was sent, in order; what was not all sent included.
    asked: Vec<Ask>,
    /// How much of it was acknowledged.
    acknowledged: usize,
}

/// Lets the writers loose, and kills the server in the midst of it.
fn write_until_killed(
    server: Server,
    states: &[State],
    flush: bool,
    until_kill: Duration,
) -> Vec<History> {
    let killed = AtomicBool::new(false);
    let addr = server.addr();
    std::thread::scope(|scope| {
        let writers: Vec<_> = states
            .iter()
            .enumerate()
            .map(|(writer, state)| {
                let killed = &killed;
                scope.spawn(move || write(addr, writer, state, flush, killed))
            })
            .collect();
        std::thread::sleep(until_kill);
        killed.store(true, Ordering::SeqCst);
        server.kill();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    })
}

/// Sends groups of batches, each batch one write to the socket, and wants the replies to them that
/// the model gives.
fn write(
    addr: SocketAddr,
    writer: usize,
    state: &State,
    flush: bool,
    killed: &AtomicBool,
) -> History {
    let now = system_clock()();
    let mut model = Model::new(writer, state, now);
    let mut history = History {
        writer,
        now,
        asked: Vec::new(),
        acknowledged: 0,
    };
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let group = proptest::collection::vec(
        proptest::collection::vec(asks(writer, now, flush), 1..12),
        1..4,
    );
    let mut runner = TestRunner::new(ProptestConfig::default());
    loop {
        let mut replies = Vec::new();
        for batch in group.new_tree(&mut runner).unwrap().current() {
            let mut bytes = Vec::new();
            for ask in batch {
                bytes.extend(ask.bytes(writer));
                replies.push(model.carry_out(&ask));
                history.asked.push(ask);
            }
            if stream.write_all(&bytes).is_err() {
                assert!(killed.load(Ordering::SeqCst), "closed before the kill");
                // Some of it may have arrived, and replies to earlier ones may be there.
                break;
            }
        }
        for reply in replies {
            let mut told = vec![0; reply.len()];
            if let Err(error) = stream.read_exact(&mut told) {
                assert!(killed.load(Ordering::SeqCst), "{error} before the kill");
                return history;
            }
            let ask = &history.asked[history.acknowledged];
            assert_eq!(
                told.escape_ascii().to_string(),
                reply.escape_ascii().to_string(),
                "the reply to {ask:?}"
            );
            history.acknowledged += 1;
        }
    }
}

fn read_back(addr: SocketAddr, writer: usize) -> State {
    let stream = TcpStream::connect(addr).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut replies = std::io::BufReader::new(stream);
    let mut state = State::new();
    for key in (0..KEYS).map(|n| key(writer, n)) {
        let get = encode([b"GET".as_slice(), &key]);
        let expires = encode([b"PEXPIRETIME".as_slice(), &key]);
        replies
            .get_mut()
            .write_all(&[get, expires].concat())
            .unwrap();
        let len = number(&mut replies, b'$');
        let value = usize::try_from(len).ok().map(|len| {
            let mut value = vec![0; len + 2];
            replies.read_exact(&mut value).unwrap();
            value.truncate(len);
            value
        });
        let expires = u64::try_from(number(&mut replies, b':')).ok();
        if let Some(value) = value {
            state.insert(key, (value, expires));
        }
    }
    state
}

/// The number behind this byte, alone on a line.
fn number(replies: &mut impl std::io::BufRead, kind: u8) -> i64 {
    let mut line = String::new();
    replies.read_line(&mut line).unwrap();
    let number = line.strip_prefix(char::from(kind)).map(str::trim_end);
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{line:?}"))
}

/// Whether `found` is what some prefix of the history makes of `before`: one that is long enough.
fn check(before: &State, history: &History, found: &State) -> Result<(), String> {
    let History {
        writer,
        now,
        asked,
        acknowledged,
    } = history;
    let mut model = Model::new(*writer, before, *now);
    let mut nearest = (usize::MAX, String::new());
    for len in 0..=asked.len() {
        if let Some(last) = len.checked_sub(1) {
            model.carry_out(&asked[last]);
        }
        // What was acknowledged must be there, and what stands before it lies in the past.
        if len < *acknowledged {
            continue;
        }
        let differences = differences(&model.state(), found);
        if differences.is_empty() {
            return Ok(());
        }
        if differences.len() < nearest.0 {
            let text = format!(
                "nearest is the state after {len}:\n{}",
                differences.join("\n")
            );
            nearest = (differences.len(), text);
        }
    }
    Err(format!(
        "no state after {acknowledged} to {} of the requests was found; {}",
        asked.len(),
        nearest.1
    ))
}

/// The keys in which two states differ.
fn differences(expected: &State, found: &State) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let differ = keys
        .into_iter()
        .filter(|&key| match (expected.get(key), found.get(key)) {
            (Some((value, expires)), Some((other, at))) => {
                let near = match (expires, at) {
                    (Some(expires), Some(at)) => expires.abs_diff(*at) < TOLERANCE,
                    (expires, at) => expires == at,
                };
                value != other || !near
            }
            (None, None) => false,
            _ => true,
        });
    let show = |state: Option<&(Vec<u8>, Option<u64>)>| {
        state.map_or("absent".into(), |(value, expires)| {
            format!("{} {expires:?}", value.escape_ascii())
        })
    };
    differ
        .map(|key| {
            let name = key.escape_ascii();
            format!(
                "  {name}: found {}, expected {}",
                show(found.get(key)),
                show(expected.get(key))
            )
        })
        .collect()
}

#[test]
fn the_check_itself_tells_half_a_transaction_and_a_lost_request() {
    let words = |text: &str| -> Words {
        text.split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect()
    };
    let asked = vec![
        Ask::new(vec![words("SET w0-1 a")], Dialect::Line, None),
        Ask::new(
            vec![words("INCR w0-2"), words("SET w0-3 b")],
            Dialect::Resp2,
            Some(Watched::Nothing),
        ),
        Ask::new(
            vec![words("DEL w0-1")],
            Dialect::Resp2,
            Some(Watched::Changed),
        ),
        Ask::new(
            vec![words("PEXPIREAT w0-3 4000000000000")],
            Dialect::Line,
            None,
        ),
    ];
    let history = |acknowledged| History {
        writer: 0,
        now: Timestamp(1_700_000_000_000),
        asked: asked.clone(),
        acknowledged,
    };
    let state = |pairs: &[(&str, &str, Option<u64>)]| -> State {
        let pair = |&(key, value, expires): &(&str, &str, _)| (key.into(), (value.into(), expires));
        pairs.iter().map(pair).collect()
    };
    let one = state(&[("w0-1", "a", None)]);
    let two = state(&[
        ("w0-1", "a", None),
        ("w0-2", "1", None),
        ("w0-3", "b", None),
    ]);
    let half = state(&[("w0-1", "a", None), ("w0-2", "1", None)]);
    let mut all = two.clone();
    all.insert(b"w0-0".to_vec(), (b"+".to_vec(), None));
    let aborted = all.clone();
    all.insert(b"w0-3".to_vec(), (b"b".to_vec(), Some(4_000_000_000_999)));
    let none = State::new();
    for (found, least, most) in [
        (&none, 0, 0),
        (&one, 0, 1),
        (&two, 0, 2),
        (&aborted, 0, 3),
        (&all, 0, 4),
    ] {
        for acknowledged in 0..=4 {
            let fine = check(&none, &history(acknowledged), found).is_ok();
            assert_eq!(
                fine,
                (least..=most).contains(&acknowledged),
                "{found:?} {acknowledged}"
            );
        }
    }
    assert!(
        check(&none, &history(0), &half).is_err(),
        "half a transaction"
    );
    assert!(
        check(&two, &history(0), &none).is_err(),
        "an earlier round is lost"
    );
}
