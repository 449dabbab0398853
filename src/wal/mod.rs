//! The write-ahead log: numbered segments of checksummed frames, written by one thread.
//!
//! The log carries bytes and knows no commands. It is given operations to make durable
//! ([`group_commit`]) and gives them back in the same order: once when they are durable, and again
//! after a restart ([`recovery`]).
//!
//! # Format, version 1
//!
//! This is the specification. All numbers are little-endian. Files of every released version stay
//! under `tests/fixtures` and must keep loading.
//!
//! **A segment** ([`segment`]) is a file named after the LSN it begins at ([`name`]). It is
//! made full of zeros and synced before it gets its name; the zeros are written, so that appending
//! changes no metadata, but for large frames ([`segment::Zeros`]). Its first 4,096 bytes are the header:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic, `postrwal` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | offset of the first frame, 4096 |
//! | 16 | 8 | id of the log, random, the same in all its segments |
//! | 24 | 8 | base: the LSN of the first operation |
//! | 32 | 8 | salt, random for each segment |
//! | 40 | 8 | capacity: the file's length as it was prepared, at most 1 GiB |
//! | 48 | 4044 | zeros |
//! | 4092 | 4 | CRC-32C of the 4,092 bytes before |
//!
//! **A frame** ([`frame`]) begins at a multiple of 8 and follows the one before it without a gap:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | CRC-32C of the salt and bytes 4 to 47 |
//! | 4 | 4 | CRC-32C of the salt, the body and its padding |
//! | 8 | 4 | length of the body, at most 1 GiB and 64 KiB |
//! | 12 | 4 | kind: 1 operations, 2 seal, 3 close |
//! | 16 | 8 | LSN of its first operation |
//! | 24 | 8 | time, milliseconds since 1970, never falling |
//! | 32 | 8 | offset in this segment below which all was durable when this frame was written |
//! | 40 | 4 | number of operations |
//! | 44 | 4 | zero |
//! | 48 | | body: each operation as 4 bytes of length and its bytes; padded with zeros to 8 |
//!
//! LSNs count operations, from 1, without a gap. The salt makes bytes that a client chose, and
//! frames of a segment's earlier life, worthless as frames. A *seal* ends a segment whose
//! successor exists; a *close* marks an orderly stop. Both carry no operation. Behind the last
//! frame there are zeros to the end of the file. A frame that does not fit in what is left goes
//! into a new segment; one larger than an empty segment makes its file longer.
//!
//! **A snapshot** ([`snapshot`]) is a file named after the LSN at which the log goes on behind it.
//! Its header is like a segment's, but for the magic, `postsnap`, and the numbers from offset 16
//! on, 8 bytes each: the id of the log; the LSN at which the log goes on; a salt; the time of the
//! last frame before it; how many keys the snapshot holds. Blocks follow, which are laid out as
//! frames: the position counts records, from 1; the time is the header's; the field at offset 32 is
//! zero. A close frame is the last, and the file ends with it. What a record holds is no matter of
//! the log's; `command::record` tells.
//!
//! # What a damaged log means
//!
//! At most what was written since the last successful sync can be torn by a crash. Whether a bad
//! frame at offset X is such a remnant is told by the frames behind it: if one of them says that
//! the log was durable beyond X, the bad one was whole once, and its loss is damage. The decision
//! table is in [`recovery`].

mod folder;
pub mod frame;
pub mod fs;
pub mod group_commit;
pub mod header;
pub mod name;
pub mod page_buffer;
pub mod recovery;
pub mod retire;
pub mod room;
mod sabotage;
pub mod segment;
pub mod snapshot;
pub mod writer;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::time::{Clock, system_clock};

pub use folder::LogFolder;

/// A position in the log: the number of an operation, counted from 1 without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position of the first operation of any log.
    pub const FIRST: Self = Self(1);
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// When a commit is acknowledged (the flag `-fsync`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// After the fdatasync that covers it. P1 and P2 hold.
    #[default]
    Always,
    /// After the write; an fdatasync follows within a second. A power cut loses up to that.
    EverySecond,
    /// After the write; the system decides when it reaches the disk.
    Never,
}

/// How a log is kept.
#[derive(Clone)]
pub struct LogOptions {
    /// Folder and first part of the files' names.
    pub path: PathBuf,
    /// Length in bytes that segments are prepared with, brought between [`segment::MIN_CAPACITY`]
    /// and [`segment::MAX_CAPACITY`].
    pub segment_capacity: u64,
    /// When a commit is acknowledged.
    pub policy: SyncPolicy,
    /// Whether the next segment is prepared in the background, before it is needed.
    pub prepare_ahead: bool,
    /// How long after a failed attempt to make room the next one is made. Between the two,
    /// submissions are rejected with the same cause, which costs nothing.
    pub retry_after: Duration,
    /// The source of the frames' time.
    pub clock: Clock,
    /// The source of salts and of the log's id.
    pub entropy: fn() -> u64,
}

impl fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogOptions")
            .field("path", &self.path)
            .field("segment_capacity", &self.segment_capacity)
            .field("policy", &self.policy)
            .field("prepare_ahead", &self.prepare_ahead)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

impl LogOptions {
    /// The defaults, for a log at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            segment_capacity: segment::DEFAULT_CAPACITY,
            policy: SyncPolicy::Always,
            prepare_ahead: true,
            retry_after: Duration::from_millis(100),
            clock: system_clock(),
            entropy: system_entropy,
        }
    }
}

/// Random bits from the operating system.
pub fn system_entropy() -> u64 {
    getrandom::u64().unwrap_or_else(|error| {
        // Linux offers no way for this to fail once the machine has booted. A log without a secret
        // salt is weaker against a client that forges frames, not wrong, so it need not stop us.
        tracing::warn!(%error, "the system gave no random bits; using the clock");
        system_clock()().0
    })
}
