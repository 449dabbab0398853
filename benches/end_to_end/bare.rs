//! A yardstick: a server that keeps nothing.
//!
//! It has what every server of one thread and a log has to have: sockets and an epoll, a read and a
//! write for what a connection sends at a time, and a thread that writes groups of SETs to a file and
//! syncs them. It has no store, no commands, no limits and no figures: what it answers follows from the
//! request. So what it is faster by is what the rest of a server takes, and a goal that it misses, too, is not
//! to be had by doing less for a request. Its groups gather until nothing more is ready to be read; nobody
//! is waited for, so where that pays, as with slow syncs, a server that does can be faster.
//!
//! Like the baseline it runs in a process of its own, this same program started with [`LOG`] set.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::wire::{Kind, Protocol, Values, Wire};

/// The variable that makes the program the bare server; its value is the log's path.
pub(crate) const LOG: &str = "POSTRES_BENCH_BARE_LOG";

/// How long the log is: as long as a segment of postres. When it is full it begins anew.
const LOG_LEN: u64 = 64 << 20;

/// Bytes read at once.
const INPUT: usize = 64 << 10;

/// A group of so many bytes gathers no longer: some 256 SETs.
const ENOUGH: usize = 32 << 10;

const LISTENER: Token = Token(usize::MAX);
const SYNCED: Token = Token(usize::MAX - 1);

