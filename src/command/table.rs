//! The one table of commands. Names, counts of arguments, HELP, `COMMAND`, the page of commands
//! and error texts come from here.

use std::sync::LazyLock;

use super::Reply;
use super::spec::Spec;
use super::{bit, connection, expiry, key, number, server, string, transaction};
use crate::protocol::{Dialect, ErrorReply};

/// Every command, by name.
pub static COMMANDS: LazyLock<Vec<&'static Spec>> = LazyLock::new(|| {
    let families = [
        string::COMMANDS,
        number::COMMANDS,
        bit::COMMANDS,
        key::COMMANDS,
        expiry::COMMANDS,
        transaction::COMMANDS,
        connection::COMMANDS,
        server::COMMANDS,
    ];
    let mut all: Vec<_> = families.into_iter().flatten().collect();
    all.sort_by_key(|spec| spec.name);
    all
});

/// No command's name is longer.
const MAX_NAME_LEN: usize = 32;

/// How many bytes of a request an error about its name repeats.
const PREVIEW_LEN: usize = 128;

/// The most frequent, which are found without a search.
static FREQUENT: LazyLock<Vec<&'static Spec>> = LazyLock::new(|| {
    let names = ["GET", "SET", "INCR", "DEL"];
    names
        .into_iter()
        .filter_map(|name| search(name.as_bytes()))
        .collect()
});

/// The command of this name, in any case.
pub fn lookup(name: &[u8]) -> Option<&'static Spec> {
    let is_named = |spec: &&&'static Spec| spec.name.as_bytes().eq_ignore_ascii_case(name);
    FREQUENT
        .iter()
        .find(is_named)
        .copied()
        .or_else(|| search(name))
}

fn search(name: &[u8]) -> Option<&'static Spec> {
    let mut buffer = [0; MAX_NAME_LEN];
    let upper = buffer.get_mut(..name.len())?;
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    let found = COMMANDS.binary_search_by(|spec| spec.name.as_bytes().cmp(upper));
    COMMANDS.get(found.ok()?).copied()
}

/// The command that a request names, its subcommand if it has any, once the number of its words
/// has been checked.
pub fn find(request: &[&[u8]], dialect: Dialect) -> Result<&'static Spec, ErrorReply> {
    let name = request.first().copied().unwrap_or_default();
    check(lookup(name), request, dialect)
}

/// The same, where `named` is what was found by the name, if there is such a command.
pub fn check(
    named: Option<&'static Spec>,
    request: &[&[u8]],
    dialect: Dialect,
) -> Result<&'static Spec, ErrorReply> {
    let Some(mut spec) = named else {
        return Err(unknown(request));
    };
    if !spec.subcommands.is_empty()
        && let Some(sub) = request.get(1)
    {
        spec = spec
            .subcommand(sub)
            .ok_or_else(|| unknown_subcommand(spec, sub))?;
    }
    if !spec.allows_in(dialect, request.len()) {
        return Err(spec.wrong_count());
    }
    Ok(spec)
}

fn unknown(request: &[&[u8]]) -> ErrorReply {
    let (name, args) = request.split_first().unwrap_or((&(&[] as &[u8]), &[]));
    let mut preview = format!("'{}', with args beginning with: ", shown(name));
    let mut room = PREVIEW_LEN;
    for arg in args {
        let part = arg.get(..arg.len().min(room)).unwrap_or_default();
        preview += &format!("'{}' ", one_line(part));
        // The quotes and the blank count, too.
        room = room.saturating_sub(part.len() + 3);
        if room == 0 {
            break;
        }
    }
    ErrorReply::UnknownCommand { preview }
}

fn unknown_subcommand(spec: &Spec, name: &[u8]) -> ErrorReply {
    let text = format!(
        "ERR unknown subcommand '{}'. Try {} HELP.",
        shown(name),
        spec.name
    );
    ErrorReply::Other(text.into())
}

/// As much of a name as an error repeats.
fn shown(name: &[u8]) -> String {
    one_line(name.get(..name.len().min(PREVIEW_LEN)).unwrap_or_default())
}

/// Bytes of a request as part of an error, which is one line.
fn one_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace(['\r', '\n', '\0'], " ")
}

/// What HELP says of a command's subcommands.
pub(super) fn subcommand_help(name: &str) -> Reply {
    let subcommands = lookup(name.as_bytes()).map_or(&[][..], |spec| spec.subcommands);
    let heading = format!("{name} <subcommand> [<arg> ...]. Subcommands are:");
    let lines = subcommands.iter().flat_map(|spec| {
        let usage = spec.usage();
        let usage = usage.split_once(' ').map_or("", |(_, usage)| usage);
        [usage.to_owned(), format!("    {}", spec.summary)]
    });
    Reply::Lines(std::iter::once(heading).chain(lines).collect())
}

/// The error of the command of this name for a wrong number of arguments.
pub(super) fn wrong_count(name: &str) -> ErrorReply {
    let spec = lookup(name.as_bytes());
    spec.map_or(super::error("ERR syntax error"), Spec::wrong_count)
}

/// The lines of HELP: each command, and what it does.
pub fn help() -> Vec<String> {
    let lines = COMMANDS.iter().map(|spec| {
        let usage = spec.usage();
        format!("{usage:<32} {}", spec.summary)
    });
    lines.collect()
}
