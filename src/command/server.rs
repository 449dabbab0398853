//! The server: rows.

use super::connection::{BY_SUBCOMMAND, SUBCOMMANDS};
use super::spec::{
    ConfigCommand, Flags, Group, LatencyCommand, Run, ServerCommand, SlowLogCommand, Spec,
};
use super::table::subcommand_help;
use super::{Command, Reply};

const ROW: Spec = Spec {
    arity: 1,
    group: Group::Server,
    flags: Flags::LOADING.and(Flags::STALE),
    ..Spec::BASE
};

const QUICK: Flags = ROW.flags.and(Flags::FAST);
const SAVING: Flags = Flags::ADMIN
    .and(Flags::NOSCRIPT)
    .and(Flags::NO_ASYNC_LOADING);
const ADMIN: Flags = ROW.flags.and(Flags::ADMIN).and(Flags::NOSCRIPT);

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        name: "HELP",
        since: "postres 0.1",
        summary: "this list",
        run: Run::Parsed(|_| Ok(Command::Ready(Reply::Lines(super::table::help())))),
        ..ROW
    },
    Spec {
        name: "BGREWRITEAOF",
        flags: SAVING,
        summary: "the same as BGSAVE",
        run: Run::Server(ServerCommand::RewriteLog),
        ..ROW
    },
    Spec {
        name: "BGSAVE",
        arity: -1,
        flags: SAVING,
        optional: "[SCHEDULE | CANCEL]",
        summary: "begin a snapshot, and then remove the log before it",
        run: Run::Server(ServerCommand::BackgroundSave),
        ..ROW
    },
    Spec {
        name: "CONFIG",
        arity: -2,
        flags: Flags::NONE,
        since: "2.0.0",
        complexity: BY_SUBCOMMAND,
        required: &["subcommand"],
        optional: "[argument ...]",
        summary: "the server's settings",
        run: SUBCOMMANDS,
        subcommands: CONFIG,
        ..ROW
    },
    Spec {
        name: "DEBUG",
        arity: -2,
        flags: ADMIN,
        complexity: BY_SUBCOMMAND,
        required: &["subcommand"],
        optional: "[argument ...]",
        summary: "SLEEP seconds: wait; only where the flag -enable-debug-command says so",
        run: Run::Server(ServerCommand::Debug),
        ..ROW
    },
    Spec {
        name: "INFO",
        arity: -1,
        optional: "[section ...]",
        summary: "how the server is and what it has done",
        run: Run::Server(ServerCommand::Info),
        ..ROW
    },
    Spec {
        name: "LASTSAVE",
        flags: QUICK,
        summary: "when the last snapshot was finished, in seconds since 1970; before any, the start",
        run: Run::Server(ServerCommand::LastSave),
        ..ROW
    },
    Spec {
        name: "LATENCY",
        arity: -2,
        flags: Flags::NONE,
        since: "2.8.13",
        complexity: BY_SUBCOMMAND,
        required: &["subcommand"],
        optional: "[argument ...]",
        summary: "what took long",
        run: SUBCOMMANDS,
        subcommands: LATENCY,
        ..ROW
    },
    Spec {
        name: "MONITOR",
        flags: ADMIN,
        summary: "show what all clients ask",
        run: Run::Server(ServerCommand::Monitor),
        ..ROW
    },
    Spec {
        name: "SAVE",
        flags: SAVING.and(Flags::NO_MULTI),
        summary: "BGSAVE, and wait until it is done; other clients are served meanwhile",
        run: Run::Server(ServerCommand::Save),
        ..ROW
    },
    Spec {
        name: "SHUTDOWN",
        arity: -1,
        flags: ADMIN.and(Flags::NO_MULTI).and(Flags::ALLOW_BUSY),
        optional: "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
        summary: "stop the server",
        run: Run::Server(ServerCommand::Shutdown),
        ..ROW
    },
    Spec {
        name: "SLOWLOG",
        arity: -2,
        flags: Flags::NONE,
        since: "2.2.12",
        complexity: BY_SUBCOMMAND,
        required: &["subcommand"],
        optional: "[argument ...]",
        summary: "the commands that took longest",
        run: SUBCOMMANDS,
        subcommands: SLOWLOG,
        ..ROW
    },
    Spec {
        name: "TIME",
        flags: QUICK,
        since: "2.6.0",
        summary: "the time: seconds since 1970, and microseconds",
        run: Run::Server(ServerCommand::Time),
        ..ROW
    },
    Spec {
        name: "WAIT",
        arity: 3,
        group: Group::Generic,
        flags: Flags::BLOCKING,
        since: "3.0.0",
        required: &["replicas", "ms"],
        summary: "wait until replicas have all writes: there is none",
        run: Run::Server(ServerCommand::Wait),
        ..ROW
    },
    Spec {
        name: "WAITAOF",
        arity: 4,
        group: Group::Generic,
        flags: Flags::BLOCKING,
        since: "7.2.0",
        required: &["local", "replicas", "ms"],
        summary: "wait until all writes are on this disk, and on replicas'",
        run: Run::Server(ServerCommand::WaitAof),
        ..ROW
    },
];

