//! Why a log is not opened.

use std::io;
use std::path::{Path, PathBuf};

use crate::wal::Lsn;
use crate::wal::frame::FrameError;
use crate::wal::fs::LockError;
use crate::wal::name::BadLogName;
use crate::wal::segment::HeaderError;

/// Why a log was not opened. Each says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The path cannot name a log.
    #[error(transparent)]
    Name(#[from] BadLogName),
    /// Another server uses the log, or the lock file cannot be made.
    #[error("cannot lock the log {}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: LockError,
    },
    /// The file system failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder lies where the log would begin.
    #[error(
        "{0} is a folder, and -wal takes the first part of the log's file names as well: for a log in this folder, \
         -wal {0}/wal_file",
        path.display()
    )]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// Something else lies where the log would begin.
    #[error(
        "{0} is a file that this postres did not write, and starting an empty log over it would hide it: \
         if it is a log of post-go-res, `postres log import {0} -wal {0}` takes it over; if not, move it away, \
         or choose another -wal",
        path.display()
    )]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// A segment's header is no good.
    #[error("{}: {cause}. {RESTORE}", path.display())]
    Header {
        /// The segment.
        path: PathBuf,
        /// What is wrong.
        cause: HeaderError,
    },
    /// A segment is not where it belongs.
    #[error("{} does not belong here: its header says that it {says}. {RESTORE}", path.display())]
    Misplaced {
        /// The segment.
        path: PathBuf,
        /// What its header says.
        says: String,
    },
    /// Operations are missing between two files, or before the first.
    #[error("the log's operations {from} to {to} are missing: no file before {} holds them. {RESTORE}", path.display())]
    Gap {
        /// First missing position.
        from: Lsn,
        /// Last missing position.
        to: Lsn,
        /// The file behind the gap.
        path: PathBuf,
    },
    /// A segment is sealed, and its successor is not there.
    #[error("{} is missing: the segment before it says that the log goes on there. {RESTORE}", path.display())]
    MissingSegment {
        /// The missing file.
        path: PathBuf,
    },
    /// No segment holds what follows the snapshot, or the last ones are gone.
    #[error("the log behind the snapshot {} is missing: no file holds operation {}, which came right before it, and what may have followed. {RESTORE}", snapshot.display(), next.0.saturating_sub(1))]
    EndMissing {
        /// The snapshot.
        snapshot: PathBuf,
        /// Where the log goes on behind it.
        next: Lsn,
    },
    /// A snapshot is damaged, and what else is there does not make up for it.
    #[error("{reason}; and without this snapshot the log is not complete: {missing}. {RESTORE}")]
    BrokenSnapshot {
        /// What is wrong with the snapshot.
        reason: String,
        /// What is missing without it.
        missing: String,
    },
    /// Bytes that were durable once are no longer what they were.
    #[error("{} is damaged at offset {offset} (operation {lsn}): {cause}, and {witness} shows that it was whole once. {RESTORE}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the bad frame begins.
        offset: u64,
        /// The LSN it should have.
        lsn: Lsn,
        /// What is wrong with it.
        cause: FrameError,
        /// What proves that this is no torn tail.
        witness: String,
    },
    /// A frame or an operation is whole, and impossible.
    #[error("{} holds at offset {offset} what no postres of this version writes: {reason}. {RESTORE}", path.display())]
    Impossible {
        /// The segment.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
        /// What is impossible about it.
        reason: String,
    },
}

const RESTORE: &str = "Nothing was changed. Bring the file back from a copy, or move all files of this log away to start empty";

pub(super) fn io_error(doing: &'static str, path: &Path, source: io::Error) -> RecoveryError {
    RecoveryError::Io {
        doing,
        path: path.to_path_buf(),
        source,
    }
}
