//! The connection: rows.

use super::arguments::first;
use super::spec::{Flags, Group, Run, ServerCommand, Spec};
use super::{Command, Reply};

const ROW: Spec = Spec {
    group: Group::Connection,
    flags: Flags::NOSCRIPT
        .and(Flags::LOADING)
        .and(Flags::STALE)
        .and(Flags::FAST)
        .and(Flags::ALLOW_BUSY),
    ..Spec::BASE
};

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        name: "PING",
        arity: -1,
        flags: Flags::FAST,
        optional: "[message]",
        summary: "PONG, or the message",
        run: Run::Parsed(|args| {
            Ok(Command::Ready(match args {
                [] => Reply::Pong,
                [message] => Reply::Bytes(message.to_vec()),
                _ => Reply::Error(super::table::wrong_count("PING")),
            }))
        }),
        ..ROW
    },
    Spec {
        name: "ECHO",
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        required: &["message"],
        summary: "the message",
        run: Run::Parsed(|args| Ok(Command::Ready(Reply::Bytes(first(args).to_vec())))),
        ..ROW
    },
    Spec {
        name: "HELLO",
        arity: -1,
        flags: ROW.flags.and(Flags::NO_AUTH),
        since: "6.0.0",
        optional: "[version [AUTH user password] [SETNAME name]]",
        summary: "choose the protocol, 2 or 3, and learn about the server",
        run: Run::Server(ServerCommand::Hello),
        ..ROW
    },
    Spec {
        name: "AUTH",
        arity: -2,
        flags: ROW.flags.and(Flags::NO_AUTH),
        required: &["password"],
        optional: "(or: user password)",
        summary: "show that one may use the server",
        run: Run::Server(ServerCommand::Auth),
        ..ROW
    },
    Spec {
        name: "SELECT",
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        required: &["index"],
        summary: "choose a database; there is only 0",
        run: Run::Server(ServerCommand::Select),
        ..ROW
    },
    Spec {
        name: "RESET",
        arity: 1,
        flags: ROW.flags.and(Flags::NO_AUTH),
        since: "6.2.0",
        summary: "make the connection as it was at first",
        run: Run::Server(ServerCommand::Reset),
        ..ROW
    },
    Spec {
        name: "QUIT",
        arity: -1,
        flags: ROW.flags.and(Flags::NO_AUTH),
        summary: "close the connection",
        run: Run::Server(ServerCommand::Quit),
        ..ROW
    },
];
