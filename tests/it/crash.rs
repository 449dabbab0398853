//! kill -9 under load, and a restart on the same log, again and again.
//!
//! Each writer has keys of its own and notes every change as it sends it. What the server holds
//! after the restart must be the state after some *prefix* of its writer's changes: one that
//! covers all that were acknowledged (P1) and all that any reader has seen (P2).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::client::Client;
use crate::support::process::{Server, eventually, file_names, segments};

const WRITERS: usize = 4;
const KEYS: u64 = 24;

/// What keys hold: their values. A key that is not there is absent.
type State = BTreeMap<String, String>;

/// A key, and its new value; none for a DEL.
type Change = (String, Option<String>);

#[test]
fn kill_9_loses_nothing_that_was_acknowledged_or_seen() {
    crash_again_and_again(8, &[], 0);
}

#[test]
fn kill_9_loses_nothing_that_reached_the_system_even_where_syncs_are_rare() {
    crash_again_and_again(4, &["-fsync", "everysec"], 0);
}

/// Compacts again as soon as the log has grown by a hundredth of the last snapshot.
const COMPACTS: &[&str] = &["-compact-mib", "0", "-compact-percent", "1"];

/// Keys that nobody changes: a snapshot of them takes long enough for a kill to hit one.
const STILL: usize = 2_000;

#[test]
fn kill_9_in_the_midst_of_a_snapshot_loses_nothing() {
    snapshots_cut_short(20);
}

/// `just crashes`.
#[test]
#[ignore = "takes a quarter of an hour; POSTRES_TEST_CRASHES says how many kills"]
fn a_thousand_kills_in_the_midst_of_snapshots_lose_nothing() {
    let rounds = std::env::var("POSTRES_TEST_CRASHES").ok();
    snapshots_cut_short(rounds.map_or(1000, |rounds| rounds.parse().expect("a number")));
}

fn snapshots_cut_short(rounds: u64) {
    let Compactions {
        finished,
        cut_short,
    } = crash_again_and_again(rounds, COMPACTS, STILL);
    println!(
        "{rounds} kills: {cut_short} of them hit a snapshot; {finished} snapshots were finished"
    );
    assert!(
        finished as u64 >= rounds / 2,
        "{finished} snapshots were finished"
    );
    assert!(cut_short as u64 * 5 >= rounds, "{cut_short} were cut short");
}

/// What a server says of each snapshot that counts.
const FINISHED: &str = "the snapshot is written, read back and found good";

/// What became of the snapshots of a run.
#[derive(Debug, Default)]
struct Compactions {
    finished: usize,
    cut_short: usize,
}

impl Compactions {
    /// Counts those of a server that was killed: what it had said, and what it left behind.
    fn count(&mut self, said: &str, dir: &Path) {
        self.finished += said.matches(FINISHED).count();
        let files = file_names(dir);
        let cut_short = files.iter().any(|name| name.ends_with(".snapshot.new"));
        self.cut_short += usize::from(cut_short);
    }
}

/// Gives a server these many keys that nobody changes.
fn keep_still(client: &mut Client, keys: usize) {
    for first in (0..keys).step_by(1000) {
        let some = first..keys.min(first + 1000);
        let sets = some.clone().map(|n| format!("SET still-{n} {n:0200}\n"));
        client.send(sets.collect::<String>().as_bytes());
        for _ in some {
            assert_eq!(client.reply(), "+OK");
        }
    }
}

fn crash_again_and_again(rounds: u64, args: &[&str], still: usize) -> Compactions {
    let dir = tempfile::tempdir().unwrap();
    let mut compactions = Compactions::default();
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()));
    let mut states: Vec<State> = vec![State::new(); WRITERS];
    let (mut acknowledged, mut rounds_with_changes_in_flight) = (0, 0);
    let mut segments_seen = BTreeSet::new();
    for round in 0..rounds {
        let server = start(dir.path(), round, args);
        if round == 0 {
            keep_still(&mut server.connect(), still);
        }
        // However slow the machine, half of the kills follow a snapshot: the others may come
        // before the first is there.
        let snapshot_first = still > 0 && round.is_multiple_of(2);
        let until_kill = Duration::from_millis(300 + random.below(600));
        let until_kill = |server: &Server| {
            if snapshot_first {
                let finished = eventually(|| server.stderr().contains(FINISHED));
                assert!(finished, "no snapshot in time:\n{}", server.stderr());
            }
            std::thread::sleep(until_kill);
        };
        let (histories, said) = write_until_killed(server, round, until_kill, &mut random);
        compactions.count(&said, dir.path());
        segments_seen.extend(segments(dir.path()));

        let server = start(dir.path(), round + 1, args);
        let mut client = server.connect();
        for (writer, (state, history)) in states.iter_mut().zip(&histories).enumerate() {
            let found = read_back(&mut client, writer);
            check(state, history, &found).unwrap_or_else(|fault| {
                panic!(
                    "round {round}, writer {writer}: {fault}\n{}",
                    server.stderr()
                );
            });
            *state = found;
        }
        let keys = still + states.iter().map(State::len).sum::<usize>();
        assert_eq!(
            client.request("DBSIZE"),
            format!("+OK {keys}"),
            "round {round}"
        );
        if let Some(n) = (round as usize * 997).checked_rem(still) {
            let value = client.request(&format!("GET still-{n}"));
            assert_eq!(value, format!("+OK {n:0200}"), "round {round}");
        }
        // The next round begins with a crash of this server, too, but an idle one.
        server.kill();

        acknowledged += histories.iter().map(|h| h.acknowledged).sum::<usize>();
        let in_flight = histories.iter().any(|h| h.changes.len() > h.acknowledged);
        rounds_with_changes_in_flight += u32::from(in_flight);
    }
    assert!(acknowledged > 1_000, "only {acknowledged} writes: no load");
    assert!(rounds_with_changes_in_flight > 0, "no kill hit a write");
    assert!(segments_seen.len() > 3, "no rotation: {segments_seen:?}");
    compactions
}

