//! How a snapshot is written: the tables of a frozen store one by one, then all of it read back, and
//! both at a pace that leaves the processors and the disk to others.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::{Engine, Stopped, Writes};
use super::{Compaction, CompactionError, LastSnapshot, LogSize};
use crate::command::{Frozen, Record};
use crate::wal::Lsn;
use crate::wal::snapshot::SnapshotWriter;

/// A snapshot works for so long at a time, which most often finds a processor that waits for the
/// disk or for a client.
const WORKS: Duration = Duration::from_micros(100);

/// What took longer was not work, but waiting for a slow disk: it is no reason to rest.
const WORKS_AT_MOST: Duration = Duration::from_millis(5);

/// How many times longer it then leaves the processor to others: of a machine with two cores it
/// takes a fourteenth at most.
const RESTS: u32 = 6;

/// The same while the log grows faster than the snapshot does, as it would be as long as before
/// when the snapshot is finished.
const RESTS_BEHIND: u32 = 1;

/// How often a long snapshot tells how far it has come.
const TELL_EVERY: Duration = Duration::from_secs(5);

impl Engine {
    /// Writes a snapshot of what the store holds now, and reads it back.
    pub(super) fn try_snapshot(
        &self,
        compaction: &Compaction,
    ) -> Result<LastSnapshot, CompactionError> {
        let begun = Instant::now();
        let last = compaction.status.lock().last;
        if let Some(last) = last {
            // A segment that the log was still in when the last one was finished. Best effort: what is
            // not removed now is when this one is finished.
            let _ = compaction.folder.retire(last.next);
        }
        let freezer = Freezer::new(self);
        let (frozen, log_before) = freezer.freeze(compaction);
        let next = Lsn(frozen.position + 1);
        let gives = compaction.folder.superfluous_before(next);
        compaction.room.begin(compaction.room.planned(), gives);
        tracing::info!(%next, keys = frozen.keys, "writing a snapshot");
        let mut writer = compaction
            .folder
            .begin_snapshot(next, frozen.time, frozen.keys as u64)?;
        let mut pace = Pace {
            compaction,
            worked_since: begun,
            told: begun,
            log_before,
        };
        self.write_tables(compaction, &frozen, &mut writer, &mut pace)?;
        drop(freezer);
        // Elsewhere than under `always`, the log's end may not be on the disk. It must not end
        // before the snapshot does.
        self.sync_log().map_err(|_| CompactionError::Log)?;
        let written = writer.written().bytes;
        let totals = writer.finish_with(|read| {
            let percent = (read * 100 / written.max(1)).min(100);
            pace.pause(written, "reading the snapshot back", percent)
        })?;
        *compaction.log.lock() = LogSize {
            recovered: 0,
            written_before: log_before,
        };
        let took = begun.elapsed();
        tracing::info!(
            path = %compaction.folder.snapshot(next).display(),
            bytes = totals.bytes,
            seconds = took.as_secs_f64(),
            "the snapshot is written, read back and found good"
        );
        Ok(LastSnapshot {
            next,
            bytes: totals.bytes,
            at: self.time(),
            took: Some(took),
        })
    }

    fn write_tables(
        &self,
        compaction: &Compaction,
        frozen: &Frozen,
        writer: &mut SnapshotWriter,
        pace: &mut Pace<'_>,
    ) -> Result<(), CompactionError> {
        for record in frozen.records() {
            writer.push(|out| record.encode(out))?;
        }
        let store = self.store();
        pace.worked_since = Instant::now();
        let (mut keys, count) = (0, store.table_count());
        for index in 0..count {
            for entry in store.take_frozen(index) {
                writer.push(|out| Record::of(&entry).encode(out))?;
                keys += 1;
            }
            let done = index + 1;
            compaction.tables_done.store(done, Ordering::Relaxed);
            let written = writer.written().bytes;
            compaction.room.written(written);
            let percent = done as u64 * 100 / count as u64;
            pace.pause(written, "writing the snapshot", percent)?;
        }
        if keys != frozen.keys {
            // A start would refuse it, so nothing may be removed for it.
            let why = format!("{keys} keys were found where {} were to be", frozen.keys);
            return Err(CompactionError::Failed(why));
        }
        Ok(())
    }

    fn sync_log(&self) -> Result<(), Stopped> {
        match self.writes.get() {
            Some(Writes::Logged { submitter, .. }) => submitter.sync().map_err(|_| Stopped),
            Some(Writes::Unlogged) | None => Ok(()),
        }
    }
}

/// Thaws the store, however the snapshot ends.
struct Freezer<'a>(&'a Engine);

impl<'a> Freezer<'a> {
    fn new(engine: &'a Engine) -> Self {
        Self(engine)
    }

    /// Freezes the store between two operations. Says how much had been written to the log.
    fn freeze(&self, compaction: &Compaction) -> (Frozen, u64) {
        let applier = self.0.state.applier().write();
        let frozen = applier.freeze();
        (frozen, compaction.folder.status().written())
    }
}

impl Drop for Freezer<'_> {
    fn drop(&mut self) {
        self.0.store().thaw();
    }
}

/// How fast a snapshot is written and read back.
struct Pace<'a> {
    compaction: &'a Compaction,
    worked_since: Instant,
    told: Instant,
    /// What had been written to the log when the store was frozen.
    log_before: u64,
}

impl Pace<'_> {
    /// To be called whenever a little has been done: rests if it is time to, and tells now and then how far
    /// what is `done` has come. `written` is how long the snapshot is so far. It may be that it
    /// is to end here.
    fn pause(&mut self, written: u64, done: &str, percent: u64) -> Result<(), CompactionError> {
        if self.compaction.stopping.load(Ordering::Relaxed) {
            return Err(CompactionError::Stopping);
        }
        if self.compaction.cancelled.load(Ordering::Relaxed) {
            return Err(CompactionError::Cancelled);
        }
        let worked = self.worked_since.elapsed();
        // Where room is scarce, writes are, or will soon be, waiting for this.
        let urgent = self.compaction.urgent.load(Ordering::Relaxed)
            || self.compaction.folder.status().lacks_room();
        if worked >= WORKS && !urgent {
            std::thread::sleep(worked.min(WORKS_AT_MOST) * self.rests(written));
            self.worked_since = Instant::now();
        }
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            tracing::info!(percent, bytes = written, "{done}");
        }
        Ok(())
    }

    fn rests(&self, written: u64) -> u32 {
        let log = self.compaction.folder.status().written();
        if log.saturating_sub(self.log_before) > written {
            RESTS_BEHIND
        } else {
            RESTS
        }
    }
}
