//! Strings: rows, arguments, reads.

use super::arguments::{
    self, MAX_VALUE_LEN, TOO_LONG, Unit, expiry, first, integer, is_word, or_error,
};
use super::operation::{Condition, Expiry, Operation, Rest};
use super::spec::{Flags, Group, Keys, Run, Spec};
use super::value::{lcs, range};
use super::{Command, Reply, Sees, View, count, error};
use crate::protocol::{Absence, ErrorReply};
use crate::store::{Entry, Value};

const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);
const READ: Flags = Flags::READONLY;

const ROW: Spec = Spec {
    group: Group::String,
    keys: Keys::FIRST,
    ..Spec::BASE
};

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        name: "GET",
        arity: 2,
        flags: READ.and(Flags::FAST),
        required: &["key"],
        summary: "the value of a key",
        run: Run::Read(|view, args| {
            let entry = view.get(first(args));
            entry.map_or(Reply::Nil(Absence::Key { command: "GET" }), value)
        }),
        ..ROW
    },
    Spec {
        name: "SET",
        arity: -3,
        flags: WRITE,
        required: &["key", "value"],
        optional: "[NX | XX | IFEQ value] [GET] [EX seconds | PX ms | EXAT time | PXAT ms-time | KEEPTTL]",
        summary: "give a key a value",
        run: Run::Parsed(set),
        ..ROW
    },
    Spec {
        name: "SETNX",
        arity: 3,
        flags: WRITE.and(Flags::FAST),
        required: &["key", "value"],
        summary: "give a key a value if it has none",
        run: Run::Parsed(|args| match *args {
            [key, value] => write(Operation::SetNx {
                key,
                value: Rest(value),
            }),
            _ => Err(arguments::syntax("SETNX")),
        }),
        ..ROW
    },
    Spec {
        name: "SETEX",
        arity: 4,
        flags: WRITE,
        since: "2.0.0",
        required: &["key", "seconds", "value"],
        summary: "give a key a value, and seconds to live",
        run: Run::Parsed(|args| set_for(args, Unit::Seconds, "SETEX")),
        ..ROW
    },
    Spec {
        name: "PSETEX",
        arity: 4,
        flags: WRITE,
        since: "2.6.0",
        required: &["key", "ms", "value"],
        summary: "give a key a value, and milliseconds to live",
        run: Run::Parsed(|args| set_for(args, Unit::Millis, "PSETEX")),
        ..ROW
    },
    Spec {
        name: "GETSET",
        arity: 3,
        flags: WRITE.and(Flags::FAST),
        required: &["key", "value"],
        summary: "give a key a value, and tell the one before",
        run: Run::Parsed(|args| match *args {
            [key, value] => write(Operation::SetWith {
                key,
                expiry: Expiry::Never,
                condition: Condition::Always,
                get: true,
                value: Rest(value),
            }),
            _ => Err(arguments::syntax("GETSET")),
        }),
        ..ROW
    },
    Spec {
        name: "GETDEL",
        arity: 2,
        flags: Flags::WRITE.and(Flags::FAST),
        since: "6.2.0",
        required: &["key"],
        summary: "remove a key, and tell its value",
        run: Run::Parsed(|args| {
            write(Operation::GetDel {
                key: Rest(first(args)),
            })
        }),
        ..ROW
    },
    Spec {
        name: "GETEX",
        arity: -2,
        flags: Flags::WRITE.and(Flags::FAST),
        since: "6.2.0",
        required: &["key"],
        optional: "[EX seconds | PX ms | EXAT time | PXAT ms-time | PERSIST]",
        summary: "tell a key's value, and change when it expires",
        run: Run::Parsed(get_ex),
        ..ROW
    },
    Spec {
        name: "DELIFEQ",
        arity: 3,
        flags: Flags::WRITE.and(Flags::FAST),
        since: "9.0.0",
        required: &["key", "value"],
        summary: "remove a key if it has this value",
        run: Run::Parsed(|args| match *args {
            [key, value] => write(Operation::DelIfEq {
                key,
                value: Rest(value),
            }),
            _ => Err(arguments::syntax("DELIFEQ")),
        }),
        ..ROW
    },
    Spec {
        name: "MGET",
        arity: -2,
        flags: READ.and(Flags::FAST),
        keys: Keys::ALL,
        complexity: "O(N), N being the number of keys",
        required: &["key"],
        optional: "[key ...]",
        summary: "the values of several keys",
        run: Run::ReadWhole(|view, args| {
            let values = args.iter().map(|key| view.get(key));
            Reply::Array(
                values
                    .map(|entry| entry.map_or(Reply::Nil(Absence::Plain), value))
                    .collect(),
            )
        }),
        ..ROW
    },
    Spec {
        name: "MSET",
        arity: -3,
        flags: WRITE,
        keys: Keys::range(1, -1, 2),
        since: "1.0.1",
        complexity: "O(N), N being the number of keys",
        required: &["key", "value"],
        optional: "[key value ...]",
        summary: "give several keys their values, all at once",
        run: Run::Parsed(|args| {
            Ok(Command::Write(Operation::MSet {
                pairs: pairs(args, "MSET")?,
            }))
        }),
        ..ROW
    },
    Spec {
        name: "MSETNX",
        arity: -3,
        flags: WRITE,
        keys: Keys::range(1, -1, 2),
        since: "1.0.1",
        complexity: "O(N), N being the number of keys",
        required: &["key", "value"],
        optional: "[key value ...]",
        summary: "the same, if none of the keys is there",
        run: Run::Parsed(|args| {
            Ok(Command::Write(Operation::MSetNx {
                pairs: pairs(args, "MSETNX")?,
            }))
        }),
        ..ROW
    },
    Spec {
        name: "APPEND",
        arity: 3,
        flags: WRITE.and(Flags::FAST),
        since: "2.0.0",
        complexity: "O(N), N being the length of the value",
        required: &["key", "value"],
        summary: "add to the end of a value",
        run: Run::Parsed(|args| match *args {
            [key, value] => write(Operation::Append {
                key,
                value: Rest(value),
            }),
            _ => Err(arguments::syntax("APPEND")),
        }),
        ..ROW
    },
    Spec {
        name: "STRLEN",
        arity: 2,
        flags: READ.and(Flags::FAST),
        since: "2.2.0",
        required: &["key"],
        summary: "the length of a value, in bytes",
        run: Run::Read(|view, args| {
            let entry = view.get(first(args));
            count(entry.map_or(0, |entry| entry.value().len()))
        }),
        ..ROW
    },
    Spec {
        name: "GETRANGE",
        arity: 4,
        flags: READ,
        since: "2.4.0",
        complexity: "O(N), N being the number of bytes",
        required: &["key", "start", "end"],
        summary: "a part of a value",
        run: Run::Read(get_range),
        ..ROW
    },
    Spec {
        name: "SUBSTR",
        arity: 4,
        flags: READ,
        complexity: "O(N), N being the number of bytes",
        required: &["key", "start", "end"],
        summary: "the same as GETRANGE",
        run: Run::Read(get_range),
        ..ROW
    },
    Spec {
        name: "SETRANGE",
        arity: 4,
        flags: WRITE,
        since: "2.2.0",
        complexity: "O(N), N being the length of the value",
        required: &["key", "offset", "value"],
        summary: "overwrite a part of a value",
        run: Run::Parsed(set_range),
        ..ROW
    },
    Spec {
        name: "LCS",
        arity: -3,
        flags: READ,
        keys: Keys::TWO,
        since: "7.0.0",
        complexity: "O(N*M), N and M being the lengths of the values",
        required: &["key1", "key2"],
        optional: "[LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]",
        summary: "the longest common subsequence of two values",
        // It may take a second: what is applied meanwhile does not wait either.
        run: Run::Long(|view, args| or_error(find_lcs(view, args))),
        ..ROW
    },
];

