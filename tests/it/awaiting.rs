//! Clients whose writes the log has, and what may happen to them meanwhile. With one thread for clients the applier
//! writes the replies, or the log's thread where nobody else writes; with several the connection's task does.

use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::support::client::Client;
use crate::support::process::eventually;
use crate::support::server::Server;

/// How long the disk takes for what these clients write.
const SYNC: Duration = Duration::from_millis(500);
/// Enough for a request to be read.
const MOMENT: Duration = Duration::from_millis(60);

/// How many threads serve clients, and whether another client writes.
const WAYS: [(usize, bool); 3] = [(1, false), (1, true), (2, false)];

/// A server whose log has a SET of `waits`, who was sent no reply to what it asked ahead of that, if it did.
struct Waiting {
    server: Server,
    disk: Disk,
    waits: Client,
    other: Client,
    /// Whose SET came next.
    beside: Option<Client>,
    since: Instant,
}

impl Waiting {
    /// Says what `waits` is in CLIENT LIST, too.
    fn behind((threads, beside): (usize, bool), asked: &[u8]) -> (Self, String) {
        let disk = Disk::default();
        let server = Server::start_on(&disk, 8, threads);
        let [mut waits, other] = [(); 2].map(|()| Client::connect(server.addr));
        let mut beside = beside.then(|| Client::connect(server.addr));
        // From the second batch on a connection has all that it needs for one.
        assert_eq!(waits.request("SET key first"), "+OK");
        let id = waits.request("CLIENT ID").split_off("+OK ".len());
        disk.slow_syncs(SYNC);
        waits.send(asked);
        std::thread::sleep(MOMENT);
        waits.send(b"SET key last\n");
        let since = Instant::now();
        std::thread::sleep(MOMENT);
        if let Some(beside) = &mut beside {
            beside.send(b"SET beside 1\n");
        }
        let waiting = Self {
            server,
            disk,
            waits,
            other,
            beside,
            since,
        };
        (waiting, id)
    }

    /// The log has it still, and the others are served.
    fn assert_waits(&mut self) {
        assert_eq!(self.other.request("GET key"), "+OK first");
        assert!(self.since.elapsed() < SYNC, "{:?}", self.since.elapsed());
    }

    /// What was written came to be, and the server goes on and stops.
    fn assert_written(mut self) {
        self.disk.slow_syncs(Duration::ZERO);
        assert!(eventually(|| self.other.request("GET key") == "+OK last"));
        assert_eq!(self.other.request("SET other 1"), "+OK");
        self.server.stop().unwrap();
    }
}

#[test]
fn one_that_is_killed_is_cut_off_at_once_and_its_write_stays() {
    // With several threads a lone batch is committed by its own task, which nobody ends before that.
    let (mut waiting, id) = Waiting::behind((1, false), b"");
    let kill = format!("CLIENT KILL ID {id}");
    assert_eq!(waiting.other.request(&kill), "+OK 1");
    waiting.waits.assert_closed();
    waiting.assert_waits();
    assert_eq!(waiting.other.connected(), 1);
    waiting.assert_written();
}

#[test]
fn one_that_has_said_all_gets_its_reply_and_then_the_end() {
    for way in WAYS {
        let (mut waiting, _) = Waiting::behind(way, b"");
        waiting.waits.half_close();
        waiting.assert_waits();
        assert_eq!(waiting.waits.rest(), b"+OK\n");
        waiting.assert_written();
    }
}

#[test]
fn one_that_asks_on_is_answered_in_order() {
    for way in WAYS {
        let (mut waiting, _) = Waiting::behind(way, b"");
        for request in ["GET key\nSET k", "ey more\nGET key\n", "SET key last\n"] {
            waiting.waits.send(request.as_bytes());
            std::thread::sleep(MOMENT / 2);
        }
        waiting.assert_waits();
        let replies = "+OK\n+OK last\n+OK\n+OK more\n+OK\n";
        assert_eq!(waiting.waits.bytes(replies.len()), replies.as_bytes());
        assert_eq!(waiting.waits.request("GET key"), "+OK last");
        waiting.assert_written();
    }
}

#[test]
fn one_is_answered_before_a_stop_closes_it() {
    for way in WAYS {
        let (mut waiting, _) = Waiting::behind(way, b"");
        waiting.assert_waits();
        waiting.server.stop().unwrap();
        assert_eq!(waiting.waits.rest(), b"+OK\n");
    }
}

#[test]
fn one_that_is_gone_when_its_reply_is_written_ends_alone() {
    for way in WAYS {
        // Who leaves without having read all is cut off, so to write to it fails.
        let (mut waiting, _) = Waiting::behind(way, b"GET key\n");
        let gone = std::mem::replace(&mut waiting.waits, Client::connect(waiting.server.addr));
        drop(gone);
        waiting.assert_waits();
        let others = 2 + usize::from(waiting.beside.is_some());
        assert!(eventually(|| waiting.other.connected() == others));
        waiting.assert_written();
    }
}

#[test]
fn one_that_takes_no_replies_gets_them_later() {
    for threads in [1, 2] {
        let disk = Disk::default();
        let server = Server::start_on(&disk, 8, threads);
        let [mut waits, mut other] = [(); 2].map(|()| Client::connect(server.addr));
        let value = "v".repeat(900_000);
        assert_eq!(other.request(&format!("SET big {value}")), "+OK");
        // Each of these goes to the log, and its replies are more than the system keeps.
        const BATCHES: usize = 20;
        for n in 0..BATCHES {
            waits.send(format!("SET key {n}\nGET big\n").as_bytes());
            assert_eq!(other.request("PING"), "+PONG");
        }
        std::thread::sleep(MOMENT);
        for _ in 0..BATCHES {
            assert_eq!(waits.reply(), "+OK");
            assert!(waits.reply() == format!("+OK {value}"), "another value");
        }
        assert_eq!(other.request("GET key"), format!("+OK {}", BATCHES - 1));
        server.stop().unwrap();
    }
}
