//! Whether to wait for those just acknowledged makes more writes or fewer: tried out.
//!
//! It depends on what clients do between two writes. Where they do nothing else, a group that waits has all of
//! them. Where they read a while, they come back one by one; to wait then makes all of them go in step, so
//! that the disk rests while they read, and they while it syncs. No single group tells the one from the other:
//! in both cases most come back soon. So now and then a stretch of groups does the contrary of what the others
//! do, and what comes of more writes a second is kept to. After each try that was for nothing it takes
//! longer until the next.

use std::time::{Duration, Instant};

/// So many groups make a stretch, the rate of which says something.
const GROUPS: u32 = 16;

/// And it takes at least so long.
const LEAST: Duration = Duration::from_millis(20);

/// So many groups after each change still stand as they did before it.
const SETTLING: u32 = 4;

/// The most stretches between two tries: with fewer each try costs more than it finds.
const MOST_BETWEEN: u32 = 32;

/// So many times as many, after each try that was for nothing.
const LATER: u32 = 4;

/// After a pause of so long clients have done something else, and a stretch begins anew.
const PAUSE: Duration = Duration::from_millis(50);

/// A stretch with so many times the writes of the one before, or so many times fewer, shows that clients do
/// something else now: then what was found of them says nothing any more.
const CHANGED_FROM: f64 = 1.5;

/// To wait makes each write slower, so it has to make more of them: by this factor, for it to be begun ...
const BEGUN_FROM: f64 = 1.05;

/// ... and this one, for it to be kept to.
const KEPT_FROM: f64 = 1.03;

/// What is done, and what came of it so far.
#[derive(Debug)]
pub(super) struct Trial {
    waits: bool,
    /// Whether this is a try.
    trying: bool,
    /// How many groups are still not counted.
    settling: u32,
    /// When the stretch began, or the last group before it was acknowledged.
    begun: Instant,
    last: Instant,
    groups: u32,
    submissions: u64,
    /// Submissions a second of the last stretch that was no try.
    usual: f64,
    /// Stretches until the next try.
    left: u32,
    /// And from that one to the one after it, if it was for nothing.
    between: u32,
}

impl Trial {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waits: true,
            trying: false,
            settling: 0,
            begun: now,
            last: now,
            groups: 0,
            submissions: 0,
            usual: 0.0,
            left: 1,
            between: 1,
        }
    }

    /// Whether the next group may wait.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// A group of so many submissions was acknowledged.
    pub(super) fn acknowledged(&mut self, now: Instant, count: usize) {
        let paused = now.saturating_duration_since(self.last) >= PAUSE;
        self.last = now;
        if paused || self.settling > 0 {
            self.settling = self.settling.saturating_sub(1);
            self.begin(now);
            return;
        }
        self.groups += 1;
        self.submissions += count as u64;
        let took = now.saturating_duration_since(self.begun);
        if self.groups >= GROUPS && took >= LEAST {
            self.ended(self.submissions as f64 / took.as_secs_f64());
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Instant) {
        (self.begun, self.groups, self.submissions) = (now, 0, 0);
    }

    /// A stretch has ended, in which there were so many submissions a second.
    fn ended(&mut self, rate: f64) {
        if self.trying {
            self.trying = false;
            let better = if self.waits {
                rate >= self.usual * BEGUN_FROM
            } else {
                rate * KEPT_FROM >= self.usual
            };
            if better {
                self.between = 1;
            } else {
                self.turn();
                self.between = (LATER * self.between).min(MOST_BETWEEN);
            }
            self.left = self.between;
            return;
        }
        let before = std::mem::replace(&mut self.usual, rate);
        if rate > before * CHANGED_FROM || before > rate * CHANGED_FROM {
            (self.between, self.left) = (1, 1);
            return;
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.trying = true;
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.waits = !self.waits;
        self.settling = SETTLING;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups that take so many milliseconds and have so many submissions, where they wait and where they do not.
    struct Load {
        waiting: (u64, usize),
        at_once: (u64, usize),
    }

    /// Acknowledges so many of them. Says how many of them waited.
    fn acknowledge(trial: &mut Trial, now: &mut Instant, load: &Load, groups: usize) -> usize {
        let waits = |_: &usize| {
            let waits = trial.waits();
            let (millis, count) = if waits { load.waiting } else { load.at_once };
            *now += Duration::from_millis(millis);
            trial.acknowledged(*now, count);
            waits
        };
        (0..groups).filter(waits).count()
    }

    #[test]
    fn what_makes_more_writes_is_done_and_the_contrary_seldom() {
        let writes_only = Load {
            waiting: (37, 50),
            at_once: (25, 25),
        };
        let mostly_reads = Load {
            waiting: (40, 35),
            at_once: (25, 25),
        };
        let mut now = Instant::now();
        let mut trial = Trial::new(now);
        acknowledge(&mut trial, &mut now, &writes_only, 1000);
        for _ in 0..3 {
            let waited = acknowledge(&mut trial, &mut now, &writes_only, 10_000);
            assert!((9_500..9_900).contains(&waited), "{waited}");
            let before = acknowledge(&mut trial, &mut now, &mostly_reads, 1000);
            assert!(before < 900, "{before}");
            let waited = acknowledge(&mut trial, &mut now, &mostly_reads, 10_000);
            assert!((100..500).contains(&waited), "{waited}");
            acknowledge(&mut trial, &mut now, &writes_only, 1000);
        }
    }

    #[test]
    fn where_it_makes_no_difference_nobody_waits() {
        let same = Load {
            waiting: (10, 10),
            at_once: (10, 10),
        };
        let mut now = Instant::now();
        let mut trial = Trial::new(now);
        acknowledge(&mut trial, &mut now, &same, 1000);
        let waited = acknowledge(&mut trial, &mut now, &same, 10_000);
        assert!((100..500).contains(&waited), "{waited}");
    }

    #[test]
    fn a_pause_is_no_part_of_a_stretch() {
        let mut now = Instant::now();
        let mut trial = Trial::new(now);
        for _ in 0..10 {
            for _ in 1..GROUPS {
                now += LEAST / GROUPS + Duration::from_millis(1);
                trial.acknowledged(now, 10);
            }
            now += PAUSE;
            trial.acknowledged(now, 10);
        }
        assert!(trial.waits() && !trial.trying);
    }
}
