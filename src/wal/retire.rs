//! Giving back the room of what a snapshot has made superfluous.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Lsn;
use super::fs::{Fs, FsFile};
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
///
/// First all names are removed, for good, and then the room is given back bit by bit; `pause` is told now
/// and then how long that has taken since.
pub fn retire(
    fs: &dyn Fs,
    name: &LogName,
    snapshot: Lsn,
    active: Lsn,
    (recycled, capacity): (&Recycled, u64),
    mut pause: impl FnMut(Duration),
) -> io::Result<Retired> {
    let files = name.files(fs)?;
    let mut retired = Retired::default();
    let mut nameless = Vec::new();
    let mut remove = |path: &Path| {
        let file = fs.open(path);
        fs.remove(path)?;
        nameless.extend(file);
        Ok::<_, io::Error>(())
    };
    for &old in files.snapshots.iter().filter(|&&old| old < snapshot) {
        remove(&name.snapshot(old))?;
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
                remove(&path)?;
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
    // Only now can a crash not bring back the name of one that has lost some of its bytes.
    for file in nameless {
        empty(&*file, &mut pause);
    }
    Ok(retired)
}

/// Gives back the room of a file bit by bit: for a gigabyte the system takes a processor for a third of a
/// second, and whoever stands behind that waits. Best effort: the rest goes with the last handle.
fn empty(file: &dyn FsFile, pause: &mut impl FnMut(Duration)) {
    const STEP: u64 = 4 << 20;
    let mut len = file.len().unwrap_or(0);
    while len > 0 {
        let begun = Instant::now();
        len = len.saturating_sub(STEP);
        if file.set_len(len).is_err() {
            return;
        }
        pause(begun.elapsed());
    }
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
