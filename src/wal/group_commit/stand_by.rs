//! When the log's thread gives way, and does not rest, once a group is committed.
//!
//! Where all writers wait for a slow disk, all cores have halted when a sync is over. The log's thread wakes the one
//! that serves clients, and rests; and the replies go out, one after the other. The first of them wakes a client. Where
//! that is on this machine Linux expects whoever sends to rest soon, and puts the client on the same core, if nobody
//! else is ready there, rather than on one that has halted: in a virtual machine such a core does not count as free.
//! So the client is late by all the other replies. Therefore the log's thread stays ready behind the one that it woke.
//! Then the client mostly gets the core it had before.
//!
//! Only where this process had next to nothing to do meanwhile. Otherwise other cores are awake, and a thread
//! that is ready keeps somebody from one.

use std::time::{Duration, Instant};

use crate::cores::{Wanted, core_time_of_others};

/// A group of fewer is answered before a client that was woken on another core has begun: 20 clients did 0.98 times as
/// much, for 1.2 times the processor time. Of 32 it is even.
const MANY: usize = 32;

/// Only after a commit that took so long. While a quicker one is under way the thread that serves clients mostly stays
/// awake.
const SLOW: Duration = Duration::from_micros(500);

/// They had next to nothing to do if all together had a core for less than this part of the time. An eighth does as
/// well; with a quarter 32 clients lose a twenty-fifth.
const PART: u32 = 16;

/// What the others did while groups were committed and handed over.
#[derive(Debug)]
pub(super) struct StandBy {
    may: bool,
    /// Whether the last commit was slow: the next one is likely to be, and otherwise no clock is asked.
    slow: bool,
    /// For how long others had had a core when the group's commit began, if it may be one to stand by after.
    had_before: Option<Duration>,
    /// Whether other programs want the core, so that it rests: it would come back only when they have had their turn.
    wanted: Wanted,
}

impl StandBy {
    /// It never does unless it `may`: on a single core there is no other for a client.
    pub(super) fn new(may: bool) -> Self {
        Self {
            may,
            slow: false,
            had_before: None,
            wanted: Wanted::default(),
        }
    }

    /// A group of so many submissions is about to be committed.
    pub(super) fn begin(&mut self, submissions: usize) {
        let large = submissions >= MANY;
        self.had_before = (self.may && self.slow && large).then(core_time_of_others);
    }

    /// It is committed, which took so long, and handed over: whether to give way now, before resting.
    pub(super) fn end(&mut self, took: Duration) -> bool {
        self.slow = took >= SLOW;
        let had_before = self.had_before.take().filter(|_| self.slow);
        had_before.is_some_and(|before| {
            let others = core_time_of_others().saturating_sub(before);
            rested(others, took) && !self.wanted.is(Instant::now())
        })
    }

    /// Lets those run who are ready on this core: until whoever was woken rests, or has had a turn.
    pub(super) fn give_way(&mut self) {
        let (begun, had_before) = (Instant::now(), core_time_of_others());
        std::thread::yield_now();
        let now = Instant::now();
        let ours = core_time_of_others().saturating_sub(had_before);
        let others_had = (now - begun).saturating_sub(ours);
        self.wanted.others_had(now, others_had);
    }
}

/// Whether threads that had a core for so long had next to nothing to do while a commit took so long.
fn rested(had: Duration, took: Duration) -> bool {
    had < took / PART
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::{LONG, core_time};

    /// Of which no test has used a sixteenth.
    const HOUR: Duration = Duration::from_secs(3600);
    const LARGE: (usize, Duration) = (MANY, HOUR);

    fn stands_by(mut stand_by: StandBy, groups: &[(usize, Duration)]) -> Vec<bool> {
        let group = |&(submissions, took): &(usize, Duration)| {
            stand_by.begin(submissions);
            stand_by.end(took)
        };
        groups.iter().map(group).collect()
    }

    #[test]
    fn after_a_large_group_behind_a_slow_one_while_the_others_rest() {
        let after = |groups: &[_]| stands_by(StandBy::new(true), groups);
        assert_eq!(after(&[LARGE, LARGE]), [false, true]);
        let fewer = (MANY - 1, HOUR);
        assert_eq!(after(&[LARGE, fewer, LARGE]), [false, false, true]);
        assert_eq!(stands_by(StandBy::new(false), &[LARGE; 2]), [false; 2]);
    }

    #[test]
    fn not_after_a_quick_group_or_behind_one() {
        let after = |groups: &[_]| stands_by(StandBy::new(true), groups);
        let quick = (MANY, SLOW - Duration::from_nanos(1));
        let quick_between = after(&[LARGE, quick, LARGE, LARGE]);
        assert_eq!(quick_between, [false, false, false, true]);
        assert_eq!(after(&[(MANY, SLOW), LARGE]), [false, true]);
    }

    #[test]
    fn not_where_others_had_a_core_meanwhile() {
        const WORK: Duration = Duration::from_millis(20);
        let part = HOUR / PART;
        assert!(rested(part - Duration::from_nanos(1), HOUR) && !rested(part, HOUR));
        let mut stand_by = StandBy::new(true);
        assert!(!stand_by.end(SLOW));
        stand_by.begin(MANY);
        let work = || while core_time() < WORK {};
        assert!(std::thread::spawn(work).join().is_ok());
        assert!(!stand_by.end(WORK * PART / 2));
    }

    #[test]
    fn not_where_other_programs_want_the_core() {
        let mut stand_by = StandBy::new(true);
        stand_by.wanted.others_had(Instant::now() + HOUR, LONG);
        assert_eq!(stands_by(stand_by, &[LARGE; 2]), [false; 2]);
    }
}
