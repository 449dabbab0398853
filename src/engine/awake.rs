//! The thread that serves clients, while the log has what they wrote.
//!
//! Where all of them wait for the disk it would rest, and be woken for its answer a moment later. In a virtual machine
//! a core that rests takes some 25 us to come back, and whoever wakes a thread on it 20 us to send for it; of the
//! 0.8 ms in which 50 writers go round that is a good part. So it looks at the network, and at the log, for
//! a while instead. What it finds is carried out, and the next group begun.
//!
//! That is only worth it on a core that nobody else wants. So between two looks it offers the core to other threads that
//! are ready, perhaps the log's own. Where they have it for long, whether it was offered to them or taken for them, the
//! core has other work, and for a while the thread rests when it waits, as if there were no such thing as this: who has
//! rested mostly comes before who works all the time.

use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Ticket;
use crate::cores::{Wanted, core_time};
use crate::wal::group_commit::Submitter;

/// It stays awake where one of the last two groups had so many submissions: a dozen writers may be in two groups that take
/// turns. Of 4 and 6 writers the processor time would grow by two thirds, for nothing. Of 8, who seldom are all in one
/// group, it grows by an eighth, for nothing yet, of 12 by a sixth, for a fifteenth more writes, of 32 by a seventh, for
/// a quarter.
const MANY: usize = 8;

/// It stays awake no longer than this for each group. Where the last commit took longer, the next one will hardly be
/// over by then, and the thread may rest; and where others have the core for longer, it is theirs.
const AT_MOST: Duration = Duration::from_micros(500);

/// Whether the thread stays awake.
#[derive(Debug)]
pub(super) struct Awake {
    may: bool,
    /// Whether others want the core, so that it does not stay awake.
    wanted: Wanted,
}

impl Awake {
    /// It never does unless it `may`.
    pub(super) fn new(may: bool) -> Self {
        Self {
            may,
            wanted: Wanted::default(),
        }
    }

    /// Whether it does now, where the last two groups had so many submissions.
    fn stays(&self, now: Instant, last_two: [usize; 2]) -> bool {
        self.may && !self.wanted.is(now) && last_two.iter().any(|&count| count >= MANY)
    }

    /// Waits until a group has begun, and keeps the thread from resting meanwhile, while one is committed. Nothing if
    /// the engine is gone.
    pub(super) async fn next_begun(
        &mut self,
        begun: &mut mpsc::Receiver<()>,
        submitter: &Weak<Submitter<Ticket>>,
    ) -> Option<()> {
        let since = Instant::now();
        let last_two = submitter.upgrade()?.last_two();
        if self.stays(since, last_two) {
            let had_it = core_time();
            look(begun, submitter, since).await;
            let now = Instant::now();
            let has_it = core_time().saturating_sub(had_it);
            self.wanted
                .others_had(now, (now - since).saturating_sub(has_it));
        }
        begun.recv().await
    }
}

/// Looks at the network and at the log until a group has begun, or none is committed any more.
async fn look(begun: &mpsc::Receiver<()>, submitter: &Weak<Submitter<Ticket>>, since: Instant) {
    let commits = || submitter.upgrade().is_some_and(|log| log.is_busy(AT_MOST));
    while begun.is_empty() && since.elapsed() < AT_MOST && commits() {
        // Runs again once the runtime has looked at the network.
        tokio::task::yield_now().await;
        if begun.is_empty() {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::LONG;

    #[test]
    fn one_of_the_last_two_groups_must_have_been_of_many() {
        let now = Instant::now();
        let awake = Awake::new(true);
        let behind = |last_two| awake.stays(now, last_two);
        assert_eq!([[0, MANY - 1], [MANY - 1; 2]].map(behind), [false; 2]);
        assert_eq!([[0, MANY], [MANY, 0]].map(behind), [true; 2]);
        assert!(!Awake::new(false).stays(now, [100; 2]));
    }

    #[test]
    fn not_where_others_want_the_core() {
        let now = Instant::now();
        let mut awake = Awake::new(true);
        assert!(awake.stays(now, [MANY; 2]));
        awake.wanted.others_had(now, LONG);
        assert!(!awake.stays(now, [MANY; 2]));
    }
}
