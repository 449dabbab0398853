//! What is said about the figures.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use super::cases::{Case, Goal};
use super::sample::{Figures, Sample, Spread};
use super::server::Contestant;
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

    /// One figure of the first contestant divided by the other's, of the same round each time: what
    /// else the machine does changes from round to round, and less within one.
    pub(crate) fn ratio(
        &self,
        kind: Kind,
        other: Contestant,
        figure: impl Fn(&Figures) -> f64,
    ) -> Option<Spread> {
        let (_, first) = self.samples.first()?;
        let pairs = first.iter().zip(self.of(other)?);
        Spread::of(
            pairs.filter_map(|(one, two)| Some(figure(one.of(kind)?) / figure(two.of(kind)?))),
        )
    }

    /// How the case's goal came out; `None` where it has none.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        match self.case.goal {
            Goal::None => None,
            Goal::Ratio(kind, times, other) => Some(judge(
                self.ratio(kind, other, |figures| figures.rate),
                |it| it >= times,
            )),
            Goal::Tail(times, other) => Some(judge(
                self.ratio(Kind::Get, other, |figures| figures.p99),
                |it| it <= times,
            )),
            Goal::Rate(kind, rate, other) => Some(self.judge_rate(kind, rate, other)),
        }
    }

    fn judge_rate(&self, kind: Kind, rate: f64, other: Contestant) -> Verdict {
        let own = self
            .samples
            .first()
            .and_then(|(_, samples)| median_rate(samples, kind));
        let Some(own) = own else {
            return judge(None, |_| false);
        };
        let others = self
            .of(other)
            .and_then(|samples| median_rate(samples, kind));
        match others {
            Some(others) => Verdict {
                measured: format!("{} against {}", thousands(own), thousands(others)),
                met: Some(own >= rate.min(others)),
            },
            None => Verdict {
                measured: thousands(own),
                met: (own >= rate).then_some(true),
            },
        }
    }
}

fn median_rate(samples: &[Sample], kind: Kind) -> Option<f64> {
    let rates = samples
        .iter()
        .filter_map(|sample| Some(sample.of(kind)?.rate));
    Spread::of(rates).map(|spread| spread.median)
}

fn judge(ratio: Option<Spread>, enough: impl Fn(f64) -> bool) -> Verdict {
    match ratio {
        Some(ratio) => Verdict {
            measured: format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.min, ratio.max),
            met: Some(enough(ratio.median)),
        },
        None => Verdict {
            measured: "the other did not take part".to_owned(),
            met: None,
        },
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
            "ratio",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "max us",
            "CPU us/op",
        ]);
        for (contestant, samples) in &report.samples {
            for kind in [Kind::Get, Kind::Set] {
                table.push(row(report, *contestant, samples, kind));
            }
        }
        let _ = write!(text, "\n### {}\n\n{table}", report.case.name);
    }
    let mut goals = Table::new(&["case", "goal", "measured", "verdict"]);
    for report in reports {
        if let Some(verdict) = report.verdict() {
            goals.push(Some(vec![
                report.case.name.to_owned(),
                report.case.goal.to_string(),
                verdict.measured.clone(),
                verdict.word().to_owned(),
            ]));
        }
    }
    let _ = write!(text, "\n### Goals\n\n{goals}");
    text
}

