//! The log's thread: what it waits for, and what it does next.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::committer::{Committer, Groups};
use super::patience::Back;
use super::stand_by::StandBy;
use super::{Group, Lost, Shared, Submission, Waiting};
use crate::cores;
use crate::wal::sabotage;
use crate::wal::writer::AppendError;

/// A group is committed when it is this old, though nobody has said that it is complete: whoever does
/// may stand behind something that takes long.
const GATHERED: Duration = Duration::from_millis(2);

/// For so long the log's thread looks by itself, after a commit, whether a group has begun. The first of
/// a group that comes later must wake it.
const WATCHFUL: Duration = Duration::from_millis(2);

/// Closes the queue however the thread ends, so that nobody waits for a log that is gone.
struct CloseOnExit<T>(Arc<Shared<T>>);

impl<T> Drop for CloseOnExit<T> {
    fn drop(&mut self) {
        self.0.close();
        // What still waits is dropped, and with it each ticket: its owner learns that way. Not under the lock: what
        // an owner does then may take it, too.
        let mut waiting = self.0.waiting.lock();
        let submissions = std::mem::take(&mut waiting.submissions);
        let asked = std::mem::take(&mut waiting.sync_asked);
        drop(waiting);
        drop((submissions, asked));
    }
}

/// The log's thread: commits what waits, whenever nobody else does.
pub(super) fn run<T>(
    shared: &Arc<Shared<T>>,
    mut deliver: impl FnMut(Group<T>),
) -> Result<(), AppendError> {
    let _close = CloseOnExit(Arc::clone(shared));
    let mut stand_by = StandBy::new(cores::count() > 1);
    loop {
        let (mut committer, batch, soon) = match next_turn(shared)? {
            Turn::Commit(committer, batch, soon) => (committer, batch, soon),
            Turn::Sync(mut committer, asked) => {
                committer.sync()?;
                for done in asked {
                    // Who asked may have gone.
                    let _ = done.send(());
                }
                (committer, Vec::new(), Duration::ZERO)
            }
            Turn::Close(committer) => return committer.close(),
        };
        stand_by.begin(batch.len());
        let mut took = Duration::ZERO;
        let mut back = Some(Back::of(&batch, soon));
        for submissions in Groups::of(batch) {
            let begun = Instant::now();
            let committed = committer.commit(submissions);
            took += begun.elapsed();
            // Before any of them can be back.
            shared.acknowledged(back.take(), took);
            committed.for_each(&mut deliver);
            if sabotage::is("reply-before-sync") {
                committer.sync()?;
            }
            if let Some(error) = committer.failure() {
                return Err(error);
            }
        }
        shared.waiting.lock().idle = Some(committer);
        if stand_by.end(took) {
            stand_by.give_way();
        }
    }
}

/// What the log's thread does next.
enum Turn<T> {
    /// What to commit, and within what time whoever submitted some of it is back soon.
    Commit(Box<Committer>, Vec<Submission<T>>, Duration),
    /// Under `everysec`, or since these asked for it.
    Sync(Box<Committer>, Vec<mpsc::Sender<()>>),
    Close(Box<Committer>),
}

/// Waits until the writer is free and there is something to do with it.
fn next_turn<T>(shared: &Shared<T>) -> Result<Turn<T>, AppendError> {
    let mut waiting = shared.waiting.lock();
    let mut rested = false;
    loop {
        match waiting.lost.take() {
            Some(Lost::Failed(error)) => return Err(error),
            Some(Lost::Panicked) => panic!("a submitter panicked while it held the writer"),
            None => {}
        }
        let due = waiting.idle.as_ref().and_then(|idle| idle.sync_due());
        let asked = !waiting.sync_asked.is_empty();
        let overdue = asked || due.is_some_and(|due| due <= Instant::now());
        let arrived = waiting.submissions.len();
        if arrived > 0 && waiting.begun.elapsed() >= GATHERED {
            waiting.complete();
        }
        // Nobody completes a group of a log that is closed.
        let complete = waiting.complete || (arrived > 0 && !waiting.open);
        let gathers = arrived > 0 && !complete;
        if waiting.complete
            && waiting.open
            && !overdue
            && let Some(until) = waiting.patience.wait(Instant::now(), arrived)
        {
            shared.arrived.wait_until(&mut waiting, until);
            continue;
        }
        let wanted = complete || !waiting.open || overdue;
        if let Some(committer) = waiting.idle.take_if(|_| wanted) {
            if overdue {
                let asked = std::mem::take(&mut waiting.sync_asked);
                return Ok(Turn::Sync(committer, asked));
            }
            if waiting.submissions.is_empty() {
                return Ok(Turn::Close(committer));
            }
            let soon = waiting.patience.soon();
            return Ok(Turn::Commit(committer, waiting.take(), soon));
        }
        let gathers_until = gathers.then_some(waiting.begun + GATHERED);
        pause(shared, &mut waiting, gathers_until.or(due), &mut rested);
    }
}

/// Waits until there may be something to do, at the latest until `until`. The log's thread is not to be
/// woken for the first of each group while groups follow one another.
fn pause<T>(
    shared: &Shared<T>,
    waiting: &mut MutexGuard<'_, Waiting<T>>,
    until: Option<Instant>,
    rested: &mut bool,
) {
    let watched = Instant::now() + WATCHFUL;
    match until {
        _ if !*rested => {
            let until = until.map_or(watched, |until| until.min(watched));
            *rested = shared.arrived.wait_until(waiting, until).timed_out();
        }
        Some(until) => {
            waiting.asleep = true;
            shared.arrived.wait_until(waiting, until);
        }
        None => {
            waiting.asleep = true;
            shared.arrived.wait(waiting);
        }
    }
    waiting.asleep = false;
}
