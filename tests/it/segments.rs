//! From one segment to the next, where the next one is prepared ahead.

use postres::wal::LogOptions;

use crate::disk::{Call, Disk};
use crate::support::log::{CAPACITY, append, contents, open_with, operations, options, segment};

/// Far more than a frame, so that the next segment is prepared long behind a change.
const LEN: u64 = 4 * CAPACITY;

/// Appends until the log goes on in its `count`th segment; says with which LSN each of them begins.
fn fill_up_to(count: usize, disk: &Disk, before_each: impl Fn(&[u64])) -> Vec<u64> {
    let options = LogOptions {
        prepare_ahead: true,
        segment_capacity: LEN,
        ..options()
    };
    let (mut writer, ..) = open_with(disk, &options).unwrap();
    let mut bases = vec![1];
    let first = disk.count(Call::Rename);
    for (n, operation) in (1_u64..).zip(operations(2000, 100)) {
        before_each(&bases);
        append(&mut writer, &operation).unwrap();
        if disk.count(Call::Rename) == first + bases.len() {
            bases.push(n);
        }
        if bases.len() == count {
            return bases;
        }
    }
    panic!("only {} segments", bases.len());
}

#[test]
fn the_memory_of_a_full_segment_is_let_go_of_before_the_next_but_one_is_made() {
    let disk = Disk::default();
    let bases = fill_up_to(5, &disk, |_| {});
    // The fifth was made while the fourth was written to, and the third full.
    let dropped = disk.dropped();
    assert_eq!(dropped.len(), 3);
    for (before, dropped) in bases.iter().zip(&dropped) {
        assert_eq!((&dropped.path, dropped.offset), (&segment(*before), 0));
        assert!(dropped.len >= LEN);
    }
    let mut calls = disk.calls();
    calls.retain(|call| matches!(call, Call::Create | Call::DropCached));
    let last = [Call::DropCached, Call::Create].repeat(3);
    assert!(calls.ends_with(&last), "{calls:?}");
    assert_eq!(contents(&disk).len() as u64, bases[4]);
}

#[test]
fn one_that_a_snapshot_made_superfluous_meanwhile_is_left_alone() {
    let disk = Disk::default();
    let remover = disk.clone();
    fill_up_to(5, &disk, move |bases| {
        // As soon as it is full.
        if let [.., full, _] = bases
            && remover.files().contains_key(&segment(*full))
        {
            remover.take(&segment(*full));
        }
    });
    assert_eq!(disk.dropped(), []);
}

#[test]
fn the_segment_in_use_is_never_let_go_of_though_one_before_it_had_its_name() {
    let disk = Disk::default();
    let options = LogOptions {
        prepare_ahead: true,
        ..options()
    };
    let (writer, ..) = open_with(&disk, &options).unwrap();
    writer.close().unwrap();
    let (mut writer, ..) = open_with(&disk, &options).unwrap();
    // Behind the close frame there is no room for it, and what it goes to begins where that one began.
    let large = vec![b'v'; CAPACITY as usize];
    for _ in 0..3 {
        append(&mut writer, &large).unwrap();
    }
    drop(writer);
    let dropped = disk.dropped();
    assert!(!dropped.is_empty());
    for dropped in dropped {
        assert_ne!(Some(&dropped.path), dropped.files.last());
    }
    assert_eq!(contents(&disk).len(), 3);
}
