//! The line protocol over a real socket, against both stores: exact bytes in, exact bytes out.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use postres::command::COMMANDS;

use crate::support::client::{Client, assert_same_bytes};
use crate::support::process::Server;

const STORES: [&str; 2] = ["1", "8"];

const LONGEST_LINE: usize = 1 << 20;

/// Runs a test against `HashMap` and against `ShardedMap`, each in a server of its own.
fn with_both_stores(test: impl Fn(&Server)) {
    for shards in STORES {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), &["-shards", shards]);
        test(&server);
        server.stop();
    }
}

/// Sends `requests` in one write, and wants `replies` and then nothing more.
#[track_caller]
fn assert_replies(server: &Server, requests: &[u8], replies: &[u8]) {
    let mut client = server.connect();
    client.send(requests);
    client.half_close();
    let of = requests.get(..100).unwrap_or(requests).escape_ascii();
    assert_same_bytes(&client.rest(), replies, &of.to_string());
}

#[test]
fn every_request_gets_its_reply_to_the_byte() {
    let rows: &[(&str, &str)] = &[
        // Design, section 5, row by row.
        ("SET key value", "+OK"),
        ("GET key", "+OK value"),
        ("SET key other", "+OK"),
        ("GET key", "+OK other"),
        ("GET absent", "-GET could not find key in store"),
        ("DEL key", "+OK"),
        ("DEL key", "+OK"),
        ("GET key", "-GET could not find key in store"),
        ("SET", "-SET expected 2 arguments KEY and VALUE"),
        ("SET key", "-SET expected 2 arguments KEY and VALUE"),
        ("SET key a b", "-SET expected 2 arguments KEY and VALUE"),
        ("GET", "-GET expected 1 argument KEY"),
        ("GET a b", "-GET expected 1 argument KEY"),
        ("DEL", "-DEL expected 1 argument KEY"),
        ("DEL a b", "-DEL expected 1 argument KEY"),
        ("NOSUCH", "-INVALID COMMAND"),
        ("SETT key value", "-INVALID COMMAND"),
        ("\"GET\" key", "-INVALID COMMAND"),
        ("key", "-INVALID COMMAND"),
        // The others.
        ("PING", "+PONG"),
        ("PING hello", "+OK hello"),
        ("PING a b", "-PING expected [message]"),
        ("ECHO hello", "+OK hello"),
        ("ECHO", "-ECHO expected 1 argument MESSAGE"),
        ("ECHO a b", "-ECHO expected 1 argument MESSAGE"),
        ("DBSIZE", "+OK 0"),
        ("SET a 1", "+OK"),
        ("SET b 2", "+OK"),
        ("SET b 3", "+OK"),
        ("DBSIZE", "+OK 2"),
        ("DBSIZE x", "-DBSIZE expected no argument"),
        ("EXISTS a", "+OK 1"),
        ("EXISTS absent", "+OK 0"),
        ("EXISTS a absent b a", "+OK 3"),
        ("EXISTS", "-EXISTS expected at least 1 argument KEY"),
        ("HELP x", "-HELP expected no argument"),
        // Any case for names, but not for keys.
        ("set k v", "+OK"),
        ("gEt k", "+OK v"),
        ("GET K", "-GET could not find key in store"),
        ("Del k", "+OK"),
        ("ping", "+PONG"),
        ("exists A a", "+OK 1"),
        ("get", "-GET expected 1 argument KEY"),
        // Runs of blanks; no quoting.
        ("  \tSET \t  spaced\t\t1 \t", "+OK"),
        ("GET\tspaced", "+OK 1"),
        (
            "SET quoted \"a b\"",
            "-SET expected 2 arguments KEY and VALUE",
        ),
        ("SET quoted \"a\\n\"", "+OK"),
        ("GET quoted", "+OK \"a\\n\""),
        ("SET *1 $4", "+OK"),
        ("GET *1", "+OK $4"),
    ];
    for line_break in ["\n", "\r\n"] {
        with_both_stores(|server| {
            let mut client = server.connect();
            for (request, reply) in rows {
                client.send(format!("{request}{line_break}").as_bytes());
                let expected = format!("{reply}{line_break}");
                assert_same_bytes(&client.line(), expected.as_bytes(), request);
            }
        });
    }
}

