//! Compaction: a snapshot of the store, and then the removal of the log before it.
//!
//! Here is when that happens, who is told, and what becomes of a failure; how the snapshot is
//! written is in `writing.rs`.

mod writing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::room::SnapshotRoom;
use super::{Engine, Writes};
use crate::time::Timestamp;
use crate::wal::snapshot::SnapshotError;
use crate::wal::{LogFolder, Lsn};

/// How often it is asked whether the log has grown enough.
const EVERY: Duration = Duration::from_millis(100);

/// How long after a failed attempt the next one is made by itself: doubled up to the second figure.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// When the log is compacted without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionOptions {
    /// Bytes that the log must have grown by since the last snapshot.
    pub min_log: u64,
    /// The same, as hundredths of the last snapshot's length. 0: only when asked.
    pub percent: u64,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        Self {
            min_log: 64 << 20,
            percent: 100,
        }
    }
}

/// How compaction stands.
#[derive(Debug, Clone, Default)]
pub struct CompactionStatus {
    /// When the snapshot began that is being written.
    pub running_since: Option<Instant>,
    /// The last snapshot that was finished, or that this server began with.
    pub last: Option<LastSnapshot>,
    /// What went wrong, if the last attempt failed.
    pub error: Option<String>,
    /// Attempts that failed since the start.
    pub failed: u64,
    /// Snapshots that were finished since the start.
    pub finished: u64,
}

/// A snapshot that is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSnapshot {
    /// Where the log goes on behind it.
    pub next: Lsn,
    /// Length of its file.
    pub bytes: u64,
    /// When it was finished; the time of its last frame, if an earlier server finished it.
    pub at: Timestamp,
    /// How long it took, if this server wrote it.
    pub took: Option<Duration>,
}

/// Why no snapshot was written.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// No log is kept, so there is nothing that a snapshot could stand for.
    #[error("no log is kept")]
    NoLog,
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
    /// Somebody asked for its end.
    #[error("the snapshot was cancelled")]
    Cancelled,
    /// The log ended, or failed, before all that the snapshot holds was synced.
    #[error("the log ended before the snapshot was finished")]
    Log,
    /// The attempt that was waited for failed, for this reason.
    #[error("{0}")]
    Failed(String),
    /// A defect.
    #[error("writing the snapshot panicked, which is a defect of postres")]
    Panicked,
    /// Another one is being written.
    #[error("a snapshot is being written already")]
    Busy,
    /// The disk.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// What it made superfluous could not be removed. The snapshot itself is good.
    #[error("removing what the snapshot made superfluous: {0}")]
    Retire(std::io::Error),
}

/// What all who have to do with compaction share.
#[derive(Debug)]
pub(super) struct Compaction {
    folder: LogFolder,
    room: Arc<SnapshotRoom>,
    options: CompactionOptions,
    asked: Notify,
    status: Mutex<CompactionStatus>,
    /// What was wrong with the last attempt that has ended, for those who wait for one.
    ended: watch::Sender<Option<String>>,
    /// Tables that the running snapshot has written.
    tables_done: AtomicUsize,
    stopping: AtomicBool,
    /// Whether the running snapshot is to end without a result.
    cancelled: AtomicBool,
    /// Whether the next snapshot is for the room that it gives back.
    urgent: AtomicBool,
    log: Mutex<LogSize>,
}

/// How much the log has grown since the last snapshot.
#[derive(Debug)]
struct LogSize {
    /// What recovery read behind the snapshot.
    recovered: u64,
    /// What had been written when the last snapshot began.
    written_before: u64,
}

impl Compaction {
    pub(super) fn new(
        folder: LogFolder,
        room: Arc<SnapshotRoom>,
        options: CompactionOptions,
        recovered: u64,
        last: Option<LastSnapshot>,
    ) -> Self {
        let status = CompactionStatus {
            last,
            ..CompactionStatus::default()
        };
        Self {
            folder,
            room,
            options,
            asked: Notify::new(),
            status: Mutex::new(status),
            ended: watch::Sender::new(None),
            tables_done: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            urgent: AtomicBool::new(false),
            log: Mutex::new(LogSize {
                recovered,
                written_before: 0,
            }),
        }
    }

    fn log_size(&self) -> u64 {
        let log = self.log.lock();
        let written = self.folder.status().written();
        log.recovered + written.saturating_sub(log.written_before)
    }

    /// Whether the log has grown enough, or room for it grows scarce while a snapshot would give
    /// back some.
    fn is_due(&self) -> bool {
        let size = self.log_size();
        let last = self.status.lock().last;
        let next = last.map_or(Lsn::FIRST, |last| last.next);
        let planned = self.room.planned();
        let shorter = last.is_some_and(|last| planned < last.bytes / 2);
        let gives_room = size > 0 && (self.folder.status().active() > next || shorter);
        let scarce = || !self.folder.has_room(planned.saturating_mul(2));
        let urgent = gives_room && (self.folder.status().lacks_room() || scarce());
        self.urgent.store(urgent, Ordering::Relaxed);
        if urgent {
            return true;
        }
        let share = last.map_or(0, |last| {
            u128::from(last.bytes) * u128::from(self.options.percent)
        });
        self.options.percent > 0 && size >= self.options.min_log && u128::from(size) * 100 >= share
    }

