//! Reading the arguments of a request: numbers, words, times.

use super::operation::Deadline;
use super::value::number::parse_i64;
use super::{Reply, error, lookup};
use crate::protocol::ErrorReply;

/// The longest value there can be, in bytes.
pub(crate) const MAX_VALUE_LEN: usize = 512 << 20;

pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub(super) const NOT_A_FLOAT: &str = "ERR value is not a valid float";
pub(super) const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
pub(super) const NO_SUCH_KEY: &str = "ERR no such key";
pub(super) const OVERFLOW: &str = "ERR increment or decrement would overflow";

/// The argument as a number.
pub(crate) fn integer(arg: &[u8]) -> Result<i64, ErrorReply> {
    parse_i64(arg).ok_or_else(|| error(NOT_AN_INTEGER))
}

/// The argument as the number of a database. There is one, 0.
pub(crate) fn database(arg: &[u8]) -> Result<(), ErrorReply> {
    match i32::try_from(integer(arg)?) {
        Ok(0) => Ok(()),
        Ok(_) => Err(error("ERR DB index is out of range")),
        Err(_) => Err(error(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        )),
    }
}

/// Whether an argument is this word, in any case.
pub(crate) fn is_word(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// The error for arguments that no reading of the command allows.
pub(crate) fn syntax(command: &'static str) -> ErrorReply {
    // Only SET says more on a line: there, what it takes no word for is most likely a value with
    // a space in it.
    let spec = lookup(b"SET").filter(|spec| spec.name == command);
    ErrorReply::Syntax {
        command,
        expected: spec.map(super::Spec::expected).unwrap_or_default(),
    }
}

/// The units that times are given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
}

/// A deadline that must lie ahead, as SET and GETEX have it. `command` is named in the error.
pub(super) fn expiry(
    arg: &[u8],
    unit: Unit,
    absolute: bool,
    command: &'static str,
) -> Result<Deadline, ErrorReply> {
    match deadline(arg, unit, absolute, command)? {
        Deadline::In(..=0 | FOREVER..) | Deadline::At(..=0) => Err(invalid_expire_time(command)),
        deadline => Ok(deadline),
    }
}

/// Milliseconds that leave no room for the time of day, which they are added to. Apply refuses what
/// does not fit; this is for an error that names the command.
pub(super) const FOREVER: i64 = i64::MAX - 2_000_000_000_000;

/// A deadline, whether or not it has passed.
pub(super) fn deadline(
    arg: &[u8],
    unit: Unit,
    absolute: bool,
    command: &'static str,
) -> Result<Deadline, ErrorReply> {
    let given = integer(arg)?;
    let millis = match unit {
        Unit::Millis => Some(given),
        Unit::Seconds => given.checked_mul(1000),
    };
    let millis = millis.ok_or_else(|| invalid_expire_time(command))?;
    Ok(if absolute {
        Deadline::At(millis)
    } else {
        Deadline::In(millis)
    })
}

pub(super) fn invalid_expire_time(command: &'static str) -> ErrorReply {
    let command = command.to_ascii_lowercase();
    ErrorReply::Other(format!("ERR invalid expire time in '{command}' command").into())
}

/// Keys that all stand in a row, as owned by nobody but the request.
pub(super) fn first<'a>(args: &[&'a [u8]]) -> &'a [u8] {
    args.first().copied().unwrap_or_default()
}

/// The reply of a read whose arguments may be wrong.
pub(super) fn or_error(reply: Result<Reply, ErrorReply>) -> Reply {
    reply.unwrap_or_else(Reply::Error)
}
