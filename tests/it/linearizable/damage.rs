//! The check, checked: it refuses every history that was damaged so that it cannot be explained
//! any more, and on short ones it says what trying every order says.

use super::check::{Entry, Part};
use super::load::{self, Load};
use super::model::{Form, Operation, Outcome, Slot, State, Step, Value};
use super::random::Random;
use super::stand_in::{Flaw, StandIn};

/// A value that a GET was answered with, and where.
struct Read {
    entry: usize,
    step: usize,
    slot: Slot,
    value: Value,
    invoked: u64,
    returned: u64,
}

/// A way to damage a part: every damaged copy it can make, each of which nothing explains.
type Damage = fn(&Part) -> Vec<Part>;

#[test]
fn every_damaged_history_is_refused() {
    let damages: [(&str, Damage); 6] = [
        ("a value that nobody wrote is read", read_from_nowhere),
        ("an acknowledged write is gone", dropped_write),
        ("a value is read again after its successor", stale_read),
        ("two reads are swapped", swapped_reads),
        ("two INCRs answer the same", repeated_increment),
        ("SET NX names the wrong winner", wrong_winner),
    ];
    let seed = super::seed();
    let parts = parts(seed);
    for (name, damage) in damages {
        let mut damaged: Vec<Part> = parts.iter().flat_map(damage).collect();
        assert!(
            damaged.len() >= 10,
            "seed {seed}: {name}: only {} times",
            damaged.len()
        );
        let every = damaged.len().div_ceil(40);
        damaged = damaged.into_iter().step_by(every).collect();
        for part in damaged {
            let accepted = part.is_linearizable();
            assert!(
                !accepted,
                "seed {seed}: {name}, and it was accepted: {part:#?}"
            );
        }
    }
}

/// The parts of a right server's history.
fn parts(seed: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let load = Load {
        ends: 6,
        ..super::stand_in_load(seed)
    };
    let keep = |part| {
        parts.push(part);
        Ok(())
    };
    load::run(&StandIn::new(Flaw::None, load.pairs), &load, keep).unwrap();
    parts
}

fn read_from_nowhere(part: &Part) -> Vec<Part> {
    let reads = reads(part);
    reads
        .iter()
        .map(|read| part.with(read, "never written".into()))
        .collect()
}

/// Takes a SET out whose value somebody read.
fn dropped_write(part: &Part) -> Vec<Part> {
    let reads = reads(part);
    let was_read = |value: &Value| reads.iter().any(|read| read.value == *value);
    let without = |index: usize| {
        let mut part = part.clone();
        part.entries.remove(index);
        part
    };
    let written = |entry: &Entry| match &entry.operation.steps[..] {
        [(_, Step::Set(value))] => was_read(value),
        _ => false,
    };
    let indexes = 0..part.entries.len();
    indexes
        .filter(|&index| written(&part.entries[index]))
        .map(without)
        .collect()
}

/// Lets a read see what an earlier read saw, though another in between saw something else.
fn stale_read(part: &Part) -> Vec<Part> {
    let reads = reads(part);
    let mut damaged = Vec::new();
    for (old, new, last) in triples(&reads) {
        if old.value != new.value && last.value != old.value {
            damaged.push(part.with(last, old.value.clone()));
        }
    }
    damaged
}

/// Swaps what two reads saw, where the later value was not yet on its way at the first.
fn swapped_reads(part: &Part) -> Vec<Part> {
    let reads = reads(part);
    let written_after = |value: &Value, moment| {
        part.entries.iter().any(|entry| {
            let sets = |(_, step): &(Slot, Step)| *step == Step::Set(value.clone());
            entry.operation.steps.iter().any(sets) && entry.invoked > moment
        })
    };
    let mut damaged = Vec::new();
    for first in &reads {
        for second in reads.iter().filter(|second| second.slot == first.slot) {
            if second.value != first.value && written_after(&second.value, first.returned) {
                let swapped = part.with(first, second.value.clone());
                damaged.push(swapped.with(second, first.value.clone()));
            }
        }
    }
    damaged
}

/// Lets an INCR answer what another INCR of the same key answered.
fn repeated_increment(part: &Part) -> Vec<Part> {
    let increments = part
        .entries
        .iter()
        .enumerate()
        .filter_map(
            |(index, entry)| match (&entry.operation.steps[..], &entry.reply) {
                ([(slot, Step::Incr)], Some((_, told))) => match told[..] {
                    [Outcome::Integer(number)] if number > 1_000 => Some((index, *slot, number)),
                    _ => None,
                },
                _ => None,
            },
        );
    let increments: Vec<(usize, Slot, i64)> = increments.collect();
    let mut damaged = Vec::new();
    for &(index, slot, number) in &increments {
        let others = increments
            .iter()
            .filter(|(_, of, other)| *of == slot && *other != number);
        for (_, _, other) in others {
            damaged.push(part.with_outcome(index, 0, Outcome::Integer(*other)));
        }
    }
    damaged
}

/// Lets a SET NX win while the same value was there before and behind it; and lets one lose whose
/// value was read.
fn wrong_winner(part: &Part) -> Vec<Part> {
    let reads = reads(part);
    let mut damaged = Vec::new();
    for (index, entry) in part.entries.iter().enumerate() {
        let ([(slot, Step::SetNx(value))], Some((returned, told))) =
            (&entry.operation.steps[..], &entry.reply)
        else {
            continue;
        };
        let before = |read: &Read| read.slot == *slot && read.returned < entry.invoked;
        let behind = |read: &Read| read.slot == *slot && read.invoked > *returned;
        let held = |value: &Value| {
            reads
                .iter()
                .any(|read| behind(read) && read.value == *value)
        };
        let was_there = reads.iter().any(|read| before(read) && held(&read.value));
        let was_read = reads.iter().any(|read| read.value == *value);
        match told[0] {
            Outcome::Nil if was_there => damaged.push(part.with_outcome(index, 0, Outcome::Done)),
            Outcome::Done if was_read => damaged.push(part.with_outcome(index, 0, Outcome::Nil)),
            _ => {}
        }
    }
    damaged
}

