//! Keys: rows, arguments, reads.

use super::arguments::{self, database, first, integer, is_word, or_error};
use super::operation::{Operation, Rest};
use super::spec::{Flags, Group, Keys, Run, Spec};
use super::value::{glob, number::parse_i64};
use super::{Command, Reply, View, count, error};
use crate::protocol::{Absence, ErrorReply};
use crate::store::Entry;

const ROW: Spec = Spec {
    group: Group::Generic,
    keys: Keys::FIRST,
    flags: Flags::READONLY.and(Flags::FAST),
    required: &["key"],
    ..Spec::BASE
};

const MANY: Spec = Spec {
    arity: -2,
    keys: Keys::ALL,
    optional: "[key ...]",
    complexity: "O(N), N being the number of keys",
    ..ROW
};

const FLUSH: Spec = Spec {
    arity: -1,
    group: Group::Server,
    flags: Flags::WRITE,
    keys: Keys::NONE,
    required: &[],
    optional: "[ASYNC | SYNC]",
    summary: "remove all keys",
    run: Run::Parsed(flush),
    ..ROW
};

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        name: "DEL",
        flags: Flags::WRITE,
        summary: "remove keys; no error where one is absent",
        run: Run::Parsed(del),
        ..MANY
    },
    Spec {
        name: "UNLINK",
        flags: Flags::WRITE.and(Flags::FAST),
        since: "4.0.0",
        summary: "the same as DEL",
        run: Run::Parsed(del),
        ..MANY
    },
    Spec {
        name: "EXISTS",
        summary: "how many of these keys are there",
        run: Run::ReadWhole(exists),
        ..MANY
    },
    Spec {
        name: "TOUCH",
        since: "3.2.1",
        summary: "how many of these keys are there",
        run: Run::ReadWhole(exists),
        ..MANY
    },
    Spec {
        name: "TYPE",
        arity: 2,
        summary: "the type of a key's value: string, or none",
        run: Run::Read(|view, args| match view.get(first(args)) {
            Some(_) => Reply::Status("string"),
            None => Reply::Status("none"),
        }),
        ..ROW
    },
    Spec {
        name: "RENAME",
        arity: 3,
        flags: Flags::WRITE,
        keys: Keys::TWO,
        required: &["key", "new-key"],
        summary: "give a key another name, in place of whatever has it",
        run: Run::Parsed(|args| match *args {
            [from, to] => Ok(Command::Write(Operation::Rename { from, to })),
            _ => Err(arguments::syntax("RENAME")),
        }),
        ..ROW
    },
    Spec {
        name: "RENAMENX",
        arity: 3,
        flags: Flags::WRITE.and(Flags::FAST),
        keys: Keys::TWO,
        required: &["key", "new-key"],
        summary: "give a key another name that is not taken",
        run: Run::Parsed(|args| match *args {
            [from, to] => Ok(Command::Write(Operation::RenameNx { from, to })),
            _ => Err(arguments::syntax("RENAMENX")),
        }),
        ..ROW
    },
    Spec {
        name: "COPY",
        arity: -3,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: Keys::TWO,
        since: "6.2.0",
        complexity: "O(N), N being the length of the value",
        required: &["source", "destination"],
        optional: "[DB 0] [REPLACE]",
        summary: "copy a key with its value and expiry",
        run: Run::Parsed(copy),
        ..ROW
    },
    Spec {
        name: "RANDOMKEY",
        arity: 1,
        flags: Flags::READONLY,
        keys: Keys::NONE,
        required: &[],
        summary: "any key",
        run: Run::Walk(|view, _| random_key(view)),
        ..ROW
    },
    Spec {
        name: "KEYS",
        arity: 2,
        flags: Flags::READONLY,
        keys: Keys::NONE,
        complexity: "O(N), N being the number of all keys",
        required: &["pattern"],
        summary: "the keys that match a pattern",
        run: Run::Long(keys),
        ..ROW
    },
    Spec {
        name: "SCAN",
        arity: -2,
        flags: Flags::READONLY,
        keys: Keys::NONE,
        since: "2.8.0",
        complexity: "O(1) a call, O(N) for all, N being the number of all keys",
        required: &["cursor"],
        optional: "[MATCH pattern] [COUNT count] [TYPE type]",
        summary: "walk over all keys, some at a time",
        run: Run::Walk(|view, args| or_error(scan(view, args))),
        ..ROW
    },
    Spec {
        name: "DBSIZE",
        arity: 1,
        group: Group::Server,
        keys: Keys::NONE,
        required: &[],
        summary: "how many keys there are",
        run: Run::ReadWhole(|view, _| count(view.store().len())),
        ..ROW
    },
    Spec {
        name: "FLUSHDB",
        ..FLUSH
    },
    Spec {
        name: "FLUSHALL",
        ..FLUSH
    },
    Spec {
        name: "OBJECT",
        arity: -2,
        flags: Flags::NONE,
        keys: Keys::NONE,
        since: "2.2.3",
        required: &["subcommand"],
        optional: "[argument ...]",
        summary: "how a value is kept",
        subcommands: OBJECT,
        ..ROW
    },
    Spec {
        name: "MEMORY",
        arity: -2,
        flags: Flags::NONE,
        group: Group::Server,
        keys: Keys::NONE,
        since: "4.0.0",
        required: &["subcommand"],
        optional: "[argument ...]",
        summary: "how much memory is used",
        subcommands: MEMORY,
        ..ROW
    },
];

