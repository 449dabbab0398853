//! Tables of Markdown.

use std::fmt;

/// A table of Markdown whose columns line up.
#[derive(Debug)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    /// A table with nothing below its header.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self(vec![header.iter().map(|&name| name.to_owned()).collect()])
    }

    /// Appends a row, if there is one.
    pub(crate) fn push(&mut self, row: Option<Vec<String>>) {
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
