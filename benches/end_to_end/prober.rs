//! A client that asks at a fixed rate, whatever the answers do.
//!
//! One thread sends a GET whenever one is due and never waits for a reply; another reads the
//! replies. So a server that stands still for a moment is asked all the same, as many clients who
//! know nothing of each other would ask it, and each of those GETs counts. The threads sleep
//! between two GETs: they take next to nothing of the processors that the server and its load need.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use hdrhistogram::Histogram;

use super::load::Random;
use super::wire::{Found, Kind, Protocol, Values, Wire};

/// From one GET to the next.
const INTERVAL: Duration = Duration::from_millis(1);

/// A server that says nothing for this long has stopped.
const STALLED: Duration = Duration::from_secs(30);

/// Latencies are told apart to a thousandth up to this one.
const LONGEST: Duration = Duration::from_secs(60);

/// A GET on its way: its key, and when it was sent.
type Asked = (u32, Instant);

/// How long GETs took, in nanoseconds.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// All of them.
    pub(crate) all: Histogram<u64>,
    /// The longest that was sent in each stretch: of many GETs the longest is longer than of few, so phases of
    /// which one takes longer than the other are to be compared by these.
    pub(crate) longest: Vec<u64>,
}

/// Stretches of time of one length. Probers that have the same ones saw the same moments in each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretches {
    begun: Instant,
    length: Duration,
}

impl Stretches {
    /// The first begins now.
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            begun: Instant::now(),
            length,
        }
    }

    /// The number of the one that holds this moment; how many are over by then.
    fn at(&self, moment: Instant) -> usize {
        let since = moment.saturating_duration_since(self.begun);
        (since.as_secs_f64() / self.length.as_secs_f64()) as usize
    }
}

/// Asks the server at `address` for keys of `keys`, which may be there or not, while `work` goes on.
/// Returns what that returned, and the latencies. Of stretches a last one that is not over does not count, but where it
/// is the only one.
pub(crate) fn while_doing<T>(
    address: SocketAddr,
    keys: u32,
    stretches: Stretches,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Latencies)> {
    let stream = TcpStream::connect(address).context("connecting the prober")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STALLED))?;
    let sending = stream.try_clone()?;
    let is_over = AtomicBool::new(false);
    let is_over = &is_over;
    let (asked, to_answer) = channel();
    let (done, over, sent, latencies) = thread::scope(|scope| {
        let sender = scope.spawn(move || send(sending, keys, asked, is_over));
        let reader = scope.spawn(move || read(stream, to_answer, stretches));
        let done = work();
        let over = stretches.at(Instant::now());
        is_over.store(true, Ordering::Relaxed);
        (done, over, sender.join(), reader.join())
    });
    let panicked = |_| anyhow!("the prober panicked");
    let done = done?;
    // Where reading failed, sending may have failed of it.
    let mut latencies = latencies.map_err(panicked)?.context("probing")?;
    sent.map_err(panicked)?.context("probing")?;
    latencies.longest.truncate(over.max(1));
    Ok((done, latencies))
}

fn send(
    mut stream: TcpStream,
    keys: u32,
    asked: Sender<Asked>,
    is_over: &AtomicBool,
) -> Result<()> {
    let wire = Wire::new(Protocol::Resp, Values::default());
    let mut random = Random::new(0);
    let mut request = Vec::new();
    let mut due = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        let key = random.below(keys);
        request.clear();
        wire.request(Kind::Get, key, &mut request);
        // It counts from now, not from when it was due: it waits for no reply, so if it is late that is this thread's
        // own fault. Nobody takes it where reading has failed, which is told there.
        if asked.send((key, Instant::now())).is_err() {
            return Ok(());
        }
        stream.write_all(&request).context("sending a GET")?;
        due += INTERVAL;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    // The reader ends with the replies to what was asked by now.
    drop(asked);
    Ok(())
}

fn read(mut stream: TcpStream, asked: Receiver<Asked>, stretches: Stretches) -> Result<Latencies> {
    let mut wire = Wire::new(Protocol::Resp, Values::default());
    let mut latencies = Latencies {
        all: Histogram::new_with_bounds(1, u64::try_from(LONGEST.as_nanos())?, 3)?,
        longest: Vec::new(),
    };
    let mut input = vec![0; 64 * 1024];
    let (mut filled, mut heard) = (0, Instant::now());
    for (key, sent) in asked {
        let length = loop {
            let shown = input.get(..filled).unwrap_or_default();
            match wire.check_reply(Kind::Get, key, 0, shown)? {
                Found::Whole(reply) => break reply.length,
                Found::Part(_) => {
                    let room = input.get_mut(filled..).unwrap_or_default();
                    match stream.read(room).context("waiting for a reply")? {
                        0 => bail!("the server closed the connection"),
                        count => filled += count,
                    }
                    heard = Instant::now();
                }
            }
        };
        input.copy_within(length..filled, 0);
        filled -= length;
        let took = u64::try_from((heard - sent).as_nanos())?;
        latencies.all.saturating_record(took);
        let stretch = stretches.at(sent);
        if latencies.longest.len() <= stretch {
            latencies.longest.resize(stretch + 1, 0);
        }
        if let Some(longest) = latencies.longest.get_mut(stretch) {
            *longest = took.max(*longest);
        }
    }
    Ok(latencies)
}
