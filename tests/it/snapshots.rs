//! Snapshots on the disk: each row of the decision table in `src/wal/recovery/mod.rs` that has to
//! do with them, and damage at every byte, every length, every block and every file.
//!
//! The state that the log of these tests is folded into is its operations themselves, in order, and
//! a snapshot's records are the operations before it. So whatever a start hands over can be held
//! against all that was ever acknowledged: it is either just that, or the start is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postres::time::Timestamp;
use postres::wal::Lsn;
use postres::wal::frame::{FrameCodec, HEADER_LEN};
use postres::wal::header::HeaderError;
use postres::wal::recovery::{self, Progress, RecoveryError, Repair, Replay, Report};
use postres::wal::snapshot::{Block, SnapshotHeader};
use postres::wal::writer::LogWriter;

use crate::disk::{Disk, EIO, Fate, Fault};
use crate::support::log::{FIRST_FRAME, append, operations, options, segment};

fn snapshot(next: u64) -> PathBuf {
    Path::new("dir").join(format!("wal_file.{next:020}.snapshot"))
}

/// All operations that a start was given, be it in a snapshot or behind it.
#[derive(Debug, Default)]
struct Folded(Vec<Vec<u8>>);

impl Replay for Folded {
    fn begin_snapshot(&mut self, _: &SnapshotHeader) {
        assert!(self.0.is_empty(), "what was taken in before is forgotten");
    }

    fn block(&mut self, block: Block) -> Result<(), String> {
        self.0.extend(block.records().map(<[u8]>::to_vec));
        Ok(())
    }

