//! Concurrent clients, and what becomes of their server: the history of it comes out in parts.
//!
//! The clients work in bursts. Between two bursts nothing is in flight, and every key is read:
//! there the history is cut, so that each part is small enough to be checked by search. A server
//! that is to be killed is killed within a burst; what got no reply before may have taken effect.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::check::{Entry, Part, Violation};
use super::model::{Form, Operation, Outcome, Slot, State, Step, Value};
use super::random::Random;

/// The server under test. All of it may be called while clients are at work.
pub trait System: Sync {
    /// `client` counts the connections of one life of the server.
    fn connect(&self, client: usize) -> Box<dyn Connection>;
    /// Ends the server in the midst of its work.
    fn end(&self, end: End);
    fn start_again(&self);
}

pub trait Connection: Send {
    /// Sends requests in one write.
    fn send(&mut self, batch: &[Request<'_>]) -> Result<(), Ended>;
    /// The outcomes of the first request that was not answered yet; it is passed again.
    fn receive(&mut self, request: &Request<'_>) -> Result<Vec<Outcome>, Ended>;
}

#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub pair: usize,
    pub keys: &'a [String; 2],
    pub operation: Operation,
}

/// The connection ended before the whole reply was there.
#[derive(Debug)]
pub struct Ended;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// kill -9.
    Kill,
    /// An orderly stop, on SIGTERM.
    Stop,
}

/// What is done to the server.
#[derive(Clone, Debug)]
pub struct Load {
    pub seed: u64,
    pub clients: usize,
    /// The keys, two and two. Few, so that clients meet.
    pub pairs: usize,
    /// How often the server is started again.
    pub ends: u64,
    /// Operations before each of these ends.
    pub operations: u64,
    /// The most batches that one client sends in one burst.
    pub batches: u64,
}

#[derive(Debug, Default)]
pub struct Summary {
    pub operations: u64,
    pub parts: u64,
    pub longest_part: usize,
    pub ends: u64,
    /// Operations whose outcome no client knows.
    pub unknown: u64,
    pub checking: Duration,
}

/// Puts the load on the system and hands out the parts of the history, until one is refused.
pub fn run(
    system: &dyn System,
    load: &Load,
    mut check: impl FnMut(Part) -> Result<(), Violation>,
) -> Result<Summary, Violation> {
    let names = |pair| ["a", "b"].map(|slot| format!("key{pair}{slot}"));
    let site = Site {
        system,
        load,
        keys: (0..load.pairs).map(names).collect(),
        clock: Instant::now(),
        next_value: AtomicU64::new(1),
    };
    let mut random = Random(load.seed);
    let mut summary = Summary::default();
    let mut before = site.read_all();
    for life in 0..=load.ends {
        let mut connections: Vec<_> = (0..load.clients).map(|c| system.connect(c)).collect();
        let enough = summary.operations + load.operations;
        let last_life = life == load.ends;
        let mut ended = false;
        while !ended && (!last_life || summary.operations < enough) {
            let mut burst = Burst::new(&site, &mut random);
            if !last_life && summary.operations >= enough {
                let stop = life % 4 == 3;
                burst.end = Some(if stop { End::Stop } else { End::Kill });
            }
            let done = burst.run(&mut connections, &mut random);
            ended = burst.end.is_some();
            if ended {
                system.start_again();
                summary.ends += 1;
            }
            let after = site.read_all();
            let begun = Instant::now();
            for part in site.parts(done, &before, &after) {
                summary.count(&part.entries);
                check(part)?;
            }
            summary.checking += begun.elapsed();
            before = after;
        }
    }
    Ok(summary)
}

impl Summary {
    fn count(&mut self, entries: &[Entry]) {
        self.operations += entries.len() as u64;
        self.parts += 1;
        self.longest_part = self.longest_part.max(entries.len());
        self.unknown += entries.iter().filter(|entry| entry.reply.is_none()).count() as u64;
    }
}

/// What stays the same during a run.
struct Site<'a> {
    system: &'a dyn System,
    load: &'a Load,
    keys: Vec<[String; 2]>,
    clock: Instant,
    /// No value is written twice: a reply tells whose write it has seen.
    next_value: AtomicU64,
}

