//! The house's rules, as a test.
//!
//! The crate is one, so no compiler keeps its layers apart; this does. Every rule is a function
//! from a source file to the places that break it, and is itself shown a breach of it below. A
//! rule looks at code only: not at comments, not inside strings, not at test modules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers: what each module of the crate's root may use. Arrows go down only.
const LAYERS: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("metrics", &[]),
    ("spares", &[]),
    ("cores", &[]),
    ("protocol", &[]),
    ("store", &["time"]),
    ("wal", &["cores", "time"]),
    ("command", &["protocol", "store", "time"]),
    (
        "engine",
        &[
            "command", "cores", "protocol", "spares", "store", "time", "wal",
        ],
    ),
    (
        "server",
        &[
            "command", "engine", "metrics", "protocol", "spares", "store", "time",
        ],
    ),
    ("tools", &["command", "time", "wal"]),
    ("config", &["cores", "engine", "wal"]),
];

/// The most lines of code a file may have; comments, blank lines and tests are not counted.
const MAX_CODE_LINES: usize = 500;

const ONLY_APPLY_CHANGES_THE_STORE: &str = "memory is the log, folded (P4): whatever else changes \
     the store makes it differ from what a restart reads back";

#[test]
fn layers_use_only_what_lies_below_them() {
    assert_kept(
        layers,
        "arrows go down only: what a layer does not know cannot break it, and it can be tested alone. \
         A new module gets its row in tests/it/tidy.rs",
    );
}

#[test]
fn anyhow_is_for_main_alone() {
    assert_kept(
        anyhow_below_main,
        "below main an error is a type that its caller can act on",
    );
}

#[test]
fn nothing_that_is_applied_sees_a_clock_or_a_dice() {
    assert_kept(
        clock_or_randomness,
        "apply is deterministic (P5): its time is the frame's. Only store/table.rs may key its hash \
         at random, since where a key lies reaches no reply, and only RANDOMKEY rolls dice",
    );
}

#[test]
fn only_apply_changes_the_store() {
    assert_kept(changes_of_the_store, ONLY_APPLY_CHANGES_THE_STORE);
}

#[test]
fn only_the_file_layer_touches_files() {
    assert_kept(
        file_access,
        "what goes past wal/fs.rs no test can make fail, tear or stall",
    );
}

#[test]
fn one_file_spells_the_log_s_file_names() {
    assert_kept(
        file_names,
        "wal/name.rs builds and parses the names; a second place would drift from it",
    );
}

#[test]
fn one_module_has_all_the_unsafe_code() {
    assert_kept(
        unsafe_code,
        "what store/shared_bytes says of itself is the whole proof that no memory is misused",
    );
}

#[test]
fn nothing_unfinished_is_left_in_the_code() {
    assert_kept(
        unfinished,
        "unfinished code and debugging output do not belong in a server",
    );
}

#[test]
fn files_stay_readable() {
    assert_kept(
        too_long,
        "a file is for one concern: split it along its concerns, not in the middle",
    );
}

