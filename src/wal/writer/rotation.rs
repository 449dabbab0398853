//! Where the next frame goes: into this segment, or into the next one; and whether there is room for that on
//! the disk, beside what the next snapshot needs.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::spare::Spare;
use super::{AppendError, LogWriter, Room, Trouble};
use crate::wal::frame::{self, FrameKind};
use crate::wal::sabotage;
use crate::wal::segment::{self, Prepared, Segment, Zeros};

/// Behind a segment whose frames have at least this many bytes each, on average, the next one is not
/// filled by writing.
const LARGE_FRAME: u64 = 512 << 10;

impl LogWriter {
    /// Sees to it that a frame with this body, and a seal behind it, fit into the segment.
    pub(super) fn make_room(&mut self, body_len: usize, room: Room) -> Result<(), AppendError> {
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
            return match self.spare.take().and_then(Spare::finish) {
                Some(prepared) => Ok(prepared),
                None => {
                    let maker = self.maker.of_the_reserve();
                    if room == Room::Reserve {
                        self.maker.check_removal(maker.takes())?;
                    }
                    maker.prepare(self.next_lsn, zeros, |_, _| {})
                }
            };
        }
        let spare = self.spare.as_ref();
        let takes = spare.map_or_else(|| self.maker.takes(), |_| 0);
        self.maker.check_room(takes, capacity)?;
        match self.spare.take().and_then(Spare::finish) {
            Some(prepared) => Ok(prepared),
            None => {
                self.maker.check_room(self.maker.takes(), capacity)?;
                self.maker.prepare(self.next_lsn, zeros, |_, _| {})
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
        self.segment_since = Instant::now();
        let full = self.segment.header.base;
        // One that was closed with nothing in it gives its name to the next one.
        self.full = (full != next.header.base).then_some(full);
        self.segment = next;
        let base = self.segment.header.base.0;
        self.status.active.store(base, Ordering::Release);
        Ok(())
    }

    /// Begins to prepare the next segment once this one is half full, so that the change from one
    /// to the next costs a commit milliseconds, not the time it takes to write a file of zeros. That is given half
    /// as long as it took to come here.
    pub(super) fn prepare_spare(&mut self) {
        let (position, capacity) = (self.segment.position, self.segment.header.capacity);
        if !self.prepare_ahead || position <= capacity / 2 {
            return;
        }
        if let Some(spare) = &self.spare {
            if position > capacity - capacity / 4 {
                spare.hurry();
            }
            return;
        }
        let within = self.segment_since.elapsed() / 2;
        let (maker, base, zeros) = (self.maker.clone(), self.next_lsn, self.zeros());
        match Spare::begin(maker, base, zeros, within, self.full.take()) {
            Ok(spare) => self.spare = Some(spare),
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
}
