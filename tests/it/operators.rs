//! Commands for whoever runs the server: what they do to other clients and to the server.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::process::{Server, eventually};

/// Long enough for a server to have done what it was asked, or wrongly not to have waited.
const MOMENT: Duration = Duration::from_millis(200);

/// Far longer than anything here takes, if it is not left to run out.
const AGES: u64 = 600_000;

fn id(client: &mut Client) -> String {
    let id = client.request("CLIENT ID");
    id.strip_prefix("+OK ").expect("a number").to_owned()
}

#[test]
fn a_client_that_takes_no_replies_can_be_ended() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let (mut stuck, mut other) = (server.connect(), server.connect());
    let id = id(&mut stuck);
    stuck.request(&format!("SET big {}", "v".repeat(900_000)));
    stuck.send("GET big\n".repeat(100).as_bytes());
    std::thread::sleep(MOMENT);
    assert_eq!(other.request(&format!("CLIENT KILL ID {id}")), "+OK 1");
    assert!(eventually(|| other.connected() == 1));
    server.stop();
}

#[test]
fn a_client_that_ends_itself_is_told_so_first() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let id = id(&mut client);
    client.send(format!("SET k v\nCLIENT KILL ID {id} SKIPME no\nSET k w\n").as_bytes());
    assert_eq!(
        (client.reply(), client.reply()),
        ("+OK".into(), "+OK 1".into())
    );
    client.assert_closed();
    assert_eq!(server.connect().request("GET k"), "+OK v");
    server.stop();
}

#[test]
fn a_pause_of_writes_lets_them_wait_until_it_is_ended_and_reads_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let (mut writes, mut other) = (server.connect(), server.connect());
    assert_eq!(other.request(&format!("CLIENT PAUSE {AGES} WRITE")), "+OK");
    writes.send(b"GET k\nSET k v\nGET k\n");
    assert_eq!(writes.reply(), "-GET could not find key in store");
    std::thread::sleep(MOMENT);
    assert_eq!(other.request("GET k"), "-GET could not find key in store");
    assert_eq!(other.request("CLIENT UNPAUSE"), "+OK");
    assert_eq!(
        (writes.reply(), writes.reply()),
        ("+OK".into(), "+OK v".into())
    );
    server.stop();
}

#[test]
fn a_pause_keeps_nobody_from_being_ended_nor_the_server_from_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let (mut ended, mut waits, mut other) = (server.connect(), server.connect(), server.connect());
    let id = id(&mut ended);
    other.request(&format!("CLIENT PAUSE {AGES} WRITE"));
    ended.send(b"SET ended v\n");
    waits.send(b"SET waits v\n");
    std::thread::sleep(MOMENT);
    assert_eq!(other.request(&format!("CLIENT KILL ID {id}")), "+OK 1");
    ended.assert_closed();
    let begun = Instant::now();
    server.stop();
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    // What had arrived is carried out, as at every stop.
    assert_eq!(waits.reply(), "+OK");
}

#[test]
fn a_wait_is_over_when_somebody_ends_it_and_forgotten_when_its_client_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let (mut waits, mut other) = (server.connect(), server.connect());
    let id = id(&mut waits);
    for (how, reply) in [
        ("", "+OK 0"),
        (" ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK"),
    ] {
        waits.send(b"WAIT 1 0\n");
        let unblock = format!("CLIENT UNBLOCK {id}{how}");
        assert!(eventually(|| other.request(&unblock) == "+OK 1"));
        assert_eq!(waits.reply(), reply);
        assert_eq!(other.request(&unblock), "+OK 0");
    }
    waits.send(b"WAIT 1 0\n");
    std::thread::sleep(MOMENT);
    drop(waits);
    assert!(eventually(|| other.connected() == 1));
    server.stop();
}

#[test]
fn a_monitor_sees_what_others_ask_but_no_password() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-requirepass", "secret"]);
    let (mut monitor, mut other) = (server.connect(), server.connect());
    assert_eq!(monitor.request("AUTH secret"), "+OK");
    assert_eq!(monitor.request("MONITOR"), "+OK");
    other.send(b"AUTH secret\nSET k v\nCONFIG SET requirepass secret\nGET k\n");
    for (request, reply) in [
        ("\"AUTH\" \"(redacted)\"", "+OK"),
        ("\"SET\" \"k\" \"v\"", "+OK"),
        ("", "+OK"),
        ("\"GET\" \"k\"", "+OK v"),
    ] {
        assert_eq!(other.reply(), reply);
        // One for administrators is not shown.
        if !request.is_empty() {
            let line = monitor.reply();
            assert!(line.trim_end().ends_with(request), "{line}");
        }
    }
    server.stop();
}

#[test]
fn the_password_in_a_file_s_first_line_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    fs::write(&path, "secret\r\nanother line\n").unwrap();
    let server = Server::start(dir.path(), &["-requirepass-file", path.to_str().unwrap()]);
    let mut client = server.connect();
    assert_eq!(client.request("GET k"), "-NOAUTH Authentication required.");
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    assert_eq!(client.request("AUTH another"), wrong);
    assert_eq!(client.request("AUTH secret"), "+OK");
    assert_eq!(client.request("SET k v"), "+OK");
    server.stop();
}

