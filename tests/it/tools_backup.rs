//! `postres log backup`: a copy that a server starts on, also of a log that is being written.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io};

use postres::tools::backup::backup;
use postres::wal::Lsn;
use postres::wal::fs::{Fs, FsFile, Lock, LockError};

use crate::cli::assert_refused;
use crate::disk::Disk;
use crate::support::log::{FIRST_FRAME, segment};
use crate::support::process::{Server, binary, file_names, segments, wal_path};
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

/// A disk on which a server takes a segment to write another over it, just as it is read the first
/// time: what is read ends in zeros, and the name is gone. Then the name is there, and the segment
/// whole, as if the server had gone on.
#[derive(Debug)]
struct Recycling {
    disk: Disk,
    segment: PathBuf,
    opened: AtomicU64,
    looked: AtomicU64,
}

impl Fs for Recycling {
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        if path == self.segment && self.opened.fetch_add(1, Ordering::Relaxed) == 0 {
            let mut bytes = self.disk.files()[path].clone();
            bytes[FIRST_FRAME + 1000..].fill(0);
            let other = Disk::default();
            other.put(path, bytes);
            return other.open(path);
        }
        self.disk.open(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        if path == self.segment && self.looked.fetch_add(1, Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        self.disk.file_len(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(dir)
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

#[test]
fn a_segment_that_is_written_anew_while_it_is_read_is_read_again() {
    let disk = disk_with_sets(8);
    let fs: Arc<dyn Fs> = Arc::new(Recycling {
        disk: disk.clone(),
        segment: segment(1),
        opened: AtomicU64::new(0),
        looked: AtomicU64::new(0),
    });
    let copied = backup(&fs, Path::new("dir/wal_file"), Path::new("dir/copy")).unwrap();
    assert_eq!(copied.last, Some(Lsn(8)));
    let there = disk.files()[Path::new("dir/copy/wal_file.00000000000000000001.segment")].clone();
    assert!(there == disk.files()[&segment(1)]);
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
