//! The load generator: one thread, one epoll, any number of connections.
//!
//! A connection sends a batch of as many requests as its pipeline is deep, waits for all the
//! replies, and sends the next: at once, or, where its group has a rate, when that is due. A batch
//! that is due while its connection still waits has its latency counted from when it was due, or
//! a slow server would be asked less often just when it is slow, and look good. It counts if it was due while the
//! run lasted, however late its replies are: so the rate is the one that was asked for, and what the server does
//! shows in the latencies.
//!
//! # What it does to the figures
//!
//! It shares the machine with the server it measures, so every microsecond it takes is one that the
//! server may lack. Requests and replies are therefore templates, and a turn of one connection is
//! one read and one write. What is left falls on all servers of a case alike:
//!
//! - They are spoken to in one protocol, with the same requests (one seed a round), and every right
//!   reply is the same bytes, checked by one comparison. What differs is how the replies arrive: a
//!   server that answers many connections at a time is waited for in fewer turns of the epoll.
//!   The report shows what the generator used for each operation; where that differs between two
//!   servers, as much of their ratio is the generator's.
//! - What it takes itself is part of both rates. The less the servers take, the more their ratio is
//!   pulled towards 1: a ratio here understates what separate machines would show.
//! - Nothing is bound to a core, unless `--generator-core` says so. On two cores a server of one
//!   thread has one for itself, beside the generator's, while a server of two threads shares its
//!   second with the generator: that counts against the latter. postres is of one there by default,
//!   and has a second for its log.
//! - Where a group has a rate it does not sleep, but looks at the clock and yields: a timer would
//!   be late by more than a GET takes. It then uses what is left of a core, with every server
//!   alike.
//! - It sends the next request when it has the reply to the last, so where there is no rate a
//!   latency is little else than the connections divided by the rate.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::load::{Group, Length, Load, Order, Random};
use super::machine::{self, Whose};
use super::measured::Measured;
use super::wire::{Found, Kind, MOST_KEYS, Protocol, Reply, Wire};

/// A server that says nothing for this long is taken to have stopped.
const STALLED: Duration = Duration::from_secs(10);

/// Bytes a connection reads at once: far more than a batch's replies take, but for large values.
/// Those are read in pieces, each of them small enough to be checked while the processor's cache
/// still has it.
const INPUT: usize = 16 * 1024;
const LARGE_INPUT: usize = 256 * 1024;

/// The longest latency a histogram tells apart.
const LONGEST: Duration = Duration::from_secs(60);

/// Runs `load` against the server at `address`.
pub(crate) fn run(address: SocketAddr, protocol: Protocol, load: &Load) -> Result<Measured> {
    ensure!(
        (1..=MOST_KEYS).contains(&load.keys),
        "between 1 and {MOST_KEYS} keys"
    );
    let mut poll = Poll::new().context("making an epoll")?;
    let mut connections = connect(address, load, &poll)?;
    let mut run = Run::start(protocol, load)?;
    // Whoever has to send at a certain time cannot sleep until something comes in.
    let paced = load.groups.iter().any(|group| group.rate.is_some());
    let wait = if paced { Duration::ZERO } else { STALLED };
    let mut events = Events::with_capacity(1024);
    let used_before = machine::used(Whose::ThisThread)?;
    run.send_what_is_due(&mut connections)?;
    while run.waiting > 0 || (paced && !run.is_over(Instant::now())) {
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled.context("waiting for replies")?,
        }
        for event in &events {
            let connection = connections
                .get_mut(event.token().0)
                .context("unknown token")?;
            if event.is_writable() {
                connection.flush()?;
            }
            if event.is_readable() {
                run.receive(connection)?;
            }
        }
        if events.is_empty() {
            let silence = run.heard.elapsed();
            ensure!(
                run.waiting == 0 || silence < STALLED,
                "no reply for {silence:?}, {} are due",
                run.waiting
            );
            thread::yield_now();
        }
        if paced {
            run.send_what_is_due(&mut connections)?;
        }
    }
    let used = machine::used(Whose::ThisThread)?.since(used_before).all();
    Ok(run.finish(used))
}

