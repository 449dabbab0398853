//! `postres log backup`: a copy that a server starts on, also of a log that is being written.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io};

use postres::tools::ToolError;
use postres::tools::backup::{BackedUp, backup};
use postres::wal::Lsn;
use postres::wal::fs::{Fs, FsFile, Lock, LockError};
use postres::wal::recovery::RecoveryError;

use crate::cli::assert_refused;
use crate::disk::Disk;
use crate::support::log::{FIRST_FRAME, segment};
use crate::support::process::{Server, binary, eventually, file_names, segments, wal_path};
use crate::tools::{disk_with_sets, done, frozen, log};

/// Starts a server on the copy in `dir`, which must have nothing to mend, and asks it.
fn on_copy(dir: &Path, ask: impl FnOnce(&mut crate::support::client::Client)) {
    let mut command = binary(dir);
    command.args(["-port", "0", "-segment-mib", "1", "-wal"]);
    command.arg(wal_path(dir));
    let server = Server::spawn(command);
    assert!(!server.stderr().contains("WARN"), "{}", server.stderr());
    assert!(!server.stderr().contains("removed"), "{}", server.stderr());
    ask(&mut server.connect());
    server.stop();
}

#[test]
fn a_stopped_log_is_copied_and_dumps_the_same() {
    let dir = frozen();
    let (stdout, _) = done(dir.path(), &["backup", "a/copy", "-wal", "wal_file"]);
    assert!(
        stdout.contains("copied 2 files") && stdout.contains("up to operation 132, into a/copy"),
        "{stdout}"
    );
    let copy = dir.path().join("a/copy");
    let (here, _) = done(dir.path(), &["dump", "-wal", "wal_file"]);
    let (there, _) = done(&copy, &["dump", "-wal", "wal_file"]);
    assert_eq!(here, there);
    let mut names = segments(dir.path());
    names.push("wal_file.lock".to_owned());
    assert_eq!(file_names(&copy), names, "nothing else is left there");
    // A second one does not go over the first, nor over the log itself.
    for to in ["a/copy", "."] {
        let output = log(dir.path(), &["backup", to, "-wal", "wal_file"]);
        assert_refused(&output, 1, &["there is a log at", "already"]);
    }
}

#[test]
fn a_damaged_log_is_not_copied() {
    let dir = frozen();
    let path = dir.path().join(&segments(dir.path())[0]);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(10).position(|w| w == b"with:equal").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let output = log(dir.path(), &["backup", "copy", "-wal", "wal_file"]);
    assert_refused(&output, 1, &["could not be copied", "postres log check"]);
    let copy = dir.path().join("copy");
    assert_eq!(segments(&copy), [""; 0]);
}

/// The last segment was lost, and the copy was said to be good: the seal that speaks of it was left
/// out as that of a server which goes on.
#[test]
fn a_log_whose_last_segment_is_missing_is_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-compact-percent", "0"]);
    let (mut client, value) = (server.connect(), "v".repeat(100_000));
    for n in 0..25 {
        assert_eq!(client.request(&format!("SET key:{n} {value}")), "+OK");
    }
    server.kill();
    let last = segments(dir.path()).pop().unwrap();
    fs::remove_file(dir.path().join(&last)).unwrap();
    let missing =
        format!("{last} is missing: the segment before it says that the log goes on there");
    let check = log(dir.path(), &["check", "-wal", "wal_file"]);
    assert!(String::from_utf8(check.stdout).unwrap().contains(&missing));
    let output = log(dir.path(), &["backup", "copy", "-wal", "wal_file"]);
    assert_refused(&output, 1, &[&missing]);
    assert_eq!(segments(&dir.path().join("copy")), [""; 0]);
}

#[test]
fn what_a_crash_cut_short_is_not_copied_and_what_is_before_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    for n in 0..3 {
        assert_eq!(client.request(&format!("SET key:{n} 1")), "+OK");
    }
    server.kill();
    let path = dir.path().join(&segments(dir.path())[0]);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|w| w == b"key:2").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    done(dir.path(), &["backup", "copy", "-wal", "wal_file"]);
    on_copy(&dir.path().join("copy"), |client| {
        assert_eq!(client.request("EXISTS key:0 key:1 key:2"), "+OK 2");
    });
}

/// A disk that a server changes at a moment that is chosen.
#[derive(Debug)]
struct Running {
    disk: Disk,
    does: Does,
    times: AtomicU64,
}

/// What the server does.
#[derive(Debug, PartialEq, Eq)]
enum Does {
    /// It takes a segment to write another over it, just as it is read the first time: what is read
    /// ends in zeros, and the name is gone. Then the name is there, and the segment whole, as if the
    /// server had gone on.
    Recycle(PathBuf),
    /// It makes a segment right behind each listing. So often it is not there when it is looked for,
    /// as if a snapshot had made it superfluous already.
    Make(PathBuf, u64),
}

impl Running {
    fn count(&self) -> u64 {
        self.times.fetch_add(1, Ordering::Relaxed)
    }
}

