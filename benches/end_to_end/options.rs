//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, value_parser};

use super::cases::KEYS;
use super::wire::MOST_KEYS;

/// Compares postres with Valkey and with a naive baseline, over the network, in one run.
#[derive(Debug, Parser)]
#[command(name = "end_to_end")]
pub(crate) struct Options {
    /// How often each contestant of a case is measured; the medians count
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// How long each measurement takes, after a warm-up of a fifth of that
    #[arg(long, default_value = "2", value_name = "S", value_parser = seconds)]
    pub(crate) seconds: Duration,

    /// How many keys each case has, but for those with large values; fewer fit into a cache
    #[arg(long, default_value_t = KEYS, value_name = "N", value_parser = value_parser!(u32).range(1..=i64::from(MOST_KEYS)))]
    pub(crate) keys: u32,

    /// Only the cases whose name contains this; may be given more than once
    #[arg(long, value_name = "SUBSTRING")]
    pub(crate) case: Vec<String>,

    /// Name the cases, measure nothing
    #[arg(long)]
    pub(crate) list: bool,

    /// Leave Valkey out where it cannot be had
    #[arg(long)]
    pub(crate) without_valkey: bool,

    /// Leave out the cases that redis-benchmark measures
    #[arg(long)]
    pub(crate) without_redis_benchmark: bool,

    /// Also measure another build of postres, beside the one that was just built
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) beside: Option<PathBuf>,

    /// Only make the load of each case, against a server that is running, as for a profiler
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["beside", "large", "json"])]
    pub(crate) at: Option<SocketAddr>,

    /// Also measure recovery and compaction with this many million keys, which takes minutes
    #[arg(long, value_name = "MILLIONS", num_args = 0..=1, default_missing_value = "5", value_parser = value_parser!(u32).range(1..=100))]
    pub(crate) large: Option<u32>,

    /// Measure nothing else
    #[arg(long, requires = "large")]
    pub(crate) only_large: bool,

    /// Also write every measurement to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// What cargo passes to a benchmark that is to measure
    #[arg(long, hide = true)]
    bench: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if seconds <= 0.0 {
        return Err("more than 0".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
