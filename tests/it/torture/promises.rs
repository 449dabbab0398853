//! Promises whose breach needs more than a power cut to show.

use postres::time::Timestamp;
use postres::wal::segment::SegmentHeader;
use postres::wal::snapshot::SnapshotError;
use postres::wal::writer::LogWriter;
use postres::wal::{LogOptions, Lsn, SyncPolicy};

use crate::disk::{Call, Disk, Fate, Fault};
use crate::support::log::{append, contents, open, open_with, operations, options};

fn snapshot(writer: &LogWriter, next: Lsn) -> Result<(), SnapshotError> {
    let folder = writer.folder();
    let mut snapshot = folder.begin_snapshot(next, Timestamp(1_700_000_000_000), 1)?;
    snapshot.push(|out| out.extend_from_slice(b"a record"))?;
    snapshot.finish().map(drop)
}

#[test]
fn a_snapshot_that_the_disk_garbles_gets_no_name_and_nothing_is_removed_for_it() {
    let disk = Disk::default();
    let (mut writer, ..) = open(&disk).unwrap();
    for operation in operations(20, 400) {
        append(&mut writer, &operation).unwrap();
    }
    let before = disk.files();
    // Its header, its only block, and its end.
    for garbled in 1..=3 {
        let mut writes = 0;
        disk.plan(move |call, _| {
            writes += usize::from(call == Call::Write);
            (call == Call::Write && writes == garbled).then_some(Fault::Garble)
        });
        let error = snapshot(&writer, writer.next_lsn()).unwrap_err();
        let noticed = matches!(
            error,
            SnapshotError::Damaged { .. } | SnapshotError::Header { .. }
        );
        assert!(noticed, "write {garbled}: {error}");
        assert_eq!(disk.files(), before, "write {garbled}");
    }
    disk.heal();
    snapshot(&writer, writer.next_lsn()).unwrap();
}

/// Of several frames that were not synced, a later one may survive alone. Were its zeros not
/// durable before the next frame is written, a power cut could leave that frame and, right behind
/// it, the old one, which would count again.
#[test]
fn what_was_cut_as_a_torn_tail_does_not_come_back_behind_what_is_written_in_its_place() {
    let never = LogOptions {
        policy: SyncPolicy::Never,
        ..options()
    };
    let disk = Disk::default();
    let (mut writer, ..) = open_with(&disk, &never).unwrap();
    append(&mut writer, b"lost").unwrap();
    append(&mut writer, b"torn").unwrap();
    let disk = disk.crash(Fate::OnlyLast);
    let (mut writer, report, found) = open_with(&disk, &never).unwrap();
    assert_eq!((found.len(), report.repairs.len()), (0, 1));
    append(&mut writer, b"next").unwrap();
    let disk = disk.crash(Fate::OnlyLast);
    assert_eq!(contents(&disk), [b"next"]);
}

#[test]
fn a_segment_that_is_written_anew_has_a_salt_of_its_own_and_nothing_of_its_earlier_life() {
    let disk = Disk::default();
    let (mut writer, ..) = open(&disk).unwrap();
    let mut salts = Vec::new();
    let mut all = operations(60, 400).into_iter();
    for created in [2, 2, 2] {
        let rotated = disk.count(Call::Rename) + 1;
        while disk.count(Call::Rename) < rotated {
            append(&mut writer, &all.next().unwrap()).unwrap();
        }
        let newest = disk.files().into_values().next_back().unwrap();
        salts.push(SegmentHeader::decode(&newest).unwrap().salt);
        let end = newest.iter().rposition(|byte| *byte != 0).unwrap();
        assert!(end < 4096 + 500, "one frame, and zeros behind it");
        // The first segment, and the one behind it; and then each of them again.
        assert_eq!(disk.count(Call::Create) - salts.len(), created - 1);
        snapshot(&writer, writer.next_lsn()).unwrap();
        let next = writer.next_lsn();
        assert_eq!(writer.folder().retire(next).unwrap().segments, 1);
    }
    let [first, second, third] = salts[..] else {
        panic!("three changes of segments");
    };
    assert!(first != second && second != third && first != third);
}

#[test]
fn only_a_segment_as_long_as_the_next_is_kept_to_be_written_anew() {
    let made_with = |capacity| LogOptions {
        segment_capacity: capacity,
        ..options()
    };
    let capacity = options().segment_capacity;
    // One that is shorter would need room on the disk that nobody asked for, one that is longer keeps some.
    for (then, now, kept) in [(1, 1, 1), (1, 2, 0), (2, 1, 0)] {
        let disk = Disk::default();
        let (mut writer, ..) = open_with(&disk, &made_with(then * capacity)).unwrap();
        append(&mut writer, b"first").unwrap();
        drop(writer);
        let (mut writer, ..) = open_with(&disk, &made_with(now * capacity)).unwrap();
        let segments = |disk: &Disk| disk.files().len();
        let before = segments(&disk);
        for operation in operations(200, 400) {
            append(&mut writer, &operation).unwrap();
            if segments(&disk) > before {
                break;
            }
        }
        let next = writer.next_lsn();
        snapshot(&writer, next).unwrap();
        assert_eq!(writer.folder().retire(next).unwrap().segments, 1);
        let files = disk.files().into_keys();
        let new = files.filter(|path| path.extension().is_some_and(|kind| kind == "new"));
        assert_eq!(new.count(), kept, "{then} {now}");
    }
}
