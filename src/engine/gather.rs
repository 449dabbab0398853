//! When a group is complete.
//!
//! What clients have sent already, and the runtime has not come to yet, is to share the sync of what
//! it has come to. So the first write of a group does not have it committed; it wakes this task,
//! which lets everything run that is ready, and looks for what has arrived, until that brings no
//! more writes, or takes too long. Only then may the log commit the group, unless it is large by then. Where
//! there is nothing else to run that is at once.
//!
//! That makes fewer and larger groups, and keeps the log's thread from waking in the midst of the
//! workers' work: on two cores it takes one of them from a worker or from whoever sends.
//!
//! It also shows whether there is anything else to do. Where there is not, and several threads serve clients, the
//! next batches may be committed by the task that submits them, on its own thread ([`Quiet`]); where it is one thread, the
//! log's thread may carry out batches that are alone. If many write, the one thread stays awake for a while, until the group is committed ([`Awake`]).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Ticket;
use super::awake::Awake;
use crate::wal::group_commit::Submitter;

/// A group gathers no longer than this while there is something else to do. In much longer all clients would be in
/// one group, and their thread would rest while the disk works; in much less groups of clients who mostly read are so
/// small that commits cost more than that spares.
const AT_MOST: Duration = Duration::from_micros(700);

/// There is nothing else to do where the looks for a group of so few take no longer than this, in which
/// two or three requests could be answered.
const FEW: usize = 2;
const SOON: Duration = Duration::from_micros(30);

/// So many batches are committed by their own tasks before it is looked again whether there is something else to do.
/// The log's thread may carry out as many of those that no task here has looked at.
const BETWEEN_LOOKS: u32 = 16;

/// How many batches may still be committed by the tasks that submit them. Their thread's other
/// tasks must go on elsewhere meanwhile, which costs more than it spares where there are any that are ready. Or how many
/// the log's thread may still carry out.
#[derive(Debug)]
pub(super) struct Quiet(AtomicU32);

impl Quiet {
    /// Nothing is known of what else there is to do: as if it were nothing.
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(BETWEEN_LOOKS))
    }

    /// Whether this one may be. Two who ask at once may both be counted as one.
    pub(super) fn take(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    fn is(&self, quiet: bool) {
        let left = if quiet { BETWEEN_LOOKS } else { 0 };
        self.0.store(left, Ordering::Relaxed);
    }
}

/// Completes one group after the other, whenever `begun` says that one has begun, until the
/// engine is gone. Whether the thread `stays_awake` while groups of many are committed is for the caller to say.
pub(super) async fn complete_groups(
    mut begun: mpsc::Receiver<()>,
    submitter: Weak<Submitter<Ticket>>,
    quiet: Arc<Quiet>,
    stays_awake: bool,
) {
    let mut awake = Awake::new(stays_awake);
    while awake.next_begun(&mut begun, &submitter).await.is_some() {
        if gather(&submitter, &quiet).await.is_none() {
            return;
        }
    }
}

/// Lets everything run that is ready, until that brings no more writes, or takes too long, and has the group
/// committed, if it is not complete before. Nothing if the engine is gone.
async fn gather(submitter: &Weak<Submitter<Ticket>>, quiet: &Quiet) -> Option<()> {
    let began = Instant::now();
    let mut known = 0;
    loop {
        // What yields runs again when the runtime has looked at the network: behind what was ready
        // before, and of what that look has brought ahead where several threads serve clients, behind
        // where it is one. So it yields twice at the least, where there is time, and the group is not complete.
        tokio::task::yield_now().await;
        let submitter = submitter.upgrade()?;
        let gathered = submitter.gathered();
        let count = gathered.submissions;
        let done = count == known || gathered.begun.elapsed() >= AT_MOST;
        if gathered.complete || done {
            quiet.is(count <= FEW && began.elapsed() < SOON);
            if !gathered.complete {
                submitter.complete();
            }
            return Some(());
        }
        known = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_and_then_it_is_looked_again_whether_all_is_quiet() {
        let quiet = Quiet::new();
        let granted = || (0..100).take_while(|_| quiet.take()).count() as u32;
        assert_eq!(granted(), BETWEEN_LOOKS);
        assert_eq!(granted(), 0);
        quiet.is(true);
        assert_eq!(granted(), BETWEEN_LOOKS);
        quiet.is(true);
        quiet.is(false);
        assert_eq!(granted(), 0);
    }
}
