//! The slot of a table. See the module above for the invariants.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::slice;

use super::super::LINE;
use super::{ALIGN, SharedBytes};

/// Room for shared bytes with a tag, and for a digit that is there whether it is empty or not. As long as a
/// pointer. What looks for leaks, valgrind for one, does not see that it points to something.
pub(in crate::store) struct Slot {
    /// A start, or none, rotated to the left by 16 bits: so its highest bits are the word's lowest, and there
    /// stands the tag, which can be compared as it lies. The digit stands above it, in the start's lowest bits.
    /// It is a pointer so that what the start may be used for (its provenance) is not lost.
    word: *mut u8,
}

// SAFETY: a slot owns what it points to as `SharedBytes` do, and `&Slot` gives nothing but `&[u8]` and
// clones of them.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Default for Slot {
    fn default() -> Self {
        Self {
            word: ptr::null_mut(),
        }
    }
}

impl Slot {
    /// Digits are below this.
    pub(in crate::store) const DIGITS: u32 = ALIGN as u32;
    /// The bits of a start, as an address, that the tag and the digit leave.
    pub(super) const START: usize = (usize::MAX >> u16::BITS) & !(ALIGN - 1);
    /// Those of the digit, as it stands in the word.
    const DIGIT: usize = (ALIGN - 1) << u16::BITS;

    /// Whether nothing is in it.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.start().is_null()
    }

    /// What its bytes were put in with; 0 while there are none.
    pub(in crate::store) fn tag(&self) -> u16 {
        self.word.addr() as u16
    }

    /// The digit that was set last.
    pub(in crate::store) fn digit(&self) -> u32 {
        ((self.word.addr() & Self::DIGIT) >> u16::BITS) as u32
    }

    /// Sets the digit, of which only what is below [`Self::DIGITS`] counts.
    pub(in crate::store) fn set_digit(&mut self, digit: u32) {
        let digit = ((digit as usize) << u16::BITS) & Self::DIGIT;
        self.word = self.word.map_addr(|word| (word & !Self::DIGIT) | digit);
    }

    /// Puts bytes in, and gives back those that were in it.
    pub(in crate::store) fn put(&mut self, tag: u16, bytes: SharedBytes) -> Option<SharedBytes> {
        let digit = self.word.addr() & Self::DIGIT;
        let former = self.take();
        // The slot is the owner from here on. By invariant 4 no bit of the start is lost.
        let start = ManuallyDrop::new(bytes).start.as_ptr();
        let beside = usize::from(tag) | digit;
        self.word = start.map_addr(|start| start.rotate_left(u16::BITS) | beside);
        former
    }

    /// Takes out what is in it.
    pub(in crate::store) fn take(&mut self) -> Option<SharedBytes> {
        let bytes = self.own()?;
        self.word = ptr::without_provenance_mut(self.word.addr() & Self::DIGIT);
        // Not the slot but what is handed out is the owner from here on.
        Some(ManuallyDrop::into_inner(bytes))
    }

    /// What is in it, to be read.
    pub(in crate::store) fn get(&self) -> Option<&[u8]> {
        let bytes = self.own()?;
        let (head, len) = bytes.measure();
        // SAFETY: as in `SharedBytes::deref`: the slot is the owner, and borrowed for as long.
        Some(unsafe { slice::from_raw_parts(bytes.start.as_ptr().add(head.len), len) })
    }

    /// What is in it, to be changed, if nobody else owns it.
    pub(in crate::store) fn get_mut(&mut self) -> Option<&mut [u8]> {
        let mut bytes = self.own()?;
        let bytes = ptr::from_mut(bytes.get_mut()?);
        // SAFETY: as in `SharedBytes::get_mut`: the slot is the only owner, and borrowed for as long.
        Some(unsafe { &mut *bytes })
    }

    /// What is in it, shared.
    pub(in crate::store) fn share(&self) -> Option<SharedBytes> {
        Some(SharedBytes::clone(&*self.own()?))
    }

    /// Has the processor fetch the line of its cache in which the slot lies.
    pub(in crate::store) fn prefetch(&self) {
        prefetch(ptr::from_ref(self).cast());
    }

    /// The same of the first two lines of what is in it: most entries are no longer.
    pub(in crate::store) fn prefetch_bytes(&self) {
        let start = self.start();
        prefetch(start);
        prefetch(start.wrapping_add(LINE));
    }

    /// What is in it, as if that had been taken out: the slot stays the owner, or whoever calls becomes it.
    fn own(&self) -> Option<ManuallyDrop<SharedBytes>> {
        let start = NonNull::new(self.start())?;
        Some(ManuallyDrop::new(SharedBytes { start }))
    }

    fn start(&self) -> *mut u8 {
        let start = |word: usize| word.rotate_right(u16::BITS) & Self::START;
        self.word.map_addr(start)
    }
}

/// Has the processor fetch a line of its cache, and goes on without it. On a processor not named here, it does
/// nothing.
fn prefetch(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint. It reads nothing that the program would see, and where nothing can be read it does nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{place}]",
            place = in(reg) place,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = place;
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.get().unwrap_or_default();
        write!(f, "Slot({} {}", self.tag(), bytes.escape_ascii())?;
        write!(f, " {})", self.digit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_as_long_as_a_pointer() {
        assert_eq!(size_of::<Slot>(), size_of::<usize>());
    }

    #[test]
    fn tag_digit_and_bytes_do_not_touch_each_other() {
        let mut slot = Slot::default();
        assert!(slot.is_empty() && slot.get().is_none() && slot.take().is_none());
        for tag in [0, 1, 0x8000, 0xffff_u16] {
            for digit in 0..Slot::DIGITS {
                slot.set_digit(digit);
                let former = slot.take();
                assert!(slot.is_empty());
                assert_eq!((slot.tag(), slot.digit()), (0, digit));
                let bytes = [tag.to_le_bytes()[0], digit as u8];
                assert!(slot.put(tag, SharedBytes::concat(&[&bytes])).is_none());
                assert!(!slot.is_empty());
                assert_eq!((slot.tag(), slot.digit()), (tag, digit));
                assert_eq!(slot.get(), Some(&bytes[..]));
                drop(former);
            }
        }
        let former = slot.put(7, SharedBytes::concat(&[b"next"]));
        assert_eq!(&*former.unwrap(), [0xff, 15]);
        slot.set_digit(Slot::DIGITS + 3);
        assert_eq!((slot.tag(), slot.digit()), (7, 3));
        assert_eq!(slot.get(), Some(&b"next"[..]));
    }

    #[test]
    fn a_slot_is_an_owner() {
        let mut slot = Slot::default();
        let mut shared = SharedBytes::concat(&[b"bytes"]);
        slot.put(1, shared.clone());
        assert!(shared.get_mut().is_none() && slot.get_mut().is_none());
        assert!(slot.share().unwrap().is_same(&shared));
        drop(slot);
        assert!(shared.get_mut().is_some());
        let mut slot = Slot::default();
        slot.put(1, shared);
        slot.get_mut().unwrap().fill(b'x');
        assert_eq!(slot.get(), Some(&b"xxxxx"[..]));
        assert_eq!(&*slot.take().unwrap(), b"xxxxx");
    }
}
