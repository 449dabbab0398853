//! `postres log dump`: every operation of a log as a line.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::closed_log::ClosedLog;
use super::{Ending, ToolError, json, text};
use crate::command::{Operation, Shown};
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::fs::Fs;

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
    let log = ClosedLog::open(fs, path)?;
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let read = log.read(from, &mut |place, frame| {
        let header = frame.header;
        for (lsn, bytes) in (header.lsn.0..).map(Lsn).zip(frame.operations()) {
            if lsn < from {
                continue;
            }
            let operation = Operation::decode(bytes)
                .map_err(|error| place.impossible(format!("operation {lsn}: {error}")))?;
            write_line(lsn, header.time, &operation.show(), form, &mut out)
                .map_err(ToolError::Output)?;
        }
        Ok(())
    });
    let flushed = out.flush().map_err(ToolError::Output);
    match read.and_then(|ending| flushed.map(|()| ending)) {
        // `... | head` is no failure.
        Err(ToolError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        other => other.map(Some),
    }
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
