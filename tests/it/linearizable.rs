//! Linearizability: what concurrent clients are told can be put in one order that explains all
//! of it, and in which nothing comes before what had ended when it began.
//!
//! Clients work on few keys with GET, SET, SET NX, INCR, DEL, and with MGET, MSET and MULTI on
//! two of them; the server is killed, or stopped, and started again in the midst of it. A write
//! whose client got no reply may have been done before the server's end, or never. The rest must
//! fit: what was acknowledged is there after the restart (P1), so is what anybody has read (P2),
//! and what a condition decided (two clients racing on `SET k v NX`) it decided once (P5).
//!
//! A failure prints the smallest piece of the history that cannot be explained, and the seed;
//! `POSTRES_TEST_SEED` runs the same load again, though hardly with the same timing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::support::process::Server;

mod check;
mod damage;
mod load;
mod model;
pub mod random;
mod stand_in;
mod wire;

use load::{Connection, End, Load, Summary, System};
use random::Random;
use stand_in::{Flaw, StandIn};
use wire::{Dialect, Socket};

const PAIRS: usize = 2;

/// The binary itself, with its log in a folder that outlives it.
struct Process {
    dir: tempfile::TempDir,
    server: Mutex<Option<Server>>,
    starts: AtomicU64,
    dialects: &'static [Dialect],
}

impl Process {
    fn new(dialects: &'static [Dialect]) -> Self {
        let process = Self {
            dir: tempfile::tempdir().unwrap(),
            server: Mutex::new(None),
            starts: AtomicU64::new(0),
            dialects,
        };
        process.start_again();
        process
    }
}

impl System for Process {
    fn connect(&self, client: usize) -> Box<dyn Connection> {
        let addr = self.server.lock().unwrap().as_ref().unwrap().addr();
        let dialect = self.dialects[client % self.dialects.len()];
        Box::new(Socket::connect(addr, dialect))
    }

    fn end(&self, end: End) {
        let server = self.server.lock().unwrap().take().unwrap();
        match end {
            End::Kill => server.kill(),
            End::Stop => server.stop(),
        }
    }

    fn start_again(&self) {
        let starts = self.starts.fetch_add(1, Ordering::Relaxed) as usize;
        let (shards, threads) = (["1", "8"][starts % 2], ["1", "2"][starts / 2 % 2]);
        let server = Server::start(self.dir.path(), &["-shards", shards, "-threads", threads]);
        *self.server.lock().unwrap() = Some(server);
    }
}

/// A load that a debug build serves and checks in some 20 seconds. One end in four is a stop.
fn load(seed: u64) -> Load {
    Load {
        seed,
        clients: 8,
        pairs: PAIRS,
        ends: 14,
        operations: 1_450,
        batches: 12,
    }
}

fn seed() -> u64 {
    let given = std::env::var("POSTRES_TEST_SEED").ok();
    let given = given.map(|seed| seed.parse().expect("POSTRES_TEST_SEED is a number"));
    given.unwrap_or_else(|| Random(u64::from(std::process::id())).next())
}

fn number_from(variable: &str, otherwise: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(otherwise, |n| {
        n.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number"))
    })
}

fn check_process(load: &Load) -> Summary {
    let system = Process::new(&[Dialect::Line, Dialect::Resp2, Dialect::Resp3]);
    let begun = Instant::now();
    let summary = load::run(&system, load, |part| part.check());
    let summary = summary.unwrap_or_else(|violation| panic!("seed {}: {violation}", load.seed));
    println!("{summary:?} in {:?}, seed {}", begun.elapsed(), load.seed);
    assert!(
        summary.unknown > 0,
        "no server ended with an operation in flight"
    );
    summary
}

#[test]
fn concurrent_histories_are_linearizable_across_kills_and_restarts() {
    let summary = check_process(&load(seed()));
    assert!(summary.operations >= 20_000 && summary.ends == 14);
}

/// `just linearizability`.
#[test]
#[ignore = "takes minutes"]
fn a_long_history_is_linearizable_across_many_kills_and_restarts() {
    let ends = number_from("POSTRES_TEST_RESTARTS", 250);
    let operations = number_from("POSTRES_TEST_OPERATIONS", 1_000_000) / (ends + 1);
    check_process(&Load {
        ends,
        operations,
        ..load(seed())
    });
}

/// The stand-ins end more often, and their histories are short.
fn stand_in_load(seed: u64) -> Load {
    Load {
        ends: 40,
        operations: 300,
        ..load(seed)
    }
}

#[test]
fn a_right_server_is_not_accused() {
    let load = stand_in_load(seed());
    let system = StandIn::new(Flaw::None, load.pairs);
    let summary = load::run(&system, &load, |part| part.check());
    let summary = summary.unwrap_or_else(|violation| panic!("seed {}: {violation}", load.seed));
    assert!(summary.unknown > 0 && summary.ends == load.ends);
}

#[test]
fn every_wrong_server_is_found_out() {
    let flaws = [
        Flaw::StaleReads,
        Flaw::Overtakes,
        Flaw::ForgetsAcknowledged,
        Flaw::ServesWhatIsNotDurable,
        Flaw::LosesIncrements,
        Flaw::TwoWinners,
        Flaw::TornOperations,
        Flaw::HalfDurable,
    ];
    let seed = seed();
    for flaw in flaws {
        let load = stand_in_load(seed);
        let system = StandIn::new(flaw, load.pairs);
        match load::run(&system, &load, |part| part.check()) {
            Err(violation) => println!("{flaw:?}, seed {seed}: {violation}"),
            Ok(summary) => panic!("{flaw:?} was not found, seed {seed}: {summary:?}"),
        }
    }
}
