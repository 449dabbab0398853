//! The engine: the only place where log and store meet.
//!
//! A connection hands over a [`Batch`]: what stood in its pipeline from the first write on. The
//! log makes the batch's operations durable together with those of others; the applier, one task,
//! then carries out every step of every batch in log order and sends the replies. But where several threads
//! serve clients, a batch that finds the log idle is committed and applied by its own task, one such
//! at a time; and where it is one, a short batch with which there is no other is applied by the log's thread.
//!
//! - P1, P2: a batch reaches the applier only after the fdatasync that covers it, and nothing else
//!   changes the store. So neither a reply nor a read shows what a crash could take back.
//! - P3: [`Engine::read`] looks at the store and waits for nothing. One that must see several keys as
//!   they were together, or meets an operation that is half applied, waits until that is applied,
//!   never for a disk. [`Engine::read_long`] also waits for a thread.
//! - P4: a batch that the log rejected is answered with errors and never applied.
//! - P8: what waits for the log is bounded in bytes; beyond that submitting waits.
//!
//! Replication will commit the same submissions by a majority in place of [`group_commit`];
//! what stands before and behind it need not know.

mod ahead;
mod answer;
mod applying;
mod awake;
mod batch;
mod compaction;
mod delivery;
mod execution;
mod gather;
mod replay;
mod room;
mod running;
mod steps;
mod sweep;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};
use tokio::task::JoinError;

use crate::command::{LookedUp, ReadFn, Reply, Sees, View, Watches};
use crate::cores;
use crate::store::{Each, Entry, InMemStore};
use crate::time::{Clock, SharedClock, Timestamp, system_clock};
use crate::wal::fs::Fs;
use crate::wal::group_commit::{self, Removes, Submission, Submitter};
use crate::wal::recovery::{self, Progress, RecoveryError, Report};
use crate::wal::{LogOptions, SyncPolicy};
use answer::{Answer, Awaiting};
use applying::{State, apply_groups};
use batch::Contents;
use compaction::Compaction;
use delivery::Delivery;
use gather::{Quiet, complete_groups};
use replay::Replayer;
use room::SnapshotRoom;

pub use answer::Recipient;
pub use batch::{Applied, Batch, Transaction};
pub use compaction::{CompactionError, CompactionOptions, CompactionStatus, LastSnapshot};
pub use running::{EngineFailure, Running};

/// Bytes of operations that may wait for the log. A submitter beyond that waits for room.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Groups that may wait for the applier before the log thread waits for it.
const GROUPS_IN_FLIGHT: usize = 4;

/// Reads that may be under way at once of those that take long, at most; one more waits.
const LONG_READS: usize = 4;

/// How many may be on this machine: one core is left to whoever serves clients, who may meet a lock of the store
/// that such a read has.
fn long_reads() -> Arc<Semaphore> {
    Arc::new(Semaphore::new((cores::count() - 1).clamp(1, LONG_READS)))
}

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
    /// All but the operations, which the log has.
    contents: Box<Contents>,
    answer: Answer,
    room: OwnedSemaphorePermit,
}

/// What the log is given of a batch.
fn submission_of(
    mut contents: Box<Contents>,
    answer: Answer,
    room: OwnedSemaphorePermit,
    away: Option<Duration>,
) -> Submission<Ticket> {
    Submission {
        operations: std::mem::take(&mut contents.operations),
        count: contents.count,
        removes: match (contents.adds, contents.clears) {
            (true, _) => Removes::No,
            (false, false) => Removes::Keys,
            (false, true) => Removes::All,
        },
        away,
        ticket: Ticket {
            contents,
            answer,
            room,
        },
    }
}

/// What became of a batch that was handed over.
#[derive(Debug)]
pub enum Submitted {
    /// It is carried out, and nobody else is told.
    Applied(Applied),
    /// The log has it, or had it: its recipient is told, or was.
    UnderWay,
    /// Too much else waits for the log. [`Engine::submit`] waits for that.
    NoRoom(Batch),
}

