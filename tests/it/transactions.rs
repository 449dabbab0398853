//! MULTI, EXEC, DISCARD, WATCH and UNWATCH, as clients see them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::disk::{Call, Disk};
use crate::support::client::Client;
use crate::support::process::{self, eventually};
use crate::support::resp::encode;
use crate::support::server;

/// Sends requests in RESP as one write, and wants these replies.
#[track_caller]
fn expect(client: &mut Client, requests: &[&str], replies: &str) {
    let requests = requests.iter().map(|request| {
        let words: Vec<_> = request.split(' ').collect();
        encode(&words)
    });
    client.send(&requests.collect::<Vec<_>>().concat());
    let told = client.bytes(replies.len());
    assert_eq!(String::from_utf8_lossy(&told), replies);
}

/// Sends lines as one write, and wants these replies.
#[track_caller]
fn expect_lines(client: &mut Client, lines: &[&str], replies: &[&str]) {
    client.send(format!("{}\n", lines.join("\n")).as_bytes());
    for reply in replies {
        assert_eq!(client.reply(), *reply);
    }
    assert_eq!(client.request("PING"), "+PONG", "and no reply more");
}

fn started() -> (tempfile::TempDir, process::Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = process::Server::start(dir.path(), &[]);
    (dir, server)
}

/// More replies that hold one value than its count of owners counts.
#[test]
fn a_key_is_compared_with_another_however_many_replies_hold_it() {
    let (_dir, server) = started();
    let mut client = server.connect();
    expect(&mut client, &["MSET k hello o hallo"], "+OK\r\n");
    let mget = encode([&["MGET"][..], &["k"; 300]].concat());
    let lcs = encode(["LCS", "k", "o"]);
    let found = format!("*300\r\n{}", "$5\r\nhello\r\n".repeat(300));
    let common = "$4\r\nhllo\r\n";
    let batch = [encode(["SET", "x", "1"]), mget.clone(), lcs.clone()];
    let transaction = |write: &[&str]| {
        [
            encode(["MULTI"]),
            encode(write),
            mget.clone(),
            lcs.clone(),
            encode(["EXEC"]),
        ]
    };
    let queued = "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n";
    for (requests, replies) in [
        (batch.concat(), format!("+OK\r\n{found}{common}")),
        (
            transaction(&["GET", "x"]).concat(),
            format!("{queued}$1\r\n1\r\n{found}{common}"),
        ),
        (
            transaction(&["INCR", "x"]).concat(),
            format!("{queued}:2\r\n{found}{common}"),
        ),
    ] {
        client.send(&requests);
        let told = client.bytes(replies.len());
        assert_eq!(String::from_utf8_lossy(&told), replies);
    }
}

#[test]
fn a_transaction_is_queued_until_exec_which_answers_all_of_it() {
    let (_dir, server) = started();
    let mut client = server.connect();
    let mut other = server.connect();
    expect(&mut client, &["MULTI", "SET a 1"], "+OK\r\n+QUEUED\r\n");
    expect(&mut other, &["GET a"], "$-1\r\n");
    expect(
        &mut client,
        &["incr a", "GET a", "GET none", "EXEC", "GET a"],
        "+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n+OK\r\n:2\r\n$1\r\n2\r\n$-1\r\n$1\r\n2\r\n",
    );
    expect(&mut client, &["MULTI", "EXEC"], "+OK\r\n*0\r\n");
    expect_lines(
        &mut client,
        &[
            "MULTI", "SET b 1", "DEL b", "GET b", "SET b 2", "GET b", "EXEC", "GET b",
        ],
        &[
            "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+OK 5", "OK", "OK",
            "(nil)", "OK", "2", "+OK 2",
        ],
    );
    expect_lines(&mut client, &["MULTI", "EXEC"], &["+OK", "+OK 0"]);
    server.stop();
}

#[test]
fn discard_forgets_the_transaction() {
    let (_dir, server) = started();
    let mut client = server.connect();
    let without = "-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n";
    expect(&mut client, &["EXEC", "DISCARD"], without);
    expect(
        &mut client,
        &["SET a 1", "MULTI", "SET a 2", "DISCARD", "GET a"],
        "+OK\r\n+OK\r\n+QUEUED\r\n+OK\r\n$1\r\n1\r\n",
    );
    expect(&mut client, &["EXEC", "DISCARD"], without);
    expect_lines(
        &mut client,
        &["MULTI", "SET a 2", "DISCARD", "GET a", "EXEC"],
        &["+OK", "+QUEUED", "+OK", "+OK 1", "-ERR EXEC without MULTI"],
    );
    server.stop();
}

