//! The names of the log's files: the one place that builds them and the one that reads them.
//!
//! With `-wal ./wal_files/wal_file` the folder holds
//!
//! | name | what it is |
//! |---|---|
//! | `wal_file.00000000000000000001.segment` | a segment; the number is the LSN it begins at, so names sort in log order |
//! | `wal_file.00000000000000000001.segment.new` | a segment being prepared; worthless after a crash |
//! | `wal_file.00000000000000000001.torn-8192-1` | what was cut from that segment at that offset, the first time |
//! | `wal_file.00000000000000000042.snapshot` | what all operations before this position left; sorts before the segment that begins there |
//! | `wal_file.00000000000000000042.snapshot.new` | a snapshot being written; worthless after a crash |
//! | `wal_file.lock` | held by the server that uses the log |
//! | `wal_file.import-unfinished.*` | the same files, of a log that is being imported or copied; worthless after a crash |

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::Lsn;
use super::fs::Fs;

const SEGMENT: &str = "segment";
const NEW: &str = "segment.new";
const TORN: &str = "torn-";
const SNAPSHOT: &str = "snapshot";
const NEW_SNAPSHOT: &str = "snapshot.new";
const STAGING: &str = "import-unfinished";
/// Enough for any `u64`, so that names of equal length sort as their numbers do.
const DIGITS: usize = 20;

/// The folder and the common first part of all names of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogName {
    dir: PathBuf,
    stem: String,
}

/// What a name in the log's folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A segment that begins at this LSN.
    Segment(Lsn),
    /// A segment that was still being prepared.
    New(Lsn),
    /// A snapshot of all before this LSN.
    Snapshot(Lsn),
    /// A snapshot that was still being written.
    NewSnapshot(Lsn),
}

/// The files of a log, each kind in the order of the log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Files {
    /// Segments, by the LSN they begin at.
    pub segments: Vec<Lsn>,
    /// Snapshots, by the LSN at which the log goes on.
    pub snapshots: Vec<Lsn>,
    /// Segments and snapshots that were never finished.
    pub unfinished: Vec<PathBuf>,
}

/// The path given with `-wal` cannot name a log.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} does not end in a file name (in UTF-8) that a log's files could begin with")]
pub struct BadLogName(PathBuf);

impl LogName {
    /// Splits the path given with `-wal` into folder and stem.
    pub fn new(path: &Path) -> Result<Self, BadLogName> {
        let ends_in_separator = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        let stem = path
            .file_name()
            .and_then(OsStr::to_str)
            .filter(|_| !ends_in_separator);
        let Some(stem) = stem else {
            return Err(BadLogName(path.to_path_buf()));
        };
        let dir = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        Ok(Self {
            dir,
            stem: stem.to_owned(),
        })
    }

    /// The folder that holds the log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path as given: nothing of ours lies there, but the original's text log would.
    pub fn bare(&self) -> PathBuf {
        self.dir.join(&self.stem)
    }

    /// The path of the log that an import or a backup writes before it is given this one's name. Its files are
    /// none of this log's.
    pub fn staging(&self) -> PathBuf {
        self.join(STAGING)
    }

    /// The lock file.
    pub fn lock(&self) -> PathBuf {
        self.join("lock")
    }

    /// The segment that begins at `base`.
    pub fn segment(&self, base: Lsn) -> PathBuf {
        self.join(&format!("{base:0DIGITS$}.{SEGMENT}"))
    }

    /// Where the segment that begins at `base` is prepared, before it gets its name.
    pub fn new_segment(&self, base: Lsn) -> PathBuf {
        self.join(&format!("{base:0DIGITS$}.{NEW}"))
    }

    /// The snapshot behind which the log goes on at `next`.
    pub fn snapshot(&self, next: Lsn) -> PathBuf {
        self.join(&format!("{next:0DIGITS$}.{SNAPSHOT}"))
    }

