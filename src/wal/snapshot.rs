//! Snapshots: the state as of one position of the log, in a file of its own.
//!
//! To the log a snapshot is a sequence of records, which are bytes. Its layout is specified in
//! [the module's doc](super). It gets its name only once every byte of it was synced, read back and
//! found good; so a damaged file of that name is never the trace of a crash.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Lsn;
use super::frame::{self, FrameCodec, FrameError, FrameHeader, FrameKind, Operations};
use super::fs::{Fs, FsFile, read_full_at, write_all_at};
use super::header::{self, HEADER_LEN, HeaderError};
use super::name::LogName;
use super::sabotage;
use crate::time::Timestamp;

const MAGIC: [u8; 8] = *b"postsnap";

/// A block is written once its records take this many bytes. One record may be larger.
const BLOCK_BYTES: usize = 256 << 10;

/// A sync each time this much was written: the log's own syncs, on the same disk, then wait behind
/// little of it.
const SYNC_EVERY: u64 = 512 << 10;

/// What a snapshot's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The log it belongs to.
    pub log_id: u64,
    /// Where the log goes on: the snapshot holds what all operations before this one left.
    pub next: Lsn,
    /// Enters every checksum of its blocks.
    pub salt: u64,
    /// The time of the last frame that it holds anything of.
    pub time: Timestamp,
    /// How many keys it holds, so that room can be made for them.
    pub keys: u64,
}

impl SnapshotHeader {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let numbers = [self.log_id, self.next.0, self.salt, self.time.0, self.keys];
        header::encode(MAGIC, &numbers)
    }

    /// Reads a header from the start of a snapshot.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let [log_id, next, salt, time, keys] = header::decode(MAGIC, bytes)?;
        Ok(Self {
            log_id,
            next: Lsn(next),
            salt,
            time: Timestamp(time),
            keys,
        })
    }

    /// Whether it holds as many keys as this says; an error is in words.
    pub fn check_keys(&self, found: u64) -> Result<(), String> {
        if found == self.keys {
            return Ok(());
        }
        Err(format!(
            "its header promises {} keys, and it holds {found}",
            self.keys
        ))
    }
}

/// Why a snapshot was not written, or not read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system failed.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The header is no good.
    #[error("{}: {cause}", path.display())]
    Header {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong.
        cause: HeaderError,
    },
    /// A block is no good.
    #[error("{} is damaged at offset {offset}: {reason}", path.display())]
    Damaged {
        /// The snapshot.
        path: PathBuf,
        /// Where the block begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// What was written, or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Records in all blocks.
    pub records: u64,
    /// Length of the file.
    pub bytes: u64,
}

/// Writes a snapshot under a name that recovery takes for nothing, until it is finished.
#[derive(Debug)]
pub struct SnapshotWriter {
    fs: Arc<dyn Fs>,
    name: LogName,
    header: SnapshotHeader,
    /// `None` once it has its final name, or was removed.
    file: Option<Box<dyn FsFile>>,
    buffer: Vec<u8>,
    in_buffer: u32,
    /// The most bytes of records in a block.
    max_body: usize,
    written: Totals,
    synced: u64,
}

impl SnapshotWriter {
    /// Begins a snapshot of the log `name`.
    pub fn create(
        fs: Arc<dyn Fs>,
        name: LogName,
        header: SnapshotHeader,
    ) -> Result<Self, SnapshotError> {
        let path = name.new_snapshot(header.next);
        let file = fs
            .create(&path)
            .map_err(|source| io_error("creating", &path, source))?;
        let writer = Self {
            fs,
            name,
            header,
            file: Some(file),
            buffer: vec![0; frame::HEADER_LEN],
            in_buffer: 0,
            max_body: frame::MAX_BODY_LEN,
            written: Totals {
                records: 0,
                bytes: HEADER_LEN,
            },
            synced: 0,
        };
        let file = writer.file()?;
        write_all_at(file, &header.encode(), 0)
            .map_err(|source| io_error("writing", &path, source))?;
        Ok(writer)
    }

