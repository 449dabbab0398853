//! A stretch of a pipeline: requests that were found one behind the other.
//!
//! They are found before the first of them is carried out, so that what their reads will look at
//! can be fetched from memory all at a time (see [`InMemStore::warm`](crate::store::InMemStore::warm)).

use smallvec::SmallVec;

use crate::command::{self, Flags};
use crate::protocol::{Decoder, ProtocolError, Request};
use crate::store::WARM_AT_ONCE;

/// The most requests of a stretch.
const LONGEST: usize = WARM_AT_ONCE;

/// Requests that were found and not carried out yet.
#[derive(Debug)]
pub(super) struct Stretch<'a> {
    /// Each with the bytes it takes.
    pub(super) requests: SmallVec<[(Request<'a>, usize); LONGEST]>,
    pub(super) then: Then,
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

impl<'a> Stretch<'a> {
    /// One of no request.
    pub(super) fn new() -> Self {
        Self {
            requests: SmallVec::new(),
            then: Then::More,
        }
    }

    /// Becomes the stretch that `bytes` begin with. In place: to move one costs as much as to decode
    /// a request.
    pub(super) fn decode(&mut self, decoder: &mut Decoder, bytes: &'a [u8]) {
        self.requests.clear();
        self.then = Then::More;
        let mut at = 0;
        while self.then == Then::More && self.requests.len() < LONGEST {
            match decoder.decode(bytes.get(at..).unwrap_or_default()) {
                Ok((Some(request), len)) => {
                    self.requests.push((request, len));
                    at += len;
                }
                Ok((None, skipped)) => self.then = Then::Incomplete(skipped),
                Err(error) => self.then = Then::Broken(error),
            }
        }
    }

    /// The keys that its reads ahead of the first write look at first.
    pub(super) fn keys(&self) -> SmallVec<[&'a [u8]; LONGEST]> {
        let mut keys = SmallVec::new();
        for (request, _) in &self.requests {
            let Some(spec) = request.args.first().and_then(|name| command::lookup(name)) else {
                continue;
            };
            if spec.flags.has(Flags::WRITE) {
                break;
            }
            if spec.flags.has(Flags::READONLY) && spec.keys.first == 1 {
                keys.extend(request.args.get(1).copied());
            }
        }
        keys
    }

    /// How many bytes its requests take.
    pub(super) fn len(&self) -> usize {
        self.requests.iter().map(|(_, len)| len).sum()
    }
}
