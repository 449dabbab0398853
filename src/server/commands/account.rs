//! What commands cost: how often each is carried out, how long it takes, what is noted of those
//! that take long, and what monitors are shown.
//!
//! The time of a command is that of carrying it out: of a write, that of applying it. What it
//! waits for the log beforehand is the disk's time, the same for a whole group of writes, and is
//! not counted, so a slow disk does not fill the slow log with every SET; nor is what a command
//! waits because it was asked to (WAIT), but for DEBUG SLEEP. A clock is read once for each command,
//! since one's end is the next one's beginning, and once for each read from the socket. Reads that were answered
//! in one go share their time evenly (see `reads`).

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::{catalogue, secret, slow_log};
use crate::command::{Flags, Reply, Spec};
use crate::engine::Applied;
use crate::metrics::{Calls, Counter, Metrics};
use crate::protocol::{Absence, Dialect, ErrorReply};
use crate::server::session::Session;
use crate::server::stretch::Found;
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

    pub(in crate::server) fn len(&self) -> usize {
        self.replies.len()
    }

    /// The next reply is that of something that was counted already.
    pub(in crate::server) fn push_counted(&mut self, dialect: Dialect) {
        let of = Of::Counted;
        self.replies.push(PendingReply { dialect, of });
    }

    /// The next reply is that of this command.
    pub(in crate::server) fn push(
        &mut self,
        spec: &'static Spec,
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
        let of = Of::Command { spec, words };
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

/// Says how long a command took, if that is a threshold or more.
type Over<'a> = &'a dyn Fn(Duration) -> Option<Duration>;

/// Of a command that took so long.
fn reached_by(took: Duration) -> impl Fn(Duration) -> Option<Duration> {
    move |threshold| (took >= threshold).then_some(took)
}

/// Of one of several calls, the first or another. Which of them took long nobody knows, unless all did: the
/// first stands for them.
fn over_in_run(calls: &Calls, first: bool, threshold: Duration) -> Option<Duration> {
    let each = reached_by(calls.each())(threshold);
    each.or_else(|| reached_by(calls.took)(threshold).filter(|_| first))
}

/// Looks at the reply to a request of so many words: what is counted of it, but for the time. The command
/// comes with its number.
pub(in crate::server) fn outcome(
    metrics: &Metrics,
    (spec, command): (&'static Spec, usize),
    words: usize,
    reply: &Reply,
) -> Calls {
    let mut call = Calls {
        command,
        count: 1,
        ..Calls::default()
    };
    if let Reply::Error(error) = reply {
        metrics.error(code_of(error));
        call.failed = 1;
    } else if spec.flags.has(Flags::READONLY) && spec.keys.first > 0 {
        (call.hits, call.misses) = keys_found(reply, spec.keys_in(words));
    }
    call
}

impl Session {
    /// What was read last is about to be carried out.
    pub(in crate::server) fn begin(&mut self) {
        self.lap_began = Instant::now();
        self.client.activity.wakes(self.lap_began);
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.saturating_duration_since(std::mem::replace(&mut self.lap_began, now))
    }

    /// Looks at the reply to a request of so many words, before it is written: what is counted of
    /// it, but for the time.
    pub(in crate::server) fn outcome(
        &self,
        spec: &'static Spec,
        words: usize,
        reply: &Reply,
    ) -> Calls {
        let metrics = &self.shared.console.metrics;
        outcome(metrics, (spec, self.number_of(spec)), words, reply)
    }

    /// Counts a command that was carried out just now.
    pub(in crate::server) fn count(&mut self, spec: &'static Spec, request: &[&[u8]], call: Calls) {
        let took = self.lap();
        self.count_as(spec, request, Calls { took, ..call });
    }

    /// The same for a command that was carried out just now as many times as there are `requests`.
    pub(in crate::server) fn count_run(
        &mut self,
        spec: &'static Spec,
        requests: &[Found<'_>],
        calls: Calls,
    ) {
        let calls = Calls {
            took: self.lap(),
            ..calls
        };
        self.tally(&calls);
        if !self.shared.settings.is_noted(calls.took) {
            return;
        }
        for (index, request) in requests.iter().enumerate() {
            let over = |threshold| over_in_run(&calls, index == 0, threshold);
            self.note_request(spec, &request.args, &over);
        }
    }

    /// Counts a command that was carried out.
    pub(in crate::server) fn count_as(&self, spec: &'static Spec, request: &[&[u8]], call: Calls) {
        self.tally(&call);
        if self.shared.settings.is_noted(call.took) {
            self.note_request(spec, request, &reached_by(call.took));
        }
    }

    fn note_request(&self, spec: &'static Spec, request: &[&[u8]], over: Over<'_>) {
        let words = request.iter().enumerate().map(|(index, word)| {
            if secret(spec, request, index) {
                (&b"(redacted)"[..], b"(redacted)".len())
            } else {
                (*word, word.len())
            }
        });
        self.note(spec, over, slow_log::shorten(words, request.len()));
    }

    fn tally(&self, calls: &Calls) {
        self.shared.console.metrics.executed(calls);
        self.client.activity.answered(calls.count);
    }

    /// Notes a command that took long, wherever its time is over the threshold.
    #[cold]
    fn note(&self, spec: &Spec, over: Over<'_>, words: Vec<Vec<u8>>) {
        let (console, settings) = (&self.shared.console, &self.shared.settings);
        let seconds = self.shared.engine.time().0 / 1000;
        let slower_than = u64::try_from(settings.slower_than()).ok();
        let slow = slower_than.and_then(|micros| over(Duration::from_micros(micros)));
        if let Some(took) = slow.filter(|_| !spec.flags.has(Flags::SKIP_SLOWLOG)) {
            let client = (
                self.client.addr.to_string(),
                self.client.traits.lock().name.clone(),
            );
            let limit = settings.slow_log_len();
            console.slow_log.push(limit, (seconds, took), words, client);
        }
        let threshold = settings.latency_threshold();
        if threshold > 0
            && let Some(took) = over(Duration::from_millis(threshold))
        {
            let fast = spec.flags.has(Flags::FAST);
            let event = if fast { "fast-command" } else { "command" };
            console.events.add(event, seconds, took);
        }
    }

    /// Counts what was refused before it could be carried out.
    #[cold]
    pub(in crate::server) fn count_refused(&self, request: &[&[u8]], error: &ErrorReply) {
        let metrics = &self.shared.console.metrics;
        let code = code_of(error);
        metrics.error(code);
        if code == "NOAUTH" {
            metrics.add(Counter::CommandDenied, 1);
        }
        if let Some(spec) = catalogue::named(request) {
            metrics.rejected(catalogue::number_of(spec));
        }
    }

    /// This is what the client has asked for last.
    pub(in crate::server) fn note_asked(&mut self, spec: &'static Spec) {
        let number = self.number_of(spec);
        self.asked = Some((spec, number));
        self.client.activity.asked(number);
    }

    /// The number of a command among those that are counted. That of the last is known: most clients ask for the same again.
    pub(in crate::server) fn number_of(&self, spec: &'static Spec) -> usize {
        match self.asked {
            Some((last, number)) if std::ptr::eq(last, spec) => number,
            _ => catalogue::number_of(spec),
        }
    }

    /// Shows monitors a request that was taken.
    pub(in crate::server) fn show(&self, spec: &Spec, request: &[&[u8]]) {
        let (console, time) = (&self.shared.console, || self.shared.engine.time());
        if !console.monitors.is_empty() {
            let gone = console.monitors.show(time(), &self.client, spec, request);
            console.metrics.add(Counter::OutputLimit, gone as u64);
        }
    }

    /// Counts the commands of a batch that was carried out, and hands back its replies.
    pub(in crate::server) fn settle_batch(
        &self,
        mut pending: Box<Pending>,
        mut applied: Applied,
    ) -> Answers {
        let mut laps = applied.laps().iter().copied();
        let mut kept = Kept {
            bytes: &pending.bytes,
            lens: &pending.lens,
        };
        for (reply, PendingReply { of, .. }) in applied.replies().iter().zip(&pending.replies) {
            match of {
                Of::Counted => drop(laps.next()),
                Of::Command { spec, words } => {
                    let own = kept.take(*words);
                    let mut call = self.outcome(spec, *words, reply);
                    call.took = laps.next().unwrap_or_default();
                    self.tally(&call);
                    if self.shared.settings.is_noted(call.took) {
                        let words = slow_log::shorten(own.words(), *words);
                        self.note(spec, &reached_by(call.took), words);
                    }
                }
                Of::Transaction { spec, commands } => {
                    self.settle_transaction(commands, reply, &mut laps);
                    let mut call = self.outcome(spec, 1, reply);
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

    /// Counts the commands of a transaction; the times are theirs, if it was carried out.
    pub(in crate::server) fn settle_transaction(
        &self,
        commands: &[Queued],
        reply: &Reply,
        laps: &mut impl Iterator<Item = Duration>,
    ) {
        let Reply::Array(replies) = reply else {
            return;
        };
        for (queued, reply) in commands.iter().zip(replies) {
            let request = queued.request();
            let mut call = self.outcome(queued.spec(), request.len(), reply);
            call.took = laps.next().unwrap_or_default();
            self.count_as(queued.spec(), &request, call);
        }
    }
}

/// The first word of an error.
fn code_of(error: &ErrorReply) -> &str {
    match error {
        ErrorReply::Other(text) => text.split(' ').next().unwrap_or("ERR"),
        _ => "ERR",
    }
}

/// How many of so many keys a command that reads found, and how many it did not, as far as its
/// reply tells: an empty value passes for a key that is not there.
fn keys_found(reply: &Reply, keys: u64) -> (u64, u64) {
    let found = match reply {
        Reply::Nil(Absence::Key { .. } | Absence::Plain) => 0,
        Reply::Integer(-2) | Reply::Status("none") => 0,
        Reply::Integer(found) if keys > 1 => u64::try_from(*found).unwrap_or_default().min(keys),
        Reply::Integer(0) => 0,
        Reply::Bytes(bytes) if bytes.is_empty() => 0,
        Reply::Array(items) => {
            let found = items.iter().filter(|item| !matches!(item, Reply::Nil(_)));
            found.count() as u64
        }
        _ => keys,
    };
    let found = found.min(keys);
    (found, keys - found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::lookup;

    #[test]
    fn of_calls_that_were_measured_together_at_least_the_first_is_over_what_they_are_over() {
        let millis = Duration::from_millis;
        let calls = Calls {
            count: 4,
            took: millis(8),
            ..Calls::default()
        };
        let over = |first, threshold| over_in_run(&calls, first, millis(threshold));
        assert_eq!(
            [2, 3, 8, 9].map(|at| over(true, at)),
            [Some(millis(2)), Some(millis(8)), Some(millis(8)), None]
        );
        assert_eq!(
            [2, 3, 8, 9].map(|at| over(false, at)),
            [Some(millis(2)), None, None, None]
        );
    }

    #[test]
    fn what_is_kept_of_each_request_is_found_again() {
        let spec = lookup(b"MSET").unwrap();
        let long = vec![b'x'; slow_log::MAX_WORD + 7];
        let many = vec![&b"ab"[..]; slow_log::MAX_WORDS + 3];
        let requests: [&[&[u8]]; 4] = [&[b"SET", b"", &long], &many, &[], &[b"GET", b"k"]];
        let mut pending = Pending::default();
        for request in requests {
            pending.push(spec, request, Dialect::Resp2);
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

    #[test]
    fn what_a_read_found_is_told_by_its_reply() {
        let nil = Reply::Nil(Absence::Plain);
        let bytes = |bytes: &[u8]| Reply::Bytes(bytes.to_vec());
        for (reply, keys, found) in [
            (bytes(b"v"), 1, (1, 0)),
            (nil.clone(), 1, (0, 1)),
            (Reply::Integer(-1), 1, (1, 0)),
            (Reply::Integer(-2), 1, (0, 1)),
            (Reply::Integer(2), 3, (2, 1)),
            (Reply::Status("none"), 1, (0, 1)),
            (Reply::Array(vec![bytes(b""), nil, bytes(b"v")]), 3, (2, 1)),
        ] {
            assert_eq!(keys_found(&reply, keys), found, "{reply:?}");
        }
    }
}
