//! Group commit: many submitters, one writer, one sync for all that waited.
//!
//! While a sync is under way the next group gathers, so the slower the disk, the larger the
//! groups. A group is not committed before whoever submits says that it is complete
//! ([`Submitter::complete`]), or 2 ms have passed: without that the first of those who come all at
//! once gets a sync of its own, which all others wait for. Then it may have to wait a little longer,
//! for those whom the last group's sync has just set free (`patience.rs`).
//!
//! The writer is owned by whoever commits: the log's thread, or a submitter that found the log
//! idle and commits its own submission where it stands ([`Submitter::commit_here`]). That spares a
//! lone client two changes of thread, which cost it a third of its time. While the log is idle the
//! writer lies in the queue, so to take it is to be the only one that commits.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::patience::Patience;
use super::sabotage;
use super::writer::{AppendError, LogWriter, Position};

/// A group is written once it holds this many bytes, though more may wait: it bounds the writer's
/// buffer and the time until the first of the group is acknowledged.
const GROUP_BYTES: usize = 4 << 20;

/// A group is committed when it is this old, though nobody has said that it is complete: whoever does
/// may stand behind something that takes long.
const GATHERED: Duration = Duration::from_millis(2);

/// For so long the log's thread looks by itself, after a commit, whether a group has begun. The first of
/// a group that comes later must wake it.
const WATCHFUL: Duration = Duration::from_millis(2);

/// Operations to be made durable together, and what the submitter wants back.
#[derive(Debug)]
pub struct Submission<T> {
    /// Operations, each behind its length (see [`super::frame::push_operation`]).
    pub operations: Vec<u8>,
    /// How many they are.
    pub count: u32,
    /// Whether all of them only remove keys: then they may take of the room that is kept for the next
    /// snapshot.
    pub removes: Removes,
    /// Handed back with the outcome. The log does not look at it.
    pub ticket: T,
}

/// What operations do to the next snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removes {
    /// Some may make it longer.
    No,
    /// They remove keys, and do nothing else.
    Keys,
    /// The same, and one of them removes all.
    All,
}

/// Submissions that shared a frame, in log order, and what became of them.
#[derive(Debug)]
pub struct Group<T> {
    /// Durable at this position, or why not.
    pub outcome: Result<Position, AppendError>,
    /// The submissions, in the order of their operations in the log.
    pub submissions: Vec<Submission<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    submissions: Vec<Submission<T>>,
    /// How many operations they are.
    operations: usize,
    /// When the first of them came.
    begun: Instant,
    /// Whether these may be committed.
    complete: bool,
    /// Whether the log's thread sleeps until it is woken.
    asleep: bool,
    open: bool,
    /// Who waits for all that was written to be synced.
    sync_asked: Vec<mpsc::Sender<()>>,
    /// The writer, while nobody commits.
    idle: Option<Box<Committer>>,
    /// How many submissions are likely to come together, and until when they are waited for.
    patience: Patience,
    /// Why the writer will not come back, for the log's thread to end with.
    lost: Option<Lost>,
}

#[derive(Debug)]
enum Lost {
    Failed(AppendError),
    Panicked,
}

#[derive(Debug)]
struct Shared<T> {
    waiting: Mutex<Waiting<T>>,
    /// Something for the log's thread to look at.
    arrived: Condvar,
}

impl<T> Shared<T> {
    fn close(&self) {
        self.waiting.lock().open = false;
        self.arrived.notify_one();
    }

    /// So many submissions are about to be acknowledged, after a commit that took so long.
    fn acknowledged(&self, count: usize, took: Duration) {
        let mut waiting = self.waiting.lock();
        let already = waiting.submissions.len();
        let now = Instant::now();
        waiting.patience.acknowledged(now, count, already, took);
    }
}

/// Where operations are submitted to the log. When it is dropped the log closes.
#[derive(Debug)]
pub struct Submitter<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Drop for Submitter<T> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// The log takes no more: it was closed, or it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log is closed")]
pub struct LogClosed;

