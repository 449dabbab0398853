//! The thread that serves clients, while the log has what they wrote.
//!
//! Where all of them wait for the disk it would rest, and be woken for its answer a moment later. In a virtual machine
//! a core that rests takes some 25 us to come back, and whoever wakes a thread on it 20 us to send for it; of the
//! 0.8 ms in which 50 writers go round that is a good part. So it looks at the network, and at the log, for
//! a while instead. What it finds is carried out, and the next group begun.

use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::Ticket;
use crate::wal::group_commit::Submitter;

/// It does so where one of the last two groups had so many submissions: a dozen writers may be in two groups that take
/// turns. Of 4 and 6 writers the processor time would grow by two thirds, for nothing. Of 8, who seldom are all in one
/// group, it grows by an eighth, for nothing yet, of 12 by a sixth, for a fifteenth more writes, of 32 by a seventh, for
/// a quarter.
const MANY: usize = 8;

/// It stays awake no longer than this for each group. Where the last commit took longer, the next one will hardly be
/// over by then, and the thread may rest.
const AT_MOST: Duration = Duration::from_micros(500);

/// Whether the thread stays awake.
#[derive(Debug)]
pub(super) struct Awake {
    may: bool,
    /// How many submissions the last two groups had.
    last_two: [usize; 2],
}

impl Awake {
    /// It never does unless it `may`.
    pub(super) fn new(may: bool) -> Self {
        Self {
            may,
            last_two: [0; 2],
        }
    }

    /// A group of so many submissions is complete.
    pub(super) fn has_completed(&mut self, submissions: usize) {
        let [_, last] = self.last_two;
        self.last_two = [last, submissions];
    }

    fn stays(&self) -> bool {
        self.may && self.last_two.iter().any(|&count| count >= MANY)
    }

    /// Waits until a group has begun, and keeps the thread from resting meanwhile, while one is committed. Nothing if
    /// the engine is gone.
    pub(super) async fn next_begun(
        &self,
        begun: &mut mpsc::Receiver<()>,
        submitter: &Weak<Submitter<Ticket>>,
    ) -> Option<()> {
        let since = Instant::now();
        let may = self.stays();
        let commits = || submitter.upgrade().is_some_and(|log| log.is_busy(AT_MOST));
        while may && since.elapsed() < AT_MOST && commits() {
            match begun.try_recv() {
                Ok(()) => return Some(()),
                Err(TryRecvError::Disconnected) => return None,
                // Runs again once the runtime has looked at the network.
                Err(TryRecvError::Empty) => tokio::task::yield_now().await,
            }
        }
        begun.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_last_two_groups_must_have_been_of_many() {
        let mut awake = Awake::new(true);
        let mut behind = |submissions| {
            awake.has_completed(submissions);
            awake.stays()
        };
        assert_eq!([1, MANY - 1].map(&mut behind), [false; 2]);
        assert_eq!([MANY, 1, 1].map(&mut behind), [true, true, false]);
        let mut never = Awake::new(false);
        never.has_completed(100);
        assert!(!never.stays());
    }
}
