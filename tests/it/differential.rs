//! The same commands, sent to this server and to Valkey 9.1, get the same replies and leave the
//! same contents, in RESP2 and in RESP3.
//!
//! Two sources of commands: a corpus that people wrote (`differential/corpus/`, a file a family),
//! and random sequences of everything in `differential/grammar.rs`. Replies are compared as they
//! were on the wire, with their types. After each sequence every key, value and time to live is
//! compared. A random sequence that shows a difference is made as short as it goes, and printed
//! in the corpus's notation with the seed that it comes from.
//!
//! `just differential` runs it: it needs Valkey's server, which `POSTRES_VALKEY` names. Further
//! variables: `POSTRES_DIFFERENTIAL_COUNT` sequences (4000), from `POSTRES_DIFFERENTIAL_SEED` (1)
//! on, until `POSTRES_DIFFERENTIAL_FINDINGS` (5) of different kinds were found;
//! `POSTRES_DIFFERENTIAL_WITHOUT="CLIENT COMMAND"` leaves commands out; `POSTRES_DIFFERENTIAL_SUBJECT=valkey`
//! compares Valkey with itself.
//!
//! Whoever adds a case: a time to live is past, or at least 100 seconds, or so short that a `!wait`
//! follows at once (200 milliseconds, if it is to last for the next command).
//!
//! # What may differ
//!
//! Everything that is not in this table is compared exactly, error texts always, except that bytes
//! in them that are not UTF-8 all count as the same, and that where a command has a zero byte in it
//! only their first three words are compared: Valkey's quotations end there, as strings do in C.
//!
//! | command | what is compared | why not all |
//! |---|---|---|
//! | TTL | seconds, within the time that the sequence took and one | the two servers carry it out at different times |
//! | PTTL | milliseconds, within the time that the sequence took | the same |
//! | EXPIRETIME | as TTL | a relative time begins when the command is carried out |
//! | PEXPIRETIME | as PTTL | the same |
//! | KEYS | the set of keys | order is no promise |
//! | SCAN | its two parts' types | cursors are the server's own; `!scan` compares the set of keys of a whole iteration |
//! | RANDOMKEY | whether there is one | it is random |
//! | DBSIZE | the number, unless keys may have run out | keys that ran out count until they are swept |
//! | HELLO | all fields but the values of `server`, `version`, `id` and `modules` | they name the server and the connection |
//! | TIME | the types | clocks |
//! | LASTSAVE | the type | clocks |
//! | INFO | the type | most of it is about the server itself |
//! | CLIENT ID | the type | connections are counted by each server |
//! | CLIENT INFO | the type | addresses, ages, memory |
//! | CLIENT LIST | the type | the same |
//! | CLIENT HELP | the type | lists what the server has |
//! | CONFIG HELP | the type | the same |
//! | COMMAND HELP | the type | the same |
//! | OBJECT HELP | the type | the same |
//! | MEMORY HELP | the type | the same |
//! | LATENCY HELP | the type | the same |
//! | SLOWLOG HELP | the type | the same |
//! | CONFIG GET | the type | settings are the server's own |
//! | COMMAND | the type | Valkey has commands that are left out here |
//! | COMMAND COUNT | the type | the same |
//! | COMMAND LIST | the type | the same |
//! | COMMAND DOCS | the type | texts are the server's own |
//! | COMMAND INFO | name, arity, and where keys are; without names, as COMMAND | flags and categories name Valkey's internals |
//! | MEMORY USAGE | the type | memory is laid out differently |
//! | OBJECT ENCODING | the type | it tells how Valkey lays out a string, and what was done to it before |
//! | OBJECT REFCOUNT | the type | the same |
//! | OBJECT IDLETIME | the type | clocks |
//! | SLOWLOG GET | the type | clocks |
//! | SLOWLOG LEN | the type | clocks |
//! | LATENCY DOCTOR | the type | a report for people |
//! | LATENCY HISTOGRAM | the type | clocks |
//! | WAITAOF | the types | whether there is a log on disk depends on the settings |
//!
//! Never sent: what the README says differs (commands of types that this server leaves out, more
//! than 1,048,576 elements, `BITFIELD` far out of a field's range), lines without RESP, and what
//! stops a server or keeps it busy.

use std::collections::BTreeSet;
use std::env;
use std::str::FromStr;

mod compare;
mod corpus;
mod generate;
mod grammar;
mod minimize;
mod peer;
mod run;
mod step;

use crate::support::resp::Value;
use peer::{Pair, Plant};
use run::{Difference, Manner, PROTOCOLS, run};
use step::Step;

/// Something that sends commands and found a difference.
struct Finding {
    seed: u64,
    manner: Manner,
    steps: Vec<Step>,
    differences: Vec<Difference>,
}

#[test]
#[ignore = "needs Valkey: just differential"]
fn the_corpus_gets_the_same_replies_from_valkey() {
    let pair = Pair::start();
    let (mut differ, mut steps) = (0, 0);
    for case in corpus::cases() {
        for protocol in PROTOCOLS {
            steps += case.steps.len();
            let manner = Manner {
                protocol,
                pipelined: false,
            };
            for difference in run(&pair, &case.steps, manner) {
                differ += 1;
                let (line, step) = match difference.step {
                    Some(at) => (case.lines[at], case.steps[at].to_string()),
                    None => (case.lines[0], "the case from here on".to_owned()),
                };
                println!("{}.txt:{line} in {protocol:?}: {step}", case.file);
                println!("{difference}");
            }
        }
    }
    println!("{steps} commands of the corpus were compared");
    assert_eq!(differ, 0, "replies differ from Valkey's");
}

