//! Whether a part of a history is linearizable; and if not, the smallest piece of it that shows
//! it.
//!
//! The search is todc-utils' `WGLChecker`: Wing and Gong's algorithm with Lowe's memory of the
//! states it has been in, so that it ends soon on a history that breaks the rule, too: a hundred
//! operations of eight clients are refused in milliseconds, where a search without that memory
//! (stateright's, for one) does not end.
//!
//! It wants a reply to every call: an operation whose outcome nobody knows gets one that allows
//! anything, behind everything else. Its effect may then lie anywhere behind its invocation, or
//! behind the part's last read, which is as good as never.
//!
//! What one client sends in a pipeline overlaps in time, but is done in the order in which it was
//! sent. Calls and replies cannot say that: the specification counts each client's operations,
//! and allows the next one only.
//!
//! That last read also closes the part: what was in flight when the server was killed took
//! effect by then, or never. (The literature's name for this is *strict* linearizability.)

use std::collections::BTreeMap;
use std::fmt;

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use super::model::{Form, Operation, Outcome, Slot, State};

/// How many operations of a failed part are shown: the last ones.
const SHOWN: usize = 60;

/// An operation as its client saw it. Times are nanoseconds since the run began.
#[derive(Clone, Debug)]
pub struct Entry {
    pub client: usize,
    pub operation: Operation,
    pub invoked: u64,
    /// When the reply came, and what it said; none if the connection died first.
    pub reply: Option<(u64, Vec<Outcome>)>,
}

/// What was done to one pair of keys between two moments at which nothing was in flight.
#[derive(Clone, Debug)]
pub struct Part {
    /// The names of the two keys.
    pub keys: [String; 2],
    /// What they held at the first of these moments.
    pub before: State,
    /// Each client's in the order in which it sent them; the read of the second moment is among
    /// them.
    pub entries: Vec<Entry>,
}

impl Part {
    /// `Err` has the smallest piece of the part that cannot be explained.
    pub fn check(&self) -> Result<(), Violation> {
        if self.is_linearizable() {
            return Ok(());
        }
        let one_key = |slot| Some(self.on_one_key(slot)).filter(|part| !part.is_linearizable());
        let part = one_key(0)
            .or_else(|| one_key(1))
            .unwrap_or_else(|| self.clone());
        Err(Violation(
            part.shortest_failing_prefix().without_needless_reads(),
        ))
    }

    /// Looks at each key alone first: that is quickly done, and enough where nothing binds the
    /// two together.
    pub fn is_linearizable(&self) -> bool {
        let alone = (0..2).all(|slot| self.on_one_key(slot).has_an_order());
        alone && (!self.binds_its_keys() || self.has_an_order())
    }

    /// Whether an operation is on both keys, or a client has sent one before it had the reply to
    /// the last: the order within a pipeline is not local to a key.
    fn binds_its_keys(&self) -> bool {
        let on_both = |entry: &Entry| {
            let slots = entry.operation.steps.windows(2);
            slots.into_iter().any(|two| two[0].0 != two[1].0)
        };
        let mut last_of = BTreeMap::new();
        self.entries.iter().any(|entry| {
            let returned = entry.reply.as_ref().map_or(u64::MAX, |(at, _)| *at);
            let last = last_of.insert(entry.client, returned);
            on_both(entry) || last.is_some_and(|last| last >= entry.invoked)
        })
    }

    fn has_an_order(&self) -> bool {
        // The part's beginning, then every call and every reply by its time. Of two at the same
        // instant the call goes first: that calls the two concurrent, and accuses nobody.
        let mut events: Vec<(u64, bool, usize)> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            events.push((entry.invoked, false, index));
            let returned = entry.reply.as_ref().map_or(u64::MAX, |(at, _)| *at);
            events.push((returned, true, index));
        }
        events.sort_unstable();
        let clients = self.entries.iter().map(|entry| entry.client + 1).max();
        let mut sent = vec![0; clients.unwrap_or(0)];
        let begin = Claim::Begins {
            pair: self.before.clone(),
            done: sent.clone(),
        };
        let mut actions = vec![
            (0, Action::Call(begin.clone())),
            (0, Action::Response(begin)),
        ];
        let claim = |entry: &Entry| {
            let number = &mut sent[entry.client];
            *number += 1;
            Claim::Did {
                client: entry.client,
                number: *number,
                operation: entry.operation.clone(),
                outcomes: entry.reply.as_ref().map(|(_, outcomes)| outcomes.clone()),
            }
        };
        let claims: Vec<Claim> = self.entries.iter().map(claim).collect();
        for (_, is_reply, index) in events {
            let claim = claims[index].clone();
            // A process of its own for each: pipelined operations overlap on one connection.
            actions.push(match is_reply {
                false => (index + 1, Action::Call(claim)),
                true => (index + 1, Action::Response(claim)),
            });
        }
        WGLChecker::<Pair>::is_linearizable(History::from_actions(actions))
    }

    /// What was done to one key alone. If that cannot be explained, nor can the whole.
    fn on_one_key(&self, slot: Slot) -> Self {
        let mut part = self.clone();
        for Entry {
            operation, reply, ..
        } in &mut part.entries
        {
            if let Some((_, outcomes)) = reply {
                let mut steps = operation.steps.iter();
                outcomes.retain(|_| steps.next().is_some_and(|(of, _)| *of == slot));
            }
            operation.steps.retain(|(of, _)| *of == slot);
        }
        part.entries
            .retain(|entry| !entry.operation.steps.is_empty());
        part
    }

    /// What was known when the reply came that first could not be explained. Every piece up to
    /// some moment of a linearizable history is linearizable, so there is one such reply.
    fn shortest_failing_prefix(&self) -> Self {
        let replies = self.entries.iter().filter_map(|entry| entry.reply.as_ref());
        let mut times: Vec<u64> = replies.map(|(at, _)| *at).collect();
        times.sort_unstable();
        let first = times.partition_point(|&at| self.up_to(at).is_linearizable());
        times
            .get(first)
            .map_or_else(|| self.clone(), |&at| self.up_to(at))
    }

    /// The part as it was known at a moment: later replies had not come, later calls not begun.
    fn up_to(&self, moment: u64) -> Self {
        let mut part = self.clone();
        part.entries.retain(|entry| entry.invoked <= moment);
        for entry in &mut part.entries {
            entry.reply.take_if(|(at, _)| *at > moment);
        }
        part
    }

    /// Leaves out what changes no state, as long as the rest still cannot be explained.
    fn without_needless_reads(mut self) -> Self {
        for index in (0..self.entries.len()).rev() {
            if self.entries[index].operation.only_reads() {
                let read = self.entries.remove(index);
                if self.is_linearizable() {
                    self.entries.insert(index, read);
                }
            }
        }
        self
    }
}

