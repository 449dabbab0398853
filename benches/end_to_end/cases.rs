//! What is measured: the cases, who takes part in each, and what is asked of postres.

use std::fmt;
use std::time::Duration;

use super::load::{Group, Length, Load, Order};
use super::sample::Count;
use super::server::Contestant;
use super::wire::{Kind, Protocol};

use Contestant::{Naive, OtherBuild, PostresAlways, PostresNever, ValkeyAlways, ValkeyNoLog};

/// How many keys the load is spread over.
pub(crate) const KEYS: u32 = 1_000_000;

/// How much slower the syncs are in the cases that ask for slow ones.
pub(crate) const SLOWER: Duration = Duration::from_millis(2);

/// How many times longer than without syncs the tail of the GETs may be and count as the same.
///
/// On a busy machine a tail differs by this much between two runs of one server, and the two
/// servers compared here are busy with different numbers of SETs. A GET that did wait for a sync
/// would show where syncs are slow: there it would take several times as long.
const SAME_TAIL: f64 = 1.5;

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Who takes part. postres, which the goals are for, comes first.
    pub(crate) contestants: Vec<Contestant>,
    /// Who sends what.
    pub(crate) groups: Vec<Group>,
    /// Which program sends it.
    pub(crate) generator: Generator,
    /// Whether every key is there before the measurement.
    pub(crate) preloaded: bool,
    /// Whether syncs are slower by [`SLOWER`].
    pub(crate) slow_sync: bool,
    /// What is asked of the first contestant.
    pub(crate) goals: Vec<Goal>,
}

/// A program that makes load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generator {
    /// This one.
    Own,
    /// Debian's redis-benchmark.
    RedisBenchmark,
}

/// What is asked of the first contestant of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    /// The number of the issue that asks for it.
    pub(crate) issue: u8,
    /// What it is.
    pub(crate) demand: Demand,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Demand {
    /// The rate is at least this many times that of the other.
    Ratio(Count, f64, Contestant),
    /// The GETs' 99th percentile is at most this many times that of the other.
    Tail(f64, Contestant),
}

impl Demand {
    /// Whom the first contestant is compared with.
    pub(crate) fn other(self) -> Contestant {
        match self {
            Self::Ratio(_, _, other) | Self::Tail(_, other) => other,
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(count, times, other) => {
                write!(formatter, "{count}/s at least {times:.1} x ({other})")
            }
            Self::Tail(times, other) => {
                write!(formatter, "GET p99 at most {times:.1} x ({other})")
            }
        }
    }
}

impl Case {
    /// A case of the program's own load, every key there before, and nothing asked.
    fn new(name: &'static str, contestants: &[Contestant], groups: &[Group]) -> Self {
        Self {
            name,
            contestants: contestants.to_vec(),
            groups: groups.to_vec(),
            generator: Generator::Own,
            preloaded: true,
            slow_sync: false,
            goals: Vec::new(),
        }
    }

    /// Another build of postres takes part too, if one does that syncs.
    pub(crate) fn beside_other_build(&mut self) {
        if self.contestants.contains(&PostresAlways) {
            self.contestants.insert(1, OtherBuild);
        }
    }

    /// The same on empty servers.
    fn empty(self) -> Self {
        Self {
            preloaded: false,
            ..self
        }
    }

    /// The same with slower syncs.
    fn slow(self) -> Self {
        Self {
            slow_sync: true,
            ..self
        }
    }

    /// The same, asking that the rate be `times` that of `other`.
    fn ratio(mut self, issue: u8, count: Count, times: f64, other: Contestant) -> Self {
        let demand = Demand::Ratio(count, times, other);
        self.goals.push(Goal { issue, demand });
        self
    }

    /// The same, asking that GETs be as quick as if nothing were synced.
    fn same_tail(mut self, issue: u8) -> Self {
        let demand = Demand::Tail(SAME_TAIL, PostresNever);
        self.goals.push(Goal { issue, demand });
        self
    }

    /// The language all its servers are spoken to in, so that the generator has the same work with
    /// each: lines where the baseline takes part, which knows nothing else.
    pub(crate) fn protocol(&self) -> Protocol {
        if self.contestants.contains(&Naive) {
            Protocol::Line
        } else {
            Protocol::Resp
        }
    }

