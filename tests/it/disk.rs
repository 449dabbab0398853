//! A disk in memory under the log's file trait, which fails, tears, stalls and forgets as told.
//!
//! It keeps for every file what was written and what was synced, and for the folder which names
//! were synced. [`Disk::crash`] gives the disk that a power cut leaves: everything synced, and of
//! each write that was not, what the [`Fate`] says.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use postres::wal::fs::{Fs, FsFile, Lock, LockError};

/// What is done to a disk, as a fault plan sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Create,
    Write,
    SetLen,
    SyncData,
    Rename,
    Remove,
    SyncDir,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Fails with this code, having done nothing.
    Fail(i32),
    /// Writes only the first half, and says so.
    Short,
    /// Writes only the first half, and fails with this code.
    FailHalfway(i32),
    /// Writes all of it, and fails with this code nevertheless.
    FailAfterAll(i32),
}

pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;

/// What a crash does to writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All of them reached the disk.
    Kept,
    /// None did.
    Lost,
    /// Of the last one its first bytes, this many; the others whole.
    Torn(usize),
    /// The last one, and none before it.
    OnlyLast,
    /// The first one, and none behind it.
    OnlyFirst,
}

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Offset and bytes of each write since the last sync.
    unsynced: Vec<(usize, Vec<u8>)>,
}

type Plan = Box<dyn FnMut(Call, &Path) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    synced_names: BTreeMap<PathBuf, u64>,
    next_file: u64,
    plan: Option<Plan>,
    calls: Vec<Call>,
    locked: BTreeSet<PathBuf>,
    sync_time: Duration,
}

/// The disk. Clones are the same one.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From now on every call is first shown to `plan`.
    pub fn plan(&self, plan: impl FnMut(Call, &Path) -> Option<Fault> + Send + 'static) {
        self.state().plan = Some(Box::new(plan));
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        self.state().plan = None;
    }

    /// From now on every sync of a file takes this long.
    pub fn slow_syncs(&self, time: Duration) {
        self.state().sync_time = time;
    }

    /// How many calls of a kind there have been.
    pub fn count(&self, call: Call) -> usize {
        self.state()
            .calls
            .iter()
            .filter(|made| **made == call)
            .count()
    }

    /// The disk as a power cut would leave it now.
    pub fn crash(&self, fate: Fate) -> Self {
        let state = self.state();
        let mut after = State::default();
        for (path, id) in &state.synced_names {
            let content = &state.files[id];
            let mut bytes = content.synced.clone();
            let last = content.unsynced.len().saturating_sub(1);
            for (n, (offset, written)) in content.unsynced.iter().enumerate() {
                let kept = match fate {
                    Fate::Kept => written.len(),
                    Fate::Lost => 0,
                    Fate::Torn(len) if n == last => len.min(written.len()),
                    Fate::Torn(_) => written.len(),
                    Fate::OnlyLast if n == last => written.len(),
                    Fate::OnlyFirst if n == 0 => written.len(),
                    Fate::OnlyLast | Fate::OnlyFirst => 0,
                };
                put(&mut bytes, *offset, &written[..kept]);
            }
            let content = Content {
                now: bytes.clone(),
                synced: bytes,
                unsynced: Vec::new(),
            };
            after.files.insert(after.next_file, content);
            after.names.insert(path.clone(), after.next_file);
            after.next_file += 1;
        }
        after.synced_names = after.names.clone();
        Self(Arc::new(Mutex::new(after)))
    }

    /// A copy of the disk as it is, all of it synced.
    pub fn copy(&self) -> Self {
        let copy = Self::default();
        for (path, bytes) in self.files() {
            copy.put(&path, bytes);
        }
        copy
    }

    /// Every file and what it holds.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        state
            .names
            .iter()
            .map(|(path, id)| (path.clone(), state.files[id].now.clone()))
            .collect()
    }

    /// Puts a file there, synced.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        let id = state.next_file;
        state.next_file += 1;
        let content = Content {
            now: bytes.clone(),
            synced: bytes,
            unsynced: Vec::new(),
        };
        state.files.insert(id, content);
        state.names.insert(path.to_path_buf(), id);
        state.synced_names.insert(path.to_path_buf(), id);
    }

    /// Takes a file away.
    pub fn take(&self, path: &Path) -> Vec<u8> {
        let mut state = self.state();
        state.synced_names.remove(path);
        let id = state.names.remove(path).expect("the file is there");
        state.files[&id].now.clone()
    }

    fn call(&self, call: Call, path: &Path) -> io::Result<Option<Fault>> {
        let mut state = self.state();
        state.calls.push(call);
        let fault = state.plan.as_mut().and_then(|plan| plan(call, path));
        match fault {
            Some(Fault::Fail(code)) => Err(io::Error::from_raw_os_error(code)),
            fault => Ok(fault),
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    if !written.is_empty() {
        bytes.resize(bytes.len().max(offset + written.len()), 0);
        bytes[offset..offset + written.len()].copy_from_slice(written);
    }
}

impl Fs for Disk {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let state = self.state();
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| path.file_name())
            .map(OsString::from)
            .collect())
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        let state = self.state();
        Ok(state
            .names
            .get(path)
            .map(|id| state.files[id].now.len() as u64))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let id = self
            .state()
            .names
            .get(path)
            .copied()
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(DiskFile {
            disk: self.clone(),
            id,
            path: path.to_path_buf(),
        }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.call(Call::Create, path)?;
        let mut state = self.state();
        let id = state.next_file;
        state.next_file += 1;
        state.files.insert(id, Content::default());
        state.names.insert(path.to_path_buf(), id);
        Ok(Box::new(DiskFile {
            disk: self.clone(),
            id,
            path: path.to_path_buf(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Rename, to)?;
        let mut state = self.state();
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_path_buf(), id);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Remove, path)?;
        self.state()
            .names
            .remove(path)
            .map(drop)
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(Call::SyncDir, dir)?;
        let mut state = self.state();
        state.synced_names = state.names.clone();
        Ok(())
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        if !self.state().locked.insert(path.to_path_buf()) {
            return Err(LockError::Held { holder: None });
        }
        Ok(Box::new(DiskLock(self.clone(), path.to_path_buf())))
    }
}

