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

use super::{catalogue, secret, slow_log};
use crate::command::{Flags, Reply, Spec};
use crate::metrics::{Calls, Counter, Metrics};
use crate::protocol::{Absence, ErrorReply};
use crate::server::Shared;
use crate::server::clients::{self, Client};
use crate::server::session::Session;
use crate::server::stretch::Found;
use crate::server::transaction::Queued;

/// Says how long a command took, if that is a threshold or more.
type Over<'a> = &'a dyn Fn(Duration) -> Option<Duration>;

/// Of a command that took so long.
pub(super) fn reached_by(took: Duration) -> impl Fn(Duration) -> Option<Duration> {
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
#[inline]
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
    #[inline]
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
        let calls = Calls { took, ..call };
        self.account().count_as(spec, request, calls);
    }

    /// The same for a command that was carried out just now as many times as there are `requests`.
    pub(in crate::server) fn count_run<'r, 'a: 'r>(
        &mut self,
        spec: &'static Spec,
        requests: impl Iterator<Item = &'r Found<'a>>,
        calls: Calls,
    ) {
        let calls = Calls {
            took: self.lap(),
            ..calls
        };
        let account = self.account();
        account.tally(&calls);
        if !self.shared.settings.is_noted(calls.took) {
            return;
        }
        for (index, request) in requests.enumerate() {
            let over = |threshold| over_in_run(&calls, index == 0, threshold);
            account.note_request(spec, &request.args, &over);
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

    /// Where what it did is counted.
    pub(in crate::server) fn account(&self) -> Account<'_> {
        Account {
            shared: &self.shared,
            client: &self.client,
        }
    }
}

/// Where the commands of a client are counted.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Account<'a> {
    pub(in crate::server) shared: &'a Shared,
    pub(in crate::server) client: &'a Client,
}

impl Account<'_> {
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

    pub(super) fn tally(&self, calls: &Calls) {
        self.shared.console.metrics.executed(calls);
        self.client.activity.answered(calls.count);
    }

    /// Notes a command that took long, wherever its time is over the threshold.
    #[cold]
    pub(super) fn note(&self, spec: &Spec, over: Over<'_>, words: Vec<Vec<u8>>) {
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

    /// Counts bytes that were written to the client.
    pub(in crate::server) fn count_write(&self, len: usize) {
        let counted = [(Counter::Writes, 1), (Counter::OutputBytes, len as u64)];
        self.shared.console.metrics.add_all(counted);
        clients::add(&self.client.activity.output, len as u64);
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
        let metrics = &self.shared.console.metrics;
        for (queued, reply) in commands.iter().zip(replies) {
            let request = queued.request();
            let command = (queued.spec(), catalogue::number_of(queued.spec()));
            let mut call = outcome(metrics, command, request.len(), reply);
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