#[test]
fn a_command_that_cannot_be_queued_makes_the_whole_transaction_void() {
    let (_dir, server) = started();
    let mut client = server.connect();
    let void = "-EXECABORT Transaction discarded because of previous errors.";
    for refused in ["NOSUCH a b", "GET", "SET a", "MSET a", "CLIENT NOSUCH"] {
        client.send(b"MULTI\nSET a 1\n");
        assert_eq!(
            (client.reply(), client.reply()),
            ("+OK".into(), "+QUEUED".into())
        );
        assert!(client.request(refused).starts_with('-'), "{refused}");
        assert_eq!(client.request("SET b 1"), "+QUEUED");
        assert_eq!(client.request("EXEC"), void);
        assert_eq!(client.request("EXISTS a b"), "+OK 0");
    }
    // And only that one.
    expect(
        &mut client,
        &["MULTI", "GET", "EXEC", "MULTI", "SET a 1", "EXEC"],
        &format!(
            "+OK\r\n-ERR wrong number of arguments for 'get' command\r\n{void}\r\n\
             +OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"
        ),
    );
    // DISCARD forgets the error, too.
    expect(
        &mut client,
        &["MULTI", "GET", "DISCARD", "MULTI", "EXEC"],
        "+OK\r\n-ERR wrong number of arguments for 'get' command\r\n+OK\r\n+OK\r\n*0\r\n",
    );
    server.stop();
}

#[test]
fn an_error_inside_of_a_transaction_does_not_stop_the_others() {
    let (_dir, server) = started();
    let mut client = server.connect();
    expect(
        &mut client,
        &[
            "SET text abc",
            "MULTI",
            "SET x 1",
            "INCR text",
            "SET y 1 EX",
            "SET z 1",
            "EXEC",
        ],
        "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n+OK\r\n\
         -ERR value is not an integer or out of range\r\n-ERR syntax error\r\n+OK\r\n",
    );
    expect(
        &mut client,
        &["MGET x y z text"],
        "*4\r\n$1\r\n1\r\n$-1\r\n$1\r\n1\r\n$3\r\nabc\r\n",
    );
    expect_lines(
        &mut client,
        &["MULTI", "INCR text", "INCR x", "EXEC"],
        &[
            "+OK",
            "+QUEUED",
            "+QUEUED",
            "+OK 2",
            "-ERR value is not an integer or out of range",
            "2",
        ],
    );
    server.stop();
}

#[test]
fn what_a_transaction_reads_is_what_its_writes_before_left() {
    let (_dir, server) = started();
    let mut client = server.connect();
    let inside = [
        "GET k",
        "INCR k",
        "GET k",
        "DEL k",
        "EXISTS k",
        "SET k 5",
        "MGET k none",
        "DBSIZE",
    ];
    let mut requests = vec!["SET k 1", "MULTI"];
    requests.extend(inside);
    requests.push("EXEC");
    let replies = "*8\r\n$1\r\n1\r\n:2\r\n$1\r\n2\r\n:1\r\n:0\r\n+OK\r\n\
                   *2\r\n$1\r\n5\r\n$-1\r\n:1\r\n";
    let queued = "+QUEUED\r\n".repeat(inside.len());
    // The SET stands in the same pipeline: it comes first all the same.
    expect(
        &mut client,
        &requests,
        &format!("+OK\r\n+OK\r\n{queued}{replies}"),
    );
    server.stop();
}

/// A transaction whose commands could write, and do not, is answered from the store. It once was
/// while writes of the same pipeline that stand before it waited for the log.
#[test]
fn a_transaction_that_writes_nothing_sees_the_writes_that_stand_before_it_in_the_pipeline() {
    let (_dir, server) = started();
    let mut client = server.connect();
    for n in 0..20 {
        let set = format!("SET k {n:02}");
        expect(
            &mut client,
            &[
                &set,
                "MULTI",
                "GETEX k",
                "EXEC",
                "MULTI",
                "BITFIELD k GET u8 8",
                "SET k 1 EX",
                "EXEC",
            ],
            &format!(
                "+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n$2\r\n{n:02}\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n\
                 *2\r\n*1\r\n:{}\r\n-ERR syntax error\r\n",
                48 + n % 10
            ),
        );
        // Nor may an empty one miss that a watched key was changed.
        expect(
            &mut client,
            &["WATCH k", "APPEND k x", "MULTI", "EXEC"],
            "+OK\r\n:3\r\n+OK\r\n*-1\r\n",
        );
    }
    server.stop();
}

