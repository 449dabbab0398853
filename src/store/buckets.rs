//! A table of entries, in buckets as long as a line of the cache.
//!
//! A look at a key is, most of all, a wait for memory. Here it waits twice: for the bucket, which has
//! bits of the hashes beside the pointers to its entries, and for the entry. A key lies in the
//! bucket that its hash names or, where that was full, in a later one of a path that its hash names as
//! well. Each bucket counts the keys that passed it by, so that a search knows where to end, and no longer
//! counts one that is removed: both as in Folly's F14. All of that is in the eight words of the
//! bucket's slots ([`Slot`]), in bits that pointers do not need.
//!
//! The bits that are kept are all that the place of a key depends on. So a table grows without a
//! look at its keys, which lie all over the memory, and it need not grow by much at a time: it has any
//! number of buckets, an eighth more each time, and while it grows is five sixths full on average.
//!
//! What a removed key does leave is others further off than they need be, and new ones go where it was:
//! as keys come and go at one number of them, more and more are not where they are looked for first.
//! When they have passed by too many buckets, all are put in anew.

use super::bucket::{self, Lines, SLOTS};
use super::entry::{Entry, Held, change_in_place};
use super::shared_bytes::Slot;

/// A hash table of entries. Hashes are the caller's: the same one for the same key each time.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    buckets: Lines,
    len: u32,
    /// How often more may be passed by before all are put in anew.
    patience: i32,
}

/// What is kept of a hash: bits that have nothing to do with the choice of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag(u16);

impl Tag {
    fn of(hash: u64) -> Self {
        let [low, high, ..] = hash.to_le_bytes();
        Self(u16::from_le_bytes([low, high]))
    }

    /// Where a search among so many buckets begins: the tag as a fraction of them.
    fn home(self, buckets: usize) -> usize {
        fraction(self.0, buckets)
    }

    /// Where it goes on from there, which differs among keys of one home: were it the next bucket
    /// for all, full ones would gather in long rows.
    fn second(self, buckets: usize) -> usize {
        /// Odd, so that all the bits that keys of one home differ in have a say.
        const SPREAD: u16 = 0x9e37;
        let others = buckets.saturating_sub(1);
        let ahead = 1 + fraction(self.0.wrapping_mul(SPREAD), others);
        wrapped(self.home(buckets) + ahead, buckets)
    }

    /// The buckets in which its key may lie if it is not in its home, the likeliest first: all there are.
    fn further(self, buckets: usize) -> impl Iterator<Item = usize> {
        let second = self.second(buckets);
        (0..buckets).map(move |ahead| wrapped(second + ahead, buckets))
    }

    /// All of them, its home first, and so twice.
    fn path(self, buckets: usize) -> impl Iterator<Item = usize> {
        let home = (buckets > 0).then(|| self.home(buckets));
        home.into_iter().chain(self.further(buckets))
    }
}

/// `part` of 65,536 parts of `of`.
fn fraction(part: u16, of: usize) -> usize {
    (usize::from(part) * of) >> 16
}

/// An index below twice the number of buckets, as one below it.
fn wrapped(index: usize, buckets: usize) -> usize {
    if index < buckets {
        index
    } else {
        index - buckets
    }
}

