//! The end-to-end benchmark: postres over the network, against a naive baseline and Valkey.
//!
//! `cargo bench --bench end_to_end -- [--rounds N] [--seconds S] [--case SUBSTRING]
//! [--without-valkey] [--json FILE]`
//!
//! Each case measures its contestants in turns, several rounds of it, so that whatever else the
//! machine does falls on all of them, and compares figures of the same round. What comes out is
//! a report, not a test: a goal that is missed is shown as such, and only a server that fails, or
//! answers wrongly, or acknowledges a write before its sync ends the program with an error.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use end_to_end::cases::{self, Case};
use end_to_end::load::{self, Length, Load};
use end_to_end::options::Options;
use end_to_end::report::{self, CaseReport, progress};
use end_to_end::sample::Sample;
use end_to_end::server::{Contestant, Lab, Server};
use end_to_end::slow_sync::SlowSync;
use end_to_end::wire::Kind;
use end_to_end::{machine, naive, valkey};

mod end_to_end {
    pub(crate) mod cases;
    pub(crate) mod load;
    pub(crate) mod machine;
    pub(crate) mod naive;
    pub(crate) mod options;
    pub(crate) mod report;
    pub(crate) mod sample;
    pub(crate) mod server;
    pub(crate) mod slow_sync;
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
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let valkey = if options.without_valkey {
        None
    } else {
        Some(find_valkey(folder)?)
    };
    let about = about(&options, folder, valkey.as_deref())?;
    let lab = Lab {
        scratch: folder.to_owned(),
        valkey,
    };
    let reports = measure_all(&options, &lab)?;
    if let Some(file) = &options.json {
        fs::write(file, report::json(&about, &reports))
            .with_context(|| format!("writing {}", file.display()))?;
    }
    let mut output = std::io::stdout().lock();
    for (name, value) in &about {
        writeln!(output, "- {name}: {value}")?;
    }
    write!(output, "{}", report::markdown(&reports))?;
    Ok(())
}

fn find_valkey(folder: &Path) -> Result<PathBuf> {
    valkey::find(folder)
        .context("Valkey is not to be had (--without-valkey does without, and the report says so)")
}

/// What has to be known to read the figures.
fn about(
    options: &Options,
    folder: &Path,
    valkey: Option<&Path>,
) -> Result<Vec<(&'static str, String)>> {
    let valkey = match valkey {
        Some(program) => valkey::version(program)?,
        None => "left out (--without-valkey)".to_owned(),
    };
    Ok(vec![
        ("machine", machine::describe()?),
        ("file system", machine::file_system(folder)?),
        ("Valkey", valkey),
        (
            "rounds",
            format!(
                "{} of {:?} for each server",
                options.rounds, options.seconds
            ),
        ),
        (
            "ratio",
            "the case's first server to this one, median of the rounds".to_owned(),
        ),
    ])
}

fn measure_all(options: &Options, lab: &Lab) -> Result<Vec<CaseReport>> {
    let wanted = options.case.as_deref().unwrap_or_default().to_lowercase();
    let mut cases = cases::all();
    cases.retain(|case| case.name.to_lowercase().contains(&wanted));
    ensure!(!cases.is_empty(), "no case has \"{wanted}\" in its name");
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
            let preload = Load::preload(cases::KEYS);
            load::run(server.address(), server.protocol(), &preload)
                .map_err(|error| server.account("failed while it was filled", &error))?;
        }
        servers.push(server);
        samples.push((contestant, Vec::new()));
    }
    let length = Length::Timed {
        warm_up: options.seconds / 5,
        measured: options.seconds,
    };
    let load = case.load(length);
    for round in 0..options.rounds as usize {
        // Whoever comes first comes after a pause, so each does once in a while.
        for turn in 0..servers.len() {
            let turn = (turn + round) % servers.len();
            let (Some(server), Some((contestant, samples))) =
                (servers.get(turn), samples.get_mut(turn))
            else {
                continue;
            };
            let sample = take_sample(server, &load)?;
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
    servers.into_iter().try_for_each(Server::stop)?;
    Ok(CaseReport { case, samples })
}

fn take_sample(server: &Server, load: &Load) -> Result<Sample> {
    let before = server.cpu_time()?;
    let measured = load::run(server.address(), server.protocol(), load)
        .map_err(|error| server.account("failed under load", &error))?;
    Ok(Sample::new(
        &measured,
        server.cpu_time()?.saturating_sub(before),
    ))
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
