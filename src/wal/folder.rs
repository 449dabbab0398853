//! The folder of an open log, for whoever writes snapshots into it beside the writer.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::Lsn;
use super::retire::{self, Retired};
use super::room::Reserve;
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

    /// What the log leaves free on the disk.
    pub fn reserve(&self) -> &Reserve {
        &self.maker.reserve
    }

    /// Whether the disk has room for some more segments, and for so many bytes beside them: more than
    /// the log asks for before it makes one. If the system cannot tell, it has.
    pub fn has_room(&self, bytes: u64) -> bool {
        const SEGMENTS: u64 = 4;
        let free = self.maker.fs.free_space(self.maker.name.dir());
        let segments = self.maker.capacity.saturating_mul(SEGMENTS);
        free.map_or(true, |free| free >= segments.saturating_add(bytes))
    }

    /// How many bytes a snapshot at `next` gives back once it is finished. What cannot be looked at
    /// is not counted.
    pub fn superfluous_before(&self, next: Lsn) -> u64 {
        let SegmentMaker { fs, name, .. } = &self.maker;
        let paths = retire::superseded(&**fs, name, next, self.status.active());
        let paths = paths.unwrap_or_default();
        let len = |path: &PathBuf| fs.open(path).and_then(|file| file.len()).unwrap_or(0);
        let given_back: u64 = paths.iter().map(len).sum();
        // One segment is kept, to be written anew.
        given_back.saturating_sub(self.maker.capacity)
    }

    /// Gives back the room of what the finished snapshot at `next` has made superfluous.
    pub fn retire(&self, next: Lsn) -> io::Result<Retired> {
        let SegmentMaker {
            fs,
            name,
            recycled,
            capacity,
            ..
        } = &self.maker;
        let active = self.status.active();
        retire::retire(&**fs, name, next, active, (recycled, *capacity))
    }

    /// Where a snapshot is.
    pub fn snapshot(&self, next: Lsn) -> PathBuf {
        self.maker.name.snapshot(next)
    }
}
