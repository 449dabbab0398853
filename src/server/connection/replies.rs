//! What a connection writes: batches to the log, replies to the client.
//!
//! Replies are written to a buffer that the thread lends, from the first of them until all are sent. Those that are
//! held back keep theirs, and others get new ones.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::AsyncWrite;

use super::{Connection, clients};
use crate::engine::{self, UnderWay};
use crate::metrics::Counter;
use crate::protocol;
use crate::server::commands::Answers;
use crate::server::session::Session;

/// Replies are written out when they come to this many bytes. One reply may go beyond it.
pub(super) const WRITE_AT: usize = 64 << 10;
/// A thread keeps a buffer for replies up to this capacity.
const KEEP_OUT: usize = 2 * WRITE_AT;
/// Up to so many bytes of replies ahead of a pipeline's first write are held back, until all who are ready have been
/// read.
const HOLD_UP_TO: usize = 4 << 10;

thread_local! {
    /// What one of the thread's connections writes to, from its first reply until all are written.
    static WRITE_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A batch that was handed over.
#[derive(Debug)]
pub(super) enum Submitted {
    /// The log has it.
    UnderWay(UnderWay),
    /// These replies of it are left to be written.
    Answered(Answers),
}

impl Connection {
    /// Whether replies that stand ahead of a pipeline's first write wait for the others who are ready. They must not
    /// wait for the disk. A client that is killed meanwhile does not get them.
    pub(super) fn holds_back(&self) -> bool {
        let Session {
            batch, out, shared, ..
        } = &self.session;
        let ahead = !batch.is_empty() && !out.is_empty();
        ahead && out.len() <= HOLD_UP_TO && !shared.engine.may_block()
    }

    /// Hands the batch over, if the log has room. Says whether it had.
    pub(super) fn try_submit(&mut self) -> bool {
        let batch = self.session.take_batch();
        let submitted = match self.session.shared.engine.try_submit(batch) {
            Ok(engine::Submitted::UnderWay(batch)) => Submitted::UnderWay(batch),
            Ok(engine::Submitted::Applied(applied)) => {
                Submitted::Answered(self.session.settle(Ok(applied)))
            }
            Ok(engine::Submitted::NoRoom(batch)) => {
                self.session.batch = batch;
                return false;
            }
            Err(stopped) => Submitted::Answered(self.session.settle(Err(stopped))),
        };
        self.batch = Some(submitted);
        true
    }

    /// Has the log take the batch, once it has room, and writes the replies.
    pub(super) async fn submit(&mut self) -> io::Result<()> {
        // What was read ahead of the first write need not wait for the disk (P3).
        self.flush().await?;
        let batch = self.session.take_batch();
        let applied = self.session.shared.engine.submit(batch).await;
        self.batch = Some(Submitted::Answered(self.session.settle(applied)));
        self.answer_batch().await
    }

    /// Waits for the batch that the log has, if any, and writes its replies.
    pub(super) async fn answer_batch(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_answer_batch(cx)).await
    }

    pub(super) fn poll_answer_batch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut answers = match self.batch.take() {
            None => return Poll::Ready(Ok(())),
            Some(Submitted::Answered(answers)) => answers,
            Some(Submitted::UnderWay(mut batch)) => match Pin::new(&mut batch).poll(cx) {
                Poll::Ready(applied) => self.session.settle(applied),
                Poll::Pending => {
                    self.batch = Some(Submitted::UnderWay(batch));
                    return Poll::Pending;
                }
            },
        };
        self.lend_buffer();
        loop {
            let full = self.session.out.len() >= WRITE_AT;
            let next = if full { None } else { answers.next() };
            match next {
                Some((reply, dialect)) => protocol::encode(reply, dialect, &mut self.session.out),
                None if self.poll_flush(cx)?.is_pending() => {
                    self.batch = Some(Submitted::Answered(answers));
                    return Poll::Pending;
                }
                None if full => {}
                None => {
                    self.session.told = Some(Instant::now());
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Writes all replies.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.out.is_empty() {
            let out = &self.session.out;
            let stream = Pin::new(&mut self.stream);
            // Almost always it is one, which costs less when the system is told so.
            let written = match out.one_piece() {
                Some(piece) => stream.poll_write(cx, piece),
                None => stream.poll_write_vectored(cx, &out.io_slices()),
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    self.session.out.advance(written);
                    self.count_write(written);
                }
            }
        }
        if let Some(buffer) = self.session.out.give_back()
            && (1..=KEEP_OUT).contains(&buffer.capacity())
        {
            WRITE_BUFFER.with_borrow_mut(|spare| {
                // Another may have been lent none, while this one's replies were held back.
                if buffer.capacity() > spare.capacity() {
                    *spare = buffer;
                }
            });
        }
        Poll::Ready(Ok(()))
    }

    fn count_write(&self, len: usize) {
        let counted = [(Counter::Writes, 1), (Counter::OutputBytes, len as u64)];
        self.session.shared.console.metrics.add_all(counted);
        clients::add(&self.connected.client.activity.output, len as u64);
    }

    /// Lends the replies a buffer, if they have none.
    pub(super) fn lend_buffer(&mut self) {
        WRITE_BUFFER.with_borrow_mut(|buffer| self.session.out.lend(buffer));
    }
}
