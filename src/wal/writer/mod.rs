//! The one writer of the log: frames in, durable frames out, and what happens when that fails.
//!
//! # Failure rules
//!
//! | what failed | what follows |
//! |---|---|
//! | making room (a new segment) | the group is rejected; tried again, not before [`LogOptions::retry_after`] |
//! | writing a frame | the frame is zeroed and that is synced (*cut back*), then the group is rejected |
//! | cutting back | every group is rejected until it succeeds |
//! | syncing a segment that holds frames | final: nothing is acknowledged any more |
//!
//! A rejected group has left no trace in the log, and so must leave none in memory (P4). Only
//! while a cut-back is outstanding can a restart still find it; its error says so.

mod rotation;
mod spare;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::frame::{self, FrameHeader, FrameKind, MAX_BODY_LEN};
use super::fs::{Lock, write_all_at, write_zeros};
use super::segment::{Segment, SegmentMaker};
use super::{LogFolder, LogOptions, Lsn, SyncPolicy, sabotage};
use crate::time::{Clock, Timestamp};
use spare::Spare;

/// How long `everysec` leaves a frame without a sync.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Why a group was not made durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// More bytes than a frame takes.
    #[error("{len} bytes are more than one frame of the log holds ({MAX_BODY_LEN})")]
    TooLarge {
        /// Length of the body that was asked for.
        len: usize,
    },
    /// The disk took no more. Nothing changed; a later group may succeed.
    #[error("the log cannot be written ({doing} {}: {cause})", path.display())]
    Rejected {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// As `Rejected`, but what was written could not be removed yet: a restart may bring it back.
    #[error("the log cannot be written, nor cut back ({doing} {}: {cause}); after a restart the last write may be there", path.display())]
    Uncertain {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// A sync failed. Nothing will be acknowledged before a restart has read the log back.
    #[error("the log failed ({doing} {}: {cause}); what was not acknowledged may or may not be there after a restart", path.display())]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        cause: Arc<io::Error>,
    },
}

/// Where and when a group entered the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// LSN of its first operation.
    pub lsn: Lsn,
    /// The time its operations are applied at.
    pub time: Timestamp,
}

/// Which room of the disk a group may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// What is not kept for the next snapshot.
    Free,
    /// Of that, too, what the snapshot does not need, or all but the last if there is too little for it.
    Reserve,
    /// All there is.
    Last,
}

/// What keeps the next group from being written.
#[derive(Debug)]
enum Trouble {
    /// There was no room; do not ask again before `until`.
    NoRoom { until: Instant, error: AppendError },
    /// The bytes up to `end` hold what was rejected.
    CutBack { end: u64 },
    /// Final.
    Failed(AppendError),
}

/// What others may know of the writer while it works.
#[derive(Debug, Default)]
pub struct LogStatus {
    /// Base of the segment that is appended to.
    active: AtomicU64,
    /// Bytes of all frames written since the log was opened.
    written: AtomicU64,
    /// Whether the log was refused room for a new segment, and has not got any since.
    lacks_room: AtomicBool,
}

impl LogStatus {
    /// Base of the segment that is appended to: it and what follows it belong to the writer.
    pub fn active(&self) -> Lsn {
        Lsn(self.active.load(Ordering::Acquire))
    }

    /// Bytes of all frames written since the log was opened.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether there was no room for a new segment when one was last needed.
    pub fn lacks_room(&self) -> bool {
        self.lacks_room.load(Ordering::Relaxed)
    }
}

/// Appends frames to the last segment of a log.
#[derive(Debug)]
pub struct LogWriter {
    maker: SegmentMaker,
    segment: Segment,
    /// Since when it is written to.
    segment_since: Instant,
    next_lsn: Lsn,
    time: Timestamp,
    policy: SyncPolicy,
    clock: DebugClock,
    /// The next segment's file, being prepared on a thread of its own. `None` also where this
    /// writer prepares nothing ahead.
    spare: Option<Spare>,
    prepare_ahead: bool,
    /// The segment before, until the preparation of the next one begins, which has the system let go of it.
    full: Option<Lsn>,
    retry_after: Duration,
    /// Frames that were written to this segment, and from which offset on.
    frames: u64,
    frames_from: u64,
    /// Offset in the segment below which all is durable.
    synced: u64,
    last_sync: Instant,
    /// Whether the segment ends in a close frame.
    closed: bool,
    /// Whether the segment was made of the room that is kept for the next snapshot, or may have been by the process before.
    of_reserve: bool,
    trouble: Option<Trouble>,
    buffer: Vec<u8>,
    status: Arc<LogStatus>,
    _lock: Box<dyn Lock>,
}