impl<T> Submitter<T> {
    /// Puts a submission behind those that wait. Its outcome is delivered, never returned here.
    /// Says whether it is the first of a group: then [`Self::complete`] is to be called, and soon. A group
    /// of which nobody says so waits for 2 ms.
    ///
    /// The caller bounds how much may wait (P8): the log itself takes whatever it is given.
    pub fn submit(&self, submission: Submission<T>) -> Result<bool, LogClosed> {
        let mut waiting = self.shared.waiting.lock();
        if !waiting.open {
            return Err(LogClosed);
        }
        waiting.operations += submission.count as usize;
        waiting.submissions.push(submission);
        let count = waiting.submissions.len();
        if count == 1 {
            waiting.begun = Instant::now();
        }
        let expected = waiting.complete && count == waiting.patience.expected();
        let wanted = expected || (count == 1 && waiting.asleep);
        drop(waiting);
        if wanted {
            self.shared.arrived.notify_one();
        }
        Ok(count == 1)
    }

    /// How many submissions the group has that gathers, and how many operations these are.
    pub fn gathered(&self) -> (usize, usize) {
        let waiting = self.shared.waiting.lock();
        (waiting.submissions.len(), waiting.operations)
    }

    /// All who could be there at once are: the group that gathers may be committed.
    pub fn complete(&self) {
        let mut waiting = self.shared.waiting.lock();
        waiting.complete = !waiting.submissions.is_empty();
        let wanted = waiting.complete && waiting.idle.is_some();
        drop(waiting);
        if wanted {
            self.shared.arrived.notify_one();
        }
    }

    /// If the log is idle, commits `submission` on this thread, which blocks for as long as the
    /// disk takes, and hands its group to `apply` before anyone else can commit. Otherwise gives
    /// it back. `may` is asked last, when nobody else can commit any more.
    pub fn commit_here<R>(
        &self,
        submission: Submission<T>,
        may: impl FnOnce() -> bool,
        apply: impl FnOnce(Group<T>) -> R,
    ) -> Result<R, Submission<T>> {
        let mut waiting = self.shared.waiting.lock();
        if !waiting.open || !waiting.submissions.is_empty() {
            return Err(submission);
        }
        let Some(committer) = waiting.idle.take_if(|_| may()) else {
            return Err(submission);
        };
        drop(waiting);
        let mut borrowed = Borrowed {
            shared: &self.shared,
            committer: Some(committer),
            took: Duration::ZERO,
        };
        Ok(apply(borrowed.commit(vec![submission])))
    }

    /// Whether [`Self::commit_here`] has a chance right now.
    pub fn is_idle(&self) -> bool {
        let waiting = self.shared.waiting.lock();
        waiting.idle.is_some() && waiting.submissions.is_empty() && !waiting.patience.expects_many()
    }

    /// Returns once everything that was acknowledged before this call is on the disk, whatever the
    /// policy. Blocks for as long as that takes.
    pub fn sync(&self) -> Result<(), LogClosed> {
        let (done, synced) = mpsc::channel();
        let mut waiting = self.shared.waiting.lock();
        if !waiting.open {
            return Err(LogClosed);
        }
        waiting.sync_asked.push(done);
        drop(waiting);
        self.shared.arrived.notify_one();
        // A log that ends drops those who ask.
        synced.recv().map_err(|_| LogClosed)
    }

    /// Takes no more submissions; what waits is still written.
    pub fn close(&self) {
        self.shared.close();
    }
}

/// The running log thread. Ends when the log was closed and all that waited is written, or when
/// the log failed for good.
pub type LogThread = JoinHandle<Result<(), AppendError>>;

/// Starts the log's thread. `deliver` is called on it with every group that it commits, in log
/// order; while it blocks, nothing is written.
pub fn start<T, F>(writer: LogWriter, deliver: F) -> std::io::Result<(Submitter<T>, LogThread)>
where
    T: Send + 'static,
    F: FnMut(Group<T>) + Send + 'static,
{
    let committer = Committer {
        writer,
        refusing: false,
    };
    let waiting = Waiting {
        submissions: Vec::new(),
        operations: 0,
        begun: Instant::now(),
        complete: false,
        asleep: false,
        open: true,
        sync_asked: Vec::new(),
        idle: Some(Box::new(committer)),
        patience: Patience::new(Instant::now()),
        lost: None,
    };
    let shared = Arc::new(Shared {
        waiting: Mutex::new(waiting),
        arrived: Condvar::new(),
    });
    let submitter = Submitter {
        shared: Arc::clone(&shared),
    };
    let thread = std::thread::Builder::new().name("postres-log".to_owned());
    let handle = thread.spawn(move || run(&shared, deliver))?;
    Ok((submitter, handle))
}