fn start(dir: &Path, round: u64, args: &[&str]) -> Server {
    let shards = if round.is_multiple_of(2) { "1" } else { "8" };
    let threads = if round % 4 < 2 { "1" } else { "2" };
    let own = ["-shards", shards, "-threads", threads];
    Server::start(dir, &[&own, args].concat())
}

/// What one writer did in one round.
#[derive(Debug, Default)]
struct History {
    /// All changes in the order they were sent; those that were not all sent included.
    changes: Vec<Change>,
    /// How many of them were acknowledged.
    acknowledged: usize,
    /// How many of them must have been durable since a reader saw what the last of them did.
    seen: usize,
}

/// Lets the writers and a reader loose, and kills the server in the midst of it, once
/// `until_kill` has returned. Says what the server had written to stderr.
fn write_until_killed(
    server: Server,
    round: u64,
    until_kill: impl FnOnce(&Server),
    random: &mut Random,
) -> (Vec<History>, String) {
    let killed = AtomicBool::new(false);
    let clients: Vec<Client> = (0..WRITERS).map(|_| server.connect()).collect();
    let mut reader = server.connect();
    std::thread::scope(|scope| {
        let writers: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(writer, client)| {
                let (random, killed) = (Random(random.next()), &killed);
                scope.spawn(move || write(client, writer, round, random, killed))
            })
            .collect();
        let (choice, killed_too) = (Random(random.next()), &killed);
        let seen = scope.spawn(move || watch(&mut reader, round, choice, killed_too));
        until_kill(&server);
        killed.store(true, Ordering::SeqCst);
        let said = server.killed();
        let mut histories: Vec<History> = writers.into_iter().map(|w| w.join().unwrap()).collect();
        for (history, seen) in histories.iter_mut().zip(seen.join().unwrap()) {
            history.seen = seen;
        }
        (histories, said)
    })
}

/// Sends groups of batches, each batch one write to the socket, and counts what is acknowledged.
fn write(
    mut client: Client,
    writer: usize,
    round: u64,
    mut random: Random,
    killed: &AtomicBool,
) -> History {
    let mut history = History::default();
    loop {
        for _ in 0..=random.below(3) {
            let mut batch = String::new();
            for _ in 0..=random.below(12) {
                let change = random_change(writer, round, history.changes.len(), &mut random);
                batch += &request(&change);
                history.changes.push(change);
            }
            if client.try_send(batch.as_bytes()).is_err() {
                assert!(killed.load(Ordering::SeqCst), "closed before the kill");
                // Some of it may have arrived, and replies to earlier ones may be there.
                break;
            }
        }
        while history.acknowledged < history.changes.len() {
            match client.try_line() {
                Ok(line) if line == b"+OK\n" => history.acknowledged += 1,
                other if killed.load(Ordering::SeqCst) => {
                    let cut = other.is_ok_and(|line| !line.ends_with(b"\n"));
                    assert!(cut || history.acknowledged < history.changes.len());
                    return history;
                }
                other => panic!("writer {writer} was answered {other:?}"),
            }
        }
    }
}

/// One change in four removes its key. Values are unique: they tell the round and the position.
fn random_change(writer: usize, round: u64, position: usize, random: &mut Random) -> Change {
    let key = key(writer, random.below(KEYS));
    if random.below(4) == 0 {
        return (key, None);
    }
    let padding = "x".repeat(random.below(2_000) as usize);
    (key, Some(format!("{round}:{position}:{padding}")))
}

fn request((key, value): &Change) -> String {
    match value {
        Some(value) => format!("SET {key} {value}\n"),
        None => format!("DEL {key}\n"),
    }
}

fn key(writer: usize, n: u64) -> String {
    format!("w{writer}-{n}")
}

