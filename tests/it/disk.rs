//! A disk in memory under the log's file trait, which fails, tears, stalls and forgets as told.
//!
//! It keeps for every file what was synced and each change since, and for the folder the same of
//! its names. [`Disk::crash`] gives the disk that a power cut leaves: everything synced, and of
//! each write that was not, what the [`Fate`] says. [`Disk::after`] is for those who choose more
//! closely: the [`Survival`] says it of each change for itself, names included. A copy of a disk
//! ([`Disk::image`]) shares the files' bytes until one of the two changes them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use postres::wal::fs::{Fs, FsFile, Lock, LockError};

mod power;

use power::apply;
pub use power::{Part, Pending, Survival};

/// What is done to a disk, as a fault plan sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Create,
    Write,
    SetLen,
    ZeroRange,
    SyncData,
    Rename,
    Remove,
    SyncDir,
    DropCached,
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
    /// Writes all of it, a bit of the byte in the middle flipped, and says nothing.
    Garble,
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

/// A part of a file that need not stay in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    pub path: PathBuf,
    pub offset: u64,
    pub len: u64,
    /// All files there were when the disk was told so, by name.
    pub files: Vec<PathBuf>,
}

/// A change of a file that is not synced.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Arc<[u8]> },
    SetLen(usize),
}

#[derive(Debug, Clone, Default)]
struct Content {
    now: Arc<Vec<u8>>,
    synced: Arc<Vec<u8>>,
    /// In order, since the last sync.
    unsynced: Vec<Change>,
}

impl Content {
    fn synced(bytes: Vec<u8>) -> Self {
        let now = Arc::new(bytes);
        Self {
            synced: Arc::clone(&now),
            now,
            unsynced: Vec::new(),
        }
    }

    fn change(&mut self, change: Change) {
        apply(&change, &Part::Kept, Arc::make_mut(&mut self.now));
        self.unsynced.push(change);
    }
}

/// A change of a name that is not synced.
#[derive(Debug, Clone)]
enum NameChange {
    Create {
        path: Arc<Path>,
        id: u64,
    },
    Rename {
        from: Arc<Path>,
        to: Arc<Path>,
        id: u64,
    },
    Remove {
        path: Arc<Path>,
        id: u64,
    },
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        let mut vanish = |path: &Arc<Path>, id| {
            if names.get(path) == Some(id) {
                names.remove(path);
            }
        };
        match self {
            Self::Create { path, id } => {
                names.insert(Arc::clone(path), *id);
            }
            Self::Rename { from, to, id } => {
                vanish(from, id);
                names.insert(Arc::clone(to), *id);
            }
            Self::Remove { path, id } => vanish(path, id),
        }
    }
}

type Names = BTreeMap<Arc<Path>, u64>;
type Plan = Box<dyn FnMut(Call, &Path) -> Option<Fault> + Send>;
type Watch = Box<dyn FnMut(Call, &Path, Disk) + Send>;

#[derive(Default)]
struct State {
    files: BTreeMap<u64, Content>,
    names: Names,
    synced_names: Names,
    /// In order, since the folder's last sync.
    unsynced_names: Vec<NameChange>,
    next_file: u64,
    plan: Option<Plan>,
    watch: Option<Watch>,
    calls: Vec<Call>,
    dropped: Vec<Dropped>,
    locked: BTreeSet<PathBuf>,
    sync_time: Duration,
}

impl State {
    fn image(&self) -> Self {
        Self {
            files: self.files.clone(),
            names: self.names.clone(),
            synced_names: self.synced_names.clone(),
            unsynced_names: self.unsynced_names.clone(),
            next_file: self.next_file,
            ..Self::default()
        }
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn put(&mut self, path: Arc<Path>, content: Content) {
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, content);
        self.names.insert(Arc::clone(&path), id);
        self.synced_names.insert(path, id);
    }
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

