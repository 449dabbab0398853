//! `postres log check` and `postres log repair`: both judge as a start does.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use postres::tools::ToolError;
use postres::tools::check::check;
use postres::tools::repair::repair;
use postres::wal::recovery::RecoveryError;
use postres::wal::segment::{MAX_CAPACITY, SegmentHeader};
use postres::wal::snapshot::SnapshotHeader;

use crate::cli::assert_refused;
use crate::disk::Disk;
use crate::support::log::{FIRST_FRAME, open, segment};
use crate::support::process::{
    Server, binary, eventually, file_names, run, segments, wal_path, with_log,
};
use crate::tools::{disk_with_sets, done, frozen, log};

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = file_names(dir)
        .into_iter()
        .filter(|name| !name.ends_with(".lock"));
    names
        .map(|name| (name.clone(), fs::read(dir.join(name)).unwrap()))
        .collect()
}

/// A check that finds damage: what it prints, and that nothing is changed by it.
#[track_caller]
fn damaged(dir: &Path) -> (String, String) {
    let before = contents(dir);
    let output = log(dir, &["check", "-wal", "wal_file"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(contents(dir) == before, "a check changes nothing");
    (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn find(path: &Path, what: &[u8]) -> usize {
    let bytes = fs::read(path).unwrap();
    let mut windows = bytes.windows(what.len());
    windows.position(|window| window == what).unwrap()
}

/// A log of several segments that was compacted once, and written to since; stopped.
fn compacted() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["-compact-percent", "0"]);
    let mut client = server.connect();
    let value = "v".repeat(100_000);
    for n in 0..40 {
        assert_eq!(client.request(&format!("SET key:{n} {value}")), "+OK");
    }
    assert_eq!(client.request("SAVE"), "+OK");
    for n in 0..25 {
        assert_eq!(client.request(&format!("SET later:{n} {value}")), "+OK");
    }
    server.stop();
    dir
}

#[test]
fn a_good_log_is_told_in_numbers_and_needs_no_repair() {
    let dir = frozen();
    let before = contents(dir.path());
    let (stdout, stderr) = done(dir.path(), &["check", "-wal", "wal_file"]);
    for told in [
        "132 operations, from 1 to 132, the last at 2023-11-14T22:13:29.000Z",
        "2 files, ",
        "the log ends with operation 132, and the mark of an orderly stop",
    ] {
        assert!(stdout.contains(told), "{told} in {stdout}");
    }
    assert_eq!(stderr, "");
    let (stdout, _) = done(dir.path(), &["repair", "-wal", "wal_file"]);
    assert_eq!(stdout, "there is nothing to repair\n");
    assert!(contents(dir.path()) == before);
}

#[test]
fn a_compacted_log_is_checked_and_dumped_with_its_snapshot() {
    let dir = compacted();
    let (stdout, _) = done(dir.path(), &["check", "-wal", "wal_file"]);
    assert!(
        stdout.contains(".snapshot: 40 keys as they were before operation 41"),
        "{stdout}"
    );
    assert!(stdout.contains("to 65, the last"), "{stdout}");
    let (dumped, ending) = done(dir.path(), &["dump", "-wal", "wal_file"]);
    let first: u64 = dumped.split(' ').next().unwrap().parse().unwrap();
    assert!((2..=41).contains(&first), "{first}");
    assert_eq!(dumped.lines().count() as u64, 66 - first);
    assert!(ending.contains("operation 65"), "{ending}");
    let (none, _) = done(dir.path(), &["dump", "-wal", "wal_file", "-from", "66"]);
    assert_eq!(none, "");

    // Without any segment it is not that there is no log.
    for name in segments(dir.path()) {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    let output = log(dir.path(), &["dump", "-wal", "wal_file"]);
    assert_refused(&output, 1, &["the log behind the snapshot", "is missing"]);
    let (stdout, _) = damaged(dir.path());
    assert!(stdout.contains("the log behind the snapshot"), "{stdout}");
}

#[test]
fn a_snapshot_with_nothing_behind_it_is_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    assert_eq!(client.request("SET key value"), "+OK");
    assert_eq!(client.request("SAVE"), "+OK");
    server.stop();
    let (lines, ending) = done(dir.path(), &["dump", "-wal", "wal_file", "-from", "2"]);
    assert_eq!(lines, "");
    assert!(ending.contains("operation 1"), "{ending}");
    let (stdout, _) = done(dir.path(), &["check", "-wal", "wal_file"]);
    assert!(stdout.contains("1 keys as they were"), "{stdout}");
}

#[test]
fn every_damage_is_listed_with_its_file_and_offset() {
    let dir = compacted();
    let names = segments(dir.path());
    assert!(names.len() >= 3, "{names:?}");
    let at = find(&dir.path().join(&names[1]), b"vvv");
    flip(&dir.path().join(&names[1]), at);
    flip(&dir.path().join(names.last().unwrap()), 20);
    let snapshot = file_names(dir.path());
    let snapshot = snapshot.iter().find(|name| name.ends_with(".snapshot"));
    let snapshot = dir.path().join(snapshot.unwrap());
    flip(&snapshot, find(&snapshot, b"vvv"));
    let (stdout, stderr) = damaged(dir.path());
    for named in [
        &*names[1],
        names.last().unwrap(),
        ".snapshot is damaged at offset",
        "damaged at offset",
    ] {
        assert!(stdout.contains(named), "{named} in {stdout}");
    }
    assert!(stderr.contains("a server would not start"), "{stderr}");
    let before = contents(dir.path());
    let output = log(dir.path(), &["repair", "-wal", "wal_file"]);
    assert_refused(&output, 1, &["damaged"]);
    assert!(contents(dir.path()) == before, "a refusal changes nothing");
}

#[test]
fn damage_that_no_start_would_notice_is_found_too() {
    let dir = compacted();
    // What the compaction removed, back again, as a crash in its midst may leave it.
    let copy = frozen();
    let old = "wal_file.00000000000000000001.segment";
    fs::copy(copy.path().join(old), dir.path().join(old)).unwrap();
    let (stdout, _) = done(dir.path(), &["check", "-wal", "wal_file"]);
    assert!(stdout.contains("superfluous"), "{stdout}");
    flip(&dir.path().join(old), 5000);
    let (stdout, stderr) = damaged(dir.path());
    assert!(
        stdout.contains("damaged, and not needed: ") && stdout.contains(old),
        "{stdout}"
    );
    assert!(stderr.contains("a server starts without"), "{stderr}");
    let (stdout, _) = done(dir.path(), &["repair", "-wal", "wal_file"]);
    assert!(
        stdout.contains("removed") && stdout.contains(old),
        "{stdout}"
    );
    done(dir.path(), &["check", "-wal", "wal_file"]);
}

#[test]
fn a_torn_tail_and_a_short_file_and_a_leftover_are_told_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    for n in 0..3 {
        assert_eq!(client.request(&format!("SET key:{n} 1")), "+OK");
    }
    server.kill();
    let path = dir.path().join(&segments(dir.path())[0]);
    flip(&path, find(&path, b"key:2"));
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..100_000]).unwrap();
    fs::write(
        dir.path().join("wal_file.00000000000000000004.segment.new"),
        b"",
    )
    .unwrap();
    let before = contents(dir.path());
    let (stdout, _) = done(dir.path(), &["check", "-wal", "wal_file"]);
    for told in [
        "would: cut",
        "would: fill",
        "would: remove",
        "crash cut short",
    ] {
        assert!(stdout.contains(told), "{told} in {stdout}");
    }
    assert!(contents(dir.path()) == before, "a check changes nothing");
    let (stdout, _) = done(dir.path(), &["repair", "-wal", "wal_file"]);
    for told in ["cut ", "filled ", "removed ", "torn-"] {
        assert!(stdout.contains(told), "{told} in {stdout}");
    }
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    assert_eq!(fs::read(&path).unwrap().len(), bytes.len());
    let kept = file_names(dir.path());
    let kept = kept.iter().find(|name| name.contains(".torn-")).unwrap();
    assert!(!fs::read(dir.path().join(kept)).unwrap().is_empty());
    let (stdout, _) = done(dir.path(), &["repair", "-wal", "wal_file"]);
    assert_eq!(stdout, "there is nothing to repair\n");
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    assert_eq!(client.request("EXISTS key:0 key:1 key:2"), "+OK 2");
    assert!(!server.stderr().contains("WARN"), "{}", server.stderr());
    server.stop();
}