impl Fs for Running {
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        if matches!(&self.does, Does::Recycle(segment) if segment == path) && self.count() == 0 {
            let mut bytes = self.disk.files()[path].clone();
            bytes[FIRST_FRAME + 1000..].fill(0);
            let other = Disk::default();
            other.put(path, bytes);
            return other.open(path);
        }
        self.disk.open(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        let gone = match &self.does {
            // It was opened before.
            Does::Recycle(segment) => segment == path && self.count() == 1,
            Does::Make(segment, times) => segment == path && self.count() < *times,
        };
        if gone {
            return Ok(None);
        }
        self.disk.file_len(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let mut names = self.disk.list(dir)?;
        if let Does::Make(segment, _) = &self.does {
            names.retain(|name| Some(&**name) != segment.file_name());
        }
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.disk.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_space(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        self.disk.lock(path)
    }
}

/// Copies a log of so many operations from a disk on which a server does this.
fn copied(count: usize, does: Does) -> (Disk, Result<BackedUp, ToolError>) {
    let disk = disk_with_sets(count);
    let fs: Arc<dyn Fs> = Arc::new(Running {
        disk: disk.clone(),
        does,
        times: AtomicU64::new(0),
    });
    let copied = backup(&fs, Path::new("dir/wal_file"), Path::new("dir/copy"));
    (disk, copied)
}

#[test]
fn a_segment_that_is_written_anew_while_it_is_read_is_read_again() {
    let (disk, copied) = copied(8, Does::Recycle(segment(1)));
    assert_eq!(copied.unwrap().last, Some(Lsn(8)));
    let there = disk.files()[Path::new("dir/copy/wal_file.00000000000000000001.segment")].clone();
    assert!(there == disk.files()[&segment(1)]);
}

#[test]
fn a_copy_ends_at_a_seal_only_while_the_segment_behind_it_is_there() {
    let second = disk_with_sets(15).files().into_keys().last().unwrap();
    for times in [0, 1] {
        let (disk, made) = copied(15, Does::Make(second.clone(), times));
        let last = made.unwrap().last.unwrap();
        assert_eq!(
            second,
            segment(last.0 + 1),
            "the copy has the first segment"
        );
        let copy = disk.files().into_keys();
        assert_eq!(copy.filter(|path| path.starts_with("dir/copy")).count(), 1);
    }
    let (_, missing) = copied(15, Does::Make(second.clone(), u64::MAX));
    assert!(
        matches!(&missing, Err(ToolError::Log(RecoveryError::MissingSegment { path })) if *path == second),
        "{missing:?}"
    );
}

#[test]
fn backups_of_a_server_under_load_hold_every_write_acknowledged_before_they_began() {
    const WRITERS: usize = 3;
    const BACKUPS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "-compact-mib",
        "0",
        "-compact-percent",
        "1",
        "-fsync",
        "never",
    ];
    let server = Server::start(dir.path(), &args);
    let (stop, value) = (AtomicBool::new(false), "v".repeat(20_000));
    let acknowledged: [AtomicU64; WRITERS] = Default::default();
    // For each backup, what each writer had been told before it began.
    let mut before = Vec::new();
    std::thread::scope(|scope| {
        for (writer, count) in acknowledged.iter().enumerate() {
            let (server, stop, value) = (&server, &stop, &value);
            scope.spawn(move || {
                let mut client = server.connect();
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let line = format!("SET {writer}:{} {n}:{value}", n % 50);
                    assert_eq!(client.request(&line), "+OK");
                    assert_eq!(client.request(&format!("SET last:{writer} {n}")), "+OK");
                    count.store(n, Ordering::Release);
                }
            });
        }
        scope.spawn(|| {
            let mut client = server.connect();
            while !stop.load(Ordering::Relaxed) {
                // One may be running already.
                client.request("BGSAVE");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // Ends the others also if this panics.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // From here on there is always one.
            let compacted = || {
                let names = file_names(dir.path());
                names.iter().any(|name| name.ends_with(".snapshot"))
            };
            assert!(eventually(compacted), "no snapshot is written");
            for backup in 0..BACKUPS {
                let told = acknowledged.each_ref().map(|n| n.load(Ordering::Acquire));
                let to = format!("copy-{backup}");
                done(dir.path(), &["backup", &to, "-wal", "wal_file"]);
                before.push(told);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    server.stop();
    let mut snapshots = 0;
    for (backup, told) in before.into_iter().enumerate() {
        let copy = dir.path().join(format!("copy-{backup}"));
        let names = file_names(&copy);
        assert!(!names.iter().any(|name| name.contains("unfinished")));
        snapshots += names.iter().filter(|n| n.ends_with(".snapshot")).count();
        on_copy(&copy, |client| {
            for (writer, count) in told.into_iter().enumerate() {
                let last = client.request(&format!("GET last:{writer}"));
                let last: u64 = last.trim_start_matches("+OK ").parse().unwrap_or(0);
                assert!(last >= count, "writer {writer}: {last} of {count}");
                for n in count.saturating_sub(40).max(1)..=count {
                    let found = client.request(&format!("GET {writer}:{}", n % 50));
                    let found = found.trim_start_matches("+OK ").split(':').next().unwrap();
                    assert!(
                        found.parse::<u64>().unwrap() >= n,
                        "{writer}: {found} of {n}"
                    );
                }
            }
        });
    }
    assert!(snapshots > BACKUPS / 2, "the log was compacted meanwhile");
}