    /// Adds a record, whose bytes `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), SnapshotError> {
        let before = self.buffer.len();
        frame::push_operation(&mut self.buffer, write);
        if self.in_buffer > 0 && self.buffer.len() - frame::HEADER_LEN > self.max_body {
            // The largest record fills a block by itself.
            let record = self.buffer.split_off(before);
            self.write_block(FrameKind::Operations)?;
            self.buffer.extend_from_slice(&record);
        }
        self.in_buffer += 1;
        if self.buffer.len() >= BLOCK_BYTES {
            self.write_block(FrameKind::Operations)?;
        }
        Ok(())
    }

    /// What was written so far.
    pub fn written(&self) -> Totals {
        self.written
    }

    /// Writes what is left, syncs the file, reads all of it back, and gives it its name.
    pub fn finish(self) -> Result<Totals, SnapshotError> {
        self.finish_with(|_| Ok(()))
    }

    /// The same; `pause` is called after each block that was read, and before the file gets its name, with how
    /// many bytes were read so far. With its error this ends: then there is no snapshot.
    pub fn finish_with<E: From<SnapshotError>>(
        mut self,
        mut pause: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<Totals, E> {
        if self.in_buffer > 0 {
            self.write_block(FrameKind::Operations)?;
        }
        self.write_block(FrameKind::Close)?;
        self.sync()?;
        let temporary = self.path();
        let unverified = sabotage::is("snapshot-unverified");
        let read_back = if unverified {
            self.written
        } else {
            SnapshotReader::open(&*self.fs, &temporary)?.verify_with(&mut pause)?
        };
        if read_back != self.written {
            let damaged = SnapshotError::Damaged {
                path: temporary,
                offset: read_back.bytes,
                reason: format!("{read_back:?} where {:?} was written", self.written),
            };
            return Err(damaged.into());
        }
        // The last time that it can be given up.
        pause(self.written.bytes)?;
        let path = self.name.snapshot(self.header.next);
        self.fs
            .rename(&temporary, &path)
            .map_err(|source| io_error("naming", &path, source))?;
        self.file = None;
        if sabotage::is("snapshot-name-unsynced") {
            return Ok(self.written);
        }
        let dir = self.name.dir();
        self.fs
            .sync_dir(dir)
            .map_err(|source| io_error("syncing", dir, source))?;
        Ok(self.written)
    }

    fn path(&self) -> PathBuf {
        self.name.new_snapshot(self.header.next)
    }

    fn file(&self) -> Result<&dyn FsFile, SnapshotError> {
        let gone = || io_error("writing", &self.path(), io::ErrorKind::NotFound.into());
        self.file.as_deref().ok_or_else(gone)
    }

    fn write_block(&mut self, kind: FrameKind) -> Result<(), SnapshotError> {
        if self.buffer.len() - frame::HEADER_LEN > self.max_body {
            let why = "a record is larger than a block can be";
            let source = io::Error::new(io::ErrorKind::InvalidInput, why);
            return Err(io_error("writing", &self.path(), source));
        }
        let block = FrameHeader {
            kind,
            lsn: Lsn(self.written.records + 1),
            time: self.header.time,
            synced: 0,
            count: self.in_buffer,
            body_len: 0,
        };
        FrameCodec::new(self.header.salt).seal(&mut self.buffer, block);
        write_all_at(self.file()?, &self.buffer, self.written.bytes)
            .map_err(|source| io_error("writing", &self.path(), source))?;
        self.written.bytes += self.buffer.len() as u64;
        self.written.records += u64::from(self.in_buffer);
        self.in_buffer = 0;
        self.buffer.truncate(frame::HEADER_LEN);
        if self.buffer.capacity() > 8 * BLOCK_BYTES {
            self.buffer.shrink_to(BLOCK_BYTES);
        }
        if self.written.bytes - self.synced >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SnapshotError> {
        if sabotage::is("snapshot-unsynced") {
            return Ok(());
        }
        self.file()?
            .sync_data()
            .map_err(|source| io_error("syncing", &self.path(), source))?;
        self.synced = self.written.bytes;
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    /// One that was not finished gives back its room. Best effort: the next start would remove it.
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = self.fs.remove(&self.path());
        }
    }
}

/// Reads a snapshot block by block, checking everything.
#[derive(Debug)]
pub struct SnapshotReader {
    path: PathBuf,
    file: Box<dyn FsFile>,
    header: SnapshotHeader,
    at: u64,
    len: u64,
    records: u64,
    ended: bool,
}

/// A block whose checksums are good.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    body_len: usize,
}

impl Block {
    /// Its length, its header included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.body_len == 0
    }

    /// Its records, in order.
    pub fn records(&self) -> Operations<'_> {
        let body = self.bytes.get(frame::HEADER_LEN..).unwrap_or_default();
        Operations::new(body.get(..self.body_len).unwrap_or(body))
    }
}

