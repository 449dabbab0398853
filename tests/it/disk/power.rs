//! What a power cut leaves, chosen for each change that was not synced by itself.

use std::sync::Arc;

use super::{Change, Content, Disk, State};

/// What of one change of a file survives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// Nothing.
    Lost,
    /// All of it.
    Kept,
    /// Its first bytes, this many.
    First(usize),
    /// The length that it gave the file, and zeros where it had none before.
    Hole,
    /// Of the blocks of `size` bytes that it touches those whose bit is set, the first block's
    /// being the lowest. The highest bit stands for all from the 64th on.
    Blocks { size: usize, kept: u64 },
}

/// What a power cut spares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Survival {
    /// Of the changes of names those whose bit is set, the oldest change's being the lowest.
    pub names: u64,
    /// Of each change of a file in turn, file by file. None is said of: lost.
    pub parts: Vec<Part>,
}

/// What is not synced, and so may or may not survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Changes of names: creations, renames and removals.
    pub names: usize,
    /// Where each write begins and its length, file by file; `None` for a change of length.
    pub changes: Vec<Option<(usize, usize)>>,
}

impl Disk {
    /// What a power cut could take back now.
    pub fn pending(&self) -> Pending {
        let state = self.state();
        let changes = state.files.values().flat_map(|content| &content.unsynced);
        Pending {
            names: state.unsynced_names.len(),
            changes: changes
                .map(|change| match change {
                    Change::Write { offset, bytes } => Some((*offset, bytes.len())),
                    Change::SetLen(_) => None,
                })
                .collect(),
        }
    }

    /// The disk as a power cut leaves it that spares this much.
    pub fn after(&self, survival: &Survival) -> Self {
        let state = self.state();
        let mut names = state.synced_names.clone();
        for (n, change) in state.unsynced_names.iter().enumerate() {
            if survival.names >> n.min(63) & 1 == 1 {
                change.apply(&mut names);
            }
        }
        let mut parts = survival.parts.iter();
        let mut after = State {
            next_file: state.next_file,
            ..State::default()
        };
        for (id, content) in &state.files {
            let mut left = Content {
                now: Arc::clone(&content.synced),
                synced: Arc::clone(&content.synced),
                unsynced: Vec::new(),
            };
            for change in &content.unsynced {
                let part = parts.next().unwrap_or(&Part::Lost);
                if *part != Part::Lost {
                    apply(change, part, Arc::make_mut(&mut left.now));
                }
            }
            left.synced = Arc::clone(&left.now);
            if names.values().any(|named| named == id) {
                after.files.insert(*id, left);
            }
        }
        after.synced_names = names.clone();
        after.names = names;
        Self::of(after)
    }
}

/// Makes the part of a change that survives.
pub(super) fn apply(change: &Change, part: &Part, file: &mut Vec<u8>) {
    match (change, part) {
        (_, Part::Lost) => {}
        (Change::SetLen(len), _) => {
            file.truncate(*len);
            lengthen(file, *len);
        }
        (Change::Write { offset, bytes }, part) => match part {
            Part::Lost => {}
            Part::Kept => put(file, *offset, bytes),
            Part::First(len) => put(file, *offset, &bytes[..(*len).min(bytes.len())]),
            Part::Hole => lengthen(file, offset + bytes.len()),
            Part::Blocks { size, kept } => {
                let (mut at, mut nth) = (0, 0);
                while at < bytes.len() {
                    let end = (((offset + at) / size + 1) * size - offset).min(bytes.len());
                    if kept >> nth & 1 == 1 {
                        put(file, offset + at, &bytes[at..end]);
                    }
                    (at, nth) = (end, (nth + 1).min(63));
                }
            }
        },
    }
}

fn put(file: &mut Vec<u8>, offset: usize, written: &[u8]) {
    if !written.is_empty() {
        lengthen(file, offset + written.len());
        file[offset..offset + written.len()].copy_from_slice(written);
    }
}

/// As `resize`, which a debug build does byte by byte.
fn lengthen(file: &mut Vec<u8>, len: usize) {
    if file.len() < len {
        file.extend_from_slice(&vec![0; len - file.len()]);
    }
}
