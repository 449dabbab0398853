//! Counters: rows and arguments.

use super::arguments::{self, NOT_A_FLOAT, first, integer};
use super::operation::{Operation, Rest};
use super::spec::{Flags, Group, Keys, Run, Spec};
use super::value::float;
use super::{Command, error};
use crate::protocol::ErrorReply;

const ROW: Spec = Spec {
    group: Group::String,
    flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
    keys: Keys::FIRST,
    required: &["key"],
    ..Spec::BASE
};

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        name: "INCR",
        arity: 2,
        summary: "add 1 to a number",
        run: Run::Parsed(|args| incr_by(first(args), 1)),
        ..ROW
    },
    Spec {
        name: "DECR",
        arity: 2,
        summary: "take 1 from a number",
        run: Run::Parsed(|args| incr_by(first(args), -1)),
        ..ROW
    },
    Spec {
        name: "INCRBY",
        arity: 3,
        required: &["key", "increment"],
        summary: "add to a number",
        run: Run::Parsed(|args| match *args {
            [key, by] => incr_by(key, integer(by)?),
            _ => Err(arguments::syntax("INCRBY")),
        }),
        ..ROW
    },
    Spec {
        name: "DECRBY",
        arity: 3,
        required: &["key", "decrement"],
        summary: "take from a number",
        run: Run::Parsed(|args| match *args {
            [key, by] => {
                let by = integer(by)?.checked_neg();
                incr_by(
                    key,
                    by.ok_or_else(|| error("ERR decrement would overflow"))?,
                )
            }
            _ => Err(arguments::syntax("DECRBY")),
        }),
        ..ROW
    },
    Spec {
        name: "INCRBYFLOAT",
        arity: 3,
        since: "2.6.0",
        required: &["key", "increment"],
        summary: "add to a number that may have a fraction",
        run: Run::Parsed(|args| match *args {
            [key, by] if float::Float::parse(by).is_some() => {
                Ok(Command::Write(Operation::IncrByFloat { key, by: Rest(by) }))
            }
            _ => Err(error(NOT_A_FLOAT)),
        }),
        ..ROW
    },
];

fn incr_by(key: &[u8], by: i64) -> Result<Command<'_>, ErrorReply> {
    Ok(Command::Write(Operation::IncrBy { key, by }))
}