/// Who does what between WATCH and EXEC.
#[derive(Debug, Clone, Copy)]
enum By {
    Another,
    Oneself,
}

/// What is there, what is done between WATCH of `k` and `l` and MULTI, by whom; and whether EXEC
/// then does nothing. As Valkey has it.
#[rustfmt::skip]
const WATCHED: &[(&str, By, &str, bool)] = &[
    ("SET k 1", By::Another, "SET k 2", true),
    ("SET k 1", By::Oneself, "SET k 2", true),
    ("SET k 1", By::Another, "SET k 1", true),
    ("SET k 1", By::Oneself, "SET k 1", true),
    ("SET k 1", By::Another, "SET l 1", true),
    ("SET k 1", By::Another, "SET other 1", false),
    ("SET k 1", By::Another, "GET k", false),
    ("SET k 1", By::Another, "DEL k", true),
    ("SET k 1", By::Another, "GETDEL k", true),
    ("SET k 1", By::Another, "DELIFEQ k 2", false),
    ("SET k 1", By::Another, "DELIFEQ k 1", true),
    ("DEL k", By::Another, "DEL k", false),
    ("DEL k", By::Another, "SET k 1", true),
    ("DEL k", By::Oneself, "SET k 1\nDEL k", true),
    ("SET k 1", By::Another, "DEL k\nSET k 1", true),
    ("SET k 1", By::Another, "SET k 2 NX", false),
    ("DEL k", By::Another, "SET k 2 XX", false),
    ("SET k 1", By::Another, "SETNX k 2", false),
    ("SET k 1", By::Another, "MSETNX k 2 m 2", false),
    ("SET k 1", By::Another, "MSET m 2 k 2", true),
    ("SET k a", By::Another, "INCR k", false),
    ("SET k 1", By::Another, "INCRBY k 0", true),
    ("SET k 1", By::Another, "APPEND k x", true),
    ("SET k 1", By::Another, "SETRANGE k 0 2", true),
    ("SET k 1", By::Another, "SETBIT k 0 1", true),
    ("SET k 1", By::Another, "BITOP NOT k m", true),
    ("SET k 1", By::Another, "BITFIELD k INCRBY u8 0 1", true),
    ("SET k 1", By::Another, "BITFIELD k GET u8 0", false),
    ("SET k 1", By::Another, "GETEX k", false),
    ("SET k 1", By::Another, "GETEX k EX 100", true),
    ("SET k 1", By::Another, "EXPIRE k 100", true),
    ("SET k 1", By::Another, "EXPIRE k 100 XX", false),
    ("SET k 1", By::Another, "PERSIST k", false),
    ("SET k 1 EX 100", By::Another, "PERSIST k", true),
    ("SET k 1", By::Another, "EXPIRE k 0", true),
    ("SET k 1", By::Another, "RENAME k m", true),
    ("MSET k 1 m 2", By::Another, "RENAME m k", true),
    ("MSET k 1 m 2", By::Another, "RENAMENX m k", false),
    ("MSET k 1 m 2", By::Another, "COPY m k", false),
    ("MSET k 1 m 2", By::Another, "COPY m k REPLACE", true),
    ("MSET k 1 m 2", By::Another, "COPY k m REPLACE", false),
    ("SET k 1", By::Another, "FLUSHALL", true),
    ("SET k 1", By::Oneself, "FLUSHALL", true),
    ("DEL k", By::Another, "FLUSHALL", false),
    ("SET k 1", By::Another, "FLUSHALL\nSET k 1", true),
    ("SET k 1", By::Another, "MULTI\nSET k 2\nEXEC", true),
    ("SET k 1", By::Another, "MULTI\nSET k 2\nDISCARD", false),
    ("SET k 1", By::Oneself, "SET k 2\nUNWATCH", false),
    ("SET k 1", By::Oneself, "MULTI\nSET k 2\nEXEC", false),
    ("SET k 1", By::Oneself, "SET k 2\nMULTI\nDISCARD", false),
    ("SET k 1", By::Oneself, "SET k 2\nUNWATCH\nWATCH k", false),
];

