//! What compaction costs those who are served meanwhile.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use hdrhistogram::Histogram;

use super::ask::ask;
use super::contestant::Contestant;
use super::generator;
use super::large::filled;
use super::load::{Group, Length, Load, Order};
use super::options::Options;
use super::report::progress;
use super::resident::{resident, tree_resident};
use super::sample::Spread;
use super::server::{Lab, Server};
use super::table::Table;
use super::wire::{Kind, Protocol, Values};

use Contestant::{PostresAlways, ValkeyAlways};

/// What issue 4 asks of it.
const MEMORY: f64 = 0.10;
const THROUGHPUT: f64 = 0.85;
const TAIL: f64 = 2.0;

/// How long a snapshot may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// The table, in Markdown.
pub(crate) fn measure(lab: &Lab, keys: u32, options: &Options) -> Result<String> {
    let mut text = String::new();
    let _ = write!(text, "\n### Compaction under load, {keys} keys\n\n");
    let mut table = Table::new(&[
        "server",
        "a second, alone",
        "compacting",
        "ratio",
        "p99.9 us, alone",
        "compacting",
        "ratio",
        "resident MiB",
        "at most more",
        "share",
        "seconds",
    ]);
    for contestant in [PostresAlways, ValkeyAlways] {
        if contestant.is_valkey() && lab.valkey.is_none() {
            continue;
        }
        table.push(Some(measure_compaction(contestant, lab, keys, options)?));
    }
    let _ = write!(
        text,
        "{table}\nGoals of issue 4, for postres: throughput at least {THROUGHPUT} of that alone, \
         p99.9 at most {TAIL} times, at most {MEMORY} more memory.\n"
    );
    Ok(text)
}

/// Has a server write a snapshot.
pub(crate) fn begin_snapshot(server: &Server) -> Result<()> {
    ask(server.address(), &["BGSAVE"]).map(drop)
}

