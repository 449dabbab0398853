//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser, ValueEnum, value_parser};

use super::cases::KEYS;
use super::wire::MOST_KEYS;

/// Compares postres with Valkey and with a naive baseline, over the network, in one run.
#[derive(Debug, Parser)]
#[command(name = "end_to_end", group = ArgGroup::new("more").args(["large", "scaling"]).multiple(true))]
pub(crate) struct Options {
    /// How often each contestant of a case is measured; the medians count
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// How long each measurement takes, after a warm-up of the same length
    #[arg(long, default_value = "2", value_name = "S", value_parser = seconds)]
    pub(crate) seconds: Duration,

    /// How many keys each case has, but for those with large values; fewer fit into a cache
    #[arg(long, default_value_t = KEYS, value_name = "N", value_parser = value_parser!(u32).range(1..=i64::from(MOST_KEYS)))]
    pub(crate) keys: u32,

    /// Bind the load generator of each case to this core, and no server: on a small machine figures depend on
    /// where the system puts them. Does nothing to --large and --scaling
    #[arg(long, value_name = "CORE")]
    pub(crate) generator_core: Option<usize>,

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
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["beside", "large", "scaling", "json", "report", "plots"])]
    pub(crate) at: Option<SocketAddr>,

    /// Also measure starts, compaction, memory and growth with this many million keys, and idle
    /// connections, which takes minutes
    #[arg(long, value_name = "MILLIONS", num_args = 0..=1, default_missing_value = "5", value_parser = value_parser!(u32).range(1..=100))]
    pub(crate) large: Option<u32>,

    /// How many million keys come in while --large looks for the longest stall of a GET
    #[arg(long, value_name = "MILLIONS", default_value_t = 20, value_parser = value_parser!(u32).range(1..=100))]
    pub(crate) grow: u32,

    /// Also measure by the number of keys (in millions), of clients and of threads
    #[arg(long, value_name = "MILLIONS", num_args = 0.., value_delimiter = ',', default_missing_values = ["1", "5", "20"], value_parser = value_parser!(u32).range(1..=100))]
    pub(crate) scaling: Option<Vec<u32>>,

    /// Of --large and --scaling only this part; may be given more than once
    #[arg(long, value_name = "PART")]
    pub(crate) part: Vec<Part>,

    /// Measure no case, only what --large and --scaling ask for
    #[arg(long, alias = "only-large", requires = "more")]
    pub(crate) without_cases: bool,

    /// Also write the report to this file, in Markdown as on stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Also draw what was measured, as SVG files in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) plots: Option<PathBuf>,

    /// Also write every measurement of a case to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// What cargo passes to a benchmark that is to measure
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of what --large measures, or --scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Of --large: how long starts take
    Starts,
    /// Of --large: what compaction costs
    Compaction,
    /// Of --large: resident bytes a key
    Memory,
    /// Of --large: resident memory of idle connections
    Idle,
    /// Of --large: the longest stall of a GET while keys come in
    Growth,
    /// Of --scaling: by the number of keys
    Keys,
    /// Of --scaling: by the number of clients
    Connections,
    /// Of --scaling: by postres's threads
    Threads,
}

impl Options {
    /// Whether a part is to be measured.
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.part.is_empty() || self.part.contains(&part)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if seconds <= 0.0 {
        return Err("more than 0".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
