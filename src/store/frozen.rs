//! What a table held at one moment, kept while it goes on changing.
//!
//! A snapshot needs every table as it was when the snapshot began. Nothing is copied for that: a
//! frozen table notes, at the first change of a key, what was there before. So what a snapshot
//! costs in memory is what is changed while it is written, and a change costs one note.

use super::buckets::Buckets;
use super::entry::{Entry, Held};

/// The keys of one table that were changed since it was frozen, and what they were before. A key is
/// in one of the two at most.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Entries that the table held.
    there: Buckets,
    /// Entries whose keys it did not hold: the first that each got. They share what the table holds
    /// by now, so that a new key takes no more than a pointer here.
    absent: Buckets,
}

impl Changes {
    /// A key, whose hash is `hash`, is about to be changed, or was just now: `before` is the
    /// entry it had. If it had none, `now` is the one that it gets. Only the first note of a key counts.
    pub(super) fn note(&mut self, hash: u64, before: Option<&Entry>, now: Option<&Entry>) {
        let Some(entry) = before.or(now) else {
            return;
        };
        if self.has(hash, entry.key()) {
            return;
        }
        let list = match before {
            Some(_) => &mut self.there,
            None => &mut self.absent,
        };
        list.insert_new(hash, entry.clone());
    }

    /// Whether it is noted what this key was.
    pub(super) fn has(&self, hash: u64, key: &[u8]) -> bool {
        let lists = [&self.there, &self.absent];
        let noted = |list: &Buckets| list.find(hash, |other| other.key() == key).is_some();
        lists.into_iter().any(noted)
    }

    /// What the table held that holds `now` by now.
    pub(super) fn undo(&self, now: &Buckets, hasher: impl Fn(&[u8]) -> u64) -> Vec<Entry> {
        warm_all(now);
        let mut then = Vec::with_capacity(now.len() + self.there.len());
        // Where in the table the successors lie. They are few, so it is they that are looked for.
        let changed = self.there.iter().chain(self.absent.iter()).map(Held::key);
        let successors =
            changed.filter_map(|key| now.find(hasher(key), |entry| entry.key() == key));
        let mut successors: Vec<_> = successors.map(Held::place).collect();
        if successors.is_empty() {
            then.extend(now.iter().filter_map(Held::share));
        } else {
            successors.sort_unstable();
            let unchanged = now
                .iter()
                .filter(|held| successors.binary_search(&held.place()).is_err());
            then.extend(unchanged.filter_map(Held::share));
        }
        then.extend(self.there.iter().filter_map(Held::share));
        then
    }
}

/// To clone an entry is to look at it wherever it lies in memory, and the count that a clone adds to
/// lets the processor look at one at a time. Here nothing keeps it from fetching many at once.
fn warm_all(entries: &Buckets) {
    entries.iter().for_each(Held::prefetch);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash that spreads.
    fn hash(key: &[u8]) -> u64 {
        let number = key.iter().fold(1, |hash: u64, &byte| {
            hash.wrapping_mul(257).wrapping_add(byte.into())
        });
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn entry(key: u32, value: &[u8]) -> Entry {
        Entry::new(&key.to_le_bytes(), value, None)
    }

    fn put(table: &mut Buckets, entry: Entry) {
        table.insert_new(hash(entry.key()), entry);
    }

    fn take(table: &mut Buckets, key: u32) -> Entry {
        let key = key.to_le_bytes();
        table
            .remove(hash(&key), |entry| entry.key() == key)
            .unwrap()
    }

    fn sorted(entries: impl IntoIterator<Item = Entry>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let pair = |entry: Entry| (entry.key().to_vec(), entry.value().to_vec());
        let mut pairs: Vec<_> = entries.into_iter().map(pair).collect();
        pairs.sort();
        pairs
    }

    #[test]
    fn many_changes_of_one_table_are_undone() {
        let mut table = Buckets::default();
        (0..300).for_each(|key| put(&mut table, entry(key, b"old")));
        let before = sorted(table.iter().filter_map(Held::share));
        let mut changes = Changes::default();
        for key in (0..300).filter(|key| key % 3 != 0) {
            let old = take(&mut table, key);
            changes.note(hash(old.key()), Some(&old), None);
            if key % 3 == 1 {
                put(&mut table, entry(key, b"new"));
            }
        }
        for new in (300..400).map(|key| entry(key, b"new")) {
            changes.note(hash(new.key()), None, Some(&new));
            put(&mut table, new);
        }
        assert_eq!(sorted(changes.undo(&table, hash)), before);
    }
}
