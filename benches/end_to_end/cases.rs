//! What is measured: the cases, who takes part in each, and what is asked of postres.

use std::fmt;
use std::time::Duration;

use super::load::{Group, Length, Load, Order};
use super::server::Contestant;
use super::wire::Kind;

use Contestant::{Naive, PostresAlways, PostresNever, ValkeyAlways, ValkeyNoLog};

/// How many keys the load is spread over.
pub(crate) const KEYS: u32 = 100_000;

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
    /// Who takes part. postres, on which the goal is, comes first.
    pub(crate) contestants: Vec<Contestant>,
    /// Who sends what.
    pub(crate) groups: Vec<Group>,
    /// Whether every key is there before the measurement.
    pub(crate) preloaded: bool,
    /// Whether syncs are slower by [`SLOWER`].
    pub(crate) slow_sync: bool,
    /// What is asked of the first contestant.
    pub(crate) goal: Goal,
}

/// What is asked of the first contestant of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Nothing; the case informs.
    None,
    /// Its rate is at least this many times that of the other.
    Ratio(Kind, f64, Contestant),
    /// Its rate is at least this, or at least the other's where the machine gives the other less.
    Rate(Kind, f64, Contestant),
    /// Its GETs' 99th percentile is at most this many times that of the other.
    Tail(f64, Contestant),
}

impl fmt::Display for Goal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("for information"),
            Self::Ratio(kind, times, other) => {
                write!(formatter, "{kind}/s at least {times} x ({other})")
            }
            Self::Rate(kind, rate, other) => {
                write!(
                    formatter,
                    "{kind}/s at least {rate}, or as ({other}) where that is less"
                )
            }
            Self::Tail(times, other) => {
                write!(formatter, "GET p99 at most {times} x ({other})")
            }
        }
    }
}

impl Case {
    /// The load of one measurement.
    pub(crate) fn load(&self, length: Length) -> Load {
        Load {
            groups: self.groups.clone(),
            keys: KEYS,
            order: Order::Random,
            length,
        }
    }
}

/// Every case, in the order they are run.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = throughput();
    cases.extend(reads_beside_writes());
    cases
}

/// How much of one kind of operation there is in a second.
fn throughput() -> Vec<Case> {
    vec![
        Case {
            name: "SET, 1 connection",
            contestants: vec![PostresAlways, Naive],
            groups: vec![Group::new(1, 100)],
            preloaded: false,
            slow_sync: false,
            goal: Goal::Ratio(Kind::Set, 0.9, Naive),
        },
        Case {
            name: "SET, 50 connections",
            contestants: vec![PostresAlways, Naive, ValkeyAlways],
            groups: vec![Group::new(50, 100)],
            preloaded: false,
            slow_sync: false,
            goal: Goal::Ratio(Kind::Set, 10.0, Naive),
        },
        Case {
            name: "GET, 50 connections",
            contestants: vec![PostresAlways, ValkeyNoLog],
            groups: vec![Group::new(50, 0)],
            preloaded: true,
            slow_sync: false,
            goal: Goal::Rate(Kind::Get, 150_000.0, ValkeyNoLog),
        },
        Case {
            name: "GET, 50 connections, pipeline 16",
            contestants: vec![PostresAlways, ValkeyNoLog],
            groups: vec![Group::new(50, 0).pipelined(16)],
            preloaded: true,
            slow_sync: false,
            goal: Goal::None,
        },
    ]
}

/// Whether GETs are as quick as if no log were synced.
fn reads_beside_writes() -> Vec<Case> {
    let contestants = vec![PostresAlways, PostresNever, ValkeyAlways];
    let mixed = vec![Group::new(50, 10)];
    let apart = vec![Group::new(50, 0), Group::new(8, 100)];
    // The same load for each server, and one that leaves the server idle most of the time:
    // what a GET waits for here is not the processor.
    let paced = vec![
        Group::new(50, 0).paced(10_000),
        Group::new(8, 100).paced(500),
    ];
    let case = |name, groups: &Vec<Group>, slow_sync| Case {
        name,
        contestants: contestants.clone(),
        groups: groups.clone(),
        preloaded: true,
        slow_sync,
        goal: Goal::Tail(SAME_TAIL, PostresNever),
    };
    vec![
        case("1 SET to 9 GETs, 50 connections", &mixed, false),
        case(
            "1 SET to 9 GETs, 50 connections, syncs 2 ms slower",
            &mixed,
            true,
        ),
        case(
            "50 GET beside 8 SET connections, syncs 2 ms slower",
            &apart,
            true,
        ),
        case(
            "10,000 GET/s beside 500 SET/s, syncs 2 ms slower",
            &paced,
            true,
        ),
    ]
}
