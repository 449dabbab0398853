//! What tools that work on a log have in common: it is there, no server has it, and what it holds
//! can be read by this version.

use std::io;
use std::path::Path;

use super::error::{ToolError, io_error, lock};
use crate::command::{Operation, Record};
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::fs::{Fs, Lock};
use crate::wal::name::{Files, LogName};
use crate::wal::recovery::{self, Progress, Replay};
use crate::wal::snapshot::{Block, SnapshotHeader};

/// The files of the log at `path`, which must be there: nothing is made where there is none.
pub(super) fn files(fs: &dyn Fs, name: &LogName) -> Result<Files, ToolError> {
    recovery::refuse_folder(fs, name)?;
    let files = match name.files(fs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Files::default(),
        files => files.map_err(io_error("listing", name.dir()))?,
    };
    if files.segments.is_empty() && files.snapshots.is_empty() {
        return Err(ToolError::NoLog { path: name.bare() });
    }
    Ok(files)
}

/// Locks the log at `path`, which must be there.
pub(super) fn lock_existing(fs: &dyn Fs, path: &Path) -> Result<Box<dyn Lock>, ToolError> {
    let name = LogName::new(path)?;
    files(fs, &name)?;
    lock(fs, &name.lock(), path)
}

/// Decodes everything, and keeps only counts.
#[derive(Debug, Default)]
pub(super) struct Decoding {
    /// Keys in the newest whole snapshot.
    pub(super) keys: u64,
    /// The snapshot that is being read, and how many keys of it were.
    reading: Option<(SnapshotHeader, u64)>,
}

impl Replay for Decoding {
    fn begin_snapshot(&mut self, header: &SnapshotHeader) {
        self.reading = Some((*header, 0));
    }

    fn block(&mut self, block: Block) -> Result<(), String> {
        for bytes in block.records() {
            let record = Record::decode(bytes).map_err(|error| error.to_string())?;
            if let (Record::Entry { .. }, Some((_, keys))) = (record, &mut self.reading) {
                *keys += 1;
            }
        }
        Ok(())
    }

    fn end_snapshot(&mut self) -> Result<(), String> {
        if let Some((header, keys)) = self.reading.take() {
            header.check_keys(keys)?;
            self.keys = keys;
        }
        Ok(())
    }

    fn discard_snapshot(&mut self) {}

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn operation(&mut self, _: Lsn, _: Timestamp, bytes: &[u8]) -> Result<(), String> {
        let decoded = Operation::decode(bytes);
        decoded.map(drop).map_err(|error| error.to_string())
    }

    fn progress(&mut self, _: Progress) {}
}
