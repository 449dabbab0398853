//! `postres log check`: whether a server would start on a log, and what its files hold.
//!
//! The judge is recovery's own ([`Survey`]), so what it says is what a start would do.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::ToolError;
use super::existing::{Decoding, files, lock_existing};
use super::text::write_time;
use crate::wal::fs::Fs;
use crate::wal::name::LogName;
use crate::wal::recovery::{Repair, Survey};

/// Reads all files of the log at `path`, and writes what is in them to `out`: a line for each
/// damage, and the totals. Damage is an error. Nothing is changed.
pub fn check(fs: &dyn Fs, path: &Path, out: &mut dyn Write) -> Result<(), ToolError> {
    let _lock = lock_existing(fs, path)?;
    let name = LogName::new(path)?;
    let (survey, keys) = survey(fs, &name)?;
    write(&survey, keys, out).map_err(ToolError::Output)?;
    if survey.is_damaged() {
        return Err(ToolError::Damaged {
            path: path.to_path_buf(),
            places: survey.refusals.len() + survey.spoilt.len(),
            starts: survey.refusals.is_empty(),
        });
    }
    Ok(())
}

/// Reads all files of a log, and counts the keys in its snapshot.
pub(super) fn survey(fs: &dyn Fs, name: &LogName) -> Result<(Survey, u64), ToolError> {
    files(fs, name)?;
    let mut decoding = Decoding::default();
    let survey = Survey::of(fs, name, &mut decoding)?;
    let survey = survey.ok_or_else(|| ToolError::NoLog { path: name.bare() })?;
    Ok((survey, decoding.keys))
}

fn write(survey: &Survey, keys: u64, out: &mut dyn Write) -> io::Result<()> {
    for spoilt in &survey.spoilt {
        writeln!(out, "damaged, and not needed: {spoilt}")?;
    }
    for refusal in &survey.refusals {
        writeln!(out, "damaged: {}", with_causes(refusal))?;
    }
    let report = &survey.report;
    writeln!(out, "{} files, {} bytes", survey.files, survey.bytes)?;
    if let (Some(path), Some((next, _))) = (&report.snapshot, report.last_snapshot) {
        writeln!(
            out,
            "snapshot {}: {keys} keys as they were before operation {next}",
            path.display()
        )?;
    }
    write!(out, "{} operations", report.operations)?;
    let last = survey.ending.as_ref().and_then(|ending| ending.last);
    let ends = survey.first.zip(last).filter(|_| report.operations > 0);
    if let Some((first, last)) = ends {
        write!(out, ", from {first} to {last}")?;
    }
    if let Some(time) = survey.time.filter(|time| time.0 > 0) {
        out.write_all(b", the last at ")?;
        write_time(time, out)?;
    }
    out.write_all(b"\n")?;
    for repair in &report.repairs {
        writeln!(out, "the next start would: {}", to_do(repair))?;
    }
    match &survey.ending {
        Some(ending) => writeln!(out, "{ending}"),
        None => Ok(()),
    }
}

/// An error and its causes as one line.
fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

fn to_do(repair: &Repair) -> String {
    let shown = |path: &PathBuf| path.display().to_string();
    match repair {
        Repair::TornTail {
            path,
            offset,
            bytes,
            kept,
        } => format!(
            "cut {bytes} bytes of {} at offset {offset}, a write that a crash cut short, and keep \
             them in {}",
            shown(path),
            shown(kept)
        ),
        Repair::ShortFile { path, len } => format!(
            "fill {}, which has {len} bytes, to the length it was made with",
            shown(path)
        ),
        Repair::BrokenSnapshot { path, .. } => format!("leave out {}", shown(path)),
        Repair::Superfluous { path } => format!(
            "remove {}, which a later snapshot has made superfluous",
            shown(path)
        ),
        Repair::Leftover { path } => format!(
            "remove {}, which was being prepared and holds nothing",
            shown(path)
        ),
    }
}