/// The writer in the hands of a submitter. However that ends, the log's thread learns of it.
struct Borrowed<'a, T> {
    shared: &'a Shared<T>,
    committer: Option<Box<Committer>>,
    /// How long the commit took.
    took: Duration,
}

impl<T> Borrowed<'_, T> {
    fn commit(&mut self, submissions: Vec<Submission<T>>) -> Group<T> {
        let begun = Instant::now();
        let committer = self.committer.as_mut();
        let outcome = committer.map_or(Err(AppendError::TooLarge { len: 0 }), |committer| {
            let outcome = committer.commit(&submissions);
            let removes = submissions
                .iter()
                .all(|submission| submission.removes != Removes::No);
            match outcome {
                Err(AppendError::Rejected { .. }) if removes => {
                    committer.commit_removals(&submissions)
                }
                outcome => outcome,
            }
        });
        self.took = begun.elapsed();
        Group {
            outcome,
            submissions,
        }
    }
}

impl<T> Drop for Borrowed<'_, T> {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting.lock();
        match self.committer.take() {
            _ if std::thread::panicking() => waiting.lost = Some(Lost::Panicked),
            Some(mut committer) => {
                if sabotage::is("reply-before-sync") {
                    let _ = committer.writer.sync();
                }
                match committer.failure() {
                    Some(error) => waiting.lost = Some(Lost::Failed(error)),
                    None => {
                        waiting.idle = Some(committer);
                        let already = waiting.submissions.len();
                        let now = Instant::now();
                        waiting.patience.acknowledged(now, 1, already, self.took);
                    }
                }
            }
            None => {}
        }
        let unsynced = waiting
            .idle
            .as_ref()
            .is_some_and(|idle| idle.writer.sync_due().is_some());
        let asked = waiting.complete || !waiting.sync_asked.is_empty();
        let wanted = asked || !waiting.open || unsynced;
        if waiting.lost.is_some() {
            waiting.open = false;
        }
        if wanted || waiting.lost.is_some() {
            self.shared.arrived.notify_one();
        }
    }
}

/// Closes the queue however the thread ends, so that nobody waits for a log that is gone.
struct CloseOnExit<T>(Arc<Shared<T>>);

impl<T> Drop for CloseOnExit<T> {
    fn drop(&mut self) {
        self.0.close();
        // What still waits is dropped, and with it each ticket: its owner learns that way.
        let mut waiting = self.0.waiting.lock();
        waiting.submissions.clear();
        waiting.sync_asked.clear();
    }
}

/// The log's thread: commits what waits, whenever nobody else does.
fn run<T>(shared: &Arc<Shared<T>>, mut deliver: impl FnMut(Group<T>)) -> Result<(), AppendError> {
    let _close = CloseOnExit(Arc::clone(shared));
    loop {
        let (mut committer, batch) = match next_turn(shared)? {
            Turn::Commit(committer, batch) => (committer, batch),
            Turn::Sync(mut committer, asked) => {
                committer.writer.sync()?;
                for done in asked {
                    // Who asked may have gone.
                    let _ = done.send(());
                }
                (committer, Vec::new())
            }
            Turn::Close(committer) => return committer.writer.close(),
        };
        let (count, mut took) = (batch.len(), Duration::ZERO);
        for submissions in Groups(batch.into_iter().peekable()) {
            let begun = Instant::now();
            let outcome = committer.commit(&submissions);
            let (submissions, removals) = match outcome {
                Err(AppendError::Rejected { .. }) => submissions
                    .into_iter()
                    .partition(|submission| submission.removes == Removes::No),
                _ => (submissions, Vec::new()),
            };
            let again = (!removals.is_empty()).then(|| committer.commit_removals(&removals));
            took += begun.elapsed();
            // Before any of them can be back.
            shared.acknowledged(count, took);
            if !submissions.is_empty() {
                deliver(Group {
                    outcome,
                    submissions,
                });
            }
            if let Some(outcome) = again {
                deliver(Group {
                    outcome,
                    submissions: removals,
                });
            }
            if sabotage::is("reply-before-sync") {
                committer.writer.sync()?;
            }
            if let Some(error) = committer.failure() {
                return Err(error);
            }
        }
        let mut waiting = shared.waiting.lock();
        waiting.idle = Some(committer);
    }
}

