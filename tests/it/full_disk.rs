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
use crate::support::resp::{RespClient, Value};

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

    /// Takes all the room that is left but for so many bytes.
    fn leave(&self, bytes: u64) {
        // A snapshot that is being written gives back what it took once that fails.
        eventually(|| {
            self.fill();
            let names = file_names(&self.dir);
            !names.iter().any(|name| name.ends_with(".snapshot.new"))
        });
        let garbage = File::options().write(true).open(self.garbage()).unwrap();
        let len = garbage.metadata().unwrap().len();
        garbage.set_len(len - bytes).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.garbage()).unwrap();
    }

    fn serve(&self, args: &[&str]) -> Server {
        let mut command = binary(&self.dir);
        command.env("POSTRES_SEGMENT_MIB", "4");
        command.args(["-port", "0", "-wal"]);
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

/// Asks for a snapshot, behind the one that may be under way.
fn save(client: &mut Client) -> String {
    let mut saved = String::new();
    eventually(|| {
        saved = client.request("SAVE");
        !saved.contains("already in progress")
    });
    saved
}

/// Sets new keys, of so many bytes each, until nothing but that is refused for a while. Says how many are there.
fn fill_with_keys(client: &mut Client, len: usize) -> usize {
    let (mut keys, mut refused) = (0, 0);
    while refused < 10 {
        let reply = client.request(&format!("SET key:{keys} {}", value(keys, len)));
        if reply == "+OK" {
            (keys, refused) = (keys + 1, 0);
        } else {
            assert_out_of_room(&reply);
            refused += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    keys
}

#[test]
#[ignore = "mounts a file system: just full-disk"]
fn who_has_filled_the_disk_with_keys_can_remove_some_and_then_write_again() {
    for (args, len) in [(&["-segment-mib", "1"][..], 3000), (&[], 100_000)] {
        let disk = SmallDisk::mount();
        let server = disk.serve(args);
        let mut client = server.connect();
        let keys = fill_with_keys(&mut client, len);
        println!("{args:?}: {keys} keys of {len} bytes");
        assert!(keys * len > 10 << 20, "{keys}");
        // One snapshot had its room. The next is longer than what it replaces, and may lack some.
        let saved = save(&mut client);
        assert!(saved == "+OK" || saved.contains("No space left"), "{saved}");
        // What removes keys has room, however many there are.
        fill_with_keys(&mut client, len);
        for n in 0..keys / 2 {
            assert_eq!(client.request(&format!("DEL key:{n}")), "+OK");
        }
        let took = resumed(&mut client, "another");
        println!("writes resumed {took:?} after half of the keys were removed");
        server.kill();
        let server = disk.serve(args);
        let mut client = server.connect();
        assert_eq!(client.request("EXISTS key:0 another"), "+OK 1");
        fill_with_keys(&mut client, len);
        assert_eq!(client.request("FLUSHALL"), "+OK");
        resumed(&mut client, "another");
        server.stop();
    }
}

#[test]
#[ignore = "mounts a file system: just full-disk"]
fn a_snapshot_that_found_no_room_leaves_the_log_none_of_what_the_next_one_needs() {
    const KEYS: usize = 200;
    let disk = SmallDisk::mount();
    let server = disk.serve(&["-segment-mib", "1", "-compact-percent", "0"]);
    let mut client = server.connect();
    let set = |n: usize| format!("SET key:{} {}", n % KEYS, value(n, 100_000));
    for n in 0..KEYS {
        assert_eq!(client.request(&set(n)), "+OK");
    }
    // Room for three quarters of a snapshot. One that was finished meanwhile has made more.
    let mut saved = String::new();
    eventually(|| {
        disk.leave(15 << 20);
        saved = save(&mut client);
        saved != "+OK"
    });
    assert!(saved.contains("No space left"), "{saved}");
    let accepted = (KEYS..).take_while(|&n| client.request(&set(n)) == "+OK");
    let accepted = accepted.count();
    assert!(accepted < 30, "{accepted} of 100 kB were accepted");
    disk.free();
    resumed(&mut client, "another");
    assert_eq!(save(&mut client), "+OK");
    server.stop();
}

#[test]
#[ignore = "mounts a file system: just full-disk"]
fn a_value_that_would_take_the_room_of_the_next_snapshot_is_refused() {
    let disk = SmallDisk::mount();
    let server = disk.serve(&[]);
    let mut client = server.connect();
    let mut other = RespClient::connect(server.addr());
    // Each is a frame larger than a segment.
    let mut set = |mib: usize| other.command([&b"SET"[..], b"large", &vec![b'x'; mib << 20]]);
    assert_eq!(set(25), Value::Simple("OK".into()));
    for _ in 0..3 {
        let refused = set(25);
        assert!(
            format!("{refused:?}").contains("No space left"),
            "{refused:?}"
        );
        assert_eq!(client.request("SET small value"), "+OK");
        assert_eq!(client.request("DEL small"), "+OK");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(save(&mut client), "+OK");
    assert_eq!(client.request("DEL large"), "+OK");
    let taken = eventually(|| set(12) == Value::Simple("OK".into()));
    assert!(taken, "{}", server.stderr());
    server.stop();
}

#[test]
#[ignore = "mounts a file system: just full-disk"]
fn keys_can_be_removed_where_others_took_the_room_of_a_snapshot_that_was_not_tried_yet() {
    let disk = SmallDisk::mount();
    let server = disk.serve(&["-segment-mib", "32"]);
    let mut client = server.connect();
    let keys = 600;
    let set = |n| format!("SET key:{n} {}", value(n, 20_000));
    for n in 0..keys {
        assert_eq!(client.request(&set(n)), "+OK");
    }
    // Too little for a snapshot of them, and for the next segment; what is left of this one may be filled.
    disk.leave(10 << 20);
    let refused = (0..10 * keys).find_map(|n| {
        let reply = client.request(&set(n % keys));
        (reply != "+OK").then_some(reply)
    });
    assert_out_of_room(&refused.expect("200 MB do not fit into one segment"));
    for n in 0..keys {
        let reply = client.request(&format!("DEL key:{n}"));
        assert_eq!(reply, "+OK", "{n}");
    }
    resumed(&mut client, "another");
    server.stop();
}
