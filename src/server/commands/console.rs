//! What the commands of whoever runs the server share.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::catalogue;
use super::latency::Events;
use super::monitor::Monitors;
use super::pause::Pause;
use super::slow_log::SlowLog;
use crate::metrics::{Counter, Metrics};
use crate::time::Timestamp;

/// How often the commands are counted whose rate INFO tells, and over how many counts.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
const SAMPLES: usize = 8;

/// Bytes of the number that tells one run of the server from another.
const RUN_ID_LEN: usize = 20;

/// What is counted, noted and watched.
#[derive(Debug)]
pub(in crate::server) struct Console {
    pub(in crate::server) metrics: Metrics,
    pub(in crate::server) slow_log: SlowLog,
    pub(in crate::server) events: Events,
    pub(in crate::server) monitors: Monitors,
    pub(in crate::server) pause: Pause,
    pub(super) started: Instant,
    pub(super) started_at: Timestamp,
    /// Where clients are accepted.
    pub(super) addrs: Vec<SocketAddr>,
    pub(super) run_id: String,
    /// Keys that had expired when the statistics were last reset.
    pub(super) expired_before: AtomicU64,
    rates: Mutex<VecDeque<Sample>>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    commands: u64,
    input: u64,
    output: u64,
}

/// What happens in a second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    pub(super) commands: f64,
    pub(super) input: f64,
    pub(super) output: f64,
}

impl Console {
    pub(in crate::server) fn new(addrs: Vec<SocketAddr>, now: Timestamp) -> Self {
        let mut run_id = [0; RUN_ID_LEN];
        // Without randomness all runs look the same, which only those mind who tell runs apart.
        let _ = getrandom::fill(&mut run_id);
        Self {
            metrics: Metrics::new(catalogue::count_with_parts()),
            slow_log: SlowLog::default(),
            events: Events::default(),
            monitors: Monitors::default(),
            pause: Pause::default(),
            started: Instant::now(),
            started_at: now,
            addrs,
            run_id: run_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            expired_before: AtomicU64::new(0),
            rates: Mutex::default(),
        }
    }

    /// Takes samples for as long as it is polled.
    pub(in crate::server) async fn sample(&self) {
        let mut rounds = tokio::time::interval(SAMPLE_EVERY);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let sample = Sample {
                at: Instant::now(),
                commands: self.metrics.ever(Counter::CommandsProcessed),
                input: self.metrics.ever(Counter::InputBytes),
                output: self.metrics.ever(Counter::OutputBytes),
            };
            let mut rates = self.rates.lock();
            if rates.len() == SAMPLES {
                rates.pop_front();
            }
            rates.push_back(sample);
        }
    }

    /// The port where clients are accepted.
    pub(super) fn port(&self) -> u16 {
        self.addrs.first().map_or(0, SocketAddr::port)
    }

    pub(super) fn rates(&self) -> Rates {
        let rates = self.rates.lock();
        let (Some(first), Some(last)) = (rates.front(), rates.back()) else {
            return Rates::default();
        };
        let seconds = (last.at - first.at).as_secs_f64();
        let per_second = |from: u64, to: u64| match to.saturating_sub(from) {
            0 => 0.0,
            count => count as f64 / seconds,
        };
        Rates {
            commands: per_second(first.commands, last.commands),
            input: per_second(first.input, last.input),
            output: per_second(first.output, last.output),
        }
    }
}