#[derive(Debug)]
struct DiskLock(Disk, PathBuf);

impl Lock for DiskLock {}

impl Drop for DiskLock {
    fn drop(&mut self) {
        self.0.state().locked.remove(&self.1);
    }
}

#[derive(Debug)]
struct DiskFile {
    disk: Disk,
    id: u64,
    path: PathBuf,
}

impl FsFile for DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let bytes = state.files[&self.id]
            .now
            .get(offset as usize..)
            .unwrap_or_default();
        let len = buffer.len().min(bytes.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let fault = self.disk.call(Call::Write, &self.path)?;
        let len = match fault {
            Some(Fault::Short | Fault::FailHalfway(_)) => bytes.len().div_ceil(2),
            _ => bytes.len(),
        };
        let mut state = self.disk.state();
        let content = state.files.get_mut(&self.id).unwrap();
        put(&mut content.now, offset as usize, &bytes[..len]);
        content
            .unsynced
            .push((offset as usize, bytes[..len].to_vec()));
        match fault {
            Some(Fault::FailHalfway(code) | Fault::FailAfterAll(code)) => {
                Err(io::Error::from_raw_os_error(code))
            }
            _ => Ok(len),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.call(Call::SetLen, &self.path)?;
        let mut state = self.disk.state();
        let content = state.files.get_mut(&self.id).unwrap();
        content.now.resize(len as usize, 0);
        // A new length is taken to reach the disk at once, which is no harder on the log.
        content.synced.resize(len as usize, 0);
        content
            .unsynced
            .retain(|(offset, _)| *offset < len as usize);
        for (offset, written) in &mut content.unsynced {
            written.truncate(len as usize - *offset);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[&self.id].now.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let time = self.disk.state().sync_time;
        std::thread::sleep(time);
        self.disk.call(Call::SyncData, &self.path)?;
        let mut state = self.disk.state();
        let content = state.files.get_mut(&self.id).unwrap();
        content.synced = content.now.clone();
        content.unsynced.clear();
        Ok(())
    }
}
