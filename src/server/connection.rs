//! One connection: bytes in, requests carried out in order, replies out.
//!
//! An idle connection holds no buffer. Bytes are read into one that belongs to the thread, and
//! what is complete is carried out before the next read; only the rest of a request that is not
//! complete yet is kept, and for one turn a short read (see `round`). Replies are written to one that
//! the thread lends. So a connection costs its task and, for a moment, its largest request.
//!
//! Back-pressure: while a client does not take its replies, or its batch waits for the log,
//! nothing more of it is read (P8).

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use super::Shared;
use super::aside::{self, Aside};
use super::clients::{self, Connected};
use super::commands::Answers;
use super::ending::{Ending, killed, linger, waiting_bytes};
use super::long_read::LongRead;
use super::round::Round;
use super::session::{End, Session, Taken};
use super::stretch::{Found, Stretch, Then};
use super::wait::Wait;
use crate::command::Reply;
use crate::engine::{self, UnderWay};
use crate::metrics::Counter;
use crate::protocol::{self, ErrorReply};
use crate::spares::Spares;

/// Bytes read at once.
const READ_LEN: usize = 64 << 10;
/// A client whose requests take so many bytes at a time lets others have their turn.
const TURN: usize = READ_LEN / 2;
/// The room that is made for a request that is known to be longer than what was read of it: this
/// much at first, then as much again as has arrived.
const ROOM: usize = 1 << 20;
/// Replies are written out when they come to this many bytes. One reply may go beyond it.
const WRITE_AT: usize = 64 << 10;
/// A batch is submitted when it costs this much, though more of the pipeline may stand behind it.
const SUBMIT_AT: usize = 256 << 10;
/// A thread keeps a buffer for replies up to this capacity.
const KEEP_OUT: usize = 2 * WRITE_AT;
/// Up to so many bytes of replies ahead of a pipeline's first write are held back, in a buffer of their own but for the
/// first, until all who are ready have been read.
const HOLD_UP_TO: usize = 4 << 10;
/// How often a connection that is never idle looks whether the server stops.
const ROUNDS_BETWEEN_LOOKS: u64 = 16;

thread_local! {
    /// Where all connections of this thread read to.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_LEN].into_boxed_slice());
    /// What one of them writes to, from its first reply until all are written.
    static WRITE_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// What they have set aside.
    static ROUND: RefCell<Round> = const { RefCell::new(Round::new()) };
    /// What the next of them set theirs aside in.
    static ASIDE: Spares<Aside> = const { Spares::new() };
}

