//! Group commit: many submitters, one writer, one sync for all that waited.
//!
//! While a sync is under way the next group gathers, so the slower the disk, the larger the
//! groups. A group is not committed before it is large, or whoever submits says that it is complete
//! ([`Submitter::complete`]), or 2 ms have passed: without that the first of those who come all at
//! once gets a sync of its own, which all others wait for. Then it may have to wait a little longer,
//! for those whom the last group's sync has just set free (`patience.rs`).
//!
//! The writer is owned by whoever commits: the log's thread, or a submitter that may block, and that found
//! the log idle: it commits its own submission where it stands ([`Submitter::commit_here`]). That spares a
//! lone client two changes of thread, which cost it a third of its time. While the log is idle the
//! writer lies in the queue, so to take it is to be the only one that commits.

mod committer;
mod log_thread;
mod patience;
mod stand_by;

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::sabotage;
use super::writer::{AppendError, LogWriter, Position};
use committer::Committer;
use patience::{Back, Patience};

/// A group of so many submissions is complete, though more may be about to come: what a commit costs by itself is
/// little beside them, and the disk works while the next ones are read. Groups of 50 clients are mostly smaller.
const ENOUGH: usize = 48;

/// So are so many operations of pipelines, however few these are.
const ENOUGH_OPERATIONS: usize = 128;

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
    /// How long before it came whoever submits it had been told of the last one, if there was one.
    pub away: Option<Duration>,
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

/// How far a group has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathered {
    /// How many submissions it has.
    pub submissions: usize,
    /// When the first of them came.
    pub begun: Instant,
    /// Whether it may be committed, or was.
    pub complete: bool,
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
    /// How many the last two groups had.
    last_two: [usize; 2],
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

impl<T> Waiting<T> {
    /// What waits may be committed. Says whether the log's thread is to be told: whoever else has the writer looks by
    /// itself when it is done.
    fn complete(&mut self) -> bool {
        let newly = !self.complete && !self.submissions.is_empty();
        self.complete |= newly;
        newly && self.idle.is_some()
    }

    fn is_enough(&self) -> bool {
        self.submissions.len() >= ENOUGH || self.operations >= ENOUGH_OPERATIONS
    }

    /// Takes what waits.
    fn take(&mut self) -> Vec<Submission<T>> {
        (self.complete, self.operations) = (false, 0);
        let [_, last] = self.last_two;
        self.last_two = [last, self.submissions.len()];
        let room = Vec::with_capacity(self.submissions.len());
        std::mem::replace(&mut self.submissions, room)
    }

    /// The writer will not come back: nothing more is taken.
    fn lose(&mut self, why: Lost) {
        self.lost = Some(why);
        self.open = false;
    }
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

    /// A group, or a further part of it, is about to be acknowledged, after a commit that took so long.
    fn acknowledged(&self, group: Option<Back>, took: Duration) {
        let mut waiting = self.waiting.lock();
        let already = waiting.submissions.len();
        let now = Instant::now();
        match group {
            Some(group) => waiting.patience.acknowledged(now, group, already, took),
            None => waiting.patience.acknowledged_part(now, took),
        }
    }

    /// A submitter gives the writer back, after a commit that took so long.
    fn give_back(&self, mut committer: Box<Committer>, took: Duration) {
        if sabotage::is("reply-before-sync") {
            let _ = committer.sync();
        }
        self.acknowledged(Some(Back::ALONE), took);
        let unsynced = committer.sync_due().is_some();
        let mut waiting = self.waiting.lock();
        match committer.failure() {
            Some(error) => waiting.lose(Lost::Failed(error)),
            None => waiting.idle = Some(committer),
        }
        let asked = waiting.complete || !waiting.sync_asked.is_empty();
        let wanted = asked || unsynced || !waiting.open;
        drop(waiting);
        if wanted {
            self.arrived.notify_one();
        }
    }
}

/// Tells the log's thread if whoever has the writer panics: it will not come back.
struct LostOnPanic<'a, T>(&'a Shared<T>);

impl<T> Drop for LostOnPanic<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.waiting.lock().lose(Lost::Panicked);
            self.0.arrived.notify_one();
        }
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
    /// of which nobody says so, and that does not come to be large, waits for 2 ms.
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
        let enough = waiting.is_enough() && waiting.complete();
        let expected = waiting.complete && count == waiting.patience.expected();
        let wanted = enough || expected || (count == 1 && waiting.asleep);
        drop(waiting);
        if wanted {
            self.shared.arrived.notify_one();
        }
        Ok(count == 1)
    }

    /// How far the group has come that gathers, or the last one, if it is gone.
    pub fn gathered(&self) -> Gathered {
        let waiting = self.shared.waiting.lock();
        let gone = waiting.submissions.is_empty();
        let [_, last] = waiting.last_two;
        Gathered {
            submissions: if gone {
                last
            } else {
                waiting.submissions.len()
            },
            begun: waiting.begun,
            complete: gone || waiting.complete,
        }
    }

    /// How many submissions the last two groups have that are complete, or were.
    pub fn last_two(&self) -> [usize; 2] {
        let waiting = self.shared.waiting.lock();
        match (waiting.complete, waiting.last_two) {
            (true, [_, last]) => [last, waiting.submissions.len()],
            (false, last_two) => last_two,
        }
    }

    /// Whether a group is being committed, or is complete, and the last commit took no longer than `quick`. Also for
    /// as long as somebody else has the writer, or it failed.
    pub fn is_busy(&self, quick: Duration) -> bool {
        let waiting = self.shared.waiting.lock();
        (waiting.complete || waiting.idle.is_none()) && waiting.patience.took() <= quick
    }

    /// All who could be there at once are: the group that gathers may be committed.
    pub fn complete(&self) {
        self.complete_of(1);
    }

    /// The same, if it has at least so many submissions.
    pub fn complete_of(&self, least: usize) {
        let mut waiting = self.shared.waiting.lock();
        let wanted = waiting.submissions.len() >= least && waiting.complete();
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
        let Some(mut committer) = waiting.idle.take_if(|_| may()) else {
            return Err(submission);
        };
        drop(waiting);
        let _lost = LostOnPanic(&self.shared);
        let begun = Instant::now();
        let group = committer.commit_one(submission);
        let took = begun.elapsed();
        let applied = apply(group);
        self.shared.give_back(committer, took);
        Ok(applied)
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
    let waiting = Waiting {
        submissions: Vec::new(),
        operations: 0,
        begun: Instant::now(),
        complete: false,
        last_two: [0; 2],
        asleep: false,
        open: true,
        sync_asked: Vec::new(),
        idle: Some(Box::new(Committer::new(writer))),
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
    let handle = thread.spawn(move || log_thread::run(&shared, deliver))?;
    Ok((submitter, handle))
}
