//! Pipelines in RESP: requests that are found together, and carried out one after the other.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{Client, assert_same_bytes};
use crate::support::process::Server;
use crate::support::resp::encode;

fn line(words: &str) -> Vec<u8> {
    encode(words.split(' '))
}

#[test]
fn requests_of_all_kinds_are_answered_in_order_wherever_the_pipeline_is_cut() {
    let requests = [
        line("SET k v"),
        // Carried out only once the batch before it was, so it is looked at twice.
        line("CLIENT GETNAME"),
        line("GET k"),
        line("CLIENT REPLY SKIP"),
        line("PING"),
        line("RESET"),
        b"GET k\n".to_vec(),
        line("DEL k"),
        line("GET k"),
        line("NOSUCH"),
    ];
    let replies = "+OK\r\n$-1\r\n$1\r\nv\r\n+RESET\r\n+OK v\n:1\r\n$-1\r\n\
                   -ERR unknown command 'NOSUCH', with args beginning with: \r\n";
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let requests = requests.concat();
    for cut in 0..requests.len() {
        let mut client = server.connect();
        let (before, behind) = requests.split_at(cut);
        client.send(before);
        if cut % 5 == 0 {
            // So that the halves are sure to be read apart.
            thread::sleep(Duration::from_millis(2));
        }
        client.send(behind);
        let answered = client.bytes(replies.len());
        assert_same_bytes(&answered, replies.as_bytes(), &format!("cut at {cut}"));
    }
    server.stop();
}

#[test]
fn the_version_changes_between_two_requests_of_one_write() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let all = ["GET none", "HELLO 3", "GET none", "HELLO 2", "GET none"];
    client.send(&all.map(line).concat());
    assert_eq!(client.line(), b"$-1\r\n");
    assert!(client.line().starts_with(b"%"));
    // In whatever words the server introduces itself, none of which is a null.
    while client.line() != b"_\r\n" {}
    assert!(client.line().starts_with(b"*"));
    while client.line() != b"$-1\r\n" {}
    assert_eq!(
        {
            client.send(&line("ECHO end"));
            client.line()
        },
        b"$3\r\n"
    );
    server.stop();
}

#[test]
fn a_password_counts_for_what_stands_behind_it_in_one_write() {
    let flags = ["-requirepass", "secret"];
    let long = "x".repeat(20_000);
    let many = format!(
        "MSET {}",
        (0..8).map(|n| format!("k{n} v ")).collect::<String>()
    );
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &flags);
    let mut client = server.connect();
    let requests = [
        line("GET k"),
        line("AUTH secret"),
        line(many.trim_end()),
        encode(["SET", "long", &long]),
        line("STRLEN long"),
    ];
    client.send(&requests.concat());
    let replies = "-NOAUTH Authentication required.\r\n+OK\r\n+OK\r\n+OK\r\n:20000\r\n";
    assert_eq!(client.bytes(replies.len()), replies.as_bytes());
    // And without it what is too long for a stranger is refused, behind the answers before it.
    let mut client = server.connect();
    client.send(&[line("GET k"), line(many.trim_end()), line("GET k")].concat());
    let replies = "-NOAUTH Authentication required.\r\n\
                   -ERR Protocol error: unauthenticated multibulk length\r\n";
    assert_eq!(client.bytes(replies.len()), replies.as_bytes());
    client.assert_closed();
    server.stop();
}

#[test]
fn a_pipeline_that_stops_for_its_replies_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let value = "v".repeat(9_000);
    client.send(&encode(["SET", "k", &value]));
    assert_eq!(client.bytes(5), b"+OK\r\n");
    // Eight of them are more than is written at once. What stands behind them is not complete.
    let languages = [
        (
            line("GET k"),
            format!("$9000\r\n{value}\r\n"),
            line("SET end 1"),
            "+OK\r\n",
        ),
        (
            b"GET k\n".to_vec(),
            format!("+OK {value}\n"),
            b"SET end 1\n".to_vec(),
            "+OK\n",
        ),
    ];
    for (get, reply, set, done) in languages {
        let (gets, replies) = (get.repeat(50), reply.repeat(50));
        for cut in 1..set.len() {
            client.send(&[&gets, &set[..cut]].concat());
            assert_same_bytes(&client.bytes(replies.len()), replies.as_bytes(), "GETs");
            client.send(&set[cut..]);
            assert_eq!(client.bytes(done.len()), done.as_bytes());
        }
    }
    // And here it is none.
    let gets = line("GET k").repeat(50);
    client.send(&[&gets[..], b"*1\r\nx\r\n"].concat());
    let replies = format!("$9000\r\n{value}\r\n").repeat(50);
    assert_same_bytes(&client.bytes(replies.len()), replies.as_bytes(), "GETs");
    let error = "-ERR Protocol error: expected '$', got 'x'\r\n";
    assert_eq!(client.bytes(error.len()), error.as_bytes());
    client.assert_closed();
    server.stop();
}

