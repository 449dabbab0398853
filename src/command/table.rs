//! The one table of commands. Names, counts of arguments, HELP and error texts come from here.

use super::{Command, Operation, Reply};
use crate::protocol::ErrorReply;
use crate::store::InMemStore;

/// How many arguments a command takes, its name not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Just this many.
    Exactly(usize),
    /// This many or more.
    AtLeast(usize),
    /// This many or fewer.
    AtMost(usize),
}

impl Arity {
    /// Whether a command may have this many arguments.
    pub fn allows(self, count: usize) -> bool {
        match self {
            Self::Exactly(n) => count == n,
            Self::AtLeast(n) => count >= n,
            Self::AtMost(n) => count <= n,
        }
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Spec {
    /// The name, in capitals.
    pub name: &'static str,
    /// The names of its arguments.
    pub arguments: &'static [&'static str],
    /// How many arguments it takes.
    pub arity: Arity,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// Makes the command. The number of arguments has been checked.
    pub(super) parse: for<'a> fn(&'a [&'a [u8]]) -> Command<'a>,
}

impl Spec {
    /// Whether `name`, in any case, is this command's.
    pub fn is_named(&self, name: &[u8]) -> bool {
        self.name.as_bytes().eq_ignore_ascii_case(name)
    }

    /// The error for a wrong number of arguments.
    pub fn wrong_count(&self) -> ErrorReply {
        let (prefix, count) = match self.arity {
            Arity::Exactly(0) | Arity::AtMost(0) => ("", 0),
            Arity::Exactly(n) => ("", n),
            Arity::AtLeast(n) => ("at least ", n),
            Arity::AtMost(n) => ("at most ", n),
        };
        let names: Vec<_> = self
            .arguments
            .iter()
            .map(|name| name.to_uppercase())
            .collect();
        let names = names.join(" and ");
        let expected = match count {
            0 => "no argument".to_owned(),
            1 => format!("{prefix}1 argument {names}"),
            n => format!("{prefix}{n} arguments {names}"),
        };
        ErrorReply::WrongCount {
            command: self.name,
            expected,
        }
    }

    /// The command as one writes it, such as `EXISTS key...`.
    pub fn usage(&self) -> String {
        let mut usage = self.name.to_owned();
        for argument in self.arguments {
            usage += &match self.arity {
                Arity::Exactly(_) => format!(" {argument}"),
                Arity::AtLeast(_) => format!(" {argument}..."),
                Arity::AtMost(_) => format!(" [{argument}]"),
            };
        }
        usage
    }
}

/// Every command, the most frequent first: a name is looked up from the start.
pub static COMMANDS: &[Spec] = &[
    Spec {
        name: "GET",
        arguments: &["key"],
        arity: Arity::Exactly(1),
        summary: "the value of a key",
        parse: |args| Command::Read { run: get, args },
    },
    Spec {
        name: "SET",
        arguments: &["key", "value"],
        arity: Arity::Exactly(2),
        summary: "give a key a value, whether or not it had one",
        parse: |args| match args {
            [key, value] => Command::Write(Operation::Set { key, value }),
            _ => unreachable_count(),
        },
    },
    Spec {
        name: "DEL",
        arguments: &["key"],
        arity: Arity::Exactly(1),
        summary: "remove a key; no error where it is absent",
        parse: |args| match args {
            [key] => Command::Write(Operation::Del { key }),
            _ => unreachable_count(),
        },
    },
    Spec {
        name: "EXISTS",
        arguments: &["key"],
        arity: Arity::AtLeast(1),
        summary: "how many of these keys are there",
        parse: |args| Command::Read { run: exists, args },
    },
    Spec {
        name: "DBSIZE",
        arguments: &[],
        arity: Arity::Exactly(0),
        summary: "how many keys there are",
        parse: |args| Command::Read { run: dbsize, args },
    },
    Spec {
        name: "PING",
        arguments: &["message"],
        arity: Arity::AtMost(1),
        summary: "PONG, or the message",
        parse: |args| match args {
            [message, ..] => Command::Ready(Reply::Bytes(message.to_vec())),
            [] => Command::Ready(Reply::Pong),
        },
    },
    Spec {
        name: "ECHO",
        arguments: &["message"],
        arity: Arity::Exactly(1),
        summary: "the message",
        parse: |args| Command::Ready(Reply::Bytes(args.concat())),
    },
    Spec {
        name: "HELP",
        arguments: &[],
        arity: Arity::Exactly(0),
        summary: "this list",
        parse: |_| Command::Ready(help()),
    },
    Spec {
        name: "QUIT",
        arguments: &[],
        arity: Arity::Exactly(0),
        summary: "close the connection",
        parse: |_| Command::Quit,
    },
];

/// For the arm of a match on a slice whose length was checked against the arity.
fn unreachable_count<'a>() -> Command<'a> {
    Command::Ready(Reply::Error(ErrorReply::UnknownCommand))
}

fn get(store: &dyn InMemStore, args: &[&[u8]]) -> Reply {
    let value = args.first().and_then(|key| store.get(key));
    value.map_or(Reply::NotFound { command: "GET" }, Reply::Value)
}

fn exists(store: &dyn InMemStore, args: &[&[u8]]) -> Reply {
    integer(args.iter().filter(|key| store.contains(key)).count())
}

fn dbsize(store: &dyn InMemStore, _: &[&[u8]]) -> Reply {
    integer(store.len())
}

fn help() -> Reply {
    Reply::Text(
        COMMANDS
            .iter()
            .map(|s| format!("{:<16} {}", s.usage(), s.summary))
            .collect(),
    )
}

fn integer(count: usize) -> Reply {
    Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}
