//! The stop of the server, as its tasks see it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Whether the server is to stop.
#[derive(Debug)]
pub(super) struct Stop {
    /// Cancelled by whoever wants it to.
    asked: CancellationToken,
    /// Whether the stop has begun. To ask a token is to take its lock, and all connections ask, each time that
    /// they have nothing more to read: on many cores that lock would be what they wait for.
    has_begun: AtomicBool,
    /// Cancelled right after `has_begun` says so: who is woken by it finds it said.
    begun: CancellationToken,
}

impl Stop {
    /// One that begins when `asked` is cancelled, if somebody runs [`Self::watch`].
    pub(super) fn new(asked: CancellationToken) -> Self {
        Self {
            asked,
            has_begun: AtomicBool::new(false),
            begun: CancellationToken::new(),
        }
    }

    /// Begins the stop once somebody asks for it.
    pub(super) async fn watch(&self) {
        self.asked.cancelled().await;
        self.has_begun.store(true, Ordering::Release);
        self.begun.cancel();
    }

    /// Asks the server to stop.
    pub(super) fn ask(&self) {
        self.asked.cancel();
    }

    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Waits until it begins.
    pub(super) fn begins(&self) -> WaitForCancellationFuture<'_> {
        self.begun.cancelled()
    }

    /// A token that is cancelled when it begins, or before.
    pub(super) fn child_token(&self) -> CancellationToken {
        self.begun.child_token()
    }
}
