//! Expiries: rows, arguments, reads.

use super::arguments::{self, FOREVER, Unit, deadline, first, is_word};
use super::operation::{Deadline, ExpireCondition, Operation, Rest};
use super::spec::{Flags, Group, Keys, Run, Spec};
use super::{Command, Reply, View, error};
use crate::protocol::ErrorReply;
use crate::time::Timestamp;

const CHANGE: Spec = Spec {
    arity: -3,
    group: Group::Generic,
    flags: Flags::WRITE.and(Flags::FAST),
    keys: Keys::FIRST,
    optional: "[NX | XX | GT | LT]",
    ..Spec::BASE
};

const READ: Spec = Spec {
    arity: 2,
    group: Group::Generic,
    flags: Flags::READONLY.and(Flags::FAST),
    keys: Keys::FIRST,
    required: &["key"],
    ..Spec::BASE
};

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        name: "EXPIRE",
        required: &["key", "seconds"],
        summary: "let a key expire in so many seconds",
        run: Run::Parsed(|args| expire(args, Unit::Seconds, false, "EXPIRE")),
        ..CHANGE
    },
    Spec {
        name: "PEXPIRE",
        since: "2.6.0",
        required: &["key", "ms"],
        summary: "let a key expire in so many milliseconds",
        run: Run::Parsed(|args| expire(args, Unit::Millis, false, "PEXPIRE")),
        ..CHANGE
    },
    Spec {
        name: "EXPIREAT",
        since: "1.2.0",
        required: &["key", "time"],
        summary: "let a key expire at a time, in seconds since 1970",
        run: Run::Parsed(|args| expire(args, Unit::Seconds, true, "EXPIREAT")),
        ..CHANGE
    },
    Spec {
        name: "PEXPIREAT",
        since: "2.6.0",
        required: &["key", "ms-time"],
        summary: "let a key expire at a time, in milliseconds since 1970",
        run: Run::Parsed(|args| expire(args, Unit::Millis, true, "PEXPIREAT")),
        ..CHANGE
    },
    Spec {
        name: "PERSIST",
        arity: 2,
        since: "2.2.0",
        required: &["key"],
        optional: "",
        summary: "let a key no longer expire",
        run: Run::Parsed(|args| {
            let key = Rest(first(args));
            Ok(Command::Write(Operation::Persist { key }))
        }),
        ..CHANGE
    },
    Spec {
        name: "TTL",
        summary: "seconds until a key expires; -1 if it does not, -2 if it is not there",
        run: Run::Read(|view, args| {
            time(view, args, |at, now| {
                at.saturating_sub(now).saturating_add(500) / 1000
            })
        }),
        ..READ
    },
    Spec {
        name: "PTTL",
        since: "2.6.0",
        summary: "milliseconds until a key expires; -1 if it does not, -2 if it is not there",
        run: Run::Read(|view, args| time(view, args, u64::saturating_sub)),
        ..READ
    },
    Spec {
        name: "EXPIRETIME",
        since: "7.0.0",
        summary: "the time at which a key expires, in seconds since 1970; -1 and -2 as TTL",
        run: Run::Read(|view, args| time(view, args, |at, _| at.saturating_add(500) / 1000)),
        ..READ
    },
    Spec {
        name: "PEXPIRETIME",
        since: "7.0.0",
        summary: "the time at which a key expires, in milliseconds since 1970; -1 and -2 as TTL",
        run: Run::Read(|view, args| time(view, args, |at, _| at)),
        ..READ
    },
];

/// What `tell` makes of a key's expiry and of what time it is, both in milliseconds.
fn time(view: &View<'_>, args: &[&[u8]], tell: fn(u64, u64) -> u64) -> Reply {
    Reply::Integer(match view.get(first(args)).map(|entry| entry.expires()) {
        None => -2,
        Some(None) => -1,
        Some(Some(Timestamp(at))) => i64::try_from(tell(at, view.time().0)).unwrap_or(i64::MAX),
    })
}

fn expire<'a>(
    args: &[&'a [u8]],
    unit: Unit,
    absolute: bool,
    command: &'static str,
) -> Result<Command<'a>, ErrorReply> {
    let [key, when, ref options @ ..] = *args else {
        return Err(arguments::syntax(command));
    };
    let condition = condition(options)?;
    let at = deadline(when, unit, absolute, command)?;
    // One so far ahead that no clock gets there is refused now, by its own command's name.
    if let Deadline::In(FOREVER..) = at {
        return Err(arguments::invalid_expire_time(command));
    }
    Ok(Command::Write(Operation::Expire { key, at, condition }))
}

fn condition(options: &[&[u8]]) -> Result<ExpireCondition, ErrorReply> {
    let (mut unset, mut set, mut later, mut earlier) = (false, false, false, false);
    for option in options {
        let seen = if is_word(option, "NX") {
            &mut unset
        } else if is_word(option, "XX") {
            &mut set
        } else if is_word(option, "GT") {
            &mut later
        } else if is_word(option, "LT") {
            &mut earlier
        } else {
            let option = String::from_utf8_lossy(option).replace(['\r', '\n', '\0'], " ");
            return Err(ErrorReply::Other(
                format!("ERR Unsupported option {option}").into(),
            ));
        };
        *seen = true;
    }
    if unset && (set || later || earlier) {
        return Err(error(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if later && earlier {
        return Err(error(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    Ok(match (unset, set, later, earlier) {
        (true, ..) => ExpireCondition::Unset,
        (_, true, true, _) => ExpireCondition::SetAndLater,
        (_, true, _, true) => ExpireCondition::SetAndEarlier,
        (_, true, ..) => ExpireCondition::Set,
        (_, _, true, _) => ExpireCondition::Later,
        (_, _, _, true) => ExpireCondition::Earlier,
        _ => ExpireCondition::Always,
    })
}
