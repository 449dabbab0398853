//! SLOWLOG: the commands that took longest, with what they were asked.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use super::{refuse, text};
use crate::command::{Reply, SlowLogCommand, count, integer};
use crate::server::session::Session;

/// Words of a request that an entry keeps.
pub(super) const MAX_WORDS: usize = 32;

/// Bytes of a word that it keeps.
pub(super) const MAX_WORD: usize = 128;

/// Entries that GET tells unless it is asked for more or fewer.
const TOLD: usize = 10;

/// No more entries are kept, whatever is asked for: their memory has a bound.
const MAX_ENTRIES: u64 = 1 << 20;

/// The log of slow commands.
#[derive(Debug, Default)]
pub(in crate::server) struct SlowLog {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    next_id: u64,
    /// The latest first.
    kept: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    /// In seconds since 1970.
    at: u64,
    took: Duration,
    words: Vec<Vec<u8>>,
    addr: String,
    name: Vec<u8>,
}

impl SlowLog {
    /// Adds an entry, and drops those beyond the `limit` latest.
    pub(super) fn push(
        &self,
        limit: u64,
        (at, took): (u64, Duration),
        words: Vec<Vec<u8>>,
        (addr, name): (String, Vec<u8>),
    ) {
        let mut entries = self.entries.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        let entry = Entry {
            id,
            at,
            took,
            words,
            addr,
            name,
        };
        entries.kept.push_front(entry);
        let limit = usize::try_from(limit.min(MAX_ENTRIES)).unwrap_or(usize::MAX);
        entries.kept.truncate(limit);
    }

    fn len(&self) -> usize {
        self.entries.lock().kept.len()
    }

    fn latest(&self, count: usize) -> Reply {
        let entries = self.entries.lock();
        let latest = entries.kept.iter().take(count);
        Reply::Array(latest.map(Entry::tell).collect())
    }
}

impl Entry {
    fn tell(&self) -> Reply {
        let number = |number: u128| Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let words = self.words.iter().cloned().map(Reply::Bytes);
        Reply::Array(vec![
            number(self.id.into()),
            number(self.at.into()),
            number(self.took.as_micros()),
            Reply::Array(words.collect()),
            text(self.addr.clone()),
            Reply::Bytes(self.name.clone()),
        ])
    }
}

/// The words of a request as an entry keeps them. Each comes with its length, and may itself be
/// cut to [`MAX_WORD`] already; `total` is how many there are, of which only the first
/// [`MAX_WORDS`] have to come.
pub(super) fn shorten<'a>(
    words: impl Iterator<Item = (&'a [u8], usize)>,
    total: usize,
) -> Vec<Vec<u8>> {
    let kept = total.min(MAX_WORDS);
    let shorten = |(index, (word, len)): (usize, (&[u8], usize))| {
        if kept < total && index + 1 == kept {
            return format!("... ({} more arguments)", total - kept + 1).into_bytes();
        }
        let shown = word.get(..word.len().min(MAX_WORD)).unwrap_or_default();
        let mut shown = shown.to_vec();
        if len > shown.len() {
            let more = format!("... ({} more bytes)", len - shown.len());
            shown.extend_from_slice(more.as_bytes());
        }
        shown
    };
    words.take(kept).enumerate().map(shorten).collect()
}

impl Session {
    pub(super) fn slow_log(&mut self, command: SlowLogCommand, args: &[&[u8]]) -> Reply {
        let log = &self.shared.console.slow_log;
        match command {
            SlowLogCommand::Get => match args.first().map(|arg| integer(arg)) {
                _ if args.len() > 1 => super::no_such_part("GET", "SLOWLOG"),
                None => log.latest(TOLD),
                Some(Ok(-1)) => log.latest(usize::MAX),
                Some(Ok(wanted @ 0..)) => log.latest(usize::try_from(wanted).unwrap_or(usize::MAX)),
                Some(_) => refuse("ERR count should be greater than or equal to -1"),
            },
            SlowLogCommand::Len => count(log.len()),
            SlowLogCommand::Reset => {
                log.entries.lock().kept.clear();
                Reply::Ok
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortened(words: &[&[u8]]) -> Vec<String> {
        let shown = shorten(words.iter().map(|word| (*word, word.len())), words.len());
        let shown = shown
            .into_iter()
            .map(|word| String::from_utf8(word).unwrap());
        shown.collect()
    }

    #[test]
    fn what_is_long_is_cut_as_valkey_cuts_it() {
        let word = [b'x'; MAX_WORD + 1];
        assert_eq!(shortened(&[b"GET", &word[1..]])[1], "x".repeat(MAX_WORD));
        let cut = format!("{}... (1 more bytes)", "x".repeat(MAX_WORD));
        assert_eq!(shortened(&[b"GET", &word])[1], cut);
        let all = shortened(&[&b"k"[..]; MAX_WORDS]);
        assert!(all.len() == MAX_WORDS && all.iter().all(|word| word == "k"));
        let cut = shortened(&[&b"k"[..]; MAX_WORDS + 1]);
        assert_eq!(
            (cut.len(), &*cut[MAX_WORDS - 1]),
            (MAX_WORDS, "... (2 more arguments)")
        );
    }

    #[test]
    fn the_latest_entries_are_kept_and_no_number_is_given_twice() {
        let log = SlowLog::default();
        let push = |limit| {
            let took = Duration::from_micros(7);
            log.push(limit, (5, took), Vec::new(), (String::new(), Vec::new()));
        };
        (0..5).for_each(|_| push(3));
        assert_eq!(log.len(), 3);
        let ids = |log: &SlowLog| {
            let entries = log.entries.lock();
            entries
                .kept
                .iter()
                .map(|entry| entry.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&log), [4, 3, 2]);
        push(1);
        assert_eq!(ids(&log), [5]);
        push(0);
        assert_eq!(log.len(), 0);
    }
}