/// What a check of a log on a disk of the test's own says: whether a server would start, and the
/// lines.
fn checked(disk: &Disk) -> (bool, String) {
    let mut out = Vec::new();
    let result = check(disk, Path::new("dir/wal_file"), &mut out);
    let starts = match result {
        Ok(()) => true,
        Err(ToolError::Damaged { starts, .. }) => starts,
        Err(error) => panic!("{error}"),
    };
    (starts, String::from_utf8(out).unwrap())
}

fn repaired(disk: &Disk) -> Result<(), ToolError> {
    repair(disk, Path::new("dir/wal_file"), &mut Vec::new())
}

#[test]
fn a_flipped_byte_anywhere_is_judged_as_a_start_judges_it() {
    let good = disk_with_sets(15);
    let segments: Vec<PathBuf> = good.files().into_keys().collect();
    assert_eq!(segments.len(), 2);
    for path in segments {
        for at in (0..good.files()[&path].len()).step_by(97) {
            let disk = good.copy();
            let mut bytes = good.files()[&path].clone();
            bytes[at] ^= 0x10;
            disk.put(&path, bytes);
            let before = disk.files();
            let (starts, told) = checked(&disk);
            assert_eq!(disk.files(), before, "a check changes nothing");
            let mended = disk.copy();
            let repair = repaired(&mended);
            match open(&disk) {
                Ok((_, report, _)) => {
                    assert!(starts, "byte {at}: {told}");
                    assert_eq!(
                        told.matches("the next start would").count(),
                        report.repairs.len()
                    );
                    repair.unwrap();
                    assert_eq!(mended.files(), disk.files(), "as a start mends it");
                }
                Err(refused) => {
                    assert!(!starts, "byte {at}");
                    assert!(told.contains(&refused.to_string()), "{told}");
                    assert_eq!(repair.unwrap_err().to_string(), refused.to_string());
                    assert_eq!(mended.files(), before, "a refusal changes nothing");
                }
            }
        }
    }
}

