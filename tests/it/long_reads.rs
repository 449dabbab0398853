//! A read that takes long, as KEYS may: other clients are served meanwhile, and can end its client.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::client::{Client, assert_same_bytes};
use crate::support::process::{Server, eventually};

/// A key of so many bytes of one kind, and a pattern half as long that almost fits everywhere in it: 100 million steps,
/// which take this build more than a second.
const LEN: usize = 20_000;
const ANSWER: &[u8] = b"+OK 0\n";

/// A server of one thread for its clients, and one of them, who has just sent it the long read.
fn reading() -> (TempDir, Server, Client) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-threads", "1", "-fsync", "never"]);
    let mut client = server.connect();
    let set = format!("SET {} v", "a".repeat(LEN));
    assert_eq!(client.request(&set), "+OK");
    client.send(format!("KEYS *{}b\n", "a".repeat(LEN / 2)).as_bytes());
    let mut other = server.connect();
    let begun = eventually(|| {
        other.send(b"CLIENT LIST TYPE normal\n");
        other.reply();
        [other.reply(), other.reply()]
            .iter()
            .any(|client| client.contains(" cmd=keys "))
    });
    assert!(begun, "{}", server.stderr());
    (dir, server, client)
}

/// Whether nothing of its reply is there yet.
fn waits(client: &Client) -> bool {
    let stream = client.sender();
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn others_are_served_while_a_read_takes_long() {
    let (_dir, server, mut client) = reading();
    let mut other = server.connect();
    for n in 0..5 {
        assert_eq!(other.request(&format!("SET k{n} {n}")), "+OK");
        assert_eq!(other.request(&format!("GET k{n}")), format!("+OK {n}"));
    }
    assert!(waits(&client), "it took not long enough to tell");
    assert_same_bytes(&client.line(), ANSWER, "the long read");
    assert_eq!(client.request("GET k0"), "+OK 0");
    server.stop();
}

#[test]
fn what_a_client_sends_behind_a_long_read_is_answered_behind_it() {
    let (_dir, server, mut client) = reading();
    client.send(b"SET k v\nGET k\n");
    let mut other = server.connect();
    assert_eq!(other.request("GET k"), "-GET could not find key in store");
    assert!(waits(&client), "it took not long enough to tell");
    let replies = client.bytes(ANSWER.len() + 10);
    assert_same_bytes(&replies, &[ANSWER, b"+OK\n+OK v\n"].concat(), "all three");
    server.stop();
}

#[test]
fn a_client_that_is_killed_does_not_wait_for_its_long_read() {
    let (_dir, server, mut client) = reading();
    let mut other = server.connect();
    let begun = Instant::now();
    let killed = other.request("CLIENT KILL TYPE normal SKIPME yes");
    assert!(killed.starts_with("+OK "), "{killed}");
    client.assert_closed();
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert_eq!(other.request("PING"), "+PONG");
    server.stop();
}

#[test]
fn a_stop_answers_a_read_that_takes_long() {
    let (_dir, mut server, mut client) = reading();
    server.signal("TERM");
    assert!(waits(&client), "it took not long enough to tell");
    assert_same_bytes(&client.rest(), ANSWER, "the long read");
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}