struct DebugClock(Clock);

impl std::fmt::Debug for DebugClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// Where recovery found the log's end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) segment: Segment,
    pub(super) next_lsn: Lsn,
    pub(super) time: Timestamp,
    pub(super) closed: bool,
}

impl LogWriter {
    /// Continues a log whose segment is durable up to its end.
    pub(super) fn new(
        maker: SegmentMaker,
        options: &LogOptions,
        end: End,
        lock: Box<dyn Lock>,
    ) -> Self {
        let status = LogStatus::default();
        status
            .active
            .store(end.segment.header.base.0, Ordering::Release);
        // A shorter one was made of the reserve, unless whoever starts the server has asked for longer
        // ones since: then there most likely is room, and that is asked once. (Not of every segment: the first
        // of a small disk may be all that it has room for.)
        let of_reserve = end.segment.header.capacity < maker.capacity;
        Self {
            status: Arc::new(status),
            synced: end.segment.position,
            frames: 0,
            frames_from: end.segment.position,
            maker,
            segment: end.segment,
            next_lsn: end.next_lsn,
            time: end.time,
            policy: options.policy,
            clock: DebugClock(Arc::clone(&options.clock)),
            segment_since: Instant::now(),
            spare: None,
            full: None,
            prepare_ahead: options.prepare_ahead,
            retry_after: options.retry_after,
            last_sync: Instant::now(),
            closed: end.closed,
            of_reserve,
            trouble: None,
            buffer: Vec::new(),
            _lock: lock,
        }
    }

    /// The LSN that the next operation gets.
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// The time of the last frame, also of one that holds no operation. No frame to come has an earlier one.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The folder that this log is in, for whoever writes snapshots of it.
    pub fn folder(&self) -> LogFolder {
        LogFolder::new(self.maker.clone(), Arc::clone(&self.status))
    }

    /// Writes `count` operations, given as length-prefixed pieces, as one frame; with
    /// [`SyncPolicy::Always`] it returns after the fdatasync that covers it (P1).
    pub fn append<'a>(
        &mut self,
        count: u32,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Position, AppendError> {
        self.append_from(Room::Free, count, pieces)
    }

    /// The same, of operations that only remove keys, perhaps `all` there are: if need be it takes of the
    /// room that is kept for the next snapshot, which they make smaller.
    pub fn append_removals<'a>(
        &mut self,
        all: bool,
        count: u32,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Position, AppendError> {
        let room = if all { Room::Last } else { Room::Reserve };
        self.append_from(room, count, pieces)
    }

    fn append_from<'a>(
        &mut self,
        room: Room,
        count: u32,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Position, AppendError> {
        self.resolve_trouble()?;
        self.buffer.clear();
        self.buffer.resize(frame::HEADER_LEN, 0);
        for piece in pieces {
            self.buffer.extend_from_slice(piece);
        }
        let body_len = self.buffer.len() - frame::HEADER_LEN;
        if body_len > MAX_BODY_LEN {
            self.buffer = Vec::new();
            return Err(AppendError::TooLarge { len: body_len });
        }
        self.make_room(body_len, room)?;
        self.time = self.time.max((self.clock.0)());
        let position = Position {
            lsn: self.next_lsn,
            time: self.time,
        };
        self.write_frame(FrameKind::Operations, count)?;
        let skipped = sabotage::is("frame-unsynced") || sabotage::is("reply-before-sync");
        if self.policy == SyncPolicy::Always && !skipped {
            self.sync()?;
        }
        self.prepare_spare();
        self.release_buffer();
        Ok(position)
    }

    /// Why this writer acknowledges nothing any more, if so.
    pub fn failure(&self) -> Option<AppendError> {
        match &self.trouble {
            Some(Trouble::Failed(error)) => Some(error.clone()),
            _ => None,
        }
    }

    /// Under `everysec`: when the next sync is due, if anything awaits one.
    pub fn sync_due(&self) -> Option<Instant> {
        let waits = self.policy == SyncPolicy::EverySecond && self.synced < self.segment.position;
        waits.then(|| self.last_sync + SYNC_EVERY)
    }