fn write(operation: Operation<'_>) -> Result<Command<'_>, ErrorReply> {
    Ok(Command::Write(operation))
}

fn value(entry: Entry) -> Reply {
    Reply::Value(Value::from(entry))
}

fn set<'a>(args: &'a [&'a [u8]]) -> Result<Command<'a>, ErrorReply> {
    let (key, value, options) = match *args {
        [key, value] => {
            return write(Operation::Set {
                key,
                value: Rest(value),
            });
        }
        [key, value, ref options @ ..] => (key, value, options),
        _ => return Err(arguments::syntax("SET")),
    };
    let syntax = || arguments::syntax("SET");
    let (mut condition, mut get, mut lifetime) = (None, false, None);
    let mut rest = options.iter().copied();
    while let Some(option) = rest.next() {
        if let Some(found) = condition_option(option, &mut rest) {
            // The same one twice is once; but not two values to compare with.
            let found = found?;
            let again = matches!(found, Condition::Absent | Condition::Present);
            if condition
                .replace(found)
                .is_some_and(|before| before != found || !again)
            {
                return Err(syntax());
            }
        } else if is_word(option, "GET") {
            get = true;
        } else if let Some(found) = lifetime_option(option, "KEEPTTL", Expiry::Keep) {
            let argument = match found {
                Lifetime::Fixed(_) => None,
                Lifetime::Given(..) => Some(rest.next().ok_or_else(syntax)?),
            };
            // Of the same one twice, the last counts.
            if lifetime
                .replace((found, argument))
                .is_some_and(|(before, _)| before != found)
            {
                return Err(syntax());
            }
        } else {
            return Err(syntax());
        }
    }
    write(Operation::SetWith {
        key,
        expiry: lifetime_of(lifetime, "SET")?.unwrap_or(Expiry::Never),
        condition: condition.unwrap_or(Condition::Always),
        get,
        value: Rest(value),
    })
}

/// The condition that this option of SET names, or an error if its argument is missing.
fn condition_option<'a>(
    option: &[u8],
    rest: &mut impl Iterator<Item = &'a [u8]>,
) -> Option<Result<Condition<'a>, ErrorReply>> {
    Some(if is_word(option, "NX") {
        Ok(Condition::Absent)
    } else if is_word(option, "XX") {
        Ok(Condition::Present)
    } else if is_word(option, "IFEQ") {
        let expected = rest.next().map(Condition::Equal);
        expected.ok_or_else(|| arguments::syntax("SET"))
    } else {
        return None;
    })
}

