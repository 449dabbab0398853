//! `postres log ...`: the real binary on the files of a stopped server, and imports on a disk that
//! fails or loses power at every step.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use postres::command::{Operation, Rest};
use postres::tools::ToolError;
use postres::tools::dump::{Form, dump};
use postres::tools::import::{Imported, Source, import};
use postres::wal::recovery::RecoveryError;
use postres::wal::{LogOptions, Lsn};

use crate::cli::{assert_refused, json_object};
use crate::disk::{Call, Disk, EIO, ENOSPC, Fate, Fault};
use crate::support::log::{FIRST_FRAME, append, open, open_with, options, segment};
use crate::support::process::{Server, binary, file_names, run, segments, with_log};

pub fn log(dir: &Path, args: &[&str]) -> Output {
    let mut command = binary(dir);
    command.arg("log").args(args);
    run(command)
}

/// A run that must do what it was asked for: what it printed on stdout and on stderr.
#[track_caller]
pub fn done(dir: &Path, args: &[&str]) -> (String, String) {
    let output = log(dir, args);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
    (stdout, stderr)
}

/// A copy of the frozen log of every operation.
pub fn frozen() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1-operations");
    for file in fs::read_dir(source).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

/// The number behind `"name":`.
fn number(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(&format!("\"{name}\":")).unwrap();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
    rest[..end].parse().unwrap()
}

// What a log holds.

#[test]
fn every_operation_is_dumped_in_order_by_its_client_s_name() {
    let dir = frozen();
    let (stdout, stderr) = done(dir.path(), &["dump", "-wal", "wal_file"]);
    assert!(stderr.contains("ends with operation 132"), "{stderr}");
    assert!(stderr.contains("orderly stop"), "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 132);
    let mut names = BTreeSet::new();
    for (n, line) in (1..).zip(&lines) {
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some(&*n.to_string()), "{line}");
        assert!(
            words.next().unwrap().starts_with("2023-11-14T22:13:2"),
            "{line}"
        );
        names.insert(words.next().unwrap());
    }
    let every = "APPEND BITFIELD BITOP COPY DEL DELIFEQ EXEC EXPIRE FLUSHALL GETDEL GETEX INCRBY \
        INCRBYFLOAT MSET MSETNX PERSIST RENAME RENAMENX SET SETBIT SETNX SETRANGE TICK";
    assert_eq!(names, every.split_whitespace().collect());
    for line in [
        r#"2 2023-11-14T22:13:20.000Z FLUSHALL"#,
        r#"4 2023-11-14T22:13:20.000Z SET key="binary\x00\xff" value="\r\n\x00\xfe""#,
        r#"11 2023-11-14T22:13:21.000Z SET key="with:keep" expiry=keep condition={ifeq="a"} get=false value="b""#,
        r#"28 2023-11-14T22:13:22.000Z DEL keys=["many:1" "many:2" "many:3"]"#,
        r#"90 2023-11-14T22:13:26.000Z EXPIRE key="expire:xx-gt:set" at={in_ms=60000} condition=xx+gt"#,
        r#"128 2023-11-14T22:13:28.000Z EXEC base=3 watched=[["set" true] ["never there" false]] operations=[(SET key="exec:inside" value="1") (INCRBY key="exec:inside" by=41)]"#,
    ] {
        assert!(lines.contains(&line), "{line} is not in:\n{stdout}");
    }
}

#[test]
fn as_json_each_operation_is_an_object_and_any_bytes_are_told() {
    let dir = frozen();
    // The path from the environment.
    let mut command = binary(dir.path());
    command
        .env("POSTRES_WAL", "wal_file")
        .args(["log", "dump", "--json"]);
    let stdout = String::from_utf8(run(command).stdout).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 132);
    for (n, line) in (1..).zip(&lines) {
        assert_eq!(json_object(line), Some(""), "{line}");
        assert_eq!(number(line, "lsn"), n);
    }
    for line in [
        r#"{"lsn":4,"time":1700000000000,"operation":"set","key":{"base64":"YmluYXJ5AP8="},"value":{"base64":"DQoA/g=="}}"#,
        r#"{"lsn":42,"time":1700000004000,"operation":"incrby","key":"incr","by":-3}"#,
        r#"{"lsn":129,"time":1700000008000,"operation":"exec","base":2,"watched":[["set",true]],"operations":[{"operation":"set","key":"exec:lost","value":"1"}]}"#,
        r#"{"lsn":132,"time":1700000009000,"operation":"tick"}"#,
    ] {
        assert!(lines.contains(&line), "{line} is not in:\n{stdout}");
    }
}