/// Opens the connections of every group.
fn connect(address: SocketAddr, load: &Load, poll: &Poll) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for group in &load.groups {
        let first_due = Instant::now();
        for number in 0..group.connections {
            let token = Token(connections.len());
            let mut connection = Connection::open(address, *group, poll, token)?;
            if load.values.bytes > INPUT {
                connection.input.resize(LARGE_INPUT, 0);
            }
            // A group's connections send one after the other, not all at once.
            let share = number as f64 / group.connections as f64;
            connection.due = first_due + connection.interval.unwrap_or_default().mul_f64(share);
            connections.push(connection);
        }
    }
    Ok(connections)
}

/// One client.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    group: Group,
    /// The batch, of which `written` bytes are sent.
    output: Vec<u8>,
    written: usize,
    /// What came in, of which `filled` bytes are not looked at yet.
    input: Vec<u8>,
    filled: usize,
    /// The batch's requests; the first `answered` have their replies.
    batch: Vec<(Kind, u32)>,
    answered: usize,
    /// Bytes of the next reply that were right, and are no longer in `input`.
    checked: usize,
    /// When the batch was sent, or should have been.
    sent: Instant,
    /// The group's.
    interval: Option<Duration>,
    /// When the next batch is due, where there is an interval.
    due: Instant,
}

impl Connection {
    fn open(address: SocketAddr, group: Group, poll: &Poll, token: Token) -> Result<Self> {
        let stream = std::net::TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry()
            .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            group,
            output: Vec::new(),
            written: 0,
            input: vec![0; INPUT],
            filled: 0,
            batch: Vec::with_capacity(group.pipeline),
            answered: 0,
            checked: 0,
            sent: Instant::now(),
            interval: group.interval(),
            due: Instant::now(),
        })
    }

    /// Sends what the socket takes; the event that it takes more calls this again.
    fn flush(&mut self) -> Result<()> {
        while let Some(rest) = self
            .output
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match self.stream.write(rest) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending requests"),
            }
        }
        Ok(())
    }
}

/// The state of a run.
#[derive(Debug)]
struct Run {
    wire: Wire,
    random: Random,
    keys: u32,
    order: Order,
    next_key: u32,
    /// Requests that may still be sent, where the run has a number of them.
    unsent: u64,
    /// Requests sent and not answered yet.
    waiting: usize,
    /// When the last reply came.
    heard: Instant,
    counted_from: Instant,
    /// The end of what is counted; `None` where the run ends with its last request.
    counted_to: Option<Instant>,
    measured: Measured,
}

impl Run {
    fn start(protocol: Protocol, load: &Load) -> Result<Self> {
        let now = Instant::now();
        let (counted_from, counted_to, unsent) = match load.length {
            Length::Timed { warm_up, measured } => {
                (now + warm_up, Some(now + warm_up + measured), u64::MAX)
            }
            Length::Requests(count) => (now, None, count),
        };
        let longest = u64::try_from(LONGEST.as_nanos())?;
        Ok(Self {
            wire: Wire::new(protocol, load.values),
            random: Random::new(load.seed),
            keys: load.keys,
            order: load.order,
            next_key: 0,
            unsent,
            waiting: 0,
            heard: now,
            counted_from,
            counted_to,
            measured: Measured {
                elapsed: Duration::ZERO,
                get: Histogram::new_with_bounds(1, longest, 3)?,
                set: Histogram::new_with_bounds(1, longest, 3)?,
                replies: 0,
                misses: 0,
                own_time: Duration::ZERO,
            },
        })
    }

    /// Whether no more is to be sent.
    fn is_over(&self, now: Instant) -> bool {
        self.unsent == 0 || self.counted_to.is_some_and(|end| now >= end)
    }

    /// Lets every connection that waits for no reply send its next batch, if that is due.
    fn send_what_is_due(&mut self, connections: &mut [Connection]) -> Result<()> {
        let now = Instant::now();
        for connection in connections {
            if connection.answered == connection.batch.len() {
                self.send_batch(connection, now, false)?;
            }
        }
        Ok(())
    }

