//! From one segment to the next, where the next one is prepared ahead.

use postres::wal::LogOptions;

use crate::disk::{Call, Disk};
use crate::support::log::{CAPACITY, append, contents, open_with, operations, options, segment};

/// Appends until the log goes on in its `count`th segment; says with which LSN each of them begins.
fn fill_up_to(count: usize, disk: &Disk, before_each: impl Fn(&[u64])) -> Vec<u64> {
    let options = LogOptions {
        prepare_ahead: true,
        ..options()
    };
    let (mut writer, ..) = open_with(disk, &options).unwrap();
    let mut bases = vec![1];
    let first = disk.count(Call::Rename);
    for (n, operation) in (1_u64..).zip(operations(1000, 100)) {
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
fn the_memory_of_a_full_segment_is_let_go_of_before_the_next_but_one_is_prepared() {
    let disk = Disk::default();
    let bases = fill_up_to(5, &disk, |_| {});
    // The fifth was prepared while the fourth was written to.
    let dropped: Vec<_> = disk.dropped();
    let expected = bases[..3].iter().map(|&base| (segment(base), 0));
    let places = dropped
        .iter()
        .map(|(path, offset, _)| (path.clone(), *offset));
    assert!(places.eq(expected), "{dropped:?}");
    assert!(
        dropped.iter().all(|(.., len)| *len >= CAPACITY),
        "{dropped:?}"
    );
    assert_eq!(contents(&disk).len() as u64, bases[4]);
}

#[test]
fn one_that_a_snapshot_made_superfluous_meanwhile_is_left_alone() {
    let disk = Disk::default();
    let remover = disk.clone();
    let bases = fill_up_to(5, &disk, move |bases| {
        // As soon as it is full.
        if let [.., full, _] = bases
            && remover.files().contains_key(&segment(*full))
        {
            remover.take(&segment(*full));
        }
    });
    assert_eq!(bases.len(), 5);
    assert_eq!(disk.dropped(), []);
}
