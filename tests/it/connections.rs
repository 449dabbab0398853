//! Many connections, too many connections, and connections that misbehave.

use std::collections::HashMap;
use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use crate::support::client::{Client, assert_same_bytes};
use crate::support::process::{Server, binary_with_open_files, eventually, segments, with_log};
use crate::support::resp;

const TOO_MANY: &str = "-ERR max number of clients reached\r";

#[test]
fn twenty_clients_at_once_each_get_the_replies_to_their_own_requests() {
    const CLIENTS: usize = 20;
    const ROUNDS: usize = 60;
    for shards in ["1", "8"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), &["-shards", shards]);
        std::thread::scope(|scope| {
            for id in 0..CLIENTS {
                let client = server.connect();
                scope.spawn(move || write_own_and_shared_keys(client, id, ROUNDS));
            }
        });
        let mut client = server.connect();
        for shared in 0..3 {
            let last = client.request(&format!("GET shared-{shared}"));
            let (_, round) = shared_value(&last).expect("somebody wrote it");
            // The last write of some client to this key: an earlier one came back otherwise.
            assert!(round + 3 >= ROUNDS, "{last} is not the last of its writer");
        }
        for id in 0..CLIENTS {
            let own = client.request(&format!("GET own-{id}-0"));
            assert_eq!(own, format!("+OK {}-{id}", ROUNDS - 1));
        }
        server.stop();
    }
}

fn write_own_and_shared_keys(mut client: Client, id: usize, rounds: usize) {
    // The newest write of each client that was seen in each shared key.
    let mut seen: HashMap<(usize, usize), usize> = HashMap::new();
    for round in 0..rounds {
        let (own, other) = (format!("own-{id}-0"), format!("own-{id}-1"));
        let shared = round % 3;
        client.send(
            format!(
                "SET {own} {round}-{id}\nGET {own}\nDEL {other}\nEXISTS {own} {other}\n\
                 SET {other} x\nEXISTS {own} {other}\nSET shared-{shared} by-{id}-{round}\n"
            )
            .as_bytes(),
        );
        let expected = format!("+OK\n+OK {round}-{id}\n+OK\n+OK 1\n+OK\n+OK 2\n+OK\n");
        let replies = client.bytes(expected.len());
        assert_same_bytes(&replies, expected.as_bytes(), "own keys");
        let value = client.request(&format!("GET shared-{shared}"));
        let (writer, written) = shared_value(&value).unwrap_or_else(|| panic!("{value:?}"));
        assert!(
            writer != id || written == round,
            "own write, but not the newest"
        );
        let newest = seen.entry((shared, writer)).or_insert(written);
        assert!(
            *newest <= written,
            "the past came back: {value} after {newest}"
        );
        *newest = written;
    }
}

/// The client and the round in a reply such as `+OK by-3-17`.
fn shared_value(reply: &str) -> Option<(usize, usize)> {
    let (id, round) = reply.strip_prefix("+OK by-")?.split_once('-')?;
    Some((id.parse().ok()?, round.parse().ok()?))
}

#[test]
fn clients_whose_pipelines_never_end_let_others_have_their_turn() {
    others_have_their_turn_beside(&resp::encode(["GET", "key"]));
}

#[test]
fn clients_whose_pipelines_never_end_let_others_have_their_turn_whose_replies_are_few_bytes_too() {
    let key = "key".repeat(30);
    others_have_their_turn_beside(&resp::encode(["EXISTS", key.as_str()]));
}

/// A client has its turn beside two that send nothing but this request, and do not wait for replies.
fn others_have_their_turn_beside(request: &[u8]) {
    // A turn of each comes to two reads of 64 KiB at most.
    let at_most = (4 << 16) / request.len() as u64;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-threads", "1"]);
    let requests = request.repeat(5000);
    let greedy = [server.connect(), server.connect()];
    let mut other = server.connect();
    let mut meanwhile: Vec<u64> = std::thread::scope(|scope| {
        for client in &greedy {
            let (mut sender, mut replies) = (client.sender(), client.sender());
            let requests = &requests;
            scope.spawn(move || while sender.write_all(requests).is_ok() {});
            scope.spawn(move || std::io::copy(&mut replies, &mut std::io::sink()));
        }
        // By then the system lets more of them wait unread than one read takes.
        assert!(eventually(|| commands_processed(&mut other) > 200_000));
        let meanwhile = (0..31).map(|_| {
            let before = commands_processed(&mut other);
            commands_processed(&mut other) - before
        });
        let meanwhile = meanwhile.collect();
        for client in &greedy {
            client.sender().shutdown(Shutdown::Both).unwrap();
        }
        meanwhile
    });
    // The machine may let this test wait now and then, but not most of the time.
    meanwhile.sort_unstable();
    let median = meanwhile[meanwhile.len() / 2];
    assert!(median <= at_most, "{meanwhile:?}");
    server.stop();
}

