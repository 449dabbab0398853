//! How long a GET is held up while the store grows.
//!
//! A table that grows has all its entries moved; whoever asks meanwhile may wait. A prober asks
//! all the time: first while nothing happens, then while all the keys come in, then while the same clients
//! write the same keys once more, which takes the processors as much and grows nothing. As the
//! second takes longer than the others, and of more GETs the longest is longer, all are looked at in stretches of the
//! same length.
//!
//! What the machine itself does to a GET changes from one minute to the next, so at the same moments a second
//! server of the same kind is asked in the same way, which has nothing else to do (the bystander): only what the first
//! has beyond the second is the server's own, and only what that is while it grows beyond what it is while it does not
//! is growth's.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::contestant::Contestant;
use super::generator;
use super::large::ENOUGH;
use super::load::{Group, Length, Load, Order};
use super::machine::Ticks;
use super::options::Options;
use super::prober::{self, Latencies};
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

/// The goal: while a server grows a GET is held up for less than so many milliseconds beyond what the machine does to it.
const MOST_BEYOND: f64 = 2.0;

/// The phases, in their order.
const PHASES: [&str; 3] = ["idle", "growing", "overwriting"];

/// Of the phases, the one that has the goal.
const GROWING: usize = 1;

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
    phases: [Phase; 3],
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
            let told: Vec<_> = PHASES.iter().zip(&grown.phases).map(told).collect();
            progress(format_args!(
                "growth: {contestant}: longest GET {}; {:.0} s",
                told.join(", "),
                grown.seconds
            ));
            runs.push(grown);
        }
    }
    let mut table = Table::new(&[
        "server",
        "while",
        "p50 ms",
        "p99.9 ms",
        "longest GET of a stretch, ms",
        "of all",
        "bystander's p99.9",
        "its longest of a stretch",
        "beyond that",
        "stolen %",
        "seconds to fill",
        "resident MiB",
    ]);
    for (contestant, runs) in &servers {
        for row in rows(*contestant, runs) {
            table.push(row);
        }
    }
    let beyond: String = servers.iter().filter_map(beyond_bystander).collect();
    Ok(format!(
        "\n### GETs while {} keys come in, 1,000 a second, open loop, in stretches of {:?}\n\n{table}\n\
         While keys come in, the longest GET of a stretch beyond that of the bystander, a server with nothing else to do \
         that is asked at the same time:\n{beyond}",
        thousands(f64::from(keys)),
        options.seconds * LONGER
    ))
}

fn told((name, phase): (&&str, &Phase)) -> String {
    let (own, bystander) = (phase.own.longest, phase.bystander.longest);
    let stolen = phase.stolen * 100.0;
    format!("{name} {own:.1} ms (bystander {bystander:.1}, stolen {stolen:.1} %)")
}

fn grow(contestant: Contestant, lab: &Lab, keys: u32, stretch: Duration) -> Result<Grown> {
    let server = Server::start(contestant, lab, None)?;
    let bystander = Server::start(contestant, lab, None)?;
    let asked = [&server, &bystander].map(Server::address);
    let run = |load: &Load| generator::run(server.address(), Protocol::Resp, load);
    let phases = || {
        let long = stretch * STRETCHES;
        let idle = watch(asked, keys, stretch, || {
            thread::sleep(long);
            Ok(())
        })?;
        let begun = Instant::now();
        let load = writes(keys, Length::Requests(u64::from(keys)));
        let growing = watch(asked, keys, stretch, || run(&load))?;
        let seconds = begun.elapsed().as_secs_f64();
        server.check_size(keys)?;
        let load = writes(
            keys,
            Length::Timed {
                warm_up: Duration::ZERO,
                measured: long,
            },
        );
        let overwriting = watch(asked, keys, stretch, || run(&load))?;
        Ok(Grown {
            phases: [idle, growing, overwriting],
            seconds,
            mebibytes: resident(server.pid()) as f64 / f64::from(1 << 20),
        })
    };
    let grown = phases().map_err(|error| server.account("failed while it grew", &error))?;
    server.stop()?;
    bystander.stop()?;
    Ok(grown)
}

/// Asks both servers while `work` goes on.
fn watch<T>(
    [server, bystander]: [SocketAddr; 2],
    keys: u32,
    stretch: Duration,
    work: impl FnOnce() -> Result<T>,
) -> Result<Phase> {
    let before = Ticks::now()?;
    let ((_, own), bystander) = prober::while_doing(bystander, keys, stretch, || {
        prober::while_doing(server, keys, stretch, work)
    })?;
    let both = own.longest.iter().zip(&bystander.longest);
    let beyond = both.map(|(&own, &bystander)| millis(own) - millis(bystander));
    Ok(Phase {
        own: Stalls::of(&own),
        bystander: Stalls::of(&bystander),
        beyond: Spread::of(beyond).map_or(0.0, |spread| spread.median),
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
    fn of(latencies: &Latencies) -> Self {
        let longest = Spread::of(latencies.longest.iter().map(|&nanos| millis(nanos)));
        Self {
            typical: millis(latencies.all.value_at_quantile(0.5)),
            rare: millis(latencies.all.value_at_quantile(0.999)),
            longest: longest.map_or(0.0, |spread| spread.median),
            longest_of_all: millis(latencies.all.max()),
        }
    }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// How much longer a GET is held up while keys come in than by the bystander, and for postres whether that meets its goal.
fn beyond_bystander((contestant, runs): &(Contestant, Vec<Grown>)) -> Option<String> {
    let phases = runs.iter().filter_map(|run| run.phases.get(GROWING));
    let beyond = Spread::of(phases.map(|phase| phase.beyond))?;
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
        "- {contestant}: {} ms{goal}\n",
        spread_text(&beyond)
    ))
}

/// A server's row for each phase.
fn rows(contestant: Contestant, runs: &[Grown]) -> impl Iterator<Item = Option<Vec<String>>> {
    PHASES.into_iter().enumerate().map(move |(at, name)| {
        let of = |figure: fn(&Phase) -> f64| {
            let phases = runs.iter().filter_map(|run| run.phases.get(at));
            Spread::of(phases.map(figure))
        };
        let whole = |figure: fn(&Grown) -> f64| {
            let spread = Spread::of(runs.iter().map(figure)).filter(|_| name == "growing");
            spread.map_or_else(|| "-".to_owned(), |spread| thousands(spread.median))
        };
        Some(vec![
            contestant.to_string(),
            name.to_owned(),
            format!("{:.2}", of(|phase| phase.own.typical)?.median),
            format!("{:.2}", of(|phase| phase.own.rare)?.median),
            format!("{:.1}", of(|phase| phase.own.longest)?.median),
            spread_text(&of(|phase| phase.own.longest_of_all)?),
            format!("{:.2}", of(|phase| phase.bystander.rare)?.median),
            format!("{:.1}", of(|phase| phase.bystander.longest)?.median),
            spread_text(&of(|phase| phase.beyond)?),
            format!("{:.1}", of(|phase| phase.stolen)?.median * 100.0),
            whole(|run| run.seconds),
            whole(|run| run.mebibytes),
        ])
    })
}