#[test]
fn every_rule_notices_its_breach() {
    let breaches: &[(Rule, &str, &str)] = &[
        (layers, "src/wal/x.rs", "use crate::store::Entry;"),
        (
            layers,
            "src/protocol/x.rs",
            "use crate::{protocol::Reply, command as c};",
        ),
        (layers, "src/store/x.rs", "fn f() { crate::wal::open() }"),
        (layers, "src/store/x.rs", "use super::super::wal::Lsn;"),
        (layers, "src/wal/mod.rs", "use super::engine::Engine;"),
        (layers, "src/time.rs", "use super::wal::Lsn;"),
        (layers, "src/command/x.rs", "use crate::server::run;"),
        (layers, "src/wal/x.rs", "use postres::engine::Engine;"),
        (layers, "src/raft/mod.rs", "pub fn f() {}"),
        (anyhow_below_main, "src/engine.rs", "use anyhow::Context;"),
        (
            clock_or_randomness,
            "src/command/apply/key.rs",
            "use std::time::{Duration, Instant};",
        ),
        (
            clock_or_randomness,
            "src/store/entry.rs",
            "use std::hash::RandomState;",
        ),
        (
            clock_or_randomness,
            "src/store/table.rs",
            "fn f() { std::time::SystemTime::now() }",
        ),
        (
            clock_or_randomness,
            "src/command/table.rs",
            "fn f() { rand::random() }",
        ),
        (
            clock_or_randomness,
            "src/command/table.rs",
            "use std::collections::HashMap;",
        ),
        (
            changes_of_the_store,
            "src/engine.rs",
            "fn f() { self.store\n.del(key) }",
        ),
        (
            changes_of_the_store,
            "src/command/table.rs",
            "fn f() { store.set(k, v) }",
        ),
        (
            changes_of_the_store,
            "src/server/x.rs",
            "fn f() { InMemStore::set(s, k, v) }",
        ),
        (file_access, "src/wal/writer.rs", "use std::{fs, io};"),
        (file_access, "src/main.rs", "fn f() { tokio::fs::read(p) }"),
        (
            file_names,
            "src/wal/segment.rs",
            "fn f() { format!(\"{stem}.segment\") }",
        ),
        (file_names, "src/main.rs", "const L: &str = r\"a.lock\";"),
        (
            unsafe_code,
            "src/store/table.rs",
            "fn f() { unsafe { g() } }",
        ),
        (unsafe_code, "src/main.rs", "#[expect(unsafe_code)]"),
        (unfinished, "src/engine.rs", "fn f() { todo!() }"),
        (unfinished, "src/engine.rs", "fn f() { dbg!(x) }"),
        (unfinished, "src/engine.rs", "fn f() { unimplemented!() }"),
        (unfinished, "src/main.rs", "fn f() { println!(\"{x}\") }"),
    ];
    for &(rule, path, code) in breaches {
        // Behind what a rule must not look at, so that it has to find its way through it first.
        let text = format!("// it's a \"comment\n/* {{ */ const Q: char = '\"';\n{code}\n");
        let found = rule(&Source::new(path, &text));
        let line = 3 + usize::from(code.contains("\n."));
        match found.as_slice() {
            [breach] => assert!(
                breach.line == line || path == "src/raft/mod.rs",
                "{path}: {code}: found at line {}, not {line}",
                breach.line
            ),
            _ => panic!("{path}: {code}: found {found:?}, not one breach"),
        }
    }
    let long = "fn f() {}\n".repeat(MAX_CODE_LINES);
    assert!(too_long(&Source::new("src/engine.rs", &long)).is_empty());
    let longer = format!("{long}fn g() {{}}\n");
    assert_eq!(too_long(&Source::new("src/engine.rs", &longer)).len(), 1);
}

#[test]
fn no_rule_is_set_off_by_comments_strings_tests_or_the_places_meant() {
    let innocent: &[(&str, &str)] = &[
        (
            "src/wal/x.rs",
            "// crate::store, anyhow::Error, todo!(), a.lock",
        ),
        (
            "src/wal/x.rs",
            "/* use crate::store; /* dbg!(1) */ std::fs */",
        ),
        (
            "src/wal/x.rs",
            "const A: &str = \"crate::store \\\" dbg!(1) std::fs\";",
        ),
        (
            "src/wal/x.rs",
            "const A: &str = r#\"use \"crate::store;\"#;",
        ),
        ("src/wal/x.rs", "fn f<'a>(x: &'a str) -> char { '\"' }"),
        (
            "src/wal/x.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests { use crate::store; fn f() { \"}\"; s.set(k, v) } }",
        ),
        (
            "src/wal/x.rs",
            "use crate::time::{Clock, Timestamp};\nuse super::{Lsn, frame};",
        ),
        ("src/wal/fs.rs", "use std::fs::{self, File};"),
        ("src/wal/name.rs", "const S: &str = \".segment\";"),
        (
            "src/store/table.rs",
            "use std::hash::{BuildHasher, RandomState};",
        ),
        (
            "src/store/sharded_map.rs",
            "fn f() { self.shard(key).set(key, value) }",
        ),
        (
            "src/command/apply/key.rs",
            "fn f() { store.set(key, value); store.del(key) }",
        ),
        (
            "src/main.rs",
            "use anyhow::Context;\nuse postres::engine::Engine;",
        ),
        ("src/lib.rs", "pub mod wal;"),
        (
            "src/engine.rs",
            "use std::time::Instant;\nuse crate::wal::{LogOptions, Lsn, frame};",
        ),
        (
            "src/wal/fs.rs",
            "fn f() { file.set_len(0); \"the log's lock, a segment\" }",
        ),
    ];
    for (path, code) in innocent {
        for rule in RULES {
            let found = rule(&Source::new(path, code));
            assert!(found.is_empty(), "{path}: {code}: {found:?}");
        }
    }
}

#[test]
fn use_trees_are_read_as_the_compiler_reads_them() {
    let source = Source::new(
        "src/engine.rs",
        "use crate::{a::{self, b}, c::d as e};\nfn f() { g::<std::fs::File>(); x.y }",
    );
    let paths: BTreeSet<String> = source
        .paths()
        .into_iter()
        .map(|(_, path)| path.join("::"))
        .collect();
    for expected in ["crate::a", "crate::a::b", "crate::c::d", "std::fs::File"] {
        assert!(paths.contains(expected), "{expected} in {paths:?}");
    }
}

