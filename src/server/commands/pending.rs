//! What becomes of the commands of a batch, from when they are put into it until their replies are written.

use smallvec::SmallVec;

use super::account::{Account, outcome, reached_by};
use super::{catalogue, slow_log};
use crate::command::{Reply, Spec};
use crate::engine::{Applied, Stopped};
use crate::protocol::{Dialect, ErrorReply};
use crate::server::transaction::Queued;
use crate::spares::{Spare, Spares};

/// How many words most requests have, at most.
const WORDS: usize = 4;

/// What becomes of the commands of a batch, once it was carried out.
#[derive(Debug, Default)]
pub(in crate::server) struct Pending {
    /// Most batches have one.
    replies: SmallVec<[PendingReply; 1]>,
    /// What the slow log keeps of each request: the words one behind the other, cut.
    bytes: Vec<u8>,
    /// The whole length of each word.
    lens: SmallVec<[usize; WORDS]>,
}

/// One reply of a batch: how it is to be written, and what it is the reply of.
#[derive(Debug)]
struct PendingReply {
    dialect: Dialect,
    of: Of,
}

#[derive(Debug)]
enum Of {
    /// Of what was counted already.
    Counted,
    Command {
        spec: &'static Spec,
        /// Its number among those that are counted.
        number: usize,
        /// How many words it has, of which the first are kept.
        words: usize,
    },
    Transaction {
        spec: &'static Spec,
        commands: Vec<Queued>,
    },
}

/// The replies of a batch that was carried out and counted, in order, each with how it is to be written.
#[derive(Debug)]
pub(in crate::server) struct Answers {
    /// There until it is dropped.
    pending: Option<Box<Pending>>,
    applied: Applied,
    next: usize,
}

impl Iterator for Answers {
    type Item = (Reply, Dialect);

    fn next(&mut self) -> Option<Self::Item> {
        let dialect = self.pending.as_ref()?.replies.get(self.next)?.dialect;
        let reply = self.applied.take_reply(self.next)?;
        self.next += 1;
        Some((reply, dialect))
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            // A thread that ends has no spares any more.
            let _ = SPARES.try_with(|spares| spares.give_back(pending));
        }
    }
}

thread_local! {
    static SPARES: Spares<Pending> = const { Spares::new() };
}

/// Bytes that may be held when nothing is in it: a pipeline of small requests needs no more.
const LITTLE: usize = 4 << 10;

impl Spare for Pending {
    fn empty(&mut self) -> bool {
        let held = self.forget_requests();
        self.replies.clear();
        held + self.replies.capacity() * size_of::<PendingReply>() <= LITTLE
    }
}

impl Pending {
    /// Only how the replies are to be written is left, so that nothing large is held for a client that is slow
    /// to take them. Says how many bytes are kept for the next requests.
    fn forget_requests(&mut self) -> usize {
        for reply in &mut self.replies {
            reply.of = Of::Counted;
        }
        self.bytes.clear();
        self.lens.clear();
        let held = self.bytes.capacity() + self.lens.capacity() * size_of::<usize>();
        if held > LITTLE {
            self.bytes = Vec::new();
            self.lens = SmallVec::new();
            return 0;
        }
        held
    }

    /// That of no command.
    pub(in crate::server) fn none() -> Box<Self> {
        SPARES.with(Spares::take)
    }

    /// Makes room for so many requests that take so many bytes.
    pub(in crate::server) fn reserve(&mut self, requests: usize, bytes: usize) {
        // Of longer ones little is kept.
        self.replies.reserve(requests);
        self.lens.reserve(requests * WORDS);
        self.bytes.reserve(bytes.min(requests * slow_log::MAX_WORD));
    }

    fn len(&self) -> usize {
        self.replies.len()
    }

    /// The next reply is that of something that was counted already.
    pub(in crate::server) fn push_counted(&mut self, dialect: Dialect) {
        let of = Of::Counted;
        self.replies.push(PendingReply { dialect, of });
    }

