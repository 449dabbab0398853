//! When a group is complete.
//!
//! What clients have sent already, and the runtime has not come to yet, is to share the sync of what
//! it has come to. So the first write of a group does not have it committed; it wakes this task,
//! which lets everything run that is ready, and looks for what has arrived, until that brings no
//! more writes or has been done often enough. Only then may the log commit the group. Where there is
//! nothing else to run that is at once.

use std::sync::Weak;

use tokio::sync::mpsc;

use super::Ticket;
use crate::wal::group_commit::Submitter;

/// How often all that is ready may run before a group is complete, though more still comes: while it
/// comes nobody waits for the disk in vain, but the first of the group waits.
const ROUNDS: usize = 4;

/// Completes one group after the other, whenever `begun` says that one has begun, until the
/// engine is gone.
pub(super) async fn complete_groups(
    mut begun: mpsc::Receiver<()>,
    submitter: Weak<Submitter<Ticket>>,
) {
    while begun.recv().await.is_some() {
        let mut known = 0;
        for _ in 0..ROUNDS {
            // What yields runs again behind all that is ready, and behind what the network has
            // brought meanwhile.
            tokio::task::yield_now().await;
            let Some(submitter) = submitter.upgrade() else {
                return;
            };
            let gathered = submitter.gathered();
            if gathered == known {
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
