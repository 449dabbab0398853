//! The buckets of a table, each of them a line of the processor's cache.
//!
//! A bucket is eight slots. Each has the tag of its entry; their digits, the first slot's the lowest, are how
//! often one of the keys that are there passed by, as it found no slot: a number of 32 bits.

use super::LINE;
use super::entry::Held;
use super::shared_bytes::Slot;

/// Slots of a bucket.
pub(super) const SLOTS: usize = 8;

/// A bucket; see the functions of this module.
pub(super) type Bucket = [Slot; SLOTS];

/// So many buckets in a row, where lines of the cache begin.
///
/// The allocator is not asked for such a place: glibc would leave a gap before it, of 3 to 4 bytes for each key.
/// A few slots more than there must be leave room to begin where a line does.
#[derive(Debug, Default)]
pub(super) struct Lines {
    slots: Box<[Slot]>,
}

impl Lines {
    pub(super) fn new(buckets: usize) -> Self {
        let spare = if buckets == 0 { 0 } else { SLOTS - 1 };
        let slots = (0..buckets * SLOTS + spare).map(|_| Slot::default());
        Self {
            slots: slots.collect(),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() / SLOTS
    }

    pub(super) fn all(&self) -> &[Bucket] {
        let slots = self.slots.get(self.first()..).unwrap_or_default();
        slots.as_chunks().0
    }

    pub(super) fn get(&self, at: usize) -> Option<&Bucket> {
        let from = self.first() + at * SLOTS;
        self.slots.get(from..)?.first_chunk()
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Bucket> {
        let from = self.first() + at * SLOTS;
        self.slots.get_mut(from..)?.first_chunk_mut()
    }

    /// Every slot, and some that are empty.
    pub(super) fn into_slots(self) -> impl Iterator<Item = Slot> {
        self.slots.into_iter()
    }

    /// The first slot with which a line begins.
    fn first(&self) -> usize {
        let ahead = self.slots.as_ptr().addr().wrapping_neg() % LINE;
        ahead / size_of::<Slot>()
    }
}

/// The slot whose entry has this tag, and is it.
pub(super) fn slot_of(
    bucket: &Bucket,
    tag: u16,
    is_it: impl Fn(Held<'_>) -> bool,
) -> Option<usize> {
    // All tags are compared, the last ones first, before one slot is looked at: which it will be cannot
    // be foreseen, so a loop that ends there would have the processor guess, and mostly wrong.
    let first = |found, (at, slot): (usize, &Slot)| if slot.tag() == tag { at } else { found };
    let mut at = bucket.iter().enumerate().rev().fold(SLOTS, first);
    while let Some(slot) = bucket.get(at) {
        if slot.tag() == tag && Held::of(slot).is_some_and(&is_it) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Whether a key passed by that is there.
pub(super) fn is_passed(bucket: &Bucket) -> bool {
    bucket.iter().fold(0, |all, slot| all | slot.digit()) != 0
}

/// How many did.
pub(super) fn passed(bucket: &Bucket) -> u32 {
    let slots = bucket.iter().rev();
    slots.fold(0, |passed, slot| (passed * Slot::DIGITS) | slot.digit())
}

/// One more does.
pub(super) fn pass(bucket: &mut Bucket) {
    set_passed(bucket, passed(bucket).wrapping_add(1));
}

/// One that did is gone.
pub(super) fn unpass(bucket: &mut Bucket) {
    set_passed(bucket, passed(bucket).wrapping_sub(1));
}

fn set_passed(bucket: &mut Bucket, mut passed: u32) {
    for slot in bucket {
        slot.set_digit(passed);
        passed /= Slot::DIGITS;
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Entry;
    use super::*;

    #[test]
    fn a_bucket_is_a_line_of_the_cache() {
        assert_eq!(size_of::<Bucket>(), LINE);
        for buckets in 0..200 {
            let lines = Lines::new(buckets);
            assert_eq!(lines.len(), buckets);
            assert_eq!(lines.all().len(), buckets);
            assert!(lines.get(buckets).is_none());
            let places = lines.all().iter().map(|bucket| bucket.as_ptr().addr());
            assert!(places.into_iter().all(|place| place % LINE == 0));
        }
    }

    #[test]
    fn who_passes_by_is_counted_beside_what_is_there() {
        let mut bucket = Bucket::default();
        let entry = |n: u16| Entry::new(&n.to_le_bytes(), b"", None);
        for (n, slot) in (0..).zip(&mut bucket).take(5) {
            entry(n).put_into(slot, 7 + n);
        }
        let steps = [0, 1, 15, 16, 0xff, 0x1000, 0xffff_fffe];
        for count in steps {
            set_passed(&mut bucket, count);
            assert_eq!(passed(&bucket), count);
            assert_eq!(is_passed(&bucket), count > 0);
            pass(&mut bucket);
            assert_eq!(passed(&bucket), count + 1);
            unpass(&mut bucket);
            assert_eq!(passed(&bucket), count);
            for n in 0..5_u16 {
                let own = |held: Held<'_>| held.key() == n.to_le_bytes();
                assert_eq!(slot_of(&bucket, 7 + n, own), Some(usize::from(n)));
            }
            assert_eq!(slot_of(&bucket, 0, |_| true), None);
        }
    }
}