/// A contestant's row for one kind of operation, if it had any of those.
fn row(
    report: &CaseReport,
    contestant: Contestant,
    samples: &[Sample],
    kind: Kind,
) -> Option<Vec<String>> {
    let spread = |figure: fn(&Figures) -> f64| {
        Spread::of(
            samples
                .iter()
                .filter_map(|sample| Some(figure(sample.of(kind)?))),
        )
    };
    let micros = |figure| spread(figure).map(|spread| format!("{:.0}", spread.median));
    let rate = spread(|figures| figures.rate)?;
    let first = report
        .samples
        .first()
        .is_some_and(|(who, _)| *who == contestant);
    let ratio = report
        .ratio(kind, contestant, |figures| figures.rate)
        .filter(|_| !first);
    let cpu = Spread::of(samples.iter().map(|sample| sample.cpu_micros))?;
    Some(vec![
        contestant.to_string(),
        kind.to_string(),
        thousands(rate.median),
        format!("{} to {}", thousands(rate.min), thousands(rate.max)),
        ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.median)),
        micros(|figures| figures.p50)?,
        micros(|figures| figures.p99)?,
        micros(|figures| figures.p999)?,
        micros(|figures| figures.max)?,
        format!("{:.1}", cpu.median),
    ])
}

/// Every measurement, as JSON.
pub(crate) fn json(about: &[(&str, String)], reports: &[CaseReport]) -> String {
    let about = object(about.iter().map(|(name, value)| (*name, string(value))));
    let cases = array(reports.iter().map(|report| {
        let verdict = report.verdict();
        let contestants = array(report.samples.iter().map(|(contestant, samples)| {
            object([
                ("server", string(&contestant.to_string())),
                ("rounds", array(samples.iter().map(sample_json))),
            ])
        }));
        object([
            ("case", string(report.case.name)),
            ("contestants", contestants),
            ("goal", string(&report.case.goal.to_string())),
            (
                "measured",
                string(verdict.as_ref().map_or("", |verdict| &verdict.measured)),
            ),
            (
                "verdict",
                string(verdict.as_ref().map_or("", Verdict::word)),
            ),
        ])
    }));
    object([("about", about), ("cases", cases)]) + "\n"
}

fn sample_json(sample: &Sample) -> String {
    let figures = |kind| match sample.of(kind) {
        None => "null".to_owned(),
        Some(figures) => object([
            ("per_second", number(figures.rate)),
            ("min_us", number(figures.min)),
            ("p50_us", number(figures.p50)),
            ("p99_us", number(figures.p99)),
            ("p999_us", number(figures.p999)),
            ("max_us", number(figures.max)),
        ]),
    };
    object([
        ("get", figures(Kind::Get)),
        ("set", figures(Kind::Set)),
        ("cpu_us_per_op", number(sample.cpu_micros)),
    ])
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let fields = fields
        .into_iter()
        .map(|(name, value)| format!("{}:{value}", string(name)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn array(elements: impl Iterator<Item = String>) -> String {
    format!("[{}]", elements.collect::<Vec<_>>().join(",\n"))
}

fn string(text: &str) -> String {
    let printable = text.replace(char::is_control, " ");
    format!(
        "\"{}\"",
        printable.replace('\\', "\\\\").replace('"', "\\\"")
    )
}

fn number(value: f64) -> String {
    format!("{value:.3}")
}

/// A number without decimals, its thousands parted by commas.
fn thousands(value: f64) -> String {
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

/// A table of Markdown whose columns line up.
#[derive(Debug)]
struct Table(Vec<Vec<String>>);

impl Table {
    fn new(header: &[&str]) -> Self {
        Self(vec![header.iter().map(|&name| name.to_owned()).collect()])
    }

    fn push(&mut self, row: Option<Vec<String>>) {
        self.0.extend(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = vec![0; self.0.first().map_or(0, Vec::len)];
        for row in &self.0 {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.len().max(*width);
            }
        }
        for (at, row) in self.0.iter().enumerate() {
            for (width, cell) in widths.iter().zip(row) {
                write!(formatter, "| {cell:<width$} ")?;
            }
            writeln!(formatter, "|")?;
            if at == 0 {
                for width in &widths {
                    write!(formatter, "|-{:-<width$}-", "")?;
                }
                writeln!(formatter, "|")?;
            }
        }
        Ok(())
    }
}

/// Says how far the run is. Nothing is lost where nobody listens.
pub(crate) fn progress(message: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{message}");
}