const MEMORY_ROW: Spec = Spec {
    group: Group::Server,
    since: "4.0.0",
    ..OBJECT_ROW
};

const OBJECT_ROW: Spec = Spec {
    arity: 3,
    flags: Flags::READONLY,
    keys: Keys::range(2, 2, 1),
    since: "2.2.3",
    ..ROW
};

static OBJECT: &[Spec] = &[
    Spec {
        name: "OBJECT|ENCODING",
        summary: "the encoding that Redis would have chosen for a value",
        run: Run::Read(|view, args| {
            object(view, args, |entry| {
                Reply::Bytes(encoding(entry).as_bytes().to_vec())
            })
        }),
        ..OBJECT_ROW
    },
    Spec {
        name: "OBJECT|REFCOUNT",
        summary: "how many hold the value: always 1",
        run: Run::Read(|view, args| object(view, args, |_| Reply::Integer(1))),
        ..OBJECT_ROW
    },
    Spec {
        name: "OBJECT|IDLETIME",
        summary: "how long the value was not used: not recorded, always 0",
        run: Run::Read(|view, args| object(view, args, |_| Reply::Integer(0))),
        ..OBJECT_ROW
    },
    Spec {
        name: "OBJECT|FREQ",
        since: "4.0.0",
        summary: "how often the value was used: not recorded, an error",
        run: Run::Read(|view, args| {
            object(view, args, |_| {
                Reply::Error(error(
                    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
                ))
            })
        }),
        ..OBJECT_ROW
    },
    Spec {
        name: "OBJECT|HELP",
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE),
        keys: Keys::NONE,
        since: "6.2.0",
        required: &[],
        summary: "its subcommands",
        run: Run::Parsed(|_| Ok(Command::Ready(super::table::subcommand_help("OBJECT")))),
        ..OBJECT_ROW
    },
];

static MEMORY: &[Spec] = &[
    Spec {
        name: "MEMORY|USAGE",
        arity: -3,
        optional: "[SAMPLES count]",
        summary: "the bytes that a key and its value take",
        run: Run::Read(|view, args| or_error(memory_usage(view, args))),
        ..MEMORY_ROW
    },
    Spec {
        name: "MEMORY|HELP",
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE),
        keys: Keys::NONE,
        required: &[],
        summary: "its subcommands",
        run: Run::Parsed(|_| Ok(Command::Ready(super::table::subcommand_help("MEMORY")))),
        ..MEMORY_ROW
    },
];

