//! Giving back the room of what a snapshot has made superfluous.

use std::io;

use super::Lsn;
use super::fs::Fs;
use super::name::LogName;
use super::segment::Recycled;

/// What was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retired {
    /// Segments removed, or kept to be written anew.
    pub segments: usize,
    /// Older snapshots removed.
    pub snapshots: usize,
}

/// Removes the snapshots before the one at `snapshot`, and the segments that hold only operations
/// before it. One of them is kept for `recycled`.
///
/// Must be called only once the snapshot has its name, which it gets when every byte of it was
/// read back. `active` is the base of the segment that the log is in: it and what follows is not
/// touched. The order is of no matter: recovery needs none of what is removed here, and what is
/// left behind by a crash in the midst is removed at the next start.
pub fn retire(
    fs: &dyn Fs,
    name: &LogName,
    snapshot: Lsn,
    active: Lsn,
    recycled: &Recycled,
) -> io::Result<Retired> {
    let files = name.files(fs)?;
    let mut retired = Retired::default();
    for &old in files.snapshots.iter().filter(|&&old| old < snapshot) {
        fs.remove(&name.snapshot(old))?;
        retired.snapshots += 1;
    }
    for base in superfluous(&files.segments, snapshot.min(active)) {
        let path = name.segment(base);
        if !recycled.offer(fs, &path, name.new_segment(base)) {
            fs.remove(&path)?;
        }
        retired.segments += 1;
    }
    fs.sync_dir(name.dir())?;
    Ok(retired)
}

/// The segments that hold only operations before `from`: those whose successor begins there or
/// before it. `segments` is sorted.
pub(super) fn superfluous(segments: &[Lsn], from: Lsn) -> impl Iterator<Item = Lsn> {
    let pairs = segments.iter().zip(segments.iter().skip(1));
    pairs
        .filter(move |(_, next)| **next <= from)
        .map(|(base, _)| *base)
}