/// A piece of a history that no order of its operations explains.
#[derive(Debug)]
pub struct Violation(pub Part);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Part {
            keys,
            before,
            entries,
        } = &self.0;
        let mut entries: Vec<&Entry> = entries.iter().collect();
        entries.sort_by_key(|entry| entry.invoked);
        let begun = entries.first().map_or(0, |entry| entry.invoked);
        let micros = |at: u64| at.saturating_sub(begun) as f64 / 1_000.0;
        let last_reply = entries
            .iter()
            .filter_map(|e| e.reply.as_ref().map(|(at, _)| *at))
            .max();

        writeln!(
            f,
            "not linearizable: no order of these operations explains the reply marked *."
        )?;
        let seen = |slot| {
            entries
                .iter()
                .any(|e| e.operation.steps.iter().any(|(of, _)| *of == slot))
        };
        for (slot, (key, value)) in keys.iter().zip(before).enumerate() {
            match value {
                _ if !seen(slot) => writeln!(f, "  {key}'s part is left out: it does not matter")?,
                Some(value) => writeln!(f, "  {key} was {value:?}")?,
                None => writeln!(f, "  {key} was absent")?,
            }
        }
        let left_out = entries.len().saturating_sub(SHOWN);
        if left_out > 0 {
            writeln!(f, "  ({left_out} earlier operations are left out)")?;
        }
        writeln!(f, "    client  invoked, us  replied, us")?;
        for entry in entries.into_iter().skip(left_out) {
            let marked = entry
                .reply
                .as_ref()
                .is_some_and(|(at, _)| Some(*at) == last_reply);
            let mark = if marked { '*' } else { ' ' };
            let client = entry.client;
            write!(f, "  {mark} {client:>6}  {:>11.1}", micros(entry.invoked))?;
            let request = request(&entry.operation, keys);
            match &entry.reply {
                Some((at, outcomes)) => {
                    let told: Vec<String> = outcomes.iter().map(Outcome::to_string).collect();
                    writeln!(
                        f,
                        "  {:>11.1}  {request} -> {}",
                        micros(*at),
                        told.join(", ")
                    )?;
                }
                None => writeln!(f, "  {:>11}  {request}", "no reply")?,
            }
        }
        Ok(())
    }
}

fn request(operation: &Operation, keys: &[String; 2]) -> String {
    let commands = super::wire::commands(operation, keys);
    let commands: Vec<String> = commands.iter().map(|words| words.join(" ")).collect();
    match operation.form {
        Form::Exec => commands.join("; "),
        Form::Single | Form::MGet | Form::MSet => commands.concat(),
    }
}

/// What the search is told about a call: the beginning, or an operation and what it answered.
#[derive(Clone, Debug)]
enum Claim {
    Begins {
        pair: State,
        done: Vec<usize>,
    },
    Did {
        client: usize,
        /// Which of its client's operations it is, from 1.
        number: usize,
        operation: Operation,
        outcomes: Option<Vec<Outcome>>,
    },
}

/// What the keys hold, and how many operations of each client have been done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Progress {
    pair: State,
    done: Vec<usize>,
}

struct Pair;

impl Specification for Pair {
    type State = Progress;
    type Operation = Claim;

    fn init() -> Progress {
        Progress::default()
    }

    fn apply(claim: &Claim, before: &Progress) -> (bool, Progress) {
        match claim {
            Claim::Begins { pair, done } => {
                let (pair, done) = (pair.clone(), done.clone());
                (true, Progress { pair, done })
            }
            Claim::Did {
                client,
                number,
                operation,
                outcomes,
            } => {
                let (allowed, pair) = operation.apply(&before.pair, outcomes.as_deref());
                let mut done = before.done.clone();
                done[*client] += 1;
                (allowed && done[*client] == *number, Progress { pair, done })
            }
        }
    }
}
