//! What a plot is drawn on: a white page with text, lines and scales.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, RGBColor, TextStyle, WHITE};

use super::report::thousands;

/// A place on the page, in pixels from its upper left corner.
pub(crate) type Place = (i32, i32);

/// What is said in full, in passing, and what only guides the eye.
pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(crate) const SOFT: RGBColor = RGBColor(0x5c, 0x5c, 0x5c);
const GUIDE: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

/// The height of the text.
pub(crate) const TITLE: i32 = 18;
pub(crate) const TEXT: i32 = 13;
pub(crate) const SMALL: i32 = 11;

/// From one line of text to the next, and from the edge to the first.
pub(crate) const LINE: i32 = 18;
pub(crate) const EDGE: i32 = 16;

/// Where a text lies from its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It begins there.
    Right,
    /// It ends there.
    Left,
    /// Its middle is there.
    Middle,
}

/// A page.
pub(crate) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

impl<'a> Canvas<'a> {
    /// A white page that becomes the file `path`: white also where it is shown on a dark one.
    pub(crate) fn new(path: &'a Path, width: i32, height: i32) -> Result<Self> {
        let size = (u32::try_from(width)?, u32::try_from(height)?);
        let area = SVGBackend::new(path, size).into_drawing_area();
        area.fill(&WHITE).map_err(not_drawn)?;
        Ok(Self { area })
    }

    /// Writes `text`, in its height around `place`.
    pub(crate) fn text(
        &self,
        text: &str,
        place: Place,
        side: Side,
        (size, colour): (i32, RGBColor),
    ) -> Result<()> {
        let horizontal = match side {
            Side::Right => HPos::Left,
            Side::Left => HPos::Right,
            Side::Middle => HPos::Center,
        };
        let style = TextStyle::from(("sans-serif", size).into_font())
            .color(&colour)
            .pos(Pos::new(horizontal, VPos::Center));
        self.area.draw_text(text, &style, place).map_err(not_drawn)
    }

    /// Writes the title and, below it, who has which colour. Returns where what follows may begin.
    pub(crate) fn head(&self, title: &str, legend: &[(String, RGBColor, bool)]) -> Result<i32> {
        let mut y = EDGE + TITLE / 2;
        self.text(title, (EDGE, y), Side::Right, (TITLE, INK))?;
        y += TITLE / 2 + LINE / 2;
        for (name, colour, is_filled) in legend {
            y += LINE;
            self.dot((EDGE + 6, y), *colour, *is_filled)?;
            self.text(name, (EDGE + 20, y), Side::Right, (TEXT, INK))?;
        }
        Ok(y + LINE)
    }

    /// How much room that takes.
    pub(crate) fn head_height(entries: usize) -> i32 {
        EDGE + TITLE + LINE / 2 + LINE * (i32::try_from(entries).unwrap_or(0) + 1)
    }

    /// Writes lines of small text from `y` on: what was measured, and how.
    pub(crate) fn foot(&self, lines: &[String], y: i32) -> Result<()> {
        lines.iter().zip(0..).try_for_each(|(line, number)| {
            let place = (EDGE, y + LINE * number);
            self.text(line, place, Side::Right, (SMALL, SOFT))
        })
    }

    /// Draws a bar.
    pub(crate) fn bar(&self, corner: Place, opposite: Place, colour: RGBColor) -> Result<()> {
        let bar = Rectangle::new([corner, opposite], colour.filled());
        self.area.draw(&bar).map_err(not_drawn)
    }

    /// Draws a line through `places`.
    pub(crate) fn line(&self, places: &[Place], colour: RGBColor, width: u32) -> Result<()> {
        let line = PathElement::new(places.to_vec(), colour.stroke_width(width));
        self.area.draw(&line).map_err(not_drawn)
    }

    /// Draws a line that is only there to be read along.
    pub(crate) fn guide(&self, from: Place, to: Place) -> Result<()> {
        self.line(&[from, to], GUIDE, 1)
    }

    /// Draws a dot, or a ring.
    pub(crate) fn dot(&self, place: Place, colour: RGBColor, is_filled: bool) -> Result<()> {
        let draw = |radius, colour: RGBColor| {
            let dot = Circle::new(place, radius, colour.filled());
            self.area.draw(&dot).map_err(not_drawn)
        };
        draw(5, colour)?;
        if is_filled { Ok(()) } else { draw(3, WHITE) }
    }

    /// Writes the file.
    pub(crate) fn finish(self) -> Result<()> {
        self.area.present().map_err(not_drawn)
    }
}

fn not_drawn(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing a plot: {error}")
}

/// Where a value lies on an axis.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// The values at the two ends; their logarithms where the scale is logarithmic.
    from: f64,
    to: f64,
    is_logarithmic: bool,
    /// The pixels at the two ends.
    start: i32,
    end: i32,
    /// The values that are marked.
    pub(crate) ticks: Vec<f64>,
}

impl Scale {
    /// A scale from 0 to the greatest of `values`.
    pub(crate) fn linear(values: &[f64], (start, end): (i32, i32)) -> Self {
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let power = 10_f64.powf(most.log10().floor());
        let steps = [0.1, 0.2, 0.5, 1.0, 2.0].map(|step| step * power);
        let step = steps.into_iter().find(|step| most / step <= 8.0);
        let step = step.unwrap_or(power);
        let count = (most / step).ceil() as u32;
        let ticks: Vec<f64> = (0..=count).map(|tick| f64::from(tick) * step).collect();
        Self {
            from: 0.0,
            to: f64::from(count) * step,
            is_logarithmic: false,
            start,
            end,
            ticks,
        }
    }

    /// A logarithmic scale from the power of ten below all `values` to the one above.
    pub(crate) fn logarithmic(values: &[f64], (start, end): (i32, i32)) -> Self {
        let logarithms = || {
            values
                .iter()
                .filter(|value| **value > 0.0)
                .map(|it| it.log10())
        };
        let from = logarithms().fold(f64::MAX, f64::min).min(9.0).floor();
        let to = logarithms().fold(f64::MIN, f64::max).max(from + 1.0).ceil();
        let ticks = (from as i32..=to as i32).map(|power| 10_f64.powi(power));
        Self {
            from,
            to,
            is_logarithmic: true,
            start,
            end,
            ticks: ticks.collect(),
        }
    }

    /// The pixel of `value`; that of the nearer end where it is beyond one.
    pub(crate) fn pixel(&self, value: f64) -> i32 {
        let value = if self.is_logarithmic {
            value.max(f64::MIN_POSITIVE).log10()
        } else {
            value
        };
        let share = ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        self.start + (share * f64::from(self.end - self.start)).round() as i32
    }

    /// A tick, to be read.
    pub(crate) fn mark(tick: f64) -> String {
        if tick >= 10.0 {
            return thousands(tick);
        }
        let text = format!("{tick:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}