/// Carries out a row of [`WATCHED`]; says whether EXEC did nothing.
fn is_aborted(addr: SocketAddr, (before, by, between, _): &(&str, By, &str, bool)) -> bool {
    let (mut client, mut other) = (Client::connect(addr), Client::connect(addr));
    let done = |client: &mut Client, line: &str| {
        let told = client.request(line);
        if let Some(count) = told.strip_prefix("+OK ") {
            // The elements of a list, of which only EXEC and BITFIELD have one here.
            if line == "EXEC" || line.starts_with("BITFIELD") {
                (0..count.parse::<usize>().unwrap()).for_each(|_| drop(client.reply()));
            }
        }
        told
    };
    done(&mut client, "FLUSHALL");
    done(&mut client, before);
    assert_eq!(client.request("WATCH k l"), "+OK");
    for line in between.lines() {
        done(
            if let By::Another = by {
                &mut other
            } else {
                &mut client
            },
            line,
        );
    }
    assert_eq!(client.request("MULTI"), "+OK");
    assert_eq!(client.request("SET done 1"), "+QUEUED");
    let told = done(&mut client, "EXEC");
    let aborted = told == "-EXEC aborted: a watched key was changed";
    assert!(aborted || told == "+OK 1", "{told}");
    let carried_out = client.request("EXISTS done") == "+OK 1";
    assert_ne!(aborted, carried_out, "{told}, whatever was done");
    aborted
}

#[test]
fn exec_does_nothing_if_a_watched_key_was_changed_and_only_then() {
    let (_dir, server) = started();
    for row in WATCHED {
        assert_eq!(is_aborted(server.addr(), row), row.3, "{row:?}");
    }
    server.stop();
}

#[test]
fn a_transaction_that_only_reads_heeds_what_it_watches() {
    let (_dir, server) = started();
    let (mut client, mut other) = (server.connect(), server.connect());
    expect(&mut client, &["SET k 1", "WATCH k"], "+OK\r\n+OK\r\n");
    expect(
        &mut client,
        &["MULTI", "GET k", "EXEC"],
        "+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n",
    );
    expect(&mut client, &["WATCH k"], "+OK\r\n");
    expect(&mut other, &["SET k 2"], "+OK\r\n");
    expect(
        &mut client,
        &["MULTI", "GET k", "EXEC"],
        "+OK\r\n+QUEUED\r\n*-1\r\n",
    );
    expect(
        &mut client,
        &["MULTI", "GET k", "EXEC"],
        "+OK\r\n+QUEUED\r\n*1\r\n$1\r\n2\r\n",
    );
    server.stop();
}

#[test]
fn a_watched_key_that_expires_counts_as_changed() {
    let (_dir, server) = started();
    let mut client = server.connect();
    for inside in ["SET done 1", "EXISTS k"] {
        expect(
            &mut client,
            &["SET k 1 PX 500", "WATCH k", "MULTI"],
            "+OK\r\n+OK\r\n+OK\r\n",
        );
        std::thread::sleep(Duration::from_millis(600));
        expect(&mut client, &[inside, "EXEC"], "+QUEUED\r\n*-1\r\n");
        // One that is gone already when it is watched stays as it is.
        expect(&mut client, &["SET k 1 PX 50"], "+OK\r\n");
        std::thread::sleep(Duration::from_millis(100));
        expect(
            &mut client,
            &["WATCH k", "MULTI", "SET l 1", "EXEC"],
            "+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n",
        );
    }
    expect(&mut client, &["EXISTS done"], ":0\r\n");
    server.stop();
}

#[test]
fn a_client_that_leaves_takes_its_transaction_and_what_it_watched_with_it() {
    let (_dir, server) = started();
    let mut stays = server.connect();
    for n in 0..100 {
        let mut client = server.connect();
        expect(
            &mut client,
            &["WATCH k", "MULTI", "SET lost 1"],
            "+OK\r\n+OK\r\n+QUEUED\r\n",
        );
        if n % 2 == 0 {
            client.half_close();
            assert_eq!(client.rest(), b"");
        }
        drop(client);
        expect(
            &mut stays,
            &["SET k 1", "WATCH k", "MULTI", "SET kept 1", "EXEC"],
            "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n",
        );
    }
    expect(&mut stays, &["EXISTS lost"], ":0\r\n");
    server.stop();
}

