//! How long a GET is held up while the store grows.
//!
//! A table that grows has all its entries moved; whoever asks meanwhile may wait. A prober asks
//! all the time: first an idle server, which tells what the machine itself does to a GET, then while
//! all the keys come in, then while the same clients write the same keys once more, which takes the
//! processors as much and grows nothing. Only what the second has beyond the third is growth's. As the
//! second takes longer than the others, and of more GETs the longest is longer, it is looked at in stretches as long
//! as these.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::contestant::Contestant;
use super::generator;
use super::large::ENOUGH;
use super::load::{Group, Length, Load, Order};
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

/// How many times as long as a measurement of a case the idle server is asked, and the one whose
/// keys are written again: the longest of few GETs would say little.
const LONGER: u32 = 5;

/// The goal: growth holds a GET up for less than so many milliseconds beyond what an idle server's are held up.
const MOST_BEYOND: f64 = 2.0;

/// The phases, in their order.
const PHASES: [&str; 3] = ["idle", "growing", "overwriting"];

/// What one phase showed, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Stalls {
    typical: f64,
    rare: f64,
    /// The longest of a stretch, the median of the stretches.
    longest: f64,
    longest_of_all: f64,
}

/// What one run of all phases showed.
#[derive(Clone, Debug)]
struct Grown {
    phases: [Stalls; 3],
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
            let [idle, growing, overwriting] = grown.phases.map(|stalls| stalls.longest);
            progress(format_args!(
                "growth: {contestant}: longest GET {growing:.1} ms, overwriting {overwriting:.1}, \
                 idle {idle:.1}; {:.0} s",
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
        "seconds to fill",
        "resident MiB",
    ]);
    for (contestant, runs) in &servers {
        for row in rows(*contestant, runs) {
            table.push(row);
        }
    }
    let beyond: String = servers.iter().filter_map(beyond_idle).collect();
    Ok(format!(
        "\n### GETs while {} keys come in, 1,000 a second, open loop, in stretches of {:?}\n\n{table}\n\
         While keys come in, the longest GET of a stretch beyond that of the idle server:\n{beyond}",
        thousands(f64::from(keys)),
        options.seconds * LONGER
    ))
}

fn grow(contestant: Contestant, lab: &Lab, keys: u32, beside: Duration) -> Result<Grown> {
    let server = Server::start(contestant, lab, None)?;
    let run = |load: &Load| generator::run(server.address(), Protocol::Resp, load);
    let phases = || {
        let address = server.address();
        let ((), idle) = prober::while_doing(address, keys, beside, || {
            thread::sleep(beside);
            Ok(())
        })?;
        let begun = Instant::now();
        let load = writes(keys, Length::Requests(u64::from(keys)));
        let (_, growing) = prober::while_doing(address, keys, beside, || run(&load))?;
        let seconds = begun.elapsed().as_secs_f64();
        server.check_size(keys)?;
        let load = writes(
            keys,
            Length::Timed {
                warm_up: Duration::ZERO,
                measured: beside,
            },
        );
        let (_, overwriting) = prober::while_doing(address, keys, beside, || run(&load))?;
        Ok(Grown {
            phases: [idle, growing, overwriting].map(|latencies| Stalls::of(&latencies)),
            seconds,
            mebibytes: resident(server.pid()) as f64 / f64::from(1 << 20),
        })
    };
    let grown = phases().map_err(|error| server.account("failed while it grew", &error))?;
    server.stop()?;
    Ok(grown)
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
        let millis = |nanos: u64| nanos as f64 / 1e6;
        let longest = Spread::of(latencies.longest.iter().map(|&nanos| millis(nanos)));
        Self {
            typical: millis(latencies.all.value_at_quantile(0.5)),
            rare: millis(latencies.all.value_at_quantile(0.999)),
            longest: longest.map_or(0.0, |spread| spread.median),
            longest_of_all: millis(latencies.all.max()),
        }
    }
}

/// How much longer a GET is held up while keys come in than by an idle server, and for postres whether that meets its goal.
fn beyond_idle((contestant, runs): &(Contestant, Vec<Grown>)) -> Option<String> {
    let differences = runs.iter().map(|run| {
        let [idle, growing, _] = &run.phases;
        growing.longest - idle.longest
    });
    let beyond = Spread::of(differences)?;
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
        let of = |figure: fn(&Stalls) -> f64| {
            let stalls = runs.iter().filter_map(|run| run.phases.get(at));
            Spread::of(stalls.map(figure))
        };
        let whole = |figure: fn(&Grown) -> f64| {
            let spread = Spread::of(runs.iter().map(figure)).filter(|_| name == "growing");
            spread.map_or_else(|| "-".to_owned(), |spread| thousands(spread.median))
        };
        Some(vec![
            contestant.to_string(),
            name.to_owned(),
            format!("{:.2}", of(|stalls| stalls.typical)?.median),
            format!("{:.2}", of(|stalls| stalls.rare)?.median),
            format!("{:.1}", of(|stalls| stalls.longest)?.median),
            spread_text(&of(|stalls| stalls.longest_of_all)?),
            whole(|run| run.seconds),
            whole(|run| run.mebibytes),
        ])
    })
}
