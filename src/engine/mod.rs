//! The engine: the only place where log and store meet.
//!
//! A connection hands over a [`Batch`]: what stood in its pipeline from the first write on. The
//! log makes the batch's operations durable together with those of others; the applier, one task,
//! then carries out every step of every batch in log order and sends the replies. A batch that
//! finds the log idle is committed and applied by its own task instead, one such at a time.
//!
//! - P1, P2: a batch reaches the applier only after the fdatasync that covers it, and nothing else
//!   changes the store. So neither a reply nor a read shows what a crash could take back.
//! - P3: [`Engine::read`] looks at the store and waits for nothing.
//! - P4: a batch that the log rejected is answered with errors and never applied.
//! - P8: what waits for the log is bounded in bytes; beyond that submitting waits.
//!
//! Replication will commit the same submissions by a majority in place of [`group_commit`];
//! what stands before and behind it need not know.

mod batch;
mod replay;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::command::{ReadFn, Reply};
use crate::store::InMemStore;
use crate::time::{Clock, Timestamp, system_clock};
use crate::wal::fs::Fs;
use crate::wal::group_commit::{self, Group, LogThread, Submission, Submitter};
use crate::wal::recovery::{self, RecoveryError, Report};
use crate::wal::writer::AppendError;
use crate::wal::{LogOptions, SyncPolicy};
use batch::{Batched, Step};
use replay::Replayer;

pub use batch::Batch;

/// Bytes of operations that may wait for the log. A submitter beyond that waits for room.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Groups that may wait for the applier before the log thread waits for it.
const GROUPS_IN_FLIGHT: usize = 4;

/// Steps that the applier carries out before it lets other tasks of its thread run (P3).
const STEPS_PER_TURN: usize = 128;

/// Told to everyone who still waits when the engine is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is stopping; this write may or may not be there after a restart")]
pub struct Stopped;

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log could not be opened.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The log's thread could not be started.
    #[error("starting the log's thread: {0}")]
    Thread(std::io::Error),
}

/// What the log hands back with a batch.
#[derive(Debug)]
struct Ticket {
    steps: Vec<Step>,
    answer: oneshot::Sender<Vec<Reply>>,
    _room: OwnedSemaphorePermit,
}

/// A store and its log. Shared by all connections.
#[derive(Debug)]
pub struct Engine {
    store: Arc<dyn InMemStore>,
    writes: Writes,
}

#[derive(Debug)]
enum Writes {
    Logged {
        submitter: Submitter<Ticket>,
        room: Arc<Semaphore>,
        /// Groups that the log's thread delivered and the applier has not finished.
        unapplied: Arc<AtomicUsize>,
        /// Whether a batch that finds the log idle is committed on its own thread.
        commit_here: bool,
    },
    /// `-persist false`: applied at once, under a lock that makes the caller the one applier.
    Unlogged(Mutex<Unlogged>),
}

struct Unlogged {
    clock: Clock,
    time: Timestamp,
}

impl std::fmt::Debug for Unlogged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unlogged")
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

/// The parts of a running engine that end: whoever started it waits for them.
#[derive(Debug)]
pub struct Running {
    log: Option<LogThread>,
    applier: Option<tokio::task::JoinHandle<()>>,
}

impl Engine {
    /// An engine that keeps nothing.
    pub fn without_log(store: Arc<dyn InMemStore>) -> (Self, Running) {
        let unlogged = Unlogged {
            clock: system_clock(),
            time: Timestamp::default(),
        };
        let writes = Writes::Unlogged(Mutex::new(unlogged));
        (
            Self { store, writes },
            Running {
                log: None,
                applier: None,
            },
        )
    }

    /// Reads the log back into `store`, which is empty, and starts the log's thread and the
    /// applier. Must be called inside a runtime. It blocks for as long as the reading takes.
    pub fn recover(
        store: Arc<dyn InMemStore>,
        fs: Arc<dyn Fs>,
        options: &LogOptions,
    ) -> Result<(Self, Running, Report), StartError> {
        let mut replay = Replayer::new(&*store);
        let (writer, report) = recovery::open(fs, options, &mut replay)?;
        let (groups_tx, groups_rx) = mpsc::channel(GROUPS_IN_FLIGHT);
        let unapplied = Arc::new(AtomicUsize::new(0));
        let delivered = Arc::clone(&unapplied);
        let deliver = move |group| {
            delivered.fetch_add(1, Ordering::Relaxed);
            // The applier ends only after this thread, or with the runtime: nobody waits then.
            let _ = groups_tx.blocking_send(group);
        };
        let (submitter, log) = group_commit::start(writer, deliver).map_err(StartError::Thread)?;
        let applier = apply_groups(Arc::clone(&store), groups_rx, Arc::clone(&unapplied));
        let applier = tokio::spawn(applier);
        let room = Arc::new(Semaphore::new(MAX_WAITING_BYTES));
        let flavor = tokio::runtime::Handle::current().runtime_flavor();
        // Without a sync to wait for, or a thread to spare, there is nothing to gain.
        let commit_here = options.policy == SyncPolicy::Always
            && flavor == tokio::runtime::RuntimeFlavor::MultiThread;
        let writes = Writes::Logged {
            submitter,
            room,
            unapplied,
            commit_here,
        };
        let engine = Self { store, writes };
        Ok((
            engine,
            Running {
                log: Some(log),
                applier: Some(applier),
            },
            report,
        ))
    }

