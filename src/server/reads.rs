//! Reads of one key that were found one behind the other, answered in one go.
//!
//! A pipeline mostly asks for the same again: GET after GET. What depends on the client alone is looked at once
//! for all of them: whether it may ask, whether it is in a transaction or a pause, who wants to be shown what
//! it asks. And those of one command are counted together: a clock is looked at behind the last of them, and each is
//! said to have taken as long as the others. To look at it behind each would tell little more, since what they
//! look at was fetched from memory for all of them, on the time of the first.

use super::session::{Replies, Session};
use super::stretch::Found;
use crate::command::{Flags, Keys, ReadFn, Run, Sees, Spec};
use crate::metrics::Calls;
use crate::protocol;

/// What answers a request, if it is a read of one key that never takes long: one that may have any number of
/// words, as BITFIELD_RO may, can take as long as they are many.
fn quick_read(request: &Found<'_>) -> Option<(&'static Spec, ReadFn)> {
    let spec = request.named?;
    let Run::Read(read) = spec.run else {
        return None;
    };
    let quick = spec.flags.has(Flags::READONLY.and(Flags::FAST)) && spec.arity > 0;
    let one_key = quick && spec.keys == Keys::FIRST;
    let whole = spec.allows_in(request.dialect, request.args.len());
    (one_key && whole).then_some((spec, read))
}

impl Session {
    /// Answers the reads of one key that `requests` begin with, until there are `enough` bytes of replies. Says
    /// how many it has answered: none where there is more to do than to look up and to answer, or just one
    /// request, where nothing would be spared.
    pub(super) fn answer_reads(&mut self, requests: &[Found<'_>], enough: usize) -> usize {
        let mut answered = 0;
        if requests.len() == 1 {
            return answered;
        }
        while self.out.len() < enough
            && let Some(rest) = requests.get(answered..)
            && let Some((spec, read)) = rest.first().and_then(quick_read)
            && self.only_answers()
        {
            answered += self.answer_run(spec, read, rest, enough);
        }
        answered
    }

    /// Answers those that `requests` begin with and that are `spec`, as the first is, until there are `enough`
    /// bytes of replies. Says how many these are.
    fn answer_run(
        &mut self,
        spec: &'static Spec,
        read: ReadFn,
        requests: &[Found<'_>],
        enough: usize,
    ) -> usize {
        self.note_asked(spec);
        let mut calls = Calls::default();
        let mut answered = 0;
        let same = |request: &&Found<'_>| {
            quick_read(request).is_some_and(|(own, _)| std::ptr::eq(own, spec))
        };
        for request in requests.iter().take_while(same) {
            if self.out.len() >= enough {
                break;
            }
            let args = request.args.get(1..).unwrap_or_default();
            let reply = self.shared.engine.read(read, args, Sees::Key);
            calls = calls.and(self.outcome(spec, request.args.len(), &reply));
            protocol::encode(reply, request.dialect, &mut self.out);
            answered += 1;
        }
        self.count_run(spec, requests.get(..answered).unwrap_or_default(), calls);
        answered
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
