//! A stretch of a pipeline: requests that were found one behind the other.
//!
//! They are found before the first of them is carried out, so that what their reads will look at
//! can be fetched from memory all at a time (see [`InMemStore::warm`](crate::store::InMemStore::warm), and
//! `reads` for those that a stretch begins with).

use smallvec::SmallVec;

use crate::command::{self, Flags, Spec};
use crate::protocol::{Args, Decoder, Dialect, ProtocolError};
use crate::store::WARM_AT_ONCE;

/// The most requests of a stretch.
const LONGEST: usize = WARM_AT_ONCE;

/// Requests that were found and not carried out yet.
#[derive(Debug)]
pub(super) struct Stretch<'a> {
    pub(super) requests: SmallVec<[Found<'a>; LONGEST]>,
    pub(super) then: Then,
}

/// A request that was found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) args: Args<'a>,
    pub(super) dialect: Dialect,
    /// How many bytes it takes.
    pub(super) len: usize,
    /// The command that its first word names, if there is one.
    pub(super) named: Option<&'static Spec>,
}

impl Found<'_> {
    /// A place for one.
    fn nothing() -> Self {
        Self {
            args: Args::new(),
            dialect: Dialect::Silent,
            len: 0,
            named: None,
        }
    }

    /// The command of its name. In most pipelines it is that of the request before.
    fn named_as(&self, before: Option<&Self>) -> Option<&'static Spec> {
        let name = self.args.first()?;
        match before {
            Some(before) if before.args.first() == Some(name) => before.named,
            _ => command::lookup(name),
        }
    }
}

/// What comes behind a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Perhaps more of them.
    More,
    /// Bytes that can be thrown away, so many, and a request that is not complete, or nothing.
    Incomplete(usize),
    /// What cannot be a request.
    Broken(ProtocolError),
}

/// The key that a request looks at first, if it is a read that looks at one.
fn looked_up<'a>(spec: &Spec, args: &Args<'a>) -> Option<&'a [u8]> {
    let reads = spec.flags.has(Flags::READONLY) && spec.keys.first == 1;
    reads.then(|| args.get(1).copied()).flatten()
}

impl<'a> Stretch<'a> {
    /// One of no request.
    pub(super) fn new() -> Self {
        Self {
            requests: SmallVec::new(),
            then: Then::More,
        }
    }

    /// Becomes the stretch that `bytes` begin with. In place, and so is each of its requests found: to move
    /// one costs as much as to decode it.
    pub(super) fn decode(&mut self, decoder: &mut Decoder, bytes: &'a [u8]) {
        self.requests.clear();
        self.then = Then::More;
        let mut at = 0;
        while self.then == Then::More && self.requests.len() < LONGEST {
            self.requests.push(Found::nothing());
            let [before @ .., found] = &mut self.requests[..] else {
                break;
            };
            let rest = bytes.get(at..).unwrap_or_default();
            match decoder.decode_into(rest, &mut found.args) {
                Ok((Some(dialect), len)) => {
                    at += len;
                    (found.dialect, found.len) = (dialect, len);
                    found.named = found.named_as(before.last());
                    // Mostly it was the last.
                    if at == bytes.len() {
                        self.then = Then::Incomplete(0);
                    }
                    continue;
                }
                Ok((None, skipped)) => self.then = Then::Incomplete(skipped),
                Err(error) => self.then = Then::Broken(error),
            }
            self.requests.pop();
        }
    }

    /// The request that it is, and the key which that looks at first, if it is one read that looks at one,
    /// and nothing behind it.
    pub(super) fn only_looks_up(&self) -> Option<(&Found<'a>, &'a [u8])> {
        match &self.requests[..] {
            [request] if self.then == Then::Incomplete(0) => {
                Some((request, looked_up(request.named?, &request.args)?))
            }
            _ => None,
        }
    }
}

/// The keys that the reads of `requests` ahead of the first write look at first.
pub(super) fn keys<'a>(requests: &[Found<'a>]) -> SmallVec<[&'a [u8]; LONGEST]> {
    let mut keys = SmallVec::new();
    for request in requests {
        let Some(spec) = request.named else {
            continue;
        };
        if spec.flags.has(Flags::WRITE) {
            break;
        }
        keys.extend(looked_up(spec, &request.args));
    }
    keys
}

/// How many bytes `requests` take.
pub(super) fn len(requests: &[Found<'_>]) -> usize {
    requests.iter().map(|request| request.len).sum()
}
