//! How long a group waits for those who have just been acknowledged to come back.
//!
//! Clients that wait for their writes come in step: those of one group are answered at the same
//! moment, and write again within the next moments, all of them. A sync that begins before they are
//! back makes them wait for it and for the next one. So where a sync takes long enough, to wait for
//! them is worth it; and where they do not come back, because they read now, or are gone, it is
//! a loss: the disk rests while they work, and they while it does.
//!
//! Which of the two it is can be told beforehand of most clients: one that wrote twice in a row goes on writing, and
//! one that has read in between reads again first. Where such are the most of a group nobody waits
//! for it. And it shows each time that it is done: after a wait that did not bring half of those it was for, a group does
//! without, and twice as many after each further one.
//!
//! It waits for half of the last sync's time. By then the last of many are perhaps still being answered, so
//! where syncs are slow it looks again, each 16th of that time, and goes on as long as they come so fast that
//! the rest will soon be there.

use std::time::{Duration, Instant};

use super::Submission;

/// The part of the last sync's time for which a group waits at most.
const PART: u32 = 2;

/// The part of the last sync's time after which it looks again whether they come.
const STEP: u32 = 16;

/// A step that is shorter takes longer than it says.
const LEAST_STEP: Duration = Duration::from_micros(60);

/// They come fast if at that pace so many steps bring all that are missing.
const SOON: usize = 8;

/// Nobody waits for those whom so short a sync has set free, or none: to be woken takes as long.
const LEAST: Duration = Duration::from_micros(100);

/// It waits no longer, however long a sync takes: who comes back does so by then.
const MOST: Duration = Duration::from_millis(5);

/// A group of so many says nothing of how many come next.
const FEW: usize = 2;

/// The most groups that do without waiting before it is tried again.
const MOST_WITHOUT: u32 = 64;

/// How many submissions a group has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    all: usize,
    /// Those whose submitters are likely to come back at once.
    come_back: usize,
}

impl Size {
    /// That of a group of one.
    pub(super) const ONE: Self = Self {
        all: 1,
        come_back: 1,
    };

    pub(super) fn of<T>(group: &[Submission<T>]) -> Self {
        let come_back = group.iter().filter(|submission| submission.comes_back);
        Self {
            all: group.len(),
            come_back: come_back.count(),
        }
    }
}

