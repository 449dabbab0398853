//! What a log should hold: a state that is folded from operations, and put into snapshots and read
//! from them, so that one operation too many, too few or twice makes another state.

use std::collections::BTreeMap;

use postres::time::Timestamp;
use postres::wal::Lsn;
use postres::wal::recovery::{Progress, Replay};
use postres::wal::snapshot::{Block, SnapshotHeader};

/// Marks a snapshot's first record.
const SUMMARY: u8 = 0xff;

/// A key, the number of the operation that set it last, and how long its value is.
const FIXED: usize = 9;

/// All operations, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// How many they are.
    pub count: u64,
    /// Of all of them, in order.
    digest: u64,
    keys: BTreeMap<u8, (u64, usize)>,
}

/// An operation of this number, which no other attempt has, with a value of `len` bytes.
pub fn operation(number: u64, len: usize) -> Vec<u8> {
    entry((number % 7) as u8, number, len)
}

fn entry(key: u8, number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8 | 1; FIXED + len];
    bytes[0] = key;
    bytes[1..FIXED].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Result<(u8, u64, usize), String> {
    let number = bytes.get(1..FIXED).ok_or("too short")?;
    let number = u64::from_le_bytes(number.try_into().unwrap());
    let (key, len) = (bytes[0], bytes.len() - FIXED);
    if entry(key, number, len) == bytes {
        Ok((key, number, len))
    } else {
        Err(format!("{len} bytes that were not written"))
    }
}

impl State {
    pub fn apply(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (key, number, len) = parse(bytes)?;
        self.count += 1;
        self.digest = self.digest.rotate_left(7).wrapping_mul(0x9e37_79b9) ^ number;
        self.keys.insert(key, (number, len));
        Ok(())
    }

    /// The records of a snapshot of it.
    pub fn records(&self) -> Vec<Vec<u8>> {
        let mut summary = vec![SUMMARY];
        summary.extend_from_slice(&self.count.to_le_bytes());
        summary.extend_from_slice(&self.digest.to_le_bytes());
        let keys = self.keys.iter();
        let keys = keys.map(|(key, (number, len))| entry(*key, *number, *len));
        [summary].into_iter().chain(keys).collect()
    }

    pub fn keys(&self) -> u64 {
        self.keys.len() as u64
    }

    fn take_in(&mut self, record: &[u8]) -> Result<(), String> {
        if let (Some(&SUMMARY), Some((counts, []))) =
            (record.first(), record[1..].as_chunks::<8>().into())
        {
            [self.count, self.digest] = [counts[0], counts[1]].map(u64::from_le_bytes);
        } else {
            let (key, number, len) = parse(record)?;
            self.keys.insert(key, (number, len));
        }
        Ok(())
    }
}

/// Takes in what recovery reads.
#[derive(Debug, Default)]
pub struct Reading {
    pub state: State,
    time: Timestamp,
    snapshot: Option<SnapshotHeader>,
    /// Whether a snapshot was found to be damaged, which no crash can bring about.
    pub discarded: bool,
}

impl Replay for Reading {
    fn begin_snapshot(&mut self, header: &SnapshotHeader) {
        self.state = State::default();
        self.snapshot = Some(*header);
        self.time = header.time;
    }

    fn block(&mut self, block: Block) -> Result<(), String> {
        block
            .records()
            .try_for_each(|record| self.state.take_in(record))
    }

    fn end_snapshot(&mut self) -> Result<(), String> {
        let header = self.snapshot.ok_or("a snapshot ends that did not begin")?;
        let right = header.keys == self.state.keys() && header.next == Lsn(self.state.count + 1);
        right
            .then_some(())
            .ok_or_else(|| format!("{header:?} over {:?}", self.state))
    }

    fn discard_snapshot(&mut self) {
        self.discarded = true;
        self.state = State::default();
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn operation(&mut self, lsn: Lsn, time: Timestamp, bytes: &[u8]) -> Result<(), String> {
        if lsn != Lsn(self.state.count + 1) || time < self.time {
            return Err(format!(
                "at {time:?}, behind {} at {:?}",
                self.state.count, self.time
            ));
        }
        self.time = time;
        self.state.apply(bytes)
    }

    fn progress(&mut self, progress: Progress) {
        assert!(progress.done <= progress.total);
    }
}
