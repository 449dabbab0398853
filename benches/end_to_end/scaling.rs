//! How the servers do with more keys, more connections, and fewer threads.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::contestant::Contestant;
use super::generator;
use super::large::{fill, filled};
use super::load::{Group, Length, Load, Order};
use super::options::{Options, Part};
use super::report::{progress, thousands};
use super::resident;
use super::sample::Spread;
use super::server::{Lab, Server};
use super::table::Table;
use super::wire::{Kind, Protocol, Values};

/// Both as they come when every write is synced. Valkey comes last: ratios are to it.
const SERVERS: [Contestant; 2] = [Contestant::PostresAlways, Contestant::ValkeyAlways];

/// How many clients there are at a time.
const CONNECTIONS: [u32; 4] = [1, 50, 1_000, 10_000];

/// How many threads postres serves them with.
const THREADS: [&str; 2] = ["1", "2"];

/// A measurement takes at least so long for each client, or it would be over before each of many
/// had had a few replies.
const A_CLIENT: Duration = Duration::from_micros(250);

/// One of the servers that are compared.
struct Entrant {
    name: String,
    server: Server,
    is_valkey: bool,
}

impl Entrant {
    fn new(contestant: Contestant, server: Server) -> Self {
        Self {
            name: contestant.to_string(),
            server,
            is_valkey: contestant.is_valkey(),
        }
    }
}

/// The rates of one load, round by round, for each server.
type Rates = Vec<Vec<f64>>;

/// Measures it all; the tables, in Markdown. `millions` says of how many keys.
pub(crate) fn measure(lab: &Lab, millions: &[u32], options: &Options) -> Result<String> {
    let mut text = String::new();
    if options.wants(Part::Keys) {
        let table = by_keys(lab, millions, options)?;
        let _ = write!(text, "\n### By the number of keys, 50 clients\n\n{table}");
    }
    if options.wants(Part::Connections) {
        let table = by_connections(lab, options)?;
        let shown = thousands(f64::from(options.keys));
        let _ = write!(
            text,
            "\n### By the number of clients, {shown} keys\n\n{table}"
        );
    }
    if options.wants(Part::Threads) {
        let table = by_threads(lab, options)?;
        let _ = write!(text, "\n### By postres's threads, 50 clients\n\n{table}");
    }
    if !text.is_empty() {
        text += "\nIn brackets: how many times Valkey's, median of the rounds.\n";
    }
    Ok(text)
}

fn by_keys(lab: &Lab, millions: &[u32], options: &Options) -> Result<Table> {
    let mut table = Table::new(&["keys", "server", "GET/s", "SET/s", "resident MiB"]);
    for millions in millions {
        let keys = millions.saturating_mul(1_000_000);
        let fill = |contestant| Ok(Entrant::new(contestant, filled(contestant, lab, keys)?));
        let entrants: Vec<_> = lab.present(&SERVERS).map(fill).collect::<Result<_>>()?;
        let memory = mebibytes(&entrants)?;
        let shown = thousands(f64::from(keys));
        let loads = [Group::new(50, 0), Group::new(50, 100)];
        let rates = compare(&format!("{shown} keys"), &entrants, keys, &loads, options)?;
        push(&mut table, &shown, &entrants, &rates, &memory);
        stop(entrants)?;
    }
    Ok(table)
}

/// Memory is what a server has once the clients were there and have gone.
fn by_connections(lab: &Lab, options: &Options) -> Result<Table> {
    let mut table = Table::new(&["clients", "server", "GET/s", "SET/s", "resident MiB after"]);
    let most = CONNECTIONS.into_iter().max().unwrap_or_default();
    let start = |contestant| {
        let server = Server::start_for(contestant, lab, most)?;
        fill(&server, options.keys, Values::default())?;
        Ok(Entrant::new(contestant, server))
    };
    let entrants: Vec<_> = lab.present(&SERVERS).map(start).collect::<Result<_>>()?;
    for count in CONNECTIONS {
        let shown = thousands(f64::from(count));
        let loads = [0, 100].map(|set_percent| Group::new(count as usize, set_percent));
        let name = format!("{shown} clients");
        let rates = compare(&name, &entrants, options.keys, &loads, options)?;
        let memory = mebibytes(&entrants)?;
        push(&mut table, &shown, &entrants, &rates, &memory);
    }
    stop(entrants)?;
    Ok(table)
}