/// How many commands the server has carried out.
fn commands_processed(client: &mut Client) -> u64 {
    let lines = client.list("INFO stats");
    let count = lines
        .iter()
        .find_map(|line| line.strip_prefix("total_commands_processed:"));
    count.expect("INFO counts commands").parse().unwrap()
}

#[test]
fn one_client_too_many_is_told_so_and_closed_and_served_once_another_left() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-max-connections", "3"]);
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.request("PING"), "+PONG");
    }
    for _ in 0..5 {
        let mut fourth = server.connect();
        assert_same_bytes(
            &fourth.line(),
            format!("{TOO_MANY}\n").as_bytes(),
            "refusal",
        );
        fourth.assert_closed();
    }
    // One that sends first and asks later reads why, too, and is not served.
    let mut eager = server.connect();
    eager.send(b"SET eager 1\n");
    assert_eq!(eager.reply(), TOO_MANY);
    for client in &mut clients {
        assert_eq!(client.request("EXISTS eager"), "+OK 0");
    }
    drop(clients.pop());
    assert!(eventually(|| is_served(&server)));
    for client in &mut clients {
        assert_eq!(client.request("PING"), "+PONG");
    }
    server.stop();
}

/// Whether a new client is served now, not refused.
fn is_served(server: &Server) -> bool {
    let mut client = server.connect();
    // The refusal may have arrived, and the connection be closed, before the request is sent.
    let _ = client.try_send(b"PING\n");
    client.try_line().is_ok_and(|line| line == b"+PONG\n")
}

#[test]
fn a_client_that_does_not_read_costs_little_and_holds_up_nobody() {
    const VALUE_LEN: usize = 500_000;
    const GETS: usize = 300;
    const MAX_GROWTH_KIB: u64 = 50 << 10;
    // Reads alone are answered from the store; behind a write they go through the log.
    for ahead in ["", "SET other 1\n"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), &[]);
        let value = "v".repeat(VALUE_LEN);
        let mut other = server.connect();
        assert_eq!(other.request(&format!("SET big {value}")), "+OK");
        assert_eq!(other.request("GET big").len(), VALUE_LEN + 4);
        let base = server.resident_kib();

        let mut slow = server.connect();
        slow.send(format!("{ahead}{}", "GET big\n".repeat(GETS)).as_bytes());
        for n in 0..40 {
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!(other.request(&format!("SET beside {n}")), "+OK");
            assert_eq!(other.request("GET beside"), format!("+OK {n}"));
            let growth = server.resident_kib().saturating_sub(base);
            assert!(growth < MAX_GROWTH_KIB, "grew by {growth} KiB");
        }

        if !ahead.is_empty() {
            assert_eq!(slow.reply(), "+OK");
        }
        let expected = format!("+OK {value}\n").into_bytes();
        for n in 0..GETS {
            let reply = slow.bytes(expected.len());
            assert_same_bytes(&reply, &expected, &format!("late reply {n}"));
        }
        assert_eq!(slow.request("PING"), "+PONG");
        let growth = server.resident_kib().saturating_sub(base);
        assert!(growth < MAX_GROWTH_KIB, "grew by {growth} KiB");
        server.stop();
    }
}

#[test]
fn an_idle_connection_keeps_nothing_of_its_largest_request() {
    const CLIENTS: usize = 500;
    const VALUE_LEN: usize = 900_000;
    // What the server itself may keep for reuse, whatever the number of connections.
    const SLACK_KIB: u64 = 8 << 10;
    rlimit::increase_nofile_limit(4096).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-persist", "false"]);
    let set = format!("SET same {}\n", "v".repeat(VALUE_LEN));
    let mut first = server.connect();
    first.send(set.as_bytes());
    assert_eq!(first.reply(), "+OK");
    let base = server.resident_kib();

    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = server.connect();
        client.send(set.as_bytes());
        assert_eq!(client.reply(), "+OK");
        clients.push(client);
    }
    let growth = server.resident_kib().saturating_sub(base);
    let per_client = growth.saturating_sub(SLACK_KIB) / CLIENTS as u64;
    assert!(
        per_client < 16,
        "{per_client} KiB a connection, {growth} KiB in all"
    );
    for client in &mut clients {
        assert_eq!(client.request("PING"), "+PONG");
    }
    server.stop();
}