#[test]
fn a_dump_begins_where_it_is_told_to_whether_or_not_what_is_before_is_there() {
    let dir = frozen();
    let (all, _) = done(dir.path(), &["dump", "-wal=wal_file"]);
    let lines: Vec<&str> = all.lines().collect();
    // 127 is the first of the second segment.
    for from in [1, 2, 126, 127, 128, 132] {
        let number = from.to_string();
        let (some, _) = done(dir.path(), &["dump", "-wal", "wal_file", "-from", &number]);
        assert_eq!(
            some.lines().collect::<Vec<_>>(),
            lines[from - 1..],
            "{from}"
        );
    }
    let (none, ending) = done(dir.path(), &["dump", "-wal", "wal_file", "-from", "133"]);
    assert_eq!(none, "");
    assert!(ending.contains("operation 132"), "{ending}");

    fs::remove_file(dir.path().join("wal_file.00000000000000000001.segment")).unwrap();
    let (some, _) = done(dir.path(), &["dump", "-wal", "wal_file"]);
    assert_eq!(some.lines().collect::<Vec<_>>(), lines[126..]);
}

#[test]
fn damage_is_named_and_what_is_before_it_is_dumped_and_what_is_behind_it_can_be() {
    let dir = frozen();
    let path = dir.path().join("wal_file.00000000000000000001.segment");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(10).position(|w| w == b"with:equal").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let output = log(dir.path(), &["dump", "-wal", "wal_file"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for named in ["00001.segment", "damaged at offset", "(operation 8)"] {
        assert!(stderr.contains(named), "{named} in {stderr}");
    }
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 7);
    let (behind, _) = done(dir.path(), &["dump", "-wal", "wal_file", "-from", "127"]);
    assert_eq!(behind.lines().count(), 6);
    assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is mended");
}

#[test]
fn a_torn_tail_is_told_and_is_no_failure() {
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
    let (stdout, stderr) = done(dir.path(), &["dump", "-wal", "wal_file"]);
    assert_eq!(stdout.lines().count(), 2);
    assert!(
        stderr.contains("a crash cut short") && stderr.contains("offset"),
        "{stderr}"
    );
    assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is mended");

    // Without one, and without a close either.
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (stdout, stderr) = done(dir.path(), &["dump", "-wal", "wal_file"]);
    assert_eq!(stdout.lines().count(), 3);
    assert!(stderr.contains("without the mark"), "{stderr}");
}

/// What a dump of a log on a disk of the test's own says.
fn dumped(disk: &Disk, from: u64) -> (Result<(), ToolError>, usize) {
    let mut out = Vec::new();
    let path = Path::new("dir/wal_file");
    let result = dump(disk, path, Lsn(from), Form::Text, &mut out).map(drop);
    (result, out.iter().filter(|byte| **byte == b'\n').count())
}

/// A log of several segments with small operations that a dump can read.
pub fn disk_with_sets(count: usize) -> Disk {
    let disk = Disk::default();
    let (mut writer, ..) = open(&disk).unwrap();
    for n in 0..count {
        let mut bytes = Vec::new();
        let (key, value) = (format!("key:{n}"), [b'v'; 300]);
        let operation = Operation::Set {
            key: key.as_bytes(),
            value: Rest(&value),
        };
        operation.encode(&mut bytes);
        append(&mut writer, &bytes).unwrap();
    }
    writer.close().unwrap();
    disk
}

#[test]
fn a_dump_judges_a_flipped_byte_anywhere_as_a_start_would() {
    let disk = disk_with_sets(15);
    let segments: Vec<PathBuf> = disk.files().into_keys().collect();
    assert_eq!(segments.len(), 2);
    for path in segments {
        for at in (0..disk.files()[&path].len()).step_by(97) {
            let disk = disk.copy();
            let mut bytes = disk.files()[&path].clone();
            bytes[at] ^= 0x10;
            disk.put(&path, bytes);
            let before = disk.files();
            let (dumped, lines) = dumped(&disk, 1);
            assert_eq!(disk.files(), before, "a dump changes nothing");
            match (open(&disk), dumped) {
                (Ok((_, _, operations)), Ok(())) => assert_eq!(operations.len(), lines),
                (Err(refused), Err(ToolError::Log(told))) => {
                    assert_eq!(refused.to_string(), told.to_string(), "byte {at}");
                }
                (opened, dumped) => panic!("byte {at}: {:?}, {dumped:?}", opened.map(|o| o.1)),
            }
        }
    }
}

#[test]
fn a_dump_tells_missing_segments_and_passes_over_empty_leftovers() {
    let disk = disk_with_sets(40);
    let bases: Vec<PathBuf> = disk.files().into_keys().collect();
    assert!(bases.len() >= 3, "{bases:?}");
    let gap = disk.copy();
    gap.take(&bases[1]);
    assert!(matches!(
        dumped(&gap, 1).0,
        Err(ToolError::Log(RecoveryError::Gap { .. }))
    ));
    let cut = disk.copy();
    cut.take(bases.last().unwrap());
    assert!(matches!(
        dumped(&cut, 1).0,
        Err(ToolError::Log(RecoveryError::MissingSegment { .. }))
    ));
    // Left by an interrupted change of segments: it begins before the last operation.
    let leftover = Disk::default();
    leftover.put(&segment(1), disk.files()[&segment(1)].clone());
    let mut unsealed = disk.files()[&segment(1)].clone();
    // Its seal away, and two of its last operations still behind the leftover's position.
    let seal = unsealed.iter().rposition(|byte| *byte != 0).unwrap();
    let seal = (seal - FIRST_FRAME) / 8 * 8 + FIRST_FRAME;
    let begin = (0..=48).step_by(8).map(|back| seal - back);
    let begin = begin.filter(|at| unsealed[at + 12] == 2).min().unwrap();
    unsealed[begin..].fill(0);
    leftover.put(&segment(1), unsealed);
    let count = dumped(&leftover, 1).1;
    let base = count as u64 - 1;
    let mut empty =
        postres::wal::segment::SegmentHeader::decode(&disk.files()[&segment(1)]).unwrap();
    empty.base = Lsn(base);
    let mut bytes = empty.encode();
    bytes.resize(8192, 0);
    leftover.put(&segment(base), bytes);
    for (from, lines) in [(1, count), (base, 2)] {
        let (result, found) = dumped(&leftover, from);
        result.unwrap();
        assert_eq!(found, lines, "what is before the leftover, from {from} on");
    }
}

#[test]
fn where_there_is_no_log_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    for wal in ["wal_file", "missing/folder/wal_file"] {
        for tool in ["dump", "check", "repair"] {
            let output = log(dir.path(), &[tool, "-wal", wal]);
            assert_refused(&output, 1, &["there is no log at", wal]);
        }
        let output = log(dir.path(), &["backup", "copy", "-wal", wal]);
        assert_refused(&output, 1, &["there is no log at", wal]);
    }
    let output = log(dir.path(), &["dump"]);
    assert_refused(&output, 1, &["there is no log at ./wal_files/wal_file"]);
    assert_eq!(file_names(dir.path()), [""; 0]);
}