/// The figure behind `name` in the line of INFO that begins with `line`.
fn figure(info: &[String], line: &str, name: &str) -> u64 {
    let found = info.iter().find_map(|told| told.strip_prefix(line));
    let mut figures = found
        .unwrap_or_else(|| panic!("{line} in {info:?}"))
        .split(',');
    let figure = figures.find_map(|figure| figure.strip_prefix(name));
    figure.unwrap().parse().unwrap()
}

#[test]
fn reads_that_stand_together_are_answered_and_counted_like_those_that_do_not() {
    let requests = [
        line("GET k"),
        line("GET none"),
        line("get k"),
        line("GET"),
        line("GET k k"),
        line("GET k"),
        b"GET k\n".to_vec(),
        b"\n".to_vec(),
        b"DEL none none\n".to_vec(),
        line("STRLEN k"),
        line("STRLEN none"),
        line("GETBIT k 1"),
        line("GETBIT k x"),
        line("TTL k"),
        line("MGET k none"),
        line("NOSUCH"),
        line("GET k"),
        line("GET k"),
    ];
    let get = "$3\r\nabc\r\n";
    let wrong = "-ERR wrong number of arguments for 'get' command\r\n";
    let replies = [
        get,
        "$-1\r\n",
        get,
        wrong,
        wrong,
        get,
        "+OK abc\n",
        "",
        "-DEL expected 1 argument KEY\n",
        ":3\r\n",
        ":0\r\n",
        ":1\r\n",
        "-ERR bit offset is not an integer or out of range\r\n",
        ":-1\r\n",
        "*2\r\n$3\r\nabc\r\n$-1\r\n",
        "-ERR unknown command 'NOSUCH', with args beginning with: \r\n",
        get,
        get,
    ];
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    assert_eq!(client.request("SET k abc"), "+OK");
    let counted = |first: usize, together: bool| {
        let mut observer = server.connect();
        assert_eq!(observer.request("CONFIG RESETSTAT"), "+OK");
        let mut client = server.connect();
        let (mut asked, mut answers) = (requests.clone(), replies);
        asked.rotate_left(first);
        answers.rotate_left(first);
        if together {
            client.send(&asked.concat());
        }
        for (request, reply) in asked.iter().zip(answers) {
            if !together {
                client.send(request);
            }
            let told = client.bytes(reply.len());
            assert_same_bytes(&told, reply.as_bytes(), &String::from_utf8_lossy(request));
        }
        let clients = observer.list("CLIENT LIST");
        let last = clients.last().unwrap();
        let own = ["tot-cmds=", "cmd="].map(|name| {
            let word = last.split(' ').find(|word| word.starts_with(name));
            word.unwrap_or_else(|| panic!("{name} in {last}"))
                .to_owned()
        });
        let info = observer.list("INFO all");
        let calls = ["get", "strlen", "getbit", "ttl", "mget"].map(|command| {
            let line = format!("cmdstat_{command}:");
            ["calls=", "rejected_calls=", "failed_calls="].map(|name| figure(&info, &line, name))
        });
        let names = ["keyspace_hits:", "keyspace_misses:", "total_error_replies:"];
        (calls, names.map(|name| figure(&info, name, "")), own)
    };
    // What a pipeline begins with is answered in one go, so each is the first once.
    for first in 0..requests.len() {
        let apart = counted(first, false);
        assert_eq!((apart.0[0], apart.0[2]), ([7, 2, 0], [2, 0, 1]));
        assert_eq!(counted(first, true), apart, "from {first} on");
    }
    server.stop();
}

