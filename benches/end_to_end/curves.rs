//! Latencies by percentile, for each server and kind of operation.

use std::path::Path;

use anyhow::Result;
use plotters::style::RGBColor;

use super::canvas::{Canvas, EDGE, INK, LINE, SMALL, SOFT, Scale, Side, TEXT};
use super::sample::Spread;

/// The latencies of one server and kind of operation.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    /// Whose they are.
    pub(crate) name: String,
    /// The colour that the server has in every plot.
    pub(crate) colour: RGBColor,
    /// Whether its points are dots, or rings.
    pub(crate) is_filled: bool,
    /// The latency at each percentile, in microseconds, where it is known.
    pub(crate) points: Vec<Option<Spread>>,
}

/// A plot of them.
#[derive(Clone, Debug)]
pub(crate) struct Curves {
    /// What it shows.
    pub(crate) title: String,
    /// What the percentiles are called.
    pub(crate) percentiles: Vec<&'static str>,
    /// What is shown.
    pub(crate) curves: Vec<Curve>,
    /// How it was measured.
    pub(crate) foot: Vec<String>,
}

/// Pixels: of the page, of the figures at its left, and the height of what is drawn.
const WIDTH: i32 = 820;
const FIGURES: i32 = 90;
const HEIGHT: i32 = 360;

/// Pixels that two curves are apart, so that both are seen where they are the same.
const APART: i32 = 9;

impl Curves {
    /// Draws it into a file.
    pub(crate) fn draw(&self, path: &Path) -> Result<()> {
        let legend: Vec<_> = self
            .curves
            .iter()
            .map(|curve| (curve.name.clone(), curve.colour, curve.is_filled))
            .collect();
        let top = Canvas::head_height(legend.len()) + 2 * LINE;
        let bottom = top + HEIGHT;
        let foot = bottom + 3 * LINE;
        let lines = i32::try_from(self.foot.len())?;
        let canvas = Canvas::new(path, WIDTH, foot + lines * LINE + EDGE)?;
        canvas.head(&self.title, &legend)?;
        let place = (EDGE, top - LINE);
        canvas.text(
            "latency in microseconds (log scale)",
            place,
            Side::Right,
            (TEXT, INK),
        )?;
        let scale = self.scale((bottom, top));
        for &tick in &scale.ticks {
            let y = scale.pixel(tick);
            canvas.guide((FIGURES, y), (WIDTH - EDGE, y))?;
            canvas.text(
                &Scale::mark(tick),
                (FIGURES - 8, y),
                Side::Left,
                (SMALL, SOFT),
            )?;
        }
        for (number, name) in self.percentiles.iter().enumerate() {
            let place = (self.column(number), bottom + LINE / 2 + 4);
            canvas.text(name, place, Side::Middle, (TEXT, INK))?;
        }
        let place = ((FIGURES + WIDTH - EDGE) / 2, bottom + LINE / 2 + 4 + LINE);
        canvas.text(
            "share of the operations that took no longer",
            place,
            Side::Middle,
            (TEXT, INK),
        )?;
        let width = APART * (i32::try_from(self.curves.len())? - 1);
        for (curve, number) in self.curves.iter().zip(0..) {
            self.draw_curve(&canvas, &scale, curve, APART * number - width / 2)?;
        }
        canvas.foot(&self.foot, foot)?;
        canvas.finish()
    }

    fn scale(&self, ends: (i32, i32)) -> Scale {
        let points = self.curves.iter().flat_map(|curve| &curve.points).flatten();
        let values: Vec<f64> = points.flat_map(|point| [point.min, point.max]).collect();
        Scale::logarithmic(&values, ends)
    }

    /// The middle of a percentile's column.
    fn column(&self, number: usize) -> i32 {
        let (columns, number) = (self.percentiles.len().max(1) as f64, number as f64);
        let width = f64::from(WIDTH - EDGE - FIGURES) / columns;
        FIGURES + (width * (number + 0.5)).round() as i32
    }

    fn draw_curve(
        &self,
        canvas: &Canvas<'_>,
        scale: &Scale,
        curve: &Curve,
        beside: i32,
    ) -> Result<()> {
        let points: Vec<_> = curve
            .points
            .iter()
            .enumerate()
            .filter_map(|(number, point)| Some((self.column(number) + beside, (*point)?)))
            .collect();
        let places: Vec<_> = points
            .iter()
            .map(|(x, point)| (*x, scale.pixel(point.median)))
            .collect();
        canvas.line(&places, curve.colour, 2)?;
        for ((x, point), place) in points.iter().zip(&places) {
            let [min, max] = [point.min, point.max].map(|value| scale.pixel(value));
            canvas.line(&[(*x, min), (*x, max)], curve.colour, 1)?;
            canvas.dot(*place, curve.colour, curve.is_filled)?;
        }
        Ok(())
    }
}
