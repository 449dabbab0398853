//! A session: what one client said so far, and what it is to be told.
//!
//! It knows no socket. The connection hands it requests, submits its batch and writes its output.

use std::sync::Arc;

use super::Shared;
use super::clients::Client;
use super::commands::Answer;
use super::transaction::Queue;
use crate::command::{self, Command, Reply, ServerCommand, Spec, Watch};
use crate::engine::{Batch, Stopped};
use crate::protocol::{self, Decoder, Dialect, ErrorReply, Output, RespVersion};
use crate::store::Value;

/// What became of a request.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is answered, or in the batch.
    Done,
    /// It can be taken once the batch was submitted: it is to be given again then.
    NotYet,
    /// It is taken, and nothing more is to be until this much time has passed.
    Wait(std::time::Duration, Dialect, Reply),
    /// It is the last.
    End(End),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With all replies written: the client asked for it, or the server stops.
    Close,
    /// The same, but the client may be in the middle of sending.
    Linger,
    /// Without a word.
    Drop,
}

/// Which replies the client wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replies {
    On,
    Off,
    /// Not that of the next request.
    SkipNext,
    /// Not that of this one.
    Skip,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Arc<Client>,
    pub(super) decoder: Decoder,
    /// What must go through the log, and how each of its replies is to be written.
    pub(super) batch: Batch,
    dialects: Vec<Dialect>,
    /// Replies that were not written yet.
    pub(super) out: Output<Value>,
    pub(super) authenticated: bool,
    pub(super) replies: Replies,
    /// The commands since MULTI.
    pub(super) queue: Option<Queue>,
    pub(super) watch: Option<Watch>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, client: Arc<Client>) -> Self {
        let mut session = Self {
            client,
            decoder: Decoder::default(),
            batch: Batch::default(),
            dialects: Vec::new(),
            out: Output::default(),
            authenticated: false,
            replies: Replies::On,
            queue: None,
            watch: None,
            shared,
        };
        session.trust(!session.shared.settings.needs_password());
        session
    }

    /// From now on the client may do what it likes, or nothing but AUTH.
    pub(super) fn trust(&mut self, authenticated: bool) {
        self.authenticated = authenticated;
        self.decoder.trust(authenticated);
    }

    /// Answers a request, or puts it into the batch: a write, and whatever comes behind one.
    pub(super) fn take(&mut self, args: &[&[u8]], dialect: Dialect) -> Taken {
        if args.first().is_some_and(|name| command::is_forged(name)) {
            tracing::warn!("closing a connection that speaks HTTP: a page may have sent it here");
            return Taken::End(End::Drop);
        }
        let dialect = self.heard(dialect);
        let spec = match self.admit(args, dialect) {
            Ok(spec) => spec,
            Err(error) => {
                return self.refuse(args, error, dialect);
            }
        };
        let arguments = args.get(1..).unwrap_or_default();
        match spec.run {
            command::Run::Server(run) if self.is_of_transaction(run) => {
                self.take_of_transaction(run, arguments, dialect)
            }
            _ if self.queue.is_some() => self.enqueue(spec, arguments, dialect),
            _ => self.carry_out(spec, arguments, dialect),
        }
    }

    /// The command, if it may be used by this client and now.
    fn admit(&self, args: &[&[u8]], dialect: Dialect) -> Result<&'static Spec, ErrorReply> {
        let spec = command::find(args, dialect)?;
        if !self.authenticated && !spec.flags.has(command::Flags::NO_AUTH) {
            return Err(command::error("NOAUTH Authentication required."));
        }
        if self.queue.is_some() && spec.flags.has(command::Flags::NO_MULTI) {
            let name = spec.name.to_ascii_lowercase();
            let text = format!("ERR Command '{name}' not allowed inside a transaction");
            return Err(ErrorReply::Other(text.into()));
        }
        Ok(spec)
    }

    fn carry_out(&mut self, spec: &'static Spec, args: &[&[u8]], dialect: Dialect) -> Taken {
        match spec.interpret(args) {
            Command::Write(operation) => {
                self.batch.write(&operation);
                self.dialects.push(dialect);
                Taken::Done
            }
            Command::Read { run, args, whole } => {
                if !self.batch.is_empty() {
                    self.batch.read(run, args);
                    self.dialects.push(dialect);
                } else if whole {
                    let reply = self.shared.engine.read_whole(|view| run(view, args));
                    protocol::encode(reply, dialect, &mut self.out);
                } else {
                    let reply = self.shared.engine.read(run, args);
                    protocol::encode(reply, dialect, &mut self.out);
                }
                Taken::Done
            }
            Command::Ready(reply) => self.answer(reply, dialect),
            // What it tells or changes may depend on everything before it.
            Command::Server(_) if !self.batch.is_empty() => Taken::NotYet,
            Command::Server(run) => match self.run(run, args) {
                // fred asks for RESP on a line, and wants to be answered in it.
                Answer::Reply(reply) if run == ServerCommand::Hello && !args.is_empty() => {
                    self.answer(reply, self.resp())
                }
                Answer::Reply(reply) => self.answer(reply, self.spoken(dialect)),
                Answer::After(delay, reply) => Taken::Wait(delay, dialect, reply),
                Answer::End(end, reply) => {
                    if let Some(reply) = reply {
                        self.answer(reply, dialect);
                    }
                    Taken::End(end)
                }
            },
        }
    }

    /// Puts a reply in its place: behind all that was asked before.
    pub(super) fn answer(&mut self, reply: Reply, dialect: Dialect) -> Taken {
        if self.batch.is_empty() {
            protocol::encode(reply, dialect, &mut self.out);
        } else {
            self.batch.ready(reply);
            self.dialects.push(dialect);
        }
        Taken::Done
    }

    /// Puts a transaction into the batch, which answers it.
    pub(super) fn put_in_batch(&mut self, put: impl FnOnce(&mut Batch), dialect: Dialect) -> Taken {
        put(&mut self.batch);
        self.dialects.push(dialect);
        Taken::Done
    }

    /// The dialect of a reply, as CLIENT REPLY has it.
    fn heard(&mut self, dialect: Dialect) -> Dialect {
        match self.replies {
            Replies::On => dialect,
            Replies::Off => Dialect::Silent,
            Replies::SkipNext => {
                self.replies = Replies::Skip;
                dialect
            }
            Replies::Skip => {
                self.replies = Replies::On;
                Dialect::Silent
            }
        }
    }

    /// The dialect that the reply of a command has which may just have changed it.
    pub(super) fn spoken(&self, dialect: Dialect) -> Dialect {
        match dialect {
            Dialect::Resp2 | Dialect::Resp3 if self.replies == Replies::Off => Dialect::Silent,
            Dialect::Resp2 | Dialect::Resp3 => self.resp(),
            other => other,
        }
    }

    /// RESP in the version that this client has chosen.
    fn resp(&self) -> Dialect {
        match self.decoder.version() {
            RespVersion::Two => Dialect::Resp2,
            RespVersion::Three => Dialect::Resp3,
        }
    }

    /// Has the log take the batch, and turns its replies into bytes.
    pub(super) fn take_batch(&mut self) -> (Batch, Vec<Dialect>) {
        (
            std::mem::take(&mut self.batch),
            std::mem::take(&mut self.dialects),
        )
    }

    /// The replies of a batch that nobody carried out.
    pub(super) fn stopped(count: usize) -> Vec<Reply> {
        let stopped = Reply::Error(ErrorReply::Other(format!("ERR {Stopped}").into()));
        vec![stopped; count]
    }

    /// Answers a request that was not admitted. In a transaction it makes the whole void.
    fn refuse(&mut self, args: &[&[u8]], error: ErrorReply, dialect: Dialect) -> Taken {
        if let Some(queue) = &mut self.queue {
            queue.spoil();
        }
        let exec = args
            .first()
            .is_some_and(|name| command::is_word(name, "EXEC"));
        if !exec || !self.authenticated {
            return self.answer(Reply::Error(error), dialect);
        }
        (self.queue, self.watch) = (None, None);
        let why = "EXECABORT Transaction discarded because of: wrong number of arguments for \
                   'exec' command";
        self.answer(Reply::Error(command::error(why)), dialect)
    }

    /// Whether this command concerns the transaction, so that it is not queued.
    fn is_of_transaction(&self, command: ServerCommand) -> bool {
        match command {
            ServerCommand::Multi
            | ServerCommand::Exec
            | ServerCommand::Discard
            | ServerCommand::Watch
            | ServerCommand::Quit
            | ServerCommand::Reset => true,
            ServerCommand::Unwatch => self.queue.is_none(),
            _ => false,
        }
    }
}
