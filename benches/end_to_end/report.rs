//! What is said about the figures.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use super::cases::{Case, Demand, Goal};
use super::contestant::Contestant;
use super::sample::{Count, Figures, Sample, Spread};
use super::table::Table;
use super::wire::Kind;

/// A case and what was measured: for each contestant that took part, a sample of each round.
#[derive(Debug)]
pub(crate) struct CaseReport {
    /// The case.
    pub(crate) case: Case,
    /// The samples of each contestant.
    pub(crate) samples: Vec<(Contestant, Vec<Sample>)>,
}

/// How a goal came out.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// What was measured.
    pub(crate) measured: String,
    /// Whether that is enough; `None` where it cannot be told.
    pub(crate) met: Option<bool>,
}

impl Verdict {
    /// In a word.
    pub(crate) fn word(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not judged",
        }
    }
}

impl CaseReport {
    fn of(&self, contestant: Contestant) -> Option<&[Sample]> {
        let (_, samples) = self.samples.iter().find(|(who, _)| *who == contestant)?;
        Some(samples)
    }

    /// A figure of one contestant divided by the other's, of the same round each time: what else the
    /// machine does changes from round to round, and less within one. Nothing where one of them lacks it in a round:
    /// to leave that round out would hide that it did not answer.
    pub(crate) fn ratio(
        &self,
        one: Contestant,
        other: Contestant,
        figure: impl Fn(&Sample) -> Option<f64>,
    ) -> Option<Spread> {
        let pairs = self.of(one)?.iter().zip(self.of(other)?);
        let ratios: Option<Vec<_>> = pairs
            .map(|(one, two)| Some(figure(one)? / figure(two)?))
            .collect();
        Spread::of(ratios?)
    }

    /// GETs that found no value where every key has one, of all contestants.
    pub(crate) fn misses(&self) -> u64 {
        let samples = self.samples.iter().flat_map(|(_, samples)| samples);
        samples.map(|sample| sample.misses).sum()
    }

    /// The case's goals, and how each came out for the first contestant, which they are for.
    pub(crate) fn verdicts(&self) -> Vec<(Goal, Verdict)> {
        let first = self.samples.first();
        let judged = |&goal: &Goal| {
            let (first, _) = first?;
            Some((goal, self.judge(*first, goal.demand)))
        };
        self.case.goals.iter().filter_map(judged).collect()
    }

    /// What a contestant comes to where this is asked for.
    pub(crate) fn judge(&self, contestant: Contestant, demand: Demand) -> Verdict {
        let ratio = self.ratio(contestant, demand.other(), |sample| demand.figure(sample));
        let Some(ratio) = ratio else {
            return self.without_figure(contestant, demand);
        };
        let enough = match demand {
            Demand::Ratio(_, times, _) => ratio.median >= times,
            Demand::Tail(times, _) | Demand::Processor(times, _) => ratio.median <= times,
        };
        let mut measured = spread_text(&ratio);
        let misses = self.misses();
        if misses > 0 {
            let _ = write!(measured, ", but {misses} GETs found no value");
        }
        Verdict {
            measured,
            met: (misses == 0).then_some(enough),
        }
    }

    /// The verdict where there is no ratio: a contestant that lacks the figure in a round misses the goal.
    fn without_figure(&self, contestant: Contestant, demand: Demand) -> Verdict {
        let lacks = |who| {
            let samples = self.of(who)?;
            Some(samples.iter().any(|sample| demand.figure(sample).is_none()))
        };
        let other = demand.other();
        let (measured, met) = match (lacks(contestant), lacks(other)) {
            (Some(true), _) => ("a round without any".to_owned(), Some(false)),
            (_, Some(true)) => (format!("({other}) had none in a round"), None),
            _ => (format!("({other}) did not take part"), None),
        };
        Verdict { measured, met }
    }
}

/// The whole report, in Markdown.
pub(crate) fn markdown(reports: &[CaseReport]) -> String {
    let mut text = String::new();
    for report in reports {
        let mut table = Table::new(&[
            "server",
            "",
            "a second",
            "min to max",
            "MB/s",
            "ratio",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "max us",
            "CPU us/op",
            "kernel's",
            "load us/op",
            "CPUs used",
            "stolen",
        ]);
        for (contestant, samples) in &report.samples {
            for kind in [Kind::Get, Kind::Set] {
                table.push(row(report, *contestant, samples, kind));
            }
        }
        let _ = write!(text, "\n### {}\n\n{table}", report.case.name);
    }
    let mut goals = Table::new(&["case", "goal", "of issue", "measured", "verdict"]);
    let (mut met, mut all) = (0, 0);
    for report in reports {
        for (goal, verdict) in report.verdicts() {
            all += 1;
            met += usize::from(verdict.met == Some(true));
            goals.push(Some(vec![
                report.case.name.to_owned(),
                goal.demand.to_string(),
                goal.issue.to_string(),
                verdict.measured.clone(),
                verdict.word().to_owned(),
            ]));
        }
    }
    let _ = write!(text, "\n### Goals: {met} of {all} met\n\n{goals}");
    text
}

/// A contestant's row for one kind of operation, if it had any of those.
fn row(
    report: &CaseReport,
    contestant: Contestant,
    samples: &[Sample],
    kind: Kind,
) -> Option<Vec<String>> {
    let spread = |figure: &dyn Fn(&Figures) -> Option<f64>| {
        Spread::of(samples.iter().filter_map(|sample| figure(sample.of(kind)?)))
    };
    let micros = |figure: &dyn Fn(&Figures) -> Option<f64>| {
        spread(figure).map_or_else(|| "-".to_owned(), |spread| format!("{:.0}", spread.median))
    };
    let each = |figure: fn(&Sample) -> f64| {
        Spread::of(samples.iter().map(figure)).map(|spread| format!("{:.2}", spread.median))
    };
    let rate = spread(&|figures| Some(figures.rate))?;
    let (leader, _) = report.samples.first()?;
    let ratio = report
        .ratio(*leader, contestant, |sample| sample.rate(Count::Kind(kind)))
        .filter(|_| *leader != contestant);
    let megabytes = report.case.megabytes(rate.median).map(thousands);
    Some(vec![
        contestant.to_string(),
        kind.to_string(),
        thousands(rate.median),
        format!("{} to {}", thousands(rate.min), thousands(rate.max)),
        megabytes.unwrap_or_else(|| "-".to_owned()),
        ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.median)),
        micros(&|figures| Some(figures.p50)),
        micros(&|figures| Some(figures.p99)),
        micros(&|figures| figures.p999),
        micros(&|figures| Some(figures.max)),
        each(|sample| sample.cpu_micros)?,
        each(|sample| sample.kernel_micros)?,
        each(|sample| sample.generator_micros)?,
        each(Sample::processors)?,
        each(|sample| sample.stolen)?,
    ])
}

/// A median, and in brackets how far from it the rounds were.
pub(crate) fn spread_text(spread: &Spread) -> String {
    let Spread { min, median, max } = spread;
    format!("{median:.2} ({min:.2} to {max:.2})")
}

/// A number without decimals, its thousands parted by commas.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Says how far the run is. Nothing is lost where nobody listens.
pub(crate) fn progress(message: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{message}");
}