#[test]
fn a_log_that_a_server_has_is_neither_dumped_nor_imported_into() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let pid = format!("process {}", server.pid());
    let output = log(dir.path(), &["dump", "-wal", "wal_file"]);
    assert_refused(&output, 1, &["wal_file", "in use", &pid, "stop the server"]);
    fs::write(dir.path().join("text"), "3DEL1k\n").unwrap();
    let output = log(dir.path(), &["import", "text", "-wal", "wal_file"]);
    assert_refused(&output, 1, &["there is a log at wal_file already"]);
    server.stop();
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let records = "3SET3key100".to_owned() + &"v".repeat(100) + "\n";
    fs::write(dir.path().join("text"), records.repeat(20_000)).unwrap();
    done(dir.path(), &["import", "text", "-wal", "wal_file"]);
    let mut command = binary(dir.path());
    command.args(["log", "dump", "-wal", "wal_file"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    // Dropped behind the first line, and with it the pipe.
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("1 "), "{line}");
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), &*stderr), (Some(0), ""));
}

#[test]
fn bad_flags_of_a_subcommand_are_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    for (args, named) in [
        ("", "dump, check, repair, backup, import"),
        ("nonsense", "nonsense"),
        ("dump -nonsense", "nonsense"),
        ("dump -from 0", "from"),
        ("dump -from x", "from"),
        ("dump -port 1", "port"),
        ("dump stray", "stray"),
        ("import", "FILE"),
        ("import a b", "b"),
        ("check -port 1", "port"),
        ("repair stray", "stray"),
        ("backup", "FOLDER"),
    ] {
        let args: Vec<&str> = args.split_whitespace().collect();
        assert_refused(&log(dir.path(), &args), 2, &[named]);
    }
    let mut command = binary(dir.path());
    command.args(["-wal", "x", "log", "dump"]);
    assert_refused(&run(command), 2, &["log"]);
    assert_eq!(file_names(dir.path()), [""; 0]);

    let (help, _) = done(dir.path(), &["--help"]);
    for told in [
        "dump",
        "check",
        "repair",
        "backup",
        "import",
        "--from",
        "--json",
        "base64",
        "--skip-unclear",
    ] {
        assert!(help.contains(told), "{told} in {help}");
    }
}

