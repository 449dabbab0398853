//! The connection: rows.

use super::arguments::first;
use super::spec::{ClientCommand, CommandCommand, Flags, Group, Run, ServerCommand, Spec};
use super::table::subcommand_help;
use super::{Command, Reply, error};

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
        flags: Flags::LOADING
            .and(Flags::STALE)
            .and(Flags::FAST)
            .and(Flags::ALLOW_BUSY),
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
    Spec {
        name: "CLIENT",
        arity: -2,
        flags: Flags::NONE,
        since: "2.4.0",
        complexity: BY_SUBCOMMAND,
        required: &["subcommand"],
        optional: "[argument ...]",
        summary: "clients: this one and the others",
        run: SUBCOMMANDS,
        subcommands: CLIENT,
        ..ROW
    },
    Spec {
        name: "COMMAND",
        arity: -1,
        flags: COMMAND_ROW.flags,
        optional: "[subcommand [argument ...]]",
        complexity: "O(N), N being the number of commands",
        summary: "the commands that there are",
        run: Run::Server(ServerCommand::Command(CommandCommand::All)),
        subcommands: COMMAND,
        ..COMMAND_ROW
    },
];

/// Of what has subcommands.
pub(super) const BY_SUBCOMMAND: &str = "that of its subcommands";

/// How a command is carried out that is never without a subcommand: it is not.
pub(super) const SUBCOMMANDS: Run = Run::Parsed(|_| Err(error("ERR a subcommand is missing")));

const CLIENT_ROW: Spec = Spec {
    arity: 2,
    group: Group::Connection,
    flags: Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE),
    ..Spec::BASE
};

