//! What is asked of a server in one run: by how many connections, in which mix, for how long.

use std::time::Duration;

use super::wire::{VALUE_BYTES, Values};

/// The connections that fill a server, and the bytes each of them sends at once: many small values,
/// or one large one.
const FILLERS: usize = 50;
const FILLING: usize = 64 * VALUE_BYTES;

/// Connections that behave alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// How many there are.
    pub(crate) connections: usize,
    /// How many requests each sends before it waits for the replies.
    pub(crate) pipeline: usize,
    /// How many requests in a hundred are SETs; the others are GETs.
    pub(crate) set_percent: u8,
    /// How many requests a second they send together; `None`: as many as are answered.
    pub(crate) rate: Option<u32>,
}

impl Group {
    /// Connections that send the next request when they have the reply to the last.
    pub(crate) fn new(connections: usize, set_percent: u8) -> Self {
        Self {
            connections,
            pipeline: 1,
            set_percent,
            rate: None,
        }
    }

    /// The same, sending `pipeline` requests at once.
    pub(crate) fn pipelined(self, pipeline: usize) -> Self {
        Self { pipeline, ..self }
    }

    /// The same, sending no more than `rate` requests a second together.
    pub(crate) fn paced(self, rate: u32) -> Self {
        Self {
            rate: Some(rate),
            ..self
        }
    }

    /// The time from one batch of a connection to its next.
    pub(crate) fn interval(&self) -> Option<Duration> {
        let batch = (self.connections * self.pipeline) as f64;
        self.rate
            .map(|rate| Duration::from_secs_f64(batch / f64::from(rate)))
    }
}

/// How the next key is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Any key, each as likely as the next.
    Random,
    /// One after the other, from the first.
    Sequential,
}

/// When a run is over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    /// Replies are counted for `measured`, once `warm_up` has passed.
    Timed {
        /// Not counted: connections, caches and the scheduler settle.
        warm_up: Duration,
        /// Counted.
        measured: Duration,
    },
    /// This many requests, all counted.
    Requests(u64),
}

impl Length {
    /// So long, after a warm-up of the same length: a server that was filled just now differs from one that
    /// has run for a while.
    pub(crate) fn warmed_up(measured: Duration) -> Self {
        Self::Timed {
            warm_up: measured,
            measured,
        }
    }
}

/// One run of the generator.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Who sends what.
    pub(crate) groups: Vec<Group>,
    /// How many keys there are.
    pub(crate) keys: u32,
    /// What is written to them.
    pub(crate) values: Values,
    /// How the next key is chosen.
    pub(crate) order: Order,
    /// Which random numbers: the same ones make the same requests.
    pub(crate) seed: u32,
    /// When to stop.
    pub(crate) length: Length,
}

impl Load {
    /// Writes every key once, as fast as it goes.
    pub(crate) fn preload(keys: u32, values: Values) -> Self {
        let pipeline = (FILLING / values.bytes).max(1);
        Self {
            groups: vec![Group::new(FILLERS, 100).pipelined(pipeline)],
            keys,
            values,
            order: Order::Sequential,
            seed: 0,
            length: Length::Requests(u64::from(keys)),
        }
    }
}

/// A small generator of random numbers (xorshift64*): the same numbers for the same seed, so that
/// every contestant of a round gets the same requests.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of `seed`. An odd factor makes no seed 0, from which xorshift never gets away.
    pub(crate) fn new(seed: u32) -> Self {
        Self((u64::from(seed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * u64::from(bound)) >> 32) as u32
    }
}