// The text log of post-go-res.

const TEXT: &[u8] = b"3SET5hello5world\n3SET1k211\n3SET4gone1x\n3DEL4gone\n3SET2\0\xff0\n3SET1e1\r";

#[test]
fn an_imported_log_is_served_and_its_file_is_left_where_it_was() {
    for wal in ["wal_files/wal_file", "elsewhere/log"] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("wal_files")).unwrap();
        let file = dir.path().join("wal_files/wal_file");
        fs::write(&file, TEXT).unwrap();
        // Started on it, the server says what to do.
        let mut command = binary(dir.path());
        command.args(["-port", "0", "-max-connections", "50"]);
        let told = "postres log import ./wal_files/wal_file -wal ./wal_files/wal_file";
        assert_refused(&run(command), 1, &[told]);

        let args = ["import", "./wal_files/wal_file", "-wal", wal];
        let (stdout, stderr) = done(dir.path(), &args);
        let expected = format!(
            "imported 6 operations (5 sets, 1 dels) from ./wal_files/wal_file into {wal}\n"
        );
        assert_eq!((stdout, stderr), (expected, String::new()));
        assert_eq!(fs::read(&file).unwrap(), TEXT);
        let (folder, stem) = wal.split_once('/').unwrap();
        let mut made = file_names(&dir.path().join(folder));
        made.retain(|name| name != "wal_file");
        let lock = format!("{stem}.lock");
        assert_eq!(made, [format!("{stem}.00000000000000000001.segment"), lock]);

        let mut command = binary(dir.path());
        command.args(["-port", "0", "-wal", wal]);
        let server = Server::spawn(command);
        let mut client = server.connect();
        assert_eq!(client.request("DBSIZE"), "+OK 4");
        assert_eq!(client.request("GET hello"), "+OK world");
        assert_eq!(client.request("GET k"), "+OK 11");
        assert_eq!(client.request("EXISTS gone"), "+OK 0");
        assert_eq!(client.request("STRLEN e"), "+OK 1");
        server.stop();
        let (lines, _) = done(dir.path(), &["dump", "-wal", wal]);
        assert!(lines.contains(r#"SET key="\x00\xff" value="""#), "{lines}");
        let output = log(dir.path(), &args);
        assert_refused(&output, 1, &["there is a log at", "already"]);
    }
}

#[test]
fn an_import_over_a_log_is_refused_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.connect().request("SET a 1"), "+OK");
    server.stop();
    fs::write(dir.path().join("text"), TEXT).unwrap();
    let before = fs::read(dir.path().join(&segments(dir.path())[0])).unwrap();
    let output = log(dir.path(), &["import", "text", "-wal", "wal_file"]);
    assert_refused(&output, 1, &["there is a log at wal_file already"]);
    assert_eq!(segments(dir.path()).len(), 1);
    assert_eq!(
        fs::read(dir.path().join(&segments(dir.path())[0])).unwrap(),
        before
    );
}

