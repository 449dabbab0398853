//! Files in memory, under the log's file trait. Nothing fails.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use postres::wal::fs::{Fs, FsFile, Lock, LockError};

type Bytes = Arc<Mutex<Vec<u8>>>;

/// The files. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<PathBuf, Bytes>>>);

impl Memory {
    /// Puts a file there.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.files()
            .insert(path.to_path_buf(), Arc::new(Mutex::new(bytes)));
    }

    /// Takes a file away that is there.
    pub fn take(&self, path: &Path) -> Vec<u8> {
        let file = self.files().remove(path).expect("the file is there");
        std::mem::take(&mut *lock(&file))
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Bytes>> {
        self.0.lock().expect("nobody panicked")
    }
}

fn lock(bytes: &Bytes) -> MutexGuard<'_, Vec<u8>> {
    bytes.lock().expect("nobody panicked")
}

impl Fs for Memory {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
        let files = self.files();
        let names = files.keys().filter_map(|path| path.file_name());
        Ok(names.map(OsString::from).collect())
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        Ok(self.files().get(path).map(|file| lock(file).len() as u64))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = self.files().get(path).cloned();
        Ok(Box::new(File(file.ok_or(io::ErrorKind::NotFound)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.put(path, Vec::new());
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.files().remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.files().insert(to.to_path_buf(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.files().remove(path);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn lock(&self, _: &Path) -> Result<Box<dyn Lock>, LockError> {
        Ok(Box::new(Unlocked))
    }
}

#[derive(Debug)]
struct Unlocked;

impl Lock for Unlocked {}

#[derive(Debug)]
struct File(Bytes);

impl FsFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = lock(&self.0);
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let len = buffer.len().min(rest.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut file, from) = (lock(&self.0), offset as usize);
        let len = file.len().max(from + bytes.len());
        file.resize(len, 0);
        file[from..from + bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.0).resize(len as usize, 0);
        Ok(())
    }

    fn zero_range(&self, len: u64) -> io::Result<()> {
        let mut bytes = lock(&self.0);
        let end = bytes.len().max(len as usize);
        bytes.resize(end, 0);
        bytes[..len as usize].fill(0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
