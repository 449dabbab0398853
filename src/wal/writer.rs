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

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::frame::{self, FrameHeader, FrameKind, MAX_BODY_LEN};
use super::fs::{Lock, write_all_at, write_zeros};
use super::segment::{self, Prepared, Segment, SegmentMaker, Zeros};
use super::{LogFolder, LogOptions, Lsn, SyncPolicy, sabotage};
use crate::time::{Clock, Timestamp};

/// Behind a segment whose frames have at least this many bytes each, on average, the next one is not
/// filled by writing.
const LARGE_FRAME: u64 = 512 << 10;

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
    next_lsn: Lsn,
    time: Timestamp,
    policy: SyncPolicy,
    clock: DebugClock,
    /// The next segment's file, being prepared on a thread of its own. `None` also where this
    /// writer prepares nothing ahead.
    spare: Option<JoinHandle<io::Result<Prepared>>>,
    prepare_ahead: bool,
    retry_after: Duration,
    /// Frames that were written to this segment, and from which offset on.
    frames: u64,
    frames_from: u64,
    /// Offset in the segment below which all is durable.
    synced: u64,
    last_sync: Instant,
    /// Whether the segment ends in a close frame.
    closed: bool,
    /// Whether the segment was made of the room that is kept for the next snapshot, or may have been.
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
            spare: None,
            prepare_ahead: options.prepare_ahead,
            retry_after: options.retry_after,
            last_sync: Instant::now(),
            closed: end.closed,
            // Nothing says what the last process made it of, so room is asked for once.
            of_reserve: true,
            trouble: None,
            buffer: Vec::new(),
            _lock: lock,
        }
    }

    /// The LSN that the next operation gets.
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
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

    /// Sees to it that a frame with this body, and a seal behind it, fit into the segment.
    fn make_room(&mut self, body_len: usize, room: Room) -> Result<(), AppendError> {
        let needed = body_len.next_multiple_of(frame::ALIGNMENT) + 2 * frame::HEADER_LEN;
        let fits = |segment: &Segment| segment.position + needed as u64 <= segment.header.capacity;
        if fits(&self.segment) {
            return self.may_fill(room);
        }
        if self.segment.position > segment::HEADER_LEN {
            self.may_ask(room)?;
            self.rotate(room)?;
        }
        if fits(&self.segment) {
            return Ok(());
        }
        // A frame larger than a segment goes into an empty one, which grows.
        let len = segment::HEADER_LEN + needed as u64;
        let beyond = len - self.segment.header.capacity;
        let checked = match room {
            Room::Free => self.maker.check_room(beyond, len),
            Room::Reserve => self.maker.check_removal(beyond),
            Room::Last => Ok(()),
        };
        checked.map_err(|error| {
            self.status.lacks_room.store(true, Ordering::Relaxed);
            self.rejected("making room in", error)
        })
    }

    /// Whether a segment that was made of the reserve may be filled by others than removals, since there
    /// is room again.
    fn may_fill(&mut self, room: Room) -> Result<(), AppendError> {
        if room != Room::Free || !self.of_reserve {
            return Ok(());
        }
        self.may_ask(room)?;
        let left = self.segment.header.capacity - self.segment.position;
        let checked = self.maker.check_room(0, left);
        checked.map_err(|error| self.no_room("filling", error))?;
        self.of_reserve = false;
        self.status.lacks_room.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it is time to ask for room again, if there was none.
    fn may_ask(&self, room: Room) -> Result<(), AppendError> {
        match &self.trouble {
            Some(Trouble::NoRoom { until, error })
                if room == Room::Free && Instant::now() < *until =>
            {
                Err(error.clone())
            }
            _ => Ok(()),
        }
    }

    fn no_room(&mut self, doing: &'static str, error: io::Error) -> AppendError {
        self.status.lacks_room.store(true, Ordering::Relaxed);
        let error = self.rejected(doing, error);
        self.trouble = Some(Trouble::NoRoom {
            until: Instant::now() + self.retry_after,
            error: error.clone(),
        });
        error
    }

    /// A file for the next segment. What the log may add to the next snapshot before it needs room again
    /// is as much as the segment holds.
    fn next_file(&mut self, room: Room) -> io::Result<Prepared> {
        let (capacity, zeros) = (self.maker.capacity, self.zeros());
        if room != Room::Free {
            return match self.spare.take().map(JoinHandle::join) {
                Some(Ok(Ok(prepared))) => Ok(prepared),
                Some(_) | None => {
                    let maker = self.maker.of_the_reserve();
                    if room == Room::Reserve {
                        self.maker.check_removal(maker.takes())?;
                    }
                    maker.prepare(self.next_lsn, zeros)
                }
            };
        }
        let spare = self.spare.as_ref();
        let takes = spare.map_or_else(|| self.maker.takes(), |_| 0);
        self.maker.check_room(takes, capacity)?;
        match self.spare.take().map(JoinHandle::join) {
            Some(Ok(Ok(prepared))) => Ok(prepared),
            // A spare that failed says nothing of now.
            Some(_) | None => {
                self.maker.check_room(self.maker.takes(), capacity)?;
                self.maker.prepare(self.next_lsn, zeros)
            }
        }
    }

    /// Goes on in a new segment.
    ///
    /// The order is what recovery relies on: the old segment is durable, then the new one exists,
    /// then the old one's seal is durable, and only then is anything appended to the new one.
    fn rotate(&mut self, room: Room) -> Result<(), AppendError> {
        self.sync()?;
        let prepared = self.next_file(room);
        let made = prepared.and_then(|prepared| self.maker.finish(prepared, self.next_lsn));
        let next = made.map_err(|error| self.no_room("making the segment behind", error))?;
        self.trouble = None;
        let body = std::mem::take(&mut self.buffer);
        self.clear_body();
        let sealed = self.write_frame(FrameKind::Seal, 0).and_then(|()| {
            if sabotage::is("seal-unsynced") {
                Ok(())
            } else {
                self.sync()
            }
        });
        self.buffer = body;
        // Without a seal the new segment stays behind, empty, until the next attempt replaces it
        // or a restart removes it. It must not be removed here: the seal may be on the disk.
        sealed?;
        self.of_reserve = room != Room::Free;
        let status = &self.status.lacks_room;
        status.store(self.of_reserve, Ordering::Relaxed);
        tracing::debug!(base = %next.header.base, "the log goes on in a new segment");
        self.synced = next.position;
        (self.frames, self.frames_from) = (0, next.position);
        self.segment = next;
        let base = self.segment.header.base.0;
        self.status.active.store(base, Ordering::Release);
        Ok(())
    }

    /// Begins to prepare the next segment once this one is half full, so that the change from one
    /// to the next costs a commit milliseconds, not the time it takes to write a file of zeros.
    fn prepare_spare(&mut self) {
        let half_full = self.segment.position > self.segment.header.capacity / 2;
        if !self.prepare_ahead || self.spare.is_some() || !half_full {
            return;
        }
        let (maker, base, zeros) = (self.maker.clone(), self.next_lsn, self.zeros());
        let thread = std::thread::Builder::new().name("postres-spare".to_owned());
        match thread.spawn(move || maker.prepare(base, zeros)) {
            Ok(handle) => self.spare = Some(handle),
            Err(error) => tracing::debug!(%error, "no thread to prepare a segment with"),
        }
    }

    /// How the next segment is to come by its zeros, by what this one's frames were like.
    fn zeros(&self) -> Zeros {
        let bytes = self.segment.position - self.frames_from;
        if self.frames > 0 && bytes / self.frames >= LARGE_FRAME {
            Zeros::Declared
        } else {
            Zeros::Written
        }
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