    /// The load of one measurement, in the round of that number.
    pub(crate) fn load(&self, length: Length, round: u32) -> Load {
        Load {
            groups: self.groups.clone(),
            keys: KEYS,
            order: Order::Random,
            seed: round,
            length,
        }
    }
}

/// Every case, in the order they are run.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = one_kind();
    cases.extend(reads_beside_writes());
    cases.extend(baseline());
    cases.extend(second_opinions());
    cases
}

const GET: Count = Count::Kind(Kind::Get);
const SET: Count = Count::Kind(Kind::Set);

/// How much of one kind of operation there is in a second, against Valkey.
fn one_kind() -> Vec<Case> {
    let gets = [PostresAlways, ValkeyNoLog];
    let sets = [PostresAlways, ValkeyAlways];
    vec![
        Case::new("GET, 50 clients", &gets, &[Group::new(50, 0)]).ratio(3, GET, 1.0, ValkeyNoLog),
        Case::new(
            "GET, 50 clients, pipeline 16",
            &gets,
            &[Group::new(50, 0).pipelined(16)],
        )
        .ratio(3, GET, 1.2, ValkeyNoLog),
        Case::new("SET, 50 clients", &sets, &[Group::new(50, 100)]).ratio(
            3,
            SET,
            1.0,
            ValkeyAlways,
        ),
        Case::new(
            "SET, 50 clients, pipeline 16",
            &sets,
            &[Group::new(50, 100).pipelined(16)],
        )
        .ratio(3, SET, 1.5, ValkeyAlways),
    ]
}

/// Reads and writes at a time: against Valkey, and whether GETs are as quick as if no log were
/// synced.
fn reads_beside_writes() -> Vec<Case> {
    let contestants = [PostresAlways, PostresNever, ValkeyAlways];
    let mixed = [Group::new(50, 10)];
    let apart = [Group::new(50, 0), Group::new(8, 100)];
    // The same load for each server, and one that leaves the server idle most of the time:
    // what a GET waits for here is not the processor.
    let paced = [
        Group::new(50, 0).paced(10_000),
        Group::new(8, 100).paced(500),
    ];
    vec![
        Case::new("1 SET : 9 GET, 50 clients", &contestants, &mixed)
            .ratio(3, Count::All, 1.6, ValkeyAlways)
            .same_tail(2),
        Case::new(
            "1 SET : 9 GET, 50 clients, syncs 2 ms slower",
            &contestants,
            &mixed,
        )
        .slow()
        .ratio(3, Count::All, 5.0, ValkeyAlways)
        .same_tail(2),
        Case::new(
            "50 GET clients beside 8 SET clients, syncs 2 ms slower",
            &contestants,
            &apart,
        )
        .slow()
        .ratio(3, GET, 10.0, ValkeyAlways)
        .same_tail(2),
        Case::new(
            "10,000 GET/s beside 500 SET/s, syncs 2 ms slower",
            &contestants,
            &paced,
        )
        .slow()
        .same_tail(2),
    ]
}

/// What group commit is worth, in lines. A million keys would take the baseline minutes to fill in.
fn baseline() -> Vec<Case> {
    let contestants = [PostresAlways, Naive];
    vec![
        Case::new("SET, 1 client, lines", &contestants, &[Group::new(1, 100)])
            .empty()
            .ratio(2, SET, 0.9, Naive),
        Case::new(
            "SET, 50 clients, lines",
            &contestants,
            &[Group::new(50, 100)],
        )
        .empty()
        .ratio(2, SET, 10.0, Naive),
    ]
}

/// The cases of one kind once more, as another program sees them: asked the same.
fn second_opinions() -> Vec<Case> {
    let names = [
        "redis-benchmark: GET, 50 clients",
        "redis-benchmark: GET, 50 clients, pipeline 16",
        "redis-benchmark: SET, 50 clients",
        "redis-benchmark: SET, 50 clients, pipeline 16",
    ];
    let with_name = |(name, case)| Case {
        name,
        generator: Generator::RedisBenchmark,
        ..case
    };
    names.into_iter().zip(one_kind()).map(with_name).collect()
}
