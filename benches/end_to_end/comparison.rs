//! One figure of postres beside the same of Valkey, the less the better: a time, or memory.

use std::fmt;

use super::contestant::Contestant;
use super::report::spread_text;
use super::sample::Spread;
use super::table::Table;

/// What was measured of each, round by round.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// What the figure is of.
    pub(crate) name: String,
    /// postres first, then Valkey if it took part.
    pub(crate) servers: Vec<(Contestant, Vec<f64>)>,
    /// What is asked of postres.
    pub(crate) wanted: Wanted,
    /// The number of the issue that asks for it.
    pub(crate) issue: u8,
}

/// What is asked of the first server, against the second.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// The other's figure is at least so many times as large.
    TimesLess(f64),
    /// The figure is at most this share of the other's.
    AtMost(f64),
    /// The figure is less than the other's.
    Less,
}

impl fmt::Display for Wanted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimesLess(times) => write!(formatter, "Valkey's at least {times} x"),
            Self::AtMost(share) => write!(formatter, "at most {share} x Valkey's"),
            Self::Less => formatter.write_str("below Valkey's"),
        }
    }
}

impl Wanted {
    /// The two figures as the ratio that is asked for.
    fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::TimesLess(_) => theirs / ours,
            Self::AtMost(_) | Self::Less => ours / theirs,
        }
    }

    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::TimesLess(times) => ratio >= times,
            Self::AtMost(share) => ratio <= share,
            Self::Less => ratio < 1.0,
        }
    }
}

impl Comparison {
    /// The ratio that is asked for, of the same round each time.
    fn ratio(&self) -> Option<Spread> {
        let [(_, ours), (_, theirs)] = self.servers.as_slice() else {
            return None;
        };
        let pairs = ours.iter().zip(theirs);
        Spread::of(pairs.map(|(ours, theirs)| self.wanted.ratio(*ours, *theirs)))
    }

    fn verdict(&self) -> &'static str {
        match self.ratio() {
            Some(ratio) if self.wanted.is_met(ratio.median) => "met",
            Some(_) => "MISSED",
            None => "not judged",
        }
    }

    fn rows(&self) -> impl Iterator<Item = Option<Vec<String>>> {
        self.servers
            .iter()
            .enumerate()
            .map(|(at, (contestant, figures))| {
                let spread = Spread::of(figures.iter().copied())?;
                let first = |text: String| if at == 0 { text } else { "-".to_owned() };
                let ratio = self.ratio().as_ref().map(spread_text);
                Some(vec![
                    self.name.clone(),
                    contestant.to_string(),
                    format!("{:.2}", spread.median),
                    format!("{:.2} to {:.2}", spread.min, spread.max),
                    first(ratio.unwrap_or_else(|| "-".to_owned())),
                    first(format!("{} (issue {})", self.wanted, self.issue)),
                    first(self.verdict().to_owned()),
                ])
            })
    }
}

/// A table of several, in Markdown. `unit` is that of the figures.
pub(crate) fn table(comparisons: &[Comparison], unit: &str) -> Table {
    let header = [
        "case",
        "server",
        unit,
        "min to max",
        "ratio",
        "goal",
        "verdict",
    ];
    let mut table = Table::new(&header);
    for row in comparisons.iter().flat_map(Comparison::rows) {
        table.push(row);
    }
    table
}
