//! How many cores there are, for how long threads have had one, and whether others want it.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Others want a core if they have it for so long when it is offered to them, or taken for them. A thread that soon
/// sleeps again has it for less.
pub(crate) const LONG: Duration = Duration::from_micros(500);

/// Then it is theirs for so many times as long as they had it, so that what is lost by offering it is a hundredth; and
/// no longer than this, since a process that was stopped finds that it took as long.
const TIMES_AS_LONG: u32 = 100;
const AT_MOST: Duration = Duration::from_secs(1);

/// Whether others want the core of a thread that would be quicker if it did not rest.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    until: Option<Instant>,
}

impl Wanted {
    /// Whether they do at `now`, as far as is known.
    pub(crate) fn is(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Until `now` others had the core for so long.
    pub(crate) fn others_had(&mut self, now: Instant, the_core: Duration) {
        if the_core >= LONG {
            let theirs = the_core.saturating_mul(TIMES_AS_LONG).min(AT_MOST);
            self.until = Some(now + theirs);
        }
    }
}

/// How many cores this process may use; one if that cannot be told.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// For how long the thread that calls this has had a core.
pub(crate) fn core_time() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

/// For how long all other threads of this process have had one, taken together. Of one that has one right now what it
/// has had since the last tick of its core may be missing.
pub(crate) fn core_time_of_others() -> Duration {
    // The own time is asked for first, so it is never more than the sum.
    let own = core_time();
    time_of(ClockId::ProcessCPUTime).saturating_sub(own)
}

fn time_of(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_others_had_for_long_is_theirs_for_a_hundred_times_as_long() {
        let now = Instant::now();
        let mut wanted = Wanted::default();
        let instant = Duration::from_nanos(1);
        wanted.others_had(now, LONG - instant);
        assert!(!wanted.is(now));
        // Who works all the time has the core until the scheduler takes it back; and a process may be stopped for long.
        let hour = Duration::from_secs(3600);
        for (the_core, theirs) in [(LONG, LONG * TIMES_AS_LONG), (hour, AT_MOST)] {
            wanted.others_had(now, the_core);
            assert!(wanted.is(now) && wanted.is(now + theirs - instant));
            assert!(!wanted.is(now + theirs));
        }
    }

    /// Where the machine is a guest, what its host takes from it may count as the time of the thread that had the core,
    /// so one look may show too much; never all of them.
    const LOOKS: usize = 100;

    #[test]
    fn only_what_a_thread_works_counts_as_its_time_on_a_core() {
        const SLEEP: Duration = Duration::from_millis(20);
        let worked = || {
            let before = core_time();
            std::thread::sleep(SLEEP);
            core_time() - before
        };
        assert!((0..LOOKS).any(|_| worked() < SLEEP / 2));
        let begun = core_time();
        while core_time() == begun {}
    }

    #[test]
    fn what_another_thread_works_counts_as_the_time_of_others() {
        const WORK: Duration = Duration::from_millis(5);
        let others_worked = || {
            let before = core_time_of_others();
            let work = || while core_time() < WORK {};
            assert!(std::thread::spawn(work).join().is_ok());
            core_time_of_others().saturating_sub(before)
        };
        // Between its two looks this thread may have had a core for a moment that counts as the others'.
        assert!((0..LOOKS).any(|_| others_worked() > WORK / 2));
    }
}
