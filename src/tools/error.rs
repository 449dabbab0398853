//! Why a tool did not do what it was asked for.

use std::io;
use std::path::{Path, PathBuf};

use crate::wal::fs::{Fs, Lock, LockError};
use crate::wal::name::BadLogName;
use crate::wal::recovery::RecoveryError;
use crate::wal::writer::AppendError;

/// Why a tool did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The log's files are not what they should be, or cannot be read.
    #[error(transparent)]
    Log(#[from] RecoveryError),
    /// There is nothing to work on.
    #[error("there is no log at {}", path.display())]
    NoLog {
        /// The path given with `-wal`.
        path: PathBuf,
    },
    /// There is a log where a new one was to be made.
    #[error("there is a log at {} already, and a new one is to be made: choose another place, or move its files away", path.display())]
    LogExists {
        /// Where it would be.
        path: PathBuf,
    },
    /// Not all of a log is what it should be.
    #[error("the log at {} is damaged in {places} {}: {}", path.display(), if *places == 1 { "place" } else { "places" }, if *starts { "a server starts without what is damaged, since it is not needed" } else { "a server would not start" })]
    Damaged {
        /// The path given with `-wal`.
        path: PathBuf,
        /// How many places were told.
        places: usize,
        /// Whether a server would start.
        starts: bool,
    },
    /// A log was changed by a server whenever it was copied, or is damaged.
    #[error("the log at {} could not be copied: whenever it was tried, {reason}. If no server runs on it, `postres log check` tells what is damaged", path.display())]
    Moving {
        /// The path given with `-wal`.
        path: PathBuf,
        /// What was in the way, the last time.
        reason: String,
    },
    /// A copy was read back, and a server would not start on it.
    #[error("the copy is not good, and was removed: {reason}")]
    BadCopy {
        /// What is wrong with it.
        reason: String,
    },
    /// A server runs on these files.
    #[error("the log at {} is in use{}: stop the server first", path.display(), holder.as_ref().map(|holder| format!(" (process {holder})")).unwrap_or_default())]
    InUse {
        /// The path given with `-wal`.
        path: PathBuf,
        /// The server's process id, where the lock file tells it.
        holder: Option<u32>,
    },
    /// The file that is to be imported cannot be read.
    #[error("cannot read {}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not every line of the file has one meaning.
    #[error("{count} of the lines of {} cannot be read for sure, so nothing was imported: --skip-unclear imports the others", path.display())]
    Unclear {
        /// The file.
        path: PathBuf,
        /// How many lines.
        count: u64,
    },
    /// The file was not the same when it was read again.
    #[error("{} was changed while it was read, so nothing was imported: stop the server that writes it first", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The new log cannot be written.
    #[error("{0}; nothing was imported")]
    Append(#[from] AppendError),
    /// What was asked for cannot be written out.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl From<BadLogName> for ToolError {
    fn from(error: BadLogName) -> Self {
        Self::Log(error.into())
    }
}

/// The file system failed at a file of the log.
pub(super) fn io_error(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> ToolError + use<> {
    let path = path.to_path_buf();
    move |source| {
        ToolError::Log(RecoveryError::Io {
            doing,
            path,
            source,
        })
    }
}

/// Takes the lock of the log at `path`.
pub(super) fn lock(fs: &dyn Fs, file: &Path, path: &Path) -> Result<Box<dyn Lock>, ToolError> {
    fs.lock(file).map_err(|error| match error {
        LockError::Held { holder } => ToolError::InUse {
            path: path.to_path_buf(),
            holder,
        },
        source @ LockError::Io(_) => ToolError::Log(RecoveryError::Locked {
            path: file.to_path_buf(),
            source,
        }),
    })
}
