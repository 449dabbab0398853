//! The narrow file layer below the log.
//!
//! Everything the log asks of a file system is in these two traits, so that a test can put a disk
//! of its own underneath: one that fails, tears, stalls or forgets (see `tests/it/disk.rs`).
//! [`StdFs`] is the real one, [`ReadFs`] that of tools which only read. No other file of the crate
//! opens, renames or syncs anything.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file system as the log needs it.
///
/// Nothing is durable until it is synced: a file's bytes and length by [`FsFile::sync_data`], a
/// name (created, renamed or removed) by [`Fs::sync_dir`].
pub trait Fs: fmt::Debug + Send + Sync {
    /// Makes `dir` and its missing parents, durably.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// The names in `dir`, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// The length of what is at `path`, or `None` where nothing is. A folder is an error.
    fn file_len(&self, path: &Path) -> io::Result<Option<u64>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// Creates a file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// Renames `from` to `to`, replacing what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// How many bytes can still be written where `dir` is.
    fn free_space(&self, dir: &Path) -> io::Result<u64>;
    /// Takes an exclusive lock on `path`, held until the value is dropped or the process ends.
    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError>;
}

/// An open file. Positions are absolute; there is no cursor.
pub trait FsFile: fmt::Debug + Send {
    /// Reads at most `buffer.len()` bytes at `offset`; 0 means the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at most `bytes.len()` bytes at `offset` and says how many: it may be fewer.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Cuts the file to `len` bytes, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Has the first `len` bytes read as zeros, with room on the disk for all of them, without
    /// writing any; a shorter file is extended. Not every system can.
    fn zero_range(&self, len: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Makes the file's bytes and length durable (fdatasync). A failure is final: the kernel may
    /// have dropped the pages it could not write, so a second call that succeeds proves nothing.
    fn sync_data(&self) -> io::Result<()>;
    /// Tells the system that the `len` bytes from `offset` on need not stay in memory. They may, as they do where
    /// nobody tells it; what is read is the same.
    fn drop_cached(&self, _offset: u64, _len: u64) {}
}

/// A lock held for as long as the value lives.
pub trait Lock: fmt::Debug + Send + Sync {}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it; what it wrote into the file says which.
    #[error("it is in use by another server{}", holder.as_ref().map(|h| format!(" (process {h})")).unwrap_or_default())]
    Held {
        /// The holder's process id, where the file tells it.
        holder: Option<u32>,
    },
    /// The file could not be opened or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes all of `bytes` at `offset`, however few each call takes.
pub(crate) fn write_all_at(file: &dyn FsFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = bytes.get(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads from `offset` until `buffer` is full or the file ends; says how many bytes it read.
pub(crate) fn read_full_at(file: &dyn FsFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes zeros from `from` up to `to`, without a sync.
pub(crate) fn write_zeros(file: &dyn FsFile, from: u64, to: u64) -> io::Result<()> {
    const STEP: u64 = 1 << 20;
    let zeros = vec![0_u8; usize::try_from(to.saturating_sub(from).min(STEP)).unwrap_or(0)];
    let mut at = from;
    while at < to {
        let step = usize::try_from((to - at).min(STEP)).unwrap_or(zeros.len());
        write_all_at(file, zeros.get(..step).unwrap_or(&zeros), at)?;
        at += step as u64;
    }
    Ok(())
}

/// Reads the start of a file that is none of the log's, at most `limit` bytes of it.
pub fn read_start(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file that is none of the log's, to be read from its start.
pub fn open_to_read(path: &Path) -> io::Result<Box<dyn BufRead>> {
    const BUFFER: usize = 1 << 20;
    Ok(Box::new(BufReader::with_capacity(
        BUFFER,
        File::open(path)?,
    )))
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct StdFs;

impl Fs for StdFs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let missing: Vec<PathBuf> = dir
            .ancestors()
            .filter(|ancestor| !ancestor.as_os_str().is_empty())
            .take_while(|ancestor| !ancestor.exists())
            .map(Path::to_path_buf)
            .collect();
        fs::create_dir_all(dir)?;
        for made in missing {
            let parent = made
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            self.sync_dir(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect()
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(
            OpenOptions::new().read(true).write(true).open(path)?,
        ))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let mut options = OpenOptions::new();
        Ok(Box::new(
            options
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)?,
        ))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut file = take_lock(file)?;
        // Only for the message of who finds it locked; on a full disk it is done without.
        let _ = write_holder(&mut file);
        Ok(Box::new(file))
    }
}

/// The same for tools that change no file which was there before, so that they can read one that
/// nobody may write, or that is on a disk which is read only. What they make, they make as ever.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadFs;

impl Fs for ReadFs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        StdFs.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        StdFs.list(dir)
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        StdFs.file_len(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        StdFs.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        StdFs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        StdFs.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        StdFs.sync_dir(dir)
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        StdFs.free_space(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
        match StdFs.lock(path) {
            Err(LockError::Io(error))
                if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => {}
            locked => return locked,
        }
        // A server may run on it nevertheless: as another user, or where the disk may be written.
        match File::open(path) {
            Ok(file) => Ok(Box::new(take_lock(file)?)),
            // It would have made the file.
            Err(error) if error.kind() == NotFound => Ok(Box::new(NoServer)),
            Err(error) => Err(error.into()),
        }
    }
}

/// What stands for a lock where no server has left a file to be locked.
#[derive(Debug)]
struct NoServer;

impl Lock for NoServer {}

fn take_lock(file: File) -> Result<File, LockError> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Best effort: the message is complete without the number.
            let _ = file.take(16).read_to_string(&mut holder);
            Err(LockError::Held {
                holder: holder.trim().parse().ok(),
            })
        }
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

impl Lock for File {}

impl FsFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    #[cfg(target_os = "linux")]
    fn zero_range(&self, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        Ok(fallocate(self, FallocateFlags::ZERO_RANGE, 0, len)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn zero_range(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    #[cfg(target_os = "linux")]
    fn drop_cached(&self, offset: u64, len: u64) {
        use rustix::fs::{Advice, fadvise};
        // Advice that is not taken does no harm.
        let _ = fadvise(self, offset, NonZeroU64::new(len), Advice::DontNeed);
    }
}