static CLIENT: &[Spec] = &[
    Spec {
        name: "CLIENT|GETNAME",
        flags: CLIENT_ROW.flags.and(Flags::ALLOW_BUSY),
        since: "2.6.9",
        summary: "the connection's name",
        run: Run::Server(ServerCommand::Client(ClientCommand::GetName)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|GETREDIR",
        flags: CLIENT_ROW.flags.and(Flags::ALLOW_BUSY),
        since: "6.0.0",
        summary: "whom invalidations go to: to nobody, -1",
        run: Run::Server(ServerCommand::Client(ClientCommand::GetRedir)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|HELP",
        flags: Flags::LOADING.and(Flags::STALE),
        since: "5.0.0",
        summary: "its subcommands",
        run: Run::Parsed(|_| Ok(Command::Ready(subcommand_help("CLIENT")))),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|ID",
        flags: CLIENT_ROW.flags.and(Flags::ALLOW_BUSY),
        since: "5.0.0",
        summary: "the connection's number",
        run: Run::Server(ServerCommand::Client(ClientCommand::Id)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|INFO",
        since: "6.2.0",
        summary: "what LIST says of this connection",
        run: Run::Server(ServerCommand::Client(ClientCommand::Info)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|KILL",
        arity: -3,
        flags: CLIENT_ROW.flags.and(Flags::ADMIN),
        since: "2.4.0",
        complexity: PER_CLIENT,
        optional: "[ip:port] [ID id [id ...]] [TYPE type] [USER name] [ADDR ip:port] [LADDR ip:port] [SKIPME YES|NO] [MAXAGE seconds]",
        summary: "end connections",
        run: Run::Server(ServerCommand::Client(ClientCommand::Kill)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|LIST",
        arity: -2,
        flags: CLIENT_ROW.flags.and(Flags::ADMIN),
        since: "2.4.0",
        complexity: PER_CLIENT,
        optional: "[TYPE type] [ID id [id ...]] [USER name] [ADDR ip:port] [LADDR ip:port] [SKIPME YES|NO] [MAXAGE seconds]",
        summary: "all connections, a line each",
        run: Run::Server(ServerCommand::Client(ClientCommand::List)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|NO-EVICT",
        arity: 3,
        flags: CLIENT_ROW.flags.and(Flags::ADMIN).and(Flags::ALLOW_BUSY),
        since: "7.0.0",
        required: &["ON|OFF"],
        summary: "spare this connection when memory runs out: none is ended for that",
        run: Run::Server(ServerCommand::Client(ClientCommand::NoEvict)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|NO-TOUCH",
        arity: 3,
        flags: CLIENT_ROW.flags.and(Flags::ALLOW_BUSY),
        since: "7.2.0",
        required: &["ON|OFF"],
        summary: "do not note when keys are used: it never is",
        run: Run::Server(ServerCommand::Client(ClientCommand::NoTouch)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|PAUSE",
        arity: -3,
        flags: CLIENT_ROW.flags.and(Flags::ADMIN),
        since: "3.0.0",
        required: &["ms"],
        optional: "[WRITE | ALL]",
        summary: "let all commands, or those that write, wait for a time",
        run: Run::Server(ServerCommand::Client(ClientCommand::Pause)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|REPLY",
        arity: 3,
        flags: CLIENT_ROW.flags.and(Flags::NO_MULTI).and(Flags::ALLOW_BUSY),
        since: "3.2.0",
        required: &["ON|OFF|SKIP"],
        summary: "choose whether replies are wanted",
        run: Run::Server(ServerCommand::Client(ClientCommand::Reply)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|SETINFO",
        arity: 4,
        flags: CLIENT_ROW.flags.and(Flags::ALLOW_BUSY),
        since: "7.2.0",
        required: &["LIB-NAME|LIB-VER", "value"],
        summary: "tell the client's library or its version",
        run: Run::Server(ServerCommand::Client(ClientCommand::SetInfo)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|SETNAME",
        arity: 3,
        flags: CLIENT_ROW.flags.and(Flags::ALLOW_BUSY),
        since: "2.6.9",
        required: &["name"],
        summary: "name the connection",
        run: Run::Server(ServerCommand::Client(ClientCommand::SetName)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|UNBLOCK",
        arity: -3,
        flags: CLIENT_ROW.flags.and(Flags::ADMIN),
        since: "5.0.0",
        complexity: "O(log N), N being the number of clients",
        required: &["id"],
        optional: "[TIMEOUT | ERROR]",
        summary: "let a connection no longer wait",
        run: Run::Server(ServerCommand::Client(ClientCommand::Unblock)),
        ..CLIENT_ROW
    },
    Spec {
        name: "CLIENT|UNPAUSE",
        flags: CLIENT_ROW.flags.and(Flags::ADMIN),
        since: "6.2.0",
        complexity: "O(N), N being the number of clients that wait",
        summary: "end a pause",
        run: Run::Server(ServerCommand::Client(ClientCommand::Unpause)),
        ..CLIENT_ROW
    },
];

const PER_CLIENT: &str = "O(N), N being the number of clients";

const COMMAND_ROW: Spec = Spec {
    arity: 2,
    group: Group::Server,
    flags: Flags::LOADING.and(Flags::STALE),
    since: "2.8.13",
    ..Spec::BASE
};

static COMMAND: &[Spec] = &[
    Spec {
        name: "COMMAND|COUNT",
        summary: "how many commands there are",
        run: Run::Server(ServerCommand::Command(CommandCommand::Count)),
        ..COMMAND_ROW
    },
    Spec {
        name: "COMMAND|DOCS",
        arity: -2,
        since: "7.0.0",
        complexity: PER_NAME,
        optional: "[command ...]",
        summary: "what commands do",
        run: Run::Server(ServerCommand::Command(CommandCommand::Docs)),
        ..COMMAND_ROW
    },
    Spec {
        name: "COMMAND|GETKEYS",
        arity: -3,
        complexity: PER_ARGUMENT,
        required: &["command"],
        optional: "[argument ...]",
        summary: "the keys of a whole command",
        run: Run::Server(ServerCommand::Command(CommandCommand::GetKeys)),
        ..COMMAND_ROW
    },
    Spec {
        name: "COMMAND|GETKEYSANDFLAGS",
        arity: -3,
        since: "7.0.0",
        complexity: PER_ARGUMENT,
        required: &["command"],
        optional: "[argument ...]",
        summary: "the keys of a whole command, and what it does with each",
        run: Run::Server(ServerCommand::Command(CommandCommand::GetKeysAndFlags)),
        ..COMMAND_ROW
    },
    Spec {
        name: "COMMAND|HELP",
        flags: Flags::LOADING.and(Flags::STALE),
        since: "5.0.0",
        summary: "its subcommands",
        run: Run::Parsed(|_| Ok(Command::Ready(subcommand_help("COMMAND")))),
        ..COMMAND_ROW
    },
    Spec {
        name: "COMMAND|INFO",
        arity: -2,
        complexity: PER_NAME,
        optional: "[command ...]",
        summary: "what is to be known of commands to send them",
        run: Run::Server(ServerCommand::Command(CommandCommand::Info)),
        ..COMMAND_ROW
    },
    Spec {
        name: "COMMAND|LIST",
        arity: -2,
        since: "7.0.0",
        complexity: "O(N), N being the number of commands",
        optional: "[FILTERBY MODULE module | ACLCAT category | PATTERN pattern]",
        summary: "the names of the commands",
        run: Run::Server(ServerCommand::Command(CommandCommand::List)),
        ..COMMAND_ROW
    },
];

const PER_NAME: &str = "O(N), N being the number of names";
const PER_ARGUMENT: &str = "O(N), N being the number of arguments";
