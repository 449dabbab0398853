//! What the bare server comes to where postres is asked for something.

use std::fmt::Write as _;

use super::cases::Demand;
use super::contestant::Contestant;
use super::report::{CaseReport, spread_text};
use super::table::Table;

/// A table in Markdown; nothing where the bare server did not take part.
pub(crate) fn markdown(reports: &[CaseReport]) -> String {
    let mut table = Table::new(&[
        "case",
        "goal",
        "postres",
        "the bare server",
        "postres to the bare server",
    ]);
    let mut is_empty = true;
    for report in reports {
        for row in rows(report) {
            is_empty = false;
            table.push(Some(row));
        }
    }
    let mut text = String::new();
    if !is_empty {
        let _ = write!(
            text,
            "\n### What sockets and a log come to without a store\n\n{table}"
        );
    }
    text
}

fn rows(report: &CaseReport) -> impl Iterator<Item = Vec<String>> {
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
        let bare = judged(Contestant::Bare, goal.demand)?;
        let between = report.ratio(*first, Contestant::Bare, |sample| {
            goal.demand.figure(sample)
        })?;
        Some(vec![
            report.case.name.to_owned(),
            goal.demand.to_string(),
            ours,
            bare,
            spread_text(&between),
        ])
    })
}
