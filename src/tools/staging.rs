//! A log that gets its name only when it is whole.
//!
//! A log is many files, and no system renames several at once. So an import, or a backup, writes its
//! log beside the place, under names that no server reads ([`LogName::staging`]), and when it is
//! whole and durable renames its files one by one. What was cut short leaves one of three things:
//!
//! | what is there | what a server does that starts |
//! |---|---|
//! | files with the names of staging only | nothing of the log is there: as if it had not begun |
//! | some files renamed | refuses: each segment but the last ends in a seal, and so names the one that must follow; a snapshot needs the segment that follows it, and that one what is before it. Segments that hold everything from the first operation on need no snapshot, and are the whole log |
//! | all renamed | the log is whole |
//!
//! The next import or backup clears what the first two leave. That a file was renamed by one that
//! was cut short it tells by the log's id, which is random: it is that of the files which still
//! have the names of staging.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{ToolError, io_error, lock};
use crate::time::Timestamp;
use crate::wal::fs::{Fs, Lock, read_full_at};
use crate::wal::name::{FileKind, LogName};
use crate::wal::recovery::{self, Progress, Replay};
use crate::wal::segment::{self, SegmentHeader};
use crate::wal::snapshot::{Block, SnapshotHeader};
use crate::wal::writer::LogWriter;
use crate::wal::{LogOptions, Lsn, SyncPolicy};

/// Makes a new log at a path.
#[derive(Debug)]
pub(super) struct Staging {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    name: LogName,
    staged: LogName,
}

/// The files of the log's folder that matter here.
#[derive(Debug, Default)]
struct Found {
    /// With names of staging.
    staged: Vec<(PathBuf, FileKind)>,
    /// Renamed by an import that was cut short.
    renamed: Vec<PathBuf>,
    /// Whether there is something of another log.
    log: bool,
}

impl Staging {
    pub(super) fn new(fs: Arc<dyn Fs>, path: &Path) -> Result<Self, ToolError> {
        let name = LogName::new(path)?;
        Ok(Self {
            staged: LogName::new(&name.staging())?,
            path: path.to_path_buf(),
            name,
            fs,
        })
    }

    /// Refuses if there is a log already, or there cannot be one.
    pub(super) fn check_free(&self) -> Result<(), ToolError> {
        // A file may lie there, most likely the one that is imported, but not a folder.
        recovery::refuse_folder(&*self.fs, &self.name)?;
        self.find().map(drop)
    }

    /// Makes a log of what `write` writes; without it, or of it whole.
    pub(super) fn make<T>(
        &self,
        options: &LogOptions,
        write: impl FnOnce(&mut LogWriter) -> Result<T, ToolError>,
    ) -> Result<T, ToolError> {
        self.fill(|_| self.write(options, write))
    }

    /// Makes a log of the files that `fill` makes, durable and under the names given to it; without
    /// it, or of it whole.
    pub(super) fn fill<T>(
        &self,
        fill: impl FnOnce(&LogName) -> Result<T, ToolError>,
    ) -> Result<T, ToolError> {
        let dir = self.name.dir();
        self.fs
            .create_dir_all(dir)
            .map_err(io_error("making the folder", dir))?;
        let _log_lock = self.lock(&self.name)?;
        // Only whoever holds the log's lock comes here. Held by another one, this is of a log that
        // happens to have such a name, and its files are not ours to remove.
        drop(self.lock(&self.staged)?);
        self.clear(self.find()?)?;
        let written = fill(&self.staged).and_then(|written| {
            self.publish()?;
            Ok(written)
        });
        if written.is_err() {
            // Best effort: it gives back what room it took, and the next import would do the same.
            let _ = self.find().and_then(|found| self.clear(found));
        }
        let _ = self.fs.remove(&self.staged.lock());
        written
    }

    fn write<T>(
        &self,
        options: &LogOptions,
        write: impl FnOnce(&mut LogWriter) -> Result<T, ToolError>,
    ) -> Result<T, ToolError> {
        let options = LogOptions {
            path: self.staged.bare(),
            // Nobody is told of any of it before the close, which syncs it.
            policy: SyncPolicy::Never,
            // A segment that is being prepared at the end would be left over.
            prepare_ahead: false,
            ..options.clone()
        };
        let (mut writer, _) = recovery::open(Arc::clone(&self.fs), &options, &mut Nothing)?;
        let written = write(&mut writer)?;
        writer.close()?;
        Ok(written)
    }

