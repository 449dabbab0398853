//! The page of commands says what the table of commands says.

use std::fmt::Write;
use std::path::Path;

use postres::command::{COMMANDS, Flags, Group, Spec};

const GROUPS: [(Group, &str); 6] = [
    (Group::String, "Strings and counters"),
    (Group::Bitmap, "Bits"),
    (Group::Generic, "Keys and expiries"),
    (Group::Transactions, "Transactions"),
    (Group::Connection, "The connection"),
    (Group::Server, "The server"),
];

/// The page, as the table has it.
fn page() -> String {
    let mut page = String::from(
        "# Commands\n\n\
         This page is made from the table of commands: `just commands` writes it anew. `HELP` on a line, \
         `COMMAND` and `COMMAND DOCS` in RESP tell the same. Semantics and error texts are those of \
         Valkey 9.1; where this server differs, the README has a table of it.\n",
    );
    for (group, title) in GROUPS {
        write!(
            page,
            "\n## {title}\n\n| command | what it does | cost | |\n|---|---|---|---|\n"
        )
        .unwrap();
        for spec in COMMANDS.iter().filter(|spec| spec.group == group) {
            row(&mut page, spec);
            for subcommand in spec.subcommands {
                row(&mut page, subcommand);
            }
        }
    }
    page
}

fn row(page: &mut String, spec: &Spec) {
    let cell = |text: &str| text.replace('|', "\\|");
    let kind = if spec.flags.has(Flags::WRITE) {
        "writes"
    } else if spec.flags.has(Flags::READONLY) {
        "reads"
    } else {
        ""
    };
    writeln!(
        page,
        "| `{}` | {} | {} | {kind} |",
        cell(&spec.usage()),
        cell(spec.summary),
        cell(spec.complexity),
    )
    .unwrap();
}

#[test]
fn the_page_of_commands_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let page = page();
    if std::env::var_os("POSTRES_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/commands.md is not what the table says: `just commands` writes it anew"
    );
}

#[test]
fn every_row_of_the_table_is_whole() {
    let all = COMMANDS
        .iter()
        .flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands));
    for spec in all {
        let words = spec.name.split('|').count();
        let least = usize::from(spec.arity.unsigned_abs());
        assert!(
            !spec.summary.is_empty() && !spec.since.is_empty(),
            "{}",
            spec.name
        );
        assert_eq!(spec.name, spec.name.to_uppercase());
        // CLIENT KILL has two forms, which name their own.
        let required = spec.required.len() + usize::from(spec.name == "CLIENT|KILL");
        assert_eq!(least, words + required, "{}'s arity", spec.name);
        // What may have more says what.
        assert!(
            spec.arity > 0 || !spec.optional.is_empty() || spec.name == "QUIT",
            "{}",
            spec.name
        );
        assert!(
            spec.keys.first == 0 || usize::try_from(spec.keys.first).unwrap() < least,
            "{}'s keys",
            spec.name
        );
    }
    assert!(COMMANDS.windows(2).all(|pair| pair[0].name < pair[1].name));
}