#[test]
fn reads_that_stand_together_are_not_answered_where_one_alone_would_not_be() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let value = "v".repeat(60_000);
    client.send(&encode(["SET", "k", &value]));
    assert_eq!(client.bytes(5), b"+OK\r\n");
    let gets = line("GET none").repeat(3);

    // The first of each two is carried out before the second is read.
    let ask = |client: &mut Client, request: &str| {
        client.send(&line(request));
        thread::sleep(Duration::from_millis(50));
    };
    ask(&mut client, "CLIENT REPLY OFF");
    client.send(&[&gets[..], &line("CLIENT REPLY ON")].concat());
    assert_eq!(client.bytes(5), b"+OK\r\n");
    ask(&mut client, "CLIENT REPLY SKIP");
    client.send(&gets);
    assert_eq!(client.bytes(10), b"$-1\r\n".repeat(2));
    client.send(&line("MULTI"));
    assert_eq!(client.bytes(5), b"+OK\r\n");
    client.send(&gets);
    assert_eq!(client.bytes(27), b"+QUEUED\r\n".repeat(3));
    client.send(&line("DISCARD"));
    assert_eq!(client.bytes(5), b"+OK\r\n");

    const LONG: Duration = Duration::from_millis(300);
    assert_eq!(server.connect().request("CLIENT PAUSE 300 ALL"), "+OK");
    let begun = Instant::now();
    client.send(&gets);
    assert_eq!(client.bytes(15), b"$-1\r\n".repeat(3));
    assert!(begun.elapsed() > LONG / 2, "{:?}", begun.elapsed());

    // And no more of them than are taken.
    let mut slow = server.connect();
    slow.send(&line("GET k").repeat(2_000));
    thread::sleep(LONG);
    let clients = server.connect().list("CLIENT LIST");
    let answered = |told: &String| figure(&[told.replace(' ', ",")], "", "tot-cmds=");
    let slow = clients.iter().rev().nth(1).unwrap();
    assert!((1..1_900).contains(&answered(slow)), "{slow}");
    assert!(slow.contains(" cmd=get "), "{slow}");
    server.stop();
}

#[test]
fn slow_reads_are_noted_each_where_they_stand_together_and_monitors_see_them() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut observer = server.connect();
    assert_eq!(
        observer.request("CONFIG SET slowlog-log-slower-than 0"),
        "+OK"
    );
    assert_eq!(observer.request("SLOWLOG RESET"), "+OK");
    let mut client = server.connect();
    let gets: Vec<_> = (0..10).map(|n| format!("GET k{n}")).collect();
    let pipeline: Vec<u8> = gets.iter().flat_map(|get| line(get)).collect();
    client.send(&pipeline);
    assert_eq!(client.bytes(50), b"$-1\r\n".repeat(10));
    assert_eq!(
        observer.request("CONFIG SET slowlog-log-slower-than -1"),
        "+OK"
    );
    let slow = observer.list("SLOWLOG GET -1");
    let noted: Vec<_> = (0..10).rev().map(|n| format!("k{n}")).collect();
    let keys: Vec<_> = slow.iter().filter(|line| line.starts_with('k')).collect();
    assert_eq!(keys, noted.iter().collect::<Vec<_>>(), "{slow:?}");

    // Nor does the one threshold hide what is over the other.
    assert_eq!(
        observer.request("CONFIG SET latency-monitor-threshold 1000"),
        "+OK"
    );
    assert_eq!(
        observer.request("CONFIG SET slowlog-log-slower-than 0"),
        "+OK"
    );
    assert_eq!(observer.request("SLOWLOG RESET"), "+OK");
    client.send(&pipeline);
    assert_eq!(client.bytes(50), b"$-1\r\n".repeat(10));
    assert_eq!(
        observer.request("CONFIG SET slowlog-log-slower-than -1"),
        "+OK"
    );
    let slow = observer.list("SLOWLOG GET -1");
    assert_eq!(
        slow.iter().filter(|line| line.starts_with('k')).count(),
        10,
        "{slow:?}"
    );

    let mut monitor = server.connect();
    assert_eq!(monitor.request("MONITOR"), "+OK");
    client.send(&pipeline);
    assert_eq!(client.bytes(50), b"$-1\r\n".repeat(10));
    for n in 0..10 {
        let shown = monitor.reply();
        assert!(
            shown.trim_end().ends_with(&format!("\"GET\" \"k{n}\"")),
            "{shown}"
        );
    }
    server.stop();
}

/// Of the applier's one write for a batch, and of what is left to the connection.
#[test]
fn replies_of_one_batch_that_are_more_than_one_write_come_in_order_and_whole() {
    const LEN: usize = 10_000;
    const GETS: usize = 20;
    for threads in ["1", "2"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), &["-threads", threads]);
        let mut client = server.connect();
        let value = "v".repeat(LEN);
        assert_eq!(client.request(&format!("SET k {value}")), "+OK");
        let gets = "GET k\n".repeat(GETS);
        client.send(format!("SET a 1\n{gets}").as_bytes());
        // What comes while the log has that batch is answered behind it.
        client.send(b"SET b 2\n");
        client.send(b"GET b\nDEL b\n");
        thread::sleep(Duration::from_millis(50));
        assert_eq!(client.line(), b"+OK\n");
        let expected = format!("+OK {value}\n");
        for _ in 0..GETS {
            assert_same_bytes(&client.line(), expected.as_bytes(), "a GET behind a SET");
        }
        for expected in ["+OK\n", "+OK 2\n", "+OK\n"] {
            assert_eq!(client.line(), expected.as_bytes());
        }
        assert_eq!(client.request("GET a"), "+OK 1");
        server.stop();
    }
}