    /// Gives the files their names: all of them, or else none.
    fn publish(&self) -> Result<(), ToolError> {
        let mut renamed = Vec::new();
        let mut rename = || {
            for (path, kind) in self.find()?.staged {
                let named = match kind {
                    FileKind::Segment(base) => self.name.segment(base),
                    FileKind::Snapshot(next) => self.name.snapshot(next),
                    FileKind::New(_) | FileKind::NewSnapshot(_) => continue,
                };
                self.fs
                    .rename(&path, &named)
                    .map_err(io_error("renaming", &path))?;
                renamed.push(named);
            }
            let dir = self.name.dir();
            self.fs.sync_dir(dir).map_err(io_error("syncing", dir))
        };
        let published = rename();
        if published.is_err() {
            // Best effort: if this fails too, no server starts on a part of them.
            for path in renamed {
                let _ = self.fs.remove(&path);
            }
        }
        published
    }

    /// Removes what an import left that was cut short: what was renamed first, since without the
    /// others nobody could tell what it is.
    fn clear(&self, found: Found) -> Result<(), ToolError> {
        let staged: Vec<PathBuf> = found.staged.into_iter().map(|(path, _)| path).collect();
        for paths in [found.renamed, staged] {
            for path in &paths {
                self.fs.remove(path).map_err(io_error("removing", path))?;
            }
            if !paths.is_empty() {
                let dir = self.name.dir();
                self.fs.sync_dir(dir).map_err(io_error("syncing", dir))?;
            }
        }
        Ok(())
    }

    fn find(&self) -> Result<Found, ToolError> {
        let dir = self.name.dir();
        let names = match self.fs.list(dir) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io_error("listing", dir)(error)),
        };
        let (mut found, mut named) = (Found::default(), Vec::new());
        for file in names {
            let path = dir.join(&file);
            if let Some(kind) = self.staged.parse(&file) {
                found.staged.push((path, kind));
                continue;
            }
            match self.name.parse(&file) {
                // What was not finished holds nothing.
                None | Some(FileKind::New(_) | FileKind::NewSnapshot(_)) => {}
                Some(FileKind::Segment(_) | FileKind::Snapshot(_)) => named.push(path),
            }
        }
        let ids: Vec<u64> = found
            .staged
            .iter()
            .filter_map(|(path, _)| self.log_id(path))
            .collect();
        for path in named {
            if self.log_id(&path).is_some_and(|id| ids.contains(&id)) {
                found.renamed.push(path);
            } else {
                found.log = true;
            }
        }
        if found.log {
            return Err(ToolError::LogExists {
                path: self.path.clone(),
            });
        }
        Ok(found)
    }

    /// The id of the log whose segment or snapshot this is, if it has a good header.
    fn log_id(&self, path: &Path) -> Option<u64> {
        let mut bytes = vec![0; usize::try_from(segment::HEADER_LEN).ok()?];
        let file = self.fs.open(path).ok()?;
        read_full_at(&*file, &mut bytes, 0).ok()?;
        let segment = SegmentHeader::decode(&bytes).map(|header| header.log_id);
        let snapshot = || SnapshotHeader::decode(&bytes).map(|header| header.log_id);
        segment.or_else(|_| snapshot()).ok()
    }

    fn lock(&self, name: &LogName) -> Result<Box<dyn Lock>, ToolError> {
        lock(&*self.fs, &name.lock(), &name.bare())
    }
}

/// There is nothing to read back from a log that is new.
struct Nothing;

const APPEARED: &str = "it was written while this log was made";

impl Replay for Nothing {
    fn begin_snapshot(&mut self, _: &SnapshotHeader) {}

    fn block(&mut self, _: Block) -> Result<(), String> {
        Err(APPEARED.to_owned())
    }

    fn end_snapshot(&mut self) -> Result<(), String> {
        Err(APPEARED.to_owned())
    }

    fn discard_snapshot(&mut self) {}

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn operation(&mut self, _: Lsn, _: Timestamp, _: &[u8]) -> Result<(), String> {
        Err(APPEARED.to_owned())
    }

    fn progress(&mut self, _: Progress) {}
}
