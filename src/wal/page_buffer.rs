//! Room whose bytes lie as they do in a file.
//!
//! The system copies what is read or written between a page of its own and the caller's memory with one
//! instruction (`rep movsb`), which processors of AMD's Zen 3 carry out ten times more slowly where the
//! target's place in its page is up to 31 bytes behind that of the source. And glibc puts what is large 16
//! bytes behind the beginning of a page: to read a file from its start into a `Vec` is just that.

use std::ops::{Deref, DerefMut};

/// What all pages are a multiple of.
const PAGE: usize = 4096;

/// Bytes, the first of which lies at the beginning of a page.
#[derive(Debug, Default)]
pub struct PageBuffer {
    /// With room to find a page's beginning in.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl PageBuffer {
    /// So many zeros.
    pub fn zeroed(len: usize) -> Self {
        // Memory that is fresh is zero already, and not touched here.
        let bytes = vec![0; len.saturating_add(PAGE - 1)];
        // Where it cannot be told it is the vector's own beginning, which is as good, only slower.
        let start = bytes.as_ptr().align_offset(PAGE);
        let start = if start < PAGE { start } else { 0 };
        Self { bytes, start, len }
    }

    /// So many bytes, of which nothing is known: they may be what was there before.
    pub fn with_len(mut self, len: usize) -> Self {
        if self.bytes.len() - self.start < len {
            return Self::zeroed(len);
        }
        self.len = len;
        self
    }

    /// Leaves out all bytes from this one on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = self.bytes.get(self.start..self.start + self.len);
        bytes.unwrap_or_default()
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let bytes = self.bytes.get_mut(self.start..self.start + self.len);
        bytes.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_the_beginning_of_a_page_and_is_as_long_as_was_asked_for() {
        for len in [0, 1, PAGE - 1, PAGE, PAGE + 1, 1 << 20] {
            let mut buffer = PageBuffer::zeroed(len);
            assert_eq!(buffer.as_ptr().align_offset(PAGE), 0);
            assert_eq!(
                (buffer.len(), buffer.iter().max()),
                (len, (len > 0).then_some(&0))
            );
            buffer.fill(7);
            let again = buffer.with_len(len / 2);
            assert_eq!(again.len(), len / 2);
            assert!(again.iter().all(|byte| *byte == 7));
            let longer = again.with_len(2 * len + PAGE);
            assert_eq!((longer.len(), longer[2 * len]), (2 * len + PAGE, 0));
        }
    }
}