#[test]
fn config_set_changes_all_that_it_is_asked_to_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let len = |client: &mut Client| client.list("CONFIG GET slowlog-max-len")[1].clone();
    for bad in [
        "databases 2",
        "slowlog-log-slower-than x",
        "maxmemory 1gb",
        "slowlog-max-len 6",
    ] {
        let reply = client.request(&format!("CONFIG SET slowlog-max-len 5 {bad}"));
        let refused = "-ERR CONFIG SET failed (possibly related to argument '";
        assert!(reply.starts_with(refused), "{reply}");
        assert_eq!(len(&mut client), "128", "{bad}");
    }
    // What cannot be changed may be set to what it is.
    let good = "CONFIG SET slowlog-max-len 5 maxmemory 0 appendonly yes";
    assert_eq!(client.request(good), "+OK");
    assert_eq!(len(&mut client), "5");
    server.stop();
}

#[test]
fn shutdown_stops_the_server_in_an_orderly_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    assert_eq!(client.request("SET k v"), "+OK");
    assert_eq!(client.request("SHUTDOWN SAVE NOSAVE"), "-ERR syntax error");
    client.send(b"SHUTDOWN NOSAVE\n");
    client.assert_closed();
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.connect().request("GET k"), "+OK v");
    server.stop();
}

#[test]
fn a_read_that_takes_long_is_counted_once_and_noted_with_its_own_time() {
    /// Some 1.5 million steps of 64 bits at a time.
    const LEN: usize = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-fsync", "never"]);
    let mut client = server.connect();
    let ab = "ab".repeat(LEN / 2);
    for key in ["a", "b"] {
        assert_eq!(client.request(&format!("SET {key} {ab}")), "+OK");
    }
    let set = client.request("CONFIG SET slowlog-log-slower-than 1");
    assert_eq!(set, "+OK");
    let begun = Instant::now();
    assert_eq!(client.request("LCS a b LEN"), format!("+OK {LEN}"));
    let took = begun.elapsed().as_micros();
    let noted = client.list("SLOWLOG GET 1");
    assert_eq!(noted[3..7], ["LCS", "a", "b", "LEN"]);
    let noted: u128 = noted[2].parse().unwrap();
    assert!((1000..=took).contains(&noted), "{noted} us of {took}");
    // Not with what it waited for until others were done.
    let others = [(); 12].map(|()| {
        let mut other = server.connect();
        other.send(b"LCS a b LEN\n");
        other
    });
    std::thread::sleep(Duration::from_millis(20));
    let begun = Instant::now();
    assert_eq!(client.list("KEYS ?").len(), 2);
    let took = begun.elapsed().as_micros();
    for mut other in others {
        assert_eq!(other.reply(), format!("+OK {LEN}"));
    }
    let all = client.list("SLOWLOG GET -1");
    let keys = all.iter().position(|word| word == "KEYS").unwrap();
    let noted: u128 = all[keys - 1].parse().unwrap();
    assert!(noted < (took / 2).max(20_000), "{noted} us of {took}");
    let calls = client.list("INFO commandstats").join("\n");
    for calls_of in ["cmdstat_lcs:calls=13,", "cmdstat_keys:calls=1,"] {
        assert!(calls.contains(calls_of), "{calls}");
    }
    server.stop();
}

#[test]
fn commands_are_counted_and_slow_ones_noted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-enable-debug-command", "local"]);
    let mut client = server.connect();
    client.request("SET k v");
    client.request("GET");
    client.send(b"MULTI\nINCR k\nGET k\nEXEC\n");
    let replies: Vec<_> = (0..6).map(|_| client.reply()).collect();
    assert_eq!(replies[3], "+OK 2");
    client.request("DEBUG SLEEP 0.02");
    let stats = client.list("INFO commandstats");
    for (command, counts) in [
        ("set", (1, 0, 0)),
        ("get", (1, 1, 0)),
        ("incr", (1, 0, 1)),
        ("exec", (1, 0, 0)),
        ("debug", (1, 0, 0)),
    ] {
        let (calls, rejected, failed) = counts;
        let line = stats
            .iter()
            .find(|line| line.starts_with(&format!("cmdstat_{command}:")));
        let line = line.unwrap_or_else(|| panic!("{command} in {stats:?}"));
        assert!(line.contains(&format!(":calls={calls},")), "{line}");
        let rest = format!(",rejected_calls={rejected},failed_calls={failed}");
        assert!(line.trim_end().ends_with(&rest), "{line}");
    }
    // One entry of six elements, the words of the request being three lines.
    let slow = client.list("SLOWLOG GET");
    assert_eq!(slow.len(), 3 + 3 + 2, "{slow:?}");
    assert_eq!(slow[3..6], ["DEBUG", "SLEEP", "0.02"]);
    assert!(slow[2].parse::<u64>().unwrap() >= 20_000, "{slow:?}");
    server.stop();
}
