//! Looking ahead of what is applied.

use smallvec::SmallVec;

use super::Ticket;
use super::steps::Keys;
use crate::store::{InMemStore, WARM_AT_ONCE};
use crate::wal::group_commit::Submission;

/// Looks ahead of what is carried out: what the next steps will look at is fetched from memory all
/// at a time (see [`InMemStore::warm`]).
#[derive(Debug, Default)]
pub(super) struct Ahead<'a> {
    /// What stands in the log behind the batch at hand.
    following: &'a [Submission<Ticket>],
    /// How many of the next steps were looked at.
    warmed: usize,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(following: &'a [Submission<Ticket>], warmed: usize) -> Self {
        Self { following, warmed }
    }

    /// How many steps of the following batches were looked at.
    pub(super) fn warmed(&self) -> usize {
        self.warmed
    }

    /// The next of the steps that `left` tells the keys of is about to be carried out.
    pub(super) fn step<'b>(&mut self, left: impl FnOnce() -> Keys<'b>, store: &dyn InMemStore) {
        if self.warmed == 0 {
            let following = self.following.iter();
            let following = following.flat_map(|batch| {
                let steps = &batch.ticket.contents.steps;
                steps.keys(&batch.operations)
            });
            let mut keys = SmallVec::<[&[u8]; WARM_AT_ONCE]>::new();
            for key in left().chain(following).take(WARM_AT_ONCE) {
                self.warmed += 1;
                keys.extend(key);
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
    use std::time::Instant;

    use parking_lot::Mutex;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::command::{Applier, Operation, Reply, Sees};
    use crate::engine::answer::{Answer, Awaiting};
    use crate::engine::batch::Batch;
    use crate::engine::execution::{Batched, Place};
    use crate::engine::submission_of;
    use crate::store::{Each, Entry, HashMap, HashSeed};
    use crate::time::Timestamp;
    use crate::wal::frame;

    /// The keys of each call.
    type Noted = Arc<Mutex<Vec<Vec<Vec<u8>>>>>;

    /// Notes what it is to warm.
    #[derive(Debug)]
    struct Noting {
        store: HashMap,
        warmed: Noted,
    }

    impl InMemStore for Noting {
        fn warm(&self, keys: &[&[u8]]) {
            let keys = keys.iter().map(|key| key.to_vec());
            self.warmed.lock().push(keys.collect());
        }
        fn get(&self, key: &[u8]) -> Option<Entry> {
            self.store.get(key)
        }
        fn get_pair(&self, first: &[u8], second: &[u8]) -> (Option<Entry>, Option<Entry>) {
            self.store.get_pair(first, second)
        }
        fn get_each(&self, keys: &[&[u8]]) -> Each {
            self.store.get_each(keys)
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

    /// A batch that sets every third of these keys, and reads the others.
    fn submission(keys: &[u32]) -> Submission<Ticket> {
        let mut batch = Batch::default();
        for (n, key) in keys.iter().enumerate() {
            let key = &key.to_le_bytes();
            match n % 3 {
                0 => batch.write(&Operation::Set {
                    key,
                    value: b"v".as_slice().into(),
                }),
                1 => batch.read(|_, _| Reply::Ok, &[key], Sees::Key),
                _ => batch.read(|_, _| Reply::Ok, &[key, b"more"], Sees::Keys),
            }
        }
        let none = Arc::new(Semaphore::new(0)).try_acquire_many_owned(0);
        let contents = batch.contents.unwrap();
        submission_of(contents, Answer::to(Awaiting::new().0), none.unwrap(), None)
    }

    #[test]
    fn every_key_of_a_group_is_warmed_once_before_it_is_looked_at_also_across_batches() {
        let noted = Noted::default();
        let store: Arc<dyn InMemStore> = Arc::new(Noting {
            store: HashMap::with_capacity(0),
            warmed: Arc::clone(&noted),
        });
        let keys: Vec<u32> = (0..60).collect();
        let batches = [1, 1, 1, 40, 1, 16].iter().scan(0, |from, len| {
            *from += len;
            Some(submission(&keys[*from - len..*from]))
        });
        let mut batches = batches.collect::<Vec<_>>().into_iter();
        let mut applier = Applier::new(Arc::clone(&store), Arc::default(), Arc::default());
        let (mut warmed, mut applied) = (0, 0);
        let place = Place {
            position: 1,
            time: Timestamp(1),
        };
        while let Some(batch) = batches.next() {
            let ahead = Ahead::new(batches.as_slice(), warmed);
            let mut contents = batch.ticket.contents;
            contents.operations = batch.operations;
            let mut batched = Batched::new(&mut contents, place, ahead, Instant::now());
            while batched.step(&mut applier) {
                applied += 1;
                let known: usize = noted.lock().iter().map(Vec::len).sum();
                assert!((applied..applied + WARM_AT_ONCE).contains(&known));
            }
            warmed = batched.finish().0.warmed();
        }
        let all = noted.lock().concat();
        let expected: Vec<_> = keys.iter().map(|key| key.to_le_bytes().to_vec()).collect();
        assert_eq!(all, expected);
        let sizes: Vec<_> = noted.lock().iter().map(Vec::len).collect();
        assert_eq!(sizes, [16, 16, 16, 12]);
    }

    #[test]
    fn what_is_no_key_is_not_warmed() {
        let noted = Noted::default();
        let store = Noting {
            store: HashMap::with_capacity(0),
            warmed: Arc::clone(&noted),
        };
        let mut batch = Batch::default();
        batch.read(|_, _| Reply::Ok, &[b"pattern"], Sees::Any);
        batch.ready(Reply::Pong);
        for key in [b"one", b"two"] {
            batch.read(|_, _| Reply::Ok, &[key], Sees::Key);
        }
        let mut contents = batch.contents.unwrap();
        let left = contents.steps.left();
        Ahead::default().step(|| left.keys(frame::Operations::new(&[])), &store);
        assert_eq!(*noted.lock(), [[b"one".to_vec(), b"two".to_vec()]]);
    }
}
