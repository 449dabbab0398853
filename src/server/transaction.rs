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

#[derive(Debug)]
struct Queued {
    spec: &'static Spec,
    args: Vec<Box<[u8]>>,
}

impl Queue {
    /// EXEC will be refused.
    pub(super) fn spoil(&mut self) {
        self.spoiled = true;
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
        command: ServerCommand,
        args: &[&[u8]],
        dialect: Dialect,
    ) -> Taken {
        let reply = match command {
            ServerCommand::Multi => {
                self.queue = Some(Queue::default());
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
            ServerCommand::Exec => return self.exec(dialect),
            // What is watched is looked at now, behind all that was sent before.
            _ if !self.batch.is_empty() => return Taken::NotYet,
            ServerCommand::Watch => {
                self.watch(args);
                Reply::Ok
            }
            other => match self.run(other, args) {
                Answer::Reply(reply) | Answer::After(_, reply) => reply,
                Answer::End(end, reply) => {
                    if let Some(reply) = reply {
                        self.answer(reply, dialect);
                    }
                    return Taken::End(end);
                }
            },
        };
        self.answer(reply, dialect)
    }

    fn watch(&mut self, keys: &[&[u8]]) {
        let engine = &self.shared.engine;
        let watch = self
            .watch
            .get_or_insert_with(|| Watch::new(engine.watches().clone()));
        for key in keys {
            watch.add(key, |key| engine.read_whole(|view| view.get(key).is_some()));
        }
    }

    fn exec(&mut self, dialect: Dialect) -> Taken {
        let Some(queue) = &self.queue else {
            let error = command::error("ERR EXEC without MULTI");
            return self.answer(Reply::Error(error), dialect);
        };
        if queue.spoiled {
            (self.queue, self.watch) = (None, None);
            let error = "EXECABORT Transaction discarded because of previous errors.";
            return self.answer(Reply::Error(command::error(error)), dialect);
        }
        // One that changes nothing is answered from the store, behind all that was sent before.
        let needs_store = !queue.commands.iter().all(|queued| queued.writes());
        if needs_store && !self.batch.is_empty() {
            return Taken::NotYet;
        }
        let commands = self.queue.take().map(|queue| queue.commands);
        let watch = self.watch.take();
        let base = match &watch {
            None => Some(0),
            Some(watch) => watch.unchanged_until(),
        };
        let Some(base) = base else {
            return self.answer(Reply::Aborted, dialect);
        };
        let mut transaction = Transaction::default();
        for queued in commands.unwrap_or_default() {
            self.add_to(&mut transaction, &queued);
        }
        let watched = || watch.iter().flat_map(Watch::keys).collect::<Vec<_>>();
        if !transaction.only_reads() {
            return self.put_in_batch(
                |batch| batch.transaction(transaction, base, watched()),
                self.spoken(dialect),
            );
        }
        let reply = self.shared.engine.read_whole(|view| {
            let as_watched = |(key, was_there)| view.get(key).is_some() == was_there;
            let changed = watch.as_ref().is_some_and(Watch::is_changed);
            if changed || !watched().into_iter().all(as_watched) {
                return Reply::Aborted;
            }
            transaction.read_from(view)
        });
        self.answer(reply, self.spoken(dialect))
    }

    fn add_to(&mut self, transaction: &mut Transaction, queued: &Queued) {
        let args: Vec<&[u8]> = queued.args.iter().map(|arg| &**arg).collect();
        match queued.spec.interpret(&args) {
            Command::Write(operation) => transaction.write(&operation),
            Command::Read { run, args, .. } => transaction.read(run, args),
            Command::Ready(reply) => transaction.ready(reply),
            Command::Server(command) => {
                let reply = match self.run(command, &args) {
                    Answer::Reply(reply) | Answer::After(_, reply) => reply,
                    Answer::End(_, reply) => reply.unwrap_or(Reply::Ok),
                };
                transaction.ready(reply);
            }
        }
    }
}

impl Queued {
    fn writes(&self) -> bool {
        self.spec.flags.has(command::Flags::WRITE)
    }
}
