//! The thread that serves clients, while the log has what they wrote.
//!
//! Where all of them wait for the disk it would rest, and be woken for its answer a moment later. In a virtual machine
//! a core that rests takes 30 to 50 us to come back, and whoever wakes a thread on it 20 us to send for it; of the
//! 0.8 ms in which 50 writers go round that is a good part. So it looks at the network, and at the log, for
//! a while instead. What it finds is carried out, and the next group begun.

use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::Ticket;
use crate::wal::group_commit::Submitter;

/// It stays awake no longer than this for each group. Where the last commit took longer, the next one will hardly be
/// over by then, and the thread may rest.
const AT_MOST: Duration = Duration::from_micros(500);

/// Waits until a group has begun. If `stays_awake`, keeps the thread from resting meanwhile, while one is
/// committed. Nothing if the engine is gone.
pub(super) async fn next_begun(
    begun: &mut mpsc::Receiver<()>,
    submitter: &Weak<Submitter<Ticket>>,
    stays_awake: bool,
) -> Option<()> {
    let since = Instant::now();
    let commits = || submitter.upgrade().is_some_and(|log| log.is_busy(AT_MOST));
    while stays_awake && since.elapsed() < AT_MOST && commits() {
        match begun.try_recv() {
            Ok(()) => return Some(()),
            Err(TryRecvError::Disconnected) => return None,
            // Runs again once the runtime has looked at the network.
            Err(TryRecvError::Empty) => tokio::task::yield_now().await,
        }
    }
    begun.recv().await
}