/// A store and its log. Shared by all connections.
#[derive(Debug)]
pub struct Engine {
    state: Arc<State>,
    /// Nothing while the log is being read.
    writes: OnceLock<Writes>,
    /// How many more reads may be under way that take long.
    long_reads: Arc<Semaphore>,
    loading: Loading,
}

/// How far the reading of the log has come.
#[derive(Debug, Default)]
struct Loading {
    done: AtomicU64,
    total: AtomicU64,
}

#[derive(Debug)]
enum Writes {
    Logged {
        submitter: Arc<Submitter<Ticket>>,
        /// Told of the first of each group.
        group_begun: mpsc::Sender<()>,
        room: Arc<Semaphore>,
        /// Groups that the log's thread delivered and the applier has not finished.
        unapplied: Arc<AtomicUsize>,
        /// Whether one thread serves clients, and applies.
        one_thread: bool,
        /// Whether batches that find the log idle are committed on their own threads at all.
        commit_here: bool,
        /// Whether the next one may be.
        quiet: Arc<Quiet>,
        compaction: Box<Compaction>,
    },
    /// `-persist false`: applied at once.
    Unlogged,
}

impl Engine {
    /// An engine that keeps nothing.
    pub fn without_log(store: Arc<dyn InMemStore>) -> (Self, Running) {
        let clock = Arc::new(SharedClock::new(system_clock()));
        let engine = Self {
            state: Arc::new(State::new(store, clock)),
            writes: OnceLock::from(Writes::Unlogged),
            long_reads: long_reads(),
            loading: Loading::default(),
        };
        (engine, Running::default())
    }

    /// An engine whose log is yet to be read, by [`Self::load`]. Until then nothing may be asked of
    /// it but how far that has come.
    pub fn loading(store: Arc<dyn InMemStore>, clock: Clock) -> Self {
        let clock = Arc::new(SharedClock::new(clock));
        Self {
            state: Arc::new(State::new(store, clock)),
            writes: OnceLock::new(),
            long_reads: long_reads(),
            loading: Loading::default(),
        }
    }

    /// How many bytes of the snapshot and the log were read, of how many, while they are being
    /// read.
    pub fn load_progress(&self) -> Option<(u64, u64)> {
        let loading = &self.loading;
        let (done, total) = (&loading.done, &loading.total);
        let progress = || (done.load(Ordering::Relaxed), total.load(Ordering::Relaxed));
        self.writes.get().is_none().then(progress)
    }

    /// Reads the log back into `store`, which is empty, and starts the log's thread and the
    /// applier. Must be called inside a runtime. It blocks for as long as the reading takes.
    pub fn recover(
        store: Arc<dyn InMemStore>,
        fs: Arc<dyn Fs>,
        options: &LogOptions,
        compaction: CompactionOptions,
    ) -> Result<(Self, Running, Report), StartError> {
        let engine = Self::loading(store, Arc::clone(&options.clock));
        let (running, report) = engine.load(fs, options, compaction)?;
        Ok((engine, running, report))
    }

