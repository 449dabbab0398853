//! Bars that lie side by side: rates, times, memory.

use std::path::Path;

use anyhow::Result;
use plotters::style::RGBColor;

use super::canvas::{Canvas, EDGE, INK, LINE, SMALL, SOFT, Scale, Side, TEXT};
use super::report::thousands;
use super::sample::Spread;

/// A bar: what was measured of one server.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// Whose it is.
    pub(crate) name: String,
    /// The colour it has in every plot.
    pub(crate) colour: RGBColor,
    /// How long it is, with the least and the most of the rounds.
    pub(crate) spread: Spread,
}

/// A plot of bars.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    /// What it shows.
    pub(crate) title: String,
    /// What the axis shows, with its unit.
    pub(crate) axis: String,
    /// Whether the figures are too far apart for a linear axis.
    pub(crate) is_logarithmic: bool,
    /// What belongs together, and what it is called.
    pub(crate) groups: Vec<(String, Vec<Bar>)>,
    /// How it was measured.
    pub(crate) foot: Vec<String>,
}

/// Pixels: of the page, of the names at its left, of the figures right of the bars, of a bar, and
/// of what parts two groups.
const WIDTH: i32 = 1100;
const NAMES: i32 = 370;
const FIGURES: i32 = 230;
const BAR: i32 = 15;
const GAP: i32 = 10;

impl Bars {
    /// Draws it into a file.
    pub(crate) fn draw(&self, path: &Path) -> Result<()> {
        let legend = self.legend();
        let top = Canvas::head_height(legend.len());
        let rows: i32 = self.groups.iter().map(|(_, bars)| height(bars)).sum();
        let bottom = top + rows;
        let foot = bottom + 3 * LINE;
        let lines = i32::try_from(self.foot.len())?;
        let canvas = Canvas::new(path, WIDTH, foot + lines * LINE + EDGE)?;
        canvas.head(&self.title, &legend)?;
        let scale = self.scale();
        for &tick in &scale.ticks {
            let x = scale.pixel(tick);
            canvas.guide((x, top), (x, bottom))?;
            let place = (x, bottom + LINE / 2);
            canvas.text(&Scale::mark(tick), place, Side::Middle, (SMALL, SOFT))?;
        }
        let middle = (NAMES + WIDTH - FIGURES) / 2;
        let place = (middle, bottom + LINE / 2 + LINE);
        canvas.text(&self.axis, place, Side::Middle, (TEXT, INK))?;
        let mut y = top;
        for (name, bars) in &self.groups {
            let place = (NAMES - 10, y + height(bars) / 2);
            canvas.text(name, place, Side::Left, (TEXT, INK))?;
            for (bar, number) in bars.iter().zip(0..) {
                draw_bar(&canvas, &scale, bar, y + GAP / 2 + BAR * number)?;
            }
            y += height(bars);
        }
        canvas.foot(&self.foot, foot)?;
        canvas.finish()
    }

    fn scale(&self) -> Scale {
        let bars = self.groups.iter().flat_map(|(_, bars)| bars);
        let values: Vec<f64> = bars
            .flat_map(|bar| [bar.spread.min, bar.spread.max])
            .collect();
        let ends = (NAMES, WIDTH - FIGURES);
        if self.is_logarithmic {
            Scale::logarithmic(&values, ends)
        } else {
            Scale::linear(&values, ends)
        }
    }

    /// Each server once, in the order of the bars.
    fn legend(&self) -> Vec<(String, RGBColor, bool)> {
        let mut legend: Vec<(String, RGBColor, bool)> = Vec::new();
        for bar in self.groups.iter().flat_map(|(_, bars)| bars) {
            if !legend.iter().any(|(name, _, _)| *name == bar.name) {
                legend.push((bar.name.clone(), bar.colour, true));
            }
        }
        legend
    }
}

fn height(bars: &[Bar]) -> i32 {
    BAR * i32::try_from(bars.len()).unwrap_or(0) + GAP
}

/// A bar whose upper edge is at `y`, with its spread as a thin line and its figure and name beside:
/// who sees no colours reads them there.
fn draw_bar(canvas: &Canvas<'_>, scale: &Scale, bar: &Bar, y: i32) -> Result<()> {
    let [min, median, max] =
        [bar.spread.min, bar.spread.median, bar.spread.max].map(|value| scale.pixel(value));
    let middle = y + BAR / 2;
    canvas.bar((NAMES, y + 1), (median, y + BAR - 1), bar.colour)?;
    canvas.line(&[(min, middle), (max, middle)], INK, 1)?;
    for end in [min, max] {
        canvas.line(&[(end, middle - 3), (end, middle + 3)], INK, 1)?;
    }
    let text = format!("{}: {}", bar.name, figure(bar.spread.median));
    let place = (max.max(median) + 8, middle);
    canvas.text(&text, place, Side::Right, (SMALL, SOFT))
}

/// A figure with no more digits than can be told apart.
fn figure(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        _ => thousands(value),
    }
}