/// An option that says what becomes of an expiry.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lifetime {
    /// By itself.
    Fixed(Expiry),
    /// By the argument behind it, absolute or not.
    Given(Unit, bool),
}

fn lifetime_option(option: &[u8], fixed: &str, expiry: Expiry) -> Option<Lifetime> {
    Some(if is_word(option, "EX") {
        Lifetime::Given(Unit::Seconds, false)
    } else if is_word(option, "PX") {
        Lifetime::Given(Unit::Millis, false)
    } else if is_word(option, "EXAT") {
        Lifetime::Given(Unit::Seconds, true)
    } else if is_word(option, "PXAT") {
        Lifetime::Given(Unit::Millis, true)
    } else if is_word(option, fixed) {
        Lifetime::Fixed(expiry)
    } else {
        return None;
    })
}

/// Only once all options are known to fit together is the time itself looked at.
fn lifetime_of(
    found: Option<(Lifetime, Option<&[u8]>)>,
    command: &'static str,
) -> Result<Option<Expiry>, ErrorReply> {
    Ok(match found {
        None => None,
        Some((Lifetime::Fixed(expiry), _)) => Some(expiry),
        Some((Lifetime::Given(unit, absolute), argument)) => {
            let deadline = expiry(argument.unwrap_or_default(), unit, absolute, command)?;
            Some(Expiry::New(deadline))
        }
    })
}

fn set_for<'a>(
    args: &'a [&'a [u8]],
    unit: Unit,
    command: &'static str,
) -> Result<Command<'a>, ErrorReply> {
    let [key, time, value] = *args else {
        return Err(arguments::syntax(command));
    };
    write(Operation::SetWith {
        key,
        expiry: Expiry::New(expiry(time, unit, false, command)?),
        condition: Condition::Always,
        get: false,
        value: Rest(value),
    })
}

