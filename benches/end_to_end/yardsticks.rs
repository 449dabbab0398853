//! What the bare server, and the plain one, come to where postres is asked for something.

use std::fmt::Write as _;

use super::cases::Demand;
use super::contestant::Contestant;
use super::report::{CaseReport, spread_text};
use super::table::Table;

/// A table in Markdown; nothing where neither took part.
pub(crate) fn markdown(reports: &[CaseReport]) -> String {
    let mut table = Table::new(&[
        "case",
        "goal",
        "postres",
        "a yardstick",
        "what it comes to",
        "postres to it",
    ]);
    let mut is_empty = true;
    for report in reports {
        for yardstick in [Contestant::Bare, Contestant::Plain] {
            for row in rows(report, yardstick) {
                is_empty = false;
                table.push(Some(row));
            }
        }
    }
    let mut text = String::new();
    if !is_empty {
        let _ = write!(
            text,
            "\n### What sockets and a log come to without a store, and tasks and a store without the rest\n\n{table}"
        );
    }
    text
}

fn rows(report: &CaseReport, yardstick: Contestant) -> impl Iterator<Item = Vec<String>> {
    let judged = |contestant, demand| {
        let verdict = report.judge(contestant, demand);
        let word = if verdict.met? { "met" } else { "missed" };
        Some(format!("{}, {word}", verdict.measured))
    };
    report.case.goals.iter().filter_map(move |goal| {
        if matches!(goal.demand, Demand::Tail(..)) {
            return None;
        }
        let (first, _) = report.samples.first()?;
        let ours = judged(*first, goal.demand)?;
        let least = judged(yardstick, goal.demand)?;
        let between = report.ratio(*first, yardstick, |sample| goal.demand.figure(sample))?;
        Some(vec![
            report.case.name.to_owned(),
            goal.demand.to_string(),
            ours,
            yardstick.to_string(),
            least,
            spread_text(&between),
        ])
    })
}
