//! Stopping the real process by signals.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::{Client, assert_same_bytes};
use crate::support::process::{Server, eventually};

const SIGNALS: [&str; 2] = ["TERM", "INT"];

#[test]
fn a_stop_answers_what_was_sent_and_the_log_has_it() {
    // More than one read takes, so that the stop comes in the midst of it.
    const SETS: usize = 20_000;
    for signal in SIGNALS {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server::start(dir.path(), &[]);
        let mut client = server.connect();
        assert_eq!(client.request("PING"), "+PONG");
        let mut pipeline = Vec::new();
        for n in 0..SETS {
            writeln!(pipeline, "SET k{n} {n}").unwrap();
        }
        client.send(&pipeline);
        server.signal(signal);
        assert_same_bytes(&client.rest(), &b"+OK\n".repeat(SETS), signal);
        assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
        assert!(TcpStream::connect(server.addr()).is_err());

        let server = Server::start(dir.path(), &[]);
        let mut client = server.connect();
        assert_eq!(client.request("DBSIZE"), format!("+OK {SETS}"));
        assert_eq!(client.request("GET k0"), "+OK 0");
        assert_eq!(client.request("GET k19999"), "+OK 19999");
        server.stop();
    }
}

#[test]
fn a_stop_answers_reads_that_wait_for_their_turn() {
    a_stop_answers(b"GET a\n", b"+OK 1\n");
}

#[test]
fn a_stop_sends_the_replies_that_are_held_back() {
    a_stop_answers(
        b"GET a\nGET b\n",
        b"+OK 1\n-GET could not find key in store\n",
    );
}

/// Stops a server that reads these requests of fifty clients behind the one that stops it.
fn a_stop_answers(requests: &[u8], replies: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    // All in one round of one thread.
    let mut server = Server::start(dir.path(), &["-threads", "1"]);
    let mut asking: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    assert_eq!(asking[0].request("SET a 1"), "+OK");
    for client in &mut asking {
        assert_eq!(client.request("PING"), "+PONG");
    }
    let mut stopping = server.connect();
    assert_eq!(stopping.request("PING"), "+PONG");
    // What follows has arrived, in this order, before the server sees any of it.
    server.signal("STOP");
    stopping.send(b"SHUTDOWN\n");
    for client in &mut asking {
        client.send(requests);
    }
    server.signal("CONT");
    for client in &mut asking {
        assert_same_bytes(&client.rest(), replies, "what had arrived");
    }
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}

/// As above, where the requests are mostly read only when the stop has begun.
#[test]
fn a_stop_that_has_begun_answers_what_is_set_aside_or_held_back() {
    let cases = [
        ("GET a\n", "+OK 1\n"),
        (
            "GET a\nGET b\n",
            "+OK 1\n-GET could not find key in store\n",
        ),
    ];
    for (requests, replies) in cases.into_iter().cycle().take(8) {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server::start(dir.path(), &["-threads", "1"]);
        let (mut paused, mut other) = (server.connect(), server.connect());
        assert_eq!(paused.request("PING"), "+PONG");
        assert_eq!(other.request("CLIENT PAUSE 600000 WRITE"), "+OK");
        // With each of these the server has seen what was sent before.
        paused.send(b"SET a 1\n");
        assert_eq!(other.request("PING"), "+PONG");
        paused.send(requests.as_bytes());
        assert_eq!(other.request("PING"), "+PONG");
        // The stop ends the pause.
        server.signal("TERM");
        let all = format!("+OK\n{replies}");
        assert_same_bytes(&paused.rest(), all.as_bytes(), requests);
        assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    }
}

#[test]
fn idle_clients_do_not_hold_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    let mut idle: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.request("PING"), "+PONG");
    }
    idle[0].send(b"SET unfinished ");
    let begun = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    for client in &mut idle {
        client.assert_closed();
    }
}

