//! `postres log dump`: every operation of a log as a line.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::existing::lock_existing;
use super::{ToolError, json, text};
use crate::command::{Operation, Shown};
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::fs::Fs;
use crate::wal::recovery::{self, Ending, Progress, Replay};
use crate::wal::snapshot::{Block, SnapshotHeader};

/// How operations are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// As one JSON object a line.
    Json,
}

/// Writes the operations of the log at `path` from `from` on to `out`, a line each, and tells how
/// the log ends. At damage all that is before it has been written. `None` if whoever reads `out` has
/// had enough.
pub fn dump(
    fs: &dyn Fs,
    path: &Path,
    from: Lsn,
    form: Form,
    out: &mut dyn Write,
) -> Result<Option<Ending>, ToolError> {
    let _lock = lock_existing(fs, path)?;
    let mut printer = Printer {
        from,
        form,
        out: BufWriter::with_capacity(1 << 16, out),
        failed: None,
    };
    let read = recovery::read_from(fs, path, from, &mut printer);
    let flushed = printer.out.flush();
    // If nothing more could be written, that is why the reading ended.
    match printer.failed.map_or(flushed, Err) {
        Ok(()) => {}
        // `... | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
        Err(error) => return Err(ToolError::Output(error)),
    }
    let ending = read?.ok_or_else(|| ToolError::NoLog {
        path: path.to_path_buf(),
    })?;
    Ok(Some(ending))
}

/// Writes a line for each operation.
struct Printer<'a> {
    from: Lsn,
    form: Form,
    out: BufWriter<&'a mut dyn Write>,
    failed: Option<io::Error>,
}

impl Replay for Printer<'_> {
    fn begin_snapshot(&mut self, _: &SnapshotHeader) {}

    fn block(&mut self, _: Block) -> Result<(), String> {
        Ok(())
    }

    fn end_snapshot(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn discard_snapshot(&mut self) {}

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn operation(&mut self, lsn: Lsn, time: Timestamp, bytes: &[u8]) -> Result<(), String> {
        if lsn < self.from {
            return Ok(());
        }
        let operation = Operation::decode(bytes).map_err(|error| error.to_string())?;
        let written = write_line(lsn, time, &operation.show(), self.form, &mut self.out);
        written.map_err(|error| {
            let reason = error.to_string();
            self.failed = Some(error);
            reason
        })
    }

    fn progress(&mut self, _: Progress) {}
}

fn write_line(
    lsn: Lsn,
    time: Timestamp,
    operation: &Shown<'_>,
    form: Form,
    out: &mut dyn Write,
) -> io::Result<()> {
    match form {
        Form::Text => {
            write!(out, "{lsn} ")?;
            text::write_time(time, out)?;
            out.write_all(b" ")?;
            text::write_shown(operation, out)?;
            out.write_all(b"\n")
        }
        Form::Json => {
            write!(out, "{{\"lsn\":{lsn},\"time\":{},", time.0)?;
            json::write_operation(operation, out)?;
            out.write_all(b"}\n")
        }
    }
}
