//! Applying what concerns whole keys.

use super::super::arguments::NO_SUCH_KEY;
use super::super::{Reply, count, error};
use super::Applier;
use crate::store::Entry;

impl Applier {
    pub(super) fn del(&mut self, keys: &[&[u8]]) -> Reply {
        let removed = keys.iter().filter(|key| self.remove(key).is_some()).count();
        Reply::Removed(i64::try_from(removed).unwrap_or(i64::MAX))
    }

    pub(super) fn rename(&mut self, from: &[u8], to: &[u8]) -> Reply {
        let Some(entry) = self.get(from) else {
            return Reply::Error(error(NO_SUCH_KEY));
        };
        self.move_to(&entry, to);
        Reply::Ok
    }

    pub(super) fn rename_nx(&mut self, from: &[u8], to: &[u8]) -> Reply {
        let Some(entry) = self.get(from) else {
            return Reply::Error(error(NO_SUCH_KEY));
        };
        let free = self.get(to).is_none();
        if free {
            self.move_to(&entry, to);
        }
        Reply::Integer(i64::from(free))
    }

    fn move_to(&mut self, entry: &Entry, to: &[u8]) {
        if entry.key() != to {
            self.remove(entry.key());
            self.put(Entry::new(to, entry.value(), entry.expires()));
        }
    }

    pub(super) fn copy(&mut self, from: &[u8], to: &[u8], replace: bool) -> Reply {
        let copied = self.get(from).filter(|_| replace || self.get(to).is_none());
        if let Some(entry) = &copied {
            self.put(Entry::new(to, entry.value(), entry.expires()));
        }
        count(copied.iter().len())
    }

    /// Nothing is noted in `recent`: a watched key that was there is not, or was set again since.
    pub(super) fn flush_all(&mut self) -> Reply {
        let store = &self.store;
        self.watches.touch_all(|key| store.get(key).is_some());
        self.store.clear();
        Reply::Ok
    }
}