    /// Lets one snapshot begin, if none has: from here on there is one being written.
    fn claim(&self) -> Result<(), CompactionError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(CompactionError::Stopping);
        }
        let mut status = self.status.lock();
        if status.running_since.is_some() {
            return Err(CompactionError::Busy);
        }
        status.running_since = Some(Instant::now());
        self.tables_done.store(0, Ordering::Relaxed);
        self.cancelled.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn end(&self, error: Option<&CompactionError>) {
        self.room.end();
        let mut status = self.status.lock();
        status.running_since = None;
        match error {
            None => {
                status.error = None;
                status.finished += 1;
            }
            Some(CompactionError::Stopping | CompactionError::Cancelled) => {}
            Some(error) => {
                status.error = Some(error.to_string());
                status.failed += 1;
            }
        }
        // While nobody can look at the status: whoever claims the next one is not told of this.
        self.ended.send_replace(error.map(ToString::to_string));
    }
}

impl Engine {
    fn compaction(&self) -> Option<&Compaction> {
        match self.writes.get()? {
            Writes::Logged { compaction, .. } => Some(compaction),
            Writes::Unlogged => None,
        }
    }

    /// How compaction stands.
    pub fn compaction_status(&self) -> CompactionStatus {
        let status = |compaction: &Compaction| compaction.status.lock().clone();
        self.compaction().map(status).unwrap_or_default()
    }

    /// How many tables of how many the running snapshot has written.
    pub fn snapshot_progress(&self) -> (usize, usize) {
        let done = |compaction: &Compaction| compaction.tables_done.load(Ordering::Relaxed);
        (
            self.compaction().map_or(0, done),
            self.store().table_count(),
        )
    }

    /// Bytes by which the log has grown since the last snapshot.
    pub fn log_size(&self) -> u64 {
        self.compaction().map_or(0, Compaction::log_size)
    }

    /// Has a snapshot begin, if none is being written.
    pub fn begin_snapshot(&self) -> Result<(), CompactionError> {
        let compaction = self.compaction().ok_or(CompactionError::NoLog)?;
        compaction.claim()?;
        compaction.asked.notify_one();
        Ok(())
    }

    /// The same, and waits until it has ended. The error says why it failed.
    pub async fn snapshot(&self) -> Result<(), CompactionError> {
        let compaction = self.compaction().ok_or(CompactionError::NoLog)?;
        compaction.claim()?;
        // The one before has ended, and said so; what ends next is this one.
        let mut ended = compaction.ended.subscribe();
        compaction.asked.notify_one();
        let told = ended.changed().await;
        told.map_err(|_| CompactionError::Stopping)?;
        let error = ended.borrow().clone();
        error.map_or(Ok(()), |why| Err(CompactionError::Failed(why)))
    }

    /// Ends the snapshot that is being written, unless it has its name already, or is about
    /// to get it. Says whether there is one.
    pub fn cancel_snapshot(&self) -> bool {
        let running = |compaction: &&Compaction| compaction.status.lock().running_since.is_some();
        let running = self.compaction().filter(running);
        if let Some(compaction) = running {
            compaction.cancelled.store(true, Ordering::Relaxed);
        }
        running.is_some()
    }

    /// Compacts the log whenever it has grown enough or somebody asks, for as long as it is polled.
    pub async fn compact(self: Arc<Self>) {
        let Some(compaction) = self.compaction() else {
            return;
        };
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut not_before, mut backoff) = (Instant::now(), BACKOFF.0);
        // How long the snapshot would have been that failed last.
        let mut failed = 0;
        loop {
            let asked = tokio::select! {
                () = compaction.asked.notified() => true,
                _ = ticks.tick() => false,
            };
            let may = Instant::now() >= not_before || compaction.room.planned() < failed / 2;
            let due = || may && compaction.is_due();
            if !asked && (!due() || compaction.claim().is_err()) {
                continue;
            }
            let engine = Arc::clone(&self);
            let written = tokio::task::spawn_blocking(move || engine.write_snapshot());
            match written.await {
                Ok(Ok(())) => backoff = BACKOFF.0,
                Ok(Err(CompactionError::Stopping)) => return,
                Ok(Err(CompactionError::Cancelled)) => {
                    tracing::info!(
                        "the snapshot was cancelled; none begins by itself for {:?}",
                        BACKOFF.1
                    );
                    not_before = Instant::now() + BACKOFF.1;
                }
                Ok(Err(error)) => {
                    tracing::error!(
                        %error,
                        "the log could not be compacted; it goes on as it is, and this is tried again in {backoff:?}"
                    );
                    (not_before, failed) = (Instant::now() + backoff, compaction.room.planned());
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
                Err(error) => {
                    compaction.end(Some(&CompactionError::Panicked));
                    tracing::error!(%error, "writing a snapshot panicked");
                    not_before = Instant::now() + BACKOFF.1;
                }
            }
        }
    }

    /// Ends the snapshot that is being written, if one is, and lets none begin.
    pub(super) fn stop_compaction(&self) {
        if let Some(compaction) = self.compaction() {
            compaction.stopping.store(true, Ordering::Relaxed);
        }
    }

    /// Writes a snapshot, and then removes what it makes superfluous.
    fn write_snapshot(&self) -> Result<(), CompactionError> {
        let compaction = self.compaction().ok_or(CompactionError::NoLog)?;
        let outcome = self.try_snapshot(compaction).and_then(|last| {
            compaction.status.lock().last = Some(last);
            let retired = compaction.folder.retire(last.next);
            retired.map_err(CompactionError::Retire)
        });
        compaction.end(outcome.as_ref().err());
        let retired = outcome?;
        tracing::info!(
            segments = retired.segments,
            "the log before the snapshot is removed"
        );
        Ok(())
    }
}