#[test]
#[ignore = "needs Valkey: just differential"]
fn random_sequences_get_the_same_replies_from_valkey() {
    let pair = Pair::start();
    let seed = variable("POSTRES_DIFFERENTIAL_SEED", 1);
    let count = variable("POSTRES_DIFFERENTIAL_COUNT", 4000);
    let limit = variable("POSTRES_DIFFERENTIAL_FINDINGS", 5);
    let findings = search(&pair, seed..seed.saturating_add(count), limit);
    for finding in &findings {
        print(finding);
    }
    println!("{count} sequences from seed {seed} on were wanted");
    assert!(findings.is_empty(), "replies differ from Valkey's");
}

#[test]
#[ignore = "needs Valkey: just differential"]
fn what_is_wrong_with_a_server_is_found_and_made_short() {
    let nothing = |_: &[Vec<u8>], _: &mut Value| {};
    let plants: [(&str, usize, Plant); 5] = [
        ("a null of the wrong type", 1, {
            let request = |_: &mut Vec<Vec<u8>>| {};
            let reply = |args: &[Vec<u8>], value: &mut Value| {
                if args[0].eq_ignore_ascii_case(b"GET") && *value == Value::NullBulk {
                    *value = Value::NullArray;
                }
            };
            Plant { request, reply }
        }),
        ("an error text that is a letter short", 2, {
            let request = |_: &mut Vec<Vec<u8>>| {};
            let reply = |_: &[Vec<u8>], value: &mut Value| match value {
                Value::Error(text) if text.ends_with("overflow") => {
                    text.pop();
                }
                _ => {}
            };
            Plant { request, reply }
        }),
        ("an EXPIRE that knows no GT", 3, {
            let request = |args: &mut Vec<Vec<u8>>| {
                if args[0].eq_ignore_ascii_case(b"EXPIREAT") {
                    args.retain(|arg| !arg.eq_ignore_ascii_case(b"GT"));
                }
            };
            Plant {
                request,
                reply: nothing,
            }
        }),
        ("an APPEND that is answered and does nothing", 2, {
            let request = |args: &mut Vec<Vec<u8>>| {
                if args[0].eq_ignore_ascii_case(b"APPEND") && args.len() == 3 {
                    args[2].clear();
                }
            };
            Plant {
                request,
                reply: nothing,
            }
        }),
        ("a WATCH that does not watch", 5, {
            let request = |args: &mut Vec<Vec<u8>>| {
                if args[0].eq_ignore_ascii_case(b"WATCH") && args.len() > 1 {
                    args.truncate(2);
                    args[1] = b"another".to_vec();
                }
            };
            Plant {
                request,
                reply: nothing,
            }
        }),
    ];
    for (what, len, plant) in plants {
        let pair = Pair::planted(plant);
        let findings = search(&pair, 1..2000, 1);
        let finding = findings
            .first()
            .unwrap_or_else(|| panic!("{what} was not found"));
        println!("{what}:");
        print(finding);
        assert!(finding.steps.len() <= len, "{what}: not short");
    }
}

#[test]
fn the_table_in_the_doc_is_the_one_that_is_used() {
    let rows = include_str!("differential.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | ")?.split(" |").next());
    let documented: Vec<&str> = rows.filter(|row| *row != "command").collect();
    let used: Vec<&str> = compare::LENIENT.iter().map(|row| row.0).collect();
    assert_eq!(documented, used);
}

/// Differences of different kinds, at most `limit`, in the sequences that these seeds stand for.
fn search(pair: &Pair, seeds: std::ops::Range<u64>, limit: usize) -> Vec<Finding> {
    let (mut findings, mut kinds) = (Vec::new(), BTreeSet::new());
    for seed in seeds {
        for protocol in PROTOCOLS {
            let (steps, manner) = generate::sequence(seed, protocol);
            let first = run(pair, &steps, manner);
            let Some(kind) = first.first().map(|difference| difference.kind.clone()) else {
                continue;
            };
            if kinds.contains(&kind) {
                continue;
            }
            let alike = |found: &[Difference]| found.iter().any(|d| d.kind == kind);
            let short = minimize::minimize(&steps, |steps| alike(&run(pair, steps, manner)));
            let again = run(pair, &short, manner);
            let seen_once = again.is_empty();
            findings.push(Finding {
                seed,
                manner,
                steps: if seen_once { steps } else { short },
                differences: if seen_once { first } else { again },
            });
            kinds.insert(kind);
            if findings.len() == limit {
                return findings;
            }
        }
    }
    findings
}

fn print(finding: &Finding) {
    let Finding { seed, manner, .. } = finding;
    println!("POSTRES_DIFFERENTIAL_SEED={seed} POSTRES_DIFFERENTIAL_COUNT=1, {manner:?}:");
    for (at, step) in finding.steps.iter().enumerate() {
        println!("  {step}");
        for difference in &finding.differences {
            if difference.step == Some(at) {
                println!("{difference}");
            }
        }
    }
    for difference in finding.differences.iter().filter(|d| d.step.is_none()) {
        println!("  and then its contents:\n{difference}");
    }
}

/// A number from the environment.
fn variable<T: FromStr>(name: &str, otherwise: T) -> T {
    match env::var(name) {
        Ok(text) => match text.parse() {
            Ok(number) => number,
            Err(_) => panic!("{name}={text} is no number"),
        },
        Err(_) => otherwise,
    }
}