/// The reads that saw a value which a key holds once and never again: not the small numbers that
/// INCR makes of an absent key.
fn reads(part: &Part) -> Vec<Read> {
    let mut reads = Vec::new();
    for (index, entry) in part.entries.iter().enumerate() {
        let Some((returned, told)) = &entry.reply else {
            continue;
        };
        for (position, (slot, step)) in entry.operation.steps.iter().enumerate() {
            match (step, &told[position]) {
                (Step::Get, Outcome::Value(value)) if value.len() > 3 => reads.push(Read {
                    entry: index,
                    step: position,
                    slot: *slot,
                    value: value.clone(),
                    invoked: entry.invoked,
                    returned: *returned,
                }),
                _ => {}
            }
        }
    }
    reads
}

/// Three reads of one key, each begun when the one before it had ended.
fn triples(reads: &[Read]) -> impl Iterator<Item = (&Read, &Read, &Read)> {
    let follows = |a: &Read, b: &Read| a.slot == b.slot && a.returned < b.invoked;
    reads.iter().flat_map(move |first| {
        reads
            .iter()
            .filter(move |second| follows(first, second))
            .flat_map(move |second| {
                let thirds = reads.iter().filter(move |third| follows(second, third));
                thirds.map(move |third| (first, second, third))
            })
    })
}

impl Part {
    fn with(&self, read: &Read, value: Value) -> Self {
        self.with_outcome(read.entry, read.step, Outcome::Value(value))
    }

    fn with_outcome(&self, entry: usize, step: usize, outcome: Outcome) -> Self {
        let mut part = self.clone();
        let (_, told) = part.entries[entry].reply.as_mut().unwrap();
        told[step] = outcome;
        part
    }
}

#[test]
fn the_search_says_what_trying_every_order_says() {
    let seed = super::seed();
    let mut random = Random(seed);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..4_000 {
        let part = short_part(&mut random);
        let explained = some_order_explains(&part.before, &part.entries);
        let linearizable = part.is_linearizable();
        assert_eq!(
            linearizable, explained,
            "seed {seed}, round {round}: {part:#?}"
        );
        *(if explained {
            &mut accepted
        } else {
            &mut refused
        }) += 1;
    }
    assert!(
        accepted > 400 && refused > 400,
        "{accepted} accepted, {refused} refused"
    );
}

/// A few operations on one pair, each done somewhere between its call and its reply. Then some
/// replies are lost, and some say something else.
fn short_part(random: &mut Random) -> Part {
    let value = |random: &mut Random| -> Value { ["1", "2", "t"][random.below(3) as usize].into() };
    let before: State = [None, Some(value(random))];
    let len = 1 + random.below(6);
    let mut done: Vec<(u64, Entry)> = Vec::new();
    for _ in 0..len {
        let steps = (0..=random.below(2)).map(|_| {
            let step = match random.below(5) {
                0 => Step::Get,
                1 => Step::Set(value(random)),
                2 => Step::SetNx(value(random)),
                3 => Step::Incr,
                _ => Step::Del,
            };
            (random.below(2) as Slot, step)
        });
        let operation = Operation {
            form: Form::Exec,
            steps: steps.collect(),
        };
        let invoked = random.below(30);
        let took_effect = invoked + random.below(8);
        let reply = Some((took_effect + random.below(8), Vec::new()));
        done.push((
            took_effect,
            Entry {
                client: random.below(4) as usize,
                operation,
                invoked,
                reply,
            },
        ));
    }
    done.sort_by_key(|(took_effect, _)| *took_effect);
    let mut state = before.clone();
    for (_, entry) in &mut done {
        let steps = entry.operation.steps.iter();
        let told = steps
            .map(|(slot, step)| step.perform(&mut state[*slot]))
            .collect();
        entry.reply.as_mut().unwrap().1 = told;
        match random.below(8) {
            0 => entry.reply = None,
            1 => entry.reply.as_mut().unwrap().1[0] = other_outcome(random),
            _ => {}
        }
    }
    let mut entries: Vec<Entry> = done.into_iter().map(|(_, entry)| entry).collect();
    if random.below(4) == 0 {
        // What was sent in another order than it was done.
        entries.swap(0, len as usize - 1);
    }
    Part {
        keys: ["a".into(), "b".into()],
        before,
        entries,
    }
}

fn other_outcome(random: &mut Random) -> Outcome {
    match random.below(5) {
        0 => Outcome::Done,
        1 => Outcome::Nil,
        2 => Outcome::Value(random.below(3).to_string().into()),
        3 => Outcome::Integer(random.below(3) as i64),
        _ => Outcome::NotAnInteger,
    }
}

/// Tries every order in which nothing comes before what had ended when it began, nor before what
/// its own client had sent before it.
fn some_order_explains(state: &State, left: &[Entry]) -> bool {
    if left.iter().all(|entry| entry.reply.is_none()) {
        return true;
    }
    (0..left.len()).any(|index| {
        let next = &left[index];
        let ended = |entry: &Entry| matches!(&entry.reply, Some((at, _)) if *at < next.invoked);
        if left.iter().any(ended) || left[..index].iter().any(|e| e.client == next.client) {
            return false;
        }
        let told = next.reply.as_ref().map(|(_, told)| told.as_slice());
        let (allowed, after) = next.operation.apply(state, told);
        let rest = [&left[..index], &left[index + 1..]].concat();
        allowed && some_order_explains(&after, &rest)
    })
}