impl Buckets {
    /// An empty table that so many entries can be put into before it grows.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self::with_buckets(buckets_for(capacity))
    }

    fn with_buckets(count: usize) -> Self {
        Self {
            buckets: Lines::new(count),
            len: 0,
            patience: tolerated(count),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// How many entries it holds before it grows.
    pub(super) fn capacity(&self) -> usize {
        capacity_of(self.buckets.len())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Held<'_>> {
        self.buckets.all().iter().flatten().filter_map(Held::of)
    }

    pub(super) fn find(&self, hash: u64, is_it: impl Fn(Held<'_>) -> bool) -> Option<Held<'_>> {
        let (at, slot) = self.locate(Tag::of(hash), is_it)?;
        Held::of(self.buckets.get(at)?.get(slot)?)
    }

    /// Puts an entry in, and hands back the one that its key had.
    pub(super) fn insert(&mut self, hash: u64, entry: Entry) -> Option<Entry> {
        let tag = Tag::of(hash);
        if let Some(slot) = self.slot_mut(tag, |held| held.key() == entry.key()) {
            return entry.put_into(slot, tag.0);
        }
        self.insert_new(hash, entry);
        None
    }

    /// Changes a value where it lies, if nobody else holds its entry; says whether it could.
    pub(super) fn change_in_place(
        &mut self,
        hash: u64,
        is_it: impl Fn(Held<'_>) -> bool,
        change: &mut dyn FnMut(&mut [u8]),
    ) -> bool {
        let slot = self.slot_mut(Tag::of(hash), is_it);
        slot.is_some_and(|slot| change_in_place(slot, change))
    }

    /// Puts in an entry whose key is not there.
    pub(super) fn insert_new(&mut self, hash: u64, entry: Entry) {
        if self.len() == self.capacity() {
            self.resize(larger(self.buckets.len()));
        } else if self.patience < 0 {
            self.resize(self.buckets.len());
        }
        self.put(Tag::of(hash), entry);
    }

    pub(super) fn remove(&mut self, hash: u64, is_it: impl Fn(Held<'_>) -> bool) -> Option<Entry> {
        let (at, slot) = self.locate(Tag::of(hash), is_it)?;
        self.take(at, slot)
    }

    /// Removes all such entries.
    pub(super) fn extract(&mut self, is_such: impl Fn(Held<'_>) -> bool) -> Vec<Entry> {
        let mut such = Vec::new();
        for (at, bucket) in self.buckets.all().iter().enumerate() {
            let slots = bucket.iter().enumerate();
            let found = slots.filter(|(_, slot)| Held::of(slot).is_some_and(&is_such));
            such.extend(found.map(|(slot, _)| (at, slot)));
        }
        let taken = such
            .into_iter()
            .filter_map(|(at, slot)| self.take(at, slot));
        taken.collect()
    }

    /// Gives back room beyond what this capacity takes.
    pub(super) fn shrink_to(&mut self, capacity: usize) {
        let enough = buckets_for(capacity.max(self.len()));
        if enough < self.buckets.len() {
            self.resize(enough);
        }
    }

    /// Gives back room that it would not have if it had grown by itself.
    pub(super) fn fit(&mut self) {
        let enough = buckets_for(self.len());
        if larger(enough) < self.buckets.len() {
            self.resize(enough);
        }
    }

    /// Has the bucket fetched in which a search for this hash begins.
    pub(super) fn prefetch_home(&self, hash: u64) {
        let home = self.buckets.get(Tag::of(hash).home(self.buckets.len()));
        if let Some(slot) = home.and_then(|home| home.first()) {
            slot.prefetch();
        }
    }

    /// The bucket and the slot.
    fn locate(&self, tag: Tag, is_it: impl Fn(Held<'_>) -> bool) -> Option<(usize, usize)> {
        let home = tag.home(self.buckets.len());
        let bucket = self.buckets.get(home)?;
        if let Some(slot) = bucket::slot_of(bucket, tag.0, &is_it) {
            return Some((home, slot));
        }
        if bucket::is_passed(bucket) {
            return self.locate_further(tag, is_it);
        }
        None
    }

    /// The same where its home has been passed by.
    fn locate_further(&self, tag: Tag, is_it: impl Fn(Held<'_>) -> bool) -> Option<(usize, usize)> {
        for at in tag.further(self.buckets.len()) {
            let bucket = self.buckets.get(at)?;
            if let Some(slot) = bucket::slot_of(bucket, tag.0, &is_it) {
                return Some((at, slot));
            }
            if !bucket::is_passed(bucket) {
                break;
            }
        }
        None
    }

    fn slot_mut(&mut self, tag: Tag, is_it: impl Fn(Held<'_>) -> bool) -> Option<&mut Slot> {
        let (at, slot) = self.locate(tag, is_it)?;
        self.buckets.get_mut(at)?.get_mut(slot)
    }

    /// Puts an entry into the first free slot of its path; there is one.
    fn put(&mut self, tag: Tag, entry: Entry) {
        for at in tag.path(self.buckets.len()) {
            let Some(bucket) = self.buckets.get_mut(at) else {
                continue;
            };
            if let Some(free) = bucket.iter_mut().find(|slot| slot.is_empty()) {
                entry.put_into(free, tag.0);
                self.len += 1;
                return;
            }
            bucket::pass(bucket);
            self.patience = self.patience.saturating_sub(1);
        }
    }

    /// Takes out what is in a slot. No bucket counts it any more.
    fn take(&mut self, at: usize, slot: usize) -> Option<Entry> {
        let slot = self.buckets.get_mut(at)?.get_mut(slot)?;
        let tag = Tag(slot.tag());
        let entry = Entry::take_from(slot)?;
        self.len -= 1;
        let path = tag.path(self.buckets.len());
        for passed in path.take_while(|&passed| passed != at) {
            bucket::unpass(self.buckets.get_mut(passed)?);
            self.patience = self.patience.saturating_add(1);
        }
        Some(entry)
    }

    /// Puts all entries in anew, into so many buckets, which are enough for them.
    fn resize(&mut self, count: usize) {
        let former = std::mem::replace(self, Self::with_buckets(count));
        for mut slot in former.buckets.into_slots() {
            let tag = Tag(slot.tag());
            if let Some(entry) = Entry::take_from(&mut slot) {
                self.put(tag, entry);
            }
        }
        // Where hashes are so unlucky that this is much from the start, it is not tried each time.
        let passed = tolerated(count).saturating_sub(self.patience);
        self.patience = self.patience.max(passed);
    }
}

/// How many buckets keys may pass by in all: twice as many as there are, or twice as many as they did when
/// all were put in last, if that is more.
/// As keys come and go one in five is away from home then, and a search for one that is not there
/// looks at three buckets on average; and for each key that comes one or two are moved, where growth moves nine.
fn tolerated(buckets: usize) -> i32 {
    i32::try_from(2 * buckets).unwrap_or(i32::MAX)
}

/// Seven eighths of the slots: of the keys that are there a tenth have another place than their home
/// then, and of searches for others more than half end at the first bucket.
fn capacity_of(buckets: usize) -> usize {
    buckets * (SLOTS - SLOTS / 8)
}

/// The fewest that have such a capacity.
fn buckets_for(capacity: usize) -> usize {
    capacity.div_ceil(capacity_of(1))
}

/// How many buckets a table gets in place of so many, which are full.
fn larger(buckets: usize) -> usize {
    buckets + (buckets / 8).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(key: u16, value: u8) -> Entry {
        Entry::new(&key.to_le_bytes(), &[value], None)
    }

    fn is(key: u16) -> impl Fn(Held<'_>) -> bool {
        move |entry| entry.key() == key.to_le_bytes()
    }

    /// Each bucket counts exactly the keys that passed it by.
    fn check_passed(table: &Buckets) {
        let count = table.buckets.len();
        let mut passed = vec![0; count];
        for (at, bucket) in table.buckets.all().iter().enumerate() {
            for slot in bucket.iter().filter(|slot| !slot.is_empty()) {
                let path = Tag(slot.tag()).path(count);
                path.take_while(|&before| before != at)
                    .for_each(|before| passed[before] += 1);
            }
        }
        let counted: Vec<_> = table.buckets.all().iter().map(bucket::passed).collect();
        assert_eq!(counted, passed);
        let tolerated_here = all_passed(table) + i64::from(table.patience);
        assert!(tolerated_here >= i64::from(tolerated(count)));
    }

    fn all_passed(table: &Buckets) -> i64 {
        let passed = table
            .buckets
            .all()
            .iter()
            .map(|bucket| i64::from(bucket::passed(bucket)));
        passed.sum()
    }

    #[test]
    fn every_path_goes_through_every_bucket() {
        for buckets in (0..70).chain([1000, 70_000]) {
            for tag in [0, 1, 255, 256, 0x7fff, 0xffff].map(Tag) {
                let mut path: Vec<_> = tag.path(buckets).collect();
                assert_eq!(path.first().copied().unwrap_or(0), tag.home(buckets));
                path.sort_unstable();
                path.dedup();
                assert_eq!(path, (0..buckets).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn room_is_what_was_asked_for_and_little_more() {
        for capacity in 0..2000 {
            let table = Buckets::with_capacity(capacity);
            let room = table.capacity();
            assert!((capacity..capacity + SLOTS).contains(&room), "{room}");
        }
    }

    /// Hashes of a sequence of keys, as good as random.
    fn hash_in_turn(key: u32) -> u64 {
        let mixed = (u64::from(key) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
    }

    #[test]
    fn a_table_stays_in_order_as_keys_come_and_go() {
        let own = |key: u32| move |entry: Held<'_>| entry.key() == key.to_le_bytes();
        let mut table = Buckets::with_capacity(6000);
        let full = table.capacity() as u32;
        let put = |table: &mut Buckets, key: u32| {
            let anew = table.patience < 0;
            let new = Entry::new(&key.to_le_bytes(), b"", None);
            table.insert_new(hash_in_turn(key), new);
            usize::from(anew)
        };
        (0..full).for_each(|key| assert_eq!(put(&mut table, key), 0));
        let (buckets, in_order) = (table.buckets.len(), all_passed(&table));
        let mut anew = 0;
        for key in full..10 * full {
            // None is there longer than any other, as the oldest goes.
            let gone = key - full;
            assert!(table.remove(hash_in_turn(gone), own(gone)).is_some());
            anew += put(&mut table, key);
            assert!(table.patience >= -100);
        }
        check_passed(&table);
        assert_eq!(table.buckets.len(), buckets);
        let passed = all_passed(&table);
        assert!(passed < 3 * in_order, "{passed} of {in_order}");
        // Each moves all keys; there came nine times as many.
        assert!((2..9 * 4).contains(&anew), "{anew}");
        for key in 9 * full..10 * full {
            assert!(table.find(hash_in_turn(key), own(key)).is_some());
        }
    }

    #[test]
    fn keys_of_one_hash_are_not_put_in_anew_each_time() {
        let mut table = Buckets::with_capacity(2000);
        let mut anew = 0;
        for key in 0..2000_u16 {
            anew += usize::from(table.patience < 0);
            table.insert_new(7, entry(key, 0));
        }
        check_passed(&table);
        assert!(anew < 20, "{anew}");
    }

    #[test]
    fn a_table_grows_by_little_and_is_never_full() {
        let mut table = Buckets::default();
        let hash = |key: u16| u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        for key in 0..3000 {
            let before = table.buckets.len();
            table.insert_new(hash(key), entry(key, 0));
            assert!(table.len() <= table.capacity());
            assert!(table.buckets.len() <= larger(before));
        }
        assert!(table.len() > table.capacity() * 5 / 6);
        check_passed(&table);
        for key in 0..3000 {
            assert!(table.find(hash(key), is(key)).is_some());
        }
    }

    #[derive(Debug, Clone)]
    enum Change {
        Put(u16, u8),
        Remove(u16),
        Extract(u16),
        ShrinkTo(usize),
        Fit,
    }

    fn change() -> impl Strategy<Value = Change> {
        let key = 0..60_u16;
        prop_oneof![
            8 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Change::Put(key, value)),
            4 => key.prop_map(Change::Remove),
            1 => (2..5_u16).prop_map(Change::Extract),
            1 => (0..80_usize).prop_map(Change::ShrinkTo),
            1 => Just(Change::Fit),
        ]
    }

    /// A hash of which few bits are the key's, so that many keys have the same one.
    fn poor_hash(key: u16, bits: u32) -> u64 {
        u64::from(key)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(bits)
            & ((1 << bits) - 1) << 3
    }

    proptest! {
        #[test]
        fn any_changes_leave_what_they_leave_in_a_plain_map(
            changes in prop::collection::vec(change(), 0..300),
            bits in 0..14_u32,
        ) {
            let hash = |key| poor_hash(key, bits);
            let mut table = Buckets::default();
            let mut model = BTreeMap::new();
            for change in changes {
                match change {
                    Change::Put(key, value) => {
                        let new = entry(key, value);
                        let replaced = table.insert(hash(key), new);
                        let replaced = replaced.map(|entry| entry.value().to_vec());
                        prop_assert_eq!(replaced, model.insert(key, value).map(|value| vec![value]));
                    }
                    Change::Remove(key) => {
                        let removed = table.remove(hash(key), is(key));
                        let removed = removed.map(|entry| entry.value().to_vec());
                        prop_assert_eq!(removed, model.remove(&key).map(|value| vec![value]));
                    }
                    Change::Extract(divisor) => {
                        let is_such = |key: u16| key.is_multiple_of(divisor);
                        let key_of = |entry: Held<'_>| u16::from(entry.key()[0]);
                        let taken = table.extract(|entry| is_such(key_of(entry)));
                        let before = model.len();
                        model.retain(|&key, _| !is_such(key));
                        prop_assert_eq!(taken.len(), before - model.len());
                    }
                    Change::ShrinkTo(capacity) => table.shrink_to(capacity),
                    Change::Fit => table.fit(),
                }
                check_passed(&table);
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.iter().count(), model.len());
                for key in 0..60 {
                    let found = table.find(hash(key), is(key)).and_then(Held::share);
                    let found = found.map(|entry| entry.value().to_vec());
                    prop_assert_eq!(found, model.get(&key).map(|value| vec![*value]));
                }
            }
        }
    }
}
