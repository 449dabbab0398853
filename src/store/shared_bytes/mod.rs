//! Bytes that many own, behind one pointer, with 2 bytes of overhead where they are few; and the slot
//! of a table that holds such a pointer, and 20 bits more, in the room of a pointer.
//!
//! This is the only unsafe code of postres. What it is for is memory: `Arc<[u8]>` is two pointers wide,
//! and of the libraries' thin ones (`triomphe::ThinArc`) each begins with two words, a count and a
//! length. An entry with a key of 16 bytes and a value of 64 is then 97 bytes long, which glibc makes
//! 112 of. Here it is 83, or 88 with a time to live, and both fit into 96. And its place in a table takes
//! 10 bytes on average, where it took 13 with what is kept of a hash beside the pointer.
//!
//! What is allocated is the length as LEB128, the count of owners, and the bytes. The shorter these
//! are, the narrower is the count (see [`Head`]). One more owner than it can count gets a copy: 254
//! replies may hold one of less than 128 bytes, and 65,534 one of less than 16,384, before that. Those
//! that are shared until they were written to a client are longer.
//!
//! A slot can also be prefetched, which takes an intrinsic that is unsafe since it is given any address: 16 looks
//! together take three quarters of the time that they take where the processor reads ahead.
//!
//! Why it is sound rests on four invariants, which the comments at each `unsafe` refer to:
//!
//! 1. A start points to an allocation of this module's [`layout`]. Its length, its count, aligned for
//!    how wide it is, and as many bytes as the length says were initialised before it had an owner.
//! 2. The count is how many owners have this start: each [`SharedBytes`], and each [`Slot`] that is not
//!    empty. Whoever takes it from 1 to 0 frees the allocation, and nobody else does.
//! 3. The length is never changed. The bytes are changed only by way of `&mut` to the one owner that
//!    has this start.
//! 4. The bits that a [`Slot`] keeps beside a start are zeros in every start: the lowest by the layout's
//!    alignment, the highest since [`SharedBytes::concat`] ends the process otherwise.

#![expect(unsafe_code, reason = "the one module that may; see above")]

mod slot;

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::Deref;
use std::process::abort;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering, fence};
use std::{ptr, slice};

pub(super) use slot::Slot;

use super::leb128;

/// Allocators of 64-bit systems align to this whatever they are asked for, and give no less.
const ALIGN: usize = 16;

const _: () = assert!(usize::BITS == 64, "a pointer has bits to spare only there");

/// An immutable row of bytes that is shared by its clones, which may be on different threads. Freed
/// when the last of them is dropped. One pointer wide.
pub(super) struct SharedBytes {
    start: NonNull<u8>,
}

// SAFETY: what is shared is an atomic count and bytes that nobody changes (invariant 3); the thread that
// frees them has seen all others let go (see `drop`). This is what makes `Arc<[u8]>` Send and Sync.
unsafe impl Send for SharedBytes {}
// SAFETY: as above; `&SharedBytes` gives nothing but `&[u8]` and clones.
unsafe impl Sync for SharedBytes {}

impl SharedBytes {
    /// A copy of these parts, one behind the other.
    pub(super) fn concat(parts: &[&[u8]]) -> Self {
        let lengths = parts.iter().map(|part| part.len());
        // A sum that does not fit is a length for which there is no layout.
        let len = lengths.fold(0, usize::saturating_add);
        let length = leb128::encode(len);
        let head = Head::behind(length.len());
        let Some(layout) = layout(head, len) else {
            // No address space has room for it: whoever asks has nothing to copy from.
            abort();
        };
        // SAFETY: the layout is not empty: it is at least as long as it is aligned.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout);
        };
        if start.addr().get() & !Slot::START != 0 {
            // The system gives out such addresses only to who asks for them.
            abort();
        }
        // SAFETY: the layout begins with room for the head, and is aligned for a count of any width.
        unsafe { head.write(start, &length) };
        let mut at = head.len;
        for part in parts {
            // SAFETY: the head and the parts are no longer than the layout, from which none is missing:
            // both sums are over the same borrowed slices, whose lengths cannot change, and the first
            // did not saturate, or there would be no layout. What is new does not overlap what is
            // borrowed.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), start.as_ptr().add(at), part.len()) };
            at += part.len();
        }
        Self { start }
    }

    /// Bytes that the allocation takes.
    pub(super) fn allocated(&self) -> usize {
        let (head, len) = self.measure();
        layout(head, len).map_or(0, |layout| layout.size())
    }

    /// The bytes, to change them, if nobody else owns them.
    fn get_mut(&mut self) -> Option<&mut [u8]> {
        let (head, len) = self.measure();
        if !self.count(head).is_one() {
            return None;
        }
        // SAFETY: in bounds and initialised by invariant 1. By invariant 2 nobody else has this start,
        // and nobody can get it while `self` is borrowed mutably.
        Some(unsafe { slice::from_raw_parts_mut(self.start.as_ptr().add(head.len), len) })
    }

    /// What stands before the bytes, and how many they are.
    fn measure(&self) -> (Head, usize) {
        // SAFETY: by invariant 1 a whole LEB128 begins here.
        let first = unsafe { self.start.read() };
        let mut len = usize::from(first & !leb128::MORE);
        if first & leb128::MORE == 0 {
            return (Head::behind(1), len);
        }
        let (mut shift, mut at) = (leb128::BITS, 1);
        loop {
            // SAFETY: as the byte before said, it goes on here, and the loop ends with its last byte.
            let byte = unsafe { self.start.add(at).read() };
            len |= usize::from(byte & !leb128::MORE) << shift;
            shift += leb128::BITS;
            at += 1;
            if byte & leb128::MORE == 0 {
                return (Head::behind(at), len);
            }
        }
    }

    fn count(&self, head: Head) -> Count<'_> {
        // SAFETY: the head has a count of this width there, aligned by invariant 1. It is there for as
        // long as `self` is by invariant 2, and is used as nothing but an atomic.
        unsafe {
            let count = self.start.add(head.count_at);
            match head.count {
                Width::One => Count::One(count.cast().as_ref()),
                Width::Two => Count::Two(count.cast().as_ref()),
                Width::Four => Count::Four(count.cast().as_ref()),
            }
        }
    }
}

