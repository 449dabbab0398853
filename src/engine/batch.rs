//! Batches: what a connection submits, and what it gets back.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::execution::Stopwatch;
use super::steps::{Step, Steps};
use crate::command::{Operation, ReadFn, Reply, Sees, View};
use crate::spares::{Spare, Spares};
use crate::wal::frame;

/// A part of a pipeline, in order: what is written, and what must come after it.
#[derive(Debug, Default)]
pub struct Batch {
    /// Nothing before there is a step, or room for one. It goes to the log, from there to the applier, and
    /// back.
    pub(super) contents: Option<Box<Contents>>,
    /// How long before it was read its client had been told of its last batch, if it had one.
    pub away: Option<Duration>,
}

/// What a batch consists of, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) operations: Vec<u8>,
    pub(super) count: u32,
    /// Whether any of the operations does anything but remove keys.
    pub(super) adds: bool,
    /// Whether one of them removes all.
    pub(super) clears: bool,
    pub(super) steps: Steps,
    pub(super) outcome: Outcome,
}

/// What the steps that were carried out came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The reply of each. Most batches have one step.
    pub(super) replies: SmallVec<[Reply; 1]>,
    /// How long each took.
    pub(super) laps: SmallVec<[Duration; 1]>,
}

thread_local! {
    static SPARES: Spares<Contents> = const { Spares::new() };
}

/// Bytes that a batch may hold when nothing is in it: a pipeline of small requests needs no more.
const LITTLE: usize = 4 << 10;

impl Spare for Contents {
    fn empty(&mut self) -> bool {
        let asked = self.forget_what_was_asked();
        let Outcome { replies, laps } = &mut self.outcome;
        replies.clear();
        laps.clear();
        let held = asked
            + replies.capacity() * size_of::<Reply>()
            + laps.capacity() * size_of::<Duration>();
        held <= LITTLE
    }
}

/// The commands of a transaction, in order.
#[derive(Debug, Default)]
pub struct Transaction {
    steps: Steps,
    operations: Vec<Vec<u8>>,
}

impl Transaction {
    /// Adds a change.
    pub fn write(&mut self, operation: &Operation<'_>) {
        let mut bytes = Vec::new();
        operation.encode(&mut bytes);
        self.operations.push(bytes);
        self.steps.write();
    }

    /// Adds a read of what the commands before it leave.
    pub fn read(&mut self, run: ReadFn, args: &[&[u8]], sees: Sees) {
        self.steps.read(run, args, sees.of_key());
    }

    /// Adds a reply that needs no store.
    pub fn ready(&mut self, reply: Reply) {
        self.steps.ready(reply);
    }

    /// Whether it changes nothing: then it need not go through the log.
    pub fn only_reads(&self) -> bool {
        self.operations.is_empty()
    }

    /// Carries out one that only reads; says how long each of its steps took, too.
    pub fn read_from(self, view: &View<'_>) -> (Reply, Vec<Duration>) {
        let mut laps = SmallVec::with_capacity(self.steps.len());
        let mut replies = Vec::with_capacity(self.steps.len());
        let mut steps = self.steps;
        let mut left = steps.left();
        let mut watch = Stopwatch::start(Instant::now(), &mut laps);
        while let Some(step) = left.next() {
            replies.push(match step {
                Step::Read { run, args, .. } => run(view, &left.args(args)),
                Step::Ready(reply) => reply,
                Step::Write | Step::Transaction(_) => Reply::Ok,
            });
            watch.lap();
        }
        (Reply::Array(replies), laps.into_vec())
    }
}

impl Batch {
    fn contents(&mut self) -> &mut Contents {
        self.contents
            .get_or_insert_with(|| SPARES.with(Spares::take))
    }

    /// Makes room for so many steps that come to so many bytes.
    pub fn reserve(&mut self, steps: usize, bytes: usize) {
        let contents = self.contents();
        contents.operations.reserve(bytes);
        contents.steps.reserve(steps);
    }

    /// Adds a change.
    pub fn write(&mut self, operation: &Operation<'_>) {
        let contents = self.contents();
        contents.push(operation);
        contents.steps.write();
    }

    /// Adds a transaction, to be carried out if none of `watched` was changed behind `base`, and
    /// each is there or not as it was when it began to be watched.
    pub fn transaction(
        &mut self,
        transaction: Transaction,
        base: u64,
        watched: Vec<(&[u8], bool)>,
    ) {
        let operation = Operation::Exec {
            base,
            watched,
            operations: transaction.operations.iter().map(Vec::as_slice).collect(),
        };
        let contents = self.contents();
        contents.push(&operation);
        contents.steps.transaction(transaction.steps);
    }

    /// Adds a read of what the steps before it leave.
    pub fn read(&mut self, run: ReadFn, args: &[&[u8]], sees: Sees) {
        self.contents().steps.read(run, args, sees.of_key());
    }

    /// Adds a reply that needs no store, in its place among the others.
    pub fn ready(&mut self, reply: Reply) {
        self.contents().steps.ready(reply);
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        let contents = self.contents.as_ref();
        contents.map_or(0, |contents| contents.steps.len())
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much it counts among what waits for the log.
    pub fn cost(&self) -> usize {
        let contents = self.contents.as_ref();
        contents.map_or(0, |contents| {
            contents.operations.len() + contents.steps.cost()
        })
    }
}

impl Contents {
    /// Only its outcome is left, so that nothing large is held for a client that is slow to take its
    /// replies. Says how many bytes are kept for what is asked next.
    fn forget_what_was_asked(&mut self) -> usize {
        (self.count, self.adds, self.clears) = (0, false, false);
        self.operations.clear();
        let held = self.operations.capacity() + self.steps.empty();
        if held > LITTLE {
            self.operations = Vec::new();
            self.steps = Steps::default();
            return 0;
        }
        held
    }

