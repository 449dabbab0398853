//! Recovery: each row of the decision table in `src/wal/recovery.rs`, and damage at every byte.

use postres::wal::recovery::{RecoveryError, Repair};
use postres::wal::segment::{MAX_CAPACITY, SegmentHeader};
use postres::wal::snapshot::{Block, SnapshotHeader};
use postres::wal::{LogOptions, SyncPolicy};

use crate::disk::{Call, Disk, EIO, Fate, Fault};
use crate::support::log::{
    FIRST_FRAME, append, contents, disk_with, disk_with_policy, open, open_with, operations,
    options, segment,
};

/// Changes the bytes of a file.
fn edit(disk: &Disk, base: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.take(&segment(base));
    change(&mut bytes);
    disk.put(&segment(base), bytes);
}

/// Where a frame with one operation of `len` bytes, the `n`th of its segment, begins.
fn frame_at(n: usize, len: usize) -> usize {
    FIRST_FRAME + n * (48 + (4 + len).next_multiple_of(8))
}

/// The disk refuses to open, and is left just as it was.
fn refused(disk: &Disk) -> RecoveryError {
    let before = disk.files();
    let error = open(disk)
        .map(|(_, report, operations)| (report, operations.len()))
        .unwrap_err();
    assert_eq!(disk.files(), before, "a refusal changes nothing: {error}");
    let text = error.to_string();
    assert!(
        text.contains("wal_file") && !text.contains('\n'),
        "names the file: {text}"
    );
    error
}

#[test]
fn no_segment_is_a_new_log() {
    let disk = Disk::default();
    let (_, report, operations) = open(&disk).unwrap();
    assert!(operations.is_empty() && report.repairs.is_empty());
    assert!(disk.files().contains_key(&segment(1)));
}

#[test]
fn a_foreign_file_where_the_log_would_begin_is_refused() {
    let disk = Disk::default();
    disk.put("dir/wal_file".as_ref(), b"3SET5hello5world\n".to_vec());
    let error = refused(&disk);
    assert!(matches!(error, RecoveryError::NotALog { .. }));
    let command = "`postres log import dir/wal_file -wal dir/wal_file`";
    assert!(error.to_string().contains(command), "{error}");
}

#[test]
fn an_empty_file_where_the_log_would_begin_hides_nothing() {
    let disk = Disk::default();
    disk.put("dir/wal_file".as_ref(), Vec::new());
    assert!(contents(&disk).is_empty());
}

#[test]
fn zeros_behind_the_last_frame_are_the_clean_end() {
    let all = operations(3, 20);
    let disk = disk_with(&all);
    let (mut writer, report, found) = open(&disk).unwrap();
    assert_eq!((found, report.repairs), (all.clone(), vec![]));
    append(&mut writer, b"goes on").unwrap();
    drop(writer);
    assert_eq!(contents(&disk).last().unwrap(), b"goes on");
}

#[test]
fn a_log_goes_on_over_many_segments_and_restarts() {
    let all = operations(300, 100);
    let disk = Disk::default();
    for some in all.chunks(70) {
        let (mut writer, report, _) = open(&disk).unwrap();
        assert_eq!(report.repairs, []);
        for operation in some {
            append(&mut writer, operation).unwrap();
        }
        writer.close().unwrap();
    }
    assert!(disk.files().len() > 5);
    assert_eq!(contents(&disk), all);
}

#[test]
fn a_segment_still_being_prepared_is_removed() {
    let disk = disk_with(&operations(3, 20));
    let new = segment(9).with_extension("segment.new");
    disk.put(&new, vec![7; 100]);
    let (_, report, found) = open(&disk).unwrap();
    assert_eq!(report.repairs, [Repair::Leftover { path: new.clone() }]);
    assert_eq!(found.len(), 3);
    assert!(!disk.files().contains_key(&new));
}

#[test]
fn a_damaged_header_is_refused_at_every_byte() {
    let good = disk_with(&operations(2, 20));
    for at in 0..FIRST_FRAME {
        let disk = good.copy();
        edit(&disk, 1, |bytes| bytes[at] ^= 0x10);
        assert!(
            matches!(refused(&disk), RecoveryError::Header { .. }),
            "byte {at}"
        );
    }
}

#[test]
fn a_segment_shorter_than_its_header_is_refused() {
    for len in [0, 1, FIRST_FRAME - 1] {
        let disk = disk_with(&operations(2, 20));
        edit(&disk, 1, |bytes| bytes.truncate(len));
        assert!(
            matches!(refused(&disk), RecoveryError::Header { .. }),
            "{len} bytes"
        );
    }
}