const ADMIN_ROW: Spec = Spec {
    arity: 2,
    flags: ADMIN,
    ..ROW
};

static CONFIG: &[Spec] = &[
    Spec {
        name: "CONFIG|GET",
        arity: -3,
        since: "2.0.0",
        complexity: PER_SETTING,
        required: &["pattern"],
        optional: "[pattern ...]",
        summary: "settings and their values",
        run: Run::Server(ServerCommand::Config(ConfigCommand::Get)),
        ..ADMIN_ROW
    },
    Spec {
        name: "CONFIG|HELP",
        flags: Flags::LOADING.and(Flags::STALE),
        since: "5.0.0",
        summary: "its subcommands",
        run: Run::Parsed(|_| Ok(Command::Ready(subcommand_help("CONFIG")))),
        ..ADMIN_ROW
    },
    Spec {
        name: "CONFIG|RESETSTAT",
        since: "2.0.0",
        summary: "let INFO count from nothing",
        run: Run::Server(ServerCommand::Config(ConfigCommand::ResetStat)),
        ..ADMIN_ROW
    },
    Spec {
        name: "CONFIG|REWRITE",
        since: "2.8.0",
        summary: "write the settings to the file they came from: there is none",
        run: Run::Server(ServerCommand::Config(ConfigCommand::Rewrite)),
        ..ADMIN_ROW
    },
    Spec {
        name: "CONFIG|SET",
        arity: -4,
        since: "2.0.0",
        complexity: PER_SETTING,
        required: &["setting", "value"],
        optional: "[setting value ...]",
        summary: "change settings, all of them or none",
        run: Run::Server(ServerCommand::Config(ConfigCommand::Set)),
        ..ADMIN_ROW
    },
];

const PER_SETTING: &str = "O(N), N being the number of settings";

static LATENCY: &[Spec] = &[
    Spec {
        name: "LATENCY|DOCTOR",
        summary: "what to think of it",
        run: Run::Server(ServerCommand::Latency(LatencyCommand::Doctor)),
        ..LATENCY_ROW
    },
    Spec {
        name: "LATENCY|GRAPH",
        arity: 3,
        required: &["event"],
        summary: "an event's last times, drawn",
        run: Run::Server(ServerCommand::Latency(LatencyCommand::Graph)),
        ..LATENCY_ROW
    },
    Spec {
        name: "LATENCY|HELP",
        flags: Flags::LOADING.and(Flags::STALE),
        since: "2.8.13",
        summary: "its subcommands",
        run: Run::Parsed(|_| Ok(Command::Ready(subcommand_help("LATENCY")))),
        ..LATENCY_ROW
    },
    Spec {
        name: "LATENCY|HISTOGRAM",
        arity: -2,
        since: "7.0.0",
        complexity: "O(N), N being the number of commands",
        optional: "[command ...]",
        summary: "how long commands took, each as a histogram",
        run: Run::Server(ServerCommand::Latency(LatencyCommand::Histogram)),
        ..LATENCY_ROW
    },
    Spec {
        name: "LATENCY|HISTORY",
        arity: 3,
        required: &["event"],
        summary: "an event's last times",
        run: Run::Server(ServerCommand::Latency(LatencyCommand::History)),
        ..LATENCY_ROW
    },
    Spec {
        name: "LATENCY|LATEST",
        summary: "each event's last time and longest",
        run: Run::Server(ServerCommand::Latency(LatencyCommand::Latest)),
        ..LATENCY_ROW
    },
    Spec {
        name: "LATENCY|RESET",
        arity: -2,
        optional: "[event ...]",
        summary: "forget events",
        run: Run::Server(ServerCommand::Latency(LatencyCommand::Reset)),
        ..LATENCY_ROW
    },
];

const LATENCY_ROW: Spec = Spec {
    since: "2.8.13",
    ..ADMIN_ROW
};

static SLOWLOG: &[Spec] = &[
    Spec {
        name: "SLOWLOG|GET",
        arity: -2,
        complexity: "O(N), N being the number of entries",
        optional: "[count]",
        summary: "the latest entries",
        run: Run::Server(ServerCommand::SlowLog(SlowLogCommand::Get)),
        ..SLOWLOG_ROW
    },
    Spec {
        name: "SLOWLOG|HELP",
        flags: Flags::LOADING.and(Flags::STALE),
        since: "6.2.0",
        summary: "its subcommands",
        run: Run::Parsed(|_| Ok(Command::Ready(subcommand_help("SLOWLOG")))),
        ..SLOWLOG_ROW
    },
    Spec {
        name: "SLOWLOG|LEN",
        summary: "how many entries there are",
        run: Run::Server(ServerCommand::SlowLog(SlowLogCommand::Len)),
        ..SLOWLOG_ROW
    },
    Spec {
        name: "SLOWLOG|RESET",
        complexity: "O(N), N being the number of entries",
        summary: "forget them",
        run: Run::Server(ServerCommand::SlowLog(SlowLogCommand::Reset)),
        ..SLOWLOG_ROW
    },
];

const SLOWLOG_ROW: Spec = Spec {
    flags: ROW.flags.and(Flags::ADMIN),
    since: "2.2.12",
    ..ADMIN_ROW
};
