//! Buffers for replies, which a thread lends its connections: from the first reply until all are written.
//!
//! Most need one at a time, and of those whose replies are held back each has its own. Of the small ones that
//! used last is given out first: it is in the processor's cache still.

use std::cell::RefCell;

use super::held::HOLD_UP_TO;
use crate::protocol::Output;
use crate::store::Value;

/// The most small buffers that a thread keeps.
const MOST: usize = 128;
/// Their largest capacity: what is held back may lie in a buffer twice as long.
const SMALL: usize = 2 * HOLD_UP_TO;
/// The largest capacity of the one large buffer that it keeps besides.
const LARGE: usize = 128 << 10;

thread_local! {
    static SPARE: RefCell<Buffers> = const { RefCell::new(Buffers::new()) };
}

/// Lends the replies a buffer, if they have none.
pub(super) fn lend(out: &mut Output<Value>) {
    if !out.has_buffer() {
        SPARE.with_borrow_mut(|spare| spare.lend(out));
    }
}

/// Takes the replies' buffer back, if all of it is written.
pub(super) fn give_back(out: &mut Output<Value>) {
    if out.has_buffer()
        && let Some(buffer) = out.give_back()
    {
        SPARE.with_borrow_mut(|spare| spare.keep(buffer));
    }
}

/// Those that nobody has.
#[derive(Debug)]
struct Buffers {
    small: Vec<Vec<u8>>,
    large: Vec<u8>,
}

impl Buffers {
    const fn new() -> Self {
        Self {
            small: Vec::new(),
            large: Vec::new(),
        }
    }

    /// The large one first: mostly it is back before anybody else needs one. Whoever holds replies back keeps it until
    /// its next turn, and those who have large ones meanwhile get theirs from the allocator.
    fn lend(&mut self, out: &mut Output<Value>) {
        if self.large.capacity() > 0 {
            out.lend(&mut self.large);
        } else if let Some(mut buffer) = self.small.pop() {
            out.lend(&mut buffer);
        }
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if (1..=SMALL).contains(&capacity) && self.small.len() < MOST {
            self.small.push(buffer);
        } else if (self.large.capacity().max(SMALL) + 1..=LARGE).contains(&capacity) {
            self.large = buffer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lends buffers to so many, one after the other, and says how large they are.
    fn lent(buffers: &mut Buffers, count: usize) -> Vec<usize> {
        let mut outs: Vec<_> = (0..count).map(|_| Output::<Value>::new()).collect();
        for out in &mut outs {
            buffers.lend(out);
        }
        let capacity =
            |out: &mut Output<Value>| out.give_back().map_or(0, |bytes| bytes.capacity());
        outs.iter_mut().map(capacity).collect()
    }

    #[test]
    fn each_gets_a_buffer_of_its_own_the_large_one_first_and_then_the_one_used_last() {
        let mut buffers = Buffers::new();
        for capacity in [100, SMALL + 1, SMALL] {
            buffers.keep(Vec::with_capacity(capacity));
        }
        assert_eq!(lent(&mut buffers, 4), [SMALL + 1, SMALL, 100, 0]);
        assert_eq!(lent(&mut buffers, 1), [0]);
    }

    #[test]
    fn a_buffer_that_is_written_to_is_not_taken_back() {
        let mut buffer = Vec::with_capacity(100);
        let mut out = Output::<Value>::new();
        out.lend(&mut buffer);
        out.push_bytes(b"+OK\r\n");
        give_back(&mut out);
        assert_eq!((out.len(), out.one_piece()), (5, Some(&b"+OK\r\n"[..])));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut buffers = Buffers::new();
        for _ in 0..2 * MOST {
            buffers.keep(Vec::with_capacity(SMALL));
        }
        for capacity in [LARGE + 1, SMALL + 2, LARGE, SMALL + 1] {
            buffers.keep(Vec::with_capacity(capacity));
        }
        let kept = lent(&mut buffers, 2 * MOST);
        assert_eq!(kept[..2], [LARGE, SMALL]);
        assert_eq!(kept.iter().sum::<usize>(), LARGE + MOST * SMALL);
    }
}