/// Its length was taken from it as it stood there, and the start filled the file up to that.
#[test]
fn a_header_of_a_segment_longer_than_any_is_refused() {
    for capacity in [MAX_CAPACITY + 1, 1 << 62, u64::MAX] {
        let disk = disk_with(&operations(2, 20));
        edit(&disk, 1, |bytes| {
            let header = SegmentHeader::decode(bytes).unwrap();
            let header = SegmentHeader { capacity, ..header };
            bytes[..FIRST_FRAME].copy_from_slice(&header.encode());
        });
        assert!(
            matches!(refused(&disk), RecoveryError::Header { .. }),
            "{capacity}"
        );
    }
}

#[test]
fn a_renamed_segment_is_refused() {
    let disk = disk_with(&operations(2, 20));
    let bytes = disk.take(&segment(1));
    disk.put(&segment(2), bytes);
    assert!(matches!(refused(&disk), RecoveryError::Misplaced { .. }));
}

/// A log of two segments and a part of a third; the LSNs that its segments begin at.
fn three_segments() -> (Disk, Vec<u64>) {
    let disk = disk_with(&operations(65, 100));
    let mut bases = Vec::new();
    for bytes in disk.files().values() {
        bases.push(SegmentHeader::decode(bytes).unwrap().base.0);
    }
    assert_eq!(bases.len(), 3);
    (disk, bases)
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let (disk, bases) = three_segments();
    let (other, _) = three_segments();
    disk.put(&segment(bases[2]), other.take(&segment(bases[2])));
    assert!(matches!(refused(&disk), RecoveryError::Misplaced { .. }));
}

#[test]
fn a_missing_segment_is_refused_wherever_it_was() {
    for missing in 0..3 {
        let (disk, bases) = three_segments();
        disk.take(&segment(bases[missing]));
        let error = refused(&disk);
        match (missing, &error) {
            (0, RecoveryError::Gap { from, to, .. }) => {
                assert_eq!((from.0, to.0), (1, bases[1] - 1));
            }
            (1, RecoveryError::Gap { from, to, .. }) => {
                assert_eq!((from.0, to.0), (bases[1], bases[2] - 1));
            }
            (2, RecoveryError::MissingSegment { path }) => assert_eq!(*path, segment(bases[2])),
            _ => panic!("segment {missing}: {error}"),
        }
    }
}

#[test]
fn a_segment_that_is_there_twice_is_refused() {
    let (disk, bases) = three_segments();
    // A copy of the second segment under a name of its own, its header made to agree.
    let mut bytes = disk.files()[&segment(bases[1])].clone();
    let header = SegmentHeader::decode(&bytes).unwrap();
    let base = postres::wal::Lsn(bases[1] + 1);
    bytes[..FIRST_FRAME].copy_from_slice(&SegmentHeader { base, ..header }.encode());
    disk.put(&segment(base.0), bytes);
    assert!(matches!(refused(&disk), RecoveryError::Misplaced { .. }));
}

#[test]
fn an_empty_segment_behind_one_without_a_seal_is_removed() {
    // The crash comes right after the new segment got its name, before the old one's seal.
    let disk = Disk::default();
    let (mut writer, ..) = open(&disk).unwrap();
    let (named, mut all) = (disk.count(Call::Rename), Vec::new());
    let mut crashed = None;
    disk.plan({
        let mut renamed = 0;
        move |call, _| {
            renamed += usize::from(call == Call::Rename);
            (renamed > 0 && call == Call::Write).then_some(Fault::Fail(EIO))
        }
    });
    for operation in operations(80, 100) {
        match append(&mut writer, &operation) {
            Ok(_) => all.push(operation),
            Err(_) => {
                crashed = Some(disk.crash(Fate::Kept));
                break;
            }
        }
    }
    assert_eq!(disk.count(Call::Rename), named + 1);
    let disk = crashed.unwrap();
    let base = all.len() as u64 + 1;
    let (mut writer, report, found) = open(&disk).unwrap();
    assert_eq!(
        report.repairs,
        [Repair::Leftover {
            path: segment(base)
        }]
    );
    assert_eq!(found, all);
    // And the log goes on, through that same change of segments.
    for operation in operations(20, 100) {
        append(&mut writer, &operation).unwrap();
        all.push(operation);
    }
    drop(writer);
    assert!(disk.files().contains_key(&segment(base)));
    assert_eq!(contents(&disk), all);
}

#[test]
fn a_damaged_seal_with_operations_behind_it_is_refused() {
    let (disk, bases) = three_segments();
    let seal = frame_at((bases[1] - 1) as usize, 100);
    edit(&disk, 1, |bytes| bytes[seal + 20] ^= 1);
    assert!(
        matches!(refused(&disk), RecoveryError::Damaged { offset, .. } if offset == seal as u64)
    );
}

#[test]
fn bytes_behind_a_seal_mean_nothing() {
    let (disk, bases) = three_segments();
    let behind = frame_at((bases[1] - 1) as usize, 100) + 48;
    edit(&disk, 1, |bytes| bytes[behind + 8..].fill(0xaa));
    assert_eq!(contents(&disk), operations(65, 100));
}

