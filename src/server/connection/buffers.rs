//! Buffers for replies, which a thread lends its connections: from the first reply until all are written.
//!
//! Most need one at a time, and of those whose replies are held back each has its own. What was used last is given
//! out first: it is in the processor's cache still.

use std::cell::RefCell;

use crate::protocol::Output;
use crate::store::Value;

/// A thread keeps a buffer up to this capacity.
const KEEP: usize = 128 << 10;
/// And buffers up to so much together.
const KEEP_IN_ALL: usize = 512 << 10;

thread_local! {
    static SPARE: RefCell<Buffers> = const { RefCell::new(Buffers::new()) };
}

/// Lends the replies a buffer, if they have none.
pub(super) fn lend(out: &mut Output<Value>) {
    SPARE.with_borrow_mut(|spare| spare.lend(out));
}

/// Takes the replies' buffer back, if all of it is written.
pub(super) fn give_back(out: &mut Output<Value>) {
    if let Some(buffer) = out.give_back() {
        SPARE.with_borrow_mut(|spare| spare.keep(buffer));
    }
}

/// Those that nobody has.
#[derive(Debug)]
struct Buffers {
    spare: Vec<Vec<u8>>,
    /// What they hold together, in bytes.
    capacity: usize,
}

impl Buffers {
    const fn new() -> Self {
        Self {
            spare: Vec::new(),
            capacity: 0,
        }
    }

    fn lend(&mut self, out: &mut Output<Value>) {
        let mut buffer = self.spare.pop().unwrap_or_default();
        self.capacity -= buffer.capacity();
        out.lend(&mut buffer);
        // They may have one.
        self.keep(buffer);
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if (1..=KEEP).contains(&capacity) && self.capacity + capacity <= KEEP_IN_ALL {
            self.capacity += capacity;
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replies that are being written to a buffer of this capacity.
    fn written_to(capacity: usize) -> Output<Value> {
        let mut out = Output::new();
        out.lend(&mut Vec::with_capacity(capacity));
        out.push_bytes(b"+OK\r\n");
        out
    }

    #[test]
    fn each_gets_a_buffer_of_its_own_and_the_one_used_last_first() {
        let mut buffers = Buffers::new();
        for capacity in [100, 200] {
            buffers.keep(Vec::with_capacity(capacity));
        }
        let mut lent = [(); 3].map(|()| Output::<Value>::new());
        for out in &mut lent {
            buffers.lend(out);
            // It has one already.
            buffers.lend(out);
        }
        let capacities = lent.map(|mut out| out.give_back().map_or(0, |buffer| buffer.capacity()));
        assert_eq!(capacities, [200, 100, 0]);
        assert_eq!((buffers.spare.len(), buffers.capacity), (0, 0));
    }

    #[test]
    fn a_buffer_that_is_being_written_to_is_left_where_it_is() {
        let mut buffers = Buffers::new();
        buffers.keep(Vec::with_capacity(200));
        let mut out = written_to(100);
        buffers.lend(&mut out);
        assert_eq!((out.len(), buffers.capacity), (5, 200));
        give_back(&mut out);
        assert_eq!(out.len(), 5);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut buffers = Buffers::new();
        buffers.keep(Vec::with_capacity(KEEP + 1));
        buffers.keep(Vec::new());
        assert_eq!(buffers.spare.len(), 0);
        for _ in 0..2 * KEEP_IN_ALL / KEEP {
            buffers.keep(Vec::with_capacity(KEEP));
        }
        assert_eq!(buffers.spare.len(), KEEP_IN_ALL / KEEP);
        buffers.keep(Vec::with_capacity(1));
        assert_eq!(buffers.capacity, KEEP_IN_ALL);
    }
}
