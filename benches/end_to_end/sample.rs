//! The figures of one measurement, and of several.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::machine::Used;
use super::measured::Measured;
use super::redis_benchmark::Opinion;
use super::wire::Kind;

/// What the host took of the processors' time is named where it is so much of it.
const WORTH_NAMING: f64 = 0.02;

/// The figures of one measurement of one contestant.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Its GETs, if it had any.
    pub(crate) get: Option<Figures>,
    /// Its SETs, if it had any.
    pub(crate) set: Option<Figures>,
    /// GETs that found no value, where every key has one.
    pub(crate) misses: u64,
    /// Processor time of the server for each operation, in microseconds.
    pub(crate) cpu_micros: f64,
    /// What of it was the kernel's.
    pub(crate) kernel_micros: f64,
    /// Processor time of the load generator for each operation, in microseconds.
    pub(crate) generator_micros: f64,
    /// The part of all processors' time that the host of this virtual machine took although it was wanted here.
    pub(crate) stolen: f64,
}

/// Which operations count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Those of one kind.
    Kind(Kind),
    /// All of them.
    All,
}

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(formatter, "{kind}"),
            Self::All => formatter.write_str("GET and SET"),
        }
    }
}

/// The figures of one kind of operation. Latencies are in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Operations a second.
    pub(crate) rate: f64,
    /// The shortest latency.
    pub(crate) min: f64,
    /// The latency that half of the operations stay below.
    pub(crate) p50: f64,
    /// The latency that 99 in 100 stay below.
    pub(crate) p99: f64,
    /// The latency that 999 in 1000 stay below, where it is known.
    pub(crate) p999: Option<f64>,
    /// The longest latency.
    pub(crate) max: f64,
}

impl Sample {
    /// Sums up a measurement during which the server used so much processor time, and the host took such a part.
    pub(crate) fn new(measured: &Measured, used: Used, stolen: f64) -> Self {
        Self {
            get: Figures::new(measured, Kind::Get),
            set: Figures::new(measured, Kind::Set),
            misses: measured.misses,
            cpu_micros: micros_each(used.all(), measured.replies),
            kernel_micros: micros_each(used.kernel, measured.replies),
            generator_micros: micros_each(measured.own_time, measured.replies),
            stolen,
        }
    }

    /// The same for what redis-benchmark measured.
    pub(crate) fn of_opinion(opinion: &Opinion, used: Used, stolen: f64) -> Self {
        let figures = |kind| (opinion.kind == kind).then_some(opinion.figures);
        Self {
            get: figures(Kind::Get),
            set: figures(Kind::Set),
            misses: 0,
            cpu_micros: micros_each(used.all(), opinion.requests),
            kernel_micros: micros_each(used.kernel, opinion.requests),
            generator_micros: micros_each(opinion.own_time, opinion.requests),
            stolen,
        }
    }

    /// Operations a second; `None` where one that counts is missing.
    pub(crate) fn rate(&self, count: Count) -> Option<f64> {
        match count {
            Count::Kind(kind) => Some(self.of(kind)?.rate),
            Count::All => Some(self.get?.rate + self.set?.rate),
        }
    }

    /// How many processors the server and the load generator had between them.
    pub(crate) fn processors(&self) -> f64 {
        let rates = [self.get, self.set].into_iter().flatten();
        let rate: f64 = rates.map(|figures| figures.rate).sum();
        rate * (self.cpu_micros + self.generator_micros) / 1e6
    }

    /// The figures of one kind of operation.
    pub(crate) fn of(&self, kind: Kind) -> Option<&Figures> {
        match kind {
            Kind::Get => self.get.as_ref(),
            Kind::Set => self.set.as_ref(),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, figures) in [(Kind::Get, &self.get), (Kind::Set, &self.set)] {
            if let Some(Figures { rate, p99, .. }) = figures {
                write!(formatter, "{rate:.0} {kind}/s (p99 {p99:.0} us) ")?;
            }
        }
        if self.misses > 0 {
            write!(formatter, "{} GETs MISSED ", self.misses)?;
        }
        if self.stolen >= WORTH_NAMING {
            write!(formatter, "(stolen {:.0} %)", self.stolen * 100.0)?;
        }
        Ok(())
    }
}

fn micros_each(time: Duration, operations: u64) -> f64 {
    time.as_secs_f64() * 1e6 / operations as f64
}

impl Figures {
    fn new(measured: &Measured, kind: Kind) -> Option<Self> {
        let histogram: &Histogram<u64> = measured.of(kind);
        if histogram.is_empty() {
            return None;
        }
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        Some(Self {
            rate: measured.rate(kind),
            min: micros(histogram.min()),
            p50: micros(histogram.value_at_quantile(0.5)),
            p99: micros(histogram.value_at_quantile(0.99)),
            p999: Some(micros(histogram.value_at_quantile(0.999))),
            max: micros(histogram.max()),
        })
    }
}

/// The middle of several values, and how far apart they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    /// The smallest.
    pub(crate) min: f64,
    /// The one in the middle, or the mean of the two.
    pub(crate) median: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of `values`, of which there has to be at least one.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self {
            min: *sorted.first()?,
            median: f64::midpoint(lower, upper),
            max: *sorted.last()?,
        })
    }
}
