//! A log on a [`Disk`] in memory, without a server around it, and what was read back from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postres::time::Timestamp;
use postres::wal::frame::push_operation;
use postres::wal::recovery::{self, Progress, RecoveryError, Replay, Report};
use postres::wal::snapshot::{Block, SnapshotHeader};
use postres::wal::writer::{AppendError, LogWriter, Position};
use postres::wal::{LogOptions, Lsn, SyncPolicy};

use crate::disk::Disk;

/// The smallest segments there are, so that a few frames fill one.
pub const CAPACITY: u64 = 8192;

/// Where the first segment's first frame begins.
pub const FIRST_FRAME: usize = 4096;

/// Options that make the same log of the same history, every time: small segments, prepared when
/// they are needed, a clock that stands still, and salts that count.
pub fn options() -> LogOptions {
    static SALT: AtomicU64 = AtomicU64::new(0x5a17);
    LogOptions {
        segment_capacity: CAPACITY,
        prepare_ahead: false,
        retry_after: Duration::ZERO,
        clock: Arc::new(|| Timestamp(1_700_000_000_000)),
        entropy: || SALT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed),
        ..LogOptions::new("dir/wal_file")
    }
}

pub fn segment(base: u64) -> PathBuf {
    Path::new("dir").join(format!("wal_file.{base:020}.segment"))
}

/// What recovery handed over.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Replayed(pub Vec<Vec<u8>>);

impl Replay for Replayed {
    fn begin_snapshot(&mut self, _: &SnapshotHeader) {
        panic!("there is no snapshot");
    }

    fn block(&mut self, _: Block) -> Result<(), String> {
        panic!("there is no snapshot");
    }

    fn end_snapshot(&mut self) -> Result<(), String> {
        panic!("there is no snapshot");
    }

    fn discard_snapshot(&mut self) {
        panic!("there is no snapshot");
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn operation(&mut self, lsn: Lsn, _: Timestamp, bytes: &[u8]) -> Result<(), String> {
        self.0.push(bytes.to_vec());
        assert_eq!(
            lsn,
            Lsn(self.0.len() as u64),
            "positions count from 1 without a gap"
        );
        Ok(())
    }

    fn progress(&mut self, progress: Progress) {
        assert!(progress.done <= progress.total);
    }
}

pub type Opened = Result<(LogWriter, Report, Vec<Vec<u8>>), RecoveryError>;

pub fn open_with(disk: &Disk, options: &LogOptions) -> Opened {
    let mut replayed = Replayed::default();
    let (writer, report) = recovery::open(Arc::new(disk.clone()), options, &mut replayed)?;
    Ok((writer, report, replayed.0))
}

pub fn open(disk: &Disk) -> Opened {
    open_with(disk, &options())
}

/// Opens a log that must open, only to see what it holds; leaves it without a close frame.
pub fn contents(disk: &Disk) -> Vec<Vec<u8>> {
    open(disk).expect("the log opens").2
}

/// Appends each of `operations` as a frame of its own.
pub fn append(writer: &mut LogWriter, operation: &[u8]) -> Result<Position, AppendError> {
    let mut body = Vec::new();
    push_operation(&mut body, |out| out.extend_from_slice(operation));
    writer.append(1, [body.as_slice()])
}

/// A disk with a log of these operations, a frame each, as a crash right behind the last sync
/// leaves it.
pub fn disk_with(operations: &[Vec<u8>]) -> Disk {
    disk_with_policy(operations, SyncPolicy::Always)
}

pub fn disk_with_policy(operations: &[Vec<u8>], policy: SyncPolicy) -> Disk {
    let disk = Disk::default();
    let (mut writer, ..) = open_with(
        &disk,
        &LogOptions {
            policy,
            ..options()
        },
    )
    .unwrap();
    for operation in operations {
        append(&mut writer, operation).unwrap();
    }
    disk
}

/// `count` operations of `len` bytes, each different.
pub fn operations(count: usize, len: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| format!("{n:0len$}").into_bytes())
        .collect()
}
