//! `postres log import`: a new log, made of the text log of post-go-res.
//!
//! The file is read twice. The first time every line is looked at, so that nothing at all is made
//! if one of them has no meaning, or more than one, or may be the remnant of a longer one; the second
//! time the log is written.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::Arc;

use super::ToolError;
use super::original::{Line, Lines, Record};
use super::staging::Staging;
use super::text::write_quoted;
use crate::command::{Operation, Rest};
use crate::wal::LogOptions;
use crate::wal::frame::push_operation;
use crate::wal::fs::Fs;
use crate::wal::writer::LogWriter;

/// So many unclear lines are shown; the others are counted.
const MAX_SHOWN: u64 = 20;

/// What is imported.
pub struct Source<'a> {
    /// The file, for messages.
    pub path: &'a Path,
    /// Opens it, to be read from its start; called twice.
    pub open: &'a dyn Fn() -> io::Result<Box<dyn BufRead>>,
    /// Whether lines that cannot be read for sure are left out.
    pub skip_unclear: bool,
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("path", &self.path)
            .field("skip_unclear", &self.skip_unclear)
            .finish_non_exhaustive()
    }
}

/// What was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// Operations that give a key a value.
    pub sets: u64,
    /// Operations that remove a key.
    pub dels: u64,
    /// Lines that were left out.
    pub unclear: u64,
}

impl Imported {
    /// All operations.
    pub fn operations(&self) -> u64 {
        self.sets + self.dels
    }
}

/// Makes a new log at `options.path` of what `source` holds. Lines that cannot be read for sure are
/// told to `notes`, a line each.
pub fn import(
    fs: Arc<dyn Fs>,
    options: &LogOptions,
    source: &Source<'_>,
    notes: &mut dyn Write,
) -> Result<Imported, ToolError> {
    let staging = Staging::new(fs, &options.path)?;
    staging.check_free()?;
    let path = source.path;
    let seen = source.read(&mut |_| Ok(()), &mut |line, number| {
        // Nothing depends on whether anyone reads it; the count is in the error.
        let _ = tell_unclear(line, number, path, notes);
    })?;
    if seen.unclear > MAX_SHOWN {
        let more = seen.unclear - MAX_SHOWN;
        let _ = writeln!(
            notes,
            "postres: {}: and {more} such lines more",
            path.display()
        );
    }
    if seen.unclear > 0 && !source.skip_unclear {
        return Err(ToolError::Unclear {
            path: path.to_path_buf(),
            count: seen.unclear,
        });
    }
    /// Longer frames are no faster.
    const MOST: usize = 1 << 20;
    staging.make(options, |writer| {
        let mut batch = Batch {
            writer,
            body: Vec::new(),
            count: 0,
            // Far shorter than a segment, at whose end room for a frame is left.
            enough: usize::try_from(options.segment_capacity / 16).map_or(MOST, |n| n.min(MOST)),
        };
        let written = source.read(&mut |record| batch.push(record), &mut |_, _| {})?;
        batch.flush()?;
        if written != seen {
            return Err(ToolError::Changed {
                path: path.to_path_buf(),
            });
        }
        Ok(written)
    })
}

impl Source<'_> {
    /// Gives every record to `each`, and every line that is none for sure, with its number among
    /// those, to `unclear`.
    fn read(
        &self,
        each: &mut dyn FnMut(&Record<'_>) -> Result<(), ToolError>,
        unclear: &mut dyn FnMut(&Line<'_>, u64),
    ) -> Result<Imported, ToolError> {
        let failed = |source| ToolError::Source {
            path: self.path.to_path_buf(),
            source,
        };
        let mut file = (self.open)().map_err(failed)?;
        let mut lines = Lines::new(&mut *file);
        let mut read = Imported::default();
        while let Some(line) = lines.next().map_err(failed)? {
            match line.readings().as_slice() {
                [record] if !line.may_be_cut() => {
                    match record {
                        Record::Set { .. } => read.sets += 1,
                        Record::Del { .. } => read.dels += 1,
                    }
                    each(record)?;
                }
                _ => {
                    read.unclear += 1;
                    unclear(&line, read.unclear);
                }
            }
        }
        Ok(read)
    }
}

/// Operations on their way into one frame.
struct Batch<'a> {
    writer: &'a mut LogWriter,
    body: Vec<u8>,
    count: u32,
    /// A frame gets no longer than this, save by its last operation.
    enough: usize,
}

impl Batch<'_> {
    fn push(&mut self, record: &Record<'_>) -> Result<(), ToolError> {
        let operation = match *record {
            Record::Set { key, value } => Operation::Set {
                key,
                value: Rest(value),
            },
            Record::Del { key } => Operation::Del { key: Rest(key) },
        };
        push_operation(&mut self.body, |out| operation.encode(out));
        self.count += 1;
        if self.body.len() >= self.enough {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ToolError> {
        const KEEP: usize = 8 << 20;
        if self.count > 0 {
            self.writer.append(self.count, [self.body.as_slice()])?;
        }
        self.count = 0;
        self.body.clear();
        self.body.shrink_to(KEEP);
        Ok(())
    }
}

fn tell_unclear(
    line: &Line<'_>,
    number: u64,
    path: &Path,
    notes: &mut dyn Write,
) -> io::Result<()> {
    if number > MAX_SHOWN {
        return Ok(());
    }
    write!(notes, "postres: {}:{}: ", path.display(), line.number)?;
    let readings = line.readings();
    match readings.as_slice() {
        [] => {
            notes.write_all(b"unreadable: ")?;
            write_excerpt(line.bytes, line.len, notes)?;
            if !line.is_ended {
                notes.write_all(b" (the file ends in it: perhaps a write that was cut short)")?;
            }
        }
        [_] => notes.write_all(b"perhaps cut short: ")?,
        _ => notes.write_all(b"ambiguous: ")?,
    }
    for (n, reading) in readings.iter().enumerate() {
        notes.write_all(if n > 0 { b", or " } else { b"" })?;
        let (name, parts) = match *reading {
            Record::Set { key, value } => ("SET", vec![("key", key), ("value", value)]),
            Record::Del { key } => ("DEL", vec![("key", key)]),
        };
        notes.write_all(name.as_bytes())?;
        for (name, bytes) in parts {
            write!(notes, " {name}=")?;
            write_excerpt(bytes, bytes.len() as u64, notes)?;
        }
    }
    if readings.len() == 1 {
        notes.write_all(b" (the file ends in it; if the line is whole, add a line break)")?;
    }
    notes.write_all(b"\n")
}

/// Writes the start of bytes of which there are `len`.
fn write_excerpt(bytes: &[u8], len: u64, notes: &mut dyn Write) -> io::Result<()> {
    const SHOWN: usize = 60;
    let start = bytes.get(..SHOWN).unwrap_or(bytes);
    write_quoted(start, notes)?;
    if len > start.len() as u64 {
        write!(notes, "... ({len} bytes)")?;
    }
    Ok(())
}
