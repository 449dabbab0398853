//! Batches: what a connection submits, and how its steps are carried out.

use std::time::{Duration, Instant};

use super::ahead::Ahead;
use super::steps::{Step, Steps, StepsLeft};
use crate::command::{Applier, Operation, ReadFn, Reply, Sees, View};
use crate::protocol::ErrorReply;
use crate::time::Timestamp;
use crate::wal::frame;
use crate::wal::writer::AppendError;

/// A part of a pipeline, in order: what is written, and what must come after it.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) operations: Vec<u8>,
    pub(super) count: u32,
    /// Whether any of the operations does anything but remove keys.
    pub(super) adds: bool,
    /// Whether one of them removes all.
    pub(super) clears: bool,
    pub(super) steps: Steps,
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
        let mut watch = Stopwatch::start(self.steps.len());
        let mut replies = Vec::with_capacity(self.steps.len());
        let mut left = self.steps.into_left();
        while let Some(step) = left.next() {
            replies.push(match step {
                Step::Read { run, args, .. } => run(view, &left.args(args)),
                Step::Ready(reply) => reply,
                Step::Write | Step::Transaction(_) => Reply::Ok,
            });
            watch.lap();
        }
        (Reply::Array(replies), watch.laps)
    }
}

impl Batch {
    /// Makes room for so many steps that come to so many bytes.
    pub fn reserve(&mut self, steps: usize, bytes: usize) {
        self.operations.reserve(bytes);
        self.steps.reserve(steps);
    }

    /// Adds a change.
    pub fn write(&mut self, operation: &Operation<'_>) {
        self.push(operation);
        self.steps.write();
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
        self.push(&operation);
        self.steps.transaction(transaction.steps);
    }

    fn push(&mut self, operation: &Operation<'_>) {
        frame::push_operation(&mut self.operations, |out| operation.encode(out));
        self.count += 1;
        self.adds |= !operation.only_removes();
        self.clears |= matches!(operation, Operation::FlushAll {});
    }

    /// Adds a read of what the steps before it leave.
    pub fn read(&mut self, run: ReadFn, args: &[&[u8]], sees: Sees) {
        self.steps.read(run, args, sees.of_key());
    }

    /// Adds a reply that needs no store, in its place among the others.
    pub fn ready(&mut self, reply: Reply) {
        self.steps.ready(reply);
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How much it counts among what waits for the log.
    pub fn cost(&self) -> usize {
        self.operations.len() + self.steps.cost()
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Applied {
    /// The reply of each step.
    pub replies: Vec<Reply>,
    /// How long each step took; before a transaction's own time, if it was carried out, stand those
    /// of its steps. None, if nothing was carried out.
    pub laps: Vec<Duration>,
}

/// Measures one step after the other: the end of one is the beginning of the next.
#[derive(Debug)]
struct Stopwatch {
    last: Instant,
    laps: Vec<Duration>,
}

impl Stopwatch {
    fn start(laps: usize) -> Self {
        Self {
            last: Instant::now(),
            laps: Vec::with_capacity(laps),
        }
    }

    fn lap(&mut self) {
        let now = Instant::now();
        self.laps.push(now.saturating_duration_since(self.last));
        self.last = now;
    }
}

/// Where a batch stands in the log, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The position of its first operation.
    pub(super) position: u64,
    /// The time of its frame.
    pub(super) time: Timestamp,
}

/// The steps of a batch whose operations are durable, being carried out.
pub(super) struct Batched<'a> {
    operations: frame::Operations<'a>,
    steps: StepsLeft,
    /// Of the next operation.
    place: Place,
    watch: Stopwatch,
    ahead: Ahead<'a>,
}

impl<'a> Batched<'a> {
    pub(super) fn new(operations: &'a [u8], steps: Steps, place: Place, ahead: Ahead<'a>) -> Self {
        Self {
            ahead,
            operations: frame::Operations::new(operations),
            watch: Stopwatch::start(steps.len()),
            steps: steps.into_left(),
            place,
        }
    }

    /// What has passed since the last step is not the next one's time.
    pub(super) fn resume(&mut self) {
        self.watch.last = Instant::now();
    }

    /// How long the steps took; and how far ahead was looked.
    pub(super) fn finish(self) -> (Vec<Duration>, Ahead<'a>) {
        (self.watch.laps, self.ahead)
    }

    /// Carries out the next step.
    pub(super) fn next(&mut self, applier: &mut Applier) -> Option<Reply> {
        if self.steps.is_empty() {
            return None;
        }
        let ahead = &mut self.ahead;
        ahead.step(
            || self.steps.keys(self.operations.clone()),
            applier.view().store(),
        );
        let reply = match self.steps.next()? {
            Step::Write => {
                let operation = self.operation();
                let position = self.advance();
                applier.apply(&operation, position, self.place.time)
            }
            Step::Transaction(steps) => {
                let operation = self.operation();
                let position = self.advance();
                let begun = self.watch.last;
                let watch = &mut self.watch;
                let reply = applier.at_once(position, self.place.time, |applier| {
                    execute(applier, &operation, steps, watch)
                });
                self.watch.last = begun;
                reply
            }
            Step::Read { run, args, .. } => run(&applier.view(), &self.steps.args(args)),
            Step::Ready(reply) => reply,
        };
        self.watch.lap();
        Some(reply)
    }

    fn operation(&mut self) -> Operation<'a> {
        decoded(self.operations.next().unwrap_or_default())
    }

    fn advance(&mut self) -> u64 {
        let position = self.place.position;
        self.place.position += 1;
        position
    }
}

/// Carries out a transaction, its reads in their place between its writes.
fn execute(
    applier: &mut Applier,
    operation: &Operation<'_>,
    steps: Steps,
    watch: &mut Stopwatch,
) -> Reply {
    let Operation::Exec {
        base,
        watched,
        operations,
    } = operation
    else {
        return Reply::Aborted;
    };
    if !applier.may_execute(*base, watched) {
        return Reply::Aborted;
    }
    let mut operations = operations.iter();
    let mut replies = Vec::with_capacity(steps.len());
    let mut left = steps.into_left();
    while let Some(step) = left.next() {
        replies.push(match step {
            Step::Write => {
                let bytes = operations.next().copied().unwrap_or_default();
                applier.carry_out(&decoded(bytes))
            }
            Step::Read { run, args, .. } => run(&applier.view(), &left.args(args)),
            Step::Ready(reply) => reply,
            Step::Transaction(_) => Reply::Aborted,
        });
        watch.lap();
    }
    Reply::Array(replies)
}

/// An operation of a batch.
pub(super) fn decoded(bytes: &[u8]) -> Operation<'_> {
    match Operation::decode(bytes) {
        Ok(operation) => operation,
        // What a batch encoded it can decode. Were it otherwise, the log would now hold what no
        // start could read: going on would only make that worse.
        Err(error) => panic!("an operation that was just encoded is unreadable: {error}"),
    }
}

/// Answers the steps of a batch that is not in the log: as if its writes had never been sent.
pub(super) fn refuse(steps: Steps, view: &View<'_>, error: &AppendError) -> Vec<Reply> {
    let mut replies = Vec::with_capacity(steps.len());
    let mut left = steps.into_left();
    while let Some(step) = left.next() {
        replies.push(match step {
            Step::Write | Step::Transaction(_) => Reply::Error(ErrorReply::Other(
                format!("MISCONF not saved: {error}").into(),
            )),
            Step::Read { run, args, .. } => run(view, &left.args(args)),
            Step::Ready(reply) => reply,
        });
    }
    replies
}
