//! How long a group waits for those who have just been acknowledged to come back.
//!
//! Clients that wait for their writes come in step: those of one group are answered at the same
//! moment, and write again within the next moments, all of them. A sync that begins before they are
//! back makes them wait for it and for the next one. So where a sync takes long enough, to wait for
//! them is worth it; and where they do not come back so soon, because they read first, it is
//! a loss: the disk rests while they work, and they while it does.
//!
//! Which of the two it is shows how soon each of them came back the last time ([`Submission::away`]): a group waits
//! where three quarters of the last one had come back within half of a sync's time, and within 5 ms, and no longer than
//! until as many as those are there again. Of clients that mostly read first some groups have so many by chance; so
//! where syncs are slow it must be true of the groups before as well, taken together. Where they are not, such a wait
//! is short, and makes groups of a thousand clients larger.
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

/// Of so many groups what came back soon is taken together: with each further one this part of it is forgotten.
const GROUPS: usize = 8;

/// A group of so many says nothing of how many come next.
const FEW: usize = 2;

/// Who of a group is likely to come back soon.
#[derive(Debug, Clone, Copy)]
pub(super) struct Back {
    /// How many it has.
    all: usize,
    /// How many of these came back soon the last time.
    soon: usize,
}

impl Back {
    /// Those of a group that is about to be committed, where `soon` is as late as that may be.
    pub(super) fn of<T>(group: &[Submission<T>], soon: Duration) -> Self {
        let is_soon =
            |submission: &&Submission<T>| submission.away.is_some_and(|away| away <= soon);
        Self {
            all: group.len(),
            soon: group.iter().filter(is_soon).count(),
        }
    }

    /// That of a group of one, which nobody waits for.
    pub(super) const ALONE: Self = Self { all: 1, soon: 0 };

    /// Whether so many came back soon that to wait for them is worth it.
    fn are_most(self) -> bool {
        4 * self.soon >= 3 * self.all
    }

    /// Counts a group besides those before, in parts of a submission, so that the last of them are forgotten, too.
    fn add(&mut self, group: Self) {
        let with = |before: usize, count: usize| before - before / GROUPS + count * GROUPS;
        self.all = with(self.all, group.all);
        self.soon = with(self.soon, group.soon);
    }
}

