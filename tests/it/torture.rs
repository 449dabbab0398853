//! Torture: a log with snapshots and compaction on a disk that loses its power at every call.
//!
//! A script of appends, changes of segments, snapshots, removals and restarts runs once, and the
//! disk is kept as it was before each of its calls. From each of these moments the power is cut, in
//! many ways: of what was not synced any part may survive, names and bytes independently of each
//! other. What is left is recovered, watched in the same manner, and the power is cut again, at each
//! call of that recovery and of what is appended behind it. Every recovery must succeed, and give
//! what was acknowledged, or that and what was in flight: nothing less, nothing more, nothing else.
//!
//! All of it follows from a seed. A failure names it; `POSTRES_TEST_SEED` runs just that one again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::disk::Disk;
use crate::linearizable::random::Random;

mod faults;
mod model;
mod promises;
mod run;
mod survival;

use run::{Ledger, Moment, Recorder, Run, Step, open, reset_salts};
use survival::survivals;

/// How many ways are tried in which one power cut may end.
#[derive(Debug, Clone, Copy)]
struct Limits {
    first: usize,
    second: usize,
}

/// What the disk's power is cut in.
fn script() -> Vec<Step> {
    use Step::{Append, Kill, Restart, Retire, Snapshot};
    let frames = |count, len| std::iter::repeat_n(Append(vec![len]), count);
    let mut steps = vec![
        Append(vec![30]),
        Append(vec![200, 0, 40]),
        Append(vec![700]),
    ];
    steps.extend(frames(4, 900));
    steps.push(Snapshot(vec![]));
    steps.push(Retire(vec![]));
    // Through a segment that is written anew.
    steps.extend(frames(5, 1200));
    // Larger than a segment.
    steps.push(Append(vec![4300, 100]));
    steps.push(Append(vec![10]));
    steps.push(Snapshot(vec![vec![50], vec![1500, 60], vec![2000]]));
    steps.push(Append(vec![300]));
    steps.push(Retire(vec![vec![20], vec![2500], vec![1600]]));
    steps.push(Restart);
    steps.push(Append(vec![40]));
    steps.push(Kill);
    // The same position twice: the later replaces the earlier.
    steps.push(Snapshot(vec![]));
    steps.push(Snapshot(vec![]));
    steps.push(Retire(vec![]));
    steps.push(Append(vec![5000]));
    steps.extend(frames(2, 1000));
    steps.push(Snapshot(vec![]));
    // The long segment is written anew, and shorter.
    steps.push(Retire(vec![]));
    steps.extend(frames(4, 1300));
    steps.push(Restart);
    steps.push(Append(vec![5]));
    steps
}

fn random_script(random: &mut Random) -> Vec<Step> {
    fn frame(random: &mut Random) -> Vec<usize> {
        let most = [60, 1000, 2500, 4000, 10_000][random.below(5) as usize];
        let count = 1 + random.below(3);
        (0..count)
            .map(|_| (random.below(most) / count) as usize)
            .collect()
    }
    fn frames(random: &mut Random, most: u64) -> Vec<Vec<usize>> {
        (0..random.below(most + 1)).map(|_| frame(random)).collect()
    }
    let mut steps = Vec::new();
    for _ in 0..10 + random.below(30) {
        match random.below(16) {
            0 => steps.push(Step::Restart),
            1 => steps.push(Step::Kill),
            2 | 3 => steps.push(Step::Snapshot(frames(random, 4))),
            4 => steps.push(Step::Retire(frames(random, 4))),
            5 | 6 => {
                steps.push(Step::Snapshot(frames(random, 2)));
                steps.push(Step::Retire(frames(random, 2)));
            }
            _ => steps.push(Step::Append(frame(random))),
        }
    }
    steps
}

/// Every moment of a run of the script, the end included.
fn moments(steps: &[Step]) -> Result<Vec<Moment>, String> {
    reset_salts();
    let disk = Disk::default();
    let recorder = Recorder::new(Ledger::default(), 0);
    recorder.watch(&disk);
    let mut run = Run::open(&disk, &recorder)?;
    for (n, step) in steps.iter().enumerate() {
        let done = run.step(step);
        done.map_err(|failure| format!("step {n}, {step:?}: {failure}"))?;
    }
    drop(run);
    recorder.record(crate::disk::Call::SyncDir, "the end".as_ref(), disk.image());
    Ok(recorder.moments())
}

/// Cuts the power at one moment, in as many ways as the limits say, and so again in what follows.
/// Says how many states were recovered from.
fn torture(moment: &Moment, seed: u64, limits: Limits) -> Result<usize, String> {
    let mut random = Random(seed);
    let ways = survivals(&moment.disk.pending(), &mut random, limits.first);
    // The process may also die alone: then all is in the system's cache, and nothing synced by it.
    let ways = std::iter::once(None).chain(ways.into_iter().map(Some));
    let mut states = 0;
    for (n, way) in ways.enumerate() {
        let disk = match &way {
            None => moment.disk.image(),
            Some(survival) => moment.disk.after(survival),
        };
        reset_salts();
        let moments = recover_and_go_on(&disk, &moment.ledger, n);
        let moments = moments.map_err(|error| format!("after {way:?}: {error}"))?;
        states += 1;
        for (m, second) in moments.iter().enumerate() {
            for again in survivals(&second.disk.pending(), &mut random, limits.second) {
                states += 1;
                let disk = second.disk.after(&again);
                let recovered = recover(&disk, &second.ledger, states % 16 == 0);
                recovered.map_err(|error| {
                    let (call, path) = (second.call, second.path.display());
                    format!("after {way:?} and then, at call {m} of what follows ({call:?} {path}), {again:?}: {error}")
                })?;
            }
        }
    }
    Ok(states)
}

