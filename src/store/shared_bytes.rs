//! Bytes that many own, behind one pointer, with 5 bytes of overhead where they are few.
//!
//! This is the only unsafe code of postres. What it is for is memory: `Arc<[u8]>` is two pointers wide,
//! and of the libraries' thin ones (`triomphe::ThinArc`) each begins with two words, a count and a
//! length. An entry with a key of 16 bytes and a value of 64 is then 97 bytes long, which
//! glibc makes 112 of. Here it is 86, which fit into 96: a seventh of what such a key takes in all.
//!
//! Why it is sound rests on three invariants, which the comments at each `unsafe` refer to:
//!
//! 1. `start` points to an allocation of this module's [`layout`], aligned for the count; all of it
//!    was initialised before the first [`SharedBytes`] was made: the count, the length as LEB128,
//!    and as many bytes as that says.
//! 2. The count is how many [`SharedBytes`] have this `start`. Whoever takes it from 1 to 0 frees
//!    the allocation, and nobody else does.
//! 3. The length is never changed. The bytes are changed only by way of `&mut` to the one
//!    [`SharedBytes`] that has this `start`.

#![expect(unsafe_code, reason = "the one module that may; see above")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::Deref;
use std::process::abort;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::{ptr, slice};

use super::leb128;

/// Bytes before the length.
const COUNT: usize = size_of::<AtomicU32>();

/// With so many owners the process ends rather than let the count wrap, as with `std::sync::Arc`.
/// Their pointers alone would be 16 GB.
const MAX_OWNERS: u32 = u32::MAX / 2;

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
        let Some(layout) = layout(len, length.len()) else {
            // No address space has room for it: whoever asks has nothing to copy from.
            abort();
        };
        // SAFETY: the layout is not empty, as it holds the count.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout);
        };
        // SAFETY: the allocation begins with room for the count, and is aligned for it.
        unsafe { start.cast::<AtomicU32>().write(AtomicU32::new(1)) };
        let mut at = COUNT;
        for part in [length.as_slice()].iter().chain(parts) {
            // SAFETY: `at` and the parts from here on add up to the layout's size, from which no part
            // is missing: both sums are over the same borrowed slices, whose lengths cannot change,
            // and the first did not saturate, or there would be no layout. What is new does
            // not overlap what is borrowed.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), start.as_ptr().add(at), part.len()) };
            at += part.len();
        }
        Self { start }
    }

    /// The bytes, to change them, if nobody else owns them.
    pub(super) fn get_mut(&mut self) -> Option<&mut [u8]> {
        // Acquires what those who let go did before: none of them still reads.
        if self.count().load(Ordering::Acquire) != 1 {
            return None;
        }
        let (len, at) = self.length();
        // SAFETY: in bounds and initialised by invariant 1. By invariant 2 nobody else has this start,
        // and nobody can get it while `self` is borrowed mutably.
        Some(unsafe { slice::from_raw_parts_mut(self.start.as_ptr().add(at), len) })
    }

    /// Whether both are the very same bytes, not only equal ones.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.start == other.start
    }

    /// Bytes that the allocation takes.
    pub(super) fn allocated(&self) -> usize {
        let (len, at) = self.length();
        at + len
    }

    fn count(&self) -> &AtomicU32 {
        // SAFETY: it is there, and aligned, for as long as `self` is (invariants 1 and 2), and is used
        // as nothing but an atomic.
        unsafe { self.start.cast().as_ref() }
    }

    /// How many bytes they are, and at which offset they begin.
    fn length(&self) -> (usize, usize) {
        let (mut len, mut shift, mut at) = (0, 0, COUNT);
        loop {
            // SAFETY: by invariant 1 a whole LEB128 stands here, and the loop ends with its last byte.
            let byte = unsafe { self.start.add(at).read() };
            len |= usize::from(byte & !leb128::MORE) << shift;
            shift += leb128::BITS;
            at += 1;
            if byte & leb128::MORE == 0 {
                return (len, at);
            }
        }
    }
}

/// What is allocated for `len` bytes whose length takes `length_len`.
fn layout(len: usize, length_len: usize) -> Option<Layout> {
    let size = len.checked_add(COUNT + length_len)?;
    Layout::from_size_align(size, align_of::<AtomicU32>()).ok()
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (len, at) = self.length();
        // SAFETY: in bounds and initialised by invariant 1, not freed before `self` is dropped by
        // invariant 2, and not changed while `self` is borrowed by invariant 3.
        unsafe { slice::from_raw_parts(self.start.as_ptr().add(at), len) }
    }
}

impl Clone for SharedBytes {
    fn clone(&self) -> Self {
        // Nothing is ordered by this: whoever clones has the bytes already.
        if self.count().fetch_add(1, Ordering::Relaxed) > MAX_OWNERS {
            abort();
        }
        Self { start: self.start }
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        // Releases what this owner read, so that it is over before the last one frees it.
        if self.count().fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        let (len, at) = self.length();
        if let Some(layout) = layout(len, at - COUNT) {
            // SAFETY: this was the last owner (invariant 2), and this the layout that was allocated, as
            // neither the length nor how it is encoded has changed (invariant 3).
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

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
                assert!((5..=8).contains(&(shared.allocated() - len)), "{len}");
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
    fn threads_that_clone_and_drop_leave_one_owner() {
        let mut shared = SharedBytes::concat(&[b"key", b"value"]);
        thread::scope(|scope| {
            for _ in 0..4 {
                let mine = shared.clone();
                scope.spawn(move || {
                    for _ in 0..2000 {
                        let (one, other) = (mine.clone(), mine.clone());
                        drop(one);
                        assert_eq!(&*other, b"keyvalue");
                    }
                });
            }
        });
        assert!(shared.get_mut().is_some());
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
