//! Where a group goes that the log's thread has committed: to the applier, or through it, if it is alone.
//!
//! To wake the applier's thread costs whoever wakes some 20 us in a virtual machine, and as much again until it is
//! there. A lone client, whose batch is the only one, waits for that with each write. So the log's thread carries such a
//! batch out itself, and answers it, where there is little else to do ([`Quiet`]). Otherwise it would begin the next
//! group later for it, and could be put aside by the system in the midst, with a lock that others who read need.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, mpsc};

use super::applying::State;
use super::gather::Quiet;
use super::{MAX_WAITING_BYTES, Ticket};
use crate::wal::group_commit::Group;

/// The longest that it carries out, in bytes: so those who must see several keys together hardly wait.
const LONGEST: usize = 4 << 10;

/// The log's thread's side of the way to the applier.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) state: Arc<State>,
    pub(super) groups: mpsc::Sender<Group<Ticket>>,
    /// Groups that were handed over and that the applier has not finished.
    pub(super) unapplied: Arc<AtomicUsize>,
    /// What the batches that wait for the log or for the applier leave of it.
    pub(super) room: Arc<Semaphore>,
    /// Whether there is nothing else to do; only where one thread serves clients. Where there are several, whoever
    /// submits a lone batch commits it.
    pub(super) quiet: Option<Arc<Quiet>>,
}

impl Delivery {
    /// Hands a group over, or carries it out. Groups come in log order.
    pub(super) fn deliver(&self, group: Group<Ticket>) {
        if self.is_alone(&group) && self.quiet.as_ref().is_some_and(|quiet| quiet.take()) {
            self.state.apply_alone(group);
            return;
        }
        self.unapplied.fetch_add(1, Ordering::Relaxed);
        // The applier ends only after this thread, or with the runtime: nobody waits then.
        let _ = self.groups.blocking_send(group);
    }

    /// Whether a group is of a single batch with a single, short step, and no other waits for the log or for the
    /// applier.
    fn is_alone(&self, group: &Group<Ticket>) -> bool {
        let [alone] = group.submissions.as_slice() else {
            return false;
        };
        // The applier's last change to the store happens before this reads its zero.
        let all_applied = self.unapplied.load(Ordering::Acquire) == 0;
        let taken = MAX_WAITING_BYTES - self.room.available_permits();
        all_applied
            && taken == alone.ticket.room.num_permits()
            && alone.ticket.contents.steps.len() == 1
            && alone.operations.len() <= LONGEST
    }
}