impl Site<'_> {
    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).expect("a run of less than 500 years")
    }

    /// Reads every pair while nothing else is in flight, so that the reads of its two keys
    /// are one.
    fn read_all(&self) -> Vec<Entry> {
        let mut connection = self.system.connect(0);
        let read = |pair| {
            let get = |slot| Request {
                pair,
                keys: &self.keys[pair],
                operation: Operation {
                    form: Form::Single,
                    steps: vec![(slot, Step::Get)],
                },
            };
            let invoked = self.now();
            let batch = [get(0), get(1)];
            connection.send(&batch).expect("the server is up");
            let replies = batch.map(|get| connection.receive(&get).expect("it stays up"));
            Entry {
                client: self.load.clients,
                operation: Operation {
                    form: Form::MGet,
                    steps: vec![(0, Step::Get), (1, Step::Get)],
                },
                invoked,
                reply: Some((self.now(), replies.concat())),
            }
        };
        (0..self.load.pairs).map(read).collect()
    }

    /// What happened between two reads of everything, pair by pair.
    fn parts(&self, done: Vec<(usize, Entry)>, before: &[Entry], after: &[Entry]) -> Vec<Part> {
        let mut parts: Vec<Part> = (self.keys.iter().zip(before))
            .map(|(keys, before)| Part {
                keys: keys.clone(),
                before: state_in(before),
                entries: Vec::new(),
            })
            .collect();
        let reads = after.iter().cloned().enumerate();
        for (pair, entry) in done.into_iter().chain(reads) {
            parts[pair].entries.push(entry);
        }
        parts
    }

    fn random_operation(&self, random: &mut Random) -> Operation {
        let slot = |random: &mut Random| random.below(2) as Slot;
        if random.below(6) > 0 {
            let steps = vec![(slot(random), self.random_step(random))];
            return Operation {
                form: Form::Single,
                steps,
            };
        }
        let (form, steps) = match random.below(4) {
            0 => (Form::MGet, vec![(0, Step::Get), (1, Step::Get)]),
            1 => {
                let steps = [0, 1].map(|slot| (slot, Step::Set(self.new_value(random))));
                (Form::MSet, steps.to_vec())
            }
            _ => {
                let first = slot(random);
                let slots = [first, 1 - first, slot(random)];
                let len = 2 + random.below(2) as usize;
                let slots = slots.into_iter().take(len);
                (
                    Form::Exec,
                    slots.map(|slot| (slot, self.random_step(random))).collect(),
                )
            }
        };
        Operation { form, steps }
    }

    fn random_step(&self, random: &mut Random) -> Step {
        match random.below(13) {
            0..4 => Step::Get,
            4..6 => Step::Set(self.new_value(random)),
            6..8 => Step::SetNx(self.new_value(random)),
            8..11 => Step::Incr,
            _ => Step::Del,
        }
    }

    /// Mostly a number, with room for INCRs before the next one; else a text that has none.
    fn new_value(&self, random: &mut Random) -> Value {
        let unique = self.next_value.fetch_add(1, Ordering::Relaxed);
        match random.below(4) {
            0 => format!("t{unique}").into(),
            _ => format!("{unique}000").into(),
        }
    }
}

/// What a read of both keys found.
fn state_in(read: &Entry) -> State {
    let outcomes = read.reply.as_ref().map(|(_, outcomes)| outcomes.as_slice());
    let value = |outcome: &Outcome| match outcome {
        Outcome::Value(value) => Some(value.clone()),
        _ => None,
    };
    let outcomes = outcomes.expect("a read that was answered");
    [value(&outcomes[0]), value(&outcomes[1])]
}