/// What the last group tells of the next one.
#[derive(Debug)]
pub(super) struct Patience {
    acknowledged: Back,
    /// It and the groups before.
    recent: Back,
    /// How many waited already when it was acknowledged.
    waiting: usize,
    took: Duration,
    until: Instant,
    /// Until when at the very most, if they come fast.
    at_most: Instant,
    /// How many had gathered at the last look.
    looked: Option<usize>,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            acknowledged: Back::ALONE,
            recent: Back { all: 0, soon: 0 },
            waiting: 0,
            took: Duration::ZERO,
            until: now,
            at_most: now,
            looked: None,
        }
    }

    /// For how long a group waits, and within what time whoever is back is back soon.
    pub(super) fn soon(&self) -> Duration {
        (self.took / PART).min(MOST)
    }

    /// A group was committed by `now`, which took so long, and is now acknowledged; so many wait already.
    pub(super) fn acknowledged(
        &mut self,
        now: Instant,
        group: Back,
        waiting: usize,
        took: Duration,
    ) {
        self.acknowledged = group;
        self.recent.add(group);
        self.waiting = waiting;
        self.acknowledged_part(now, took);
    }

    /// The same of a further part of that group. Who of the first is back by now is expected already.
    pub(super) fn acknowledged_part(&mut self, now: Instant, took: Duration) {
        self.took = took;
        self.until = now + self.soon();
        self.at_most = now + took.min(MOST);
        self.looked = None;
    }

    /// How long the last commit took.
    pub(super) fn took(&self) -> Duration {
        self.took
    }

    /// Whether the last group was of many.
    pub(super) fn expects_many(&self) -> bool {
        self.acknowledged.all > FEW
    }

    /// With how many submissions a group waits for no others.
    pub(super) fn expected(&self) -> usize {
        self.acknowledged.soon + self.waiting
    }

    /// Until when a group of `gathered` should wait for others, if at all.
    pub(super) fn wait(&mut self, now: Instant, gathered: usize) -> Option<Instant> {
        let last = self.acknowledged;
        let most = last.are_most() && (!self.is_slow() || self.recent.are_most());
        let worth_it = most && last.soon > FEW && self.took >= LEAST;
        let missing = self.expected().saturating_sub(gathered);
        if !worth_it || missing == 0 {
            return None;
        }
        if now >= self.until {
            self.until = self.longer(now, gathered, missing)?;
        }
        Some(self.until)
    }

    /// Whether a sync takes so long that to look again within it is worth it.
    fn is_slow(&self) -> bool {
        self.took / STEP >= LEAST_STEP
    }

    /// Until when to wait beyond what was meant at first: a step longer, and more of them while those who are
    /// missing come fast.
    fn longer(&mut self, now: Instant, gathered: usize, missing: usize) -> Option<Instant> {
        let step = self.took / STEP;
        if !self.is_slow() || now >= self.at_most {
            return None;
        }
        let before = self.looked.replace(gathered);
        let fast = before.is_none_or(|before| gathered.saturating_sub(before) * SOON >= missing);
        fast.then(|| (now + step).min(self.at_most))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Removes;
    use super::*;

    const LONG: Duration = Duration::from_secs(1);

    /// A group of so many who all come back soon, behind which so many wait, and the moment at which it was
    /// acknowledged.
    fn after(count: usize, waiting: usize, took: Duration) -> (Patience, Instant) {
        let now = Instant::now();
        let mut patience = Patience::new(now);
        let back = Back {
            all: count,
            soon: count,
        };
        patience.acknowledged(now, back, waiting, took);
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
    fn who_is_back_when_the_rest_of_a_group_is_acknowledged_is_not_waited_for_twice() {
        let (mut patience, now) = after(50, 3, LONG);
        patience.acknowledged_part(now + LONG, LONG);
        assert!(patience.expects_many());
        assert_eq!(patience.wait(now + LONG, 52), Some(now + LONG + MOST));
        assert_eq!(patience.wait(now + LONG, 53), None);
    }

    #[test]
    fn nobody_waits_unless_most_are_likely_to_be_back_soon() {
        let now = Instant::now();
        for (soon, waits_for) in [(37, None), (38, Some(48)), (50, Some(60))] {
            let mut patience = Patience::new(now);
            patience.acknowledged(now, Back { all: 50, soon }, 10, LONG);
            assert!(patience.expects_many());
            let waits = (10..100).take_while(|&gathered| patience.wait(now, gathered).is_some());
            assert_eq!(waits.last().map(|gathered| gathered + 1), waits_for);
        }
    }

    #[test]
    fn one_group_of_many_who_are_back_soon_is_not_waited_for_among_others_of_few() {
        let now = Instant::now();
        let mut patience = Patience::new(now);
        let mut waits = |soon| {
            patience.acknowledged(now, Back { all: 40, soon }, 0, LONG);
            patience.wait(now, 0).is_some()
        };
        assert_eq!([24, 24, 32, 24].map(&mut waits), [false; 4]);
        // Until those are mostly forgotten, and from the first that has few again.
        let late = (0..100).take_while(|_| !waits(40)).count();
        assert!((1..=GROUPS).contains(&late), "{late} groups");
        assert!(!waits(24));
        // A chance group of few is soon forgotten.
        assert!(waits(40));
        // Where syncs are quick only the last group counts.
        let mut quick = Patience::new(now);
        let mut waits = |soon| {
            quick.acknowledged(now, Back { all: 40, soon }, 0, LEAST);
            quick.wait(now, 0).is_some()
        };
        assert_eq!([24; 4].map(&mut waits), [false; 4]);
        assert!(waits(40));
    }

    #[test]
    fn who_took_longer_to_come_back_than_a_group_waits_is_not_likely_to_be_back_soon() {
        let of = |away| Submission {
            operations: Vec::new(),
            count: 1,
            removes: Removes::No,
            away,
            ticket: (),
        };
        let millis = |millis| Some(Duration::from_millis(millis));
        let group = [None, millis(0), millis(4), millis(5), millis(6)].map(of);
        for (took, soon) in [(0, 1), (8, 2), (9, 2), (10, 3), (100, 3)] {
            let (patience, _) = after(50, 0, Duration::from_millis(took));
            let back = Back::of(&group, patience.soon());
            assert_eq!((back.all, back.soon), (5, soon), "{took} ms");
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
}
