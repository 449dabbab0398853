//! Transactions: rows. The server carries them out, since they are made of what one connection
//! sends; see `server::transaction`.

use super::spec::{Flags, Group, Keys, Run, ServerCommand, Spec};

const ROW: Spec = Spec {
    arity: 1,
    group: Group::Transactions,
    flags: Flags::NOSCRIPT
        .and(Flags::LOADING)
        .and(Flags::STALE)
        .and(Flags::FAST)
        .and(Flags::ALLOW_BUSY),
    since: "1.2.0",
    ..Spec::BASE
};

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        name: "MULTI",
        flags: ROW.flags.and(Flags::NO_MULTI),
        summary: "begin a transaction",
        run: Run::Server(ServerCommand::Multi),
        ..ROW
    },
    Spec {
        name: "EXEC",
        flags: Flags::NOSCRIPT
            .and(Flags::LOADING)
            .and(Flags::STALE)
            .and(Flags::SKIP_SLOWLOG),
        complexity: "that of its commands",
        summary: "carry out a transaction, all of it or nothing",
        run: Run::Server(ServerCommand::Exec),
        ..ROW
    },
    Spec {
        name: "DISCARD",
        since: "2.0.0",
        summary: "forget a transaction",
        run: Run::Server(ServerCommand::Discard),
        ..ROW
    },
    Spec {
        name: "WATCH",
        arity: -2,
        flags: ROW.flags.and(Flags::NO_MULTI),
        keys: Keys::ALL,
        since: "2.2.0",
        complexity: "O(N), N being the number of keys",
        required: &["key"],
        optional: "[key ...]",
        summary: "let the next transaction fail if one of these keys changes before it",
        run: Run::Server(ServerCommand::Watch),
        ..ROW
    },
    Spec {
        name: "UNWATCH",
        since: "2.2.0",
        summary: "watch no key any more",
        run: Run::Server(ServerCommand::Unwatch),
        ..ROW
    },
];