/// What the last groups tell of the next one.
#[derive(Debug)]
pub(super) struct Patience {
    /// How many submissions the last group had.
    acknowledged: usize,
    /// How many of them are waited for: none where most are not likely to come back at once.
    come_back: usize,
    /// How many waited already when it was acknowledged.
    waiting: usize,
    took: Duration,
    until: Instant,
    /// Until when at the very most, if they come fast.
    at_most: Instant,
    /// How many had gathered at the last look.
    looked: Option<usize>,
    /// How many the group that gathers had when it was made to wait, if it was.
    waited_at: Option<usize>,
    /// How many groups still do without.
    without: u32,
    /// How many do after the next wait in vain.
    next_without: u32,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            acknowledged: 0,
            come_back: 0,
            waiting: 0,
            took: Duration::ZERO,
            until: now,
            at_most: now,
            looked: None,
            waited_at: None,
            without: 0,
            next_without: 1,
        }
    }

    /// A group was committed by `now`, which took so long, and is now acknowledged; so many wait already.
    pub(super) fn acknowledged(
        &mut self,
        now: Instant,
        group: Size,
        waiting: usize,
        took: Duration,
    ) {
        let most = 2 * group.come_back >= group.all;
        self.acknowledged = group.all;
        self.come_back = if most { group.come_back } else { 0 };
        self.waiting = waiting;
        self.took = took;
        self.until = now + (took / PART).min(MOST);
        self.at_most = now + took.min(MOST);
        self.looked = None;
        self.waited_at = None;
    }

    /// Whether the last group was of many.
    pub(super) fn expects_many(&self) -> bool {
        self.acknowledged > FEW
    }

    /// With how many submissions a group is as large as it will get.
    pub(super) fn expected(&self) -> usize {
        self.come_back + self.waiting
    }

    /// Until when a group of `gathered` should wait for others, if at all.
    pub(super) fn wait(&mut self, now: Instant, gathered: usize) -> Option<Instant> {
        let worth_it = self.come_back > FEW && self.without == 0 && self.took >= LEAST;
        let missing = self.expected().saturating_sub(gathered);
        if !worth_it || missing == 0 {
            return None;
        }
        if now >= self.until {
            self.until = self.longer(now, gathered, missing)?;
        }
        self.waited_at.get_or_insert(gathered);
        Some(self.until)
    }

    /// Until when to wait beyond what was meant at first, if those who are missing come fast.
    fn longer(&mut self, now: Instant, gathered: usize, missing: usize) -> Option<Instant> {
        let step = self.took / STEP;
        if step < LEAST_STEP || now >= self.at_most {
            return None;
        }
        let before = self.looked.replace(gathered);
        let fast = before.is_none_or(|before| gathered.saturating_sub(before) * SOON >= missing);
        fast.then(|| (now + step).min(self.at_most))
    }

    /// A group of `gathered` waits no longer.
    pub(super) fn over(&mut self, gathered: usize) {
        let Some(waited_at) = self.waited_at else {
            self.without = self.without.saturating_sub(1);
            return;
        };
        let missing = self.expected().saturating_sub(waited_at);
        let came = gathered.saturating_sub(waited_at);
        if came >= missing.div_ceil(2) {
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

    /// A group of so many who are all likely to come back at once.
    fn all(count: usize) -> Size {
        Size {
            all: count,
            come_back: count,
        }
    }

    /// A group of so many, behind which so many wait, and the moment at which it was acknowledged.
    fn after(count: usize, waiting: usize, took: Duration) -> (Patience, Instant) {
        let now = Instant::now();
        let mut patience = Patience::new(now);
        patience.acknowledged(now, all(count), waiting, took);
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
        let (mut shorter, now) = after(50, 0, LEAST / 2);
        assert_eq!(shorter.wait(now, 1), None);
        let (mut few, now) = after(FEW, 0, LONG);
        assert_eq!(few.wait(now, 1), None);
    }

    #[test]
    fn nobody_waits_where_most_read_before_they_write_again() {
        for (come_back, waits_for) in [(24, None), (25, Some(25)), (50, Some(50))] {
            let now = Instant::now();
            let mut patience = Patience::new(now);
            let group = Size { all: 50, come_back };
            patience.acknowledged(now, group, 10, LONG);
            assert!(patience.expects_many());
            let most = waits_for.map(|come_back| come_back + 10);
            let longest = (10..100).take_while(|&gathered| patience.wait(now, gathered).is_some());
            assert_eq!(longest.last().map(|gathered| gathered + 1), most);
        }
    }

    #[test]
    fn it_goes_on_as_long_as_they_come_fast_and_no_longer_than_a_sync() {
        let slow = Duration::from_micros(2400);
        let (mut patience, begun) = after(50, 0, slow);
        let mut wait = |micros, gathered| {
            let until = patience.wait(begun + Duration::from_micros(micros), gathered);
            until.map(|until| (until - begun).as_micros())
        };
        assert_eq!(wait(700, 2), Some(1200));
        assert_eq!(wait(1200, 34), Some(1350));
        // Of 14 that are missing 2 came: so many a step bring them in seven.
        assert_eq!(wait(1350, 36), Some(1500));
        // One in a step would take 13.
        assert_eq!(wait(1500, 37), None);

        let (mut patience, begun) = after(10_000, 0, slow);
        let fast = |n: u32| 9_150 + n as usize * 100;
        let waits = (0..).map_while(|n| {
            let now = begun + slow / PART + n * (slow / STEP);
            patience.wait(now, fast(n))
        });
        let last = waits.take(20).last();
        assert_eq!(last, Some(begun + slow));

        // Of a fast disk the steps would be too short.
        let fast = Duration::from_micros(800);
        let (mut patience, begun) = after(50, 0, fast);
        assert_eq!(patience.wait(begun + fast / PART, 45), None);
    }

    #[test]
    fn a_wait_in_vain_is_not_repeated_at_once_and_the_more_often_the_later() {
        let (mut patience, now) = after(50, 0, LONG);
        // Of how many groups, by how many came back, each was made to wait.
        let mut made_to_wait = |groups: usize, came_back| {
            let waits = |group| {
                let waits = patience.wait(now, 10).is_some();
                patience.over(came_back);
                patience.acknowledged(now, all(50), 0, LONG);
                waits.then_some(group)
            };
            (0..groups).filter_map(waits).collect::<Vec<_>>()
        };
        assert_eq!(made_to_wait(200, 29), [0, 2, 5, 10, 19, 36, 69, 134, 199]);
        // It is done each time again once it was not in vain.
        assert_eq!(made_to_wait(67, 30), [64, 65, 66]);
        assert_eq!(made_to_wait(8, 29), [0, 2, 5]);
    }

    #[test]
    fn a_group_that_came_too_late_to_be_made_to_wait_says_nothing_of_waits() {
        for gathered in [2, 49] {
            let (mut patience, begun) = after(50, 0, LONG);
            assert_eq!(patience.wait(begun + 2 * MOST, gathered), None);
            patience.over(gathered);
            assert_eq!((patience.without, patience.next_without), (0, 1));
        }
    }

    #[test]
    fn those_who_were_there_before_the_wait_do_not_count_as_come_back() {
        // Of 30 that are expected 15 are missing when the wait begins.
        for (gathered, without) in [(15, 1), (22, 1), (23, 0)] {
            let (mut patience, now) = after(20, 10, LONG);
            assert!(patience.wait(now, 15).is_some());
            assert!(patience.wait(now, 20).is_some());
            patience.over(gathered);
            assert_eq!(patience.without, without);
        }
    }
}
