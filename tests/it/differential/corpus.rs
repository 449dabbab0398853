//! The fixed corpus: cases that a person thought of, one file a family.
//!
//! A blank line ends a case; each case begins with an empty store and new connections. The notation
//! is [`step`](super::step)'s.

use super::step::{self, Step};

const FILES: &[(&str, &str)] = &[
    ("strings", include_str!("corpus/strings.txt")),
    ("numbers", include_str!("corpus/numbers.txt")),
    ("bits", include_str!("corpus/bits.txt")),
    ("keys", include_str!("corpus/keys.txt")),
    ("expiry", include_str!("corpus/expiry.txt")),
    ("transactions", include_str!("corpus/transactions.txt")),
    ("connection", include_str!("corpus/connection.txt")),
    ("errors", include_str!("corpus/errors.txt")),
];

pub struct Case {
    pub file: &'static str,
    /// The line of each step.
    pub lines: Vec<usize>,
    pub steps: Vec<Step>,
}

pub fn cases() -> Vec<Case> {
    FILES
        .iter()
        .flat_map(|(file, text)| read(file, text))
        .collect()
}

fn read(file: &'static str, text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = None;
    for (index, line) in text.lines().enumerate() {
        let step = step::parse(line).unwrap_or_else(|e| panic!("{file}.txt:{}: {e}", index + 1));
        match step {
            Some(step) => {
                let case = case.get_or_insert_with(|| Case {
                    file,
                    lines: Vec::new(),
                    steps: Vec::new(),
                });
                case.lines.push(index + 1);
                case.steps.push(step);
            }
            None if line.trim().is_empty() => cases.extend(case.take()),
            None => {}
        }
    }
    cases.extend(case);
    cases
}

#[test]
fn the_corpus_is_read_whole() {
    let cases = cases();
    for (file, text) in FILES {
        let here = cases.iter().filter(|case| case.file == *file);
        let steps: usize = here.map(|case| case.steps.len()).sum();
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(steps, lines.count(), "{file}");
        assert!(steps > 20, "{file} has {steps} steps");
    }
}