#[test]
fn a_reply_ends_as_its_own_request_did() {
    with_both_stores(|server| {
        assert_replies(
            server,
            b"PING\nPING\r\nSET a 1\r\nSET b 2\nGET a\nGET b\r\nNO\r\nNO\nGET\r\nGET\nDEL a\r\n",
            b"+PONG\n+PONG\r\n+OK\r\n+OK\n+OK 1\n+OK 2\r\n-INVALID COMMAND\r\n-INVALID COMMAND\n\
              -GET expected 1 argument KEY\r\n-GET expected 1 argument KEY\n+OK\r\n",
        );
    });
}

#[test]
fn blank_lines_are_skipped_without_a_reply() {
    with_both_stores(|server| {
        assert_replies(
            server,
            b"\n\r\n \n\t\r\n  \t \nPING\n\n\nSET a 1\n\r\n\nGET a\n\n",
            b"+PONG\n+OK\n+OK 1\n",
        );
    });
}

#[test]
fn help_names_every_command_and_says_how_many_lines_follow() {
    with_both_stores(|server| {
        for line_break in ["\n", "\r\n"] {
            let mut client = server.connect();
            client.send(format!("HELP{line_break}").as_bytes());
            client.half_close();
            let text = String::from_utf8(client.rest()).unwrap();
            let text = text.strip_suffix(line_break).expect("whole lines");
            let mut lines = text.split(line_break);
            let count = lines.next().and_then(|line| line.strip_prefix("+OK "));
            let lines: Vec<&str> = lines.collect();
            assert_eq!(count, Some(lines.len().to_string().as_str()));
            assert!(lines.iter().all(|line| !line.contains(['\r', '\n'])));
            for spec in COMMANDS.iter() {
                let usage = format!("{} ", spec.usage());
                let named = lines.iter().filter(|line| line.starts_with(&usage));
                assert_eq!(named.count(), 1, "{usage:?} in {lines:?}");
            }
            assert_eq!(lines.len(), COMMANDS.len());
        }
    });
}

#[test]
fn quit_is_answered_and_closes_and_nothing_behind_it_is_carried_out() {
    with_both_stores(|server| {
        for quit in ["QUIT\n", "quit\r\n"] {
            let mut client = server.connect();
            client.send(format!("SET before 1\n{quit}SET behind 1\n").as_bytes());
            let expected = format!("+OK\n+OK{}", &quit[4..]);
            assert_same_bytes(&client.rest(), expected.as_bytes(), quit);
            let mut other = server.connect();
            assert_eq!(other.request("EXISTS before"), "+OK 1");
            assert_eq!(other.request("EXISTS behind"), "+OK 0");
        }
    });
}

/// Requests of every kind with the replies they get from an empty store, which they leave empty.
const CORPUS: &[(&[u8], &[u8])] = &[
    (b"SET a 1\r\n", b"+OK\r\n"),
    (b"GET a\n", b"+OK 1\n"),
    (b"\n", b""),
    (b" \t\r\n", b""),
    (b"\t ECHO \t x \r\n", b"+OK x\r\n"),
    (b"set b\t\xff\0\r\x01\r\n", b"+OK\r\n"),
    (b"GET b\n", b"+OK \xff\0\r\x01\n"),
    (b"EXISTS a b c\n", b"+OK 2\n"),
    (b"DEL a\n", b"+OK\n"),
    (b"GET a\r\n", b"-GET could not find key in store\r\n"),
    (b"SET a\n", b"-SET expected 2 arguments KEY and VALUE\n"),
    (b"DBSIZE\n", b"+OK 1\n"),
    (b"NOT *RESP\n", b"-INVALID COMMAND\n"),
    (b"DEL b\n", b"+OK\n"),
    (b"PING\r\n", b"+PONG\r\n"),
];

