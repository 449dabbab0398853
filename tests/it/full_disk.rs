//! A disk that is really full: the real process on a file system of 64 MiB.
//!
//! `just full-disk` runs these, in a mount namespace of their own where that takes no root.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::process::{Server, binary, eventually, file_names, segments, wal_path};

/// A small file system, for as long as this lives.
struct SmallDisk {
    dir: PathBuf,
    _below: tempfile::TempDir,
}

impl SmallDisk {
    const BYTES: u64 = 64 << 20;

    fn mount() -> Self {
        let below = tempfile::tempdir().unwrap();
        let dir = below.path().join("disk");
        fs::create_dir(&dir).unwrap();
        let size = format!("size={}", Self::BYTES);
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(&dir)
            .status()
            .expect("mount is installed");
        assert!(
            mounted.success(),
            "nothing can be mounted: run it as root, or by just full-disk"
        );
        Self { dir, _below: below }
    }

    fn garbage(&self) -> PathBuf {
        self.dir.join("garbage")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(self.garbage())
            .unwrap();
        for chunk in [1 << 20, 4096, 1] {
            let chunk = vec![0xaa; chunk];
            let error = loop {
                if let Err(error) = file.write_all(&chunk) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
    }

    fn free(&self) {
        fs::remove_file(self.garbage()).unwrap();
    }

    fn serve(&self, args: &[&str]) -> Server {
        let mut command = binary(&self.dir);
        command.args(["-port", "0", "-segment-mib", "4", "-wal"]);
        command.arg(wal_path(&self.dir)).args(args);
        Server::spawn(command)
    }

    /// Bytes of the log's files, by their lengths.
    fn log_len(&self) -> u64 {
        let names = file_names(&self.dir).into_iter();
        let log = names.filter(|name| name.starts_with("wal_file."));
        // One that is removed meanwhile takes no room.
        log.filter_map(|name| fs::metadata(self.dir.join(name)).ok())
            .map(|metadata| metadata.len())
            .sum()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}

/// What was acknowledged.
type Acknowledged = BTreeMap<String, String>;

fn value(n: usize, len: usize) -> String {
    format!("{n}:{}", "x".repeat(len))
}

/// SETs until one is refused; says of which key, and with what words.
fn write_until_refused(client: &mut Client, acknowledged: &mut Acknowledged) -> (String, String) {
    let from = acknowledged.len();
    for n in from..from + 100_000 {
        let (key, value) = (format!("key:{n}"), value(n, 3000));
        let reply = client.request(&format!("SET {key} {value}"));
        if reply != "+OK" {
            return (key, reply);
        }
        acknowledged.insert(key, value);
    }
    panic!("300 MB fit on a disk of 64 MiB");
}

#[track_caller]
fn assert_out_of_room(reply: &str) {
    let told = reply.starts_with("-MISCONF") && reply.contains("No space left");
    assert!(told, "{reply}");
}

#[track_caller]
fn assert_all_there(client: &mut Client, acknowledged: &Acknowledged) {
    assert_eq!(
        client.request("DBSIZE"),
        format!("+OK {}", acknowledged.len())
    );
    for (key, value) in acknowledged {
        assert_eq!(
            client.request(&format!("GET {key}")),
            format!("+OK {value}")
        );
    }
}

/// How long it takes until writes are accepted.
fn resumed(client: &mut Client, key: &str) -> Duration {
    let begun = Instant::now();
    while client.request(&format!("SET {key} again")) != "+OK" {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "writes do not resume"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    begun.elapsed()
}

#[test]
#[ignore = "mounts a file system: just full-disk"]
fn a_full_disk_refuses_writes_loses_none_starts_again_and_takes_more_once_there_is_room() {
    let disk = SmallDisk::mount();
    let server = disk.serve(&[]);
    let mut client = server.connect();
    let mut acknowledged = Acknowledged::new();
    for n in 0..2000 {
        let (key, value) = (format!("key:{n}"), value(n, 1000));
        assert_eq!(client.request(&format!("SET {key} {value}")), "+OK");
        acknowledged.insert(key, value);
    }
    disk.fill();
    let (refused, reply) = write_until_refused(&mut client, &mut acknowledged);
    println!("refused behind {} keys: {reply}", acknowledged.len());
    assert_out_of_room(&reply);
    // Reads go on, and what was refused is not there.
    assert_eq!(client.request(&format!("EXISTS {refused}")), "+OK 0");
    assert_all_there(&mut client, &acknowledged);
    // What was asked for and cannot be is told, and does no harm.
    let saved = client.request("SAVE");
    println!("SAVE: {saved}");
    assert!(
        saved.starts_with('-') && saved.contains("No space left"),
        "{saved}"
    );

    // As full as before, a killed server starts again; as often as anyone likes.
    let said = server.killed();
    assert!(said.contains("reads go on, writes are refused"), "{said}");
    disk.fill();
    for _ in 0..3 {
        let server = disk.serve(&[]);
        let mut client = server.connect();
        assert_all_there(&mut client, &acknowledged);
        server.kill();
        disk.fill();
    }
    let server = disk.serve(&[]);
    let mut client = server.connect();
    let (refused, reply) = write_until_refused(&mut client, &mut acknowledged);
    assert_out_of_room(&reply);
    assert_all_there(&mut client, &acknowledged);

    disk.free();
    let took = resumed(&mut client, &refused);
    println!("writes resumed {took:?} after there was room");
    assert!(took < Duration::from_secs(1), "{took:?}");
    acknowledged.insert(refused, "again".into());
    assert_all_there(&mut client, &acknowledged);
    server.kill();
    let server = disk.serve(&[]);
    assert_all_there(&mut server.connect(), &acknowledged);
    server.stop();
}

#[test]
#[ignore = "mounts a file system: just full-disk"]
fn a_kill_in_the_midst_of_writes_to_a_full_disk_loses_nothing() {
    let disk = SmallDisk::mount();
    let mut acknowledged = Acknowledged::new();
    for round in 0..5 {
        let server = disk.serve(&["-compact-mib", "1"]);
        let mut client = server.connect();
        assert_all_there(&mut client, &acknowledged);
        if round > 0 {
            disk.fill();
        }
        for n in 0..3000 {
            let (key, value) = (format!("key:{}", n % 700), value(n, 1000 + round));
            let reply = client.request(&format!("SET {key} {value}"));
            if reply == "+OK" {
                acknowledged.insert(key, value);
            } else {
                assert_out_of_room(&reply);
            }
        }
        server.kill();
    }
    let server = disk.serve(&[]);
    assert_all_there(&mut server.connect(), &acknowledged);
}

#[test]
#[ignore = "mounts a file system: just full-disk"]
fn a_compaction_that_found_no_room_is_made_up_for_once_there_is_some() {
    const KEYS: usize = 70;
    let disk = SmallDisk::mount();
    let server = disk.serve(&["-compact-mib", "8"]);
    let mut client = server.connect();
    let last = |n: usize| value(n, 100_000);
    let set = |n: usize| format!("SET key:{} {}", n % KEYS, last(n));
    for n in 0..KEYS {
        assert_eq!(client.request(&set(n)), "+OK");
    }
    disk.fill();
    let mut n = KEYS;
    while client.request(&set(n)) == "+OK" {
        n += 1;
        assert!(n < 1000, "it is never full");
    }
    let tried = eventually(|| server.stderr().contains("could not be compacted"));
    assert!(tried, "{}", server.stderr());
    let before = segments(&disk.dir);
    disk.free();
    let took = resumed(&mut client, "another");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let compacted = eventually(|| {
        let after = segments(&disk.dir);
        before
            .iter()
            .all(|old| !after.contains(old) || Some(old) == before.last())
    });
    assert!(
        compacted,
        "{:?}\n{}",
        file_names(&disk.dir),
        server.stderr()
    );
    server.kill();
    let server = disk.serve(&[]);
    let mut client = server.connect();
    assert_eq!(client.request("DBSIZE"), format!("+OK {}", KEYS + 1));
    for n in n - KEYS..n {
        let expected = format!("+OK {}", last(n));
        assert_eq!(client.request(&format!("GET key:{}", n % KEYS)), expected);
    }
}

/// What became of overwriting the same 10 MB again and again.
#[derive(Debug, Default)]
struct Overwritten {
    refused: usize,
    /// How many of the last thousand writes.
    refused_last: usize,
    /// The most bytes that the log's files took.
    longest: u64,
}

fn overwrite(disk: &SmallDisk, args: &[&str], times: u64) -> Overwritten {
    const KEYS: usize = 1000;
    const LEN: usize = 10_000;
    let server = disk.serve(args);
    let mut client = server.connect();
    let mut all = Overwritten::default();
    let rounds = times * SmallDisk::BYTES / (KEYS * LEN) as u64;
    for round in 0..rounds as usize {
        all.refused_last = 0;
        for first in (0..KEYS).step_by(20) {
            let some = first..first + 20;
            let sets = some
                .clone()
                .map(|n| format!("SET {n} {}\n", value(round, LEN)));
            client.send(sets.collect::<String>().as_bytes());
            for _ in some {
                let reply = client.reply();
                if reply != "+OK" {
                    assert_out_of_room(&reply);
                    all.refused += 1;
                    all.refused_last += 1;
                }
            }
        }
        all.longest = all.longest.max(disk.log_len());
    }
    server.kill();
    let server = disk.serve(&[]);
    assert_eq!(server.connect().request("DBSIZE"), format!("+OK {KEYS}"));
    println!("{args:?}: {all:?}");
    all
}

#[test]
#[ignore = "mounts a file system: just full-disk"]
fn overwriting_the_same_keys_for_many_times_the_disk_s_size_is_never_refused() {
    let disk = SmallDisk::mount();
    let all = overwrite(&disk, &["-compact-mib", "8"], 5);
    assert_eq!(all.refused, 0);
    assert!(all.longest < SmallDisk::BYTES);
}

/// Where compaction comes so late that the log has taken all the room, and the snapshot finds none.
#[test]
#[ignore = "mounts a file system: just full-disk"]
fn overwriting_with_the_default_flags_does_not_stay_refused_on_a_disk_as_small_as_that() {
    let disk = SmallDisk::mount();
    let all = overwrite(&disk, &[], 5);
    assert_eq!(all.refused_last, 0, "{all:?}");
}