    /// Sends the connection's next batch, unless it is not due yet or the run is over.
    ///
    /// `kept` tells that the connection waited for a reply until now. What was due meanwhile
    /// counts from when it was due, and is sent though the run is over by now; that a free connection is late is
    /// the generator's own fault.
    fn send_batch(&mut self, connection: &mut Connection, now: Instant, kept: bool) -> Result<()> {
        let paced = connection.interval.is_some();
        let from = if kept && paced {
            connection.due.min(now)
        } else {
            now
        };
        if self.is_over(from) {
            return Ok(());
        }
        connection.sent = from;
        if let Some(interval) = connection.interval {
            if now < connection.due {
                return Ok(());
            }
            connection.due += interval;
        }
        connection.output.clear();
        connection.written = 0;
        connection.batch.clear();
        connection.answered = 0;
        let group = connection.group;
        while connection.batch.len() < group.pipeline && self.unsent > 0 {
            self.unsent -= 1;
            let kind = if self.random.below(100) < u32::from(group.set_percent) {
                Kind::Set
            } else {
                Kind::Get
            };
            let key = self.choose_key();
            self.wire.request(kind, key, &mut connection.output);
            connection.batch.push((kind, key));
        }
        self.waiting += connection.batch.len();
        connection.flush()
    }

    fn choose_key(&mut self) -> u32 {
        match self.order {
            Order::Random => self.random.below(self.keys),
            Order::Sequential => {
                let key = self.next_key;
                self.next_key = (key + 1) % self.keys;
                key
            }
        }
    }

    /// Takes what a connection has to read.
    fn receive(&mut self, connection: &mut Connection) -> Result<()> {
        loop {
            let room = connection
                .input
                .get_mut(connection.filled..)
                .unwrap_or_default();
            let room_length = room.len();
            match connection.stream.read(room) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) => {
                    connection.filled += count;
                    self.heard = Instant::now();
                    self.take_replies(connection, self.heard)?;
                    // A short read emptied the socket; epoll tells when there is more. That
                    // saves the second read, which would only say so.
                    if count < room_length {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("reading replies"),
            }
        }
    }

    /// Checks and counts the replies that are complete. After a batch's last, sends the next.
    fn take_replies(&mut self, connection: &mut Connection, now: Instant) -> Result<()> {
        let latency = u64::try_from((now - connection.sent).as_nanos())?;
        // What is sent at a pace counts by when it was due: a reply that is late counts, however late it is.
        let paced = connection.interval.is_some();
        let counts_at = if paced { connection.sent } else { now };
        let mut taken = 0;
        while let Some((kind, key)) = connection.batch.get(connection.answered).copied() {
            let rest = connection
                .input
                .get(taken..connection.filled)
                .unwrap_or_default();
            match self.wire.check_reply(kind, key, connection.checked, rest)? {
                Found::Whole(reply) => {
                    taken += reply.length;
                    connection.checked = 0;
                    connection.answered += 1;
                    self.count(kind, reply, latency, counts_at);
                }
                Found::Part(length) => {
                    taken += length;
                    connection.checked += length;
                    break;
                }
            }
        }
        connection.input.copy_within(taken..connection.filled, 0);
        connection.filled -= taken;
        if connection.answered < connection.batch.len() {
            return Ok(());
        }
        ensure!(
            connection.filled == 0,
            "{} bytes that nobody asked for",
            connection.filled
        );
        self.send_batch(connection, now, true)
    }

    fn count(&mut self, kind: Kind, reply: Reply, latency: u64, at: Instant) {
        self.waiting -= 1;
        self.measured.replies += 1;
        if !reply.hit {
            self.measured.misses += 1;
            return;
        }
        if at < self.counted_from || self.counted_to.is_some_and(|end| at >= end) {
            return;
        }
        let histogram = match kind {
            Kind::Get => &mut self.measured.get,
            Kind::Set => &mut self.measured.set,
        };
        histogram.saturating_record(latency);
    }

    fn finish(self, own_time: Duration) -> Measured {
        let end = self.counted_to.unwrap_or_else(Instant::now);
        Measured {
            elapsed: end - self.counted_from,
            own_time,
            ..self.measured
        }
    }
}