type Rule = fn(&Source) -> Vec<Breach>;

const RULES: &[Rule] = &[
    layers,
    anyhow_below_main,
    clock_or_randomness,
    changes_of_the_store,
    file_access,
    file_names,
    unsafe_code,
    unfinished,
    too_long,
];

#[derive(Debug)]
struct Breach {
    line: usize,
    what: String,
}

fn assert_kept(rule: Rule, why: &str) {
    let sources = sources();
    assert!(
        sources.len() > 20,
        "only {} files under src: this test looks in the wrong place",
        sources.len()
    );
    let breaches: Vec<String> = sources
        .iter()
        .flat_map(|source| rule(source).into_iter().map(move |breach| (source, breach)))
        .map(|(source, breach)| format!("{}:{}: {}", source.path, breach.line, breach.what))
        .collect();
    assert!(breaches.is_empty(), "{}\n({why})", breaches.join("\n"));
}

fn layers(source: &Source) -> Vec<Breach> {
    let layer = source.layer();
    if layer == "main" || layer == "lib" {
        return Vec::new();
    }
    let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![Breach {
            line: 1,
            what: format!("the module {layer} has no place among the layers"),
        }];
    };
    let depth = source.module_depth();
    source.breaches_in_paths(|path| {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let from_root = match path.first().map(String::as_str) {
            Some("crate" | "postres") => 1,
            Some("super") if ups >= depth => ups,
            _ => return None,
        };
        let used = path.get(from_root)?;
        let allowed = used == layer || below.contains(&used.as_str()) || used == "self";
        (!allowed).then(|| format!("{layer} uses {used}, which does not lie below it"))
    })
}

fn anyhow_below_main(source: &Source) -> Vec<Breach> {
    if source.path == "src/main.rs" {
        return Vec::new();
    }
    source.breaches_in_paths(|path| {
        (path.first()? == "anyhow").then(|| "anyhow is used below main".to_owned())
    })
}

fn clock_or_randomness(source: &Source) -> Vec<Breach> {
    if !matches!(source.layer(), "command" | "store") {
        return Vec::new();
    }
    const CRATES: &[&str] = &["rand", "getrandom", "fastrand", "tokio", "tracing"];
    const NAMES: &[&str] = &[
        "SystemTime",
        "Instant",
        "UNIX_EPOCH",
        "system_clock",
        "system_entropy",
        "thread_rng",
    ];
    let keyed_hash_is_meant = source.path == "src/store/table.rs";
    // RANDOMKEY: a reply that nobody repeats.
    let dice_are_meant = source.path == "src/command/key.rs";
    source.breaches_in_paths(|path| {
        let first = path.first()?.as_str();
        let foreign = CRATES.contains(&first) && !(dice_are_meant && first == "getrandom");
        let named = |name: &str| path.iter().any(|part| part == name);
        // The standard library's maps are keyed at random, and iterate accordingly.
        let std_map = path.starts_with(&["std".into(), "collections".into()])
            && (named("HashMap") || named("HashSet"));
        let random_hash = named("RandomState") && !keyed_hash_is_meant;
        (foreign || std_map || random_hash || NAMES.iter().any(|name| named(name)))
            .then(|| format!("{} is used where commands are applied", path.join("::")))
    })
}

fn changes_of_the_store(source: &Source) -> Vec<Breach> {
    if source.layer() == "store" || source.path.starts_with("src/command/apply/") {
        return Vec::new();
    }
    let mut breaches =
        source.breaches_in_text(&[".set(", ".del(", ".change_in_place("], "changes a store");
    breaches.extend(source.breaches_in_paths(|path| match path {
        [of, method] if of == "InMemStore" && matches!(method.as_str(), "set" | "del") => {
            Some(format!("{of}::{method} changes a store"))
        }
        _ => None,
    }));
    breaches
}

fn file_access(source: &Source) -> Vec<Breach> {
    if source.path == "src/wal/fs.rs" {
        return Vec::new();
    }
    source.breaches_in_paths(|path| match path {
        [root, fs, ..] if matches!(root.as_str(), "std" | "tokio") && fs == "fs" => {
            Some(format!("{root}::fs is used past wal/fs.rs"))
        }
        _ => None,
    })
}

