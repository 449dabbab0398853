//! The folder of an open log, for whoever writes snapshots into it beside the writer.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Lsn;
use super::retire::{self, Retired};
use super::sabotage;
use super::segment::SegmentMaker;
use super::snapshot::{SnapshotError, SnapshotHeader, SnapshotWriter};
use super::writer::LogStatus;
use crate::time::Timestamp;

/// The files of an open log. The writer goes on beside what is done here.
#[derive(Debug, Clone)]
pub struct LogFolder {
    maker: SegmentMaker,
    status: Arc<LogStatus>,
}

impl LogFolder {
    pub(super) fn new(maker: SegmentMaker, status: Arc<LogStatus>) -> Self {
        Self { maker, status }
    }

    /// How the writer is.
    pub fn status(&self) -> &LogStatus {
        &self.status
    }

    /// Begins a snapshot of what all operations before `next` left, the last of them in a frame of
    /// this time: `keys` keys.
    pub fn begin_snapshot(
        &self,
        next: Lsn,
        time: Timestamp,
        keys: u64,
    ) -> Result<SnapshotWriter, SnapshotError> {
        if sabotage::is("retired-early") {
            let _ = self.retire(next);
        }
        let header = SnapshotHeader {
            log_id: self.maker.log_id,
            next,
            salt: (self.maker.entropy)(),
            time,
            keys,
        };
        SnapshotWriter::create(Arc::clone(&self.maker.fs), self.maker.name.clone(), header)
    }

    /// Has new segments leave so many bytes free.
    pub fn reserve(&self, bytes: u64) {
        self.maker.reserve.store(bytes, Ordering::Relaxed);
    }

    /// Whether the disk has room for one more segment, and for so many bytes beside it. If the
    /// system cannot tell, it has.
    pub fn has_room(&self, bytes: u64) -> bool {
        let free = self.maker.fs.free_space(self.maker.name.dir());
        free.map_or(true, |free| {
            free >= self.maker.capacity.saturating_add(bytes)
        })
    }

    /// Gives back the room of what the finished snapshot at `next` has made superfluous.
    pub fn retire(&self, next: Lsn) -> io::Result<Retired> {
        let SegmentMaker {
            fs, name, recycled, ..
        } = &self.maker;
        retire::retire(&**fs, name, next, self.status.active(), recycled)
    }

    /// Where a snapshot is.
    pub fn snapshot(&self, next: Lsn) -> PathBuf {
        self.maker.name.snapshot(next)
    }
}
