//! Where the report goes: to stdout, and to a file if one is wanted.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context, Result};

/// The report, which is written as it comes to be: what was measured is not lost when what follows
/// fails.
#[derive(Debug)]
pub(crate) struct Output {
    file: Option<File>,
}

impl Output {
    /// Writes to stdout, and to `file`: one that cannot be written is an error before anything is
    /// measured.
    pub(crate) fn new(file: Option<&Path>) -> Result<Self> {
        let create =
            |path: &Path| File::create(path).with_context(|| format!("writing {}", path.display()));
        let file = file.map(create).transpose()?;
        Ok(Self { file })
    }

    /// Says `text`.
    pub(crate) fn say(&mut self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        if let Some(file) = &mut self.file {
            file.write_all(text.as_bytes())
                .context("writing the report")?;
        }
        Ok(())
    }
}