#[test]
fn a_segment_may_say_that_it_was_made_as_long_as_any_and_no_longer() {
    for (capacity, good) in [(MAX_CAPACITY, true), (MAX_CAPACITY + 1, false)] {
        let disk = disk_with_sets(3);
        let mut bytes = disk.take(&segment(1));
        let header = SegmentHeader::decode(&bytes).unwrap();
        let header = SegmentHeader { capacity, ..header }.encode();
        bytes[..FIRST_FRAME].copy_from_slice(&header);
        disk.put(&segment(1), bytes);
        let (starts, told) = checked(&disk);
        assert_eq!(starts, good, "{told}");
    }
}

/// A header was believed whose checksum is good: the start made room for so many keys, or was
/// ended since there was none; and the check had found nothing wrong.
#[test]
fn a_snapshot_that_promises_other_than_the_keys_it_holds_is_refused_as_a_start_refuses_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    assert_eq!(client.request("MSET a 1 b 2 c 3"), "+OK");
    assert_eq!(client.request("SAVE"), "+OK");
    server.stop();
    let names = file_names(dir.path());
    let name = names.iter().find(|name| name.ends_with(".snapshot"));
    let path = dir.path().join(name.unwrap());
    let good = fs::read(&path).unwrap();
    let header = SnapshotHeader::decode(&good).unwrap();
    assert_eq!(header.keys, 3);
    // Up to the second last only what is read tells, then the length of the file does.
    for keys in [0, 2, 4, good.len() as u64 / 4, u64::MAX] {
        let mut bytes = good.clone();
        bytes[..FIRST_FRAME].copy_from_slice(&SnapshotHeader { keys, ..header }.encode());
        fs::write(&path, bytes).unwrap();
        let promise = format!("its header promises {keys} keys");
        let output = run(with_log(binary(dir.path()), dir.path()));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains(&promise));
        let (stdout, _) = damaged(dir.path());
        assert!(stdout.contains(&promise), "{stdout}");
    }
    fs::write(&path, good).unwrap();
    done(dir.path(), &["check", "-wal", "wal_file"]);
}