fn by_threads(lab: &Lab, options: &Options) -> Result<Table> {
    let mut table = Table::new(&[
        "server",
        "GET/s",
        "GET/s, pipeline 16",
        "SET/s",
        "SET/s, pipeline 16",
        "1 SET : 9 GET/s",
    ]);
    let mut entrants = Vec::new();
    for contestant in lab.present(&SERVERS) {
        if contestant.is_valkey() {
            entrants.push(Entrant::new(
                contestant,
                Server::start(contestant, lab, None)?,
            ));
            continue;
        }
        for threads in THREADS {
            let server = Server::start_with(contestant, lab, &["-threads", threads])?;
            let name = format!("{contestant}, -threads {threads}");
            entrants.push(Entrant {
                name,
                ..Entrant::new(contestant, server)
            });
        }
    }
    for entrant in &entrants {
        fill(&entrant.server, options.keys, Values::default())?;
    }
    let loads = [
        Group::new(50, 0),
        Group::new(50, 0).pipelined(16),
        Group::new(50, 100),
        Group::new(50, 100).pipelined(16),
        Group::new(50, 10),
    ];
    let rates = compare("threads", &entrants, options.keys, &loads, options)?;
    for (at, entrant) in entrants.iter().enumerate() {
        let mut row = vec![entrant.name.clone()];
        row.extend(rates.iter().map(|rates| cell(at, &entrants, rates)));
        table.push(Some(row));
    }
    stop(entrants)?;
    Ok(table)
}

/// Puts each load on each server, in turns.
fn compare(
    name: &str,
    entrants: &[Entrant],
    keys: u32,
    loads: &[Group],
    options: &Options,
) -> Result<Vec<Rates>> {
    let mut all = Vec::new();
    for &group in loads {
        let mut rates = vec![Vec::new(); entrants.len()];
        let measured = options.seconds.max(A_CLIENT * group.connections as u32);
        for round in 0..options.rounds {
            let load = Load {
                groups: vec![group],
                keys,
                values: Values::default(),
                order: Order::Random,
                seed: round,
                length: Length::warmed_up(measured),
            };
            for turn in 0..entrants.len() {
                let at = (turn + round as usize) % entrants.len();
                let entrant = entrants.get(at).context("no such server")?;
                let rate = rate(entrant, &load)?;
                progress(format_args!(
                    "{name}, {} % SET, {} deep: {}: {rate:.0} a second",
                    group.set_percent, group.pipeline, entrant.name
                ));
                rates.get_mut(at).context("no such server")?.push(rate);
            }
        }
        all.push(rates);
    }
    Ok(all)
}

/// Operations a second. Where a key is missing the figure would be of something else.
fn rate(entrant: &Entrant, load: &Load) -> Result<f64> {
    let server = &entrant.server;
    let run = || {
        let measured = generator::run(server.address(), Protocol::Resp, load)?;
        ensure!(
            measured.misses == 0,
            "{} GETs found no value",
            measured.misses
        );
        // As many come next, and a server may have room for no more than those.
        server.wait_until_left()?;
        let rate = measured.rate(Kind::Get) + measured.rate(Kind::Set);
        ensure!(rate > 0.0, "no reply within the time that counts");
        Ok(rate)
    };
    run().map_err(|error| server.account("failed under load", &error))
}

fn mebibytes(entrants: &[Entrant]) -> Result<Vec<f64>> {
    let each = |entrant: &Entrant| resident::at_rest(&entrant.server);
    entrants
        .iter()
        .map(|entrant| Ok(each(entrant)? as f64 / f64::from(1 << 20)))
        .collect()
}

fn push(table: &mut Table, shown: &str, entrants: &[Entrant], rates: &[Rates], memory: &[f64]) {
    for (at, (entrant, memory)) in entrants.iter().zip(memory).enumerate() {
        let mut row = vec![shown.to_owned(), entrant.name.clone()];
        row.extend(rates.iter().map(|rates| cell(at, entrants, rates)));
        row.push(thousands(*memory));
        table.push(Some(row));
    }
}

/// The median rate of one server, and how many times Valkey's it is.
fn cell(at: usize, entrants: &[Entrant], rates: &Rates) -> String {
    let of = |at: usize| rates.get(at).map(Vec::as_slice).unwrap_or_default();
    let Some(spread) = Spread::of(of(at).iter().copied()) else {
        return "-".to_owned();
    };
    let mut text = thousands(spread.median);
    let valkey = entrants.iter().position(|entrant| entrant.is_valkey);
    if let Some(valkey) = valkey.filter(|valkey| *valkey != at) {
        let pairs = of(at).iter().zip(of(valkey));
        if let Some(ratio) = Spread::of(pairs.map(|(ours, theirs)| ours / theirs)) {
            let _ = write!(text, " ({:.2})", ratio.median);
        }
    }
    text
}

fn stop(entrants: Vec<Entrant>) -> Result<()> {
    entrants
        .into_iter()
        .try_for_each(|entrant| entrant.server.stop())
}
