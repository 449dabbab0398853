//! How long a GET is held up while the store grows.
//!
//! A table that grows has all its entries moved; whoever asks meanwhile may wait. A prober asks
//! all the time: first while nothing happens, then while all the keys come in, then while the same clients
//! write some of the same keys once more, which grows nothing. The phases do not last equally long, and of more GETs the
//! longest is longer, so all are looked at in stretches of one length.
//!
//! What the machine itself does to a GET changes from one minute to the next. So in the same stretches a second
//! server of the same kind is asked in the same way (the bystander), which is empty and has nothing else to do, on the
//! same processors, beside the same clients. What the first has beyond it is what its own work, to grow and to write, does to
//! its own clients; what it does to all, as it takes the processors, both have. How far apart two servers are that do
//! nothing, idle tells, and what the same work does without growth, overwriting.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::contestant::Contestant;
use super::generator;
use super::large::ENOUGH;
use super::load::{Group, Length, Load, Order};
use super::machine::Ticks;
use super::options::Options;
use super::prober::{self, Latencies, Stretches};
use super::report::{progress, spread_text, thousands};
use super::resident::resident;
use super::sample::Spread;
use super::server::{Lab, Server};
use super::table::Table;
use super::wire::{Protocol, Values};

/// postres as it comes, Valkey so, and Valkey where nothing but the store can hold a GET up.
const SERVERS: [Contestant; 3] = [
    Contestant::PostresAlways,
    Contestant::ValkeyAlways,
    Contestant::ValkeyNoLog,
];

/// How many times as long as a measurement of a case a stretch is: the longest of few GETs would say little.
const LONGER: u32 = 5;

/// Stretches of the phases that would not end by themselves.
const STRETCHES: u32 = 4;

/// The goal: while a server grows the longest GET of a stretch is held up for less than so many milliseconds beyond that of
/// the bystander, the median of the stretches and of the rounds.
const MOST_BEYOND: f64 = 2.0;

/// A phase's name, and where it is.
type Named = (&'static str, fn(&Grown) -> &Phase);

/// The phases, in their order.
const PHASES: [Named; 3] = [
    ("idle", |grown| &grown.idle),
    ("growing", |grown| &grown.growing),
    ("overwriting", |grown| &grown.overwriting),
];

/// What one phase showed, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Stalls {
    typical: f64,
    rare: f64,
    /// The longest of a stretch, the median of the stretches.
    longest: f64,
    longest_of_all: f64,
}

/// What one phase showed of the server and, at the same moments, of the bystander.
#[derive(Clone, Copy, Debug)]
struct Phase {
    own: Stalls,
    bystander: Stalls,
    /// The server's longest GET of a stretch beyond the bystander's of the same stretch, the median of the stretches.
    beyond: f64,
    /// The part of all processors' time that the host took although it was wanted here.
    stolen: f64,
}

/// What one run of all phases showed.
#[derive(Clone, Debug)]
struct Grown {
    idle: Phase,
    growing: Phase,
    overwriting: Phase,
    seconds: f64,
    mebibytes: f64,
}

/// The table, in Markdown.
pub(crate) fn measure(lab: &Lab, options: &Options) -> Result<String> {
    let keys = options.grow.saturating_mul(1_000_000);
    let mut servers: Vec<_> = lab
        .present(&SERVERS)
        .map(|contestant| (contestant, Vec::new()))
        .collect();
    for _ in 0..options.rounds.min(ENOUGH) {
        for (contestant, runs) in &mut servers {
            let grown = grow(*contestant, lab, keys, options.seconds * LONGER)?;
            progress(format_args!("growth: {contestant}: {grown}"));
            runs.push(grown);
        }
    }
    let mut table = Table::new(&[
        "server",
        "while",
        "p50 ms",
        "p99.9 ms",
        "longest GET of a stretch, ms",
        "longest of all, ms",
        "bystander: p99.9 ms",
        "bystander: longest of a stretch, ms",
        "bystander: longest of all, ms",
        "beyond it in a stretch, ms",
        "stolen",
    ]);
    for (contestant, runs) in &servers {
        for row in rows(*contestant, runs) {
            table.push(row);
        }
    }
    let verdicts: String = servers.iter().filter_map(verdict).collect();
    Ok(format!(
        "\n### GETs while {} keys come in, 1,000 a second, open loop, in stretches of {:?}\n\n{table}\n\
         bystander: a second, empty server beside it with nothing else to do, asked at the same moments\n\n\
         While keys come in, the longest GET of a stretch beyond the bystander's of the same stretch: the median of a \
         round's stretches, and of the rounds, with the rounds' least and greatest\n\n{verdicts}",
        thousands(f64::from(keys)),
        options.seconds * LONGER
    ))
}

impl fmt::Display for Grown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("longest GET of a stretch beyond the bystander's: ")?;
        for (name, phase) in PHASES {
            let Phase {
                own,
                bystander,
                beyond,
                stolen,
            } = phase(self);
            write!(
                formatter,
                "{name} {beyond:.1} ms ({:.1}, {:.1}; stolen {:.1} %), ",
                own.longest,
                bystander.longest,
                stolen * 100.0
            )?;
        }
        write!(formatter, "{:.0} s", self.seconds)
    }
}