#[test]
fn replies_are_the_same_wherever_the_requests_are_split() {
    let requests = CORPUS.iter().map(|row| row.0).collect::<Vec<_>>().concat();
    let replies = CORPUS.iter().map(|row| row.1).collect::<Vec<_>>().concat();
    with_both_stores(|server| {
        let mut client = server.connect();
        for split in 1..requests.len() {
            let (first, second) = requests.split_at(split);
            client.send(first);
            // What the first part completes is answered before the second part exists ...
            let early = replies_to_complete_requests(split);
            let mut got = client.bytes(early);
            // ... and what it leaves incomplete is given time to be read by itself.
            std::thread::sleep(Duration::from_millis(1));
            client.send(second);
            got.extend(client.bytes(replies.len() - early));
            assert_same_bytes(&got, &replies, &format!("split at {split}"));
        }
        client.half_close();
        assert_same_bytes(&client.rest(), b"", "after the last reply");
    });
}

/// How many bytes the requests that end within the first `len` bytes of the corpus are owed.
fn replies_to_complete_requests(len: usize) -> usize {
    let mut end = 0;
    let complete = CORPUS.iter().take_while(|(request, _)| {
        end += request.len();
        end <= len
    });
    complete.map(|(_, reply)| reply.len()).sum()
}

#[test]
fn a_request_that_comes_byte_by_byte_is_one_request() {
    with_both_stores(|server| {
        let mut client = server.connect();
        for byte in b"SET slow value\r\nGET slow\n" {
            client.send(&[*byte]);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_same_bytes(&client.bytes(15), b"+OK\r\n+OK value\n", "slow");
    });
}

#[test]
fn keys_and_values_are_bytes_not_text() {
    let all: Vec<u8> = (0..=255)
        .filter(|byte| !matches!(byte, b'\n' | b' ' | b'\t'))
        .collect();
    with_both_stores(|server| {
        let mut client = server.connect();
        let set = [b"SET ", &all[..], b" ", &all[..], b"\n"].concat();
        client.send(&set);
        assert_same_bytes(&client.line(), b"+OK\n", "SET of all bytes");
        client.send(&[b"GET ", &all[..], b"\n"].concat());
        assert_same_bytes(
            &client.bytes(all.len() + 5),
            &[b"+OK ", &all[..], b"\n"].concat(),
            "GET of all bytes",
        );
        for &byte in &all {
            if byte == b'\r' {
                continue;
            }
            let set = [b"SET one-", &[byte][..], b" ", &[byte], b"\n"].concat();
            let get = [b"GET one-", &[byte][..], b"\n"].concat();
            client.send(&[set, get].concat());
            let expected = [b"+OK\n+OK ", &[byte][..], b"\n"].concat();
            let got = client.bytes(expected.len());
            assert_same_bytes(&got, &expected, &format!("byte {byte}"));
        }
    });
}

#[test]
fn a_carriage_return_is_part_of_a_field_unless_it_ends_the_line() {
    with_both_stores(|server| {
        assert_replies(
            server,
            b"SET k a\rb\nGET k\nSET k \ra\r\r\nGET k\r\nSET \rk x\nGET \rk\nGET k\r\r\n\r\r\n",
            b"+OK\n+OK a\rb\n+OK\r\n+OK \ra\r\r\n+OK\n+OK x\n\
              -GET could not find key in store\r\n-INVALID COMMAND\r\n",
        );
    });
}

#[test]
fn a_pipeline_of_ten_thousand_is_answered_in_order_and_to_the_byte() {
    const REQUESTS: usize = 10_000;
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    let mut model: HashMap<String, String> = HashMap::new();
    for n in 0..REQUESTS {
        let key = format!("key-{}", (n * 7919) % 97);
        match n % 5 {
            0 | 3 => {
                let value = format!("{n}-{}", "v".repeat(n % 50));
                writeln!(requests, "SET {key} {value}").unwrap();
                replies.extend_from_slice(b"+OK\n");
                model.insert(key, value);
            }
            1 | 4 => {
                writeln!(requests, "GET {key}").unwrap();
                match model.get(&key) {
                    Some(value) => writeln!(replies, "+OK {value}").unwrap(),
                    None => writeln!(replies, "-GET could not find key in store").unwrap(),
                }
            }
            _ => {
                writeln!(requests, "DEL {key}").unwrap();
                replies.extend_from_slice(b"+OK\n");
                model.remove(&key);
            }
        }
    }
    with_both_stores(|server| {
        let mut client = server.connect();
        let mut sender = client.sender();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.write_all(&requests).unwrap());
            let got = client.bytes(replies.len());
            assert_same_bytes(&got, &replies, "a long pipeline");
        });
        assert_eq!(client.request("DBSIZE"), format!("+OK {}", model.len()));
    });
}

