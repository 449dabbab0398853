//! Who is told what became of a batch.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Applied, Stopped};

/// Who is told what became of the batches that it has handed over.
pub trait Recipient: fmt::Debug + Send + Sync {
    /// Once for each batch, in their order. The applier calls it between one turn and the next, and the log's thread
    /// for a batch that was alone, and for what the log drops: so it waits for nothing.
    fn receive(&self, applied: Result<Applied, Stopped>);
}

/// The answer that is owed to the recipient of a batch. One that is dropped says that the engine has stopped.
#[derive(Debug)]
pub(super) struct Answer(Option<Arc<dyn Recipient>>);

impl Answer {
    /// That to this recipient.
    pub(super) fn to(recipient: Arc<dyn Recipient>) -> Self {
        Self(Some(recipient))
    }

    /// Tells it.
    pub(super) fn give(mut self, applied: Applied) {
        if let Some(recipient) = self.0.take() {
            recipient.receive(Ok(applied));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(recipient) = self.0.take() {
            recipient.receive(Err(Stopped));
        }
    }
}

/// Whoever awaits what becomes of one batch.
#[derive(Debug)]
pub(super) struct Awaiting(Mutex<Option<oneshot::Sender<Result<Applied, Stopped>>>>);

impl Awaiting {
    /// It, and what it is to await.
    pub(super) fn new() -> (Arc<Self>, oneshot::Receiver<Result<Applied, Stopped>>) {
        let (told, awaited) = oneshot::channel();
        (Arc::new(Self(Mutex::new(Some(told)))), awaited)
    }
}

impl Recipient for Awaiting {
    fn receive(&self, applied: Result<Applied, Stopped>) {
        if let Some(told) = self.0.lock().take() {
            // It may be gone; its writes are durable all the same.
            let _ = told.send(applied);
        }
    }
}