fn file_names(source: &Source) -> Vec<Breach> {
    if source.path == "src/wal/name.rs" {
        return Vec::new();
    }
    const ENDINGS: &[&str] = &[".segment", ".lock", ".torn-", ".snapshot"];
    const PARTS: &[&str] = &["segment", "segment.new", "lock", "torn-", "snapshot"];
    let spells = |literal: &str| {
        PARTS.contains(&literal) || ENDINGS.iter().any(|ending| literal.contains(ending))
    };
    let literals = source.strings.iter();
    literals
        .filter(|(_, literal)| spells(literal))
        .map(|(line, literal)| Breach {
            line: *line,
            what: format!("{literal:?} spells a name of the log's files"),
        })
        .collect()
}

fn unsafe_code(source: &Source) -> Vec<Breach> {
    if source.path.starts_with("src/store/shared_bytes/") {
        return Vec::new();
    }
    source.breaches_in_text(&["unsafe"], "code")
}

fn unfinished(source: &Source) -> Vec<Breach> {
    const MACROS: &[&str] = &[
        "todo!",
        "unimplemented!",
        "dbg!",
        "println!",
        "eprintln!",
        "print!",
        "eprint!",
    ];
    source.breaches_in_text(MACROS, "is left in the code")
}

fn too_long(source: &Source) -> Vec<Breach> {
    let lines = source.code.lines();
    let count = lines.filter(|line| !line.trim().is_empty()).count();
    if count <= MAX_CODE_LINES {
        return Vec::new();
    }
    vec![Breach {
        line: 1,
        what: format!("{count} lines of code, more than {MAX_CODE_LINES}"),
    }]
}

/// A file as the rules see it.
struct Source {
    /// Its path below the crate's root, with `/`.
    path: String,
    /// Its text, comments, strings' contents and tests blanked; its lines are where they were.
    code: String,
    /// Its string literals, each with its line, those of tests left out.
    strings: Vec<(usize, String)>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let (code, strings) = blank_comments_and_strings(text);
        let tests = test_lines(&code);
        let in_tests = |line: usize| tests.iter().any(|range| range.contains(&line));
        let code: Vec<&str> = code
            .lines()
            .enumerate()
            .map(|(index, line)| if in_tests(index + 1) { "" } else { line })
            .collect();
        Self {
            path: path.to_owned(),
            code: code.join("\n"),
            strings: strings
                .into_iter()
                .filter(|(line, _)| !in_tests(*line))
                .collect(),
        }
    }

    /// The module of the crate's root that this file belongs to.
    fn layer(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = below.split('/').next().unwrap_or(below);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// How many times `super` leads from this file to the crate's root.
    fn module_depth(&self) -> usize {
        let own = usize::from(!self.path.ends_with("/mod.rs"));
        self.path.matches('/').count() - 1 + own
    }

    /// Every path in the code, `use` trees expanded, with its line.
    fn paths(&self) -> Vec<(usize, Vec<String>)> {
        let tokens = tokens(&self.code);
        let mut paths = Vec::new();
        let mut rest = tokens.as_slice();
        while let Some(((_, token), behind)) = rest.split_first() {
            rest = if is_word(token) {
                read_path(rest, &[], &mut paths)
            } else {
                behind
            };
        }
        paths
    }

    fn breaches_in_paths(&self, judge: impl Fn(&[String]) -> Option<String>) -> Vec<Breach> {
        let paths = self.paths().into_iter();
        paths
            .filter_map(|(line, path)| judge(&path).map(|what| Breach { line, what }))
            .collect()
    }

    fn breaches_in_text(&self, needles: &[&str], what: &str) -> Vec<Breach> {
        let lines = self.code.lines().enumerate();
        let found = lines.flat_map(|(index, line)| {
            let here = needles
                .iter()
                .filter(move |needle| contains_word(line, needle));
            here.map(move |needle| (index + 1, *needle))
        });
        found
            .map(|(line, needle)| Breach {
                line,
                what: format!("{needle} {what}"),
            })
            .collect()
    }
}

