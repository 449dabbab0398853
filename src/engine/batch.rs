//! Batches: what a connection submits, and how its steps are carried out.

use crate::command::{self, Operation, ReadFn, Reply};
use crate::protocol::ErrorReply;
use crate::store::InMemStore;
use crate::time::Timestamp;
use crate::wal::frame;
use crate::wal::writer::{AppendError, Position};

/// What a step costs beside its operation's bytes, in the same account.
const STEP_COST: usize = 64;

/// What a read counts for, beside its arguments: its reply keeps a value of unknown size in memory
/// for as long as the client does not take it, even if the key is gone by then.
const READ_COST: usize = 4 << 10;

/// A part of a pipeline, in order: what is written, and what must come after it.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) operations: Vec<u8>,
    pub(super) count: u32,
    pub(super) steps: Vec<Step>,
    /// What the steps hold beside the operations.
    held: usize,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Applies the next operation.
    Write,
    /// Reads, behind a write of the same pipeline.
    Read { run: ReadFn, args: OwnedArgs },
    /// Hands back a reply that was ready when the pipeline was read.
    Ready(Reply),
}

impl Batch {
    /// Adds a change.
    pub fn write(&mut self, operation: &Operation<'_>) {
        frame::push_operation(&mut self.operations, |out| operation.encode(out));
        self.count += 1;
        self.steps.push(Step::Write);
    }

    /// Adds a read of what the steps before it leave.
    pub fn read(&mut self, run: ReadFn, args: &[&[u8]]) {
        let args = OwnedArgs::new(args);
        self.held += args.cost() + READ_COST;
        self.steps.push(Step::Read { run, args });
    }

    /// Adds a reply that needs no store, in its place among the others.
    pub fn ready(&mut self, reply: Reply) {
        self.held += match &reply {
            Reply::Bytes(bytes) => bytes.len(),
            Reply::Text(lines) => lines.iter().map(|line| line.len() + STEP_COST).sum(),
            _ => 0,
        };
        self.steps.push(Step::Ready(reply));
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How much it counts among what waits for the log.
    pub fn cost(&self) -> usize {
        self.operations.len() + self.steps.len() * STEP_COST + self.held
    }
}

/// The arguments of a read that must wait, in two allocations however many they are.
#[derive(Debug)]
pub(super) struct OwnedArgs {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

impl OwnedArgs {
    fn new(args: &[&[u8]]) -> Self {
        Self {
            bytes: args.concat(),
            lengths: args.iter().map(|arg| arg.len()).collect(),
        }
    }

    fn cost(&self) -> usize {
        self.bytes.len() + self.lengths.len() * size_of::<usize>()
    }

    fn to_args(&self) -> Vec<&[u8]> {
        let mut rest = self.bytes.as_slice();
        let split = |&len: &usize| {
            let (arg, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            rest = behind;
            arg
        };
        self.lengths.iter().map(split).collect()
    }
}

/// The steps of a batch, each write with its operation.
pub(super) struct Batched<'a> {
    operations: frame::Operations<'a>,
    steps: std::vec::IntoIter<Step>,
}

impl<'a> Batched<'a> {
    pub(super) fn new(operations: &'a [u8], steps: Vec<Step>) -> Self {
        Self {
            operations: frame::Operations::new(operations),
            steps: steps.into_iter(),
        }
    }
}

pub(super) enum BatchedStep<'a> {
    Write(&'a [u8]),
    Read { run: ReadFn, args: OwnedArgs },
    Ready(Reply),
}

impl<'a> Iterator for Batched<'a> {
    type Item = BatchedStep<'a>;

    fn next(&mut self) -> Option<BatchedStep<'a>> {
        Some(match self.steps.next()? {
            Step::Write => BatchedStep::Write(self.operations.next().unwrap_or_default()),
            Step::Read { run, args } => BatchedStep::Read { run, args },
            Step::Ready(reply) => BatchedStep::Ready(reply),
        })
    }
}

impl BatchedStep<'_> {
    /// Carries out a step as its group's outcome allows.
    pub(super) fn conclude(
        self,
        store: &dyn InMemStore,
        outcome: &Result<Position, AppendError>,
    ) -> Reply {
        match outcome {
            Ok(Position { time, .. }) => self.run(store, *time),
            Err(error) => self.refuse(store, error),
        }
    }

    /// Carries out a step whose operations are durable.
    pub(super) fn run(self, store: &dyn InMemStore, time: Timestamp) -> Reply {
        match self {
            Self::Write(bytes) => match Operation::decode(bytes) {
                Ok(operation) => command::apply(store, operation, time),
                // What a batch encoded it can decode. Were it otherwise, the log would now hold
                // what no start could read: going on would only make that worse.
                Err(error) => panic!("an operation that was just encoded is unreadable: {error}"),
            },
            Self::Read { run, args } => run(store, &args.to_args()),
            Self::Ready(reply) => reply,
        }
    }

    /// Answers a step of a batch that is not in the log: as if its writes had never been sent.
    fn refuse(self, store: &dyn InMemStore, error: &AppendError) -> Reply {
        match self {
            Self::Write(_) => {
                Reply::Error(ErrorReply::Other(format!("ERR not saved: {error}").into()))
            }
            Self::Read { run, args } => run(store, &args.to_args()),
            Self::Ready(reply) => reply,
        }
    }
}