#[test]
fn missing_segments_are_all_listed() {
    let good = disk_with_sets(80);
    let bases: Vec<PathBuf> = good.files().into_keys().collect();
    assert!(bases.len() >= 6, "{bases:?}");
    for (take, lines) in [
        (vec![1], 1),
        (vec![1, 3], 2),
        (vec![0, 2, bases.len() - 1], 3),
        (vec![bases.len() - 1], 1),
    ] {
        let disk = good.copy();
        for index in &take {
            disk.take(&bases[*index]);
        }
        let (starts, told) = checked(&disk);
        assert!(!starts);
        assert_eq!(told.matches("damaged: ").count(), lines, "{take:?}: {told}");
        assert!(matches!(
            repaired(&disk),
            Err(ToolError::Log(
                RecoveryError::Gap { .. } | RecoveryError::MissingSegment { .. }
            ))
        ));
    }
    // One of another log, and damage behind it.
    let disk = good.copy();
    let other = disk_with_sets(80);
    disk.put(&bases[1], other.files()[&bases[1]].clone());
    let mut bytes = good.files()[&bases[4]].clone();
    bytes[5000] ^= 1;
    disk.put(&bases[4], bytes);
    let (_, told) = checked(&disk);
    assert!(told.contains("belongs to another log"), "{told}");
    assert_eq!(told.matches("damaged: ").count(), 2, "{told}");
    assert!(good.files().contains_key(&segment(1)));
}

/// Lets only its owner write to what is in `dir`, or nobody.
fn permit(dir: &Path, writing: bool) {
    let (file, folder) = if writing {
        (0o644, 0o755)
    } else {
        (0o444, 0o555)
    };
    for name in file_names(dir) {
        fs::set_permissions(dir.join(name), Permissions::from_mode(file)).unwrap();
    }
    fs::set_permissions(dir, Permissions::from_mode(folder)).unwrap();
}

/// The tools that only read opened everything to write as well, which was refused to them.
#[test]
fn a_log_that_may_only_be_read_is_checked_dumped_and_copied_unless_a_server_has_it() {
    const NOBODY: u32 = 65534;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let program = dir.path().join("postres");
    fs::copy(env!("CARGO_BIN_EXE_postres"), &program).unwrap();
    let log_dir = dir.path().join("log");
    fs::create_dir(&log_dir).unwrap();
    let server = Server::start(&log_dir, &[]);
    assert_eq!(server.connect().request("SET key value"), "+OK");
    assert_eq!(server.connect().request("SAVE"), "+OK");
    permit(&log_dir, false);
    // Permissions keep nobody out who is root.
    let name = segments(&log_dir).remove(0);
    let is_root = fs::File::options()
        .write(true)
        .open(log_dir.join(name))
        .is_ok();
    let tool = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("log").args(args).args(["-wal", "log/wal_file"]);
        command.current_dir(dir.path()).env_remove("POSTRES_WAL");
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        run(command)
    };
    let lock = log_dir.join("wal_file.lock");
    let in_use = format!("in use (process {})", server.pid());
    for reading in ["check", "dump"] {
        assert_refused(&tool(&[reading]), 1, &[&in_use, "stop the server"]);
    }
    let copied = tool(&["backup", "copy-1"]);
    assert_eq!(copied.status.code(), Some(0), "{copied:?}");
    permit(&log_dir, true);
    server.stop();
    for (there, copy) in [(true, "copy-2"), (false, "copy-3")] {
        if !there {
            fs::remove_file(&lock).unwrap();
        }
        permit(&log_dir, false);
        let before = file_names(&log_dir);
        for args in [["check"].as_slice(), &["dump"], &["backup", copy]] {
            let output = tool(args);
            assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        }
        assert_refused(&tool(&["repair"]), 1, &["cannot lock the log"]);
        assert_eq!(file_names(&log_dir), before);
        permit(&log_dir, true);
    }
}

#[test]
fn neither_is_done_to_a_log_that_a_server_has() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    assert!(eventually(|| wal_path(dir.path())
        .with_extension("lock")
        .exists()));
    for tool in ["check", "repair"] {
        let output = log(dir.path(), &[tool, "-wal", "wal_file"]);
        assert_refused(&output, 1, &["in use", "stop the server"]);
    }
    server.stop();
}
