//! COMMAND: the table of commands, told to clients. And each command's number, by which it is
//! counted.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

use super::{refuse, text};
use crate::command::value::glob;
use crate::command::{
    COMMANDS, CommandCommand, Flags, Group, Keys, Reply, Spec, count, error, find, is_word, lookup,
};
use crate::protocol::{Absence, Dialect};

/// Every command, each followed by its subcommands.
static ALL: LazyLock<Vec<&'static Spec>> = LazyLock::new(|| {
    let families = COMMANDS.iter().flat_map(|spec| {
        let parts = spec.subcommands.iter();
        std::iter::once(*spec).chain(parts)
    });
    families.collect()
});

/// The number of each, by where it lies in memory.
static NUMBERS: LazyLock<Numbers> = LazyLock::new(|| {
    let numbers = ALL.iter().enumerate();
    numbers
        .map(|(number, spec)| (address(spec), number))
        .collect()
});

type Numbers = HashMap<usize, usize, BuildHasherDefault<AddressHasher>>;

/// Spreads addresses, which differ in their middle bits: nobody chooses them, so this suffices.
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize((self.0 as usize) << 8 | usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        let spread = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }
}

fn address(spec: &'static Spec) -> usize {
    std::ptr::from_ref(spec).addr()
}

/// How many commands there are, subcommands included.
pub(super) fn count_with_parts() -> usize {
    ALL.len()
}

/// The number of a command of the table.
pub(super) fn number_of(spec: &'static Spec) -> usize {
    NUMBERS.get(&address(spec)).copied().unwrap_or_default()
}

/// The command of this number.
pub(super) fn by_number(number: usize) -> Option<&'static Spec> {
    ALL.get(number).copied()
}

/// Every command and subcommand, in the order of their numbers.
pub(super) fn all() -> impl Iterator<Item = &'static Spec> {
    ALL.iter().copied()
}

/// The command that a request names, whether or not the rest of it makes sense.
pub(super) fn named(request: &[&[u8]]) -> Option<&'static Spec> {
    let spec = lookup(request.first()?)?;
    let part = request.get(1).and_then(|name| spec.subcommand(name));
    Some(part.unwrap_or(spec))
}

/// The command of a name such as `get` or `client|kill`, in any case.
pub(super) fn by_full_name(name: &[u8]) -> Option<&'static Spec> {
    let Some(bar) = name.iter().position(|&byte| byte == b'|') else {
        return lookup(name);
    };
    let (name, part) = name.split_at(bar);
    lookup(name)?.subcommand(part.get(1..)?)
}

/// A command's name as replies have it.
pub(super) fn name_of(spec: &Spec) -> String {
    spec.name.to_ascii_lowercase()
}

pub(super) fn command(command: CommandCommand, args: &[&[u8]]) -> Reply {
    match command {
        CommandCommand::All => Reply::Array(COMMANDS.iter().map(|spec| info(spec)).collect()),
        CommandCommand::Count => count(COMMANDS.len()),
        CommandCommand::List => list(args),
        CommandCommand::Info if args.is_empty() => self::command(CommandCommand::All, args),
        CommandCommand::Info => {
            let named = args.iter().map(|name| by_full_name(name));
            let told = named.map(|spec| spec.map_or(Reply::Nil(Absence::Plain), info));
            Reply::Array(told.collect())
        }
        CommandCommand::Docs if args.is_empty() => docs_of(COMMANDS.iter().copied()),
        CommandCommand::Docs => docs_of(args.iter().filter_map(|name| by_full_name(name))),
        CommandCommand::GetKeys => keys_of(args, |key, _| key),
        CommandCommand::GetKeysAndFlags => {
            keys_of(args, |key, uses| Reply::Array(vec![key, statuses(uses)]))
        }
    }
}

