//! What clients see of each other's writes to several keys, and who wins where only one can.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::process::Server;

const KEYS: usize = 40;

fn keys() -> Vec<String> {
    (0..KEYS).map(|n| format!("key:{n}")).collect()
}

/// Gives all keys the same value, a larger one each time, by an MSET or a transaction, until told
/// to stop.
fn write(client: &mut Client, done: &AtomicBool) {
    for n in 1.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let pairs: Vec<_> = keys().iter().map(|key| format!("{key} {n}")).collect();
        if n % 2 == 0 {
            assert_eq!(client.request(&format!("MSET {}", pairs.join(" "))), "+OK");
        } else {
            let sets: String = pairs.iter().map(|pair| format!("SET {pair}\n")).collect();
            client.send(format!("MULTI\n{sets}EXEC\n").as_bytes());
            for expected in std::iter::once("+OK").chain(std::iter::repeat_n("+QUEUED", KEYS)) {
                assert_eq!(client.reply(), expected);
            }
            assert_eq!(client.reply(), format!("+OK {KEYS}"));
            (0..KEYS).for_each(|_| assert_eq!(client.reply(), "OK"));
        }
    }
}

/// The elements of a list.
fn elements(client: &mut Client) -> Vec<String> {
    let count = client.reply();
    let count = count.strip_prefix("+OK ").unwrap().parse().unwrap();
    (0..count).map(|_| client.reply()).collect()
}

/// Reads so many times, twice at a time, beside somebody who writes until then, with one thread for clients and
/// with two.
fn beside(
    write: impl Fn(&mut Client, &AtomicBool) + Sync,
    rounds: usize,
    read: impl Fn(&mut Client, usize) + Sync,
) {
    for threads in ["1", "2"] {
        let dir = tempfile::tempdir().unwrap();
        let args = ["-shards", "8", "-fsync", "never", "-threads", threads];
        let server = Server::start(dir.path(), &args);
        let first: Vec<_> = keys().iter().map(|key| format!("{key} 0")).collect();
        let first = format!("MSET {}", first.join(" "));
        assert_eq!(server.connect().request(&first), "+OK");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(&mut server.connect(), &done));
            let reader = || {
                let mut client = server.connect();
                (0..rounds).for_each(|round| read(&mut client, round));
            };
            let readers = [scope.spawn(reader), scope.spawn(reader)];
            let read = readers.map(std::thread::ScopedJoinHandle::join);
            done.store(true, Ordering::Relaxed);
            writer.join().unwrap();
            read.into_iter().for_each(|read| read.unwrap());
        });
        server.stop();
    }
}

#[test]
fn no_read_of_several_keys_sees_half_of_an_mset_or_of_a_transaction() {
    let mget = format!("MGET {}\n", keys().join(" "));
    let gets: String = keys().iter().map(|key| format!("GET {key}\n")).collect();
    beside(write, 1500, |client, round| {
        let values = match round % 3 {
            0 => {
                client.send(mget.as_bytes());
                elements(client)
            }
            // Behind a write, where it goes through the log.
            1 => {
                client.send(format!("SET other 1\n{mget}").as_bytes());
                assert_eq!(client.reply(), "+OK");
                elements(client)
            }
            _ => {
                client.send(format!("MULTI\n{gets}EXEC\n").as_bytes());
                (0..=KEYS).for_each(|_| drop(client.reply()));
                elements(client)
            }
        };
        assert_eq!(values.len(), KEYS);
        assert!(
            values.iter().all(|value| *value == values[0]),
            "round {round}: {values:?}"
        );
    });
}

