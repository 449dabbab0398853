//! Giving back the room of what a snapshot has made superfluous.

use std::io;
use std::path::PathBuf;

use super::Lsn;
use super::fs::Fs;
use super::name::LogName;
use super::segment::{self, Recycled};

/// What was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retired {
    /// Segments removed, or kept to be written anew.
    pub segments: usize,
    /// Older snapshots removed.
    pub snapshots: usize,
}

/// Removes the snapshots before the one at `snapshot`, and the segments that hold only operations
/// before it. One of them that is as long as the next is to be, `capacity`, is kept for `recycled`.
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
    (recycled, capacity): (&Recycled, u64),
) -> io::Result<Retired> {
    let files = name.files(fs)?;
    let mut retired = Retired::default();
    for &old in files.snapshots.iter().filter(|&&old| old < snapshot) {
        fs.remove(&name.snapshot(old))?;
        retired.snapshots += 1;
    }
    let from = snapshot.min(active);
    let mut kept = None;
    let mut give_back = || {
        for base in superfluous(fs, name, &files.segments, from, Some(active))? {
            let (path, new) = (name.segment(base), name.new_segment(base));
            let fits = || {
                fs.open(&path)
                    .and_then(|file| file.len())
                    .is_ok_and(|len| len == capacity)
            };
            let keep = kept.is_none() && recycled.is_empty() && fits();
            // One that cannot be renamed is removed instead.
            if keep && fs.rename(&path, &new).is_ok() {
                kept = Some(new);
            } else {
                fs.remove(&path)?;
            }
            retired.segments += 1;
        }
        fs.sync_dir(name.dir())
    };
    let given_back = give_back();
    if let (Err(_), Some(kept)) = (&given_back, &kept) {
        // Nobody would use it. Best effort: the next start would remove it.
        let _ = fs.remove(kept);
    }
    given_back?;
    // Only now can a crash not bring it back as a segment, and whoever takes it may overwrite it.
    if let Some(kept) = kept {
        recycled.put(kept);
    }
    Ok(retired)
}

/// The files that [`retire`] would give back the room of.
pub(super) fn superseded(
    fs: &dyn Fs,
    name: &LogName,
    snapshot: Lsn,
    active: Lsn,
) -> io::Result<Vec<PathBuf>> {
    let files = name.files(fs)?;
    let old = files.snapshots.iter().filter(|&&old| old < snapshot);
    let mut paths: Vec<_> = old.map(|&old| name.snapshot(old)).collect();
    let from = snapshot.min(active);
    let segments = superfluous(fs, name, &files.segments, from, Some(active))?;
    paths.extend(segments.into_iter().map(|base| name.segment(base)));
    Ok(paths)
}

/// The segments that hold only operations before `from`: those behind which the log went on in
/// another one that begins there or before it. `segments` is sorted.
///
/// That a segment is there does not say that the log went on in it. When a change of segments fails,
/// the new one stays behind, empty, and the log may go on in the old one, beyond where the new one
/// begins. So it counts only if it is `active`, or holds a frame.
pub(super) fn superfluous(
    fs: &dyn Fs,
    name: &LogName,
    segments: &[Lsn],
    from: Lsn,
    active: Option<Lsn>,
) -> io::Result<Vec<Lsn>> {
    let up_to = segments.iter().take_while(|base| **base <= from);
    let mut before: Vec<Lsn> = up_to.copied().collect();
    while let Some(last) = before.pop() {
        let decides = before.is_empty() || active == Some(last);
        if decides || segment::holds_frame(fs, &name.segment(last))? {
            break;
        }
    }
    Ok(before)
}
