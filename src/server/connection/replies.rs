//! What a connection writes: batches to the log, replies to the client.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::AsyncWrite;

use super::outbox::{Delivered, Outbox};
use super::{Connection, buffers};
use crate::engine::{self, Applied, Recipient, Stopped};
use crate::protocol::{self, Output};
use crate::server::commands::{Answers, Pending};
use crate::server::session::Session;
use crate::store::Value;

/// Replies are written out when they come to this many bytes. One reply may go beyond it.
pub(super) const WRITE_AT: usize = 64 << 10;

/// Encodes the next of the replies, until all are, or there are enough to be written out. Says whether all are.
pub(super) fn encode_some(answers: &mut Answers, out: &mut Output<Value>) -> bool {
    while out.len() < WRITE_AT {
        let Some((reply, dialect)) = answers.next() else {
            return true;
        };
        protocol::encode(reply, dialect, out);
    }
    false
}

/// A batch that was handed over.
#[derive(Debug)]
pub(super) enum Submitted {
    /// The log has it, or had it: the outbox knows.
    UnderWay,
    /// These replies of it are left to be written.
    Answered(Answers),
}

impl Connection {
    /// Hands the batch over, if the log has room. Says whether it had.
    pub(super) fn try_submit(&mut self) -> bool {
        let batch = self.session.take_batch();
        let Session {
            shared,
            client,
            pending,
            ..
        } = &mut self.session;
        let (shared, outbox) = (&*shared, &mut self.outbox);
        let mut take_pending = || pending.take().unwrap_or_else(Pending::none);
        let submitted = shared.engine.try_submit(batch, || {
            let own = || Arc::new(Outbox::new(Arc::clone(shared), Arc::clone(client)));
            let outbox = outbox.get_or_insert_with(own);
            outbox.begin(take_pending());
            Arc::clone(outbox) as Arc<dyn Recipient>
        });
        let applied = match submitted {
            Ok(engine::Submitted::UnderWay) => {
                self.batch = Some(Submitted::UnderWay);
                return true;
            }
            Ok(engine::Submitted::NoRoom(batch)) => {
                self.session.batch = batch;
                return false;
            }
            Ok(engine::Submitted::Applied(applied)) => Ok(applied),
            Err(stopped) => Err(stopped),
        };
        self.settle_batch(applied);
        true
    }

    /// Has the log take the batch, once it has room, and writes the replies.
    pub(super) async fn submit(&mut self) -> io::Result<()> {
        // What was read ahead of the first write need not wait for the disk (P3).
        self.flush().await?;
        let batch = self.session.take_batch();
        let applied = self.session.shared.engine.submit(batch).await;
        self.settle_batch(applied);
        self.answer_batch().await
    }

    /// Counts what a batch came to; its replies are to be written.
    fn settle_batch(&mut self, applied: Result<Applied, Stopped>) {
        let pending = self.session.pending.take().unwrap_or_else(Pending::none);
        let answers = self.session.account().settle(pending, applied);
        self.batch = Some(Submitted::Answered(answers));
    }

    /// Waits for the batch that the log has, if any, until its replies are written.
    pub(super) async fn answer_batch(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_answer_batch(cx)).await
    }

    pub(super) fn poll_answer_batch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut answers = match self.batch.take() {
            None => return Poll::Ready(Ok(())),
            Some(Submitted::Answered(answers)) => answers,
            Some(Submitted::UnderWay) => match self.poll_outbox(cx)? {
                Poll::Ready(Some(answers)) => answers,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    self.batch = Some(Submitted::UnderWay);
                    return Poll::Pending;
                }
            },
        };
        buffers::lend(&mut self.session.out);
        loop {
            let all = encode_some(&mut answers, &mut self.session.out);
            if self.poll_flush(cx)?.is_pending() {
                self.batch = Some(Submitted::Answered(answers));
                return Poll::Pending;
            }
            if all {
                self.session.told = Some(Instant::now());
                return Poll::Ready(Ok(()));
            }
            buffers::lend(&mut self.session.out);
        }
    }

    /// Waits until the batch is carried out that the log has. Nothing, if all replies were written.
    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<Option<Answers>>> {
        let Some(outbox) = &self.outbox else {
            return Ok(Poll::Ready(None));
        };
        let Poll::Ready((delivered, lent)) = outbox.poll(cx) else {
            return Ok(Poll::Pending);
        };
        self.writer = self.writer.take().or(lent);
        Ok(Poll::Ready(match delivered {
            Delivered::Written(told) => {
                self.session.told = Some(told);
                None
            }
            Delivered::Left(answers, out) => {
                debug_assert!(self.session.out.is_empty(), "replies before it are left");
                self.session.out = out;
                Some(answers)
            }
            Delivered::CarriedOut(pending, applied) => {
                Some(self.session.account().settle(pending, applied))
            }
            Delivered::Failed(error) => return Err(error),
        }))
    }

    /// Has whoever carries it out write the replies to the batch that the log has, where one thread serves clients.
    /// Nothing is left to be written before them. Until the client sends something this task need not run then.
    pub(super) fn lend_writer(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // A monitor has something to be shown although it asks nothing.
        let may = self.session.shared.engine.shares_thread() && self.session.monitor.is_none();
        if let (true, Some(Submitted::UnderWay), Some(outbox)) = (may, &self.batch, &self.outbox) {
            let has_more = self.reader.as_ref().poll_read_ready(cx)?.is_ready();
            outbox.lend(&mut self.writer, has_more);
        }
        Ok(())
    }

    /// Writes all replies.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.out.is_empty() {
            let out = &self.session.out;
            let Some(writer) = &mut self.writer else {
                let why = "replies are left while others may write: a defect of postres";
                return Poll::Ready(Err(io::Error::other(why)));
            };
            let writer = Pin::new(writer);
            // Almost always it is one, which costs less when the system is told so.
            let written = match out.one_piece() {
                Some(piece) => writer.poll_write(cx, piece),
                None => writer.poll_write_vectored(cx, &out.io_slices()),
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    self.session.out.advance(written);
                    self.session.account().count_write(written);
                }
            }
        }
        buffers::give_back(&mut self.session.out);
        Poll::Ready(Ok(()))
    }
}
