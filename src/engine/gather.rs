//! When a group is complete.
//!
//! What clients have sent already, and the runtime has not come to yet, is to share the sync of what
//! it has come to. So the first write of a group does not have it committed; it wakes this task,
//! which lets everything run that is ready, and looks for what has arrived, until that brings no
//! more writes, or has brought many, or takes too long. Only then may the log commit the group. Where
//! there is nothing else to run that is at once.
//!
//! That makes fewer and larger groups, and keeps the log's thread from waking in the midst of the
//! workers' work: on two cores it takes one of them from a worker or from whoever sends.

use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Ticket;
use crate::wal::group_commit::Submitter;

/// A group of so many operations is large enough: what a commit costs by itself is little beside them. The
/// log is to be busy while more of them are read.
const ENOUGH: usize = 256;

/// A group gathers no longer than this while there is something else to do.
const AT_MOST: Duration = Duration::from_millis(1);

/// Completes one group after the other, whenever `begun` says that one has begun, until the
/// engine is gone.
pub(super) async fn complete_groups(
    mut begun: mpsc::Receiver<()>,
    submitter: Weak<Submitter<Ticket>>,
) {
    while begun.recv().await.is_some() {
        let began = Instant::now();
        let mut known = 0;
        loop {
            // What yields runs again when the runtime has looked at the network: behind what was
            // ready before, ahead of what that look has brought. So it yields twice at the least, where
            // there is time.
            tokio::task::yield_now().await;
            let Some(submitter) = submitter.upgrade() else {
                return;
            };
            let (gathered, operations) = submitter.gathered();
            let enough = operations >= ENOUGH || began.elapsed() >= AT_MOST;
            if gathered == known || enough {
                break;
            }
            known = gathered;
        }
        match submitter.upgrade() {
            Some(submitter) => submitter.complete(),
            None => return,
        }
    }
}