#[test]
fn a_change_that_is_still_on_its_way_to_the_disk_aborts_the_exec_behind_it() {
    let disk = Disk::default();
    let server = server::Server::start(&disk, 8);
    let (mut client, mut other) = (Client::connect(server.addr), Client::connect(server.addr));
    let absent = "-GET could not find key in store";
    for (change, aborted, left) in [
        ("SET k 1", true, "+OK 1"),
        ("SET k 0", true, "+OK 0"),
        ("FLUSHALL", true, absent),
        ("RENAME k m", true, absent),
        ("EXPIRE k 0", true, absent),
        ("SET m 1", false, "+OK 2"),
    ] {
        assert_eq!(client.request("SET k 0"), "+OK");
        assert_eq!(client.request("WATCH k"), "+OK");
        disk.slow_syncs(Duration::from_millis(700));
        let writes = disk.count(Call::Write);
        other.send(format!("{change}\n").as_bytes());
        // It is written, but not synced, and nobody sees it yet.
        assert!(eventually(|| disk.count(Call::Write) > writes));
        client.send(b"GET k\nMULTI\nSET k 2\nEXEC\n");
        let told: Vec<_> = (0..3).map(|_| client.reply()).collect();
        assert_eq!(told, ["+OK 0", "+OK", "+QUEUED"]);
        // Only the sync that has begun is slow.
        disk.slow_syncs(Duration::ZERO);
        let told = client.reply();
        if aborted {
            assert_eq!(told, "-EXEC aborted: a watched key was changed", "{change}");
        } else {
            assert_eq!(
                (told.as_str(), client.reply()),
                ("+OK 1", "OK".into()),
                "{change}"
            );
        }
        assert!(other.reply().starts_with("+OK"), "{change}");
        assert_eq!(client.request("GET k"), left, "{change}");
    }
    server.stop().unwrap();
}

/// Lets clients race to increment one counter by WATCH, GET, MULTI, SET, EXEC, until each has done
/// so `each` times; says how often one had to try again.
fn race(addr: SocketAddr, clients: usize, each: usize) -> usize {
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|_| scope.spawn(move || increment(&mut Client::connect(addr), each)))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    })
}

fn increment(client: &mut Client, times: usize) -> usize {
    let (mut done, mut aborted) = (0, 0);
    while done < times {
        client.send(b"WATCH counter\nGET counter\n");
        assert_eq!(client.reply(), "+OK");
        let value = client.reply();
        let value: usize = value.strip_prefix("+OK ").map_or(0, |n| n.parse().unwrap());
        let transaction = format!("MULTI\nSET counter {}\nAPPEND log x\nEXEC\n", value + 1);
        client.send(transaction.as_bytes());
        for expected in ["+OK", "+QUEUED", "+QUEUED"] {
            assert_eq!(client.reply(), expected);
        }
        match client.reply().as_str() {
            "+OK 2" => {
                assert_eq!(client.reply(), "OK");
                client.reply();
                done += 1;
            }
            "-EXEC aborted: a watched key was changed" => aborted += 1,
            other => panic!("{other}"),
        }
    }
    aborted
}

#[test]
fn of_clients_that_race_on_a_watched_counter_each_increment_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = process::Server::start(dir.path(), &[]);
    let aborted = race(server.addr(), 8, 200);
    assert!(aborted > 100, "only {aborted} were aborted: no race");
    let mut client = server.connect();
    assert_eq!(client.request("GET counter"), "+OK 1600");
    assert_eq!(client.request("STRLEN log"), "+OK 1600");
    server.kill();
    // A replay decides the same.
    let server = process::Server::start(dir.path(), &["-shards", "8"]);
    let mut client = server.connect();
    assert_eq!(client.request("GET counter"), "+OK 1600");
    assert_eq!(client.request("STRLEN log"), "+OK 1600");
    server.stop();
}

#[test]
fn they_do_so_where_each_sync_takes_two_milliseconds() {
    let disk = Disk::default();
    let server = server::Server::start(&disk, 8);
    disk.slow_syncs(Duration::from_millis(2));
    let aborted = race(server.addr, 8, 60);
    assert!(aborted > 100, "only {aborted} were aborted: no race");
    let mut client = Client::connect(server.addr);
    assert_eq!(client.request("GET counter"), "+OK 480");
    assert_eq!(client.request("STRLEN log"), "+OK 480");
    server.stop().unwrap();
}
