//! Whether it is worth its while that connections have a second turn, so that what all who were ready have is dealt
//! with together: not where they are few.

/// The most that go without, after rounds of few, before it is tried again.
const MOST_WITHOUT: u32 = 64;

/// Rounds of second turns: each from the first connection that is to have one until one of them has it. One that is
/// ended, or goes on elsewhere, may leave a round open for the next.
#[derive(Debug)]
pub(super) struct SecondTurns {
    few: usize,
    /// How many the round has.
    len: usize,
    /// How many are still to go without.
    without: u32,
    /// How many will after the next round of few.
    next_without: u32,
}

impl SecondTurns {
    /// Rounds of fewer than `few` are not worth it: then it is not done for a while, twice as long each time that it
    /// is found to be so.
    pub(super) const fn new(few: usize) -> Self {
        Self {
            few,
            len: 0,
            without: 0,
            next_without: 1,
        }
    }

    /// Whether the next who is ready should have one.
    pub(super) fn are_worth_it(&mut self) -> bool {
        let without = self.without;
        self.without = without.saturating_sub(1);
        without == 0
    }

    /// How many the round has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One more is to have one.
    pub(super) fn add(&mut self) {
        self.len += 1;
    }

    /// So many go without, and the round is over.
    pub(super) fn rest(&mut self, without: u32) {
        self.len = 0;
        self.without = without;
    }

    /// One has it. If it was the first the round is over: says how many it had.
    pub(super) fn end(&mut self) -> Option<usize> {
        let len = std::mem::take(&mut self.len);
        if len == 0 {
            return None;
        }
        if len < self.few {
            self.without = self.next_without;
            self.next_without = (2 * self.next_without).min(MOST_WITHOUT);
        } else {
            self.next_without = 1;
        }
        Some(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_rounds_of_few_there_is_none_for_a_while_and_the_longer_the_more_often() {
        const FEW: usize = 5;
        let mut turns = SecondTurns::new(FEW);
        // How many go without after a round of so many.
        let mut without_after = |count| {
            (0..count).for_each(|_| turns.add());
            assert_eq!(
                (turns.len(), turns.end(), turns.end()),
                (count, Some(count), None)
            );
            (0..).find(|_| turns.are_worth_it()).expect("some day")
        };
        assert_eq!([FEW - 1; 4].map(&mut without_after), [1, 2, 4, 8]);
        assert_eq!([1; 5].map(&mut without_after), [16, 32, 64, 64, 64]);
        assert_eq!(without_after(FEW), 0);
        assert_eq!(without_after(FEW - 1), 1);
    }
}
