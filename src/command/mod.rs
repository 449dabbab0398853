//! Commands: one table of them, what each does, and how those that write are logged.
//!
//! A request names a row of the table ([`find`]), which makes a [`Command`] of its arguments. One
//! that reads is a function of a [`View`] of the store. One that writes is an [`Operation`], which
//! is logged, and which [`apply`] later carries out. What concerns the connection or the server is
//! left to the server.
//!
//! A family of commands has its rows, the parsing of its arguments and its reads in a file here,
//! and what its operations do in the file of the same name under `apply`.

pub mod apply;
mod arguments;
mod bit;
mod bitfield;
mod connection;
mod expiry;
mod field;
mod key;
mod number;
mod operation;
mod record;
mod server;
mod shown;
mod spec;
mod string;
mod table;
mod transaction;
pub mod value;
mod view;

pub use apply::Applier;
pub use apply::sequence::Sequence;
pub use apply::snapshot::{Frozen, restore};
pub use apply::watch::{Watch, Watches};
pub(crate) use arguments::{database, integer, is_word, syntax};
pub use bitfield::{FieldAction, FieldStep};
pub use operation::{
    BadOperation, BitCombine, Condition, Deadline, ExpireCondition, Expiry, Operation, Rest,
};
pub use record::Record;
pub use shown::Shown;
pub use spec::{
    ClientCommand, CommandCommand, ConfigCommand, Flags, Group, Keys, LatencyCommand, Run,
    ServerCommand, SlowLogCommand, Spec,
};
pub use table::{COMMANDS, check, find, help, lookup};
pub use view::{LookedUp, View};

use crate::protocol::{self, ErrorReply};
use crate::store::Value;

/// What a command is answered with.
pub type Reply = protocol::Reply<Value>;

/// A command that reads: a function of the store and of the arguments behind the name.
pub type ReadFn = fn(&View<'_>, &[&[u8]]) -> Reply;

/// What a request asks for.
#[derive(Debug)]
pub enum Command<'a> {
    /// A change, to be logged and then applied.
    Write(Operation<'a>),
    /// A look at the store.
    Read {
        /// What to do.
        run: ReadFn,
        /// The arguments behind the name.
        args: &'a [&'a [u8]],
        /// What it must see.
        sees: Sees,
    },
    /// Answered without the store; also every error.
    Ready(Reply),
    /// Something that the server itself carries out.
    Server(ServerCommand),
}

/// What a read must see. None sees half of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// One key.
    Key,
    /// Several keys as they were together at one moment.
    Keys,
    /// Each key that it meets, as it is then.
    Any,
    /// The same; and to look may take long.
    AnyForLong,
}

impl Sees {
    /// Whether it sees keys that it is asked for: then its first argument is one of them.
    pub fn of_key(self) -> bool {
        matches!(self, Self::Key | Self::Keys)
    }
}

impl Spec {
    /// Makes a command of the arguments behind the name. Their number has been checked.
    pub fn interpret<'a>(&self, args: &'a [&'a [u8]]) -> Command<'a> {
        match self.run {
            Run::Parsed(parse) => {
                parse(args).unwrap_or_else(|error| Command::Ready(Reply::Error(error)))
            }
            Run::Read(run) => Command::Read {
                run,
                args,
                sees: Sees::Key,
            },
            Run::Walk(run) => Command::Read {
                run,
                args,
                sees: Sees::Any,
            },
            Run::Long(run) => Command::Read {
                run,
                args,
                sees: Sees::AnyForLong,
            },
            Run::ReadWhole(run) => Command::Read {
                run,
                args,
                sees: Sees::Keys,
            },
            Run::Server(command) => Command::Server(command),
        }
    }
}

/// Whether this is not a client of ours but a browser that was made to send lines: a page can send
/// `POST` to a local port, its body being lines of its choice.
pub fn is_forged(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}

/// An error with a text of its own.
pub(crate) fn error(text: &'static str) -> ErrorReply {
    ErrorReply::Other(text.into())
}

/// A count as a reply.
pub(crate) fn count(count: usize) -> Reply {
    Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}
