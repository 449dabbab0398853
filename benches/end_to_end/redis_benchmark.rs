//! A second opinion: redis-benchmark, the load generator that Redis's users know.
//!
//! It has no mixed load and no pace, and it does not look at values. Its keys are named as the
//! other generator's (`key:` and twelve digits), so that its GETs find what was filled in before.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::load::{Group, Length, Load};
use super::machine::{self, Whose};
use super::peers;
use super::sample::Figures;
use super::wire::Kind;

/// The variable that names the program.
const VARIABLE: &str = "POSTRES_BENCH_REDIS_BENCHMARK";

/// The program, and Debian's package that has it.
const PROGRAM: &str = "redis-benchmark";
const PACKAGE: &str = "redis-tools";

/// How many requests stand for a second. Each server gets the same number: it cannot be told to
/// stop after a time. About what Valkey does, and less where it syncs.
const A_SECOND: f64 = 50_000.0;
const A_SECOND_PIPELINED: f64 = 400_000.0;

/// A run that takes this many times the seconds it stands for, and as long again as [`START`], is
/// taken to have stopped.
const SLOWEST: u32 = 100;
const START: Duration = Duration::from_secs(20);

/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Bytes of a value, as the other generator has them.
const VALUE: &str = "64";

/// What one run said.
#[derive(Debug)]
pub(crate) struct Opinion {
    /// Which kind of operation it was.
    pub(crate) kind: Kind,
    /// Its figures.
    pub(crate) figures: Figures,
    /// How many requests there were.
    pub(crate) requests: u64,
    /// Processor time that the program used.
    pub(crate) own_time: Duration,
}

/// Finds the program: the one [`VARIABLE`] names, or the one on the path, where Debian's package
/// puts it if it is missing.
pub(crate) fn find() -> Result<PathBuf> {
    if let Some(program) = env::var_os(VARIABLE) {
        return Ok(program.into());
    }
    if let Some(program) = peers::on_path(PROGRAM) {
        return Ok(program);
    }
    peers::install(PACKAGE)?;
    peers::on_path(PROGRAM)
        .with_context(|| format!("{PACKAGE} is there, but no {PROGRAM} is on the path"))
}

/// What the program says its version is.
pub(crate) fn version(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        program.display(),
        output.status
    );
    Ok(String::from_utf8_lossy(output.stdout.trim_ascii()).into_owned())
}

/// Measures the server at `address` with a load of one group that does one thing.
pub(crate) fn run(program: &Path, address: SocketAddr, load: &Load) -> Result<Opinion> {
    let (group, kind) = match load.groups.as_slice() {
        [group @ Group { set_percent: 0, .. }] => (group, Kind::Get),
        [
            group @ Group {
                set_percent: 100, ..
            },
        ] => (group, Kind::Set),
        _ => bail!("{PROGRAM} has either GETs or SETs"),
    };
    let (requests, seconds) = match load.length {
        Length::Requests(requests) => (requests, Duration::ZERO),
        Length::Timed { measured, .. } => (requests(group, measured), measured),
    };
    let mut command = Command::new(program);
    command
        .args([
            "-h",
            &address.ip().to_string(),
            "-p",
            &address.port().to_string(),
        ])
        .args(["-t", &kind.to_string().to_lowercase(), "-d", VALUE, "--csv"])
        .args([
            "-c",
            &group.connections.to_string(),
            "-P",
            &group.pipeline.to_string(),
        ])
        .args(["-r", &load.keys.to_string(), "-n", &requests.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let used_before = machine::used(Whose::EndedChildren)?;
    let child = command
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let output = wait(child, START + seconds * SLOWEST)?;
    let own_time = machine::used(Whose::EndedChildren)?
        .since(used_before)
        .all();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && !said.contains("Error") && !complaints.contains("Error"),
        "{command:?}: {}; it said: {said}{complaints}",
        output.status
    );
    let figures =
        parse(&said, kind).with_context(|| format!("{command:?} said: {said}{complaints}"))?;
    Ok(Opinion {
        kind,
        figures,
        requests,
        own_time,
    })
}

fn requests(group: &Group, measured: Duration) -> u64 {
    let a_second = if group.pipeline > 1 {
        A_SECOND_PIPELINED
    } else {
        A_SECOND
    };
    (a_second * measured.as_secs_f64()).ceil() as u64
}

/// Waits for the program's end. It says less than a pipe holds, so nobody need read meanwhile.
fn wait(mut child: Child, patience: Duration) -> Result<Output> {
    let deadline = Instant::now() + patience;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!("{PROGRAM} had not ended after {patience:?}");
        }
        thread::sleep(LOOK);
    }
    Ok(child.wait_with_output()?)
}

/// The line of `kind` in what the program writes with `--csv`: the test's name, requests a second,
/// and the mean, least, median, 95th and 99th percentile and longest latency in milliseconds.
fn parse(said: &str, kind: Kind) -> Result<Figures> {
    let name = format!("\"{kind}\",");
    let line = said.lines().find_map(|line| line.strip_prefix(&name));
    let line = line.context("no line of figures")?;
    let figures: Vec<f64> = line
        .split(',')
        .map(|figure| figure.trim_matches('"').parse())
        .collect::<Result<_, _>>()
        .context("a figure that is no number")?;
    let &[rate, _mean, min, p50, _p95, p99, max] = figures.as_slice() else {
        bail!("other figures than those of redis-benchmark 6.2 and later");
    };
    ensure!(rate > 0.0, "no requests at all");
    Ok(Figures {
        rate,
        min: min * 1000.0,
        p50: p50 * 1000.0,
        p99: p99 * 1000.0,
        p999: None,
        max: max * 1000.0,
    })
}