/// Waits until it is written.
pub(crate) fn wait_for_snapshot(server: &Server) -> Result<()> {
    let begun = Instant::now();
    // It is on its way, or done, once it was acknowledged; a moment lets it show.
    thread::sleep(Duration::from_millis(200));
    while is_running(server)? {
        ensure!(
            begun.elapsed() < PATIENCE,
            "no snapshot within {PATIENCE:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
    let info = ask(server.address(), &["INFO", "persistence"])?;
    ensure!(
        info.lines().any(|line| line == "rdb_last_bgsave_status:ok"),
        "the snapshot failed"
    );
    Ok(())
}

fn is_running(server: &Server) -> Result<bool> {
    let info = ask(server.address(), &["INFO", "persistence"])?;
    Ok(info.lines().any(|line| line == "rdb_bgsave_in_progress:1"))
}

/// What half writes, half reads get of a server that compacts, and of one that does not, in turns.
fn measure_compaction(
    contestant: Contestant,
    lab: &Lab,
    keys: u32,
    options: &Options,
) -> Result<Vec<String>> {
    let server = filled(contestant, lab, keys)?;
    let (mut alone, mut beside, mut extra, mut took) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let data = resident(server.pid());
    for round in 0..options.rounds {
        let run = || run(&server, keys, round, options.seconds);
        let (rate, latencies) = run()?;
        alone.push((rate, tail(&latencies)));
        let before = tree_resident(server.pid());
        let (rate, duration, peak) = compact_under(&server, run)
            .map_err(|error| server.account("failed while it compacted", &error))?;
        let more = peak.saturating_sub(before);
        progress(format_args!(
            "compaction: {contestant}: {rate:?}, alone {:?}, {} MiB more, {duration:?}",
            alone.last(),
            more >> 20
        ));
        beside.push(rate);
        extra.push(more as f64);
        took.push(duration.as_secs_f64());
    }
    server.stop()?;
    let median = |values: &mut dyn Iterator<Item = f64>| {
        Spread::of(values).map_or(0.0, |spread| spread.median)
    };
    let rates = [&alone, &beside].map(|runs| median(&mut runs.iter().map(|run| run.0)));
    let tails = [&alone, &beside].map(|runs| median(&mut runs.iter().map(|run| run.1)));
    let pairs = || alone.iter().zip(&beside);
    let rate_ratio = median(&mut pairs().map(|(alone, beside)| beside.0 / alone.0));
    let tail_ratio = median(&mut pairs().map(|(alone, beside)| beside.1 / alone.1));
    let extra = median(&mut extra.into_iter());
    Ok(vec![
        contestant.to_string(),
        format!("{:.0}", rates[0]),
        format!("{:.0}", rates[1]),
        format!("{rate_ratio:.2}"),
        format!("{:.0}", tails[0]),
        format!("{:.0}", tails[1]),
        format!("{tail_ratio:.2}"),
        (data >> 20).to_string(),
        format!("{:.0}", extra / f64::from(1 << 20)),
        format!("{:.2}", extra / data as f64),
        format!("{:.1}", median(&mut took.into_iter())),
    ])
}

/// The load, for a while: operations a second, and the latencies of both kinds together.
fn run(server: &Server, keys: u32, round: u32, seconds: Duration) -> Result<(f64, Histogram<u64>)> {
    let load = Load {
        groups: vec![Group::new(50, 50)],
        keys,
        values: Values::default(),
        order: Order::Random,
        seed: round,
        length: Length::Timed {
            warm_up: Duration::from_millis(300),
            measured: seconds,
        },
    };
    let measured = generator::run(server.address(), Protocol::Resp, &load)?;
    let rate = measured.rate(Kind::Get) + measured.rate(Kind::Set);
    let mut both = measured.get;
    both.add(&measured.set)?;
    Ok((rate, both))
}

/// The latency in microseconds that 999 in 1000 stay below.
fn tail(latencies: &Histogram<u64>) -> f64 {
    latencies.value_at_quantile(0.999) as f64 / 1000.0
}

/// Runs the load from a snapshot's begin to its end: its rate and tail, how long the snapshot took,
/// and the most memory there was meanwhile.
fn compact_under(
    server: &Server,
    run: impl Fn() -> Result<(f64, Histogram<u64>)>,
) -> Result<((f64, f64), Duration, u64)> {
    let watch = Watch::default();
    let runs = thread::scope(|scope| {
        let watching = scope.spawn(|| watch.follow(server));
        let runs = run_while_compacting(server, run);
        // Whatever came of it: nobody else ends the watch.
        watch.end();
        let watched = watching.join();
        watched.map_err(|_| anyhow!("the watch panicked"))?;
        runs
    })?;
    wait_for_snapshot(server)?;
    let rate = runs.iter().map(|(rate, _)| rate).sum::<f64>() / runs.len() as f64;
    let mut all = Histogram::new(3)?;
    for (_, latencies) in &runs {
        all.add(latencies)?;
    }
    let peak = watch.peak.load(Ordering::Relaxed);
    Ok(((rate, tail(&all)), watch.running(), peak))
}

/// All of the snapshot counts, and no more.
fn run_while_compacting<T>(server: &Server, run: impl Fn() -> Result<T>) -> Result<Vec<T>> {
    begin_snapshot(server)?;
    let begun = Instant::now();
    let mut runs = vec![run()?];
    while is_running(server)? && begun.elapsed() < PATIENCE {
        runs.push(run()?);
    }
    Ok(runs)
}

/// Looks, while a snapshot is written, at the memory it takes and at how long it takes.
#[derive(Debug, Default)]
struct Watch {
    ended: AtomicBool,
    peak: AtomicU64,
    running_millis: AtomicU64,
}

impl Watch {
    fn follow(&self, server: &Server) {
        let begun = Instant::now();
        while !self.ended.load(Ordering::Relaxed) {
            self.peak
                .fetch_max(tree_resident(server.pid()), Ordering::Relaxed);
            if is_running(server).unwrap_or(false) {
                let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.running_millis.store(millis, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// How long the snapshot was seen to be written.
    fn running(&self) -> Duration {
        Duration::from_millis(self.running_millis.load(Ordering::Relaxed))
    }
}