/// Reads of one key each, one behind the other: once one of them has seen a transaction, those
/// behind it do, too.
#[test]
fn whoever_has_seen_a_part_of_a_transaction_sees_all_of_it_from_then_on() {
    let gets: String = keys().iter().map(|key| format!("GET {key}\n")).collect();
    beside(write, 750, |client, round| {
        client.send(gets.as_bytes());
        let values: Vec<u64> = (0..KEYS)
            .map(|_| {
                client
                    .reply()
                    .strip_prefix("+OK ")
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        assert!(values.is_sorted(), "round {round}: {values:?}");
    });
}

/// Gives two keys the same value, a larger one each time, of which the first has mostly expired before it gets the
/// next.
fn write_what_expires(client: &mut Client, done: &AtomicBool) {
    for n in 1.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let sets = format!("MULTI\nSET key:0 {n} PX 1\nSET key:1 {n}\nEXEC\n");
        client.send(sets.as_bytes());
        for expected in ["+OK", "+QUEUED", "+QUEUED", "+OK 2", "OK", "OK"] {
            assert_eq!(client.reply(), expected);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads of a pipeline are looked up together, and one whose key has expired meanwhile is looked up again.
#[test]
fn no_read_sees_less_than_one_ahead_of_it_that_had_to_look_again() {
    let gets = "GET key:0\nGET key:1\n".repeat(8);
    beside(write_what_expires, 4000, |client, round| {
        client.send(gets.as_bytes());
        let values = (0..16).map(|_| client.reply());
        let values: Vec<_> = values
            .filter_map(|value| Some(value.strip_prefix("+OK ")?.parse::<u64>().unwrap()))
            .collect();
        assert!(values.len() >= 8);
        assert!(values.is_sorted(), "round {round}: {values:?}");
    });
}

/// One round of a race for `key`: the reply says who won.
fn try_to_take(client: &mut Client, key: &str, own: usize, round: usize) -> bool {
    let (line, won, lost) = match round % 3 {
        0 => (
            format!("SET {key} {own} NX"),
            "+OK",
            "-SET condition was not met",
        ),
        1 => (format!("SETNX {key} {own}"), "+OK 1", "+OK 0"),
        _ => (
            format!("MSETNX {key} {own} {key}:too {own}"),
            "+OK 1",
            "+OK 0",
        ),
    };
    let told = client.request(&line);
    assert!(told == won || told == lost, "{told}");
    told == won
}

/// Two clients race for these keys; who has won each.
fn race(server: &Server, rounds: std::ops::Range<usize>) -> BTreeMap<String, usize> {
    let start = Barrier::new(2);
    let won = std::thread::scope(|scope| {
        let racers = [1, 2].map(|own| {
            let (start, rounds) = (&start, rounds.clone());
            scope.spawn(move || {
                let mut client = server.connect();
                rounds
                    .map(|round| {
                        start.wait();
                        try_to_take(&mut client, &format!("lock:{round}"), own, round)
                    })
                    .collect::<Vec<_>>()
            })
        });
        racers.map(|racer| racer.join().unwrap())
    });
    let [one, two] = won;
    rounds
        .zip(one.into_iter().zip(two))
        .map(|(round, (one, two))| {
            assert!(
                one != two,
                "round {round}: {}",
                if one { "both won" } else { "none won" }
            );
            (format!("lock:{round}"), if one { 1 } else { 2 })
        })
        .collect()
}

#[test]
fn of_two_clients_that_race_to_set_a_key_that_is_absent_just_one_wins_also_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut winners = race(&server, 0..400);
    server.kill();
    let server = Server::start(dir.path(), &["-shards", "8"]);
    winners.extend(race(&server, 400..500));
    let mut client = server.connect();
    for (round, (key, winner)) in winners.iter().enumerate() {
        assert_eq!(
            client.request(&format!("GET {key}")),
            format!("+OK {winner}")
        );
        assert!(!try_to_take(&mut client, key, 3, round), "{key}");
    }
    let won = winners.values().filter(|winner| **winner == 1).count();
    assert!((1..500).contains(&won), "one was always first: no race");
    server.stop();
}

/// Asks for what takes long, and `reads` the replies, while another client asks for little: that must not wait
/// for it. On a busy machine it may have to wait for others, but not each time.
fn asks_for_much_beside_another(server: &Server, asked: &str, reads: impl Fn(&mut Client) + Sync) {
    let times: Vec<_> = (0..3)
        .map(|_| longest_beside(server, asked, &reads))
        .collect();
    let at_once = |(longest, took): &(Duration, Duration)| *longest < *took / 5;
    assert!(times.iter().any(at_once), "{times:?} beside {asked:?}");
}

/// The longest that the other client waited, and how long the first one did.
fn longest_beside(
    server: &Server,
    asked: &str,
    reads: &(impl Fn(&mut Client) + Sync),
) -> (Duration, Duration) {
    let mut slow = server.connect();
    let begun = Instant::now();
    slow.send(asked.as_bytes());
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            reads(&mut slow);
            begun.elapsed()
        });
        let mut quick = server.connect();
        let mut longest = Duration::ZERO;
        while !asking.is_finished() {
            let begun = Instant::now();
            assert_eq!(quick.request("EXISTS key:1:1"), "+OK 1");
            longest = longest.max(begun.elapsed());
        }
        let took = asking.join().unwrap();
        assert!(took > Duration::from_millis(20), "{took:?} is not long");
        (longest, took)
    })
}

#[test]
fn who_asks_for_much_keeps_nobody_waiting_even_where_one_thread_serves_all() {
    const KEYS: usize = 200_000;
    for threads in ["1", "2"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), &["-threads", threads, "-fsync", "never"]);
        let mut client = server.connect();
        for many in 0..KEYS / 1000 {
            let pairs: Vec<_> = (0..1000).map(|n| format!("key:{many}:{n} v")).collect();
            let set = format!("MSET {}", pairs.join(" "));
            assert_eq!(client.request(&set), "+OK");
        }
        let replies = |expected: &'static [&str]| {
            move |client: &mut Client| {
                for reply in expected {
                    assert_eq!(client.reply(), *reply);
                }
            }
        };
        let long = "KEYS *:*:*1*2*3*x\n";
        asks_for_much_beside_another(&server, long, replies(&["+OK 0"]));
        // It stands in its place in a pipeline, also behind a write.
        let among = format!("SET a 1\n{long}GET a\n{long}SET a 2\nGET a\n");
        let among_others = replies(&["+OK", "+OK 0", "+OK 1", "+OK 0", "+OK", "+OK 2"]);
        asks_for_much_beside_another(&server, &among, among_others);
        // What it finds is put into a reply meanwhile, too.
        asks_for_much_beside_another(&server, "KEYS key:*\n", |client| {
            assert_eq!(client.reply(), format!("+OK {KEYS}"));
        });
        server.stop();
    }
}