impl SnapshotReader {
    /// Opens the snapshot at `path`, and reads its header.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<Self, SnapshotError> {
        let read = || {
            let file = fs.open(path)?;
            let len = file.len()?;
            let mut bytes = vec![0; HEADER_LEN as usize];
            let read = read_full_at(&*file, &mut bytes, 0)?;
            bytes.truncate(read);
            Ok((file, len, bytes))
        };
        let (file, len, bytes) = read().map_err(|source| io_error("reading", path, source))?;
        let header = SnapshotHeader::decode(&bytes).map_err(|cause| SnapshotError::Header {
            path: path.to_path_buf(),
            cause,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            header,
            at: HEADER_LEN,
            len,
            records: 0,
            ended: false,
        })
    }

    /// What the header says.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// How many bytes were read, of how many.
    pub fn progress(&self) -> (u64, u64) {
        (self.at, self.len)
    }

    /// The next block; `None` behind the last, once it is sure that nothing is missing.
    pub fn next_block(&mut self) -> Result<Option<Block>, SnapshotError> {
        if self.ended {
            return Ok(None);
        }
        let mut bytes = vec![0; frame::HEADER_LEN];
        self.read(&mut bytes, self.at)?;
        let codec = FrameCodec::new(self.header.salt);
        let (header, _) = codec.open_header(&bytes).map_err(|e| self.damaged(&e))?;
        let end = self.at + header.frame_len() as u64;
        if end > self.len {
            return Err(self.damaged(&FrameError::ShortBody));
        }
        bytes.resize(header.frame_len(), 0);
        let (_, body) = bytes.split_at_mut(frame::HEADER_LEN);
        self.read(body, self.at + frame::HEADER_LEN as u64)?;
        codec.open(&bytes).map_err(|error| self.damaged(&error))?;
        if header.lsn.0 != self.records + 1 || header.time != self.header.time {
            let record = header.lsn;
            return Err(self.damaged(&format!(
                "record {record} where {} should be",
                self.records + 1
            )));
        }
        match header.kind {
            FrameKind::Operations => {}
            FrameKind::Close if end == self.len => {
                self.ended = true;
                self.at = end;
                return Ok(None);
            }
            FrameKind::Close => return Err(self.damaged(&"something follows the last block")),
            FrameKind::Seal => return Err(self.damaged(&"a block of no kind that snapshots have")),
        }
        self.at = end;
        self.records += u64::from(header.count);
        Ok(Some(Block {
            bytes,
            body_len: header.body_len as usize,
        }))
    }

    /// Reads and checks the rest of it.
    pub fn verify(self) -> Result<Totals, SnapshotError> {
        self.verify_with(&mut |_| Ok(()))
    }

    /// The same; `pause` is called behind each block, with its end, and with its error this ends.
    fn verify_with<E: From<SnapshotError>>(
        mut self,
        pause: &mut impl FnMut(u64) -> Result<(), E>,
    ) -> Result<Totals, E> {
        while self.next_block()?.is_some() {
            pause(self.at)?;
        }
        Ok(Totals {
            records: self.records,
            bytes: self.len,
        })
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> Result<(), SnapshotError> {
        let read = read_full_at(&*self.file, buffer, at)
            .map_err(|source| io_error("reading", &self.path, source))?;
        if read < buffer.len() {
            return Err(self.damaged(&"the file ends before its last block"));
        }
        Ok(())
    }

    fn damaged(&self, reason: &dyn std::fmt::Display) -> SnapshotError {
        SnapshotError::Damaged {
            path: self.path.clone(),
            offset: self.at,
            reason: reason.to_string(),
        }
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> SnapshotError {
    SnapshotError::Io {
        doing,
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::fs::StdFs;

    const HEADER: SnapshotHeader = SnapshotHeader {
        log_id: 1,
        next: Lsn(7),
        salt: 2,
        time: Timestamp(3),
        keys: 0,
    };

    #[test]
    fn a_record_that_no_longer_fits_into_a_block_goes_into_the_next() {
        const MAX: usize = 1000;
        let dir = tempfile::tempdir().unwrap();
        let (fs, name) = (
            Arc::new(StdFs),
            LogName::new(&dir.path().join("log")).unwrap(),
        );
        let begin = || {
            let mut writer = SnapshotWriter::create(fs.clone(), name.clone(), HEADER).unwrap();
            writer.max_body = MAX;
            writer
        };
        let largest = MAX - frame::OPERATION_PREFIX_LEN;
        let lens = [10, largest, 10, largest - 1, largest, 1, 1];
        let mut writer = begin();
        for (byte, len) in lens.into_iter().enumerate() {
            let record = vec![byte as u8; len];
            writer.push(|out| out.extend_from_slice(&record)).unwrap();
        }
        let mut ends = Vec::new();
        let pause = |at| {
            ends.push(at);
            Ok::<_, SnapshotError>(())
        };
        let totals = writer.finish_with(pause).unwrap();
        // Behind each block of the many, and then once more.
        assert!(ends.len() > 1 && ends.is_sorted() && ends.last() == Some(&totals.bytes));
        let mut reader = SnapshotReader::open(&*fs, &name.snapshot(Lsn(7))).unwrap();
        let mut found = Vec::new();
        while let Some(block) = reader.next_block().unwrap() {
            assert!(block.len() <= frame::HEADER_LEN + MAX + frame::ALIGNMENT);
            found.extend(block.records().map(|record| (record[0], record.len())));
        }
        let pushed = lens.into_iter().enumerate();
        let pushed: Vec<_> = pushed.map(|(byte, len)| (byte as u8, len)).collect();
        assert_eq!(found, pushed);

        let mut writer = begin();
        writer
            .push(|out| out.resize(out.len() + largest + 1, 0))
            .unwrap();
        let refused = writer.finish().unwrap_err().to_string();
        assert!(refused.contains("larger than a block can be"), "{refused}");
    }

    #[test]
    fn one_that_is_given_up_while_it_is_read_back_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let name = LogName::new(&dir.path().join("log")).unwrap();
        let mut writer = SnapshotWriter::create(Arc::new(StdFs), name, HEADER).unwrap();
        writer.push(|out| out.push(b'x')).unwrap();
        let given_up = || io_error("reading", dir.path(), io::ErrorKind::Interrupted.into());
        let outcome = writer.finish_with(|_| Err(given_up()));
        assert_eq!(outcome.unwrap_err().to_string(), given_up().to_string());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
