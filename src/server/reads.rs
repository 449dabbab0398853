//! Reads of one key that were found one behind the other, answered in one go.
//!
//! A pipeline mostly asks for the same again: GET after GET. Their keys are looked up together, and what depends on
//! the client alone is looked at once for all of them: whether it may ask, whether it is in a transaction or a pause,
//! who wants to be shown what it asks. And those of one command are counted together: a clock is looked at behind the
//! last of them, and each is said to have taken as long as the others. To look at it behind each would tell little
//! more, since all of them waited for memory together, on the time of the first.

use smallvec::SmallVec;

use super::session::{Replies, Session};
use super::stretch::Found;
use crate::command::{Flags, Keys, ReadFn, Reply, Run, Sees, Spec};
use crate::metrics::Calls;
use crate::protocol;
use crate::store::{Each, Entry, WARM_AT_ONCE};

/// A read of one key that never takes long.
#[derive(Debug, Clone, Copy)]
struct QuickRead<'r, 'a> {
    request: &'r Found<'a>,
    spec: &'static Spec,
    run: ReadFn,
}

impl<'r, 'a> QuickRead<'r, 'a> {
    /// This request, if it is one: such as may have any number of words, as BITFIELD_RO may, can take as long as
    /// they are many.
    fn of(request: &'r Found<'a>) -> Option<Self> {
        let spec = request.named?;
        let Run::Read(run) = spec.run else {
            return None;
        };
        let quick = spec.flags.has(Flags::READONLY.and(Flags::FAST)) && spec.arity > 0;
        let one_key = quick && spec.keys == Keys::FIRST;
        let whole = spec.allows_in(request.dialect, request.args.len());
        (one_key && whole).then_some(Self { request, spec, run })
    }

    /// The key, and what stands behind it.
    fn args(&self) -> &'r [&'a [u8]] {
        self.request.args.get(1..).unwrap_or_default()
    }
}

impl Session {
    /// Answers the reads of one key that `requests` begin with, until there are `enough` bytes of replies. Says
    /// how many it has answered: none where there is more to do than to look up and to answer, or just one
    /// of them, where nothing would be spared.
    pub(super) fn answer_reads(&mut self, requests: &[Found<'_>], enough: usize) -> usize {
        let reads = requests.iter().map_while(QuickRead::of);
        let reads: SmallVec<[_; WARM_AT_ONCE]> = reads.collect();
        if reads.len() < 2 || !self.only_answers() {
            return 0;
        }
        let mut entries = self.look_up(&reads).into_iter();
        let mut answered = 0;
        while self.out.len() < enough
            && let Some(rest @ [first, ..]) = reads.get(answered..)
            && self.only_answers()
        {
            answered += self.answer_run(first.spec, rest, &mut entries, enough);
        }
        answered
    }

    /// The entries of their keys; none, if some operation is half applied: then each is looked up by itself.
    fn look_up(&self, reads: &[QuickRead<'_, '_>]) -> Each {
        let keys = reads.iter().filter_map(|read| read.args().first());
        let keys: SmallVec<[&[u8]; WARM_AT_ONCE]> = keys.copied().collect();
        self.shared.engine.look_up(&keys).unwrap_or_default()
    }

    /// Answers those that `reads` begin with and that are `spec`, as the first is, until there are `enough`
    /// bytes of replies. Says how many these are.
    fn answer_run(
        &mut self,
        spec: &'static Spec,
        reads: &[QuickRead<'_, '_>],
        entries: &mut impl Iterator<Item = Option<Entry>>,
        enough: usize,
    ) -> usize {
        self.note_asked(spec);
        let mut calls = Calls::default();
        let mut answered = 0;
        let same = |read: &&QuickRead<'_, '_>| std::ptr::eq(read.spec, spec);
        for read in reads.iter().take_while(same) {
            if self.out.len() >= enough {
                break;
            }
            let reply = self.reply_to(read, entries);
            let words = read.request.args.len();
            calls = calls.and(self.outcome(spec, words, &reply));
            protocol::encode(reply, read.request.dialect, &mut self.out);
            answered += 1;
        }
        let requests = reads.iter().take(answered).map(|read| read.request);
        self.count_run(spec, requests, calls);
        answered
    }

    /// The reply to the next of them, of the next of the entries. Where that is not enough the store is looked at
    /// again, and so it is for all behind it: none of them may see less than one before.
    fn reply_to(
        &self,
        read: &QuickRead<'_, '_>,
        entries: &mut impl Iterator<Item = Option<Entry>>,
    ) -> Reply {
        let engine = &self.shared.engine;
        let next = entries.next();
        let looked_up = next.and_then(|entry| engine.read_of(read.run, read.args(), entry));
        looked_up.unwrap_or_else(|| {
            entries.for_each(drop);
            engine.read(read.run, read.args(), Sees::Key)
        })
    }

    /// Whether a read is answered now, and nobody but its client is told of it. What others change about that
    /// while a run is answered holds for the next.
    fn only_answers(&self) -> bool {
        let (console, stop) = (&self.shared.console, &self.shared.stop);
        self.reads_at_once()
            && self.replies == Replies::On
            && console.monitors.is_empty()
            && (!console.pause.holds(false) || stop.has_begun())
            && self.shared.engine.load_progress().is_none()
    }
}
