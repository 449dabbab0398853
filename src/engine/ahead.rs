//! Looking ahead of what is applied.

use smallvec::SmallVec;

use super::Ticket;
use super::batch::decoded;
use crate::store::{InMemStore, WARM_AT_ONCE};
use crate::wal::frame;
use crate::wal::group_commit::Submission;

/// Looks ahead of what is applied: what the next operations will look at is fetched from memory all
/// at a time (see [`InMemStore::warm`]).
#[derive(Debug, Default)]
pub(super) struct Ahead<'a> {
    /// What stands in the log behind the batch at hand.
    following: &'a [Submission<Ticket>],
    /// How many of the next operations were looked at.
    warmed: usize,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(following: &'a [Submission<Ticket>], warmed: usize) -> Self {
        Self { following, warmed }
    }

    /// How many operations of the following batches were looked at.
    pub(super) fn warmed(&self) -> usize {
        self.warmed
    }

    /// The next of `operations` is about to be applied.
    pub(super) fn step(&mut self, operations: &frame::Operations<'_>, store: &dyn InMemStore) {
        if self.warmed == 0 {
            let following = self.following.iter();
            let following =
                following.flat_map(|submission| frame::Operations::new(&submission.operations));
            let next = operations.clone().chain(following).take(WARM_AT_ONCE);
            let mut keys = SmallVec::<[_; WARM_AT_ONCE]>::new();
            for bytes in next {
                self.warmed += 1;
                keys.extend(decoded(bytes).first_key());
            }
            if keys.len() > 1 {
                store.warm(&keys);
            }
        }
        self.warmed = self.warmed.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::sync::{Semaphore, oneshot};

    use super::*;
    use crate::command::Operation;
    use crate::store::{Entry, HashMap, HashSeed};
    use crate::time::Timestamp;

    /// Notes what it is to warm.
    #[derive(Debug)]
    struct Noting {
        store: HashMap,
        warmed: Mutex<Vec<Vec<Vec<u8>>>>,
    }

    impl InMemStore for Noting {
        fn warm(&self, keys: &[&[u8]]) {
            let keys = keys.iter().map(|key| key.to_vec());
            self.warmed.lock().push(keys.collect());
        }
        fn get(&self, key: &[u8]) -> Option<Entry> {
            self.store.get(key)
        }
        fn set(&self, entry: Entry) -> Option<Entry> {
            self.store.set(entry)
        }
        fn del(&self, key: &[u8]) -> Option<Entry> {
            self.store.del(key)
        }
        fn change_in_place(&self, key: &[u8], change: &mut dyn FnMut(&mut [u8])) -> bool {
            self.store.change_in_place(key, change)
        }
        fn clear(&self) {
            self.store.clear();
        }
        fn set_all(&self, entries: &mut Vec<Entry>) {
            self.store.set_all(entries);
        }
        fn seed(&self) -> HashSeed {
            self.store.seed()
        }
        fn prepare(&self, seed: HashSeed, keys: usize) {
            self.store.prepare(seed, keys);
        }
        fn fit(&self) {
            self.store.fit();
        }
        fn lane(&self, key: &[u8]) -> usize {
            self.store.lane(key)
        }
        fn freeze(&self) {
            self.store.freeze();
        }
        fn take_frozen(&self, index: usize) -> Vec<Entry> {
            self.store.take_frozen(index)
        }
        fn thaw(&self) {
            self.store.thaw();
        }
        fn len(&self) -> usize {
            self.store.len()
        }
        fn expiring(&self) -> usize {
            self.store.expiring()
        }
        fn bytes(&self) -> usize {
            self.store.bytes()
        }
        fn table_count(&self) -> usize {
            self.store.table_count()
        }
        fn table(&self, index: usize) -> Vec<Entry> {
            self.store.table(index)
        }
        fn is_due(&self, index: usize, now: Timestamp) -> bool {
            self.store.is_due(index, now)
        }
        fn sweep(&self, index: usize, now: Timestamp) -> usize {
            self.store.sweep(index, now)
        }
    }

    fn submission(keys: &[u32]) -> Submission<Ticket> {
        let mut operations = Vec::new();
        for key in keys {
            let key = key.to_le_bytes();
            let set = Operation::Set {
                key: &key,
                value: b"v".as_slice().into(),
            };
            frame::push_operation(&mut operations, |out| set.encode(out));
        }
        let none = Arc::new(Semaphore::new(0)).try_acquire_many_owned(0);
        Submission {
            operations,
            count: u32::try_from(keys.len()).unwrap(),
            removes: crate::wal::group_commit::Removes::No,
            ticket: Ticket {
                steps: Vec::new(),
                answer: oneshot::channel().0,
                _room: none.unwrap(),
            },
        }
    }

    #[test]
    fn every_key_of_a_group_is_warmed_once_before_it_is_looked_at_also_across_batches() {
        let store = Noting {
            store: HashMap::with_capacity(0),
            warmed: Mutex::default(),
        };
        let keys: Vec<u32> = (0..60).collect();
        let batches = [1, 1, 1, 40, 1, 16].iter().scan(0, |from, len| {
            *from += len;
            Some(submission(&keys[*from - len..*from]))
        });
        let mut batches = batches.collect::<Vec<_>>().into_iter();
        let (mut warmed, mut applied) = (0, 0);
        while let Some(batch) = batches.next() {
            let mut ahead = Ahead::new(batches.as_slice(), warmed);
            let mut operations = frame::Operations::new(&batch.operations);
            for _ in 0..batch.count {
                ahead.step(&operations, &store);
                operations.next();
                applied += 1;
                let known: usize = store.warmed.lock().iter().map(Vec::len).sum();
                assert!((applied..applied + WARM_AT_ONCE).contains(&known));
            }
            warmed = ahead.warmed();
        }
        let all = store.warmed.lock().concat();
        let expected: Vec<_> = keys.iter().map(|key| key.to_le_bytes().to_vec()).collect();
        assert_eq!(all, expected);
        let sizes: Vec<_> = store.warmed.lock().iter().map(Vec::len).collect();
        assert_eq!(sizes, [16, 16, 16, 12]);
    }
}
