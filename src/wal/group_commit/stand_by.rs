//! When the log's thread gives way, and does not rest, once a group is committed.
//!
//! Where all writers wait for a slow disk, both cores of a small machine have halted when a sync is over. The log's
//! thread wakes the one that serves clients, which comes to the same core, as it need not be set going; and rests.
//! Now the replies go out, one after the other, and the first of them wakes a client. Where that is on this machine, Linux
//! takes whoever sends to rest soon, and puts the client on the same core, unless another thread is ready there: it
//! is late by all the other replies, while another core rests. So for a large group the log's thread stays ready
//! behind the one that it woke, which costs nothing: then the client gets the core it had before.
//!
//! Only where nobody else had anything to do while the group was committed. Otherwise other cores are awake, and a
//! thread that is ready keeps somebody from one.

use std::time::Duration;

use crate::time::core_time_of_others;

/// A group of fewer is answered before a client that was woken on another core has begun: 20 clients did 0.98 times as
/// much, for 1.2 times the processor time. Of 32 it is even.
const MANY: usize = 32;

/// Where a commit takes no longer than this nobody rests: the thread that serves clients stays awake.
const SLOW: Duration = Duration::from_micros(500);

/// Nobody had anything to do where all others together had a core for less than this part of the time. An eighth does
/// as well; with a quarter 32 clients lose a twenty-fifth.
const PART: u32 = 16;

/// What the others did while groups were committed.
#[derive(Debug, Default)]
pub(super) struct StandBy {
    /// Whether the last commit was slow: the next one is likely to be, and otherwise no clock is asked.
    slow: bool,
    /// For how long others had had a core when the group's commit began, if it may be one to stand by after.
    had_before: Option<Duration>,
}

impl StandBy {
    /// A group of so many submissions is about to be committed.
    pub(super) fn begin(&mut self, submissions: usize) {
        let large = submissions >= MANY;
        self.had_before = (self.slow && large).then(core_time_of_others);
    }

    /// It is committed, which took so long: whether to give way now, before resting.
    pub(super) fn end(&mut self, took: Duration) -> bool {
        self.slow = took >= SLOW;
        let had_before = self.had_before.take().filter(|_| self.slow);
        had_before.is_some_and(|before| {
            let others = core_time_of_others().saturating_sub(before);
            others.saturating_mul(PART) < took
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn stands_by(groups: &[(usize, Duration)]) -> Vec<bool> {
        let mut stand_by = StandBy::default();
        let group = |&(submissions, took): &(usize, Duration)| {
            stand_by.begin(submissions);
            stand_by.end(took)
        };
        groups.iter().map(group).collect()
    }

    #[test]
    fn after_a_large_group_behind_a_slow_one_while_all_others_rest() {
        // An hour, of which no test has used a sixteenth.
        let large = (MANY, LONG);
        assert_eq!(stands_by(&[large, large]), [false, true]);
        assert_eq!(
            stands_by(&[large, (MANY - 1, LONG), large]),
            [false, false, true]
        );
    }

    #[test]
    fn not_after_a_quick_one_or_behind_one() {
        let (quick, slow) = (SLOW - Duration::from_nanos(1), SLOW);
        let (quick, large) = ((MANY, quick), (MANY, LONG));
        assert_eq!(
            stands_by(&[large, quick, large, large]),
            [false, false, false, true]
        );
        assert_eq!(stands_by(&[(MANY, slow), large]), [false, true]);
    }

    #[test]
    fn not_where_others_had_a_core_meanwhile() {
        let mut stand_by = StandBy {
            slow: true,
            had_before: None,
        };
        stand_by.begin(MANY);
        let begun = std::time::Instant::now();
        let busy = std::thread::spawn(move || {
            let had = crate::time::core_time;
            let until = had() + Duration::from_millis(20);
            while had() < until {
                std::hint::spin_loop();
            }
        });
        assert!(busy.join().is_ok());
        let took = begun.elapsed().min(Duration::from_millis(20) * PART);
        assert!(!stand_by.end(took));
    }
}