#[test]
fn a_torn_tail_is_cut_kept_aside_and_reported() {
    let all = operations(5, 20);
    let disk = disk_with(&all);
    let at = frame_at(4, 20);
    let mut remnant = disk.files()[&segment(1)][at..at + 72].to_vec();
    remnant[60] ^= 1;
    edit(&disk, 1, |bytes| bytes[at + 60] ^= 1);
    let kept = segment(1).with_extension(format!("torn-{at}-1"));
    let (mut writer, report, found) = open(&disk).unwrap();
    assert_eq!(found, all[..4]);
    let bytes = remnant.len() as u64;
    let torn = Repair::TornTail {
        path: segment(1),
        offset: at as u64,
        bytes,
        kept: kept.clone(),
    };
    assert_eq!(report.repairs, [torn]);
    assert_eq!(disk.files()[&kept], remnant);
    assert!(
        disk.files()[&segment(1)][at..]
            .iter()
            .all(|byte| *byte == 0)
    );
    append(&mut writer, b"goes on").unwrap();
    drop(writer);
    let (_, report, found) = open(&disk).unwrap();
    assert_eq!((found.len(), report.repairs), (5, vec![]));
}

#[test]
fn recovery_cut_short_at_any_call_leaves_the_same_damage_to_the_next() {
    let all = operations(5, 20);
    for fate in [Fate::Kept, Fate::Lost, Fate::Torn(13)] {
        for fail_at in 0.. {
            let disk = disk_with(&all);
            edit(&disk, 1, |bytes| bytes[frame_at(4, 20) + 60] ^= 1);
            let mut calls = 0;
            disk.plan(move |_, _| {
                calls += 1;
                (calls > fail_at).then_some(Fault::Fail(EIO))
            });
            let opened = open(&disk).is_ok();
            let after = disk.crash(fate);
            assert_eq!(contents(&after), all[..4], "call {fail_at}, {fate:?}");
            assert_eq!(contents(&after), all[..4], "a second time");
            if opened {
                assert!(fail_at > 3, "the repair makes calls that can fail");
                break;
            }
        }
    }
}

#[test]
fn a_bad_frame_with_a_later_good_one_is_damage() {
    let disk = disk_with(&operations(5, 20));
    for n in 0..4 {
        for at in frame_at(n, 20)..frame_at(n + 1, 20) {
            let disk = disk.copy();
            edit(&disk, 1, |bytes| bytes[at] ^= 0x80);
            match refused(&disk) {
                RecoveryError::Damaged { offset, lsn, .. } => {
                    assert_eq!((offset, lsn.0), (frame_at(n, 20) as u64, n as u64 + 1));
                }
                error => panic!("byte {at}: {error}"),
            }
        }
    }
}

#[test]
fn a_frame_turned_to_zeros_with_a_later_good_one_is_damage() {
    let disk = disk_with(&operations(5, 20));
    edit(&disk, 1, |bytes| {
        bytes[frame_at(2, 20)..frame_at(3, 20)].fill(0)
    });
    assert!(matches!(refused(&disk), RecoveryError::Damaged { .. }));
}

#[test]
fn an_orderly_stop_makes_damage_to_the_last_frame_known_as_damage() {
    let disk = disk_with(&[]);
    let (mut writer, ..) = open(&disk).unwrap();
    append(&mut writer, &[7; 20]).unwrap();
    writer.close().unwrap();
    edit(&disk, 1, |bytes| bytes[frame_at(0, 20) + 50] ^= 1);
    assert!(matches!(refused(&disk), RecoveryError::Damaged { .. }));
}

#[test]
fn frames_that_were_never_synced_may_be_lost_out_of_order() {
    let all = operations(5, 20);
    for policy in [SyncPolicy::EverySecond, SyncPolicy::Never] {
        let disk = disk_with_policy(&all, policy);
        edit(&disk, 1, |bytes| bytes[frame_at(2, 20) + 50] ^= 1);
        let (_, report, found) = open(&disk).unwrap();
        assert_eq!(found, all[..2]);
        assert!(matches!(report.repairs[..], [Repair::TornTail { .. }]));
    }
}

#[test]
fn a_frame_of_another_salt_is_no_frame() {
    let (disk, other) = (disk_with(&operations(3, 20)), disk_with(&operations(4, 20)));
    let stranger = other.files()[&segment(1)][frame_at(3, 20)..frame_at(4, 20)].to_vec();
    edit(&disk, 1, |bytes| {
        bytes[frame_at(3, 20)..frame_at(4, 20)].copy_from_slice(&stranger)
    });
    assert_eq!(contents(&disk), operations(3, 20));
}

