//! Which keys the last operations changed: what an EXEC with WATCH depends on.
//!
//! A transaction is logged with the position `base` up to which none of its watched keys had been
//! changed. Whether one was changed between there and its own place is decided from here, and
//! since this is a fold of the log like the store itself, a replay decides the same.

use std::collections::VecDeque;

use super::super::record::Record;

/// Changes that are remembered. A transaction that stood behind more of them in the queue to the
/// log is not carried out: its client is told to try again.
const REMEMBERED: usize = 1 << 16;

/// The last changes, oldest first.
#[derive(Debug, Default, Clone)]
pub(super) struct Recent {
    /// Positions, and checksums of the keys. Two keys that share one make a transaction fail that
    /// could have been carried out, about once in four billion changes.
    changes: VecDeque<(u64, u32)>,
    /// The position of the last change that is no longer remembered.
    forgotten: u64,
}

impl Recent {
    /// As a snapshot holds it.
    pub(super) fn record(&self) -> Record<'static> {
        Record::RecentChanges {
            forgotten: self.forgotten,
            changes: self.changes.iter().copied().collect(),
        }
    }

    /// From what a snapshot holds.
    pub(super) fn restored(forgotten: u64, changes: Vec<(u64, u32)>) -> Self {
        Self {
            changes: changes.into(),
            forgotten,
        }
    }

    /// Takes over what others remember who were told of changes behind all of these. In the end
    /// the same is remembered as if all of it had been pushed here, in the order of the positions.
    pub(super) fn absorb(&mut self, others: Vec<Self>) {
        let forgotten = others.iter().map(|other| other.forgotten).max();
        let changes = others.into_iter().flat_map(|other| other.changes);
        let mut changes: Vec<_> = changes.collect();
        // Of one operation's changes, which are all in one of them, the order stays.
        changes.sort_by_key(|(position, _)| *position);
        for (position, sum) in changes {
            self.push_sum(position, sum);
        }
        self.forgotten = self.forgotten.max(forgotten.unwrap_or_default());
    }

    pub(super) fn push(&mut self, position: u64, key: &[u8]) {
        self.push_sum(position, crc32c::crc32c(key));
    }

    fn push_sum(&mut self, position: u64, sum: u32) {
        if self.changes.len() >= REMEMBERED
            && let Some((oldest, _)) = self.changes.pop_front()
        {
            self.forgotten = oldest;
        }
        self.changes.push_back((position, sum));
    }

    /// Whether `key` was, or may have been, changed behind `base`.
    pub(super) fn changed_since(&self, base: u64, key: &[u8]) -> bool {
        if self.forgotten > base {
            return true;
        }
        let sum = crc32c::crc32c(key);
        let newest_first = self.changes.iter().rev();
        newest_first
            .take_while(|(position, _)| *position > base)
            .any(|(_, other)| *other == sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_known_behind_what_was_before_it() {
        let mut recent = Recent::default();
        recent.push(5, b"a");
        recent.push(7, b"b");
        assert!(recent.changed_since(4, b"a"));
        assert!(!recent.changed_since(5, b"a"));
        assert!(recent.changed_since(6, b"b"));
        assert!(!recent.changed_since(0, b"c"));
    }

    #[test]
    fn what_several_remember_is_what_one_would() {
        for total in [
            10,
            REMEMBERED - 1,
            REMEMBERED,
            REMEMBERED + 1,
            3 * REMEMBERED,
        ] {
            for share in [1, 2, 3, 1_000_000] {
                let mut serial = Recent::default();
                let mut first = Recent::default();
                let mut others = vec![Recent::default(), Recent::default()];
                for position in 1..=total as u64 {
                    let key = position.to_le_bytes();
                    serial.push(position, &key);
                    match position {
                        ..5 => first.push(position, &key),
                        _ => others[usize::from(position % share == 0)].push(position, &key),
                    }
                }
                first.absorb(others);
                assert_eq!(first.forgotten, serial.forgotten, "{total}, {share}");
                assert!(first.changes == serial.changes, "{total}, {share}");
            }
        }
    }

    #[test]
    fn what_is_forgotten_counts_as_changed() {
        let mut recent = Recent::default();
        for position in 1..=REMEMBERED as u64 + 10 {
            recent.push(position, b"a");
        }
        assert!(recent.changed_since(9, b"other"));
        assert!(!recent.changed_since(10, b"other"));
        assert_eq!(recent.changes.len(), REMEMBERED);
    }
}
