//! The server: rows.

use super::spec::{Flags, Group, Run, Spec};
use super::{Command, Reply};

const ROW: Spec = Spec {
    group: Group::Server,
    flags: Flags::LOADING.and(Flags::STALE),
    ..Spec::BASE
};

pub(super) static COMMANDS: &[Spec] = &[Spec {
    name: "HELP",
    arity: 1,
    since: "postres 0.1",
    summary: "this list",
    run: Run::Parsed(|_| Ok(Command::Ready(Reply::Lines(super::table::help())))),
    ..ROW
}];
