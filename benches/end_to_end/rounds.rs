//! The rounds of a case.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};

use super::cases::{Case, Generator};
use super::contestant::Contestant;
use super::generator;
use super::load::{Length, Load};
use super::machine::{self, Ticks};
use super::options::Options;
use super::peers;
use super::redis_benchmark;
use super::report::{CaseReport, progress};
use super::sample::Sample;
use super::server::{Lab, Server};
use super::slow_sync::SlowSync;
use super::wire::Kind;

/// Measures one case, each round with servers of its own, which take turns.
///
/// Where a process's memory came to lie, and what its hashes are seeded with, stays as long as it lives, and so
/// does what the rounds before have left in it. This way each of that counts in one round alone.
pub(crate) fn measure(
    case: Case,
    options: &Options,
    lab: &Lab,
    slow_sync: Option<&SlowSync>,
) -> Result<CaseReport> {
    let present = lab.present(&case.contestants);
    let mut samples: Vec<_> = present.map(|contestant| (contestant, Vec::new())).collect();
    let length = Length::warmed_up(options.seconds);
    for round in 0..options.rounds {
        let servers = samples
            .iter()
            .map(|(contestant, _)| start(*contestant, &case, lab, slow_sync));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        // What is filled in but not on disk would go there while others are measured, in their way.
        peers::run(Command::new("sync").arg("-f").arg(&lab.scratch))?;
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
        for server in servers {
            // It does not look at replies, so that keys were lost would not show.
            if case.generator == Generator::RedisBenchmark {
                server.check_size(case.keys)?;
            }
            server.stop()?;
        }
    }
    Ok(CaseReport { case, samples })
}

/// Starts a server, and fills it.
fn start(
    contestant: Contestant,
    case: &Case,
    lab: &Lab,
    slow_sync: Option<&SlowSync>,
) -> Result<Server> {
    let server = Server::start(contestant, lab, slow_sync)?;
    if case.preloaded && contestant.keeps_keys() {
        generator::run(server.address(), case.protocol(), &case.preload())
            .map_err(|error| server.account("failed while it was filled", &error))?;
        server.check_size(case.keys)?;
    }
    Ok(server)
}

/// The order of a round. Whoever comes first comes after a pause, and whoever comes next after what
/// the one before it left to the disk: so each is first, and last, as often as the others, twice in twice as many
/// rounds as there are servers.
fn turns(servers: usize, round: usize) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..servers).collect();
    turns.rotate_left(round / 2 % servers.max(1));
    if round % 2 == 1 {
        turns.reverse();
    }
    turns
}

fn take_sample(case: &Case, lab: &Lab, server: &Server, load: &Load) -> Result<Sample> {
    let _bound = case.generator_core.map(machine::bind).transpose()?;
    let (before, ticks_before) = (server.used()?, Ticks::now()?);
    let used = || {
        let stolen = Ticks::now()?.since(ticks_before).stolen_share();
        Ok::<_, Error>((server.used()?.since(before), stolen))
    };
    let sample = match case.generator {
        Generator::Own => {
            generator::run(server.address(), case.protocol(), load).and_then(|measured| {
                let (used, stolen) = used()?;
                Ok(Sample::new(&measured, used, stolen))
            })
        }
        Generator::RedisBenchmark => {
            let program = lab.redis_benchmark.as_deref();
            redis_benchmark::run(program.context("not there")?, server.address(), load).and_then(
                |opinion| {
                    let (used, stolen) = used()?;
                    Ok(Sample::of_opinion(&opinion, used, stolen))
                },
            )
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
