//! The same log on a disk that fails at one call, or from one call on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::run::{Failure, Ledger, Recorder, Run, Step, open, reset_salts};
use super::survival::survivals;
use crate::disk::{Disk, EIO, ENOSPC, Fault};
use crate::linearizable::random::Random;

/// Changes of segments with small frames behind them, which fit into the old segment should the
/// change have failed; and then snapshots.
fn script() -> Vec<Step> {
    use Step::{Append, Kill, Restart, Retire, Snapshot};
    let filled = [Append(vec![1700]), Append(vec![1700])];
    let mut steps = filled.to_vec();
    // One whose change of segments fails goes on in the old one, and the snapshot stands behind it.
    steps.extend([Append(vec![1500]), Append(vec![20]), Snapshot(vec![])]);
    steps.extend([
        Append(vec![30]),
        Kill,
        Retire(vec![]),
        Append(vec![1600, 5]),
    ]);
    steps.extend([Append(vec![900]), Append(vec![50]), Append(vec![1500])]);
    // Here the snapshot stands right where it failed.
    steps.extend([Snapshot(vec![]), Append(vec![20]), Append(vec![1600])]);
    steps.extend([Retire(vec![]), Restart]);
    steps.extend([
        Append(vec![4500]),
        Append(vec![1]),
        Snapshot(vec![vec![40]]),
    ]);
    steps.extend([
        Retire(vec![]),
        Append(vec![3900]),
        Append(vec![100]),
        Append(vec![7]),
    ]);
    steps
}

/// Every power cut that is tried here, and the death of the process alone, leaves what it should.
fn check(disk: &Disk, ledger: &Ledger, limit: usize) -> Result<usize, String> {
    let mut states = 1;
    let found = open(&disk.image(), ledger);
    found.map_err(|error| format!("after a kill: {error}"))?;
    for way in survivals(&disk.pending(), &mut Random(7), limit) {
        let found = open(&disk.after(&way), ledger);
        found.map_err(|error| format!("after {way:?}: {error}"))?;
        states += 1;
    }
    Ok(states)
}

/// Runs the script on a disk that fails at the `nth` call; says how many calls there were, and how
/// many states were recovered from.
fn run_with(fault: Fault, nth: usize, once: bool) -> Result<(usize, usize), String> {
    reset_salts();
    let disk = Disk::default();
    let recorder = Recorder::new(Ledger::default(), 0);
    let mut run = Run::open(&disk, &recorder)?;
    let calls = Arc::new(AtomicUsize::new(0));
    disk.plan({
        let calls = Arc::clone(&calls);
        move |_, _| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            (call == nth || (!once && call > nth)).then_some(fault)
        }
    });
    let mut states = 0;
    for (n, step) in script().iter().enumerate() {
        let context = |error: String| format!("step {n}, {step:?}: {error}");
        let Err(failure) = run.step(step) else {
            continue;
        };
        let ledger = recorder.ledger().clone();
        states += check(&disk, &ledger, 6).map_err(context)?;
        let again = match failure {
            Failure::Snapshot(_) => run.step(&Step::Snapshot(vec![])),
            Failure::Retire(_) => run.step(&Step::Retire(vec![])),
            Failure::Append(_) if run.is_open() && !run.failed_for_good() => Ok(()),
            Failure::Append(_) | Failure::Open(_) => {
                run.close_files();
                run.reopen()
            }
        };
        match again {
            Err(failure) if once => return Err(context(format!("the next attempt: {failure}"))),
            Err(Failure::Open(_)) => break,
            _ => {}
        }
    }
    disk.heal();
    let ledger = recorder.ledger().clone();
    states += check(&disk, &ledger, 6)?;
    run.close_files();
    let steps = [
        Step::Kill,
        Step::Append(vec![2000]),
        Step::Snapshot(vec![]),
        Step::Retire(vec![]),
        Step::Append(vec![2500]),
    ];
    for step in steps {
        let done = run.step(&step);
        done.map_err(|failure| format!("on a good disk again, {step:?}: {failure}"))?;
    }
    let ledger = recorder.ledger().clone();
    states += check(&disk, &ledger, 2)?;
    Ok((calls.load(Ordering::Relaxed), states))
}

#[test]
fn a_disk_that_fails_at_any_call_of_compaction_loses_nothing_and_the_next_attempt_succeeds() {
    let mut kinds = Vec::new();
    for fault in [
        Fault::Fail(EIO),
        Fault::FailHalfway(ENOSPC),
        Fault::FailAfterAll(EIO),
        Fault::Short,
    ] {
        kinds.extend([(fault, true), (fault, false)]);
    }
    let states = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for half in kinds.chunks(kinds.len().div_ceil(2)) {
            let states = &states;
            scope.spawn(move || {
                for (fault, once) in half {
                    for nth in 0.. {
                        let (calls, tried) = run_with(*fault, nth, *once).unwrap_or_else(|error| {
                            panic!("{fault:?} at call {nth}, once: {once}: {error}")
                        });
                        states.fetch_add(tried, Ordering::Relaxed);
                        if calls <= nth {
                            assert!(nth > 100, "the script makes {nth} calls");
                            break;
                        }
                    }
                }
            });
        }
    });
    let states = states.into_inner();
    println!("{states} crashed states of failing disks");
    assert!(states > 10_000);
}