#[test]
fn a_connection_that_waits_for_the_rest_of_a_request_keeps_only_that() {
    const CLIENTS: usize = 60;
    const SLACK_KIB: u64 = 8 << 10;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-persist", "false"]);
    let requests = format!("SET same {}\nPI", "v".repeat(900_000));
    let mut first = server.connect();
    first.send(requests.as_bytes());
    assert_eq!(first.reply(), "+OK");
    let base = server.resident_kib();

    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = server.connect();
        client.send(requests.as_bytes());
        assert_eq!(client.reply(), "+OK");
        clients.push(client);
    }
    let growth = server.resident_kib().saturating_sub(base);
    let per_client = growth.saturating_sub(SLACK_KIB) / CLIENTS as u64;
    assert!(
        per_client < 128,
        "{per_client} KiB a connection, {growth} KiB in all"
    );
    for client in &mut clients {
        assert_eq!(client.request("NG"), "+PONG");
    }
    server.stop();
}

#[test]
fn when_descriptors_run_out_clients_are_served_and_accepting_goes_on_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &["-max-connections", "100"]);
    let mut client = server.connect();
    assert_eq!(client.request("SET before 1"), "+OK");
    // Behind the server's back, so that none of its own precautions helps.
    limit_open_files(&server, 20);

    let crowd: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    let ran_out = || server.stderr().contains("cannot accept connections");
    assert!(eventually(ran_out), "{}", server.stderr());
    for n in 0..20 {
        assert_eq!(client.request(&format!("SET during {n}")), "+OK");
        assert_eq!(client.request("GET during"), format!("+OK {n}"));
        std::thread::sleep(Duration::from_millis(10));
    }
    let errors = server.stderr().matches("cannot accept connections").count();
    assert!(
        errors < 20,
        "{errors} lines: the accept loop does not back off"
    );

    drop(crowd);
    let mut later = server.connect();
    assert_eq!(later.request("GET before"), "+OK 1");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

fn limit_open_files(server: &Server, open_files: u64) {
    let pid = i32::try_from(server.pid()).unwrap();
    let limit = Some((open_files, open_files));
    rlimit::prlimit(pid, rlimit::Resource::NOFILE, limit, None).unwrap();
}

#[test]
fn where_few_files_may_be_open_fewer_clients_are_let_in_and_the_log_keeps_its_share() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::spawn(with_log(binary_with_open_files(dir.path(), 40), dir.path()));
    let said = server.stderr();
    let warning = said.lines().find(|line| line.contains("fewer open files"));
    let warning = warning.unwrap_or_else(|| panic!("no warning in {said}"));
    assert!(
        warning.contains("WARN") && warning.contains("max_connections="),
        "{warning}"
    );

    let mut client = server.connect();
    assert_eq!(client.request("SET before 1"), "+OK");
    let crowd: Vec<Client> = (0..120).map(|_| server.connect()).collect();
    let value = "v".repeat(100_000);
    for n in 0..40 {
        // Each tenth or so begins a new segment, which takes a descriptor.
        assert_eq!(
            client.request(&format!("SET k{n} {value}")),
            "+OK",
            "SET {n}"
        );
    }
    assert!(segments(dir.path()).len() >= 4);

    drop(crowd);
    assert!(eventually(|| is_served(&server)), "{}", server.stderr());
    assert_eq!(client.request("GET before"), "+OK 1");
    server.stop();
}

#[test]
fn clients_that_vanish_in_the_middle_of_things_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut steady = server.connect();
    let big = "v".repeat(200_000);
    assert_eq!(steady.request(&format!("SET big {big}")), "+OK");
    for n in 0..30 {
        let mut leaving = server.connect();
        let mut requests = Vec::new();
        for m in 0..50 {
            write!(requests, "SET gone-{n} {m}\nGET big\n").unwrap();
        }
        requests.extend_from_slice(b"SET unfinished ");
        leaving.send(&requests);
        drop(leaving);
        assert_eq!(steady.request(&format!("SET steady {n}")), "+OK");
        assert_eq!(steady.request("GET steady"), format!("+OK {n}"));
    }
    assert_eq!(steady.request("EXISTS unfinished"), "+OK 0");
    server.stop();
}