fn del<'a>(args: &'a [&'a [u8]]) -> Result<Command<'a>, ErrorReply> {
    Ok(Command::Write(match *args {
        [key] => Operation::Del { key: Rest(key) },
        ref keys => Operation::DelMany {
            keys: keys.to_vec(),
        },
    }))
}

fn exists(view: &View<'_>, args: &[&[u8]]) -> Reply {
    count(args.iter().filter(|key| view.get(key).is_some()).count())
}

fn copy<'a>(args: &'a [&'a [u8]]) -> Result<Command<'a>, ErrorReply> {
    let syntax = || arguments::syntax("COPY");
    let [from, to, ref options @ ..] = *args else {
        return Err(syntax());
    };
    let mut replace = false;
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        if is_word(option, "REPLACE") {
            replace = true;
        } else if is_word(option, "DB") {
            database(rest.next().ok_or_else(syntax)?)?;
        } else {
            return Err(syntax());
        }
    }
    if from == to {
        return Err(error("ERR source and destination objects are the same"));
    }
    Ok(Command::Write(Operation::Copy { from, to, replace }))
}

fn flush<'a>(args: &'a [&'a [u8]]) -> Result<Command<'a>, ErrorReply> {
    match *args {
        [] => {}
        [how] if is_word(how, "SYNC") || is_word(how, "ASYNC") => {}
        _ => return Err(arguments::syntax("FLUSHALL")),
    }
    Ok(Command::Write(Operation::FlushAll {}))
}

fn key(entry: &Entry) -> Reply {
    Reply::Bytes(entry.key().to_vec())
}

fn random_key(view: &View<'_>) -> Reply {
    let tables = view.store().table_count();
    let start = random_below(tables);
    for step in 0..tables {
        let entries: Vec<_> = view.table((start + step) % tables).collect();
        if let Some(entry) = entries.get(random_below(entries.len())) {
            return key(entry);
        }
    }
    Reply::Nil(Absence::Key {
        command: "RANDOMKEY",
    })
}

/// A number below `limit`, or 0.
fn random_below(limit: usize) -> usize {
    // Where the system has no randomness to give, any key will do.
    let random = getrandom::u64().unwrap_or_default();
    (random % (limit.max(1) as u64)) as usize
}

fn keys(view: &View<'_>, args: &[&[u8]]) -> Reply {
    let pattern = first(args);
    let tables = 0..view.store().table_count();
    let entries = tables.flat_map(|table| view.table(table));
    let matching = entries.filter(|entry| matches(pattern, entry.key()));
    Reply::Array(matching.map(|entry| key(&entry)).collect())
}

/// Every key matches a lone star, the empty one too, which a star elsewhere does not.
fn matches(pattern: &[u8], key: &[u8]) -> bool {
    pattern == b"*" || glob::matches(pattern, key)
}

/// Types that there are, though not here: no key has one.
const OTHER_TYPES: &[&str] = &["list", "set", "zset", "hash", "stream"];

/// A step of a walk over all keys. The cursor is the number of the next table; a key stays in its
/// table for as long as the server runs, so that one that is there throughout is met just once.
fn scan(view: &View<'_>, args: &[&[u8]]) -> Result<Reply, ErrorReply> {
    let syntax = || arguments::syntax("SCAN");
    let (cursor, options) = args.split_first().ok_or_else(syntax)?;
    let cursor = cursor.trim_ascii_start();
    let cursor: u64 = std::str::from_utf8(cursor)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| error("ERR invalid cursor"))?;
    let (mut pattern, mut wanted, mut any_type) = (None, 10, true);
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        if is_word(option, "NOVALUES") {
            return Err(error("ERR NOVALUES option can only be used in HSCAN"));
        }
        let argument = rest.next().ok_or_else(syntax)?;
        if is_word(option, "COUNT") {
            wanted = integer(argument)?;
            if wanted < 1 {
                return Err(syntax());
            }
        } else if is_word(option, "MATCH") {
            pattern = Some(*argument);
        } else if is_word(option, "TYPE") {
            any_type = is_word(argument, "string");
            if !any_type && !OTHER_TYPES.iter().any(|name| is_word(argument, name)) {
                let name = String::from_utf8_lossy(argument);
                return Err(ErrorReply::Other(
                    format!("ERR unknown type name '{name}'").into(),
                ));
            }
        } else {
            return Err(syntax());
        }
    }
    let tables = view.store().table_count();
    let mut table = usize::try_from(cursor).unwrap_or(usize::MAX);
    let (mut found, mut seen) = (Vec::new(), 0);
    while table < tables && seen < wanted {
        for entry in view.table(table) {
            seen += 1;
            if any_type && pattern.is_none_or(|pattern| matches(pattern, entry.key())) {
                found.push(key(&entry));
            }
        }
        table += 1;
    }
    let next = if table < tables { table } else { 0 };
    let next = Reply::Bytes(next.to_string().into_bytes());
    Ok(Reply::Array(vec![next, Reply::Array(found)]))
}

fn object(view: &View<'_>, args: &[&[u8]], tell: impl FnOnce(&Entry) -> Reply) -> Reply {
    match args.get(1).and_then(|key| view.get(key)) {
        Some(entry) => tell(&entry),
        None => Reply::Nil(Absence::Key { command: "OBJECT" }),
    }
}

/// Redis keeps numbers as such, and short values in one allocation with their object.
fn encoding(entry: &Entry) -> &'static str {
    const LONGEST_EMBEDDED: usize = 112;
    match entry.value() {
        value if parse_i64(value).is_some() => "int",
        value if entry.key().len() + value.len() <= LONGEST_EMBEDDED => "embstr",
        _ => "raw",
    }
}

fn memory_usage(view: &View<'_>, args: &[&[u8]]) -> Result<Reply, ErrorReply> {
    let syntax = || arguments::syntax("MEMORY");
    let (samples, left) = args.get(2..).unwrap_or_default().as_chunks();
    for [option, count] in samples {
        if !is_word(option, "SAMPLES") || integer(count)? < 0 {
            return Err(syntax());
        }
    }
    if !left.is_empty() {
        return Err(syntax());
    }
    Ok(object(view, args, |entry| count(entry.memory())))
}