/// What is allocated for this head and so many bytes.
fn layout(head: Head, len: usize) -> Option<Layout> {
    let size = len.checked_add(head.len)?.max(ALIGN);
    Layout::from_size_align(size, ALIGN).ok()
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (head, len) = self.measure();
        // SAFETY: in bounds and initialised by invariant 1, not freed before `self` is dropped by
        // invariant 2, and not changed while `self` is borrowed by invariant 3.
        unsafe { slice::from_raw_parts(self.start.as_ptr().add(head.len), len) }
    }
}

impl Clone for SharedBytes {
    fn clone(&self) -> Self {
        let (head, _) = self.measure();
        if self.count(head).add_owner() {
            Self { start: self.start }
        } else {
            Self::concat(&[self])
        }
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        let (head, len) = self.measure();
        if !self.count(head).remove_owner() {
            return;
        }
        if let Some(layout) = layout(head, len) {
            // SAFETY: this was the last owner (invariant 2), and this the layout that was allocated, as
            // neither the length nor how it is encoded has changed (invariant 3).
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

/// What stands before the bytes: their length, and the count of owners.
#[derive(Clone, Copy)]
struct Head {
    count_at: usize,
    count: Width,
    len: usize,
}

/// Bytes of a count.
#[derive(Clone, Copy)]
enum Width {
    One,
    Two,
    Four,
}

impl Head {
    /// The head that begins with a length of so many bytes: below 128 that is one, and the head two;
    /// below 16,384 it is two, and the head four.
    fn behind(length_len: usize) -> Self {
        let (count, width) = match length_len {
            1 => (Width::One, 1),
            2 => (Width::Two, 2),
            _ => (Width::Four, 4),
        };
        let count_at = length_len.next_multiple_of(width);
        let len = count_at + width;
        Self {
            count_at,
            count,
            len,
        }
    }

    /// Writes it, with one owner.
    ///
    /// # Safety
    ///
    /// `start` is aligned for a count, and may be written to for as long as the head is, which is the one
    /// behind this length.
    unsafe fn write(self, start: NonNull<u8>, length: &[u8]) {
        // SAFETY: the caller's; the length lies before the count, at a multiple of its width.
        unsafe {
            ptr::copy_nonoverlapping(length.as_ptr(), start.as_ptr(), length.len());
            let count = start.add(self.count_at);
            match self.count {
                Width::One => count.write(1),
                Width::Two => count.cast().write(1_u16),
                Width::Four => count.cast().write(1_u32),
            }
        }
    }
}

/// How many owners there are.
enum Count<'a> {
    One(&'a AtomicU8),
    Two(&'a AtomicU16),
    Four(&'a AtomicU32),
}

impl Count<'_> {
    /// Counts one more, if it can.
    fn add_owner(&self) -> bool {
        // Nothing is ordered by this: whoever clones has the bytes already.
        const ORDER: Ordering = Ordering::Relaxed;
        match self {
            Self::One(count) => count
                .fetch_update(ORDER, ORDER, |n| n.checked_add(1))
                .is_ok(),
            Self::Two(count) => count
                .fetch_update(ORDER, ORDER, |n| n.checked_add(1))
                .is_ok(),
            Self::Four(count) => count
                .fetch_update(ORDER, ORDER, |n| n.checked_add(1))
                .is_ok(),
        }
    }

    /// Counts one less; says whether it was the last, who has then seen all others let go.
    fn remove_owner(&self) -> bool {
        // Releases what this owner read, so that it is over before the last one frees it.
        const ORDER: Ordering = Ordering::Release;
        let last = match self {
            Self::One(count) => count.fetch_sub(1, ORDER) == 1,
            Self::Two(count) => count.fetch_sub(1, ORDER) == 1,
            Self::Four(count) => count.fetch_sub(1, ORDER) == 1,
        };
        if last {
            fence(Ordering::Acquire);
        }
        last
    }

    fn is_one(&self) -> bool {
        // Acquires what those who let go did before: none of them still reads.
        const ORDER: Ordering = Ordering::Acquire;
        match self {
            Self::One(count) => count.load(ORDER) == 1,
            Self::Two(count) => count.load(ORDER) == 1,
            Self::Four(count) => count.load(ORDER) == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    impl SharedBytes {
        /// Whether both are the very same bytes, not only equal ones.
        pub(super) fn is_same(&self, other: &Self) -> bool {
            self.start == other.start
        }
    }

    /// On both sides of each length at which its encoding grows.
    const LENGTHS: [usize; 8] = [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152];

    #[test]
    fn the_parts_stand_in_a_row() {
        for len in LENGTHS {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            for parts in [1, 2, 3, 50] {
                let parts: Vec<_> = bytes.chunks(len / parts + 1).collect();
                let shared = SharedBytes::concat(&parts);
                assert_eq!(&*shared, bytes);
                let most = if len < 128 { 2 } else { 8 };
                let at_least = ALIGN.max(len + 2);
                let allocated = shared.allocated();
                assert!(
                    (at_least..=ALIGN.max(len + most)).contains(&allocated),
                    "{len}"
                );
            }
        }
        assert_eq!(&*SharedBytes::concat(&[]), b"");
        assert_eq!(&*SharedBytes::concat(&[b"", b"a", b"", b"bc"]), b"abc");
    }

    #[test]
    fn they_are_changed_only_by_who_owns_them_alone() {
        for len in LENGTHS {
            let mut one = SharedBytes::concat(&[&vec![b'x'; len]]);
            one.get_mut().unwrap().fill(b'y');
            let mut other = one.clone();
            assert!(one.is_same(&other));
            assert!(one.get_mut().is_none() && other.get_mut().is_none());
            drop(one);
            other.get_mut().unwrap().fill(b'z');
            assert_eq!(&*other, vec![b'z'; len]);
        }
    }

    #[test]
    fn bytes_that_are_equal_are_not_the_same() {
        let (one, other) = (SharedBytes::concat(&[b"a"]), SharedBytes::concat(&[b"a"]));
        assert_eq!(*one, *other);
        assert!(!one.is_same(&other));
    }

    #[test]
    fn who_cannot_be_counted_gets_a_copy() {
        for (len, most) in [(127, 255), (128, 65_535), (16_383, 65_535)] {
            let mut shared = SharedBytes::concat(&[&vec![b'x'; len]]);
            let mut others: Vec<_> = (1..most).map(|_| shared.clone()).collect();
            assert!(others.iter().all(|other| other.is_same(&shared)));
            let mut copy = shared.clone();
            assert!(!copy.is_same(&shared));
            assert_eq!(*copy, *shared);
            assert!(copy.get_mut().is_some());
            others.pop();
            assert!(shared.clone().is_same(&shared));
            drop(others);
            assert!(shared.get_mut().is_some());
        }
    }

    #[test]
    fn threads_that_clone_and_drop_leave_one_owner() {
        for len in [8, 200, 20_000] {
            let mut shared = SharedBytes::concat(&[&vec![7; len]]);
            thread::scope(|scope| {
                for _ in 0..4 {
                    let mine = shared.clone();
                    scope.spawn(move || {
                        for _ in 0..2000 {
                            let (one, other) = (mine.clone(), mine.clone());
                            drop(one);
                            assert_eq!((other.len(), other.last()), (len, Some(&7)));
                        }
                    });
                }
            });
            assert!(shared.get_mut().is_some());
        }
    }

    #[test]
    fn the_last_of_several_threads_frees_them() {
        for _ in 0..200 {
            let shared = SharedBytes::concat(&[&[7; 100]]);
            let others: Vec<_> = (0..3).map(|_| shared.clone()).collect();
            thread::scope(|scope| {
                for other in others {
                    scope.spawn(move || {
                        assert_eq!(other.iter().map(|&b| u32::from(b)).sum::<u32>(), 700)
                    });
                }
                drop(shared);
            });
        }
    }
}
