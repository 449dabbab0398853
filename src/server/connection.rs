//! One connection: bytes in, requests carried out in order, replies out.
//!
//! An idle connection holds no buffer. Bytes are read into one that belongs to the thread, and
//! what is complete is carried out before the next read; only the rest of a request that is not
//! complete yet is kept, and for one turn a short read (see `round`). So a connection costs its task and, for a
//! moment, its largest request.
//!
//! Almost all of its life is turns: it reads, carries out and answers in one go (`turn`), and what it writes goes out
//! by way of `replies`. Here is what is left: how long it lives, and what cannot be done in one go.
//!
//! Back-pressure: while a client does not take its replies, or its batch waits for the log,
//! nothing more of it is read (P8).

mod buffers;
mod held;
mod outbox;
mod replies;
mod turn;

use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::Shared;
use super::aside::Aside;
use super::clients::{self, Connected};
use super::ending::{Ending, killed, linger, waiting_bytes};
use super::long_read::LongRead;
use super::session::{End, Session};
use super::wait::Wait;
use outbox::Outbox;
use replies::Submitted;

/// How often a connection that is never idle looks whether the server stops.
const TURNS_BETWEEN_LOOKS: u64 = 16;

/// What a connection does next.
#[derive(Debug)]
enum Next {
    /// Reads on.
    Read,
    /// The same, once others had their turn.
    Yield,
    /// Writes out what it has, and goes on with what is already there.
    GoOn,
    /// The same, but not before a pause is over.
    Pause,
    /// The same, but waits before it answers.
    Wait(Wait),
    /// The same, but has another thread carry out a read before.
    Long(LongRead),
    /// Ends.
    End(End),
}

