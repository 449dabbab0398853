//! `postres log repair`: what a start would mend, without a start.

use std::io::{self, Write};
use std::path::Path;

use super::ToolError;
use super::existing::{Decoding, lock_existing};
use crate::wal::fs::Fs;
use crate::wal::recovery::{self, Repair};

/// Mends the log at `path` as a start would, and writes a line for each thing done to `out`.
/// Refuses where a start would.
pub fn repair(fs: &dyn Fs, path: &Path, out: &mut dyn Write) -> Result<(), ToolError> {
    let _lock = lock_existing(fs, path)?;
    let repaired = recovery::repair(fs, path, &mut Decoding::default())?;
    let report = repaired.ok_or_else(|| ToolError::NoLog {
        path: path.to_path_buf(),
    })?;
    let mut write = || {
        for repair in &report.repairs {
            write_done(repair, out)?;
        }
        if report.repairs.is_empty() {
            writeln!(out, "there is nothing to repair")?;
        }
        Ok(())
    };
    write().map_err(ToolError::Output)
}

fn write_done(repair: &Repair, out: &mut dyn Write) -> io::Result<()> {
    match repair {
        Repair::TornTail {
            path,
            offset,
            bytes,
            kept,
        } => writeln!(
            out,
            "cut {bytes} bytes of {} at offset {offset}, a write that a crash cut short; they are \
             kept in {}",
            path.display(),
            kept.display()
        ),
        Repair::ShortFile { path, len } => writeln!(
            out,
            "filled {}, which had {len} bytes, to the length it was made with",
            path.display()
        ),
        Repair::BrokenSnapshot { path, reason } => writeln!(
            out,
            "left {} as it is: {reason}; all that it held was read from older files, and the \
             server's next snapshot takes its place",
            path.display()
        ),
        Repair::Superfluous { path } => writeln!(
            out,
            "removed {}, which a later snapshot has made superfluous",
            path.display()
        ),
        Repair::Leftover { path } => writeln!(
            out,
            "removed {}, which was being prepared and held nothing",
            path.display()
        ),
    }
}