#[test]
fn lines_that_cannot_be_read_for_sure_are_told_and_imported_past_only_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = b"3SET1a1b\n3SET1111xxxxxxxxx1y\n3set1a1b\n\n".to_vec();
    text.extend("3GET1a\n".repeat(30).bytes());
    text.extend_from_slice(b"3DEL1a\n3SET1c9cut");
    fs::write(dir.path().join("text"), &text).unwrap();
    let output = log(dir.path(), &["import", "text", "-wal", "new/log"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
    let lines: Vec<&str> = told.lines().collect();
    // Twenty of 34, the count of the others, and the error.
    assert_eq!(lines.len(), 22, "{told}");
    assert!(
        lines.iter().all(|line| line.starts_with("postres: ")),
        "{told}"
    );
    let both =
        r#"text:2: ambiguous: SET key="1" value="xxxxxxxxx1y", or SET key="11xxxxxxxxx" value="y""#;
    assert!(lines[0].ends_with(both), "{told}");
    assert!(
        lines[1].ends_with(r#"text:3: unreadable: "3set1a1b""#),
        "{told}"
    );
    assert!(lines[2].ends_with(r#"text:4: unreadable: """#), "{told}");
    assert!(lines[20].contains("14 such lines more"), "{told}");
    assert!(lines[21].contains("34 of the lines of text"), "{told}");
    assert!(lines[21].contains("--skip-unclear"), "{told}");
    assert_eq!(file_names(dir.path()), ["text"], "something was made");

    let args = ["import", "-skip-unclear", "-wal", "new/log", "text"];
    let (stdout, told) = done(dir.path(), &args);
    assert_eq!(
        stdout,
        "imported 2 operations (1 sets, 1 dels) from text into new/log\n"
    );
    assert_eq!(told.lines().count(), 21, "{told}");

    fs::write(dir.path().join("text"), "3SET1c9cut").unwrap();
    let output = log(dir.path(), &["import", "text", "-wal", "another"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("perhaps a write that was cut short"),
        "{told}"
    );
}

/// Such a line was imported as if it were whole, with a value that nobody had set.
#[test]
fn a_last_line_that_may_have_been_longer_is_imported_only_with_its_line_break() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text");
    for (n, (line, reading)) in [
        ("3SET1k11", r#"SET key="k" value="1""#),
        ("3SET1k10", r#"SET key="k" value="0""#),
        ("3SET2111v", r#"SET key="11" value="v""#),
        ("3DEL12", r#"DEL key="2""#),
    ]
    .into_iter()
    .enumerate()
    {
        let wal = format!("log-{n}");
        let args = ["import", "text", "-wal", &wal];
        fs::write(&file, format!("3SET1k0\n{line}")).unwrap();
        let output = log(dir.path(), &args);
        assert_eq!(output.status.code(), Some(1), "{line}");
        let told = String::from_utf8(output.stderr).unwrap();
        let unclear = format!(
            "postres: text:2: perhaps cut short: {reading} (the file ends in it; if the line is \
             whole, add a line break)"
        );
        assert_eq!(told.lines().next(), Some(&*unclear));
        assert!(told.contains("1 of the lines of text"), "{told}");
        fs::write(&file, format!("3SET1k0\n{line}\n")).unwrap();
        let (stdout, _) = done(dir.path(), &args);
        assert!(stdout.starts_with("imported 2 operations"), "{stdout}");
    }
    // Nothing that was written as a longer line begins so.
    for (n, line) in ["3SET5hello5world", "3SET1k0", "3SET02ab", "3DEL1k", "3DEL0"]
        .into_iter()
        .enumerate()
    {
        fs::write(&file, line).unwrap();
        let wal = format!("whole-{n}");
        let (stdout, told) = done(dir.path(), &["import", "text", "-wal", &wal]);
        assert!(stdout.starts_with("imported 1 operations"), "{stdout}");
        assert_eq!(told, "");
    }
}

#[test]
fn a_file_that_cannot_be_imported_is_one_line_and_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    fs::write(dir.path().join("text"), TEXT).unwrap();
    for (args, named) in [
        (["missing", "log"], "cannot read missing"),
        (["folder", "log"], "cannot read folder"),
        (["text", "folder"], "folder"),
        (["text", "folder/"], "folder/"),
        (["text", "text/log"], "text"),
        (["text", "/proc/log"], "/proc"),
    ] {
        let output = log(dir.path(), &["import", args[0], "-wal", args[1]]);
        assert_refused(&output, 1, &[named]);
    }
    assert_eq!(file_names(dir.path()), ["folder", "text"]);
    // The name of a file may look like a flag.
    fs::write(dir.path().join("-text"), TEXT).unwrap();
    done(dir.path(), &["import", "-wal", "log", "--", "-text"]);
}

/// Operations that fill several of the smallest segments.
fn long_text() -> Vec<u8> {
    let lines = (0..30).map(|n| format!("3SET6key:{n:02}700{}\n", "v".repeat(700)));
    lines.collect::<String>().into_bytes()
}

fn import_text(disk: &Disk, text: &[u8]) -> Result<Imported, ToolError> {
    let source = Source {
        path: Path::new("text"),
        open: &|| Ok(Box::new(io::Cursor::new(text.to_vec()))),
        skip_unclear: false,
    };
    import(Arc::new(disk.clone()), &options(), &source, &mut io::sink())
}

#[test]
fn an_import_that_fails_anywhere_leaves_nothing_and_can_be_made_again() {
    let text = long_text();
    for fault in [Fault::Fail(EIO), Fault::FailHalfway(ENOSPC)] {
        for nth in 0.. {
            let disk = Disk::default();
            let (calls, hit) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
            disk.plan({
                let hit = Arc::clone(&hit);
                move |_, _| {
                    let now = calls.fetch_add(1, Ordering::Relaxed) == nth;
                    hit.fetch_or(now, Ordering::Relaxed);
                    now.then_some(fault)
                }
            });
            let result = import_text(&disk, &text);
            disk.heal();
            if result.is_ok() {
                let (_, _, operations) = open(&disk).unwrap();
                assert_eq!(operations.len(), 30, "call {nth}");
            } else {
                assert_eq!(disk.files(), [].into(), "call {nth}: {result:?}");
                assert_eq!(import_text(&disk, &text).unwrap().sets, 30, "call {nth}");
            }
            if !hit.load(Ordering::Relaxed) {
                assert!(nth > 50, "only {nth} calls");
                break;
            }
        }
    }
}

/// What a server finds after a crash: nothing, all, or something that it refuses.
fn check_after_crash(disk: &Disk, text: &[u8], context: &str) {
    let whole = match open(&disk.copy()) {
        Ok((_, _, operations)) => {
            let whole = operations.len() == 30;
            assert!(whole || operations.is_empty(), "{context}");
            whole
        }
        Err(_) => false,
    };
    match import_text(disk, text) {
        Ok(imported) => assert_eq!(imported.sets, 30, "{context}"),
        Err(ToolError::LogExists { .. }) => assert!(whole, "{context}"),
        Err(error) => panic!("{context}: {error}"),
    }
    assert_eq!(open(disk).unwrap().2.len(), 30, "{context}");
    let left = disk
        .files()
        .into_keys()
        .map(|path| path.display().to_string());
    let left: Vec<String> = left.filter(|name| name.contains("import")).collect();
    assert_eq!(left, [""; 0], "{context}");
}

#[test]
fn an_import_cut_short_by_a_crash_is_never_taken_for_a_whole_log() {
    let text = long_text();
    for nth in 0.. {
        let disk = Disk::default();
        let (calls, cut) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        disk.plan({
            let cut = Arc::clone(&cut);
            move |_, _| {
                // From this call on nothing is done any more, as after a crash.
                let now = calls.fetch_add(1, Ordering::Relaxed) >= nth;
                cut.fetch_or(now, Ordering::Relaxed);
                now.then_some(Fault::Fail(EIO))
            }
        });
        let result = import_text(&disk, &text);
        disk.heal();
        for fate in [Fate::Kept, Fate::Lost, Fate::Torn(100), Fate::OnlyLast] {
            if result.is_ok() {
                let (_, _, operations) = open(&disk.crash(fate)).unwrap();
                assert_eq!(
                    operations.len(),
                    30,
                    "call {nth}, {fate:?}: it said that it was done"
                );
            }
            check_after_crash(&disk.crash(fate), &text, &format!("call {nth}, {fate:?}"));
        }
        // The process alone died: what it did is there, synced or not.
        check_after_crash(&disk.copy(), &text, &format!("call {nth}, killed"));
        if !cut.load(Ordering::Relaxed) {
            assert!(result.is_ok() && nth > 50, "{nth} calls: {result:?}");
            break;
        }
    }
}

#[test]
fn whichever_renames_of_an_import_a_crash_keeps_a_part_of_them_is_refused() {
    let text = long_text();
    let disk = Disk::default();
    import_text(&disk, &text).unwrap();
    let named: Vec<(PathBuf, Vec<u8>)> = disk.files().into_iter().collect();
    assert!((3..10).contains(&named.len()), "{} segments", named.len());
    for kept in 1..(1 << named.len()) - 1 {
        let disk = Disk::default();
        for (n, (path, bytes)) in named.iter().enumerate() {
            let name = path.file_name().unwrap().to_str().unwrap();
            let staged = name.replace("wal_file.", "wal_file.import-unfinished.");
            let renamed = kept & 1 << n != 0;
            let name = if renamed { name.to_owned() } else { staged };
            disk.put(&Path::new("dir").join(name), bytes.clone());
        }
        assert!(open(&disk).is_err(), "a start on {kept:b}");
        check_after_crash(&disk, &text, &format!("{kept:b}"));
    }
}

#[test]
fn a_log_of_someone_else_s_is_never_cleared_away() {
    let text = long_text();
    // An import of another log was cut short beside this one.
    let disk = disk_with_sets(3);
    let other = Disk::default();
    import_text(&other, &text).unwrap();
    let (path, bytes) = other.files().pop_first().unwrap();
    let name = path.display().to_string();
    let name = name.replace("wal_file.", "wal_file.import-unfinished.");
    disk.put(Path::new(&name), bytes);
    let before = disk.files();
    let refused = import_text(&disk, &text);
    assert!(
        matches!(refused, Err(ToolError::LogExists { .. })),
        "{refused:?}"
    );
    assert_eq!(disk.files(), before);
    // A server runs on what has the name of an import's files.
    let disk = Disk::default();
    let elsewhere = LogOptions {
        path: "dir/wal_file.import-unfinished".into(),
        ..options()
    };
    let running = open_with(&disk, &elsewhere).unwrap();
    let before = disk.files();
    let refused = import_text(&disk, &text);
    assert!(
        matches!(refused, Err(ToolError::InUse { .. })),
        "{refused:?}"
    );
    assert_eq!(disk.files(), before);
    drop(running);
}

#[test]
fn a_file_that_changes_while_it_is_imported_is_not_imported() {
    let disk = Disk::default();
    let opened = AtomicUsize::new(0);
    let source = Source {
        path: Path::new("text"),
        open: &|| {
            let times = opened.fetch_add(1, Ordering::Relaxed) + 1;
            Ok(Box::new(io::Cursor::new("3DEL1k\n".repeat(times))))
        },
        skip_unclear: false,
    };
    let result = import(Arc::new(disk.clone()), &options(), &source, &mut io::sink());
    assert!(
        matches!(result, Err(ToolError::Changed { .. })),
        "{result:?}"
    );
    assert_eq!(disk.files(), [].into());
    assert_eq!(
        disk.count(Call::Rename),
        1,
        "only that of the first segment's preparation"
    );
}

#[test]
fn an_import_holds_little_of_a_file_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    // 96 MiB in 96 lines.
    let line = format!("3SET1k{}{}\n", 1 << 20, "v".repeat(1 << 20));
    fs::write(dir.path().join("text"), line.repeat(96)).unwrap();
    let mut shell = std::process::Command::new("sh");
    // No more address space than this, the program's own included.
    shell.args(["-c", "ulimit -v 96000; exec \"$0\" \"$@\""]);
    shell.arg(env!("CARGO_BIN_EXE_postres"));
    shell.args(["log", "import", "text", "-wal", "wal_file"]);
    shell.current_dir(dir.path()).env_remove("POSTRES_WAL");
    let output = run(shell);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(segments(dir.path()).len(), 2);
    let server = Server::spawn(with_log(binary(dir.path()), dir.path()));
    let mut client = server.connect();
    assert_eq!(client.request("STRLEN k"), format!("+OK {}", 1 << 20));
    server.stop();
}
