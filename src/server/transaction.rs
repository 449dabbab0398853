//! Transactions of a session: MULTI to EXEC, and WATCH.
//!
//! Until EXEC nothing is carried out. Then the commands go to the log as one operation, which
//! also says what was watched; whether it is carried out is decided when it is applied.

use super::commands::Answer;
use super::session::{Session, Taken};
use crate::command::{self, Command, Reply, ServerCommand, Spec, Watch};
use crate::engine::Transaction;
use crate::protocol::Dialect;

/// Bytes that the commands of one transaction may have, each with a little for itself.
const MAX_QUEUED: usize = 256 << 20;

/// What a queued command counts for beside its arguments.
const QUEUED_COST: usize = 64;

/// The commands since MULTI.
#[derive(Debug, Default)]
pub(super) struct Queue {
    commands: Vec<Queued>,
    cost: usize,
    /// Whether a command was refused, so that EXEC has to be.
    spoiled: bool,
}

/// A command that waits for EXEC.
#[derive(Debug)]
pub(super) struct Queued {
    spec: &'static Spec,
    args: Vec<Box<[u8]>>,
}

impl Queue {
    /// EXEC will be refused.
    pub(super) fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// Whether one of its commands may change the store.
    pub(super) fn writes(&self) -> bool {
        self.commands.iter().any(Queued::writes)
    }

    /// Whether all of it is logged, whatever the store holds.
    fn is_logged(&self) -> bool {
        !self.commands.is_empty() && self.commands.iter().all(Queued::is_logged)
    }

    /// How many commands it holds.
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }
}

impl Session {
    /// Keeps a command for EXEC.
    pub(super) fn enqueue(
        &mut self,
        spec: &'static Spec,
        args: &[&[u8]],
        dialect: Dialect,
    ) -> Taken {
        let Some(queue) = &mut self.queue else {
            return Taken::Done;
        };
        let cost: usize = args.iter().map(|arg| arg.len() + QUEUED_COST).sum();
        if queue.cost + cost + QUEUED_COST > MAX_QUEUED {
            queue.spoil();
            let error = command::error("ERR the transaction is too large");
            return self.answer(Reply::Error(error), dialect);
        }
        queue.cost += cost + QUEUED_COST;
        let args = args.iter().map(|&arg| arg.into()).collect();
        queue.commands.push(Queued { spec, args });
        self.answer(Reply::Status("QUEUED"), dialect)
    }

    /// Carries out a command that concerns the transaction, and is never queued.
    pub(super) fn take_of_transaction(
        &mut self,
        spec: &'static Spec,
        command: ServerCommand,
        request: &[&[u8]],
        dialect: Dialect,
    ) -> Taken {
        let args = request.get(1..).unwrap_or_default();
        let reply = match command {
            ServerCommand::Multi => {
                self.queue = Some(Box::default());
                Reply::Ok
            }
            ServerCommand::Discard if self.queue.is_none() => {
                Reply::Error(command::error("ERR DISCARD without MULTI"))
            }
            ServerCommand::Discard => {
                (self.queue, self.watch) = (None, None);
                Reply::Ok
            }
            ServerCommand::Unwatch => {
                self.watch = None;
                Reply::Ok
            }
            ServerCommand::Exec => return self.exec(spec, dialect),
            // What is watched is looked at now, behind all that was sent before.
            _ if !self.batch.is_empty() => return Taken::NotYet,
            ServerCommand::Watch => {
                self.watch(args);
                Reply::Ok
            }
            other => match self.run(other, args) {
                Answer::End(end, reply) => {
                    if let Some(reply) = reply {
                        self.answer_counted(spec, request, reply, dialect);
                    }
                    return Taken::End(end);
                }
                answer => answer.at_once(),
            },
        };
        self.answer_counted(spec, request, reply, dialect)
    }

    fn watch(&mut self, keys: &[&[u8]]) {
        let engine = &self.shared.engine;
        let watch = self
            .watch
            .get_or_insert_with(|| Box::new(Watch::new(engine.watches().clone())));
        for key in keys {
            watch.add(key, |key| engine.read_whole(|view| view.get(key).is_some()));
        }
    }

    fn exec(&mut self, spec: &'static Spec, dialect: Dialect) -> Taken {
        let request: &[&[u8]] = &[b"EXEC"];
        let Some(queue) = &self.queue else {
            let error = command::error("ERR EXEC without MULTI");
            return self.answer_counted(spec, request, Reply::Error(error), dialect);
        };
        if queue.spoiled {
            (self.queue, self.watch) = (None, None);
            let error = "EXECABORT Transaction discarded because of previous errors.";
            let error = Reply::Error(command::error(error));
            return self.answer_counted(spec, request, error, dialect);
        }
        // One that changes nothing is answered from the store, and what changes a watched key may
        // still be in the batch: both come behind all that was sent before.
        if !self.batch.is_empty() && !queue.is_logged() {
            return Taken::NotYet;
        }
        let commands = self.queue.take().map(|queue| queue.commands);
        let watch = self.watch.take();
        let base = match &watch {
            None => Some(0),
            Some(watch) => watch.unchanged_until(),
        };
        let Some(base) = base else {
            return self.answer_counted(spec, request, Reply::Aborted, dialect);
        };
        let commands = commands.unwrap_or_default();
        let mut transaction = Transaction::default();
        for queued in &commands {
            self.add_to(&mut transaction, queued);
        }
        let watched = || {
            watch
                .iter()
                .flat_map(|watch| watch.keys())
                .collect::<Vec<_>>()
        };
        if !transaction.only_reads() {
            return self.put_in_batch(
                |batch| batch.transaction(transaction, base, watched()),
                spec,
                commands,
                self.spoken(dialect),
            );
        }
        let (reply, laps) = self.shared.engine.read_whole_unless_loading(|view| {
            let as_watched = |(key, was_there)| view.get(key).is_some() == was_there;
            let changed = watch.as_ref().is_some_and(|watch| watch.is_changed());
            if changed || !watched().into_iter().all(as_watched) {
                return (Reply::Aborted, Vec::new());
            }
            transaction.read_from(view)
        });
        self.account()
            .settle_transaction(&commands, &reply, &mut laps.into_iter());
        self.answer_counted(spec, request, reply, self.spoken(dialect))
    }

    fn add_to(&mut self, transaction: &mut Transaction, queued: &Queued) {
        let args = queued.args();
        match queued.spec.interpret(&args) {
            Command::Write(operation) => transaction.write(&operation),
            Command::Read { run, args, sees } => transaction.read(run, args, sees),
            Command::Ready(reply) => transaction.ready(reply),
            Command::Server(command) => {
                transaction.ready(self.run(command, &args).at_once());
            }
        }
    }
}

impl Queued {
    pub(super) fn spec(&self) -> &'static Spec {
        self.spec
    }

    /// The request, as it came but for the writing of its name.
    pub(super) fn request(&self) -> Vec<&[u8]> {
        let name = self.spec.name.split('|').next().unwrap_or_default();
        std::iter::once(name.as_bytes())
            .chain(self.args())
            .collect()
    }

    fn args(&self) -> Vec<&[u8]> {
        self.args.iter().map(|arg| &**arg).collect()
    }

    fn writes(&self) -> bool {
        self.spec.flags.has(command::Flags::WRITE)
    }

    /// Whether it makes an operation: what may write need not, such as a GETEX without an option.
    fn is_logged(&self) -> bool {
        matches!(self.spec.interpret(&self.args()), Command::Write(_))
    }
}
