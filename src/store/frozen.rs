//! What a table held at one moment, kept while it goes on changing.
//!
//! A snapshot needs every table as it was when the snapshot began. Nothing is copied for that: a
//! frozen table notes, at the first change of a key, what was there before. So what a snapshot
//! costs in memory is what is changed while it is written, and a change costs one note.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use super::entry::Entry;

/// The keys of one table that were changed since it was frozen, and what they were before.
#[derive(Debug, Default)]
pub(super) struct Changes {
    before: HashTable<Before>,
}

#[derive(Debug)]
enum Before {
    There(Entry),
    /// The key was absent; the entry is only its bearer.
    Absent(Entry),
}

impl Before {
    fn key(&self) -> &[u8] {
        match self {
            Self::There(entry) | Self::Absent(entry) => entry.key(),
        }
    }
}

impl Changes {
    /// The key, whose hash is `hash`, is about to be changed, or was just now: `before` is the
    /// entry it had. Only the first note of a key counts.
    pub(super) fn note(
        &mut self,
        hash: u64,
        key: &[u8],
        before: Option<&Entry>,
        hasher: impl Fn(&[u8]) -> u64,
    ) {
        let slot = self.before.entry(
            hash,
            |other| other.key() == key,
            |other| hasher(other.key()),
        );
        if let Slot::Vacant(slot) = slot {
            slot.insert(match before {
                Some(entry) => Before::There(entry.clone()),
                None => Before::Absent(Entry::new(key, b"", None)),
            });
        }
    }

    /// Whether it is noted what this key was.
    pub(super) fn has(&self, hash: u64, key: &[u8]) -> bool {
        let noted = self.before.find(hash, |other| other.key() == key);
        noted.is_some()
    }

    /// What the table held that holds `now` by now.
    pub(super) fn undo<'a>(
        &self,
        now: impl ExactSizeIterator<Item = &'a Entry>,
        hasher: impl Fn(&[u8]) -> u64,
    ) -> Vec<Entry> {
        let mut then = Vec::with_capacity(now.len() + self.before.len());
        if self.before.is_empty() {
            then.extend(now.cloned());
            return then;
        }
        then.extend(
            now.filter(|entry| !self.has(hasher(entry.key()), entry.key()))
                .cloned(),
        );
        then.extend(self.before.iter().filter_map(|before| match before {
            Before::There(entry) => Some(entry.clone()),
            Before::Absent(_) => None,
        }));
        then
    }
}
