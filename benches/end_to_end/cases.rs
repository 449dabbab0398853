//! What a case is: who takes part, what is sent, and what is asked of postres.

use std::fmt;
use std::time::Duration;

use super::contestant::Contestant;
use super::load::{Group, Length, Load, Order};
use super::sample::{Count, Sample};
use super::wire::{Protocol, VALUE_BYTES, Values};

use Contestant::{Bare, Naive, OtherBuild, Plain, PostresAlways, PostresNever};

/// How many keys the load is spread over, unless a case or the command line says otherwise.
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
    /// How many keys the load is spread over.
    pub(crate) keys: u32,
    /// What is written to them.
    pub(crate) values: Values,
    /// Which program sends it.
    pub(crate) generator: Generator,
    /// The core that this program is bound to while a case is measured, if any.
    pub(crate) generator_core: Option<usize>,
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
    /// The server's processor time for each operation is at most this many times that of the other.
    Processor(f64, Contestant),
}

impl Demand {
    /// Whom the first contestant is compared with.
    pub(crate) fn other(self) -> Contestant {
        match self {
            Self::Ratio(_, _, other) | Self::Tail(_, other) | Self::Processor(_, other) => other,
        }
    }

    /// What is compared.
    pub(crate) fn figure(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Ratio(count, ..) => sample.rate(count),
            Self::Tail(..) => Some(sample.get?.p99),
            Self::Processor(..) => Some(sample.cpu_micros),
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(count, times, other) => {
                write!(formatter, "{count}/s at least {times} x ({other})")
            }
            Self::Tail(times, other) => {
                write!(formatter, "GET p99 at most {times} x ({other})")
            }
            Self::Processor(times, other) => {
                write!(
                    formatter,
                    "the server's CPU seconds per million at most {times} x ({other})"
                )
            }
        }
    }
}

impl Case {
    /// A case of the program's own load, every key there before, and nothing asked.
    pub(crate) fn new(name: &'static str, contestants: &[Contestant], groups: &[Group]) -> Self {
        Self {
            name,
            contestants: contestants.to_vec(),
            groups: groups.to_vec(),
            keys: KEYS,
            values: Values::default(),
            generator: Generator::Own,
            generator_core: None,
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

    /// The same, where the bare server takes part too.
    pub(crate) fn with_bare(mut self) -> Self {
        self.contestants.push(Bare);
        self
    }

    /// The same, where the plain server takes part too: reads only, as it has no log.
    pub(crate) fn with_plain(mut self) -> Self {
        self.contestants.push(Plain);
        self
    }

    /// The same on empty servers.
    pub(crate) fn empty(self) -> Self {
        Self {
            preloaded: false,
            ..self
        }
    }

    /// The same with slower syncs.
    pub(crate) fn slow(self) -> Self {
        Self {
            slow_sync: true,
            ..self
        }
    }

    /// The same, asking that the rate be `times` that of `other`.
    pub(crate) fn ratio(mut self, issue: u8, count: Count, times: f64, other: Contestant) -> Self {
        let demand = Demand::Ratio(count, times, other);
        self.goals.push(Goal { issue, demand });
        self
    }

    /// The same, asking that GETs be as quick as if nothing were synced.
    pub(crate) fn same_tail(mut self, issue: u8) -> Self {
        let demand = Demand::Tail(SAME_TAIL, PostresNever);
        self.goals.push(Goal { issue, demand });
        self
    }

    /// The same, asking that an operation take `times` of the processor time it takes `other`.
    pub(crate) fn processor(mut self, issue: u8, times: f64, other: Contestant) -> Self {
        let demand = Demand::Processor(times, other);
        self.goals.push(Goal { issue, demand });
        self
    }

    /// The same with values of `bytes` bytes, and so few keys that they fit into memory.
    pub(crate) fn large_values(self, bytes: usize, keys: u32) -> Self {
        let values = Values {
            bytes,
            ..self.values
        };
        Self {
            keys,
            values,
            ..self
        }
    }

    /// Millions of bytes of values that so many operations a second carry, where values are large
    /// enough for that to be what counts.
    pub(crate) fn megabytes(&self, rate: f64) -> Option<f64> {
        (self.values.bytes > VALUE_BYTES).then(|| rate * self.values.bytes as f64 / 1e6)
    }

    /// What fills a server before the measurement.
    pub(crate) fn preload(&self) -> Load {
        Load::preload(self.keys, self.values)
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
            keys: self.keys,
            values: self.values,
            order: Order::Random,
            seed: round,
            length,
        }
    }
}