/// A batch that was handed over.
#[derive(Debug)]
enum Submitted {
    /// The log has it.
    UnderWay(UnderWay),
    /// These replies of it are left to be written.
    Answered(Answers),
}

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
    pub(super) stream: TcpStream,
    pub(super) session: Session,
    /// What was read and not carried out.
    rest: BytesMut,
    /// A read that has come and is carried out in the next turn. Nothing more is read meanwhile, and there is
    /// no rest. A client that is killed before that gets no reply to it.
    aside: Option<Box<Aside>>,
    /// A batch that was handed over, until its replies are written. Nothing is read meanwhile.
    batch: Option<Submitted>,
    /// Its place among the clients, which others can end.
    pub(super) connected: Connected,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, shared: Arc<Shared>, connected: Connected) -> Self {
        let descriptor = &connected.client.activity.descriptor;
        descriptor.store(stream.as_raw_fd(), Ordering::Relaxed);
        Self {
            stream,
            session: Session::new(shared, Arc::clone(&connected.client)),
            rest: BytesMut::new(),
            aside: None,
            batch: None,
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
        for round in 1_u64.. {
            // While there is always something to read, the wait below never gets to `ending`.
            if round.is_multiple_of(ROUNDS_BETWEEN_LOOKS) && ending.has_come() {
                break;
            }
            let next = poll_fn(|cx| match self.poll_rounds(cx) {
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
        let mut arrived = waiting_bytes(&self.stream)?;
        while arrived > 0 {
            let (next, len) = self.read().await?;
            arrived = arrived.saturating_sub(len as u64);
            if let Some(end) = self.settle(next).await? {
                return self.end(end).await;
            }
        }
        let end = if waiting_bytes(&self.stream)? > 0 {
            End::Linger
        } else {
            End::Close
        };
        self.end(end).await
    }

    async fn end(&mut self, end: End) -> io::Result<()> {
        let unread = end == End::Close && waiting_bytes(&self.stream)? > 0;
        match end {
            End::Close if !unread => self.stream.shutdown().await,
            End::Close | End::Linger => linger(&mut self.stream).await,
            End::Drop => Ok(()),
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

    /// Waits for bytes and carries out what they complete; says how many they were.
    async fn read(&mut self) -> io::Result<(Next, usize)> {
        poll_fn(|cx| self.poll_read(cx, Self::interpret)).await
    }

    /// Reads, carries out and answers, for as long as there is something to read and the log has room: almost
    /// always. What it sets aside it carries out in the next turn. It waits for a batch that the log has, until
    /// the client has taken all of its replies. The rest is for [`settle`](Self::settle). A client that has
    /// closed its side gets its connection closed: all its replies are written by then.
    fn poll_rounds(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Next>> {
        let mut taken = 0;
        while taken < TURN {
            if self.poll_answer_batch(cx)?.is_pending() {
                // What was read ahead of the first write need not wait for the disk (P3).
                let _ = self.poll_flush(cx)?;
                return Poll::Pending;
            }
            let read = match self.aside.take() {
                Some(aside) => Poll::Ready(self.interpret_aside(aside)),
                None => self.poll_read(cx, Self::interpret_or_set_aside)?,
            };
            if self.aside.is_some() {
                // Behind all who are ready now.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let (next, len) = match read {
                Poll::Ready(read) => read,
                // A monitor has something to be shown although it asks nothing.
                Poll::Pending if self.session.poll_shown(cx) => (Next::Read, 0),
                Poll::Pending => return Poll::Pending,
            };
            if matches!(next, Next::Read) && self.holds_back() && self.try_submit() {
                if let Some(Submitted::UnderWay(_)) = self.batch {
                    // Behind all who are ready now: whoever reads the replies of all is woken once for them.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                taken += len;
                continue;
            }
            let settled = matches!(next, Next::Read)
                && self.poll_flush(cx)?.is_ready()
                && (self.session.batch.is_empty() || self.try_submit());
            if !settled {
                return Poll::Ready(Ok(next));
            }
            taken += len;
        }
        Poll::Ready(Ok(Next::Yield))
    }

    /// Whether replies that stand ahead of a pipeline's first write wait for the others who are ready. They must not
    /// wait for the disk. A client that is killed meanwhile does not get them.
    fn holds_back(&self) -> bool {
        let Session {
            batch, out, shared, ..
        } = &self.session;
        let ahead = !batch.is_empty() && !out.is_empty();
        ahead && out.len() <= HOLD_UP_TO && !shared.engine.may_block()
    }

    /// Reads once, has what was read interpreted, and keeps what is left over.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        interpret: impl FnOnce(&mut Self, &[u8]) -> (usize, Next),
    ) -> Poll<io::Result<(Next, usize)>> {
        if self.session.decoder.wanted() > READ_LEN {
            return self.poll_read_more(cx);
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)) {
                return Poll::Ready(Err(error));
            }
            let bytes = read.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok((Next::End(End::Close), 0)));
            }
            self.count_read(bytes.len());
            let next = if self.rest.is_empty() {
                let (taken, next) = interpret(self, bytes);
                self.rest
                    .extend_from_slice(bytes.get(taken..).unwrap_or_default());
                next
            } else {
                self.rest.extend_from_slice(bytes);
                self.interpret_rest()
            };
            Poll::Ready(Ok((next, bytes.len())))
        })
    }

    /// Reads more of a long request to where the rest of it lies: it is not copied there.
    fn poll_read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Next, usize)>> {
        if self.rest.capacity() - self.rest.len() < READ_LEN {
            // A client that only claims to send much has much room made for nothing.
            let room = self.rest.len().max(ROOM);
            self.rest.reserve(room.min(self.session.decoder.wanted()));
        }
        let stream = Pin::new(&mut self.stream);
        Poll::Ready(match ready!(poll_read_buf(stream, cx, &mut self.rest)) {
            Ok(0) => Ok((Next::End(End::Close), 0)),
            Ok(len) => {
                self.count_read(len);
                Ok((self.interpret_rest(), len))
            }
            Err(error) => Err(error),
        })
    }

    /// Carries out what was read, or sets it aside, where it is to be looked up together with what others
    /// look up.
    fn interpret_or_set_aside(&mut self, bytes: &[u8]) -> (usize, Next) {
        let mut stretch = Stretch::new();
        stretch.decode(&mut self.session.decoder, bytes);
        if self.set_aside(bytes, &stretch) {
            (bytes.len(), Next::Read)
        } else {
            self.interpret_from(bytes, &mut stretch)
        }
    }

    /// Sets a request aside if that is worth it. Says whether it did.
    fn set_aside(&mut self, bytes: &[u8], stretch: &Stretch<'_>) -> bool {
        let Some((request, key)) = stretch.only_looks_up() else {
            return false;
        };
        let whole = request.len == bytes.len() && bytes.len() <= aside::LONGEST;
        if !whole || !self.session.reads_at_once() {
            return false;
        }
        ROUND.with_borrow_mut(|round| {
            let worth_it = round.is_worth_it();
            if worth_it {
                round.add(key, |keys| self.session.warm(keys));
                let mut aside = ASIDE.with(Spares::take);
                aside.keep(bytes, request);
                self.aside = Some(aside);
            }
            worth_it
        })
    }

    /// Carries out what was set aside. Says how long it is.
    fn interpret_aside(&mut self, aside: Box<Aside>) -> (Next, usize) {
        ROUND.with_borrow_mut(|round| round.end(|keys| self.session.warm(keys)));
        self.session.begin();
        self.lend_buffer();
        let bytes = aside.bytes();
        let (taken, next) = self.take(&aside.request());
        self.rest
            .extend_from_slice(bytes.get(taken..).unwrap_or_default());
        let len = bytes.len();
        ASIDE.with(|asides| asides.give_back(aside));
        (next.unwrap_or(Next::Read), len)
    }

    fn interpret_rest(&mut self) -> Next {
        let mut rest = std::mem::take(&mut self.rest);
        let (taken, next) = self.interpret(&rest);
        rest.advance(taken);
        self.rest = match rest.len() {
            0 => BytesMut::new(),
            // The buffer of a large request is not kept for the few bytes behind it.
            left if left < taken => BytesMut::from(&*rest),
            _ => rest,
        };
        next
    }

    /// Carries out the requests in `bytes`, or adds them to the batch. Says how many bytes they
    /// took: all complete requests, unless a limit was reached.
    fn interpret(&mut self, bytes: &[u8]) -> (usize, Next) {
        let mut stretch = Stretch::new();
        stretch.decode(&mut self.session.decoder, bytes);
        self.interpret_from(bytes, &mut stretch)
    }

    /// The same, where `stretch` is the one that they begin with.
    fn interpret_from<'a>(&mut self, bytes: &'a [u8], stretch: &mut Stretch<'a>) -> (usize, Next) {
        let mut taken = 0;
        self.session.begin();
        self.lend_buffer();
        loop {
            self.session.prepare(stretch);
            let before = self.session.decoder.reads_as();
            let mut then = stretch.then;
            let (read, others) = self.answer_reads(&stretch.requests);
            taken += read;
            for request in others {
                let (took, next) = self.take(request);
                taken += took;
                if let Some(next) = next {
                    self.session.decoder.start_over();
                    return (taken, next);
                }
                if self.session.decoder.reads_as() != before {
                    // What was found behind this request would now be read otherwise.
                    self.session.decoder.start_over();
                    then = Then::More;
                    break;
                }
            }
            match then {
                Then::More => {
                    let rest = bytes.get(taken..).unwrap_or_default();
                    stretch.decode(&mut self.session.decoder, rest);
                }
                Then::Incomplete(skipped) => return (taken + skipped, Next::Read),
                Then::Broken(error) => {
                    let refusal = ErrorReply::Other(error.to_string().into());
                    self.session.count_refused(&[], &refusal);
                    self.session.answer(Reply::Error(refusal), error.dialect());
                    return (bytes.len(), Next::End(End::Linger));
                }
            }
        }
    }

    /// Answers the reads that `requests` begin with. Says how many bytes these take, and which are left.
    fn answer_reads<'r, 'a>(&mut self, requests: &'r [Found<'a>]) -> (usize, &'r [Found<'a>]) {
        let count = self.session.answer_reads(requests, WRITE_AT);
        let (answered, others) = requests.split_at_checked(count).unwrap_or_default();
        let taken = answered.iter().map(|request| request.len).sum();
        (taken, others)
    }

    /// Carries out a request, or adds it to the batch. Says how many of its bytes are done with, and
    /// what must be done before the next request, if anything.
    fn take(&mut self, request: &Found<'_>) -> (usize, Option<Next>) {
        if self.session.out.len() >= WRITE_AT || self.session.batch.cost() >= SUBMIT_AT {
            return (0, Some(Next::GoOn));
        }
        let len = request.len;
        match self.session.take(request) {
            Taken::Done => (len, None),
            Taken::NotYet => (0, Some(Next::GoOn)),
            Taken::Paused => (0, Some(Next::Pause)),
            Taken::Wait(wait) => (len, Some(Next::Wait(wait))),
            Taken::Long(long) => (len, Some(Next::Long(long))),
            Taken::End(end) => (len, Some(Next::End(end))),
        }
    }

    /// Hands the batch over, if the log has room. Says whether it had.
    fn try_submit(&mut self) -> bool {
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
    async fn submit(&mut self) -> io::Result<()> {
        // What was read ahead of the first write need not wait for the disk (P3).
        self.flush().await?;
        let batch = self.session.take_batch();
        let applied = self.session.shared.engine.submit(batch).await;
        self.batch = Some(Submitted::Answered(self.session.settle(applied)));
        self.answer_batch().await
    }

    /// Waits for the batch that the log has, if any, and writes its replies.
    async fn answer_batch(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_answer_batch(cx)).await
    }

    fn poll_answer_batch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
    async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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

    fn count_read(&self, len: usize) {
        let counted = [(Counter::Reads, 1), (Counter::InputBytes, len as u64)];
        self.session.shared.console.metrics.add_all(counted);
        clients::add(&self.connected.client.activity.input, len as u64);
    }

    fn count_write(&self, len: usize) {
        let counted = [(Counter::Writes, 1), (Counter::OutputBytes, len as u64)];
        self.session.shared.console.metrics.add_all(counted);
        clients::add(&self.connected.client.activity.output, len as u64);
    }

    /// Lends the replies a buffer, if they have none.
    fn lend_buffer(&mut self) {
        WRITE_BUFFER.with_borrow_mut(|buffer| self.session.out.lend(buffer));
    }
}
