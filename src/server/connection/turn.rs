//! A turn of a connection: what it reads, carries out and answers in one go, without a future made for each step.
//!
//! What was read is carried out at once, but for a lone read, which may be set aside until the others that are ready
//! have been read, too, so that all their keys are fetched together (see `round`).

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::replies::{Submitted, WRITE_AT};
use super::{Connection, Next, buffers, clients};
use crate::command::Reply;
use crate::metrics::Counter;
use crate::protocol::ErrorReply;
use crate::server::aside::{self, Aside};
use crate::server::round::Round;
use crate::server::session::{End, Taken};
use crate::server::stretch::{self, Found, Stretch, Then};
use crate::spares::Spares;

/// Bytes read at once.
const READ_LEN: usize = 64 << 10;
/// A client whose requests take so many bytes at a time lets others have their turn.
const TURN: usize = READ_LEN / 2;
/// The room that is made for a request that is known to be longer than what was read of it: this
/// much at first, then as much again as has arrived.
const ROOM: usize = 1 << 20;
/// A batch is submitted when it costs this much, though more of the pipeline may stand behind it.
const SUBMIT_AT: usize = 256 << 10;

thread_local! {
    /// Where all connections of this thread read to.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_LEN].into_boxed_slice());
    /// What they have set aside.
    static ROUND: RefCell<Round> = const { RefCell::new(Round::new()) };
    /// What the next of them set theirs aside in.
    static ASIDE: Spares<Aside> = const { Spares::new() };
}

impl Connection {
    /// Reads, carries out and answers, for as long as there is something to read and the log has room: almost
    /// always. What it sets aside it carries out in the next turn. It waits for a batch that the log has, until
    /// the client has taken all of its replies. The rest is for [`settle`](Self::settle). A client that has
    /// closed its side gets its connection closed: all its replies are written by then.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Next>> {
        self.end_hold();
        let mut taken = 0;
        while taken < TURN {
            if self.poll_answer_batch(cx)?.is_pending() {
                if self.session.out.is_empty() {
                    self.lend_writer(cx)?;
                } else {
                    // What was read ahead of the first write need not wait for the disk (P3).
                    let _ = self.poll_flush(cx)?;
                }
                return Poll::Pending;
            }
            // What was held back.
            if self.poll_flush(cx)?.is_pending() {
                return Poll::Ready(Ok(Next::Read));
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
                Poll::Pending if self.session.poll_shown(cx) => {
                    self.pipelined = false;
                    (Next::Read, 0)
                }
                Poll::Pending => return Poll::Pending,
            };
            let reads_on = matches!(next, Next::Read);
            // Whoever sends without end has the runtime look at the network first, as below.
            if reads_on && taken + len < TURN && self.hold_back(cx) {
                return Poll::Pending;
            }
            // The replies to a batch that was carried out at once are written together with those ahead of it.
            let answered = matches!(self.batch, Some(Submitted::Answered(_)));
            let settled = reads_on
                && (answered
                    || self.poll_flush(cx)?.is_ready()
                        && (self.session.batch.is_empty() || self.try_submit()));
            if !settled {
                return Poll::Ready(Ok(next));
            }
            taken += len;
        }
        Poll::Ready(Ok(Next::Yield))
    }

    /// Waits for bytes and carries out what they complete; says how many they were.
    pub(super) async fn read(&mut self) -> io::Result<(Next, usize)> {
        poll_fn(|cx| self.poll_read(cx, Self::interpret)).await
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
            if let Err(error) = ready!(Pin::new(&mut self.reader).poll_read(cx, &mut read)) {
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
        let reader = Pin::new(&mut self.reader);
        Poll::Ready(match ready!(poll_read_buf(reader, cx, &mut self.rest)) {
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
    pub(super) fn interpret_aside(&mut self, aside: Box<Aside>) -> (Next, usize) {
        ROUND.with_borrow_mut(|round| round.end(|keys| self.session.warm(keys)));
        self.pipelined = false;
        self.session.begin();
        buffers::lend(&mut self.session.out);
        let bytes = aside.bytes();
        let (taken, next) = self.take(&aside.request());
        self.rest
            .extend_from_slice(bytes.get(taken..).unwrap_or_default());
        let len = bytes.len();
        ASIDE.with(|asides| asides.give_back(aside));
        (next.unwrap_or(Next::Read), len)
    }

    pub(super) fn interpret_rest(&mut self) -> Next {
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
        self.pipelined = stretch.requests.len() > 1;
        self.session.begin();
        buffers::lend(&mut self.session.out);
        loop {
            let before = self.session.decoder.reads_as();
            let mut then = stretch.then;
            let (read, others) = self.answer_reads(&stretch.requests);
            taken += read;
            // Otherwise the replies are written first, and the rest is decoded anew.
            if self.session.out.len() < WRITE_AT {
                self.session.prepare(others);
            }
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
        (stretch::len(answered), others)
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

    fn count_read(&self, len: usize) {
        let counted = [(Counter::Reads, 1), (Counter::InputBytes, len as u64)];
        self.session.shared.console.metrics.add_all(counted);
        clients::add(&self.connected.client.activity.input, len as u64);
    }
}
