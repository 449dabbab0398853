//! Every measurement, as JSON, for whoever computes further.

use super::report::CaseReport;
use super::sample::Sample;
use super::wire::Kind;

/// Every measurement, as JSON.
pub(crate) fn render(about: &[(&str, String)], reports: &[CaseReport]) -> String {
    let about = object(about.iter().map(|(name, value)| (*name, string(value))));
    let cases = array(reports.iter().map(|report| {
        let contestants = array(report.samples.iter().map(|(contestant, samples)| {
            object([
                ("server", string(&contestant.to_string())),
                ("rounds", array(samples.iter().map(sample_json))),
            ])
        }));
        let goals = array(report.verdicts().into_iter().map(|(goal, verdict)| {
            object([
                ("goal", string(&goal.demand.to_string())),
                ("issue", goal.issue.to_string()),
                ("measured", string(&verdict.measured)),
                ("verdict", string(verdict.word())),
            ])
        }));
        object([
            ("case", string(report.case.name)),
            ("contestants", contestants),
            ("goals", goals),
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
            (
                "p999_us",
                figures.p999.map_or_else(|| "null".to_owned(), number),
            ),
            ("max_us", number(figures.max)),
        ]),
    };
    object([
        ("get", figures(Kind::Get)),
        ("set", figures(Kind::Set)),
        ("misses", sample.misses.to_string()),
        ("cpu_us_per_op", number(sample.cpu_micros)),
        ("kernel_us_per_op", number(sample.kernel_micros)),
        ("generator_us_per_op", number(sample.generator_micros)),
        ("stolen", number(sample.stolen)),
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