/// All clients at work at once, for a few operations each.
struct Burst<'a> {
    site: &'a Site<'a>,
    batches: u64,
    /// The most operations that a client sends at once.
    depth: usize,
    /// How many clients take part: the more in a pipeline, the fewer, since what the search costs
    /// grows with how many operations are in flight.
    clients: usize,
    /// Now and then all of them work on the same two keys.
    only_pair: Option<usize>,
    /// How the server ends in its midst, if it does.
    end: Option<End>,
    ending: AtomicBool,
    batches_done: AtomicU64,
}

impl<'a> Burst<'a> {
    fn new(site: &'a Site<'a>, random: &mut Random) -> Self {
        let all_on_one = random.below(4) == 0;
        let pair = random.below(site.load.pairs as u64) as usize;
        let depth = [1, 1, 1, 2, 4][random.below(5) as usize];
        Self {
            site,
            batches: 2 + random.below(site.load.batches - 1),
            depth,
            clients: (site.load.clients / depth).max(1),
            only_pair: all_on_one.then_some(pair),
            end: None,
            ending: AtomicBool::new(false),
            batches_done: AtomicU64::new(0),
        }
    }

    /// What the clients did, each operation with its pair.
    fn run(
        &self,
        connections: &mut [Box<dyn Connection>],
        random: &mut Random,
    ) -> Vec<(usize, Entry)> {
        let until_end = random.below(self.batches * self.clients as u64);
        let moment = Duration::from_micros(random.below(500));
        std::thread::scope(|scope| {
            let clients: Vec<_> = connections
                .iter_mut()
                .take(self.clients)
                .enumerate()
                .map(|(client, connection)| {
                    let random = Random(random.next());
                    scope.spawn(move || self.work(client, connection.as_mut(), random))
                })
                .collect();
            if let Some(end) = self.end {
                let at_work = || clients.iter().any(|client| !client.is_finished());
                while self.batches_done.load(Ordering::Relaxed) < until_end && at_work() {
                    std::thread::sleep(Duration::from_micros(50));
                }
                std::thread::sleep(moment);
                self.ending.store(true, Ordering::SeqCst);
                self.site.system.end(end);
            }
            let done = clients
                .into_iter()
                .flat_map(|client| client.join().unwrap());
            done.collect()
        })
    }

    fn work(
        &self,
        client: usize,
        connection: &mut dyn Connection,
        mut random: Random,
    ) -> Vec<(usize, Entry)> {
        let site = self.site;
        let mut done = Vec::new();
        // A server that is about to end should find the clients at work.
        let batches = self.batches * if self.end.is_some() { 4 } else { 1 };
        for _ in 0..batches {
            let batch = self.random_batch(&mut random);
            let invoked = site.now();
            let mut ended = connection.send(&batch).is_err();
            for request in batch {
                let reply = match ended {
                    true => None,
                    false => connection.receive(&request).ok(),
                };
                ended = reply.is_none();
                let reply = reply.map(|outcomes| (site.now(), outcomes));
                let operation = request.operation;
                done.push((
                    request.pair,
                    Entry {
                        client,
                        operation,
                        invoked,
                        reply,
                    },
                ));
            }
            if ended {
                let expected = self.ending.load(Ordering::SeqCst);
                assert!(
                    expected,
                    "client {client}'s connection ended before the server did"
                );
                break;
            }
            self.batches_done.fetch_add(1, Ordering::Relaxed);
        }
        done
    }

    fn random_batch(&self, random: &mut Random) -> Vec<Request<'a>> {
        let site = self.site;
        let len = 1 + random.below(self.depth as u64);
        let request = |_| {
            let any = random.below(site.load.pairs as u64) as usize;
            let pair = self.only_pair.unwrap_or(any);
            Request {
                pair,
                keys: &site.keys[pair],
                operation: site.random_operation(random),
            }
        };
        (0..len).map(request).collect()
    }
}