    fn end_snapshot(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn discard_snapshot(&mut self) {
        self.0.clear();
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn operation(&mut self, lsn: Lsn, _: Timestamp, bytes: &[u8]) -> Result<(), String> {
        self.0.push(bytes.to_vec());
        assert_eq!(lsn.0, self.0.len() as u64, "it follows what came before");
        Ok(())
    }

    fn progress(&mut self, progress: Progress) {
        assert!(progress.done <= progress.total, "{progress:?}");
    }
}

type Opened = Result<(LogWriter, Report, Vec<Vec<u8>>), RecoveryError>;

fn open(disk: &Disk) -> Opened {
    let mut folded = Folded::default();
    let (writer, report) = recovery::open(Arc::new(disk.clone()), &options(), &mut folded)?;
    Ok((writer, report, folded.0))
}

/// The disk refuses to open, says what and where, and is left just as it was.
#[track_caller]
fn refused(disk: &Disk) -> RecoveryError {
    let before = disk.files();
    let opened = open(disk).map(|(_, report, found)| (report, found.len()));
    let error = opened.expect_err("it is refused");
    assert_eq!(disk.files(), before, "a refusal changes nothing: {error}");
    let text = error.to_string();
    let told = text.contains("dir/wal_file") && text.contains("Nothing was changed");
    assert!(told && !text.contains('\n'), "{text}");
    error
}

/// The disk opens to just these operations; says what was mended.
#[track_caller]
fn opens_to(disk: &Disk, all: &[Vec<u8>]) -> Vec<Repair> {
    let (writer, report, found) = open(disk).unwrap();
    assert!(found == all, "{} of {} operations", found.len(), all.len());
    drop(writer);
    report.repairs
}

fn superfluous(paths: impl IntoIterator<Item = PathBuf>) -> Vec<Repair> {
    let paths = paths.into_iter();
    paths.map(|path| Repair::Superfluous { path }).collect()
}

/// Whether these are what is said of one damaged snapshot, and of nothing else.
fn tells_of_damage(repairs: &[Repair], of: u64) -> bool {
    matches!(repairs, [Repair::BrokenSnapshot { path, .. }, rest @ ..]
        if *path == snapshot(of)
            && rest.iter().all(|repair| matches!(repair, Repair::Superfluous { .. })))
}

/// What is written behind how many operations.
#[derive(Clone, Copy)]
enum Then {
    /// A snapshot, and nothing is removed for it: the crash came right behind it.
    Snapshot(usize),
    /// A snapshot, and the removal of what it makes superfluous.
    Compact(usize),
}

/// A log of these operations, a frame each, with snapshots in between.
fn log_of(all: &[Vec<u8>], then: &[Then]) -> Disk {
    let disk = Disk::default();
    let (mut writer, ..) = open(&disk).unwrap();
    for (count, operation) in (1..).zip(all) {
        let position = append(&mut writer, operation).unwrap();
        for then in then {
            let (Then::Snapshot(at) | Then::Compact(at)) = *then;
            if at == count {
                take_snapshot(&writer, &all[..count], position.time);
                if let Then::Compact(_) = then {
                    writer.folder().retire(Lsn(at as u64 + 1)).unwrap();
                }
            }
        }
    }
    // As a crash leaves it, so that nothing but the files themselves vouches for anything.
    drop(writer);
    disk
}

fn take_snapshot(writer: &LogWriter, before: &[Vec<u8>], time: Timestamp) {
    let count = before.len() as u64;
    let folder = writer.folder();
    let mut snapshot = folder.begin_snapshot(Lsn(count + 1), time, count).unwrap();
    for record in before {
        snapshot.push(|out| out.extend_from_slice(record)).unwrap();
    }
    snapshot.finish().unwrap();
}

/// Changes the bytes of a file.
fn edit(disk: &Disk, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.take(path);
    change(&mut bytes);
    disk.put(path, bytes);
}

fn damage(disk: &Disk, next: u64) {
    edit(disk, &snapshot(next), |bytes| bytes[FIRST_FRAME + 60] ^= 1);
}

fn rename(disk: &Disk, from: &Path, to: &Path) {
    let bytes = disk.take(from);
    disk.put(to, bytes);
}

/// A header changed, and its checksum made to agree.
fn edit_header(disk: &Disk, next: u64, change: impl FnOnce(&mut [u8])) {
    edit(disk, &snapshot(next), |bytes| {
        change(bytes);
        let sum = crc32c::crc32c(&bytes[..FIRST_FRAME - 4]);
        bytes[FIRST_FRAME - 4..FIRST_FRAME].copy_from_slice(&sum.to_le_bytes());
    });
}

fn all() -> Vec<Vec<u8>> {
    operations(65, 100)
}

/// Where the segments of the log of [`all`] begin.
const BASES: [u64; 3] = [1, 27, 53];

/// A log from 1 with two snapshots that nothing was removed for.
fn two_snapshots() -> Disk {
    let disk = log_of(&all(), &[Then::Snapshot(30), Then::Snapshot(60)]);
    let expected = BASES.map(segment).into_iter();
    let expected = expected.chain([31, 61].map(snapshot));
    assert_eq!(
        disk.files().into_keys().collect::<Vec<_>>(),
        expected
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    disk
}

/// A log that begins with the second of its two snapshots.
fn compacted() -> Disk {
    let disk = log_of(&all(), &[Then::Compact(30), Then::Compact(60)]);
    let mut names = disk.files();
    names.retain(|path, _| path.extension().is_some_and(|kind| kind != "new"));
    let expected = [segment(53), snapshot(61)];
    assert_eq!(names.into_keys().collect::<Vec<_>>(), expected);
    disk
}

#[test]
fn a_whole_snapshot_begins_the_state_and_what_it_made_superfluous_is_removed_unread() {
    let disk = two_snapshots();
    // Nobody may look into these any more.
    for path in [segment(1), segment(27), snapshot(31)] {
        edit(&disk, &path, |bytes| bytes.fill(0xaa));
    }
    let repairs = opens_to(&disk, &all());
    assert_eq!(
        repairs,
        superfluous([snapshot(31), segment(1), segment(27)])
    );
    assert_eq!(
        disk.files().into_keys().collect::<Vec<_>>(),
        [segment(53), snapshot(61)]
    );
    assert_eq!(opens_to(&disk, &all()), []);
}

#[test]
fn the_log_behind_a_snapshot_goes_on_where_it_ended() {
    let disk = compacted();
    let mut all = all();
    for n in 0..40 {
        let (mut writer, _, found) = open(&disk).unwrap();
        assert_eq!(found, all);
        all.push(format!("behind the snapshot: {n:080}").into_bytes());
        append(&mut writer, all.last().unwrap()).unwrap();
    }
    assert_eq!(opens_to(&disk, &all), []);
}

#[test]
fn the_removal_of_what_is_superfluous_cut_short_anywhere_loses_nothing() {
    for fate in [Fate::Kept, Fate::Lost, Fate::Torn(13)] {
        for fail_at in 0.. {
            let disk = two_snapshots();
            disk.put(&snapshot(70).with_extension("snapshot.new"), vec![7; 9]);
            let mut calls = 0;
            disk.plan(move |_, _| {
                calls += 1;
                (calls > fail_at).then_some(Fault::Fail(EIO))
            });
            let opened = open(&disk).is_ok();
            let after = disk.crash(fate);
            opens_to(&after, &all());
            assert_eq!(opens_to(&after, &all()), [], "a second time");
            if opened {
                assert!(fail_at > 4, "the removals are calls that can fail");
                break;
            }
        }
    }
}

#[test]
fn behind_a_damaged_snapshot_an_older_one_and_its_segments_lose_nothing() {
    let disk = two_snapshots();
    damage(&disk, 61);
    let repairs = opens_to(&disk, &all());
    assert!(tells_of_damage(&repairs, 61), "{repairs:?}");
    assert_eq!(repairs[1..], superfluous([segment(1)]));
    assert!(disk.files().contains_key(&snapshot(61)), "left where it is");
    // And the next one that is written takes the place of both.
    let (writer, ..) = open(&disk).unwrap();
    take_snapshot(&writer, &all(), Timestamp(1_700_000_000_000));
    writer.folder().retire(Lsn(66)).unwrap();
    drop(writer);
    let snapshots: Vec<_> = disk.files().into_keys().collect();
    let snapshots = snapshots
        .iter()
        .filter(|path| path.extension().unwrap() == "snapshot");
    assert_eq!(snapshots.collect::<Vec<_>>(), [&snapshot(66)]);
    opens_to(&disk, &all());
}

#[test]
fn behind_damaged_snapshots_a_log_from_its_first_operation_loses_nothing() {
    let disk = two_snapshots();
    damage(&disk, 31);
    damage(&disk, 61);
    let repairs = opens_to(&disk, &all());
    let told = |of| move |repair: &Repair| tells_of_damage(std::slice::from_ref(repair), of);
    assert!(told(61)(&repairs[0]) && told(31)(&repairs[1]) && repairs.len() == 2);
    for next in [31, 61] {
        assert!(disk.files().contains_key(&snapshot(next)));
    }
}

#[test]
fn a_damaged_snapshot_that_nothing_makes_up_for_is_refused_by_what_is_missing() {
    let disk = compacted();
    damage(&disk, 61);
    let error = refused(&disk);
    let text = error.to_string();
    assert!(matches!(error, RecoveryError::BrokenSnapshot { .. }));
    assert!(
        text.contains("61.snapshot is damaged at offset 4096"),
        "{text}"
    );
    assert!(
        text.contains("no other file holds the operations 1 to 52"),
        "{text}"
    );

    // An older one is there, and the log does not reach back to it.
    let disk = log_of(&all(), &[Then::Snapshot(10), Then::Snapshot(60)]);
    disk.take(&segment(1));
    disk.take(&segment(27));
    damage(&disk, 61);
    let text = refused(&disk).to_string();
    assert!(
        text.contains("no other file holds the operations 11 to 52"),
        "{text}"
    );

    // Two of them, both damaged.
    let disk = two_snapshots();
    disk.take(&segment(1));
    damage(&disk, 31);
    damage(&disk, 61);
    let text = refused(&disk).to_string();
    assert!(text.contains("61.snapshot is damaged"), "{text}");
    assert!(
        text.contains("no other file holds the operations 1 to 26"),
        "{text}"
    );
}

#[test]
fn a_damaged_snapshot_that_the_log_does_not_reach_is_refused() {
    let disk = two_snapshots();
    damage(&disk, 61);
    // The last segment is gone, and so is the seal that tells of it.
    disk.take(&segment(53));
    edit(&disk, &segment(27), |bytes| {
        let seal = FIRST_FRAME + 26 * 152;
        bytes[seal..].fill(0);
    });
    let error = refused(&disk);
    assert!(matches!(error, RecoveryError::BrokenSnapshot { .. }));
    let text = error.to_string();
    assert!(
        text.contains("ends before operation 53, and 61 was to follow"),
        "{text}"
    );
}

#[test]
fn a_snapshot_under_another_name_is_taken_for_a_damaged_one() {
    // In between, where the older one makes up for it.
    let disk = two_snapshots();
    rename(&disk, &snapshot(61), &snapshot(41));
    let repairs = opens_to(&disk, &all());
    assert!(tells_of_damage(&repairs, 41), "{repairs:?}");
    let Repair::BrokenSnapshot { reason, .. } = &repairs[0] else {
        panic!("{repairs:?}");
    };
    assert!(
        reason.contains("says that the log goes on at operation 61"),
        "{reason}"
    );
    // Beyond the log's end: what would have been up to there is missing.
    let disk = two_snapshots();
    rename(&disk, &snapshot(61), &snapshot(1000));
    assert!(matches!(
        refused(&disk),
        RecoveryError::BrokenSnapshot { .. }
    ));
    // Nothing makes up for it.
    let disk = compacted();
    rename(&disk, &snapshot(61), &snapshot(66));
    assert!(matches!(
        refused(&disk),
        RecoveryError::BrokenSnapshot { .. }
    ));
}

#[test]
fn a_snapshot_of_another_log_is_refused() {
    for (mine, others) in [
        (compacted(), compacted()),
        (two_snapshots(), two_snapshots()),
    ] {
        mine.put(&snapshot(61), others.take(&snapshot(61)));
        let error = refused(&mine);
        assert!(matches!(error, RecoveryError::Misplaced { .. }));
        assert!(error.to_string().contains("belongs to another log"));
    }
}

#[test]
fn a_snapshot_of_a_later_version_is_refused_whatever_else_is_there() {
    for disk in [compacted(), two_snapshots()] {
        edit_header(&disk, 61, |bytes| bytes[8] = 2);
        let error = refused(&disk);
        let later = matches!(&error, RecoveryError::Header { path, cause: HeaderError::Version(2) }
            if *path == snapshot(61));
        assert!(later, "{error}");
    }
}

#[test]
fn a_segment_in_the_place_of_a_snapshot_is_no_snapshot() {
    let disk = two_snapshots();
    disk.put(&snapshot(61), disk.files()[&segment(53)].clone());
    assert!(tells_of_damage(&opens_to(&disk, &all()), 61));
    let disk = compacted();
    disk.put(&snapshot(61), disk.files()[&segment(53)].clone());
    assert!(matches!(
        refused(&disk),
        RecoveryError::BrokenSnapshot { .. }
    ));
}

#[test]
fn a_snapshot_without_a_log_behind_it_is_refused() {
    for disk in [compacted(), two_snapshots()] {
        for base in BASES.map(segment) {
            if disk.files().contains_key(&base) {
                disk.take(&base);
            }
        }
        let error = refused(&disk);
        let missing = matches!(&error, RecoveryError::EndMissing { next: Lsn(61), .. });
        assert!(missing, "{error}");
        assert!(
            error.to_string().contains("no file holds operation 60"),
            "{error}"
        );
    }
}

#[test]
fn a_log_that_ends_before_its_snapshot_is_refused() {
    let whole = compacted();
    let frames = FIRST_FRAME..FIRST_FRAME + 13 * 152;
    for len in frames {
        // Operation 60 is the eighth of the last segment.
        let reaches = len >= FIRST_FRAME + 8 * 152;
        let disk = whole.copy();
        edit(&disk, &segment(53), |bytes| bytes.truncate(len));
        if reaches {
            let found = 52 + (len - FIRST_FRAME) / 152;
            let repairs = opens_to(&disk, &all()[..found]);
            let told = matches!(
                repairs[..],
                [Repair::ShortFile { .. }, ..]
                    | [Repair::Leftover { .. }, ..]
                    | [Repair::TornTail { .. }, ..]
            );
            assert!(told, "{len} bytes: {repairs:?}");
        } else {
            let error = refused(&disk);
            assert!(matches!(error, RecoveryError::EndMissing { .. }), "{error}");
        }
    }
}

#[test]
fn a_gap_between_a_snapshot_and_the_log_behind_it_is_refused() {
    let disk = two_snapshots();
    disk.take(&snapshot(61));
    disk.take(&segment(27));
    disk.take(&segment(1));
    match refused(&disk) {
        RecoveryError::Gap { from, to, path } => {
            assert_eq!((from, to, path), (Lsn(31), Lsn(52), segment(53)));
        }
        error => panic!("{error}"),
    }
    // Behind a segment that only reaches up to the gap, the segment is what tells.
    let disk = two_snapshots();
    disk.take(&snapshot(61));
    disk.take(&segment(27));
    let error = refused(&disk);
    let told = matches!(
        &error,
        RecoveryError::Gap {
            from: Lsn(27),
            to: Lsn(52),
            ..
        }
    );
    assert!(told, "{error}");
}

#[test]
fn a_snapshot_that_was_not_finished_is_removed_whatever_it_holds() {
    let whole = compacted().files()[&snapshot(61)].clone();
    for bytes in [Vec::new(), vec![7; 100], whole[..5000].to_vec(), whole] {
        for disk in [two_snapshots(), log_of(&all(), &[])] {
            let new = snapshot(66).with_extension("snapshot.new");
            disk.put(&new, bytes.clone());
            let repairs = opens_to(&disk, &all());
            assert_eq!(repairs[0], Repair::Leftover { path: new.clone() });
            assert!(!disk.files().contains_key(&new));
        }
    }
    // It alone is no log at all.
    let disk = Disk::default();
    disk.put(&snapshot(66).with_extension("snapshot.new"), vec![7; 100]);
    opens_to(&disk, &[]);
}

/// A few operations, the log of which is small.
fn few() -> Vec<Vec<u8>> {
    operations(6, 20)
}

/// The same log thrice: begun by its snapshot alone, with an older snapshot, and from 1.
fn small_logs() -> [Disk; 3] {
    // An operation of its own size fills the first segment, so that compaction removes it.
    let alone = log_of(&few(), &[Then::Snapshot(4)]);
    let header = alone.files()[&segment(1)].clone();
    let mut header = postres::wal::segment::SegmentHeader::decode(&header).unwrap();
    // The log as if it had gone on in a segment of its own behind the snapshot.
    header.base = Lsn(5);
    alone.take(&segment(1));
    let mut bytes = header.encode();
    for (lsn, operation) in (1..).zip(few()).skip(4) {
        bytes.extend(frame(&header, lsn, bytes.len() as u64, &operation));
    }
    bytes.resize(8192, 0);
    alone.put(&segment(5), bytes);
    opens_to(&alone, &few());
    let older = log_of(&few(), &[Then::Snapshot(2), Then::Snapshot(4)]);
    [alone, older, log_of(&few(), &[Then::Snapshot(4)])]
}

/// A frame of one operation.
fn frame(
    header: &postres::wal::segment::SegmentHeader,
    lsn: u64,
    synced: u64,
    operation: &[u8],
) -> Vec<u8> {
    use postres::wal::frame::{FrameHeader, FrameKind, push_operation};
    let mut bytes = vec![0; HEADER_LEN];
    push_operation(&mut bytes, |out| out.extend_from_slice(operation));
    let frame = FrameHeader {
        kind: FrameKind::Operations,
        lsn: Lsn(lsn),
        time: Timestamp(1_700_000_000_000),
        synced,
        count: 1,
        body_len: 0,
    };
    header.codec().seal(&mut bytes, frame);
    bytes
}

/// A snapshot that is no longer what it was is found: by a log that needs it with a refusal, by
/// one that does not with a report.
#[track_caller]
fn found_to_be_damaged(log: &Disk, what: &str, bytes: &[u8]) {
    let disk = log.copy();
    disk.put(&snapshot(5), bytes.to_vec());
    if disk.files().contains_key(&segment(1)) {
        let repairs = opens_to(&disk, &few());
        assert!(tells_of_damage(&repairs, 5), "{what}: {repairs:?}");
    } else {
        let error = refused(&disk);
        let broken = matches!(error, RecoveryError::BrokenSnapshot { .. });
        assert!(broken, "{what}: {error}");
    }
}

/// All places of a snapshot of this length; where it is not needed, fewer within its header.
fn places(log: &Disk, len: usize) -> impl Iterator<Item = usize> {
    let needed = !log.files().contains_key(&segment(1));
    (0..len).filter(move |at| needed || *at >= FIRST_FRAME || at % 16 == 0)
}

#[test]
fn every_byte_of_a_snapshot_flipped_is_found() {
    for log in small_logs() {
        let whole = log.files()[&snapshot(5)].clone();
        for at in places(&log, whole.len()) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            found_to_be_damaged(&log, &format!("byte {at}"), &bytes);
        }
    }
}

#[test]
fn a_snapshot_cut_at_any_length_or_followed_by_anything_is_found() {
    for log in small_logs() {
        let whole = log.files()[&snapshot(5)].clone();
        for len in places(&log, whole.len()) {
            found_to_be_damaged(&log, &format!("{len} bytes"), &whole[..len]);
        }
        let last = whole[whole.len() - HEADER_LEN..].to_vec();
        for behind in [vec![0], vec![0; 8], vec![7; 100], vec![0; 4096], last] {
            let longer = [whole.clone(), behind].concat();
            found_to_be_damaged(&log, "something follows", &longer);
        }
    }
}

#[test]
fn every_field_of_a_header_is_held_against_what_follows() {
    for log in small_logs() {
        let needed = !log.files().contains_key(&segment(1));
        for at in (8..12).chain(16..48) {
            let disk = log.copy();
            edit_header(&disk, 5, |bytes| bytes[at] ^= 0x40);
            match (at, open(&disk)) {
                // Version, and the id of the log: never to be passed over.
                (8..12, Err(RecoveryError::Header { .. }))
                | (16..24, Err(RecoveryError::Misplaced { .. })) => {}
                // Where the log goes on, the salt, the time.
                (24..48, Err(RecoveryError::BrokenSnapshot { .. })) if needed => {}
                (24..48, Ok((_, report, found))) if !needed => {
                    assert_eq!(found, few());
                    assert!(tells_of_damage(&report.repairs, 5));
                }
                (_, opened) => panic!("byte {at}: {:?}", opened.map(|(_, report, _)| report)),
            }
        }
        // How many keys there are the log cannot tell, but that the file has no room for so many.
        let disk = log.copy();
        edit_header(&disk, 5, |bytes| bytes[48..56].fill(0x7f));
        assert!(matches!(refused(&disk), RecoveryError::Impossible { .. }));
    }
}

/// A log that begins with a snapshot of several blocks, and the same from 1.
fn large_logs() -> (Vec<Vec<u8>>, [Disk; 2]) {
    let all: Vec<_> = operations(40, 30_000);
    let compacted = log_of(&all, &[Then::Compact(36)]);
    let from_1 = log_of(&all, &[Then::Snapshot(36)]);
    opens_to(&compacted, &all);
    (all, [compacted, from_1])
}

/// The header and the blocks of a snapshot.
fn parts_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    let codec = FrameCodec::new(SnapshotHeader::decode(bytes).unwrap().salt);
    let (header, mut rest) = bytes.split_at(FIRST_FRAME);
    let mut parts = vec![header.to_vec()];
    while !rest.is_empty() {
        let (block, _) = codec.open_header(rest).unwrap();
        let (block, behind) = rest.split_at(block.frame_len());
        parts.push(block.to_vec());
        rest = behind;
    }
    parts
}

#[test]
fn blocks_of_a_snapshot_removed_repeated_swapped_or_strange_are_found() {
    let (all, logs) = large_logs();
    let strange = log_of(&all, &[Then::Snapshot(36)]);
    let strange = parts_of(&strange.files()[&snapshot(37)]);
    for log in logs {
        let needed = !log.files().contains_key(&segment(1));
        let parts = parts_of(&log.files()[&snapshot(37)]);
        assert!(parts.len() > 5, "{} parts", parts.len());
        let mut damaged = Vec::new();
        for i in 0..parts.len() {
            for j in 0..=parts.len() {
                let mut bad = parts.clone();
                bad.insert(j, parts[i].clone());
                damaged.push((format!("{i} again at {j}"), bad));
                if j > i && j < parts.len() {
                    let mut bad = parts.clone();
                    bad.swap(i, j);
                    damaged.push((format!("{i} and {j} swapped"), bad));
                    let bad = [&parts[..i], &parts[j..]].concat();
                    damaged.push((format!("none from {i} to {j}"), bad));
                }
            }
            let mut bad = parts.clone();
            bad[i] = strange[i].clone();
            damaged.push((format!("{i} of another snapshot"), bad));
            damaged.push((format!("only {i}"), parts[..i].to_vec()));
        }
        for (what, bad) in damaged {
            let bad = bad.concat();
            let disk = log.copy();
            disk.put(&snapshot(37), bad);
            match open(&disk) {
                Err(RecoveryError::BrokenSnapshot { .. }) if needed => {}
                // A header of another log, over its own blocks or not.
                Err(RecoveryError::Misplaced { .. }) => assert_eq!(what, "0 of another snapshot"),
                Ok((_, report, found)) if !needed => {
                    assert!(found == all, "{what}");
                    let [Repair::BrokenSnapshot { path, .. }, ..] = &report.repairs[..] else {
                        panic!("{what}: {:?}", report.repairs);
                    };
                    assert_eq!(*path, snapshot(37));
                }
                opened => panic!("{what}: {:?}", opened.map(|(_, report, _)| report)),
            }
        }
    }
}

/// A log from 1 with two snapshots, stopped in order, so that every frame of it is vouched for.
fn long_log() -> (Vec<Vec<u8>>, Disk) {
    let all = operations(150, 100);
    let disk = log_of(&all, &[Then::Snapshot(40), Then::Snapshot(90)]);
    let segments = disk.files();
    // Read by one that knows of no snapshot: a start removes what a snapshot has made superfluous.
    for next in [41, 91] {
        disk.take(&snapshot(next));
    }
    open(&disk).unwrap().0.close().unwrap();
    for next in [41, 91].map(snapshot) {
        disk.put(&next, segments[&next].clone());
    }
    (all, disk)
}

#[test]
fn segments_behind_a_snapshot_missing_cut_or_exchanged_never_start_in_part() {
    let (all, disk) = long_log();
    disk.take(&snapshot(91));
    let bases: Vec<PathBuf> = disk
        .files()
        .into_keys()
        .filter(|path| path.extension().unwrap() == "segment")
        .collect();
    assert!(bases.len() > 4);
    // The first holds only what is in the snapshot.
    let (first, behind) = bases.split_first().unwrap();
    let one_fewer = disk.copy();
    one_fewer.take(first);
    opens_to(&one_fewer, &all);
    for (n, path) in behind.iter().enumerate() {
        let last = n + 1 == behind.len();
        let missing = disk.copy();
        missing.take(path);
        refused(&missing);
        for other in behind.iter().filter(|other| *other != path) {
            let swapped = disk.copy();
            let (a, b) = (swapped.take(path), swapped.take(other));
            swapped.put(path, b);
            swapped.put(other, a);
            assert!(matches!(refused(&swapped), RecoveryError::Misplaced { .. }));
            let twice = disk.copy();
            twice.put(path, disk.files()[other].clone());
            assert!(matches!(refused(&twice), RecoveryError::Misplaced { .. }));
        }
        for len in (0..8192).step_by(if last { 13 } else { 101 }) {
            let cut = disk.copy();
            edit(&cut, path, |bytes| bytes.truncate(len));
            match open(&cut) {
                Err(_) => {}
                // Zeros behind a seal are none that anybody misses.
                Ok((.., found)) if !last => assert!(found == all, "{path:?} at {len}"),
                Ok((_, report, found)) => {
                    // The end of the log, cut: told, and never before the snapshot.
                    let whole = found == all[..found.len()] && found.len() >= 40;
                    assert!(whole, "{len}: {} operations", found.len());
                    let short = |repair: &Repair| matches!(repair, Repair::ShortFile { .. });
                    assert!(report.repairs.iter().any(short), "{len}");
                }
            }
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// Damages a file in some way; says which, if it holds fewer frames now and is otherwise whole.
fn ruin(disk: &Disk, random: &mut Random) -> Option<PathBuf> {
    let files: BTreeMap<PathBuf, Vec<u8>> = disk.files();
    let whole = files.iter().filter(|(_, bytes)| !bytes.is_empty());
    let paths: Vec<&PathBuf> = whole.map(|(path, _)| path).collect();
    let some = |random: &mut Random| paths[random.below(paths.len())];
    let path = some(random);
    match random.below(6) {
        0 => drop(disk.take(path)),
        1 => {
            let len = files[path].len();
            let len = if random.below(2) == 0 {
                len
            } else {
                5000.min(len)
            };
            edit(disk, path, |bytes| bytes.truncate(random.below(len)));
            return Some(path.clone());
        }
        2 => edit(disk, path, |bytes| {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }),
        3 => disk.put(path, files[some(random)].clone()),
        4 => {
            let at = random.below(300) as u64;
            let to = if random.below(2) == 0 {
                segment(at)
            } else {
                snapshot(at)
            };
            rename(disk, path, &to);
        }
        _ => {
            edit(disk, path, |bytes| {
                let from = random.below(bytes.len());
                let to = from + random.below(bytes.len() - from);
                bytes[from..to].fill(0);
            });
            return Some(path.clone());
        }
    }
    None
}

#[test]
fn whatever_befalls_the_files_a_start_finds_everything_or_is_refused() {
    let (all, log) = long_log();
    let mut random = Random(7);
    let (mut refusals, mut starts) = (0, 0);
    for round in 0..1500 {
        let disk = log.copy();
        let mut shortened = Vec::new();
        for _ in 0..=random.below(2) {
            if disk.files().values().any(|bytes| !bytes.is_empty()) {
                shortened.extend(ruin(&disk, &mut random));
            }
        }
        let before = disk.files();
        let of_kind = |kind: &'static str| {
            let paths = before.keys();
            paths.filter(move |path| path.extension().is_some_and(|found| found == kind))
        };
        let nothing = of_kind("segment").count() + of_kind("snapshot").count() == 0;
        // Where the last segment ends early, nobody can tell how far the log went; its snapshots can.
        let last = of_kind("segment").next_back();
        let cut = last.is_some_and(|last| shortened.contains(last));
        match open(&disk) {
            Err(_) => {
                refusals += 1;
                assert_eq!(
                    disk.files(),
                    before,
                    "round {round}: a refusal changes nothing"
                );
            }
            Ok((.., found)) if nothing => assert!(found.is_empty()),
            Ok((_, report, found)) => {
                starts += 1;
                let prefix = found == all[..found.len()] && found.len() >= 40;
                let whole = found == all || cut && prefix;
                assert!(
                    whole,
                    "round {round}: {} operations, {report:?}",
                    found.len()
                );
            }
        }
    }
    println!("{refusals} refusals, {starts} starts");
    assert!(refusals > 300 && starts > 300);
}
