//! How much of the disk the next snapshot needs.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::store::InMemStore;
use crate::wal::room::Needed;

/// Room for the snapshot that is being written, and for the one after it.
#[derive(Debug)]
pub(super) struct SnapshotRoom {
    store: Arc<dyn InMemStore>,
    running: Mutex<Option<Running>>,
}

/// Of the snapshot that is being written.
#[derive(Debug, Clone, Copy)]
struct Running {
    /// How long it may become.
    planned: u64,
    /// How long it is.
    written: u64,
    /// What its end will give back: older files.
    gives: u64,
}

impl SnapshotRoom {
    pub(super) fn new(store: Arc<dyn InMemStore>) -> Self {
        Self {
            store,
            running: Mutex::default(),
        }
    }

    /// How long a snapshot would be that began now, at most: a record is no longer than an entry's
    /// memory, or by a byte where it has an expiry, which takes fewer bytes there.
    pub(super) fn planned(&self) -> u64 {
        /// The header, the last changes.
        const BESIDE: u64 = 2 << 20;
        /// What the header of a block adds is less than a thousandth.
        const BLOCKS: u64 = 1000;
        let entries = (self.store.bytes() + self.store.expiring()) as u64;
        entries
            .saturating_add(entries / BLOCKS)
            .saturating_add(BESIDE)
    }

    /// Bytes that must be free for the next snapshot to be written, also if one is being written now. If that
    /// one fails, what it has written is given back, and as much is needed as if it had not begun. If it
    /// is finished, what is older is given back before the one after it begins.
    pub(super) fn needed(&self) -> Needed {
        let (now, running) = (self.planned(), *self.running.lock());
        let bytes = running.map_or(now, |running| {
            let left = running.planned.saturating_sub(running.written);
            left.saturating_add(now.saturating_sub(running.planned.min(running.gives)))
        });
        Needed {
            bytes,
            at_most: running.is_some(),
        }
    }

    /// A snapshot begins that may become as long as `planned`, and gives back so much in the end.
    pub(super) fn begin(&self, planned: u64, gives: u64) {
        *self.running.lock() = Some(Running {
            planned,
            written: 0,
            gives,
        });
    }

    /// It is so long by now.
    pub(super) fn written(&self, bytes: u64) {
        if let Some(running) = &mut *self.running.lock() {
            running.written = bytes;
        }
    }

    /// It has ended, and either has given back what is older or has been removed.
    pub(super) fn end(&self) {
        *self.running.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{self, Entry};
    use crate::time::Timestamp;

    const MIB: u64 = 1 << 20;

    fn room(mib: u64) -> SnapshotRoom {
        let store: Arc<dyn InMemStore> = store::with_shards(1, 0).into();
        store.set(Entry::new(b"k", &vec![0; (mib * MIB) as usize], None));
        SnapshotRoom::new(store)
    }

    fn mib(bytes: u64) -> u64 {
        (bytes + MIB / 2) / MIB
    }

    #[test]
    fn while_none_is_written_as_much_is_needed_as_the_store_holds_now() {
        let room = room(10);
        assert_eq!(mib(room.needed().bytes), 12);
        room.store
            .set(Entry::new(b"l", &vec![0; 5 * MIB as usize], None));
        assert_eq!(mib(room.needed().bytes), 17);
        room.store.clear();
        assert_eq!(mib(room.needed().bytes), 2);
    }

    #[test]
    fn keys_that_expire_need_a_byte_more() {
        let needed = |expires| {
            let room = room(0);
            for key in 0..20_000_u32 {
                room.store
                    .set(Entry::new(&key.to_le_bytes(), b"v", expires));
            }
            room.needed().bytes - room.store.bytes() as u64 * 1001 / 1000
        };
        let more = needed(Some(Timestamp(u64::MAX))) - needed(None);
        assert!((20_000..20_100).contains(&more), "{more}");
    }

    #[test]
    fn beside_one_that_is_written_the_one_after_it_needs_what_neither_its_failure_nor_its_end_gives_back()
     {
        let room = room(10);
        room.begin(12 * MIB, 30 * MIB);
        assert_eq!(mib(room.needed().bytes), 12);
        room.written(8 * MIB);
        assert_eq!(mib(room.needed().bytes), 4);
        // What has come since needs room whether it fails or not.
        room.store
            .set(Entry::new(b"l", &vec![0; 5 * MIB as usize], None));
        assert_eq!(mib(room.needed().bytes), 9);
        room.end();
        assert_eq!(mib(room.needed().bytes), 17);
        // Its end gives back nothing: the next one needs all its room.
        room.begin(17 * MIB, 0);
        room.written(17 * MIB);
        assert_eq!(mib(room.needed().bytes), 17);
        room.end();
    }
}
