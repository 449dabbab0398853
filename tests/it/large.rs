//! Large values in RESP, and clients that ask for more of them than they take.

use std::io::Write;
use std::time::Duration;

use crate::support::client::assert_same_bytes;
use crate::support::process::{Server, binary, eventually, with_log};

const MIB: usize = 1 << 20;

/// A request in RESP.
fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        write!(bytes, "${}\r\n", word.len()).unwrap();
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Bytes that no two places have the same of, with line breaks and zeros among them.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n.wrapping_mul(0x9e37_79b1) >> 13) as u8)
        .collect()
}

fn bulk(value: &[u8]) -> Vec<u8> {
    let mut bytes = format!("${}\r\n", value.len()).into_bytes();
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[test]
fn large_values_come_back_as_they_were_sent_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let values = [1, 63 << 10, 64 << 10, MIB + 1, 5 * MIB, 70 * MIB].map(pattern);
    let mut client = server.connect();
    for (n, value) in values.iter().enumerate() {
        let key = n.to_string();
        // In one pipeline with what is small, around it.
        client.send(&request(&[b"SET", b"small", b"1"]));
        client.send(&request(&[b"SET", key.as_bytes(), value]));
        client.send(&request(&[b"GET", key.as_bytes()]));
        client.send(&request(&[b"STRLEN", key.as_bytes()]));
        let expected = [
            b"+OK\r\n+OK\r\n",
            &*bulk(value),
            format!(":{}\r\n", value.len()).as_bytes(),
        ]
        .concat();
        assert_same_bytes(&client.bytes(expected.len()), &expected, &key);
    }
    server.stop();

    let server = Server::start(dir.path(), &["-shards", "1"]);
    let mut client = server.connect();
    for (n, value) in values.iter().enumerate() {
        client.send(&request(&[b"GET", n.to_string().as_bytes()]));
        let expected = bulk(value);
        assert_same_bytes(&client.bytes(expected.len()), &expected, "after a restart");
    }
    server.stop();
}

#[test]
fn replies_that_nobody_takes_are_not_made_and_large_values_are_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-persist=false"]);
    let value = pattern(8 * MIB);
    let mut client = server.connect();
    client.send(&request(&[b"SET", b"k", &value]));
    assert_same_bytes(&client.line(), b"+OK\r\n", "SET");
    let base = server.resident_kib();

    // 2,000 replies of 8 MiB each to one client, and the same behind a write to another.
    let mut slow: Vec<_> = (0..2).map(|_| server.connect()).collect();
    let gets = request(&[b"GET", b"k"]).repeat(2_000);
    slow[0].send(&gets);
    slow[1].send(&[request(&[b"SET", b"other", b"1"]), gets].concat());
    std::thread::sleep(Duration::from_millis(300));
    let growth = server.resident_kib().saturating_sub(base);
    assert!(growth < 4096, "{growth} KiB for replies that wait");

    // What they do take is right.
    let expected = bulk(&value);
    for _ in 0..3 {
        assert_same_bytes(&slow[0].bytes(expected.len()), &expected, "GET");
    }
    assert_same_bytes(&slow[1].line(), b"+OK\r\n", "SET");
    assert_same_bytes(&slow[1].bytes(expected.len()), &expected, "GET");

    // A value that was asked for is whole, whatever becomes of its key.
    client.send(&request(&[b"DEL", b"k"]));
    assert_same_bytes(&client.line(), b":1\r\n", "DEL");
    assert_same_bytes(&slow[1].bytes(expected.len()), &expected, "GET");
    server.stop();
}

/// Fault: the commands of a transaction were kept until its reply was taken. Cause: they lay in the same
/// memory as how to write the reply, which is needed until then.
#[test]
fn what_a_client_asked_for_is_let_go_though_it_does_not_take_the_reply() {
    const SETS: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let mut command = with_log(binary(dir.path()), dir.path());
    // So that what is freed is given back to the system, where it shows.
    for name in ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"] {
        command.env(name, "65536");
    }
    let server = Server::spawn(command);
    let mut other = server.connect();
    other.send(&request(&[b"SET", b"big", &pattern(8 * MIB)]));
    assert_same_bytes(&other.line(), b"+OK\r\n", "SET");
    let base = server.resident_kib();

    let mut slow = server.connect();
    slow.send(&request(&[b"MULTI"]));
    for _ in 0..SETS {
        slow.send(&request(&[b"SET", b"k", &pattern(MIB)]));
    }
    // Its reply is larger than what the system takes for a client.
    slow.send(&request(&[b"GET", b"big"]));
    slow.send(&request(&[b"EXEC"]));
    let carried_out = || {
        let mut client = server.connect();
        client.send(&request(&[b"EXISTS", b"k"]));
        client.line() == b":1\r\n"
    };
    assert!(eventually(carried_out));
    let growth = || server.resident_kib().saturating_sub(base) >> 10;
    assert!(
        eventually(|| growth() < SETS as u64 / 3),
        "{} MiB for a reply that waits",
        growth()
    );
    server.stop();
}

#[test]
fn a_client_that_only_claims_to_send_much_has_little_room_made_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-persist=false"]);
    let base = server.resident_kib();
    let claims: Vec<_> = (0..50)
        .map(|n| {
            let mut client = server.connect();
            match n % 2 {
                0 => client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nv"),
                _ => client.send(b"*1048576\r\n$3\r\nDEL\r\n"),
            }
            client
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    let growth = server.resident_kib().saturating_sub(base);
    assert!(growth < 8192, "{growth} KiB for {} claims", claims.len());
    server.stop();
}

#[test]
fn a_large_value_is_held_few_times_while_it_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let value = pattern(64 * MIB);
    let before = server.peak_kib();
    let mut client = server.connect();
    client.send(&request(&[b"SET", b"k", &value]));
    assert_same_bytes(&client.line(), b"+OK\r\n", "SET");
    let values = (server.peak_kib() - before) as f64 / (64 << 10) as f64;
    // Received, logged, in the frame, in the store; never more than three of them at once.
    assert!(values < 3.3, "{values:.1} times the value");
    server.stop();
}
