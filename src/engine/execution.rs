//! How the steps of a batch are carried out, or refused.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::ahead::Ahead;
use super::batch::Contents;
use super::steps::{Step, Steps, StepsLeft};
use crate::command::{Applier, Operation, Reply, View};
use crate::protocol::ErrorReply;
use crate::time::Timestamp;
use crate::wal::frame;
use crate::wal::writer::AppendError;

/// Measures one step after the other: the end of one is the beginning of the next.
#[derive(Debug)]
pub(super) struct Stopwatch<'a> {
    last: Instant,
    laps: &'a mut SmallVec<[Duration; 1]>,
}

impl<'a> Stopwatch<'a> {
    /// The first step begins at `now`.
    pub(super) fn start(now: Instant, laps: &'a mut SmallVec<[Duration; 1]>) -> Self {
        Self { last: now, laps }
    }

    pub(super) fn lap(&mut self) {
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
    steps: StepsLeft<'a>,
    replies: &'a mut SmallVec<[Reply; 1]>,
    /// Of the next operation.
    place: Place,
    watch: Stopwatch<'a>,
    ahead: Ahead<'a>,
}

impl<'a> Batched<'a> {
    /// Steps that begin at `now`.
    pub(super) fn new(
        contents: &'a mut Contents,
        place: Place,
        ahead: Ahead<'a>,
        now: Instant,
    ) -> Self {
        let Contents {
            operations,
            steps,
            outcome,
            ..
        } = contents;
        outcome.replies.reserve(steps.len());
        outcome.laps.reserve(steps.len());
        Self {
            operations: frame::Operations::new(operations),
            steps: steps.left(),
            replies: &mut outcome.replies,
            place,
            watch: Stopwatch::start(now, &mut outcome.laps),
            ahead,
        }
    }

    /// What has passed since the last step is not the next one's time.
    pub(super) fn resume(&mut self) {
        self.watch.last = Instant::now();
    }

    /// How far ahead was looked, and when the last step ended.
    pub(super) fn finish(self) -> (Ahead<'a>, Instant) {
        (self.ahead, self.watch.last)
    }

    /// Carries out the next step, if there is one.
    pub(super) fn step(&mut self, applier: &mut Applier) -> bool {
        if self.steps.is_empty() {
            return false;
        }
        let ahead = &mut self.ahead;
        ahead.step(
            || self.steps.keys(self.operations.clone()),
            applier.view().store(),
        );
        let Some(step) = self.steps.next() else {
            return false;
        };
        let reply = match step {
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
                    execute(applier, &operation, *steps, watch)
                });
                self.watch.last = begun;
                reply
            }
            Step::Read { run, args, .. } => run(&applier.view(), &self.steps.args(args)),
            Step::Ready(reply) => reply,
        };
        self.watch.lap();
        self.replies.push(reply);
        true
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
    mut steps: Steps,
    watch: &mut Stopwatch<'_>,
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
    let mut left = steps.left();
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
pub(super) fn refuse(contents: &mut Contents, view: &View<'_>, error: &AppendError) {
    let replies = &mut contents.outcome.replies;
    let mut left = contents.steps.left();
    while let Some(step) = left.next() {
        replies.push(match step {
            Step::Write | Step::Transaction(_) => Reply::Error(ErrorReply::Other(
                format!("MISCONF not saved: {error}").into(),
            )),
            Step::Read { run, args, .. } => run(view, &left.args(args)),
            Step::Ready(reply) => reply,
        });
    }
}