    fn push(&mut self, operation: &Operation<'_>) {
        frame::push_operation(&mut self.operations, |out| operation.encode(out));
        self.count += 1;
        self.adds |= !operation.only_removes();
        self.clears |= matches!(operation, Operation::FlushAll {});
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Applied {
    /// Nothing of an empty batch.
    contents: Option<Box<Contents>>,
}

impl Applied {
    pub(super) fn new(mut contents: Box<Contents>) -> Self {
        contents.forget_what_was_asked();
        let contents = Some(contents);
        Self { contents }
    }

    /// The same reply for each of so many steps, none of which was carried out.
    pub fn refused(reply: &Reply, steps: usize) -> Self {
        let mut contents = SPARES.with(Spares::take);
        contents.outcome.replies.resize(steps, reply.clone());
        Self::new(contents)
    }

    /// The reply of each step.
    pub fn replies(&self) -> &[Reply] {
        let contents = self.contents.as_ref();
        contents.map_or(&[], |contents| &contents.outcome.replies)
    }

    /// Takes the reply of the step of this number, if there is one: each can be taken once.
    pub fn take_reply(&mut self, step: usize) -> Option<Reply> {
        let contents = self.contents.as_mut()?;
        let reply = contents.outcome.replies.get_mut(step)?;
        Some(std::mem::replace(reply, Reply::Ok))
    }

    /// All replies.
    pub fn into_replies(mut self) -> Vec<Reply> {
        let contents = self.contents.as_mut();
        contents.map_or_else(Vec::new, |contents| {
            std::mem::take(&mut contents.outcome.replies).into_vec()
        })
    }

    /// The times, which many steps may have made many, are not needed any more.
    pub fn forget_laps(&mut self) {
        if let Some(contents) = &mut self.contents {
            let laps = &mut contents.outcome.laps;
            laps.clear();
            if laps.spilled() && laps.capacity() * size_of::<Duration>() > LITTLE {
                *laps = SmallVec::new();
            }
        }
    }

    /// How long each step took; before a transaction's own time, if it was carried out, stand those
    /// of its steps. None, if nothing was carried out.
    pub fn laps(&self) -> &[Duration] {
        let contents = self.contents.as_ref();
        contents.map_or(&[], |contents| &contents.outcome.laps)
    }
}

impl Drop for Applied {
    fn drop(&mut self) {
        if let Some(contents) = self.contents.take() {
            // A thread that ends has no spares any more.
            let _ = SPARES.try_with(|spares| spares.give_back(contents));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(value: &[u8]) -> Batch {
        let mut batch = Batch::default();
        batch.write(&Operation::Set {
            key: b"k",
            value: value.into(),
        });
        batch
    }

    fn place(batch: &Batch) -> *const Contents {
        &raw const **batch.contents.as_ref().unwrap()
    }

    /// Ends a batch as if it had been carried out.
    fn end(batch: Batch) -> Applied {
        let mut contents = batch.contents.unwrap();
        let steps = contents.steps.len();
        contents.outcome.replies.resize(steps, Reply::Pong);
        contents.outcome.laps.resize(steps, Duration::ZERO);
        Applied::new(contents)
    }

    #[test]
    fn a_batch_whose_memory_is_used_again_holds_nothing_of_the_one_before() {
        let mut batch = set(b"v");
        batch.read(|_, _| Reply::Ok, &[b"a", b"b"], Sees::Keys);
        batch.ready(Reply::Bytes(vec![0; 100]));
        batch.write(&Operation::FlushAll {});
        let before = place(&batch);
        drop(end(batch));

        let del = Operation::Del {
            key: b"k".as_slice().into(),
        };
        let mut batch = Batch::default();
        batch.write(&del);
        assert_eq!(place(&batch), before, "its memory is used again");
        let mut fresh = Contents::default();
        fresh.push(&del);
        fresh.steps.write();
        let contents = batch.contents.as_ref().unwrap();
        assert_eq!(format!("{contents:?}"), format!("{:?}", Box::new(fresh)));
        assert_eq!(end(batch).replies(), [Reply::Pong]);
    }

    #[test]
    fn what_was_asked_for_is_let_go_before_the_replies_are_taken_and_what_is_large_not_kept() {
        let large = set(&vec![b'v'; 1 << 20]);
        assert!(large.cost() > 1 << 20);
        let place_of_large = place(&large);
        let mut applied = end(large);
        let contents = applied.contents.as_ref().unwrap();
        assert!(contents.operations.capacity() == 0 && contents.steps.len() == 0);
        assert_eq!(applied.take_reply(0), Some(Reply::Pong));
        assert_eq!(applied.take_reply(1), None);
        // What is left is small, and may serve again.
        drop(applied);
        assert_eq!(place(&set(b"v")), place_of_large);

        let mut many = Batch::default();
        for _ in 0..LITTLE {
            many.ready(Reply::Ok);
        }
        drop(end(many));
        let next = set(b"v").contents.unwrap();
        assert!(next.outcome.replies.capacity() < LITTLE);
    }
}