/// Whether `needle` stands in `line`, and not as the end of a longer word.
fn contains_word(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        needle.starts_with('.') || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::`, and single characters, each with its line.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let len = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            let (token, behind) = rest.split_at(len);
            tokens.push((index + 1, token));
            rest = behind.trim_start();
        }
    }
    tokens
}

/// Reads the path or `use` tree at the start of `tokens`, and says what stands behind it.
fn read_path<'t, 's>(
    mut tokens: &'t [(usize, &'s str)],
    prefix: &[String],
    paths: &mut Vec<(usize, Vec<String>)>,
) -> &'t [(usize, &'s str)] {
    let mut path = prefix.to_vec();
    let line = tokens.first().map_or(0, |(line, _)| *line);
    loop {
        match tokens {
            [(_, "{"), inside @ ..] => {
                let mut rest = inside;
                loop {
                    rest = match rest {
                        [] => return rest,
                        [(_, "}"), behind @ ..] => return behind,
                        [(_, word), ..] if is_word(word) => read_path(rest, &path, paths),
                        [(_, "{"), ..] => read_path(rest, &path, paths),
                        [_, behind @ ..] => behind,
                    };
                }
            }
            [(_, word), behind @ ..] if is_word(word) => {
                if *word != "self" || path.is_empty() {
                    path.push((*word).to_owned());
                }
                tokens = behind;
            }
            _ => break,
        }
        match tokens {
            [(_, "::"), behind @ ..] => tokens = behind,
            [(_, "as"), _, behind @ ..] => {
                tokens = behind;
                break;
            }
            _ => break,
        }
    }
    paths.push((line, path));
    tokens
}

/// The ranges of lines that belong to items under `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<std::ops::RangeInclusive<usize>> {
    let mut ranges = Vec::new();
    let lines: Vec<&str> = code.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() != "#[cfg(test)]" {
            at += 1;
            continue;
        }
        let (begin, mut depth) = (at, 0_usize);
        'item: for (index, line) in lines.iter().enumerate().skip(begin + 1) {
            at = index;
            for c in line.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth == 0 && matches!(c, '}' | ';') {
                    break 'item;
                }
            }
        }
        ranges.push(begin + 1..=at + 1);
        at += 1;
    }
    ranges
}

/// Blanks comments and the contents of strings and characters; hands the strings back apart.
fn blank_comments_and_strings(text: &str) -> (String, Vec<(usize, String)>) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut strings) = (String::with_capacity(text.len()), Vec::new());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let begins_word = at == 0 || !(chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        let (len, literal) = match rest {
            ['/', '/', ..] => (line_end(rest), false),
            ['/', '*', ..] => (block_comment_end(rest), false),
            ['"', ..] => (string_end(rest), true),
            ['r', '"' | '#', ..] if begins_word && raw_string_end(rest).is_some() => {
                (raw_string_end(rest).unwrap_or(1), true)
            }
            ['b', 'r', '"' | '#', ..] if begins_word && raw_string_end(&rest[1..]).is_some() => {
                (1 + raw_string_end(&rest[1..]).unwrap_or(1), true)
            }
            ['\'', '\\', _, ..] => {
                let close = rest.iter().skip(3).position(|c| *c == '\'');
                (close.map_or(1, |close| close + 4), false)
            }
            ['\'', _, '\'', ..] => (3, false),
            [c, ..] => {
                code.push(*c);
                at += 1;
                continue;
            }
            [] => break,
        };
        let token: String = rest[..len].iter().collect();
        if literal {
            let line = 1 + code.matches('\n').count();
            let bare = token.trim_start_matches(['b', 'r']).trim_matches('#');
            let bare = bare.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
            strings.push((line, bare.unwrap_or_default().to_owned()));
            // Still a token, so that a line with nothing but a string counts as code.
            code.push('"');
        }
        let blanks = token.chars().filter(|c| *c == '\n');
        code.extend(blanks.map(|_| if literal { "\"\n" } else { "\n" }));
        if literal {
            code.push('"');
        }
        at += len;
    }
    (code, strings)
}

fn line_end(rest: &[char]) -> usize {
    rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())
}

fn block_comment_end(rest: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(rest: &[char]) -> usize {
    let mut at = 1;
    while let Some(c) = rest.get(at) {
        at += match c {
            '\\' => 2,
            '"' => return at + 1,
            _ => 1,
        };
    }
    rest.len()
}

/// Where a raw string that begins with the `r` of `rest` ends, if it is one.
fn raw_string_end(rest: &[char]) -> Option<usize> {
    let hashes = rest.iter().skip(1).take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(vec!['#'; hashes]).collect();
    let begin = 2 + hashes;
    let body = rest.get(begin..)?;
    let found = body.windows(close.len()).position(|w| w == close);
    Some(found.map_or(rest.len(), |at| begin + at + close.len()))
}

/// Every file under `src`, test-only files left out.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    files.sort();
    files
        .iter()
        .filter(|file| file.file_name().is_some_and(|name| name != "tests.rs"))
        .map(|file| {
            let text = fs::read_to_string(file).expect("a file that was just listed is readable");
            let below = file
                .strip_prefix(root)
                .expect("it was found below the root");
            Source::new(&below.to_string_lossy().replace('\\', "/"), &text)
        })
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src can be listed") {
        let path = entry.expect("src can be listed").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