/// What the log's thread does next.
enum Turn<T> {
    Commit(Box<Committer>, Vec<Submission<T>>),
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
        let due = waiting
            .idle
            .as_ref()
            .and_then(|idle| idle.writer.sync_due());
        let asked = !waiting.sync_asked.is_empty();
        let overdue = asked || due.is_some_and(|due| due <= Instant::now());
        let arrived = waiting.submissions.len();
        waiting.complete |= arrived > 0 && waiting.begun.elapsed() >= GATHERED;
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
            (waiting.complete, waiting.operations) = (false, 0);
            waiting.patience.over(arrived);
            let room = Vec::with_capacity(waiting.submissions.len());
            let batch = std::mem::replace(&mut waiting.submissions, room);
            return Ok(Turn::Commit(committer, batch));
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

/// The writer, and what was said of its state.
#[derive(Debug)]
struct Committer {
    writer: LogWriter,
    refusing: bool,
}

impl Committer {
    fn commit<T>(&mut self, group: &[Submission<T>]) -> Result<Position, AppendError> {
        let (count, pieces) = parts(group);
        let outcome = self.writer.append(count, pieces);
        report_change(&mut self.refusing, &outcome);
        outcome
    }

    /// Commits what only removes keys, and was rejected when it asked for no more than others may have.
    fn commit_removals<T>(&mut self, group: &[Submission<T>]) -> Result<Position, AppendError> {
        let (count, pieces) = parts(group);
        let all = group
            .iter()
            .any(|submission| submission.removes == Removes::All);
        self.writer.append_removals(all, count, pieces)
    }

    fn failure(&self) -> Option<AppendError> {
        self.writer.failure()
    }
}

fn parts<T>(group: &[Submission<T>]) -> (u32, impl Iterator<Item = &[u8]>) {
    let count = group.iter().map(|submission| submission.count).sum();
    (
        count,
        group
            .iter()
            .map(|submission| submission.operations.as_slice()),
    )
}

/// Says once that writes are refused, and once that they are accepted again.
fn report_change(refusing: &mut bool, outcome: &Result<Position, AppendError>) {
    match outcome {
        Ok(_) if *refusing => {
            *refusing = false;
            tracing::info!("the log can be written again; writes are accepted");
        }
        Err(error @ (AppendError::Rejected { .. } | AppendError::Uncertain { .. }))
            if !*refusing =>
        {
            *refusing = true;
            tracing::error!("{error}; reads go on, writes are refused until this is mended");
        }
        _ => {}
    }
}

/// Splits what waited into groups of bounded size; a larger submission is a group of its own.
struct Groups<T>(std::iter::Peekable<std::vec::IntoIter<Submission<T>>>);

impl<T> Iterator for Groups<T> {
    type Item = Vec<Submission<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.0.next()?;
        let mut bytes = first.operations.len();
        let mut group = Vec::with_capacity(self.0.len() + 1);
        group.push(first);
        while let Some(next) = self
            .0
            .next_if(|next| bytes + next.operations.len() <= GROUP_BYTES)
        {
            bytes += next.operations.len();
            group.push(next);
        }
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(lengths: &[usize]) -> Vec<Vec<usize>> {
        let submissions: Vec<_> = lengths
            .iter()
            .map(|&len| Submission {
                operations: vec![0; len],
                count: 1,
                removes: Removes::No,
                ticket: (),
            })
            .collect();
        Groups(submissions.into_iter().peekable())
            .map(|group| {
                group
                    .iter()
                    .map(|submission| submission.operations.len())
                    .collect()
            })
            .collect()
    }

    #[test]
    fn groups_keep_the_order_and_stay_within_the_bound() {
        const BIG: usize = GROUP_BYTES + 1;
        assert_eq!(groups(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(groups(&[1, 2, 3]), [[1, 2, 3]]);
        assert_eq!(groups(&[1, BIG, 2, 3]), [vec![1], vec![BIG], vec![2, 3]]);
        assert_eq!(groups(&[GROUP_BYTES, 1]), [[GROUP_BYTES], [1]]);
    }
}
