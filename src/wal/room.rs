//! How much room the log leaves free on the disk.
//!
//! A snapshot is what gives room back, so it must not lack any itself. Before the log takes more of the disk it
//! asks how much the next snapshot needs, and leaves that, and as much again as what it
//! takes may add to it. Only what removes keys may take from the reserve: it is how an operator makes the
//! next snapshot smaller.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::fs::Fs;

/// Length of a segment that is made of the reserve.
pub(super) const RESERVED_SEGMENT: u64 = 1 << 20;

/// What the next snapshot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needed {
    /// How many bytes must be free for it.
    pub bytes: u64,
    /// Whether these may be more than will be needed, since one is being written now.
    pub at_most: bool,
}

/// Asks what the next snapshot needs.
type Ask = Box<dyn Fn() -> Needed + Send + Sync>;

/// Room that is kept for the next snapshot: nothing until somebody says how much it needs.
#[derive(Clone, Default)]
pub struct Reserve(Arc<OnceLock<Ask>>);

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reserve({:?})", self.needed())
    }
}

impl Reserve {
    /// From now on `needed` is asked, whenever the log is about to take more of the disk. The first
    /// stays.
    pub fn is(&self, needed: impl Fn() -> Needed + Send + Sync + 'static) {
        self.0.get_or_init(|| Box::new(needed));
    }

    fn needed(&self) -> Option<Needed> {
        self.0.get().map(|needed| needed())
    }

    /// Whether the folder's disk has room for `takes` more bytes, for the next snapshot, and for what
    /// the operations that are yet to be logged may add to that: as many bytes as `adds`. Where the
    /// system cannot tell how much there is, the attempt will show whether it is enough.
    pub(super) fn check(&self, fs: &dyn Fs, dir: &Path, takes: u64, adds: u64) -> io::Result<()> {
        // What removes keys can then have two segments, and the snapshot has its room still.
        let kept = adds.saturating_add(2 * RESERVED_SEGMENT);
        self.check_free(fs, dir, takes, |_, needed| {
            needed.bytes.saturating_add(kept)
        })
    }

    /// The same for what removes keys: it must leave the next snapshot its room, as removing may also be
    /// of keys that are not there, which makes no room. If there is too little for that anyway, to remove
    /// keys is the only way out; then it may take a little at a time, and leaves some for who removes all of them.
    pub(super) fn check_removal(&self, fs: &dyn Fs, dir: &Path, takes: u64) -> io::Result<()> {
        let kept = |free, needed| left_by_removal(takes, free, needed);
        self.check_free(fs, dir, takes, kept)
    }

    /// Whether `takes` bytes are free beside those that `kept` says, of what is free and what the next
    /// snapshot needs.
    fn check_free(
        &self,
        fs: &dyn Fs,
        dir: &Path,
        takes: u64,
        kept: impl Fn(u64, Needed) -> u64,
    ) -> io::Result<()> {
        let Some(needed) = self.needed() else {
            return Ok(());
        };
        let Ok(free) = fs.free_space(dir) else {
            return Ok(());
        };
        let kept = kept(free, needed);
        if free >= takes.saturating_add(kept) {
            return Ok(());
        }
        let why = format!(
            "No space left: {free} bytes are free, {takes} are needed for the log and {kept} for the \
             snapshot that will make room"
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, why))
    }
}

/// How much of what is `free` must stay so if what removes keys takes so many bytes.
fn left_by_removal(takes: u64, free: u64, needed: Needed) -> u64 {
    let lacks_room = free < needed.bytes && !needed.at_most;
    if lacks_room && takes <= RESERVED_SEGMENT {
        4 * RESERVED_SEGMENT
    } else {
        needed.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_removes_keys_takes_of_a_snapshot_s_room_only_where_that_is_too_little_and_then_a_little()
     {
        const MIB: u64 = 1 << 20;
        let needed = |at_most| Needed {
            bytes: 30 * MIB,
            at_most,
        };
        // What it takes and what is free, in MiB; whether a snapshot is being written; what must be left.
        for (takes, free, writing, left) in [
            (1, 40, false, 30),
            (8, 40, false, 30),
            (1, 30, false, 30),
            (1, 29, false, 4),
            (2, 29, false, 30),
            (1, 29, true, 30),
            (0, 3, false, 4),
        ] {
            let is_left = left_by_removal(takes * MIB, free * MIB, needed(writing));
            assert_eq!(is_left, left * MIB, "{takes} of {free}");
        }
    }
}