fn get_ex<'a>(args: &'a [&'a [u8]]) -> Result<Command<'a>, ErrorReply> {
    let syntax = || arguments::syntax("GETEX");
    let (key, options) = args.split_first().ok_or_else(syntax)?;
    if options.is_empty() {
        return Ok(Command::Read {
            run: |view, args| {
                let entry = view.get(first(args));
                entry.map_or(Reply::Nil(Absence::Key { command: "GETEX" }), value)
            },
            args,
            sees: Sees::Key,
        });
    }
    let mut lifetime = None;
    let mut rest = options.iter().copied();
    while let Some(option) = rest.next() {
        let found = lifetime_option(option, "PERSIST", Expiry::Never).ok_or_else(syntax)?;
        let argument = match found {
            Lifetime::Fixed(_) => None,
            Lifetime::Given(..) => Some(rest.next().ok_or_else(syntax)?),
        };
        if lifetime
            .replace((found, argument))
            .is_some_and(|(before, _)| before != found)
        {
            return Err(syntax());
        }
    }
    let expiry = lifetime_of(lifetime, "GETEX")?.unwrap_or(Expiry::Keep);
    write(Operation::GetEx { key, expiry })
}

/// A key and its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

fn pairs<'a>(args: &[&'a [u8]], command: &'static str) -> Result<Vec<Pair<'a>>, ErrorReply> {
    let (pairs, left) = args.as_chunks();
    if !left.is_empty() {
        return Err(ErrorReply::WrongCount {
            command,
            expected: "as many VALUES as KEYS".to_owned(),
        });
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}

fn get_range(view: &View<'_>, args: &[&[u8]]) -> Reply {
    let [key, start, end] = *args else {
        return Reply::Bytes(Vec::new());
    };
    let (start, end) = match (integer(start), integer(end)) {
        (Ok(start), Ok(end)) => (start, end),
        (Err(error), _) | (_, Err(error)) => return Reply::Error(error),
    };
    let entry = view.get(key);
    let value = entry.as_ref().map_or(&[][..], Entry::value);
    Reply::Bytes(range::slice(value, start, end).to_vec())
}

fn set_range<'a>(args: &'a [&'a [u8]]) -> Result<Command<'a>, ErrorReply> {
    let [key, offset, value] = *args else {
        return Err(arguments::syntax("SETRANGE"));
    };
    let offset =
        u64::try_from(integer(offset)?).map_err(|_| error("ERR offset is out of range"))?;
    let end = offset.saturating_add(value.len() as u64);
    if !value.is_empty() && end > MAX_VALUE_LEN as u64 {
        return Err(error(TOO_LONG));
    }
    write(Operation::SetRange {
        key,
        offset,
        value: Rest(value),
    })
}

fn find_lcs(view: &View<'_>, args: &[&[u8]]) -> Result<Reply, ErrorReply> {
    let syntax = || arguments::syntax("LCS");
    let [key1, key2, ref options @ ..] = *args else {
        return Err(syntax());
    };
    let (mut only_length, mut index, mut with_lengths, mut least) = (false, false, false, 0);
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        if is_word(option, "LEN") {
            only_length = true;
        } else if is_word(option, "IDX") {
            index = true;
        } else if is_word(option, "WITHMATCHLEN") {
            with_lengths = true;
        } else if is_word(option, "MINMATCHLEN") {
            let length = integer(rest.next().ok_or_else(syntax)?)?;
            least = usize::try_from(length).unwrap_or(0);
        } else {
            return Err(syntax());
        }
    }
    if only_length && index {
        return Err(error(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    let (first, second) = view.pair(key1, key2);
    let a = first.as_ref().map_or(&[][..], Entry::value);
    let b = second.as_ref().map_or(&[][..], Entry::value);
    let too_large = |error: lcs::TooLarge| ErrorReply::Other(format!("ERR {error}").into());
    if only_length {
        return Ok(count(lcs::length(a, b).map_err(too_large)?));
    }
    if !index {
        return Ok(Reply::Bytes(lcs::subsequence(a, b).map_err(too_large)?));
    }
    let (matches, length) = lcs::matches(a, b, least).map_err(too_large)?;
    let matches = matches.iter().map(|found| {
        let range = |start: usize| Reply::Array(vec![count(start), count(start + found.len - 1)]);
        let mut ranges = vec![range(found.first), range(found.second)];
        ranges.extend(with_lengths.then(|| count(found.len)));
        Reply::Array(ranges)
    });
    let name = |name: &[u8]| Reply::Bytes(name.to_vec());
    Ok(Reply::Map(vec![
        (name(b"matches"), Reply::Array(matches.collect())),
        (name(b"len"), count(length)),
    ]))
}