    fn of(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// From now on every call is first shown to `plan`.
    pub fn plan(&self, plan: impl FnMut(Call, &Path) -> Option<Fault> + Send + 'static) {
        self.state().plan = Some(Box::new(plan));
    }

    /// From now on `watch` gets to see the disk as it is right before each call. It may use the
    /// disk: its own calls are not shown to it.
    pub fn watch(&self, watch: impl FnMut(Call, &Path, Self) + Send + 'static) {
        self.state().watch = Some(Box::new(watch));
    }

    /// From now on nothing is watched.
    pub fn unwatch(&self) {
        self.state().watch = None;
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

    /// All calls there have been, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// What need not stay in memory, as the disk was told so far.
    pub fn dropped(&self) -> Vec<Dropped> {
        self.state().dropped.clone()
    }

    /// The disk as it is, with all that is synced and all that is not: what the process that is
    /// started after this one was killed finds.
    pub fn image(&self) -> Self {
        Self::of(self.state().image())
    }

    /// The disk as a power cut would leave it now.
    pub fn crash(&self, fate: Fate) -> Self {
        let state = self.state();
        let mut after = State::default();
        for (path, id) in &state.synced_names {
            let content = &state.files[id];
            let mut bytes = content.synced.to_vec();
            let last = content.unsynced.len().saturating_sub(1);
            for (n, change) in content.unsynced.iter().enumerate() {
                let part = match fate {
                    Fate::Kept => Part::Kept,
                    Fate::Lost => Part::Lost,
                    Fate::Torn(len) if n == last => Part::First(len),
                    Fate::Torn(_) => Part::Kept,
                    Fate::OnlyLast if n == last => Part::Kept,
                    Fate::OnlyFirst if n == 0 => Part::Kept,
                    Fate::OnlyLast | Fate::OnlyFirst => Part::Lost,
                };
                apply(change, &part, &mut bytes);
            }
            after.put(Arc::clone(path), Content::synced(bytes));
        }
        Self::of(after)
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
            .map(|(path, id)| (path.to_path_buf(), state.files[id].now.to_vec()))
            .collect()
    }

    /// Puts a file there, synced.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.state().put(path.into(), Content::synced(bytes));
    }

    /// Takes a file away.
    pub fn take(&self, path: &Path) -> Vec<u8> {
        let mut state = self.state();
        state.synced_names.remove(path);
        let id = state.names.remove(path).expect("the file is there");
        state.files[&id].now.to_vec()
    }

    fn call(&self, call: Call, path: &Path) -> io::Result<Option<Fault>> {
        let watch = self.state().watch.take();
        if let Some(mut watch) = watch {
            watch(call, path, self.image());
            self.state().watch.get_or_insert(watch);
        }
        let mut state = self.state();
        state.calls.push(call);
        let fault = state.plan.as_mut().and_then(|plan| plan(call, path));
        match fault {
            Some(Fault::Fail(code)) => Err(io::Error::from_raw_os_error(code)),
            fault => Ok(fault),
        }
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
        let there = state.names.get(path).copied();
        let id = there.unwrap_or(state.next_file);
        match state.files.get_mut(&id).filter(|_| there.is_some()) {
            Some(content) => content.change(Change::SetLen(0)),
            None => {
                state.next_file += 1;
                state.files.insert(id, Content::default());
                let path = path.into();
                state.change_names(NameChange::Create { path, id });
            }
        }
        Ok(Box::new(DiskFile {
            disk: self.clone(),
            id,
            path: path.to_path_buf(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Rename, to)?;
        let mut state = self.state();
        let id = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        let (from, to) = (from.into(), to.into());
        state.change_names(NameChange::Rename { from, to, id });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Remove, path)?;
        let mut state = self.state();
        let id = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let path = path.into();
        state.change_names(NameChange::Remove { path, id });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(Call::SyncDir, dir)?;
        let mut state = self.state();
        state.synced_names = state.names.clone();
        state.unsynced_names.clear();
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
        let mut written = bytes[..len].to_vec();
        if fault == Some(Fault::Garble) {
            written[len / 2] ^= 1;
        }
        let mut state = self.disk.state();
        let content = state.files.get_mut(&self.id).unwrap();
        content.change(Change::Write {
            offset: offset as usize,
            bytes: written.into(),
        });
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
        content.change(Change::SetLen(len as usize));
        Ok(())
    }

    fn zero_range(&self, len: u64) -> io::Result<()> {
        self.disk.call(Call::ZeroRange, &self.path)?;
        let mut state = self.disk.state();
        let content = state.files.get_mut(&self.id).unwrap();
        content.change(Change::Write {
            offset: 0,
            bytes: vec![0; len as usize].into(),
        });
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[&self.id].now.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let time = self.disk.state().sync_time;
        if !time.is_zero() {
            std::thread::sleep(time);
        }
        self.disk.call(Call::SyncData, &self.path)?;
        let mut state = self.disk.state();
        let content = state.files.get_mut(&self.id).unwrap();
        content.synced = Arc::clone(&content.now);
        content.unsynced.clear();
        Ok(())
    }

    fn drop_cached(&self, offset: u64, len: u64) {
        let _ = self.disk.call(Call::DropCached, &self.path);
        let mut state = self.disk.state();
        assert!(state.files[&self.id].unsynced.is_empty());
        let files = state.names.keys().map(|path| path.to_path_buf()).collect();
        state.dropped.push(Dropped {
            path: self.path.clone(),
            offset,
            len,
            files,
        });
    }
}