fn list(args: &[&[u8]]) -> Reply {
    let names = |chosen: &dyn Fn(&Spec) -> bool| {
        let chosen = all().filter(|spec| chosen(spec));
        Reply::Array(chosen.map(|spec| text(name_of(spec))).collect())
    };
    match *args {
        [] => Reply::Array(COMMANDS.iter().map(|spec| text(name_of(spec))).collect()),
        [filter, by, wanted] if is_word(filter, "FILTERBY") => {
            if is_word(by, "MODULE") {
                Reply::Array(Vec::new())
            } else if is_word(by, "ACLCAT") {
                let wanted = wanted.strip_prefix(b"@").unwrap_or(wanted);
                names(&|spec| categories(spec).any(|category| is_word(wanted, category)))
            } else if is_word(by, "PATTERN") {
                let pattern = wanted.to_ascii_lowercase();
                names(&|spec| glob::matches(&pattern, name_of(spec).as_bytes()))
            } else {
                Reply::Error(crate::command::syntax("COMMAND|LIST"))
            }
        }
        _ => Reply::Error(crate::command::syntax("COMMAND|LIST")),
    }
}

/// What is to be known of a command in order to send it.
fn info(spec: &'static Spec) -> Reply {
    let number = |number: i16| Reply::Integer(number.into());
    let flags = Flags::NAMES.iter();
    let flags = flags.filter(|(flag, _)| spec.flags.has(*flag));
    let flags = flags.map(|(_, name)| Reply::Status(name));
    let categories = categories_with_at(spec).map(Reply::Status);
    let parts = spec.subcommands.iter().map(info);
    Reply::Array(vec![
        text(name_of(spec)),
        number(spec.arity),
        Reply::Set(flags.collect()),
        number(spec.keys.first),
        number(spec.keys.last),
        number(spec.keys.step),
        Reply::Set(categories.collect()),
        Reply::Set(Vec::new()),
        Reply::Set(key_specs(spec)),
        Reply::Array(parts.collect()),
    ])
}

/// The categories that Valkey's access lists put a command in, with their `@`.
fn categories_with_at(spec: &Spec) -> impl Iterator<Item = &'static str> {
    let flag = |flag| spec.flags.has(flag);
    // What has subcommands is in none of its group: they are.
    let group = if spec.subcommands.is_empty() || spec.name == "COMMAND" {
        Some(spec.group)
    } else {
        None
    };
    let dangerous = matches!(
        spec.name,
        "KEYS" | "FLUSHALL" | "FLUSHDB" | "INFO" | "LASTSAVE"
    );
    let waits = flag(Flags::BLOCKING);
    let connection = waits || spec.name.starts_with("COMMAND");
    let all_keys = matches!(spec.name, "DBSIZE" | "FLUSHALL" | "FLUSHDB");
    let keys = all_keys || group == Some(Group::Generic) && !waits;
    [
        (keys, "@keyspace"),
        (flag(Flags::READONLY), "@read"),
        (flag(Flags::WRITE), "@write"),
        (group == Some(Group::String), "@string"),
        (group == Some(Group::Bitmap), "@bitmap"),
        (flag(Flags::ADMIN) || spec.name == "LASTSAVE", "@admin"),
        (flag(Flags::FAST), "@fast"),
        (!flag(Flags::FAST), "@slow"),
        (waits, "@blocking"),
        (flag(Flags::ADMIN) || dangerous, "@dangerous"),
        (
            group == Some(Group::Connection) || connection,
            "@connection",
        ),
        (group == Some(Group::Transactions), "@transaction"),
    ]
    .into_iter()
    .filter_map(|(is_in, category)| is_in.then_some(category))
}

/// The same without it.
fn categories(spec: &Spec) -> impl Iterator<Item = &'static str> {
    categories_with_at(spec).map(|category| category.strip_prefix('@').unwrap_or(category))
}

