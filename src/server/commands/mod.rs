//! Commands of the connection and of the server.

mod account;
mod catalogue;
mod client;
mod config;
mod connection;
mod console;
mod info;
mod latency;
mod monitor;
mod pause;
mod pending;
mod save;
mod server;
mod slow_log;
mod system;

use std::pin::Pin;
use std::time::Duration;

use super::session::{End, Session};
use crate::command::{self, Reply, ServerCommand, Spec, integer, is_word};
use crate::protocol::ErrorReply;

pub(super) use account::{Account, outcome};
pub(super) use console::Console;
pub(super) use monitor::Feed;
pub(super) use pending::{Answers, Pending};

/// A reply that takes its time.
pub(super) type Later = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// How a command of the server is answered.
pub(super) enum Answer {
    /// With this.
    Reply(Reply),
    /// With this, once so much time has passed, or somebody ends the wait.
    After(Duration, Reply),
    /// With this, once so much time has passed, which counts as the command's own.
    Busy(Duration, Reply),
    /// With what comes of this.
    Later(Later),
    /// With this or with nothing, and the connection ends.
    End(End, Option<Reply>),
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl Answer {
    /// The reply where nothing may wait nor end, as in a transaction.
    pub(super) fn at_once(self) -> Reply {
        match self {
            Self::Reply(reply) | Self::After(_, reply) | Self::Busy(_, reply) => reply,
            Self::Later(_) => refuse("ERR not allowed inside a transaction"),
            Self::End(_, reply) => reply.unwrap_or(Reply::Ok),
        }
    }
}

impl Session {
    /// Carries out a command of the server. The number of its arguments has been checked; the
    /// batch is empty.
    pub(super) fn run(&mut self, command: ServerCommand, args: &[&[u8]]) -> Answer {
        // Behind the name of a subcommand.
        let rest = args.get(1..).unwrap_or_default();
        let or_error =
            |answer: Result<Answer, _>| answer.unwrap_or_else(|error| Reply::Error(error).into());
        match command {
            ServerCommand::Auth => self.auth(args).into(),
            ServerCommand::Client(command) => self.client(command, rest),
            ServerCommand::Command(command) => catalogue::command(command, rest).into(),
            ServerCommand::Config(command) => self.config(command, rest).into(),
            ServerCommand::Debug => or_error(self.debug(args)),
            ServerCommand::Hello => self.hello(args).into(),
            ServerCommand::Info => self.info(args).into(),
            ServerCommand::BackgroundSave => self.background_save(args).into(),
            ServerCommand::RewriteLog => self.rewrite_log().into(),
            ServerCommand::Save => self.save(),
            ServerCommand::LastSave => self.last_save().into(),
            ServerCommand::Latency(command) => self.latency(command, rest).into(),
            ServerCommand::Monitor => self.monitor().into(),
            ServerCommand::Quit => Answer::End(End::Close, Some(Reply::Ok)),
            ServerCommand::Reset => self.reset().into(),
            ServerCommand::Select => connection::select(args).into(),
            ServerCommand::Shutdown => self.shutdown(args),
            ServerCommand::SlowLog(command) => self.slow_log(command, rest).into(),
            ServerCommand::Time => self.time().into(),
            ServerCommand::Wait => or_error(self.wait(args)),
            ServerCommand::WaitAof => or_error(self.wait_aof(args)),
            // UNWATCH inside of a transaction does nothing; the others do not come here.
            ServerCommand::Unwatch
            | ServerCommand::Discard
            | ServerCommand::Exec
            | ServerCommand::Multi
            | ServerCommand::Watch => Reply::Ok.into(),
        }
    }
}

/// A bulk string of a text.
pub(super) fn text(text: impl Into<String>) -> Reply {
    Reply::Bytes(text.into().into_bytes())
}

/// An error reply.
pub(super) fn refuse(text: &'static str) -> Reply {
    Reply::Error(command::error(text))
}

/// A client's bytes as part of an error, which is one line: not more than the first of them.
fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 128;
    let bytes = bytes.get(..bytes.len().min(SHOWN)).unwrap_or_default();
    String::from_utf8_lossy(bytes).replace(['\r', '\n', '\0'], " ")
}

/// The error for arguments of a subcommand that it does not take.
fn no_such_part(part: &str, command: &str) -> Reply {
    let text = format!(
        "ERR unknown subcommand or wrong number of arguments for '{part}'. Try {command} HELP."
    );
    Reply::Error(ErrorReply::Other(text.into()))
}

/// An argument that says for how many milliseconds.
fn timeout(arg: &[u8]) -> Result<Duration, ErrorReply> {
    let millis = integer(arg)
        .map_err(|_| command::error("ERR timeout is not an integer or out of range"))?;
    let millis = u64::try_from(millis).map_err(|_| command::error("ERR timeout is negative"))?;
    Ok(Duration::from_millis(millis))
}

/// Whether a word of a request is a password, or may be one, and is not to be shown to others.
fn secret(spec: &Spec, request: &[&[u8]], index: usize) -> bool {
    let word = |index: usize| request.get(index).copied().unwrap_or_default();
    match spec.name {
        "AUTH" => index > 0,
        "HELLO" => (2..request.len())
            .find(|&at| is_word(word(at), "AUTH"))
            .is_some_and(|auth| (auth + 1..=auth + 2).contains(&index)),
        "CONFIG|SET" => index > 2 && index % 2 == 1 && is_word(word(index - 1), "requirepass"),
        _ => false,
    }
}