    /// Where that snapshot is written, before it gets its name.
    pub fn new_snapshot(&self, next: Lsn) -> PathBuf {
        self.join(&format!("{next:0DIGITS$}.{NEW_SNAPSHOT}"))
    }

    /// The files of this log that are in its folder.
    pub fn files(&self, fs: &dyn Fs) -> io::Result<Files> {
        let mut files = Files::default();
        for name in fs.list(&self.dir)? {
            match self.parse(&name) {
                Some(FileKind::Segment(base)) => files.segments.push(base),
                Some(FileKind::Snapshot(next)) => files.snapshots.push(next),
                Some(FileKind::New(_) | FileKind::NewSnapshot(_)) => {
                    files.unfinished.push(self.dir.join(name));
                }
                None => {}
            }
        }
        files.segments.sort_unstable();
        files.snapshots.sort_unstable();
        files.unfinished.sort_unstable();
        Ok(files)
    }

    /// Where the bytes are kept that were cut from a segment at `offset`, the `nth` time (from 1).
    pub fn torn(&self, base: Lsn, offset: u64, nth: u32) -> PathBuf {
        self.join(&format!("{base:0DIGITS$}.{TORN}{offset}-{nth}"))
    }

    /// What `name`, found in the folder, is; `None` for what is not part of this log.
    pub fn parse(&self, name: &OsStr) -> Option<FileKind> {
        let rest = name.to_str()?.strip_prefix(&self.stem)?.strip_prefix('.')?;
        let (digits, kind) = rest.split_once('.')?;
        if digits.len() != DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let base = Lsn(digits.parse().ok()?);
        match kind {
            SEGMENT => Some(FileKind::Segment(base)),
            NEW => Some(FileKind::New(base)),
            SNAPSHOT => Some(FileKind::Snapshot(base)),
            NEW_SNAPSHOT => Some(FileKind::NewSnapshot(base)),
            _ => None,
        }
    }

    fn join(&self, end: &str) -> PathBuf {
        self.dir.join(format!("{}.{end}", self.stem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> LogName {
        LogName::new(Path::new("some/dir/wal_file")).unwrap()
    }

    #[test]
    fn every_name_reads_back_as_what_it_was_built_for() {
        for base in [1, 9, 10, u64::MAX].map(Lsn) {
            let segment = log().segment(base);
            assert_eq!(
                log().parse(segment.file_name().unwrap()),
                Some(FileKind::Segment(base))
            );
            for (path, kind) in [
                (log().new_segment(base), FileKind::New(base)),
                (log().snapshot(base), FileKind::Snapshot(base)),
                (log().new_snapshot(base), FileKind::NewSnapshot(base)),
            ] {
                assert_eq!(log().parse(path.file_name().unwrap()), Some(kind));
            }
        }
    }

    #[test]
    fn names_sort_as_their_positions_do() {
        let mut names = [100, 9, 10, u64::MAX, 1].map(|n| log().segment(Lsn(n)));
        names.sort();
        assert_eq!(
            names,
            [1, 9, 10, 100, u64::MAX].map(|n| log().segment(Lsn(n)))
        );
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        for name in [
            "wal_file",
            "wal_file.lock",
            "wal_file.1.segment",
            "wal_file.00000000000000000001.segment.bak",
            "wal_file.99999999999999999999.segment",
            "wal_file.+0000000000000000001.segment",
            "wal_file.00000000000000000001.torn-17",
            "wal_file2.00000000000000000001.segment",
            "other.00000000000000000001.segment",
            "wal_file.import-unfinished.00000000000000000001.segment",
        ] {
            assert_eq!(log().parse(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn a_path_without_a_file_name_is_refused() {
        for path in ["", "/", "..", "dir/.."] {
            assert!(LogName::new(Path::new(path)).is_err(), "{path:?}");
        }
        assert!(LogName::new(Path::new("dir/")).is_err());
        assert_eq!(
            LogName::new(Path::new("wal")).unwrap().dir(),
            Path::new(".")
        );
    }
}