/// Where a command's keys stand and what it does with each: `R`eads, `O`ver`W`rites, changes, or
/// `R`e`M`oves it, in Valkey's words.
fn key_uses(spec: &Spec) -> Vec<(Keys, &'static [&'static str])> {
    const CHANGED: &[&str] = &["RW", "access", "update"];
    const MOVED: &[&str] = &["RW", "access", "delete"];
    const READ: &[&str] = &["RO", "access"];
    const WRITTEN: &[&str] = &["OW", "update"];
    const INSERTED: &[&str] = &["OW", "insert"];
    const SECOND: Keys = Keys::range(2, 2, 1);
    let uses: &[_] = match spec.name {
        _ if spec.keys.first == 0 => return Vec::new(),
        "COPY" => return vec![(Keys::FIRST, READ), (SECOND, WRITTEN)],
        "RENAME" => return vec![(Keys::FIRST, MOVED), (SECOND, WRITTEN)],
        "RENAMENX" => return vec![(Keys::FIRST, MOVED), (SECOND, INSERTED)],
        "BITOP" => return vec![(SECOND, WRITTEN), (Keys::range(3, -1, 1), READ)],
        "DEL" | "DELIFEQ" | "UNLINK" => &["RM", "delete"],
        "MSET" | "SETEX" | "PSETEX" => WRITTEN,
        "MSETNX" | "SETNX" => INSERTED,
        "GETDEL" => MOVED,
        "APPEND" => &["RW", "insert"],
        "SETRANGE" | "EXPIRE" | "PEXPIRE" | "EXPIREAT" | "PEXPIREAT" | "PERSIST" => {
            &["RW", "update"]
        }
        "EXISTS" | "STRLEN" | "TOUCH" | "TYPE" | "WATCH" | "MEMORY|USAGE" => &["RO"],
        name if name.starts_with("OBJECT|") => &["RO"],
        _ if spec.flags.has(Flags::WRITE) => CHANGED,
        _ => READ,
    };
    vec![(spec.keys, uses)]
}

fn statuses(words: &'static [&'static str]) -> Reply {
    Reply::Set(words.iter().map(|word| Reply::Status(word)).collect())
}

fn key_specs(spec: &Spec) -> Vec<Reply> {
    let tell = |(Keys { first, last, step }, uses)| {
        // From the first key on, unless it is counted from the end.
        let last = if last < 0 { last } else { last - first };
        let number = |number: i16| Reply::Integer(number.into());
        let part = |kind: &str, spec: Vec<(Reply, Reply)>| {
            Reply::Map(vec![
                (text("type"), text(kind)),
                (text("spec"), Reply::Map(spec)),
            ])
        };
        let begin = part("index", vec![(text("index"), number(first))]);
        let find = part(
            "range",
            vec![
                (text("lastkey"), number(last)),
                (text("keystep"), number(step)),
                (text("limit"), number(0)),
            ],
        );
        Reply::Map(vec![
            (text("flags"), statuses(uses)),
            (text("begin_search"), begin),
            (text("find_keys"), find),
        ])
    };
    key_uses(spec).into_iter().map(tell).collect()
}

fn docs_of(specs: impl Iterator<Item = &'static Spec>) -> Reply {
    Reply::Map(
        specs
            .map(|spec| (text(name_of(spec)), docs(spec)))
            .collect(),
    )
}

fn docs(spec: &'static Spec) -> Reply {
    let mut docs = vec![
        (text("summary"), text(spec.summary)),
        (text("since"), text(spec.since)),
        (text("group"), text(spec.group.name())),
        (text("complexity"), text(spec.complexity)),
    ];
    let arguments = arguments(spec);
    if !spec.subcommands.is_empty() {
        let parts = spec.subcommands.iter();
        docs.push((text("subcommands"), docs_of(parts)));
    } else if !arguments.is_empty() {
        docs.push((text("arguments"), Reply::Array(arguments)));
    }
    Reply::Map(docs)
}

/// The arguments, as clients show them to whoever types a command.
fn arguments(spec: &Spec) -> Vec<Reply> {
    let words_before = spec.name.split('|').count();
    let argument = |name: &str, kind: &str, more: Vec<(Reply, Reply)>| {
        let fields = vec![
            (text("name"), text(name)),
            (text("type"), text(kind)),
            (text("display_text"), text(name)),
        ];
        Reply::Map(fields.into_iter().chain(more).collect())
    };
    let required = spec.required.iter().enumerate().map(|(index, name)| {
        if spec.keys.holds(index + words_before) {
            let first = (text("key_spec_index"), Reply::Integer(0));
            argument(name, "key", vec![first])
        } else {
            argument(name, "string", Vec::new())
        }
    });
    let optional = optional_parts(spec.optional).into_iter().map(|part| {
        let optional = Reply::Set(vec![Reply::Status("optional")]);
        match part
            .strip_prefix('[')
            .and_then(|part| part.strip_suffix(']'))
        {
            Some(part) => argument(part, "string", vec![(text("flags"), optional)]),
            None => argument(part, "string", Vec::new()),
        }
    });
    required.chain(optional).collect()
}

