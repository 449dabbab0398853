//! What a run of the load generator measured.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::wire::Kind;

/// What a run measured.
#[derive(Debug)]
pub(crate) struct Measured {
    /// The time that was counted.
    pub(crate) elapsed: Duration,
    /// Latencies of the GETs that were counted, in nanoseconds.
    pub(crate) get: Histogram<u64>,
    /// Latencies of the SETs that were counted, in nanoseconds.
    pub(crate) set: Histogram<u64>,
    /// Every reply there was, the warm-up's too.
    pub(crate) replies: u64,
    /// GETs among them that found no value. They are in no histogram.
    pub(crate) misses: u64,
    /// Processor time that the generator used for all of them.
    pub(crate) own_time: Duration,
}

impl Measured {
    /// The latencies of one kind of operation.
    pub(crate) fn of(&self, kind: Kind) -> &Histogram<u64> {
        match kind {
            Kind::Get => &self.get,
            Kind::Set => &self.set,
        }
    }

    /// Operations of one kind a second.
    pub(crate) fn rate(&self, kind: Kind) -> f64 {
        self.of(kind).len() as f64 / self.elapsed.as_secs_f64()
    }
}