fn grow(contestant: Contestant, lab: &Lab, keys: u32, stretch: Duration) -> Result<Grown> {
    let server = Server::start(contestant, lab, None)?;
    let bystander = Server::start(contestant, lab, None)?;
    let long = stretch * STRETCHES;
    let run = |load: &Load| generator::run(server.address(), Protocol::Resp, load);
    let idle = watch(&server, &bystander, keys, stretch, || {
        thread::sleep(long);
        Ok(())
    })?;
    let begun = Instant::now();
    let load = writes(keys, Length::Requests(u64::from(keys)));
    let growing = watch(&server, &bystander, keys, stretch, || run(&load))?;
    let seconds = begun.elapsed().as_secs_f64();
    server.check_size(keys)?;
    let mebibytes = resident(server.pid()) as f64 / f64::from(1 << 20);
    let load = writes(
        keys,
        Length::Timed {
            warm_up: Duration::ZERO,
            measured: long,
        },
    );
    let overwriting = watch(&server, &bystander, keys, stretch, || run(&load))?;
    server.stop()?;
    bystander.stop()?;
    Ok(Grown {
        idle,
        growing,
        overwriting,
        seconds,
        mebibytes,
    })
}

/// Asks both servers while `work` goes on.
fn watch<T>(
    server: &Server,
    bystander: &Server,
    keys: u32,
    stretch: Duration,
    work: impl FnOnce() -> Result<T>,
) -> Result<Phase> {
    let before = Ticks::now()?;
    let stretches = Stretches::new(stretch);
    let asked = prober::while_doing(bystander.address(), keys, stretches, || {
        Ok(prober::while_doing(server.address(), keys, stretches, work))
    });
    let (asked, mut others) =
        asked.map_err(|error| bystander.account("failed as a bystander", &error))?;
    let (_, mut own) =
        asked.map_err(|error| server.account("failed while it was asked", &error))?;
    // The one that ends later may have a stretch more.
    let shared = own.longest.len().min(others.longest.len());
    own.longest.truncate(shared);
    others.longest.truncate(shared);
    let pairs = own.longest.iter().zip(&others.longest);
    let beyond = Spread::of(pairs.map(|(&own, &other)| millis(own) - millis(other)));
    Ok(Phase {
        own: Stalls::of(&own)?,
        bystander: Stalls::of(&others)?,
        beyond: beyond.context("no stretch")?.median,
        stolen: Ticks::now()?.since(before).stolen_share(),
    })
}

/// Enough to keep a server busy, and no more in its way at a time than a GET can get past.
fn writes(keys: u32, length: Length) -> Load {
    Load {
        groups: vec![Group::new(8, 100).pipelined(16)],
        keys,
        values: Values::default(),
        order: Order::Sequential,
        seed: 0,
        length,
    }
}

impl Stalls {
    fn of(latencies: &Latencies) -> Result<Self> {
        let longest = Spread::of(latencies.longest.iter().map(|&nanos| millis(nanos)));
        Ok(Self {
            typical: millis(latencies.all.value_at_quantile(0.5)),
            rare: millis(latencies.all.value_at_quantile(0.999)),
            longest: longest.context("no stretch")?.median,
            longest_of_all: millis(latencies.all.max()),
        })
    }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// How much longer a GET is held up while keys come in than by the bystander, and for postres whether that meets its goal.
fn verdict((contestant, runs): &(Contestant, Vec<Grown>)) -> Option<String> {
    let median = |figure: fn(&Grown) -> f64| Some(Spread::of(runs.iter().map(figure))?.median);
    let beyond = Spread::of(runs.iter().map(|grown| grown.growing.beyond))?;
    let goal = if *contestant == Contestant::PostresAlways {
        let met = beyond.median < MOST_BEYOND;
        format!(
            ", goal: less than {MOST_BEYOND}, {}",
            if met { "met" } else { "missed" }
        )
    } else {
        String::new()
    };
    Some(format!(
        "- {contestant}: {} ms{goal}; full in {:.0} s, then {} MiB resident\n",
        spread_text(&beyond),
        median(|grown| grown.seconds)?,
        thousands(median(|grown| grown.mebibytes)?)
    ))
}

/// A server's row for each phase.
fn rows(contestant: Contestant, runs: &[Grown]) -> impl Iterator<Item = Option<Vec<String>>> {
    PHASES.into_iter().map(move |(name, phase)| {
        let of = |figure: fn(&Phase) -> f64| Spread::of(runs.iter().map(phase).map(figure));
        let fine = |figure| Some(format!("{:.2}", of(figure)?.median));
        let coarse = |figure| Some(format!("{:.1}", of(figure)?.median));
        Some(vec![
            contestant.to_string(),
            name.to_owned(),
            fine(|phase| phase.own.typical)?,
            fine(|phase| phase.own.rare)?,
            coarse(|phase| phase.own.longest)?,
            spread_text(&of(|phase| phase.own.longest_of_all)?),
            fine(|phase| phase.bystander.rare)?,
            coarse(|phase| phase.bystander.longest)?,
            spread_text(&of(|phase| phase.bystander.longest_of_all)?),
            spread_text(&of(|phase| phase.beyond)?),
            format!("{} %", coarse(|phase| phase.stolen * 100.0)?),
        ])
    })
}
