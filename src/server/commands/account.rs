//! What commands cost: how often each is carried out, how long it takes, what is noted of those
//! that take long, and what monitors are shown.
//!
//! The time of a command is that of carrying it out: of a write, that of applying it. What it waits
//! for the log beforehand is the disk's time, the same for a whole group of writes, and is not
//! counted; nor is what a command waits because it was asked to (WAIT), but for DEBUG SLEEP. A clock is read once for each command, since one's end is the
//! next one's beginning, and once for each read from the socket.

use std::time::{Duration, Instant};

use super::{catalogue, secret, slow_log};
use crate::command::{Flags, Reply, Spec};
use crate::engine::Applied;
use crate::metrics::Counter;
use crate::protocol::{Absence, Dialect, ErrorReply};
use crate::server::session::Session;
use crate::server::transaction::Queued;

/// What becomes of the commands of a batch, once it was carried out.
#[derive(Debug, Default)]
pub(in crate::server) struct Pending {
    replies: Vec<PendingReply>,
    /// What the slow log keeps of each request: the words one behind the other, cut.
    bytes: Vec<u8>,
    /// The whole length of each word.
    lens: Vec<usize>,
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
        /// How many words it has.
        words: usize,
    },
    Transaction {
        spec: &'static Spec,
        commands: Vec<Queued>,
    },
}

impl Pending {
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

/// How a command ended, as far as it is counted.
#[derive(Debug, Default)]
pub(in crate::server) struct Outcome {
    failed: bool,
    hits: u64,
    misses: u64,
}

impl Session {
    /// What was read last is about to be carried out.
    pub(in crate::server) fn begin(&mut self) {
        self.lap_began = Instant::now();
        let connected = self.client.since;
        self.client
            .activity
            .woke(self.lap_began.saturating_duration_since(connected));
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.saturating_duration_since(std::mem::replace(&mut self.lap_began, now))
    }

    /// Looks at a reply before it is written.
    pub(in crate::server) fn outcome(
        &self,
        spec: &Spec,
        request: &[&[u8]],
        reply: &Reply,
    ) -> Outcome {
        if let Reply::Error(error) = reply {
            self.shared.console.metrics.error(code_of(error));
            return Outcome {
                failed: true,
                ..Outcome::default()
            };
        }
        let mut outcome = Outcome::default();
        if spec.flags.has(Flags::READONLY) && spec.keys.first > 0 {
            let found = keys_found(reply, spec.keys_in(request.len()));
            (outcome.hits, outcome.misses) = found;
        }
        outcome
    }

    /// Counts a command that was carried out just now.
    pub(in crate::server) fn count(
        &mut self,
        spec: &'static Spec,
        request: &[&[u8]],
        outcome: &Outcome,
    ) {
        let took = self.lap();
        self.count_as(spec, request, outcome, took);
    }

    /// Counts a command that took so long.
    pub(in crate::server) fn count_as(
        &self,
        spec: &'static Spec,
        request: &[&[u8]],
        outcome: &Outcome,
        took: Duration,
    ) {
        self.tally(spec, outcome, took);
        if self.shared.settings.is_noted(took) {
            let words = request.iter().enumerate().map(|(index, word)| {
                if secret(spec, request, index) {
                    (&b"(redacted)"[..], b"(redacted)".len())
                } else {
                    (*word, word.len())
                }
            });
            self.note(spec, took, slow_log::shorten(words, request.len()));
        }
    }

    fn tally(&self, spec: &'static Spec, outcome: &Outcome, took: Duration) {
        let metrics = &self.shared.console.metrics;
        metrics.executed(catalogue::number_of(spec), took, outcome.failed);
        if outcome.hits > 0 {
            metrics.add(Counter::KeyspaceHits, outcome.hits);
        }
        if outcome.misses > 0 {
            metrics.add(Counter::KeyspaceMisses, outcome.misses);
        }
        self.client.activity.answered();
    }

    /// Notes a command that took long.
    #[cold]
    fn note(&self, spec: &Spec, took: Duration, words: Vec<Vec<u8>>) {
        let (console, settings) = (&self.shared.console, &self.shared.settings);
        let seconds = self.shared.engine.time().0 / 1000;
        let slower_than = u64::try_from(settings.slower_than());
        if slower_than.is_ok_and(|micros| took >= Duration::from_micros(micros))
            && !spec.flags.has(Flags::SKIP_SLOWLOG)
        {
            let client = (
                self.client.addr.to_string(),
                self.client.traits.lock().name.clone(),
            );
            let limit = settings.slow_log_len();
            console.slow_log.push(limit, (seconds, took), words, client);
        }
        let threshold = settings.latency_threshold();
        if threshold > 0 && took >= Duration::from_millis(threshold) {
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
    pub(in crate::server) fn note_asked(&self, spec: &'static Spec) {
        self.client.activity.asked(catalogue::number_of(spec));
    }

    /// Shows monitors a request that was taken.
    pub(in crate::server) fn show(&self, spec: &Spec, request: &[&[u8]]) {
        let (console, time) = (&self.shared.console, || self.shared.engine.time());
        if !console.monitors.is_empty() {
            let gone = console.monitors.show(time(), &self.client, spec, request);
            console.metrics.add(Counter::OutputLimit, gone as u64);
        }
    }

    /// Counts the commands of a batch that was carried out, and hands back its replies, each with
    /// how it is to be written.
    pub(in crate::server) fn settle_batch(
        &self,
        pending: Pending,
        applied: Applied,
    ) -> impl Iterator<Item = (Reply, Dialect)> + use<> {
        let mut laps = applied.laps.into_iter();
        let (mut bytes, mut lens) = (pending.bytes.as_slice(), pending.lens.as_slice());
        for (reply, PendingReply { of, .. }) in applied.replies.iter().zip(&pending.replies) {
            match of {
                Of::Counted => drop(laps.next()),
                Of::Command { spec, words } => {
                    let kept = (*words).min(slow_log::MAX_WORDS);
                    let (own, rest) = lens.split_at_checked(kept).unwrap_or((lens, &[]));
                    lens = rest;
                    let own: Vec<_> = own.iter().map(|&len| cut(&mut bytes, len)).collect();
                    let took = laps.next().unwrap_or_default();
                    let request: Vec<_> = own.iter().map(|(word, _)| *word).collect();
                    self.tally(spec, &self.outcome(spec, &request, reply), took);
                    if self.shared.settings.is_noted(took) {
                        self.note(spec, took, slow_log::shorten(own.into_iter(), *words));
                    }
                }
                Of::Transaction { spec, commands } => {
                    self.settle_transaction(commands, reply, &mut laps);
                    let took = laps.next().unwrap_or_default();
                    self.count_as(spec, &[b"EXEC"], &self.outcome(spec, &[], reply), took);
                }
            }
        }
        let dialects = pending.replies.into_iter().map(|reply| reply.dialect);
        applied.replies.into_iter().zip(dialects)
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
            let outcome = self.outcome(queued.spec(), &request, reply);
            let took = laps.next().unwrap_or_default();
            self.count_as(queued.spec(), &request, &outcome, took);
        }
    }
}

/// Takes a word off the front, of which no more than a part was kept.
fn cut<'a>(bytes: &mut &'a [u8], len: usize) -> (&'a [u8], usize) {
    let kept = len.min(slow_log::MAX_WORD);
    let (word, rest) = bytes.split_at_checked(kept).unwrap_or((bytes, &[]));
    *bytes = rest;
    (word, len)
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