/// Reads keys at random until the kill; says for each writer how many of its changes must have
/// been durable, going by the values that were seen.
fn watch(client: &mut Client, round: u64, mut random: Random, killed: &AtomicBool) -> Vec<usize> {
    let mut seen = vec![0; WRITERS];
    loop {
        let writer = random.below(WRITERS as u64) as usize;
        let get = format!("GET {}\n", key(writer, random.below(KEYS)));
        let reply = client
            .try_send(get.as_bytes())
            .and_then(|()| client.try_line());
        let Some(line) = reply.ok().filter(|line| line.ends_with(b"\n")) else {
            assert!(killed.load(Ordering::SeqCst), "closed before the kill");
            return seen;
        };
        let line = String::from_utf8(line).unwrap();
        let value = line.strip_prefix("+OK ");
        let position = value.and_then(|value| {
            let mut parts = value.split(':');
            let same_round = parts.next()? == round.to_string();
            parts.next().filter(|_| same_round)?.parse::<usize>().ok()
        });
        seen[writer] = seen[writer].max(position.map_or(0, |position| position + 1));
    }
}

fn read_back(client: &mut Client, writer: usize) -> State {
    let mut state = State::new();
    for key in (0..KEYS).map(|n| key(writer, n)) {
        let reply = client.request(&format!("GET {key}"));
        match reply.strip_prefix("+OK ") {
            Some(value) => drop(state.insert(key, value.to_owned())),
            None => assert_eq!(reply, "-GET could not find key in store"),
        }
    }
    state
}

/// Whether `found` is what some prefix of the history makes of `before`: one that is long enough.
fn check(before: &State, history: &History, found: &State) -> Result<(), String> {
    let History {
        changes,
        acknowledged,
        seen,
    } = history;
    let mut state = before.clone();
    let mut longest_match = (state == *found).then_some(0);
    let mut nearest = (usize::MAX, 0, String::new());
    for len in 1..=changes.len() {
        let (key, value) = &changes[len - 1];
        match value {
            Some(value) => drop(state.insert(key.clone(), value.clone())),
            None => drop(state.remove(key)),
        }
        if len < *acknowledged {
            // Most states lie here, and only in a failure do they matter.
            continue;
        }
        if state == *found {
            longest_match = Some(len);
        }
        let differences = differences(&state, found);
        if differences.len() < nearest.0 {
            nearest = (differences.len(), len, differences.join("\n"));
        }
    }
    match longest_match {
        Some(len) if len >= *acknowledged && len >= *seen => Ok(()),
        Some(len) if len >= *acknowledged => Err(format!(
            "change {seen} was seen by a reader, but only {len} survived"
        )),
        _ => Err(format!(
            "no state from {acknowledged} acknowledged to {} sent changes fits; {} comes nearest:\n{}",
            changes.len(),
            nearest.1,
            nearest.2
        )),
    }
}

/// The keys in which two states differ, with the beginnings of their values.
fn differences(expected: &State, found: &State) -> Vec<String> {
    let keys: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let differ = keys
        .into_iter()
        .filter(|&key| expected.get(key) != found.get(key));
    let start = |value: Option<&String>| {
        value.map_or("absent".into(), |v| v.chars().take(20).collect::<String>())
    };
    differ
        .map(|key| {
            format!(
                "  {key}: found {}, expected {}",
                start(found.get(key)),
                start(expected.get(key))
            )
        })
        .collect()
}

/// SplitMix64: enough randomness to vary the load, from a seed that a test can hold.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[test]
fn the_check_itself_tells_a_lost_write_from_one_that_was_never_acknowledged() {
    let set = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    let history = |acknowledged, seen| History {
        changes: vec![
            set("a", "1"),
            set("b", "2"),
            ("a".into(), None),
            set("b", "3"),
        ],
        acknowledged,
        seen,
    };
    let state = |pairs: &[(&str, &str)]| -> State {
        pairs
            .iter()
            .map(|&(key, value)| (key.into(), value.into()))
            .collect()
    };
    let two = state(&[("a", "1"), ("b", "2")]);
    assert!(check(&State::new(), &history(2, 0), &two).is_ok());
    assert!(check(&State::new(), &history(1, 2), &two).is_ok());
    assert!(
        check(&State::new(), &history(3, 0), &two).is_err(),
        "an acknowledged DEL is lost"
    );
    assert!(
        check(&State::new(), &history(2, 3), &two).is_err(),
        "what was seen is lost"
    );
    let out_of_order = state(&[("a", "1"), ("b", "3")]);
    assert!(check(&State::new(), &history(2, 0), &out_of_order).is_err());
    assert!(check(&State::new(), &history(0, 0), &State::new()).is_ok());
    assert!(
        check(&two, &history(0, 0), &State::new()).is_err(),
        "an earlier round is lost"
    );
}