/// The parts of a usage text: what stands in brackets, and what stands between them.
fn optional_parts(usage: &'static str) -> Vec<&'static str> {
    let (mut depth, mut begun) = (0_usize, 0);
    let mut parts = Vec::new();
    for (at, byte) in usage.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let next = usage.as_bytes().get(at + 1);
        if depth == 0 && (byte == b']' || next == Some(&b'[') || next.is_none()) {
            parts.push(usage.get(begun..=at).unwrap_or_default().trim());
            begun = at + 1;
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn keys_of(request: &[&[u8]], tell: impl Fn(Reply, &'static [&'static str]) -> Reply) -> Reply {
    let Some(spec) = named(request) else {
        return refuse("ERR Invalid command specified");
    };
    if spec.keys.first == 0 {
        return refuse("ERR The command has no key arguments");
    }
    if find(request, Dialect::Resp2).is_err() {
        return Reply::Error(error(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    let mut told = Vec::new();
    for (keys, uses) in key_uses(spec) {
        let keys = keys.among(request.len());
        let keys = keys.filter_map(|index| request.get(index));
        told.extend(keys.map(|key| tell(Reply::Bytes(key.to_vec()), uses)));
    }
    Reply::Array(told)
}

impl Keys {
    /// Where keys stand among so many words.
    pub(super) fn among(self, words: usize) -> impl Iterator<Item = usize> {
        let whole = |index: i16| usize::try_from(index).unwrap_or_default();
        let last = if self.last < 0 {
            words.saturating_sub(usize::from(self.last.unsigned_abs()))
        } else {
            whole(self.last)
        };
        let last = if self.first == 0 { 0 } else { last };
        let first = whole(self.first).max(1);
        (first..=last).step_by(whole(self.step).max(1))
    }

    /// Whether this word is a key of a request that is long enough.
    fn holds(self, word: usize) -> bool {
        self.among(word + usize::from(self.last.unsigned_abs()))
            .any(|key| key == word)
    }
}

impl Spec {
    /// How many keys a request of so many words has.
    pub(super) fn keys_in(&self, words: usize) -> u64 {
        match self.keys {
            // Those of most, which need not be counted.
            Keys::FIRST => 1,
            keys => keys.among(words).count() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_number_of_its_own() {
        for (number, spec) in all().enumerate() {
            assert_eq!(number_of(spec), number, "{}", spec.name);
            assert_eq!(by_number(number).unwrap().name, spec.name);
            let found = by_full_name(name_of(spec).as_bytes()).unwrap();
            assert_eq!(found.name, spec.name);
        }
        assert_eq!(all().count(), count_with_parts());
    }

    #[test]
    fn keys_are_found_wherever_they_stand() {
        let keys = |keys: Keys, words| keys.among(words).collect::<Vec<_>>();
        assert!(keys(Keys::NONE, 5).is_empty());
        assert_eq!(keys(Keys::FIRST, 5), [1]);
        assert_eq!(keys(Keys::TWO, 5), [1, 2]);
        assert_eq!(keys(Keys::ALL, 4), [1, 2, 3]);
        assert_eq!(keys(Keys::range(1, -1, 2), 5), [1, 3]);
        assert_eq!(keys(Keys::range(2, -1, 1), 5), [2, 3, 4]);
        assert!(keys(Keys::ALL, 1).is_empty());
    }

    #[test]
    fn a_usage_is_taken_apart_at_its_brackets() {
        assert_eq!(
            optional_parts("[NX | XX] [GET] [EX [a] s | KEEPTTL]"),
            ["[NX | XX]", "[GET]", "[EX [a] s | KEEPTTL]"]
        );
        assert_eq!(optional_parts("a | b [c]"), ["a | b", "[c]"]);
        assert_eq!(optional_parts("plain"), ["plain"]);
        assert!(optional_parts("").is_empty());
    }
}