/// Serves on a free port of the loopback, named on stderr, until stdin ends.
pub(crate) fn serve(log: &Path) -> Result<()> {
    let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    // As in a segment of postres: a sync need not record that blocks are written now.
    for at in (0..LOG_LEN).step_by(1 << 20) {
        file.write_all_at(&[0; 1 << 20], at)?;
    }
    file.sync_all()?;
    let mut server = Server::new(file)?;
    writeln!(
        std::io::stderr(),
        "listening addr={}",
        server.listener.local_addr()?
    )?;
    thread::spawn(move || {
        let Err(error) = server.run();
        give_up(&error)
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Ends the process: whoever is connected notices that nothing is answered any more.
fn give_up(error: &Error) -> ! {
    let _ = writeln!(std::io::stderr(), "the bare server failed: {error:#}");
    std::process::exit(1)
}

/// SETs that are synced together.
#[derive(Debug, Default)]
struct Group {
    requests: Vec<u8>,
    /// Who is answered then.
    connections: Vec<usize>,
}

/// Writes and syncs one group after the other, until nobody sends any more.
fn keep_log(
    file: &File,
    groups: &mpsc::Receiver<Group>,
    synced: &mpsc::Sender<Group>,
    waker: &Waker,
) -> Result<()> {
    let mut at = 0;
    for group in groups {
        let len = group.requests.len() as u64;
        if at + len > LOG_LEN {
            at = 0;
        }
        file.write_all_at(&group.requests, at)?;
        file.sync_data()?;
        at += len;
        synced.send(group)?;
        waker.wake()?;
    }
    Ok(())
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// The start of a request whose end did not come yet.
    rest: Vec<u8>,
    /// Replies that the socket did not take yet.
    out: Vec<u8>,
    /// Those that wait for a group, and those behind them.
    held: Vec<u8>,
    /// How many groups have SETs of it.
    groups: usize,
}

impl Connection {
    /// Sends what the socket takes; the event that it takes more calls this again.
    fn flush(&mut self) -> std::io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    /// By token. None is used twice.
    connections: Vec<Option<Connection>>,
    wire: Wire,
    input: Vec<u8>,
    /// The group that gathers.
    group: Group,
    /// Whether one is being written or synced.
    is_busy: bool,
    groups: mpsc::Sender<Group>,
    synced: mpsc::Receiver<Group>,
}

enum Never {}

impl Server {
    fn new(log: File) -> Result<Self> {
        let poll = Poll::new().context("making an epoll")?;
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(registry, SYNCED)?);
        let (groups, to_log) = mpsc::channel();
        let (from_log, synced) = mpsc::channel();
        thread::spawn(move || {
            if let Err(error) = keep_log(&log, &to_log, &from_log, &waker) {
                give_up(&error);
            }
        });
        Ok(Self {
            poll,
            listener,
            connections: Vec::new(),
            wire: Wire::new(Protocol::Resp, Values::default()),
            input: vec![0; INPUT],
            group: Group::default(),
            is_busy: false,
            groups,
            synced,
        })
    }

    fn run(&mut self) -> Result<Never> {
        let mut events = Events::with_capacity(1024);
        loop {
            let gathers = !self.is_busy && !self.group.requests.is_empty();
            let at_once = gathers.then_some(Duration::ZERO);
            match self.poll.poll(&mut events, at_once) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled.context("waiting for requests")?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    SYNCED => self.acknowledge()?,
                    Token(number) => {
                        // Who is gone has had its last event.
                        if self.serve_one(number, event.is_readable()).is_err()
                            && let Some(connection) = self.connections.get_mut(number)
                        {
                            *connection = None;
                        }
                    }
                }
            }
            let complete = events.is_empty() || self.group.requests.len() >= ENOUGH;
            if complete && !self.is_busy && !self.group.requests.is_empty() {
                self.is_busy = true;
                self.groups.send(std::mem::take(&mut self.group))?;
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.connections.len());
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, token, both)?;
            self.connections.push(Some(Connection {
                stream,
                rest: Vec::new(),
                out: Vec::new(),
                held: Vec::new(),
                groups: 0,
            }));
        }
    }

    fn serve_one(&mut self, number: usize, is_readable: bool) -> Result<()> {
        let Some(Some(connection)) = self.connections.get_mut(number) else {
            return Ok(());
        };
        if !is_readable {
            return Ok(connection.flush()?);
        }
        loop {
            let count = match connection.stream.read(&mut self.input) {
                Ok(0) => bail!("the client left"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            let input = self.input.get(..count).unwrap_or_default();
            let taken = if connection.rest.is_empty() {
                answer(&self.wire, input, number, connection, &mut self.group)
            } else {
                let mut rest = std::mem::take(&mut connection.rest);
                rest.extend_from_slice(input);
                let taken = answer(&self.wire, &rest, number, connection, &mut self.group);
                connection.rest = rest.split_off(taken);
                count
            };
            let left = input.get(taken..).unwrap_or_default();
            connection.rest.extend_from_slice(left);
            // What came since is another event.
            if count < INPUT {
                break;
            }
        }
        Ok(connection.flush()?)
    }

    /// Answers the SETs of the groups that were synced.
    fn acknowledge(&mut self) -> Result<()> {
        while let Ok(group) = self.synced.try_recv() {
            self.is_busy = false;
            for &number in &group.connections {
                let Some(Some(connection)) = self.connections.get_mut(number) else {
                    continue;
                };
                connection.groups -= 1;
                if connection.groups == 0 {
                    connection.out.append(&mut connection.held);
                    connection.flush()?;
                }
            }
            if self.group.requests.is_empty() {
                self.group = group;
                self.group.requests.clear();
                self.group.connections.clear();
            }
        }
        Ok(())
    }
}

/// Answers the requests in `input`: a SET, and what comes behind it, once its group is synced. Says how long
/// they are.
fn answer(
    wire: &Wire,
    input: &[u8],
    number: usize,
    connection: &mut Connection,
    group: &mut Group,
) -> usize {
    let mut taken = 0;
    let mut has_set = false;
    while let Some(rest) = input.get(taken..)
        && let Some((kind, key, len)) = wire.find_request(rest)
    {
        if kind == Kind::Set {
            let request = rest.get(..len).unwrap_or_default();
            group.requests.extend_from_slice(request);
            if !has_set {
                has_set = true;
                group.connections.push(number);
                connection.groups += 1;
            }
        }
        let out = if connection.groups > 0 {
            &mut connection.held
        } else {
            &mut connection.out
        };
        wire.reply(kind, key, out);
        taken += len;
    }
    taken
}