pub(super) struct Connection {
    pub(super) reader: OwnedReadHalf,
    /// Not here while it is lent to the outbox, nor is there anything to write then.
    writer: Option<OwnedWriteHalf>,
    pub(super) session: Session,
    /// What was read and not carried out.
    rest: BytesMut,
    /// A read that has come and is carried out in the next turn. Nothing more is read meanwhile, and there is
    /// no rest. A client that is killed before that gets no reply to it.
    aside: Option<Box<Aside>>,
    /// Whether what was read last were several requests.
    pipelined: bool,
    /// Whether the replies to it are held back until the next turn.
    held: bool,
    /// A batch that was handed over, until its replies are written. Nothing is read meanwhile.
    batch: Option<Submitted>,
    /// Where the replies to it go meanwhile: from the first one on.
    outbox: Option<Arc<Outbox>>,
    /// Its place among the clients, which others can end.
    pub(super) connected: Connected,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, shared: Arc<Shared>, connected: Connected) -> Self {
        let descriptor = &connected.client.activity.descriptor;
        descriptor.store(stream.as_raw_fd(), Ordering::Relaxed);
        let (reader, writer) = stream.into_split();
        Self {
            reader,
            writer: Some(writer),
            session: Session::new(shared, Arc::clone(&connected.client)),
            rest: BytesMut::new(),
            aside: None,
            pipelined: false,
            held: false,
            batch: None,
            outbox: None,
            connected,
        }
    }

    /// Serves the client until it leaves, or until the server stops: then what has arrived is carried out
    /// and answered. A client that another has killed is cut off.
    ///
    /// This is what an idle connection costs. What is seldom waited for has a box of its own.
    pub(super) async fn serve(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.session.shared);
        let stop = &shared.stop;
        let client = Arc::clone(&self.connected.client);
        let cancelled = pin!(client.kill.cancelled());
        let mut ending = Ending::new(&client, stop, cancelled);
        for turn in 1_u64.. {
            // While there is always something to read, the wait below never gets to `ending`.
            if turn.is_multiple_of(TURNS_BETWEEN_LOOKS) && ending.has_come() {
                break;
            }
            let next = poll_fn(|cx| match self.poll_turn(cx) {
                Poll::Ready(next) => Poll::Ready(next.map(Some)),
                Poll::Pending => ending.poll(cx).map(|()| Ok(None)),
            });
            let Some(next) = next.await? else {
                break;
            };
            if let Some(end) = Box::pin(self.settle_unless_killed(next)).await? {
                return Box::pin(self.end(end)).await;
            }
        }
        if stop.has_begun() {
            Box::pin(self.finish()).await
        } else {
            Ok(())
        }
    }

    /// Settles what the last bytes led to, but for a client that is ended meanwhile: one that takes no
    /// replies can be ended all the same.
    async fn settle_unless_killed(&mut self, next: Next) -> io::Result<Option<End>> {
        let shared = Arc::clone(&self.session.shared);
        let client = Arc::clone(&self.connected.client);
        tokio::select! {
            biased;
            settled = self.settle(next) => settled,
            () = killed(&client.kill, &shared.stop) => Ok(Some(End::Drop)),
        }
    }

    /// Carries out what had arrived when the server was told to stop, and closes. What a client
    /// sends from then on is not read: one that never stops sending does not hold up the stop.
    async fn finish(&mut self) -> io::Result<()> {
        // What was held back must not wait for the disk either.
        self.flush().await?;
        self.answer_batch().await?;
        if let Some(aside) = self.aside.take() {
            let (next, _) = self.interpret_aside(aside);
            if let Some(end) = self.settle(next).await? {
                return self.end(end).await;
            }
        }
        let mut arrived = waiting_bytes(self.reader.as_ref())?;
        while arrived > 0 {
            let (next, len) = self.read().await?;
            arrived = arrived.saturating_sub(len as u64);
            if let Some(end) = self.settle(next).await? {
                return self.end(end).await;
            }
        }
        let end = if waiting_bytes(self.reader.as_ref())? > 0 {
            End::Linger
        } else {
            End::Close
        };
        self.end(end).await
    }

    async fn end(&mut self, end: End) -> io::Result<()> {
        let unread = end == End::Close && waiting_bytes(self.reader.as_ref())? > 0;
        match (end, &mut self.writer) {
            (End::Close, Some(writer)) if !unread => writer.shutdown().await,
            (End::Close | End::Linger, Some(writer)) => linger(&mut self.reader, writer).await,
            _ => Ok(()),
        }
    }

    /// Submits and writes what the last bytes led to, and goes on with what a limit held back,
    /// until more must be read. Says how the connection ends, if it does.
    async fn settle(&mut self, mut next: Next) -> io::Result<Option<End>> {
        loop {
            if matches!(next, Next::End(End::Drop)) {
                return Ok(Some(End::Drop));
            }
            self.answer_batch().await?;
            if !self.session.batch.is_empty() {
                self.submit().await?;
            }
            self.flush().await?;
            next = match next {
                Next::Read => return Ok(None),
                Next::Yield => {
                    tokio::task::yield_now().await;
                    return Ok(None);
                }
                Next::GoOn => self.interpret_rest(),
                Next::Pause => {
                    let shared = Arc::clone(&self.session.shared);
                    let gone = self.is_gone_before(true, shared.console.pause.changed());
                    if Box::pin(gone).await {
                        return Ok(Some(End::Drop));
                    }
                    self.interpret_rest()
                }
                Next::Wait(wait) => {
                    if !Box::pin(self.wait(wait)).await {
                        return Ok(Some(End::Drop));
                    }
                    self.flush().await?;
                    self.interpret_rest()
                }
                Next::Long(long) => {
                    if !self.session.answer_long(long).await {
                        return Ok(Some(End::Drop));
                    }
                    self.flush().await?;
                    self.interpret_rest()
                }
                Next::End(end) => return Ok(Some(end)),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let lent = self.outbox.as_ref().and_then(|outbox| outbox.abandon());
        for writer in [self.writer.take(), lent].into_iter().flatten() {
            // It would tell the client that all was said, whatever became of its requests.
            writer.forget();
        }
    }
}
