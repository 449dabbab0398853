//! Where the replies to a batch go, while the log has it.
//!
//! Whoever has a connection's [`OwnedWriteHalf`] may write to its client. A connection that has nothing else to do
//! lends it to its [`Outbox`]: then the applier, which runs on the same thread, writes the replies at the end of the
//! turn in which it carries out the batch, or the log's thread does, if no other client writes; and the connection's task
//! need not run before its client sends something again. With many clients nothing of a task is in the processor's cache any more when its turn comes, so that turn
//! is dear. What the client does not take at once is left to the task.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::net::tcp::OwnedWriteHalf;

use super::{buffers, replies};
use crate::engine::{Applied, Recipient, Stopped};
use crate::protocol::Output;
use crate::server::Shared;
use crate::server::clients::Client;
use crate::server::commands::{Account, Answers, Pending};
use crate::store::Value;

/// A connection's batch that the log has, and later what became of it.
#[derive(Debug)]
pub(super) struct Outbox {
    shared: Arc<Shared>,
    client: Arc<Client>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    batch: Batch,
    /// Lent by the connection, or given back to it.
    writer: Option<OwnedWriteHalf>,
    /// The connection's task.
    task: Option<Waker>,
    /// Whether the task has to run once the batch is carried out, even if all replies are written.
    wake_when_written: bool,
}

#[derive(Debug)]
enum Batch {
    /// There is none, or its connection is gone.
    None,
    /// The log has it.
    UnderWay(Box<Pending>),
    Done(Delivered),
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Delivered {
    /// All replies were written, the last of them at this moment.
    Written(Instant),
    /// These are left to be written, behind what was encoded of them.
    Left(Answers, Output<Value>),
    /// Nobody was lent the writer: its commands are to be counted, and its replies to be written.
    CarriedOut(Box<Pending>, Result<Applied, Stopped>),
    /// The client is gone, or cannot be written to.
    Failed(io::Error),
}

impl Outbox {
    /// That of a client, with no batch.
    pub(super) fn new(shared: Arc<Shared>, client: Arc<Client>) -> Self {
        Self {
            shared,
            client,
            state: Mutex::new(State {
                batch: Batch::None,
                writer: None,
                task: None,
                wake_when_written: true,
            }),
        }
    }

    /// A batch is about to be handed over, whose replies are those of `pending`.
    pub(super) fn begin(&self, pending: Box<Pending>) {
        let mut state = self.state.lock();
        state.batch = Batch::UnderWay(pending);
        state.wake_when_written = true;
    }

    /// Waits until the batch is carried out. The writer comes back with what became of it, if it was lent.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<(Delivered, Option<OwnedWriteHalf>)> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.batch, Batch::None) {
            Batch::Done(delivered) => Poll::Ready((delivered, state.writer.take())),
            batch => {
                state.batch = batch;
                state.wake_when_written = true;
                let waker = cx.waker();
                if !state
                    .task
                    .as_ref()
                    .is_some_and(|task| task.will_wake(waker))
                {
                    state.task = Some(waker.clone());
                }
                Poll::Pending
            }
        }
    }

    /// Lends it the writer until the batch is carried out. The task runs before that only if something else wakes
    /// it, and then, if all replies are written, only if it asks for it with `wake_when_written`.
    pub(super) fn lend(&self, writer: &mut Option<OwnedWriteHalf>, wake_when_written: bool) {
        let mut state = self.state.lock();
        // It may have been carried out just now: then the task was woken.
        if matches!(state.batch, Batch::UnderWay(_)) {
            state.writer = state.writer.take().or_else(|| writer.take());
            state.wake_when_written = wake_when_written;
        }
    }

    /// The connection is gone: nothing is written any more. Gives back what it was lent.
    pub(super) fn abandon(&self) -> Option<OwnedWriteHalf> {
        let mut state = self.state.lock();
        state.batch = Batch::None;
        state.task = None;
        state.writer.take()
    }

    /// Writes replies, once: what the client does not take at once, and what goes beyond one write, is for its
    /// task. So others wait no longer for many or large ones than if the task wrote them.
    fn write(&self, mut answers: Answers, writer: &OwnedWriteHalf) -> Delivered {
        let mut out = Output::new();
        buffers::lend(&mut out);
        let all = replies::encode_some(&mut answers, &mut out);
        // The client may want none.
        if !out.is_empty() {
            let written = match out.one_piece() {
                Some(piece) => writer.try_write(piece),
                None => writer.try_write_vectored(&out.io_slices()),
            };
            match written {
                Ok(written) => {
                    self.account().count_write(written);
                    out.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Delivered::Failed(error),
            }
        }
        if !all || !out.is_empty() {
            return Delivered::Left(answers, out);
        }
        buffers::give_back(&mut out);
        Delivered::Written(Instant::now())
    }

    fn account(&self) -> Account<'_> {
        Account {
            shared: &self.shared,
            client: &self.client,
        }
    }
}

impl Recipient for Outbox {
    fn receive(&self, applied: Result<Applied, Stopped>) {
        let mut state = self.state.lock();
        let Batch::UnderWay(pending) = std::mem::replace(&mut state.batch, Batch::None) else {
            // The client is gone; its writes are durable all the same.
            return;
        };
        let delivered = match &state.writer {
            // What the log drops is dropped by its own thread.
            Some(writer) if applied.is_ok() => {
                // A defect met with here ends this connection, as one in its task would, and not the applier or the log.
                let write = || self.write(self.account().settle(pending, applied), writer);
                catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| {
                    let why = "to write its replies panicked, which is a defect of postres";
                    Delivered::Failed(io::Error::other(why))
                })
            }
            _ => Delivered::CarriedOut(pending, applied),
        };
        let wakes = state.wake_when_written || !matches!(delivered, Delivered::Written(_));
        state.batch = Batch::Done(delivered);
        // One that was woken says anew that it waits, if it does.
        if wakes && let Some(task) = state.task.take() {
            task.wake();
        }
    }
}