    /// Reads the snapshot and the log back, on all cores, and then begins to take writes. Must be
    /// called inside a runtime, once. It blocks for as long as the reading takes.
    pub fn load(
        &self,
        fs: Arc<dyn Fs>,
        options: &LogOptions,
        compaction: CompactionOptions,
    ) -> Result<(Running, Report), StartError> {
        let state = &self.state;
        let frames = Arc::clone(state.shared_clock());
        let options = LogOptions {
            clock: Arc::new(move || frames.now()),
            ..options.clone()
        };
        let told = |progress: Progress| {
            self.loading.total.store(progress.total, Ordering::Relaxed);
            self.loading.done.store(progress.done, Ordering::Relaxed);
        };
        let threads = cores::count();
        let (writer, report) = state.replay(|applier| {
            let mut replayer = Replayer::new(applier, threads, &told);
            recovery::open(fs, &options, &mut replayer)
        })?;
        // Time goes on from where the log ends: that may be later than its last operation.
        state.shared_clock().raise(writer.time());
        let folder = writer.folder();
        let last = report.last_snapshot.map(|(next, at)| LastSnapshot {
            next,
            bytes: report.snapshot_bytes,
            at,
            took: None,
        });
        let snapshot_room = Arc::new(SnapshotRoom::new(Arc::clone(state.shared_store())));
        let kept = Arc::clone(&snapshot_room);
        folder.reserve().is(move || kept.needed());
        let compaction = Compaction::new(folder, snapshot_room, compaction, report.log_bytes, last);
        let (groups_tx, groups_rx) = mpsc::channel(GROUPS_IN_FLIGHT);
        let unapplied = Arc::new(AtomicUsize::new(0));
        let one_thread = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        let quiet = Arc::new(Quiet::new());
        let delivery = Delivery {
            state: Arc::clone(state),
            groups: groups_tx,
            unapplied: Arc::clone(&unapplied),
            room: Arc::new(Semaphore::new(MAX_WAITING_BYTES)),
            quiet: one_thread.then(|| Arc::clone(&quiet)),
        };
        let room = Arc::clone(&delivery.room);
        let deliver = move |group| delivery.deliver(group);
        let (submitter, log) = group_commit::start(writer, deliver).map_err(StartError::Thread)?;
        let delivered = Arc::clone(&unapplied);
        let applier = apply_groups(Arc::clone(state), groups_rx, delivered, one_thread);
        let applier = tokio::spawn(applier);
        let submitter = Arc::new(submitter);
        let (group_begun, groups_begun) = mpsc::channel(1);
        tokio::spawn(complete_groups(
            groups_begun,
            Arc::downgrade(&submitter),
            Arc::clone(&quiet),
            // On the only core it would take the log's time.
            one_thread && threads > 1,
        ));
        // Without a sync to wait for, or a thread to spare, there is nothing to gain.
        let commit_here = options.policy == SyncPolicy::Always && !one_thread;
        let writes = Writes::Logged {
            submitter,
            group_begun,
            room,
            unapplied,
            one_thread,
            commit_here,
            quiet,
            compaction: Box::new(compaction),
        };
        // Whoever loads twice has two logs: the first stays.
        self.writes.get_or_init(|| writes);
        Ok((Running::new(log, applier), report))
    }

    /// Answers a read from the store, at once.
    pub fn read(&self, run: ReadFn, args: &[&[u8]], sees: Sees) -> Reply {
        match sees {
            Sees::Key => self.state.view_key(|view| run(view, args)),
            Sees::Keys => self.state.view_whole(|view| run(view, args)),
            Sees::Any | Sees::AnyForLong => run(&self.state.view(), args),
        }
    }

    /// The entries of these keys for [`read_of`](Self::read_of), each with all of an operation or nothing. Nothing
    /// while an operation is half applied.
    pub fn look_up(&self, keys: &[&[u8]]) -> Option<Each> {
        self.state.look_up(keys)
    }

    /// The same as [`read`](Self::read) of one key, the first of `args`, whose entry was looked up before. Nothing
    /// if that is not enough, as the entry has expired. What is [`read`](Self::read) instead may be newer than
    /// what was looked up with it, so whoever asks one after the other looks up all behind it anew.
    pub fn read_of(&self, run: ReadFn, args: &[&[u8]], entry: Option<Entry>) -> Option<Reply> {
        let looked_up = LookedUp::new(args.first().copied()?, entry);
        let reply = run(&self.state.view().having(&looked_up), args);
        looked_up.was_enough().then_some(reply)
    }