#[test]
fn a_stop_under_load_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    let acknowledged: Vec<usize> = std::thread::scope(|scope| {
        let writers: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(id, client)| scope.spawn(move || count_acknowledged(client, id)))
            .collect();
        std::thread::sleep(Duration::from_millis(400));
        let begun = Instant::now();
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "{:?}",
            begun.elapsed()
        );
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    assert!(
        acknowledged.iter().all(|&count| count > 0),
        "{acknowledged:?}"
    );

    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    for (id, count) in acknowledged.into_iter().enumerate() {
        for n in 0..count {
            assert_eq!(
                client.request(&format!("GET k{id}-{n}")),
                format!("+OK {n}")
            );
        }
        // At most the one that was under way is there without having been acknowledged.
        assert_eq!(
            client.request(&format!("EXISTS k{id}-{}", count + 1)),
            "+OK 0"
        );
    }
    server.stop();
}

/// Writes keys one by one until the server closes; says how many were acknowledged.
fn count_acknowledged(client: &mut Client, id: usize) -> usize {
    for n in 0.. {
        if client
            .try_send(format!("SET k{id}-{n} {n}\n").as_bytes())
            .is_err()
        {
            return n;
        }
        match client.try_line() {
            Ok(line) if line == b"+OK\n" => {}
            Ok(line) if line.is_empty() => return n,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return n,
            other => panic!("an orderly stop answered {other:?}"),
        }
    }
    unreachable!("the loop has no end")
}

#[test]
fn a_client_that_never_stops_sending_does_not_hold_a_stop() {
    for request in ["GET k\n", "SET k v\n"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), &["-shutdown-timeout", "30"]);
        let clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
        let pipeline = request.repeat(2_000);
        let flowing = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in &clients {
                let (mut sender, mut reader) = (client.sender(), client.sender());
                let (pipeline, flowing) = (&pipeline, &flowing);
                scope.spawn(move || while sender.write_all(pipeline.as_bytes()).is_ok() {});
                scope.spawn(move || {
                    let mut buffer = vec![0; 64 << 10];
                    while reader.read(&mut buffer).is_ok_and(|len| len > 0) {
                        flowing.store(true, Ordering::Relaxed);
                    }
                });
            }
            // In here, so that a failure ends it, and with it the threads above.
            let mut server = server;
            assert!(eventually(|| flowing.load(Ordering::Relaxed)));
            server.signal("TERM");
            assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
            // Not a time of our own, and a long one of the server's: what had arrived takes as long as a busy machine lets
            // it.
            let log = server.stderr();
            assert!(!log.contains("cut off"), "{request:?}: {log}");
        });
    }
}

/// A client whose replies pile up because it reads none.
fn stuck_client(server: &Server) -> Client {
    let mut stuck = server.connect();
    let value = "v".repeat(900_000);
    assert_eq!(stuck.request(&format!("SET big {value}")), "+OK");
    stuck.send("GET big\n".repeat(100).as_bytes());
    // Until the server has filled the sockets' buffers and waits.
    std::thread::sleep(Duration::from_millis(300));
    stuck
}

#[test]
fn a_client_that_never_reads_holds_a_stop_only_for_the_given_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &["-shutdown-timeout", "1"]);
    let _stuck = stuck_client(&server);
    let mut other = server.connect();
    assert_eq!(other.request("SET other 1"), "+OK");
    let begun = Instant::now();
    server.signal("TERM");
    other.assert_closed();
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    let took = begun.elapsed();
    assert!(
        took > Duration::from_millis(900),
        "nobody was stuck: {took:?}"
    );
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(server.stderr().contains("cut off"), "{}", server.stderr());

    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.connect().request("GET other"), "+OK 1");
    server.stop();
}

#[test]
fn a_second_signal_stops_at_once_and_the_exit_code_names_it() {
    for (second, code) in [("TERM", 143), ("INT", 130)] {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server::start(dir.path(), &["-shutdown-timeout", "60"]);
        let _stuck = stuck_client(&server);
        server.signal("TERM");
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        server.signal(second);
        assert_eq!(server.wait().code(), Some(code), "{}", server.stderr());
        assert!(begun.elapsed() < Duration::from_secs(2));

        let server = Server::start(dir.path(), &[]);
        assert_eq!(server.connect().request("EXISTS big"), "+OK 1");
        server.stop();
    }
}
