//! A session: what one client said so far, and what it is to be told.
//!
//! It knows no socket. The connection hands it requests, submits its batch and writes its output.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Shared;
use super::clients::Client;
use super::commands::{Answer, Feed, Pending};
use super::long_read::LongRead;
use super::stretch::{self, Found};
use super::transaction::{Queue, Queued};
use super::wait::Wait;
use crate::command::{self, ClientCommand, Command, Reply, Sees, ServerCommand, Spec, Watch};
use crate::engine::Batch;
use crate::protocol::{self, Decoder, Dialect, ErrorReply, Output};
use crate::store::Value;

/// What became of a request.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is answered, or in the batch.
    Done,
    /// It can be taken once the batch was submitted: it is to be given again then.
    NotYet,
    /// It cannot be taken before a pause is over: it is to be given again then.
    Paused,
    /// It is taken, and nothing more is to be until its reply is there.
    Wait(Wait),
    /// The same, and it is for another thread to carry out.
    Long(LongRead),
    /// It is the last.
    End(End),
}

/// Whether a command can be carried out before the log was read.
fn works_while_loading(spec: &Spec) -> bool {
    // WATCH must know whether its key is there.
    let watch = matches!(spec.run, command::Run::Server(ServerCommand::Watch));
    spec.flags.has(command::Flags::LOADING) && !watch
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
    Skip,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Arc<Client>,
    pub(super) decoder: Decoder,
    /// What must go through the log, and what its replies are the replies of.
    pub(super) batch: Batch,
    pub(super) pending: Option<Box<Pending>>,
    /// How many requests the stretch at hand has, and how many bytes they take.
    room: (usize, usize),
    /// When it was told of its last batch.
    pub(super) told: Option<Instant>,
    /// Replies that were not written yet.
    pub(super) out: Output<Value>,
    pub(super) authenticated: bool,
    pub(super) replies: Replies,
    /// The commands since MULTI.
    pub(super) queue: Option<Box<Queue>>,
    pub(super) watch: Option<Box<Watch>>,
    /// What it is to be shown, if it is a monitor.
    pub(super) monitor: Option<Feed>,
    /// When what is being carried out began.
    pub(super) lap_began: Instant,
    /// The command asked for last, and its number.
    pub(super) asked: Option<(&'static Spec, usize)>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, client: Arc<Client>) -> Self {
        let mut session = Self {
            client,
            decoder: Decoder::default(),
            batch: Batch::default(),
            pending: None,
            room: (0, 0),
            told: None,
            out: Output::default(),
            authenticated: false,
            replies: Replies::On,
            queue: None,
            watch: None,
            monitor: None,
            lap_began: Instant::now(),
            asked: None,
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

    /// Prepares for requests of which nothing was carried out yet: what their reads will look at is
    /// fetched from memory, if they are several, and are to be carried out at once.
    pub(super) fn prepare(&mut self, requests: &[Found<'_>]) {
        self.room = (requests.len(), stretch::len(requests));
        if requests.len() > 1 && self.reads_at_once() {
            let keys = stretch::keys(requests);
            if keys.len() > 1 {
                self.warm(&keys);
            }
        }
    }

    /// Whether a read would be carried out as soon as it is taken.
    pub(super) fn reads_at_once(&self) -> bool {
        self.batch.is_empty() && self.queue.is_none() && self.may_ask()
    }

    /// Has what a look at these keys needs fetched from memory.
    pub(super) fn warm(&self, keys: &[&[u8]]) {
        self.shared.engine.store().warm(keys);
    }

    /// Makes room for all that the stretch at hand may still put into the batch. Not before a
    /// write does go in: what is refused leaves nothing behind.
    fn make_room(&mut self) {
        if self.batch.is_empty() {
            let (requests, bytes) = self.room;
            self.batch.reserve(requests, bytes);
            self.pending().reserve(requests, bytes);
        }
    }

    /// Answers a request, or puts it into the batch: a write, and what comes behind one and does not take long.
    pub(super) fn take(&mut self, request: &Found<'_>) -> Taken {
        let (args, dialect) = (&*request.args, request.dialect);
        let spec = match self.admit(request) {
            Ok(spec) => spec,
            Err(_) if args.first().is_some_and(|name| command::is_forged(name)) => {
                tracing::warn!(
                    "closing a connection that speaks HTTP: a page may have sent it here"
                );
                return Taken::End(End::Drop);
            }
            Err(error) => {
                self.count_refused(args, &error);
                let dialect = self.heard(dialect);
                return self.refuse(args, error, dialect);
            }
        };
        if self.is_held(spec) {
            return Taken::Paused;
        }
        self.note_asked(spec);
        let taken = match spec.run {
            command::Run::Server(run) if self.is_of_transaction(run) => {
                let replies = self.replies;
                let dialect = self.heard(dialect);
                let taken = self.take_of_transaction(spec, run, args, dialect);
                if matches!(taken, Taken::NotYet) {
                    // It will be heard again.
                    self.replies = replies;
                }
                self.note_transaction();
                taken
            }
            // RESET ends a transaction, like much else.
            _ if self.queue.is_some()
                && !matches!(spec.run, command::Run::Server(ServerCommand::Reset)) =>
            {
                let dialect = self.heard(dialect);
                let arguments = args.get(1..).unwrap_or_default();
                let taken = self.enqueue(spec, arguments, dialect);
                self.note_transaction();
                taken
            }
            _ => self.carry_out(spec, args, dialect),
        };
        if !matches!(taken, Taken::NotYet) {
            self.show(spec, args);
        }
        taken
    }

    /// Whether a pause lets this command wait. None does once the server stops.
    fn is_held(&self, spec: &Spec) -> bool {
        let writes = spec.flags.has(command::Flags::WRITE)
            || matches!(spec.run, command::Run::Server(ServerCommand::Exec))
                && self.queue.as_ref().is_some_and(|queue| queue.writes());
        self.shared.console.pause.holds(writes) && !self.shared.stop.has_begun()
    }

    fn note_transaction(&self) {
        let queued = self.queue.as_ref().map(|queue| queue.len());
        let watched = self.watch.as_ref().map_or(0, |watch| watch.len());
        self.client.activity.in_transaction(queued, watched);
    }

    /// The command, if it may be used by this client and now.
    fn admit(&self, request: &Found<'_>) -> Result<&'static Spec, ErrorReply> {
        let spec = command::check(request.named, &request.args, request.dialect)?;
        if !self.may_ask() && !spec.flags.has(command::Flags::NO_AUTH) {
            return Err(command::error("NOAUTH Authentication required."));
        }
        if self.shared.engine.load_progress().is_some() && !works_while_loading(spec) {
            return Err(command::error(
                "LOADING postres is reading its log; try again in a moment",
            ));
        }
        if self.queue.is_some() && spec.flags.has(command::Flags::NO_MULTI) {
            let name = spec.name.to_ascii_lowercase();
            let text = format!("ERR Command '{name}' not allowed inside a transaction");
            return Err(ErrorReply::Other(text.into()));
        }
        Ok(spec)
    }

    /// Whether the client has given the password, or none is needed any more.
    pub(super) fn may_ask(&self) -> bool {
        self.authenticated || !self.shared.settings.needs_password()
    }

    fn carry_out(&mut self, spec: &'static Spec, request: &[&[u8]], dialect: Dialect) -> Taken {
        let args = request.get(1..).unwrap_or_default();
        match spec.interpret(args) {
            Command::Write(operation) => {
                let dialect = self.heard(dialect);
                self.make_room();
                self.batch.write(&operation);
                let command = (spec, self.number_of(spec));
                self.pending().push(command, request, dialect);
                Taken::Done
            }
            // What applies the batch runs on a thread that serves others, too.
            Command::Read {
                sees: Sees::AnyForLong,
                ..
            } if !self.batch.is_empty() => Taken::NotYet,
            Command::Read {
                run,
                sees: Sees::AnyForLong,
                ..
            } => {
                let dialect = self.heard(dialect);
                Taken::Long(LongRead::new(spec, run, request, dialect))
            }
            Command::Read { run, args, sees } if !self.batch.is_empty() => {
                let dialect = self.heard(dialect);
                self.batch.read(run, args, sees);
                let command = (spec, self.number_of(spec));
                self.pending().push(command, request, dialect);
                Taken::Done
            }
            Command::Read { run, args, sees } => {
                let reply = self.shared.engine.read(run, args, sees);
                let dialect = self.heard(dialect);
                self.answer_counted(spec, request, reply, dialect)
            }
            Command::Ready(reply) => {
                let dialect = self.heard(dialect);
                self.answer_counted(spec, request, reply, dialect)
            }
            // What it tells or changes may depend on everything before it.
            Command::Server(_) if !self.batch.is_empty() => Taken::NotYet,
            Command::Server(run) => {
                let heard = self.heard(dialect);
                self.carry_out_here(run, spec, request, (dialect, heard))
            }
        }
    }

    /// Carries out a command of the server. `dialect` is that of the request, `heard` the one in
    /// which it would be answered if the command changed nothing about that.
    fn carry_out_here(
        &mut self,
        run: ServerCommand,
        spec: &'static Spec,
        request: &[&[u8]],
        (dialect, heard): (Dialect, Dialect),
    ) -> Taken {
        let before = self.replies;
        let args = request.get(1..).unwrap_or_default();
        let wait = |session: &mut Self, lasting, reply, can_be_ended| {
            let call = session.outcome(spec, request.len(), &reply);
            session.count(spec, request, call);
            Taken::Wait(Wait {
                dialect: heard,
                at_stop: reply.clone(),
                reply: Box::pin(async move {
                    tokio::time::sleep(lasting).await;
                    reply
                }),
                can_be_ended,
            })
        };
        match self.run(run, args) {
            Answer::Reply(reply) => {
                let versions = run == ServerCommand::Hello && !args.is_empty();
                let heard = if versions && heard != Dialect::Silent {
                    // fred asks for RESP on a line, and wants to be answered in it.
                    self.decoder.version().into()
                } else if run == ServerCommand::Client(ClientCommand::Reply) && reply == Reply::Ok {
                    // ON is answered even where the reply to it was to be left out.
                    self.spoken_of(dialect)
                } else if self.replies == before {
                    self.spoken(heard)
                } else {
                    self.spoken_of(dialect)
                };
                self.answer_counted(spec, request, reply, heard)
            }
            Answer::After(lasting, reply) => wait(self, lasting, reply, true),
            Answer::Busy(lasting, reply) => {
                // It counts as having begun so much earlier.
                self.lap_began = self
                    .lap_began
                    .checked_sub(lasting)
                    .unwrap_or(self.lap_began);
                wait(self, lasting, reply, false)
            }
            Answer::Later(reply) => {
                let call = self.outcome(spec, request.len(), &Reply::Ok);
                self.count(spec, request, call);
                Taken::Wait(Wait {
                    dialect: heard,
                    reply,
                    at_stop: Reply::Error(command::error(
                        "ERR the server is stopping; no snapshot was written",
                    )),
                    can_be_ended: false,
                })
            }
            Answer::End(end, reply) => {
                if let Some(reply) = reply {
                    self.answer_counted(spec, request, reply, heard);
                }
                Taken::End(end)
            }
        }
    }

    /// Puts a reply in its place: behind all that was asked before.
    pub(super) fn answer(&mut self, reply: Reply, dialect: Dialect) -> Taken {
        if self.batch.is_empty() {
            protocol::encode(reply, dialect, &mut self.out);
        } else {
            self.batch.ready(reply);
            self.pending().push_counted(dialect);
        }
        Taken::Done
    }

    /// The same for a command that was carried out just now, and counts as such.
    pub(super) fn answer_counted(
        &mut self,
        spec: &'static Spec,
        request: &[&[u8]],
        reply: Reply,
        dialect: Dialect,
    ) -> Taken {
        let call = self.outcome(spec, request.len(), &reply);
        let taken = self.answer(reply, dialect);
        self.count(spec, request, call);
        taken
    }

    /// Puts a transaction into the batch, which answers it.
    pub(super) fn put_in_batch(
        &mut self,
        put: impl FnOnce(&mut Batch),
        spec: &'static Spec,
        commands: Vec<Queued>,
        dialect: Dialect,
    ) -> Taken {
        put(&mut self.batch);
        self.pending().push_transaction(spec, commands, dialect);
        Taken::Done
    }

    /// Whether there is a line to be shown to a monitor; then it is among its replies.
    pub(super) fn poll_shown(&mut self, cx: &mut Context<'_>) -> bool {
        /// Lines that are taken at once.
        const LINES: usize = 256;
        let mut shown = false;
        for _ in 0..LINES {
            let Some(Poll::Ready(Some(line))) =
                self.monitor.as_mut().map(|feed| feed.poll_line(cx))
            else {
                break;
            };
            self.out.push_bytes(b"+");
            self.out.push_bytes(&line);
            self.out.push_bytes(b"\r\n");
            shown = true;
        }
        shown
    }

    /// The dialect of a reply, as CLIENT REPLY has it.
    fn heard(&mut self, dialect: Dialect) -> Dialect {
        match self.replies {
            Replies::On => dialect,
            Replies::Off => Dialect::Silent,
            Replies::Skip => {
                self.replies = Replies::On;
                Dialect::Silent
            }
        }
    }

    /// The dialect that the reply of a command has which may just have changed the version of RESP.
    pub(super) fn spoken(&self, heard: Dialect) -> Dialect {
        match heard {
            Dialect::Resp2 | Dialect::Resp3 => self.decoder.version().into(),
            other => other,
        }
    }

    /// The same for one that has just changed which replies the client wants to hear.
    fn spoken_of(&self, dialect: Dialect) -> Dialect {
        match self.replies {
            Replies::On => dialect,
            Replies::Off | Replies::Skip => Dialect::Silent,
        }
    }

    fn pending(&mut self) -> &mut Pending {
        self.pending.get_or_insert_with(Pending::none)
    }

    /// What must go through the log. Its replies are those of `pending`.
    pub(super) fn take_batch(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.batch);
        let read = self.lap_began;
        batch.away = self.told.map(|told| read.saturating_duration_since(told));
        batch
    }

    /// Answers a request that was not admitted. In a transaction it makes the whole void.
    fn refuse(&mut self, args: &[&[u8]], error: ErrorReply, dialect: Dialect) -> Taken {
        if let Some(queue) = &mut self.queue {
            queue.spoil();
        }
        let exec = args
            .first()
            .is_some_and(|name| command::is_word(name, "EXEC"));
        if !exec || !self.may_ask() {
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
            | ServerCommand::Quit => true,
            ServerCommand::Unwatch => self.queue.is_none(),
            _ => false,
        }
    }
}
