//! Commands of the connection and of the server.

mod connection;

use std::time::Duration;

use super::session::{End, Session};
use crate::command::{self, Reply, ServerCommand};

/// How a command of the server is answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// With this.
    Reply(Reply),
    /// With this, once so much time has passed.
    After(Duration, Reply),
    /// With this or with nothing, and the connection ends.
    End(End, Option<Reply>),
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl Session {
    /// Carries out a command of the server. The number of its arguments has been checked; the
    /// batch is empty.
    pub(super) fn run(&mut self, command: ServerCommand, args: &[&[u8]]) -> Answer {
        match command {
            ServerCommand::Hello => self.hello(args).into(),
            ServerCommand::Auth => self.auth(args).into(),
            ServerCommand::Select => connection::select(args).into(),
            ServerCommand::Reset => self.reset().into(),
            ServerCommand::Quit => Answer::End(End::Close, Some(Reply::Ok)),
            // Those of a transaction do not come here, but for UNWATCH inside of one.
            _ => Reply::Ok.into(),
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
