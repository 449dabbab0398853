//! A server in this process, right or wrong on purpose: what the check must accept, and what it
//! must find.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::load::{Connection, End, Ended, Request, System};
use super::model::{Operation, Outcome, State, Step};

/// How long an operation is on its way; twice.
const PAUSE: Duration = Duration::from_micros(20);

/// What is wrong with a stand-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// Some GETs are answered from before the last change.
    StaleReads,
    /// A GET is answered as if it stood first in its pipeline.
    Overtakes,
    /// A kill takes back the last acknowledged write.
    ForgetsAcknowledged,
    /// A kill takes back what was not acknowledged yet, but was read by others.
    ServesWhatIsNotDurable,
    /// INCR reads and writes in two goes.
    LosesIncrements,
    /// SET NX looks and writes in two goes.
    TwoWinners,
    /// What an operation does to its two keys, others can see half done.
    TornOperations,
    /// A kill leaves of an operation on two keys the first half.
    HalfDurable,
}

pub struct StandIn {
    shared: Arc<Shared>,
}

struct Shared {
    flaw: Flaw,
    store: Mutex<Store>,
    /// Makes which request meets the flaw vary.
    requests: AtomicU64,
}

#[derive(Default)]
struct Store {
    /// How often it was ended; connections belong to one life.
    life: u64,
    pairs: Vec<State>,
    /// What each pair held before its last change.
    previous: Vec<State>,
    /// Changes that a kill takes back: the pair and what it held.
    undo: Vec<(u64, usize, State)>,
}

struct Link {
    shared: Arc<Shared>,
    life: u64,
    /// What all pairs held when the last pipeline came.
    at_send: Vec<State>,
}

impl StandIn {
    pub fn new(flaw: Flaw, pairs: usize) -> Self {
        let store = Store {
            pairs: vec![State::default(); pairs],
            previous: vec![State::default(); pairs],
            ..Store::default()
        };
        Self {
            shared: Arc::new(Shared {
                flaw,
                store: Mutex::new(store),
                requests: AtomicU64::new(0),
            }),
        }
    }
}

impl System for StandIn {
    fn connect(&self, _client: usize) -> Box<dyn Connection> {
        Box::new(Link {
            shared: Arc::clone(&self.shared),
            life: self.shared.lock().life,
            at_send: Vec::new(),
        })
    }

    fn end(&self, _end: End) {
        let mut store = self.shared.lock();
        store.life += 1;
        let undo = std::mem::take(&mut store.undo);
        for (_, pair, held) in undo.into_iter().rev() {
            store.pairs[pair] = held;
        }
    }

    fn start_again(&self) {}
}

impl Connection for Link {
    fn send(&mut self, _batch: &[Request<'_>]) -> Result<(), Ended> {
        let pairs = self.enter()?.pairs.clone();
        self.at_send = pairs;
        Ok(())
    }

    fn receive(&mut self, request: &Request<'_>) -> Result<Vec<Outcome>, Ended> {
        let shared = &self.shared;
        let Request {
            pair, operation, ..
        } = request;
        let number = shared.requests.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
        let store = self.enter()?;
        let before = store.pairs[*pair].clone();
        let outcomes = match (shared.flaw, &operation.steps[..]) {
            (Flaw::StaleReads, _) if operation.only_reads() && number.is_multiple_of(20) => {
                let mut previous = store.previous[*pair].clone();
                drop(store);
                perform(operation, &mut previous)
            }
            (Flaw::Overtakes, _) if operation.only_reads() => {
                drop(store);
                perform(operation, &mut self.at_send[*pair].clone())
            }
            (Flaw::LosesIncrements, [(_, Step::Incr)]) => {
                let mut state = before.clone();
                let outcomes = perform(operation, &mut state);
                drop(store);
                std::thread::sleep(PAUSE);
                self.enter()?.pairs[*pair] = state;
                outcomes
            }
            (Flaw::TwoWinners, [(slot, Step::SetNx(value))]) if before[*slot].is_none() => {
                drop(store);
                std::thread::sleep(PAUSE);
                self.enter()?.pairs[*pair][*slot] = Some(value.clone());
                vec![Outcome::Done]
            }
            (Flaw::TornOperations, [first, rest @ ..]) => {
                let mut store = store;
                let mut outcomes = vec![first.1.perform(&mut store.pairs[*pair][first.0])];
                drop(store);
                for (slot, step) in rest {
                    std::thread::sleep(PAUSE);
                    outcomes.push(step.perform(&mut self.enter()?.pairs[*pair][*slot]));
                }
                outcomes
            }
            (flaw, _) => {
                let mut store = store;
                let outcomes = perform(operation, &mut store.pairs[*pair]);
                if store.pairs[*pair] != before {
                    store.previous[*pair] = before.clone();
                }
                match flaw {
                    Flaw::ServesWhatIsNotDurable => {
                        store.undo.push((number, *pair, before.clone()))
                    }
                    Flaw::HalfDurable if operation.steps.len() > 1 => {
                        let (slot, step) = &operation.steps[0];
                        let mut half = before.clone();
                        step.perform(&mut half[*slot]);
                        store.undo.push((number, *pair, half));
                    }
                    _ => {}
                }
                outcomes
            }
        };
        std::thread::sleep(PAUSE);
        let mut store = self.enter()?;
        match shared.flaw {
            Flaw::ForgetsAcknowledged => store.undo = vec![(number, *pair, before)],
            _ => store.undo.retain(|(of, _, _)| *of != number),
        }
        Ok(outcomes)
    }
}

impl Link {
    /// The store, unless the server was ended since this connection began.
    fn enter(&self) -> Result<MutexGuard<'_, Store>, Ended> {
        let store = self.shared.lock();
        if store.life == self.life {
            Ok(store)
        } else {
            Err(Ended)
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }
}

fn perform(operation: &Operation, state: &mut State) -> Vec<Outcome> {
    let steps = operation.steps.iter();
    steps
        .map(|(slot, step)| step.perform(&mut state[*slot]))
        .collect()
}