    /// Answers a read from the store, at once.
    pub fn read(&self, run: ReadFn, args: &[&[u8]]) -> Reply {
        run(&*self.store, args)
    }

    /// Carries out a batch, and returns a reply for each of its steps, once all its operations are
    /// durable. Waits where too much else waits for the log.
    pub async fn submit(&self, batch: Batch) -> Result<Vec<Reply>, Stopped> {
        let cost = batch.cost();
        let Batch {
            operations,
            count,
            steps,
            ..
        } = batch;
        let (submitter, room) = match &self.writes {
            Writes::Logged {
                submitter, room, ..
            } => (submitter, room),
            Writes::Unlogged(unlogged) => {
                let mut unlogged = unlogged.lock();
                unlogged.time = unlogged.time.max((unlogged.clock)());
                let carried = Batched::new(&operations, steps);
                return Ok(carried
                    .map(|step| step.run(&*self.store, unlogged.time))
                    .collect());
            }
        };
        // A batch larger than the whole account waits until it is alone.
        let permits = u32::try_from(cost.min(MAX_WAITING_BYTES)).unwrap_or(u32::MAX);
        let permit = Arc::clone(room)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| Stopped)?;
        let (answer, answered) = oneshot::channel();
        let ticket = Ticket {
            steps,
            answer,
            _room: permit,
        };
        let submission = Submission {
            operations,
            count,
            ticket,
        };
        let submission = match self.commit_here(submission) {
            Ok(replies) => return Ok(replies),
            Err(submission) => submission,
        };
        submitter.submit(submission).map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Commits and applies a batch on this thread, if the log is idle and every group before it
    /// has been applied: then nobody else commits or applies until this is done, so the order of
    /// the log holds. The other tasks of this thread go on elsewhere meanwhile (P3).
    fn commit_here(&self, batch: Submission<Ticket>) -> Result<Vec<Reply>, Submission<Ticket>> {
        let Writes::Logged {
            submitter,
            unapplied,
            commit_here: true,
            ..
        } = &self.writes
        else {
            return Err(batch);
        };
        // The applier's last change to the store happens before this reads its zero.
        let all_applied = || unapplied.load(Ordering::Acquire) == 0;
        if !submitter.is_idle() || !all_applied() {
            return Err(batch);
        }
        tokio::task::block_in_place(|| {
            submitter.commit_here(batch, all_applied, |group| {
                let Group {
                    outcome,
                    submissions,
                } = group;
                let batches = submissions
                    .into_iter()
                    .map(|s| (s.operations, s.ticket.steps));
                batches.fold(Vec::new(), |mut replies, (operations, steps)| {
                    let steps = Batched::new(&operations, steps);
                    replies.extend(steps.map(|step| step.conclude(&*self.store, &outcome)));
                    replies
                })
            })
        })
    }

    /// Takes no more batches. What was submitted is still made durable, applied and answered.
    pub fn close(&self) {
        if let Writes::Logged { submitter, .. } = &self.writes {
            submitter.close();
        }
    }
}

impl Running {
    /// Waits until log and applier have ended: after [`Engine::close`], or because the log failed,
    /// which is the error.
    pub async fn ended(&mut self) -> Result<(), EngineFailure> {
        if let Some(applier) = &mut self.applier {
            // It ends when the log's thread does, so the join below waits for little.
            let ended = applier.await;
            self.applier = None;
            ended.map_err(|_| EngineFailure::Applier)?;
        }
        match self.log.take().map(LogThread::join) {
            Some(Ok(Err(error))) => Err(EngineFailure::Log(error)),
            Some(Err(_)) => Err(EngineFailure::LogThread),
            Some(Ok(Ok(()))) | None => Ok(()),
        }
    }

    /// Whether there is a log that could fail.
    pub fn has_log(&self) -> bool {
        self.log.is_some()
    }
}

/// Why an engine ended although nobody closed it. None of them can be mended while it runs.
#[derive(Debug, thiserror::Error)]
pub enum EngineFailure {
    /// The disk.
    #[error(transparent)]
    Log(AppendError),
    /// The disk did not answer in the time that a stop may take.
    #[error("the log was not closed in time: its disk does not answer")]
    Stuck,
    /// A defect: the log's thread panicked.
    #[error("the log's thread panicked, which is a defect of postres")]
    LogThread,
    /// A defect: the applier panicked.
    #[error("the applier panicked, which is a defect of postres")]
    Applier,
}

/// The applier: carries out groups in log order.
async fn apply_groups(
    store: Arc<dyn InMemStore>,
    mut groups: mpsc::Receiver<Group<Ticket>>,
    unapplied: Arc<AtomicUsize>,
) {
    let mut budget = STEPS_PER_TURN;
    while let Some(group) = groups.recv().await {
        for submission in group.submissions {
            let Ticket {
                steps,
                answer,
                _room,
            } = submission.ticket;
            let mut replies = Vec::with_capacity(steps.len());
            for step in Batched::new(&submission.operations, steps) {
                replies.push(step.conclude(&*store, &group.outcome));
                budget -= 1;
                if budget == 0 {
                    budget = STEPS_PER_TURN;
                    tokio::task::yield_now().await;
                }
            }
            // The client may have gone; its writes are durable all the same.
            let _ = answer.send(replies);
        }
        unapplied.fetch_sub(1, Ordering::Release);
    }
}
