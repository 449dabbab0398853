//! What takes many keys to be seen: how long a start takes, and what compaction costs those who are
//! served meanwhile.

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use tempfile::TempDir;

use super::ask::ask;
use super::generator;
use super::load::{Group, Length, Load, Order};
use super::options::Options;
use super::report::progress;
use super::sample::Spread;
use super::server::{Contestant, Lab, Server};
use super::table::Table;
use super::wire::{Kind, Protocol, Values};

use Contestant::{PostresAlways, PostresNever, ValkeyAlways, ValkeyNoLog};

/// What of a start is measured.
#[derive(Clone, Copy)]
struct Start {
    name: &'static str,
    /// Who fills the files, and reads them; the other reads them.
    postres: Contestant,
    valkey: Contestant,
    /// Whether a snapshot is read, and not a log.
    snapshot: bool,
}

const STARTS: [Start; 2] = [
    Start {
        name: "start from a snapshot",
        postres: PostresNever,
        valkey: ValkeyNoLog,
        snapshot: true,
    },
    Start {
        name: "start from a log of SETs",
        postres: PostresNever,
        valkey: ValkeyAlways,
        snapshot: false,
    },
];

/// What is asked of starts, as a ratio to Valkey, and of compaction (issue 4).
const FASTER: f64 = 3.0;
const MEMORY: f64 = 0.10;
const THROUGHPUT: f64 = 0.85;
const TAIL: f64 = 2.0;

/// How long a snapshot may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Measures all of it; the report, in Markdown.
pub(crate) fn measure(lab: &Lab, keys: u32, options: &Options) -> Result<String> {
    let mut text = format!("\n### Starts, {keys} keys\n\n");
    let mut table = Table::new(&["case", "server", "seconds", "min to max", "ratio", "goal"]);
    for start in STARTS {
        for row in measure_start(start, lab, keys, options)? {
            table.push(Some(row));
        }
    }
    let _ = write!(text, "{table}");
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

/// A server with `keys` keys, all of them written once.
fn filled(contestant: Contestant, lab: &Lab, keys: u32) -> Result<Server> {
    let server = Server::start(contestant, lab, None)?;
    generator::run(
        server.address(),
        Protocol::Resp,
        &Load::preload(keys, Values::default()),
    )
    .map_err(|error| server.account("failed while it was filled", &error))?;
    server.check_size(keys)?;
    Ok(server)
}

fn measure_start(
    start: Start,
    lab: &Lab,
    keys: u32,
    options: &Options,
) -> Result<Vec<Vec<String>>> {
    let mut contestants = vec![start.postres];
    if lab.valkey.is_some() {
        contestants.push(start.valkey);
    }
    let mut folders: Vec<(Contestant, Arc<TempDir>, Vec<f64>)> = Vec::new();
    for contestant in contestants {
        let server = filled(contestant, lab, keys)?;
        if start.snapshot {
            begin_snapshot(&server)?;
            wait_for_snapshot(&server)?;
        }
        let folder = server.folder();
        server.stop()?;
        folders.push((contestant, folder, Vec::new()));
    }
    for round in 0..options.rounds {
        let at = round as usize % folders.len();
        folders.rotate_left(at);
        for (contestant, folder, seconds) in &mut folders {
            let begun = Instant::now();
            let server = Server::start_in(*contestant, lab, None, folder)?;
            let took = begun.elapsed().as_secs_f64();
            server.check_size(keys)?;
            server.stop()?;
            progress(format_args!("{}: {contestant}: {took:.2} s", start.name));
            seconds.push(took);
        }
        folders.rotate_right(at);
    }
    let of = |index: usize| folders.get(index).map(|(_, _, seconds)| seconds.as_slice());
    let ours = of(0).unwrap_or_default();
    let ratios = of(1).map(|theirs| {
        let ratios = theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours);
        Spread::of(ratios)
    });
    let mut rows = Vec::new();
    for (contestant, _, seconds) in &folders {
        let spread = Spread::of(seconds.iter().copied()).context("nothing measured")?;
        let first = *contestant == start.postres;
        let ratio = ratios.flatten().filter(|_| first);
        let verdict = ratio.map(|ratio| {
            let met = if ratio.median >= FASTER {
                "met"
            } else {
                "missed"
            };
            format!("{FASTER} times as fast: {met}")
        });
        rows.push(vec![
            start.name.to_owned(),
            contestant.to_string(),
            format!("{:.2}", spread.median),
            format!("{:.2} to {:.2}", spread.min, spread.max),
            ratio.map_or_else(
                || "-".to_owned(),
                |ratio| format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.min, ratio.max),
            ),
            verdict.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    Ok(rows)
}

fn begin_snapshot(server: &Server) -> Result<()> {
    ask(server.address(), &["BGSAVE"]).map(drop)
}

fn wait_for_snapshot(server: &Server) -> Result<()> {
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
        let run = |seconds: Duration| {
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
            generator::run(server.address(), Protocol::Resp, &load).and_then(|measured| {
                let rate = measured.rate(Kind::Get) + measured.rate(Kind::Set);
                let mut both = measured.get;
                both.add(&measured.set)?;
                Ok((rate, both))
            })
        };
        let tail = |latencies: &Histogram<u64>| latencies.value_at_quantile(0.999) as f64 / 1000.0;
        let (rate, latencies) = run(options.seconds)?;
        alone.push((rate, tail(&latencies)));
        let watch = Watch::default();
        let before = tree_resident(server.pid());
        let (rate, duration) = thread::scope(|scope| {
            let watching = scope.spawn(|| watch.follow(&server));
            begin_snapshot(&server)?;
            let begun = Instant::now();
            let mut rates = vec![run(options.seconds)?];
            // All of the snapshot counts, and no more.
            while is_running(&server)? && begun.elapsed() < PATIENCE {
                rates.push(run(options.seconds)?);
            }
            let duration = watch.end();
            watching
                .join()
                .map_err(|_| anyhow::anyhow!("the watch panicked"))?;
            let rate = rates.iter().map(|(rate, _)| rate).sum::<f64>() / rates.len() as f64;
            let mut all = Histogram::new(3)?;
            for (_, latencies) in &rates {
                all.add(latencies)?;
            }
            Ok::<_, anyhow::Error>(((rate, tail(&all)), duration))
        })?;
        wait_for_snapshot(&server)?;
        let peak = watch.peak.load(Ordering::Relaxed);
        progress(format_args!(
            "compaction: {contestant}: {rate:?}, alone {:?}, {} MiB more, {duration:?}",
            alone.last(),
            peak.saturating_sub(before) >> 20
        ));
        beside.push(rate);
        extra.push(peak.saturating_sub(before) as f64);
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

    fn end(&self) -> Duration {
        self.ended.store(true, Ordering::Relaxed);
        Duration::from_millis(self.running_millis.load(Ordering::Relaxed))
    }
}

/// Resident bytes of a process.
fn resident(pid: u32) -> u64 {
    kibibytes(&format!("/proc/{pid}/status"), "VmRSS:") * 1024
}

/// The same, and of its children what they do not share with it: a fork's copies.
fn tree_resident(pid: u32) -> u64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let own = children.split_whitespace().map(|child| {
        let file = format!("/proc/{child}/smaps_rollup");
        (kibibytes(&file, "Private_Dirty:") + kibibytes(&file, "Private_Clean:")) * 1024
    });
    resident(pid) + own.sum::<u64>()
}

fn kibibytes(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let told = text.lines().find_map(|line| line.strip_prefix(name));
    let number = told.and_then(|told| told.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}
