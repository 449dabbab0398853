//! How long a group waits for those who have just been acknowledged to come back.
//!
//! Clients that wait for their writes come in step: those of one group are answered at the same
//! moment, and write again within the next moments, all of them. A sync that begins before they are
//! back makes them wait for it and for the next one. So where a sync takes long enough, to wait for
//! them is worth it; and where they do not come back, because they read now, or are gone, it is
//! a loss. Which of the two it is shows each time that it is done: after a wait that did not bring
//! half of them some groups do without, twice as many after each further one.

use std::time::{Duration, Instant};

/// The part of the last sync's time for which a group waits at most.
const PART: u32 = 2;

/// It waits no longer, however long a sync takes: who comes back does so by then.
const MOST: Duration = Duration::from_millis(5);

/// A group gathers no longer than this while there is something else to do.
const MOST_TO_GATHER: Duration = Duration::from_millis(1);

/// A group of so many says nothing of how many come next.
const FEW: usize = 2;

/// The most groups that do without waiting before it is tried again.
const MOST_WITHOUT: u32 = 64;

/// What the last groups tell of the next one.
#[derive(Debug)]
pub(super) struct Patience {
    /// How many submissions the last group had.
    acknowledged: usize,
    /// How many waited already when it was acknowledged.
    waiting: usize,
    took: Duration,
    until: Instant,
    /// Whether the group that gathers was made to wait.
    waited: bool,
    /// How many groups still do without.
    without: u32,
    /// How many do after the next wait in vain.
    next_without: u32,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            acknowledged: 0,
            waiting: 0,
            took: Duration::ZERO,
            until: now,
            waited: false,
            without: 0,
            next_without: 1,
        }
    }

    /// A group of so many was committed by `now`, which took so long; so many wait already.
    pub(super) fn acknowledged(
        &mut self,
        now: Instant,
        count: usize,
        waiting: usize,
        took: Duration,
    ) {
        self.acknowledged = count;
        self.waiting = waiting;
        self.took = took;
        self.until = now + (took / PART).min(MOST);
        self.waited = false;
        self.without = self.without.saturating_sub(1);
    }

    /// Whether the last group was of many.
    pub(super) fn expects_many(&self) -> bool {
        self.acknowledged > FEW
    }

    /// With how many submissions a group is as large as it will get.
    pub(super) fn expected(&self) -> usize {
        self.acknowledged + self.waiting
    }

    /// For how long a group may gather although others are there already: as long as the last one's
    /// sync took. Those who gather longer lose more than a sync of their own would cost them.
    pub(super) fn to_gather(&self) -> Duration {
        self.took.min(MOST_TO_GATHER)
    }

    /// Until when a group of `gathered` should wait for others, if at all.
    pub(super) fn wait(&mut self, now: Instant, gathered: usize) -> Option<Instant> {
        let worth_it = self.expects_many() && self.without == 0;
        let wait = worth_it && gathered < self.expected() && now < self.until;
        self.waited |= wait;
        wait.then_some(self.until)
    }

    /// A group of `gathered` waits no longer.
    pub(super) fn over(&mut self, gathered: usize) {
        if !self.waited {
            return;
        }
        let came_back = gathered.saturating_sub(self.waiting);
        if came_back >= self.acknowledged / 2 {
            self.next_without = 1;
        } else {
            self.without = self.next_without;
            self.next_without = (self.next_without * 2).min(MOST_WITHOUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1);

    /// A group of so many, behind which so many wait, and the moment at which it was acknowledged.
    fn after(count: usize, waiting: usize, took: Duration) -> (Patience, Instant) {
        let now = Instant::now();
        let mut patience = Patience::new(now);
        patience.acknowledged(now, count, waiting, took);
        (patience, now)
    }

    #[test]
    fn only_after_many_and_not_for_long_are_as_many_waited_for() {
        let (mut many, now) = after(50, 3, LONG);
        assert_eq!(many.wait(now, 52), Some(now + MOST));
        assert_eq!(many.wait(now, 53), None);
        assert_eq!(many.wait(now + MOST, 52), None);
        let (mut short, now) = after(50, 0, Duration::from_micros(300));
        assert_eq!(short.wait(now, 1), Some(now + Duration::from_micros(150)));
        let (mut few, now) = after(FEW, 0, LONG);
        assert_eq!(few.wait(now, 1), None);
    }

    #[test]
    fn a_group_gathers_as_long_as_a_sync_takes_if_that_is_not_long() {
        let sync = Duration::from_micros(300);
        assert_eq!(after(5, 0, sync).0.to_gather(), sync);
        assert_eq!(after(5, 0, LONG).0.to_gather(), MOST_TO_GATHER);
    }

    #[test]
    fn a_wait_in_vain_is_not_repeated_at_once_and_the_more_often_the_later() {
        let (mut patience, now) = after(50, 0, LONG);
        // Of how many groups, by how many came back, each was made to wait.
        let mut made_to_wait = |groups: usize, came_back| {
            let waits = |group| {
                let waits = patience.wait(now, 10).is_some();
                patience.over(came_back);
                patience.acknowledged(now, 50, 0, LONG);
                waits.then_some(group)
            };
            (0..groups).filter_map(waits).collect::<Vec<_>>()
        };
        assert_eq!(
            made_to_wait(256, 24),
            [0, 1, 3, 7, 15, 31, 63, 127, 191, 255]
        );
        // It is done each time again once it was not in vain.
        assert_eq!(made_to_wait(66, 25), [63, 64, 65]);
        assert_eq!(made_to_wait(8, 24), [0, 1, 3, 7]);
    }

    #[test]
    fn those_who_waited_before_do_not_count_as_come_back() {
        for (gathered, without) in [(19, 1), (20, 0)] {
            let (mut patience, now) = after(20, 10, LONG);
            assert!(patience.wait(now, 15).is_some());
            patience.over(gathered);
            assert_eq!(patience.without, without);
        }
    }
}