#[test]
fn a_read_sees_the_writes_ahead_of_it_in_its_pipeline_and_none_behind() {
    with_both_stores(|server| {
        assert_replies(
            server,
            b"GET x\nSET x 1\nGET x\nSET x 2\nGET x\nEXISTS x\nDEL x\nGET x\nDBSIZE\nPING\nSET x 3\n",
            b"-GET could not find key in store\n+OK\n+OK 1\n+OK\n+OK 2\n+OK 1\n+OK\n\
              -GET could not find key in store\n+OK 0\n+PONG\n+OK\n",
        );
        assert_replies(server, b"GET x\nSET x 4\n", b"+OK 3\n+OK\n");
    });
}

#[test]
fn a_client_that_half_closes_still_gets_every_reply() {
    const SETS: usize = 2_000;
    with_both_stores(|server| {
        assert_replies(server, b"", b"");
        assert_replies(server, b"GET a\n", b"-GET could not find key in store\n");
        assert_replies(server, b"SET a 1\nGET a\n", b"+OK\n+OK 1\n");
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for n in 0..SETS {
            write!(requests, "SET k{n} {n}\nGET k{n}\n").unwrap();
            write!(replies, "+OK\n+OK {n}\n").unwrap();
        }
        assert_replies(server, &requests, &replies);
    });
}

#[test]
fn an_unterminated_last_line_is_not_carried_out() {
    with_both_stores(|server| {
        for last in ["SET cut 2", "SET cut 2\r", "PING"] {
            let requests = format!("SET whole 1\nGET whole\n{last}");
            assert_replies(server, requests.as_bytes(), b"+OK\n+OK 1\n");
        }
        assert_replies(server, b"EXISTS cut\n", b"+OK 0\n");
    });
}

/// A `SET key value` of just `len` bytes, its line break not counted, and its value.
fn set_of_len(key: &str, len: usize) -> (Vec<u8>, Vec<u8>) {
    let mut line = format!("SET {key} ").into_bytes();
    let value: Vec<u8> = (0..len - line.len())
        .map(|n| b'a' + (n % 23) as u8)
        .collect();
    line.extend_from_slice(&value);
    (line, value)
}

#[test]
fn a_line_of_one_mebibyte_works_and_is_there_after_a_restart() {
    for shards in STORES {
        let dir = tempfile::tempdir().unwrap();
        let start = || Server::start(dir.path(), &["-shards", shards]);
        let server = start();
        let mut expected = Vec::new();
        for (key, line_break) in [("lf", "\n"), ("crlf", "\r\n")] {
            let (line, value) = set_of_len(key, LONGEST_LINE);
            let mut client = server.connect();
            client.send(&[&line, line_break.as_bytes()].concat());
            assert_same_bytes(&client.line(), format!("+OK{line_break}").as_bytes(), key);
            expected.push((key, [b"+OK ", &value[..], b"\n"].concat()));
        }
        assert_has(&server, &expected);
        server.stop();
        let server = start();
        assert_has(&server, &expected);
        server.stop();
    }
}