#[test]
fn a_whole_frame_in_the_wrong_place_is_refused() {
    let disk = disk_with(&operations(3, 20));
    edit(&disk, 1, |bytes| {
        bytes.copy_within(frame_at(0, 20)..frame_at(1, 20), frame_at(3, 20))
    });
    assert!(matches!(refused(&disk), RecoveryError::Impossible { .. }));
}

#[test]
fn an_operation_that_cannot_be_applied_is_refused() {
    use postres::wal::Lsn;
    use postres::wal::recovery::{self, Progress, Replay};

    struct Refuses;
    impl Replay for Refuses {
        fn begin_snapshot(&mut self, _: &SnapshotHeader) {
            panic!("there is no snapshot");
        }

        fn block(&mut self, _: Block) -> Result<(), String> {
            panic!("there is no snapshot");
        }

        fn end_snapshot(&mut self) -> Result<(), String> {
            panic!("there is no snapshot");
        }

        fn discard_snapshot(&mut self) {
            panic!("there is no snapshot");
        }

        fn end(&mut self) -> Result<(), String> {
            Ok(())
        }

        fn operation(
            &mut self,
            lsn: Lsn,
            _: postres::time::Timestamp,
            _: &[u8],
        ) -> Result<(), String> {
            if lsn == Lsn(2) {
                Err("code 99".to_owned())
            } else {
                Ok(())
            }
        }
        fn progress(&mut self, _: Progress) {}
    }

    let disk = disk_with(&operations(3, 20));
    let opened = recovery::open(std::sync::Arc::new(disk), &options(), &mut Refuses);
    let error = opened.map(|_| ()).unwrap_err();
    assert!(matches!(error, RecoveryError::Impossible { .. }));
    assert!(
        error.to_string().contains("operation 2: code 99"),
        "{error}"
    );
}

#[test]
fn the_log_cut_at_every_byte_keeps_every_whole_frame() {
    let all = operations(4, 20);
    let good = disk_with(&all);
    for len in FIRST_FRAME..=frame_at(4, 20) {
        let disk = good.copy();
        edit(&disk, 1, |bytes| bytes.truncate(len));
        let whole = (0..4).filter(|n| frame_at(n + 1, 20) <= len).count();
        let (mut writer, report, found) = open(&disk).unwrap();
        assert_eq!(found, all[..whole], "{len} bytes");
        assert!(report.repairs.contains(&Repair::ShortFile {
            path: segment(1),
            len: len as u64
        }));
        append(&mut writer, b"goes on").unwrap();
        drop(writer);
        let (_, report, found) = open(&disk).unwrap();
        assert_eq!(
            (found.len(), report.repairs),
            (whole + 1, vec![]),
            "{len} bytes"
        );
    }
}

#[test]
fn every_byte_of_a_small_log_flipped_is_found_or_harmless() {
    let all = operations(4, 20);
    let disk = disk_with(&[]);
    let (mut writer, ..) = open(&disk).unwrap();
    for operation in &all {
        append(&mut writer, operation).unwrap();
    }
    writer.close().unwrap();
    let (mut refusals, mut repairs) = (0, 0);
    for at in 0..disk.files()[&segment(1)].len() {
        let disk = disk.copy();
        edit(&disk, 1, |bytes| bytes[at] ^= 0x04);
        match open(&disk) {
            Err(_) => refusals += 1,
            Ok((_, report, found)) => {
                assert_eq!(found, all, "byte {at}: accepted, so nothing may be missing");
                assert!(
                    !report.repairs.is_empty(),
                    "byte {at}: accepted without a word"
                );
                repairs += 1;
            }
        }
    }
    assert_eq!(refusals, frame_at(4, 20), "header and frames");
    assert!(repairs > 0, "the close frame and the zeros behind it");
}

#[test]
fn a_second_server_on_the_same_log_is_refused() {
    let disk = disk_with(&operations(3, 20));
    let _first = open(&disk).unwrap();
    assert!(matches!(open(&disk), Err(RecoveryError::Locked { .. })));
}

#[test]
fn a_frame_larger_than_a_segment_is_kept_whole() {
    let big = vec![b'x'; 50_000];
    let all = [
        b"small".to_vec(),
        big.clone(),
        b"behind".to_vec(),
        big,
        b"last".to_vec(),
    ];
    let disk = disk_with(&all);
    assert_eq!(contents(&disk), all);
}

#[test]
fn time_never_falls_whatever_the_clock_does() {
    use postres::time::Timestamp;
    let disk = disk_with(&operations(1, 20));
    let early = LogOptions {
        clock: std::sync::Arc::new(|| Timestamp(1)),
        ..options()
    };
    let (mut writer, ..) = open_with(&disk, &early).unwrap();
    let position = append(&mut writer, b"later").unwrap();
    assert_eq!(position.time, Timestamp(1_700_000_000_000));
    drop(writer);
    assert_eq!(contents(&disk).len(), 2);
}