    /// The same for a read that may take long and sees any key as it is then. Of the `words` of its request the
    /// first is the name. Another thread carries it out and makes the `answer` of the reply, when one of the few
    /// that do such reads is free; the time is what that took. Nothing if the runtime ends first.
    pub async fn read_long<R: Send + 'static>(
        &self,
        run: ReadFn,
        words: Arc<[Vec<u8>]>,
        answer: impl FnOnce(Reply) -> R + Send + 'static,
    ) -> Option<(R, Duration)> {
        let permit = Arc::clone(&self.long_reads).acquire_owned().await.ok()?;
        let state = Arc::clone(&self.state);
        let reading = tokio::task::spawn_blocking(move || {
            // Also if nobody waits for it any more.
            let _permit = permit;
            let began = Instant::now();
            let args: Vec<&[u8]> = words.iter().skip(1).map(Vec::as_slice).collect();
            let answer = answer(run(&state.view(), &args));
            (answer, began.elapsed())
        });
        match reading.await.map_err(JoinError::try_into_panic) {
            Ok(answered) => Some(answered),
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => None,
        }
    }

    /// Looks at the store while nothing is applied: what is seen was all there at one moment.
    pub fn read_whole<R>(&self, read: impl FnOnce(&View<'_>) -> R) -> R {
        self.state.view_whole(read)
    }

    /// The same; but while the log is being read, when nobody may look at a key anyway, it does not
    /// wait for that.
    pub fn read_whole_unless_loading<R>(&self, read: impl FnOnce(&View<'_>) -> R) -> R {
        if self.writes.get().is_none() {
            return read(&self.state.view());
        }
        self.read_whole(read)
    }

    /// Who is told when keys change.
    pub fn watches(&self) -> &Arc<Watches> {
        self.state.watches()
    }

    /// The keys.
    pub fn store(&self) -> &dyn InMemStore {
        self.state.store()
    }

    /// What time it is, for whoever reads.
    pub fn time(&self) -> Timestamp {
        self.state.clock().now()
    }

    /// Whether a log is kept.
    pub fn has_log(&self) -> bool {
        matches!(self.writes.get(), Some(Writes::Logged { .. }))
    }

    /// Whether the log took the last group that it was given; also if none is kept.
    pub fn log_accepts(&self) -> bool {
        !self.state.log_rejects()
    }

    /// How many groups were made durable and applied since the start.
    pub fn groups_applied(&self) -> u64 {
        self.state.groups()
    }

    /// Carries out a batch, and returns a reply for each of its steps, once all its operations are
    /// durable. Waits where too much else waits for the log.
    pub async fn submit(&self, batch: Batch) -> Result<Applied, Stopped> {
        let (recipient, awaited) = Awaiting::new();
        let submitted = match self.try_submit(batch, || Arc::clone(&recipient) as _)? {
            Submitted::NoRoom(batch) => {
                let Some(Writes::Logged { room, .. }) = self.writes.get() else {
                    return Err(Stopped);
                };
                let permits = permits_of(&batch);
                let permit = Arc::clone(room).acquire_many_owned(permits).await;
                self.submit_with(permit.map_err(|_| Stopped)?, batch, || recipient)?
            }
            submitted => submitted,
        };
        match submitted {
            Submitted::Applied(applied) => Ok(applied),
            Submitted::UnderWay => awaited.await.unwrap_or(Err(Stopped)),
            Submitted::NoRoom(_) => Err(Stopped),
        }
    }

    /// Whether [`Self::try_submit`] may block for as long as the disk takes.
    pub fn may_block(&self) -> bool {
        matches!(
            self.writes.get(),
            Some(Writes::Logged {
                commit_here: true,
                ..
            })
        )
    }

    /// Whether one thread submits and applies all batches, but for those that are alone. Then whoever tells the
    /// recipient of a batch may as well do what that would do next.
    pub fn shares_thread(&self) -> bool {
        matches!(
            self.writes.get(),
            Some(Writes::Logged {
                one_thread: true,
                ..
            })
        )
    }

    /// What was submitted is to be committed now, if so many batches at least wait for it: not only when all that is
    /// ready has run.
    pub fn commit_if(&self, least: usize) {
        if let Some(Writes::Logged { submitter, .. }) = self.writes.get() {
            submitter.complete_of(least);
        }
    }

    /// As [`Self::submit`], for whoever does not wait here; `recipient`, which is asked for only where the log is given
    /// the batch, is told what becomes of it. If the log is idle, and the runtime has several threads, it blocks
    /// for as long as the disk takes, all the same.
    pub fn try_submit(
        &self,
        mut batch: Batch,
        recipient: impl FnOnce() -> Arc<dyn Recipient>,
    ) -> Result<Submitted, Stopped> {
        let room = match self.writes.get() {
            Some(Writes::Logged { room, .. }) => room,
            Some(Writes::Unlogged) => {
                let contents = batch.contents.take();
                let applied = contents.map(|contents| self.state.apply_unlogged(contents));
                return Ok(Submitted::Applied(applied.unwrap_or_default()));
            }
            None => return Err(Stopped),
        };
        match Arc::clone(room).try_acquire_many_owned(permits_of(&batch)) {
            Ok(permit) => self.submit_with(permit, batch, recipient),
            Err(TryAcquireError::NoPermits) => Ok(Submitted::NoRoom(batch)),
            Err(TryAcquireError::Closed) => Err(Stopped),
        }
    }

    /// Hands over a batch for which there is room.
    fn submit_with(
        &self,
        permit: OwnedSemaphorePermit,
        batch: Batch,
        recipient: impl FnOnce() -> Arc<dyn Recipient>,
    ) -> Result<Submitted, Stopped> {
        let Some(Writes::Logged {
            submitter,
            group_begun,
            ..
        }) = self.writes.get()
        else {
            return Err(Stopped);
        };
        let away = batch.away;
        let Some(contents) = batch.contents.filter(|contents| contents.steps.len() > 0) else {
            return Ok(Submitted::Applied(Applied::default()));
        };
        self.state.clock().begin_write();
        let submission = submission_of(contents, Answer::to(recipient()), permit, away);
        if let Err(submission) = self.commit_here(submission)
            // A log that is closed drops it, so that its recipient is told.
            && submitter.submit(submission).unwrap_or(false)
        {
            // One that was told already looks at this group, too.
            let _ = group_begun.try_send(());
        }
        Ok(Submitted::UnderWay)
    }

    /// Commits and applies a batch on this thread, if the log is idle and every group before it
    /// has been applied: then nobody else commits or applies until this is done, so the order of
    /// the log holds. The other tasks of this thread go on elsewhere meanwhile (P3).
    fn commit_here(&self, batch: Submission<Ticket>) -> Result<(), Submission<Ticket>> {
        let Some(Writes::Logged {
            submitter,
            unapplied,
            commit_here: true,
            quiet,
            ..
        }) = self.writes.get()
        else {
            return Err(batch);
        };
        // The applier's last change to the store happens before this reads its zero.
        let all_applied = || unapplied.load(Ordering::Acquire) == 0;
        if !submitter.is_idle() || !all_applied() || !quiet.take() {
            return Err(batch);
        }
        tokio::task::block_in_place(|| {
            submitter.commit_here(batch, all_applied, |group| self.state.apply_alone(group))
        })
    }

    /// Takes no more batches. What was submitted is still made durable, applied and answered.
    pub fn close(&self) {
        self.stop_compaction();
        if let Some(Writes::Logged { submitter, .. }) = self.writes.get() {
            submitter.close();
        }
    }
}

/// How much room a batch takes. One larger than the whole account waits until it is alone.
fn permits_of(batch: &Batch) -> u32 {
    u32::try_from(batch.cost().min(MAX_WAITING_BYTES)).unwrap_or(u32::MAX)
}