    /// The next reply is that of this command, which comes with its number.
    pub(in crate::server) fn push(
        &mut self,
        (spec, number): (&'static Spec, usize),
        request: &[&[u8]],
        dialect: Dialect,
    ) {
        for word in request.iter().take(slow_log::MAX_WORDS) {
            let kept = word.len().min(slow_log::MAX_WORD);
            self.bytes
                .extend_from_slice(word.get(..kept).unwrap_or_default());
            self.lens.push(word.len());
        }
        let words = request.len();
        let of = Of::Command {
            spec,
            number,
            words,
        };
        self.replies.push(PendingReply { dialect, of });
    }

    /// The next reply is that of a transaction: of `spec`, which is EXEC.
    pub(in crate::server) fn push_transaction(
        &mut self,
        spec: &'static Spec,
        commands: Vec<Queued>,
        dialect: Dialect,
    ) {
        let of = Of::Transaction { spec, commands };
        self.replies.push(PendingReply { dialect, of });
    }
}

/// The words that are kept of requests, from one request on.
struct Kept<'a> {
    bytes: &'a [u8],
    lens: &'a [usize],
}

impl<'a> Kept<'a> {
    /// Takes those of a request of so many words off the front.
    fn take(&mut self, words: usize) -> Self {
        let words = words.min(slow_log::MAX_WORDS);
        let (lens, rest) = self.lens.split_at_checked(words).unwrap_or_default();
        self.lens = rest;
        let len = lens.iter().map(|len| len.min(&slow_log::MAX_WORD)).sum();
        let (bytes, rest) = self.bytes.split_at_checked(len).unwrap_or_default();
        self.bytes = rest;
        Self { bytes, lens }
    }

    /// Each word, or its first part, and its length.
    fn words(self) -> impl Iterator<Item = (&'a [u8], usize)> {
        let mut bytes = self.bytes;
        self.lens.iter().map(move |&len| {
            let kept = len.min(slow_log::MAX_WORD);
            let (word, rest) = bytes.split_at_checked(kept).unwrap_or_default();
            bytes = rest;
            (word, len)
        })
    }
}

impl Account<'_> {
    /// Counts the commands of a batch that was carried out, or was not since the server stops, and hands back
    /// its replies.
    pub(in crate::server) fn settle(
        self,
        mut pending: Box<Pending>,
        applied: Result<Applied, Stopped>,
    ) -> Answers {
        let mut applied = applied.unwrap_or_else(|stopped| {
            let stopped = Reply::Error(ErrorReply::Other(format!("ERR {stopped}").into()));
            Applied::refused(&stopped, pending.len())
        });
        let metrics = &self.shared.console.metrics;
        let mut laps = applied.laps().iter().copied();
        let mut kept = Kept {
            bytes: &pending.bytes,
            lens: &pending.lens,
        };
        for (reply, PendingReply { of, .. }) in applied.replies().iter().zip(&pending.replies) {
            match of {
                Of::Counted => drop(laps.next()),
                Of::Command {
                    spec,
                    number,
                    words,
                } => {
                    let own = kept.take(*words);
                    let mut call = outcome(metrics, (spec, *number), *words, reply);
                    call.took = laps.next().unwrap_or_default();
                    self.tally(&call);
                    if self.shared.settings.is_noted(call.took) {
                        let words = slow_log::shorten(own.words(), *words);
                        self.note(spec, &reached_by(call.took), words);
                    }
                }
                Of::Transaction { spec, commands } => {
                    self.settle_transaction(commands, reply, &mut laps);
                    let mut call = outcome(metrics, (spec, catalogue::number_of(spec)), 1, reply);
                    call.took = laps.next().unwrap_or_default();
                    self.count_as(spec, &[b"EXEC"], call);
                }
            }
        }
        pending.forget_requests();
        applied.forget_laps();
        Answers {
            pending: Some(pending),
            applied,
            next: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::lookup;

    #[test]
    fn what_is_kept_of_each_request_is_found_again() {
        let spec = lookup(b"MSET").unwrap();
        let long = vec![b'x'; slow_log::MAX_WORD + 7];
        let many = vec![&b"ab"[..]; slow_log::MAX_WORDS + 3];
        let requests: [&[&[u8]]; 4] = [&[b"SET", b"", &long], &many, &[], &[b"GET", b"k"]];
        let mut pending = Pending::default();
        for request in requests {
            pending.push((spec, 0), request, Dialect::Resp2);
        }
        let mut kept = Kept {
            bytes: &pending.bytes,
            lens: &pending.lens,
        };
        for request in requests {
            let words: Vec<_> = kept.take(request.len()).words().collect();
            let expected = request.iter().take(slow_log::MAX_WORDS);
            let expected: Vec<_> = expected
                .map(|word| (&word[..word.len().min(slow_log::MAX_WORD)], word.len()))
                .collect();
            assert_eq!(words, expected);
        }
        assert!(kept.bytes.is_empty() && kept.lens.is_empty());
    }
}
