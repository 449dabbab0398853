//! What is used up with every batch and needed for the next: each thread keeps some of it.
//!
//! To ask the allocator for each part of a batch, and to give each back, took a fifth of a SET's
//! instructions and of the lines of memory that it waits for. What was used last is given out first: it
//! is in the processor's cache still. A thread that never needs any keeps none, though some may be dropped there.

use std::cell::RefCell;

/// The most that a thread keeps of one kind.
const MOST: usize = 1024;

/// What can be used again, once it is empty.
pub(crate) trait Spare: Default {
    /// Empties it. Says whether it holds so little memory that it may be kept.
    fn empty(&mut self) -> bool;
}

/// What a thread keeps of one kind, once it has needed one.
#[derive(Debug)]
pub(crate) struct Spares<T>(RefCell<Option<Vec<Box<T>>>>);

impl<T: Spare> Spares<T> {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// An empty one.
    pub(crate) fn take(&self) -> Box<T> {
        let mut kept = self.0.borrow_mut();
        kept.get_or_insert_default().pop().unwrap_or_default()
    }

    /// Keeps one, unless there are enough.
    pub(crate) fn give_back(&self, mut spare: Box<T>) {
        let small = spare.empty();
        if let Some(kept) = &mut *self.0.borrow_mut()
            && small
            && kept.len() < MOST
        {
            kept.push(spare);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Spare for Vec<u8> {
        fn empty(&mut self) -> bool {
            self.clear();
            self.capacity() <= 10
        }
    }

    #[test]
    fn what_is_given_back_is_given_out_empty_unless_it_is_large_or_there_are_many() {
        let spares = Spares::<Vec<u8>>::new();
        let kept = || spares.0.borrow().as_ref().map_or(0, Vec::len);
        spares.give_back(Box::default());
        assert_eq!(kept(), 0);
        let mut first = spares.take();
        first.extend([1; 10]);
        let place = first.as_ptr();
        spares.give_back(first);
        let again = spares.take();
        assert_eq!((again.len(), again.as_ptr()), (0, place));

        spares.give_back(Box::new(Vec::with_capacity(11)));
        assert_eq!(kept(), 0);
        for _ in 0..2 * MOST {
            spares.give_back(Box::default());
        }
        assert_eq!(kept(), MOST);
    }
}