/// Recovers, and appends; every few times until the segment is full, or with a snapshot.
fn recover_and_go_on(disk: &Disk, ledger: &Ledger, nth: usize) -> Result<Vec<Moment>, String> {
    let recorder = Recorder::new(ledger.clone(), 1);
    recorder.watch(disk);
    let mut run = Run::open(disk, &recorder)?;
    let steps = match nth % 8 {
        3 => vec![Step::Append(vec![3900]), Step::Append(vec![1])],
        5 => vec![
            Step::Append(vec![1]),
            Step::Snapshot(vec![vec![3900]]),
            Step::Retire(vec![]),
        ],
        _ => vec![Step::Append(vec![1, 300])],
    };
    for step in steps {
        run.step(&step)
            .map_err(|failure| format!("then {step:?}: {failure}"))?;
    }
    drop(run);
    disk.unwatch();
    recorder.record(crate::disk::Call::SyncDir, "the end".as_ref(), disk.image());
    Ok(recorder.moments())
}

/// Recovers; and if asked to goes on, and sees that this is there after one more power cut.
fn recover(disk: &Disk, ledger: &Ledger, goes_on: bool) -> Result<(), String> {
    if !goes_on {
        return open(disk, ledger).map(drop);
    }
    let recorder = Recorder::new(ledger.clone(), 2);
    let mut run = Run::open(disk, &recorder)?;
    for step in [Step::Append(vec![9]), Step::Append(vec![9])] {
        run.step(&step)
            .map_err(|failure| format!("then {step:?}: {failure}"))?;
    }
    drop(run);
    let ledger = recorder.ledger().clone();
    let unfinished = |path: &std::path::Path| path.extension().is_some_and(|last| last == "new");
    if let Some(path) = disk.files().into_keys().find(|path| unfinished(path)) {
        return Err(format!("{} was left behind", path.display()));
    }
    open(&disk.crash(crate::disk::Fate::Lost), &ledger)
        .map(drop)
        .map_err(|error| format!("after recovering, appending and a power cut: {error}"))
}

/// Tortures a whole run of a script, on as many threads as there are processors. Of several
/// failures it gives the first in the order of the run, whichever thread met one first.
fn torture_script(steps: &[Step], seed: u64, limits: Limits) -> Result<usize, String> {
    let moments = moments(steps)?;
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut states = 0;
        while !failed.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(moment) = moments.get(n) else {
                break;
            };
            // A seed of its own, so that it is the same whichever thread comes to it.
            let seed = Random(seed ^ (n as u64) << 32).next();
            states += torture(moment, seed, limits).map_err(|error| {
                failed.store(true, Ordering::Relaxed);
                let (call, path) = (moment.call, moment.path.display());
                (
                    n,
                    format!("power cut at call {n} ({call:?} {path}), {error}"),
                )
            })?;
        }
        Ok(states)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let outcomes: Vec<Result<usize, (usize, String)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap());
        ended.collect()
    });
    let failures = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    match failures.min() {
        Some((_, error)) => Err(error.clone()),
        None => Ok(outcomes.into_iter().flatten().sum()),
    }
}

fn given_seed() -> Option<u64> {
    let given = std::env::var("POSTRES_TEST_SEED").ok();
    given.map(|seed| seed.parse().expect("POSTRES_TEST_SEED is a number"))
}

/// Runs random scripts until `enough` states were tried; one alone, where a seed is given.
fn random_torture(test: &str, enough: usize, limits: Limits) -> usize {
    let first = given_seed();
    let mut seeds = Random(u64::from(std::process::id()) << 32 | enough as u64);
    let (mut states, mut runs) = (0, 0);
    while states < enough {
        let seed = first.unwrap_or_else(|| seeds.next());
        let steps = random_script(&mut Random(seed));
        match torture_script(&steps, seed, limits) {
            Ok(tried) => states += tried,
            Err(error) => panic!(
                "{error}\n{steps:?}\nPOSTRES_TEST_SEED={seed} cargo test --locked --test it {test} -- --include-ignored"
            ),
        }
        runs += 1;
        if first.is_some() {
            break;
        }
    }
    println!("{states} crashed states of {runs} random runs");
    states
}

/// Many of what each power cut may leave, as there is only one script.
const CLOSELY: Limits = Limits {
    first: 16,
    second: 12,
};

/// Fewer of each, of many scripts.
const WIDELY: Limits = Limits {
    first: 4,
    second: 3,
};

#[test]
fn a_log_with_snapshots_is_whole_after_power_cuts_at_any_two_calls() {
    let states = torture_script(&script(), 1, CLOSELY).unwrap_or_else(|error| panic!("{error}"));
    println!("{states} crashed states of the script");
    assert!(states > 80_000, "{states}");
}

#[test]
fn a_random_log_with_snapshots_is_whole_after_power_cuts_at_any_two_calls() {
    let test = "a_random_log_with_snapshots";
    let states = random_torture(test, 20_000, WIDELY);
    assert!(given_seed().is_some() || states >= 20_000, "{states}");
}

#[test]
#[ignore = "takes minutes in a release build; `just crash-states`"]
fn a_million_states_of_crashed_logs_are_recovered_from() {
    let enough = std::env::var("POSTRES_TEST_STATES").ok();
    let enough = enough.map_or(1_200_000, |n| n.parse().expect("a number of states"));
    let closely = torture_script(
        &script(),
        2,
        Limits {
            first: 40,
            second: 12,
        },
    );
    let closely = closely.unwrap_or_else(|error| panic!("{error}"));
    println!("{closely} crashed states of the script");
    let states = closely + random_torture("a_million_states", enough, WIDELY);
    assert!(given_seed().is_some() || states > enough, "{states}");
}