#[track_caller]
fn assert_has(server: &Server, expected: &[(&str, Vec<u8>)]) {
    let mut client = server.connect();
    for (key, reply) in expected {
        client.send(format!("GET {key}\n").as_bytes());
        assert_same_bytes(&client.line(), reply, key);
    }
}

#[test]
fn a_longer_line_gets_one_error_and_is_closed() {
    let error = b"-ERR line is longer than 1048576 bytes\n";
    with_both_stores(|server| {
        let (too_long, _) = set_of_len("long", LONGEST_LINE + 1);
        for behind in [&b"\nSET behind 1\n"[..], b"\r\nSET behind 1\n"] {
            let mut client = server.connect();
            client.send(b"SET ahead 1\n");
            client.send(&too_long);
            client.send(behind);
            let expected = [b"+OK\n", &error[..]].concat();
            assert_same_bytes(&client.rest(), &expected, "one byte too long");
        }
        let mut other = server.connect();
        assert_eq!(other.request("EXISTS ahead"), "+OK 1");
        assert_eq!(other.request("EXISTS long behind"), "+OK 0");
    });
}

#[test]
fn a_client_that_goes_on_sending_a_line_without_end_still_reads_the_error() {
    with_both_stores(|server| {
        let mut client = server.connect();
        // More than the sockets' buffers hold, so that the server must go on taking it.
        client.send(&vec![b'x'; 16 << 20]);
        client.send(b"\nSET behind 1\n");
        let reply = client.rest();
        assert_same_bytes(
            &reply,
            b"-ERR line is longer than 1048576 bytes\n",
            "endless",
        );
        assert_eq!(server.connect().request("EXISTS behind"), "+OK 0");
    });
}

#[test]
fn what_a_browser_was_made_to_send_is_not_carried_out() {
    with_both_stores(|server| {
        for forged in [
            "POST / HTTP/1.1\r\n",
            "post / HTTP/1.1\n",
            "GET / HTTP/1.1\r\nHost: 127.0.0.1:4242\r\n",
            "host: x\r\n",
        ] {
            let mut client = server.connect();
            client.send(format!("{forged}\r\nSET forged 1\r\nSET forged 1\r\n").as_bytes());
            assert!(!replied_ok(&mut client), "{forged:?}");
            assert_eq!(
                server.connect().request("EXISTS forged"),
                "+OK 0",
                "{forged:?}"
            );
        }
    });
}

/// Reads up to the close, in order or by reset; says whether anything was answered with OK.
fn replied_ok(client: &mut Client) -> bool {
    let mut ok = false;
    loop {
        match client.try_line() {
            Ok(line) if line.is_empty() => return ok,
            Ok(line) => ok |= line.starts_with(b"+OK"),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return ok,
            Err(error) => panic!("the connection is still open: {error}"),
        }
    }
}

#[test]
fn lines_and_resp_are_told_apart_request_by_request() {
    with_both_stores(|server| {
        assert_replies(
            server,
            b"SET a 1\n*2\r\n$3\r\nGET\r\n$1\r\na\r\nGET a\r\n*1\r\n$4\r\nPING\r\n\r\n\
              *2\r\n$3\r\nGET\r\n$1\r\nz\r\nGET z\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\nDEL a\n",
            b"+OK\n$1\r\n1\r\n+OK 1\r\n+PONG\r\n\
              $-1\r\n-GET could not find key in store\n:1\r\n+OK\n",
        );
    });
}

#[test]
fn what_is_no_resp_is_told_in_a_word_and_closed_and_what_was_ahead_of_it_is_done() {
    with_both_stores(|server| {
        for (resp, said) in [
            (&b"*1\r\n+PING\r\n"[..], "expected '$', got '+'"),
            (b"*x\r\n", "invalid multibulk length"),
            (b"*1048577\r\n", "invalid multibulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        ] {
            let mut client = server.connect();
            client.send(&[b"SET ahead 1\n", resp].concat());
            let expected = format!("+OK\n-ERR Protocol error: {said}\r\n");
            assert_same_bytes(&client.rest(), expected.as_bytes(), said);
        }
    });
}
