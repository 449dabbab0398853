//! What recovery mends, once the whole log was read and accepted.

use std::io;
use std::path::{Path, PathBuf};

use super::error::{RecoveryError, io_error};
use super::{Chain, Found, Start};
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::fs::{Fs, write_all_at, write_zeros};
use crate::wal::name::LogName;
use crate::wal::sabotage;

/// What recovery did, for the log line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The snapshot that the state begins with.
    pub snapshot: Option<PathBuf>,
    /// Where the log goes on behind it, and the time of the last frame before that.
    pub last_snapshot: Option<(Lsn, Timestamp)>,
    /// Length of that snapshot.
    pub snapshot_bytes: u64,
    /// Records in it.
    pub records: u64,
    /// Segments read.
    pub segments: usize,
    /// Bytes of the frames that hold something that the snapshot does not.
    pub log_bytes: u64,
    /// Operations given to the caller.
    pub operations: u64,
    /// What was irregular, harmless, and mended.
    pub repairs: Vec<Repair>,
}

/// Something that recovery mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// A torn tail was cut.
    TornTail {
        /// The segment.
        path: PathBuf,
        /// Where it was cut.
        offset: u64,
        /// How many bytes were not zero from there on.
        bytes: u64,
        /// Where they are kept.
        kept: PathBuf,
    },
    /// The last segment was shorter than it was prepared, and is no longer.
    ShortFile {
        /// The segment.
        path: PathBuf,
        /// The length it had.
        len: u64,
    },
    /// A snapshot is damaged, and was not needed: what it held is in older files.
    BrokenSnapshot {
        /// The snapshot, which is left where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that a later snapshot has made superfluous was removed.
    Superfluous {
        /// The file.
        path: PathBuf,
    },
    /// A segment without any operation was removed.
    Leftover {
        /// The file.
        path: PathBuf,
    },
}

/// What is to be mended of a log that was read and accepted, in the order in which [`mend`] does it.
pub(super) fn plan(
    fs: &dyn Fs,
    name: &LogName,
    found: &Found,
    start: &Start,
    chain: Option<&Chain>,
) -> Result<Vec<Repair>, RecoveryError> {
    let leftovers = chain
        .map(|chain| chain.leftovers.as_slice())
        .unwrap_or_default();
    let leftovers = leftovers.iter().map(|&base| name.segment(base));
    let leftovers = leftovers.chain(found.files.unfinished.iter().cloned());
    let mut repairs: Vec<Repair> = leftovers.map(|path| Repair::Leftover { path }).collect();
    let snapshots = found.files.snapshots.iter();
    let snapshots = snapshots.filter(|&&next| next < start.next);
    let superfluous = snapshots
        .map(|&next| name.snapshot(next))
        .chain(start.superfluous.iter().map(|&base| name.segment(base)));
    repairs.extend(superfluous.map(|path| Repair::Superfluous { path }));
    let Some(chain) = chain else {
        return Ok(repairs);
    };
    if let Some(torn) = &chain.torn {
        repairs.push(Repair::TornTail {
            path: chain.path.clone(),
            offset: chain.position,
            bytes: torn.len() as u64,
            kept: place_aside(fs, name, chain)?,
        });
    }
    if chain.len < full_len(chain) {
        repairs.push(Repair::ShortFile {
            path: chain.path.clone(),
            len: chain.len,
        });
    }
    Ok(repairs)
}

/// Removes what is superfluous and what was left over, keeps a torn tail aside and zeroes it: each
/// durable before the log goes on.
pub(super) fn mend(
    fs: &dyn Fs,
    name: &LogName,
    repairs: &[Repair],
    chain: Option<&Chain>,
) -> Result<(), RecoveryError> {
    let is_superfluous = |repair: &Repair| matches!(repair, Repair::Superfluous { .. });
    if repairs.iter().any(is_superfluous) && !sabotage::is("recovered-name-unsynced") {
        // The server before this one may have died between giving the snapshot its name and syncing
        // that. The name must be durable before anything is gone that it stands for.
        fs.sync_dir(name.dir())
            .map_err(|source| io_error("syncing", name.dir(), source))?;
    }
    let mut removed = false;
    for repair in repairs {
        if let Repair::Leftover { path } | Repair::Superfluous { path } = repair {
            fs.remove(path)
                .map_err(|source| io_error("removing", path, source))?;
            removed = true;
        }
    }
    if removed {
        fs.sync_dir(name.dir())
            .map_err(|source| io_error("syncing", name.dir(), source))?;
    }
    let Some(chain) = chain else {
        return Ok(());
    };
    secure(fs, name, chain)?;
    for repair in repairs {
        if let (Repair::TornTail { kept, .. }, Some(torn)) = (repair, &chain.torn) {
            keep_aside(fs, name, kept, torn)?;
        }
    }
    if chain.torn.is_some() || chain.len < full_len(chain) {
        zero_tail(chain, full_len(chain))
            .map_err(|source| io_error("zeroing the tail of", &chain.path, source))?;
    }
    Ok(())
}

/// The length that the last segment is to have.
fn full_len(chain: &Chain) -> u64 {
    chain.header.capacity.max(chain.position)
}

/// Makes durable what was read and accepted, names included.
///
/// A sync alone would not do: after a failed one the system may hold pages that it believes to be
/// written and that the disk does not have. Writing the same bytes again makes it write them.
fn secure(fs: &dyn Fs, name: &LogName, chain: &Chain) -> Result<(), RecoveryError> {
    for chain in chain.before.as_deref().into_iter().chain([chain]) {
        let (from, bytes) = &chain.unproven;
        write_all_at(&*chain.file, bytes, *from)
            .and_then(|()| {
                if sabotage::is("recovered-unsynced") {
                    Ok(())
                } else {
                    chain.file.sync_data()
                }
            })
            .map_err(|source| io_error("making durable", &chain.path, source))?;
    }
    fs.sync_dir(name.dir())
        .map_err(|source| io_error("syncing", name.dir(), source))
}

/// Where a torn tail goes. Never replaces what an earlier start kept: a crash while the tail was
/// zeroed may have left less of it to keep.
fn place_aside(fs: &dyn Fs, name: &LogName, chain: &Chain) -> Result<PathBuf, RecoveryError> {
    let mut nth = 1;
    loop {
        let path = name.torn(chain.header.base, chain.position, nth);
        match fs.file_len(&path) {
            Ok(Some(_)) => nth += 1,
            Ok(None) => return Ok(path),
            Err(source) => return Err(io_error("looking at", &path, source)),
        }
    }
}

fn keep_aside(fs: &dyn Fs, name: &LogName, path: &Path, torn: &[u8]) -> Result<(), RecoveryError> {
    let write = || {
        let file = fs.create(path)?;
        write_all_at(&*file, torn, 0)?;
        file.sync_data()?;
        fs.sync_dir(name.dir())
    };
    write().map_err(|source| io_error("keeping a torn tail in", path, source))
}

fn zero_tail(chain: &Chain, full_len: u64) -> io::Result<()> {
    if chain.len > full_len {
        chain.file.set_len(full_len)?;
    }
    let torn = chain.torn.as_ref().map_or(0, Vec::len) as u64;
    write_zeros(
        &*chain.file,
        chain.position,
        (chain.position + torn).min(full_len),
    )?;
    write_zeros(&*chain.file, chain.len.max(chain.position), full_len)?;
    if sabotage::is("torn-tail-unsynced") {
        return Ok(());
    }
    chain.file.sync_data()
}