    /// Syncs what was written. A failure is final.
    pub fn sync(&mut self) -> Result<(), AppendError> {
        if self.synced < self.segment.position {
            let synced = self.segment.file.sync_data();
            synced.map_err(|error| self.fail("syncing", error))?;
            self.synced = self.segment.position;
        }
        self.last_sync = Instant::now();
        Ok(())
    }

    /// Ends the log in an orderly way: syncs it and marks its end, so that the next start can
    /// tell damage before the mark from a torn tail.
    pub fn close(mut self) -> Result<(), AppendError> {
        if matches!(self.trouble, Some(Trouble::NoRoom { .. })) {
            // That a new segment finds no room is no matter for this one.
            self.trouble = None;
        }
        self.resolve_trouble()?;
        self.sync()?;
        let room = self.segment.position + 2 * frame::HEADER_LEN as u64;
        if !self.closed && room <= self.segment.header.capacity {
            self.clear_body();
            self.write_frame(FrameKind::Close, 0)?;
            self.sync()?;
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.maker.name.segment(self.segment.header.base)
    }

    fn clear_body(&mut self) {
        self.buffer.clear();
        self.buffer.resize(frame::HEADER_LEN, 0);
    }

    /// Writes the frame whose body stands in the buffer, behind room for a header.
    fn write_frame(&mut self, kind: FrameKind, count: u32) -> Result<(), AppendError> {
        let header = FrameHeader {
            kind,
            lsn: self.next_lsn,
            time: self.time,
            synced: self.synced,
            count,
            body_len: 0,
        };
        self.segment.header.codec().seal(&mut self.buffer, header);
        let end = self.segment.position + self.buffer.len() as u64;
        let written = write_all_at(&*self.segment.file, &self.buffer, self.segment.position);
        if let Err(error) = written {
            self.trouble = Some(Trouble::CutBack { end });
            self.cut_back(end)?;
            return Err(self.rejected("writing", error));
        }
        self.segment.position = end;
        self.frames += 1;
        let frame = self.buffer.len() as u64;
        self.status.written.fetch_add(frame, Ordering::Relaxed);
        self.next_lsn = Lsn(self.next_lsn.0 + u64::from(count));
        self.closed = kind == FrameKind::Close;
        Ok(())
    }

    fn resolve_trouble(&mut self) -> Result<(), AppendError> {
        match &self.trouble {
            None => Ok(()),
            Some(Trouble::Failed(error)) => Err(error.clone()),
            // Only of matter to what needs more room.
            Some(Trouble::NoRoom { .. }) => Ok(()),
            Some(Trouble::CutBack { end }) => self.cut_back(*end),
        }
    }

    /// Zeros what a failed write may have left between the log's end and `end`, and syncs that,
    /// so that neither a crash nor a later frame can bring any of it back.
    fn cut_back(&mut self, end: u64) -> Result<(), AppendError> {
        let position = self.segment.position;
        let keep = self.segment.header.capacity.max(position);
        let file = &*self.segment.file;
        let zeroed = file.len().and_then(|len| {
            if len > keep {
                file.set_len(keep)?;
            }
            write_zeros(file, position, end.min(len).min(keep))
        });
        if let Err(error) = zeroed {
            return Err(AppendError::Uncertain {
                doing: "cutting back",
                path: self.path(),
                cause: Arc::new(error),
            });
        }
        let skipped = sabotage::is("cut-back-unsynced");
        let synced = if skipped {
            Ok(())
        } else {
            self.segment.file.sync_data()
        };
        synced.map_err(|error| self.fail("syncing", error))?;
        self.synced = position;
        self.trouble = None;
        Ok(())
    }

    /// An outsized frame's buffer is not kept.
    fn release_buffer(&mut self) {
        const KEEP: usize = 8 << 20;
        if self.buffer.capacity() > KEEP {
            self.buffer = Vec::new();
        }
    }

    fn rejected(&self, doing: &'static str, error: io::Error) -> AppendError {
        AppendError::Rejected {
            doing,
            path: self.path(),
            cause: Arc::new(error),
        }
    }

    /// Latches a final failure: after it the page cache may show what the disk does not hold.
    fn fail(&mut self, doing: &'static str, error: io::Error) -> AppendError {
        let error = AppendError::Failed {
            doing,
            path: self.path(),
            cause: Arc::new(error),
        };
        self.trouble = Some(Trouble::Failed(error.clone()));
        error
    }
}
