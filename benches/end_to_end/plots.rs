//! The plots: what was measured, as SVG files.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::style::RGBColor;

use super::bars::{Bar, Bars};
use super::comparison::Comparison;
use super::contestant::Contestant;
use super::curves::{Curve, Curves};
use super::large;
use super::report::CaseReport;
use super::sample::{Count, Figures, Sample, Spread};
use super::wire::Kind;

/// A latency that is shown, and how to have it.
type Percentile = (&'static str, fn(&Figures) -> Option<f64>);

const PERCENTILES: [Percentile; 5] = [
    ("the quickest", |figures| Some(figures.min)),
    ("50 %", |figures| Some(figures.p50)),
    ("99 %", |figures| Some(figures.p99)),
    ("99.9 %", |figures| figures.p999),
    ("all", |figures| Some(figures.max)),
];

/// What every plot says of its bars and points.
const MIDDLE: &str = "Medians of the rounds; the thin lines go from the least to the most.";

/// Draws everything that was measured into files of `folder`.
pub(crate) fn draw(
    folder: &Path,
    about: &[(&str, String)],
    reports: &[CaseReport],
    large: Option<&large::Report>,
) -> Result<()> {
    let cases_foot = foot(
        about,
        &[
            "machine",
            "others before",
            "Valkey",
            "keys",
            "rounds",
            "load generator",
        ],
    );
    let large_foot = foot(about, &["machine", "others before", "Valkey"]);
    let to = |name: &str| folder.join(format!("{name}.svg"));
    if !reports.is_empty() {
        drawn(&to("throughput"), |path| {
            throughput(reports, &cases_foot).draw(path)
        })?;
    }
    for report in reports {
        let path = to(&format!("latency-{}", file_name(report.case.name)));
        drawn(&path, |path| latencies(report, &cases_foot).draw(path))?;
    }
    let Some(large) = large else {
        return Ok(());
    };
    let figures = [
        (
            "memory",
            "Memory for each key",
            "resident bytes a key (keys of 16 bytes, values of 64)",
            &large.memory,
        ),
        ("starts", "Starts", "seconds until it serves", &large.starts),
    ];
    for (name, title, axis, comparisons) in figures {
        if !comparisons.is_empty() {
            let title = format!("{title}, {} keys", large.keys);
            let bars = compared(title, axis, comparisons, &large_foot);
            drawn(&to(name), |path| bars.draw(path))?;
        }
    }
    Ok(())
}

fn drawn(path: &Path, draw: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    draw(path).with_context(|| format!("writing {}", path.display()))
}

/// What has to be known to read any of them.
fn foot(about: &[(&str, String)], told: &[&str]) -> Vec<String> {
    let lines = about.iter().filter(|(name, _)| told.contains(name));
    let mut foot = vec![MIDDLE.to_owned()];
    foot.extend(lines.map(|(name, value)| format!("{name}: {value}")));
    foot
}

fn throughput(reports: &[CaseReport], foot: &[String]) -> Bars {
    let groups = reports.iter().flat_map(|report| {
        // Where the same clients send both kinds, one is as much as the mix says of the other.
        let counts = match report.case.groups.as_slice() {
            [_] => vec![("", counted(report))],
            _ => vec![
                (": GET", Count::Kind(Kind::Get)),
                (": SET", Count::Kind(Kind::Set)),
            ],
        };
        counts.into_iter().map(|(suffix, count)| {
            let bars = report.samples.iter().filter_map(|(contestant, samples)| {
                let rates = samples.iter().filter_map(|sample| sample.rate(count));
                Some(bar(*contestant, Spread::of(rates)?))
            });
            (format!("{}{suffix}", report.case.name), bars.collect())
        })
    });
    Bars {
        title: "Throughput".to_owned(),
        axis: "operations a second (log scale)".to_owned(),
        is_logarithmic: true,
        groups: groups.collect(),
        foot: foot.to_vec(),
    }
}

/// What all operations of a case of one group are.
fn counted(report: &CaseReport) -> Count {
    let samples = report.samples.first().map(|(_, samples)| samples);
    let has = |kind| {
        let of = |sample: &Sample| sample.of(kind).is_some();
        samples.is_some_and(|samples| samples.iter().any(of))
    };
    match (has(Kind::Get), has(Kind::Set)) {
        (true, true) => Count::All,
        (false, true) => Count::Kind(Kind::Set),
        _ => Count::Kind(Kind::Get),
    }
}

fn latencies(report: &CaseReport, foot: &[String]) -> Curves {
    let curves = report.samples.iter().flat_map(|(contestant, samples)| {
        [Kind::Get, Kind::Set].into_iter().filter_map(move |kind| {
            let points = PERCENTILES.map(|(_, figure)| {
                let known = |sample: &Sample| figure(sample.of(kind)?);
                Spread::of(samples.iter().filter_map(known))
            });
            points.iter().any(Option::is_some).then(|| Curve {
                name: format!("{contestant}: {kind}"),
                colour: colour(*contestant),
                is_filled: kind == Kind::Get,
                points: points.to_vec(),
            })
        })
    });
    Curves {
        title: format!("Latency: {}", report.case.name),
        percentiles: PERCENTILES.map(|(name, _)| name).to_vec(),
        curves: curves.collect(),
        foot: foot.to_vec(),
    }
}

fn compared(title: String, axis: &str, comparisons: &[Comparison], foot: &[String]) -> Bars {
    let groups = comparisons.iter().map(|comparison| {
        let bars = comparison
            .servers
            .iter()
            .filter_map(|(contestant, figures)| {
                Some(bar(*contestant, Spread::of(figures.iter().copied())?))
            });
        (comparison.name.clone(), bars.collect())
    });
    Bars {
        title,
        axis: axis.to_owned(),
        is_logarithmic: false,
        groups: groups.collect(),
        foot: foot.to_vec(),
    }
}

fn bar(contestant: Contestant, spread: Spread) -> Bar {
    Bar {
        name: contestant.to_string(),
        colour: colour(contestant),
        spread,
    }
}

/// Blue is postres, red and orange are Valkey; a server has one colour in all plots.
fn colour(contestant: Contestant) -> RGBColor {
    match contestant {
        Contestant::PostresAlways => RGBColor(0x0b, 0x5f, 0xa5),
        Contestant::PostresNever => RGBColor(0x6f, 0xb1, 0xe4),
        Contestant::OtherBuild => RGBColor(0x6a, 0x4c, 0x93),
        Contestant::Naive => RGBColor(0x8a, 0x8a, 0x8a),
        Contestant::Bare => RGBColor(0xc2, 0xc2, 0xc2),
        Contestant::Plain => RGBColor(0x7a, 0x9e, 0x7e),
        Contestant::ValkeyAlways => RGBColor(0xc6, 0x3a, 0x4e),
        Contestant::ValkeyNoLog => RGBColor(0xf0, 0x9a, 0x44),
    }
}

/// A case's name with what is no letter and no digit as a dash.
fn file_name(case: &str) -> String {
    let lower = case.to_lowercase();
    let words = lower.split(|it: char| !it.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-")
}
