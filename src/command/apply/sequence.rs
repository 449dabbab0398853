//! Whether an operation is half applied: a sequence lock for those who read one key.
//!
//! An operation that changes several keys, or one key twice, becomes visible all at once. Who reads
//! takes no lock for that, but looks at a number before and after: it is odd while such an operation
//! is being applied, and another one afterwards.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the beginnings and ends of operations that change more than one thing.
#[derive(Debug, Default)]
pub struct Sequence(AtomicU64);

impl Sequence {
    /// From here on until [`Self::end`] the store is not to be looked at. One thread at a time.
    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn end(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// What `read` returns, unless an operation was half applied meanwhile. The store's own locks
    /// order what is read between the two looks: whoever sees a change made behind
    /// [`Self::begin`] sees the number that it left.
    pub fn read<R>(&self, read: impl FnOnce() -> R) -> Option<R> {
        let before = self.0.load(Ordering::SeqCst);
        if !before.is_multiple_of(2) {
            return None;
        }
        let found = read();
        (self.0.load(Ordering::SeqCst) == before).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_while_an_operation_was_half_applied_does_not_count() {
        let sequence = Sequence::default();
        assert_eq!(sequence.read(|| 1), Some(1));
        assert_eq!(sequence.read(|| sequence.begin()), None);
        assert_eq!(sequence.read(|| 1), None);
        sequence.end();
        assert_eq!(sequence.read(|| 1), Some(1));
        let both = || {
            sequence.begin();
            sequence.end();
        };
        assert_eq!(sequence.read(both), None);
    }
}
