//! Pipelines in RESP: requests that are found together, and carried out one after the other.

use std::thread;
use std::time::Duration;

use crate::support::client::assert_same_bytes;
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
