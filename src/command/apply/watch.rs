//! WATCH: who is to be told when a key changes.
//!
//! This only saves the log from transactions that are lost already, and it keeps `base` young (see
//! [`super::recent`]). It is not part of what is folded from the log, and nothing that is applied
//! depends on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// The keys that someone watches.
#[derive(Debug, Default)]
pub struct Watches {
    /// How many there are, so that a change costs nothing where there are none.
    count: AtomicUsize,
    keys: Mutex<BTreeMap<Box<[u8]>, Watching>>,
    /// The position up to which everything was applied.
    applied: AtomicU64,
}

/// The flags of those who watch a key.
type Watching = Vec<Arc<AtomicBool>>;

/// What one client watches. Dropping it ends that.
#[derive(Debug)]
pub struct Watch {
    watches: Arc<Watches>,
    changed: Arc<AtomicBool>,
    keys: Vec<(Box<[u8]>, bool)>,
}

impl Watches {
    /// The position up to which everything was applied.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// All keys, of all clients.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn publish(&self, position: u64) {
        self.applied.store(position, Ordering::Release);
    }

    pub(super) fn touch(&self, key: &[u8]) {
        if self.count.load(Ordering::SeqCst) > 0
            && let Some(watching) = self.keys.lock().get(key)
        {
            mark(watching);
        }
    }

    /// Marks every watched key for which `is_changed` says so.
    pub(super) fn touch_all(&self, is_changed: impl Fn(&[u8]) -> bool) {
        for (key, watching) in self.keys.lock().iter() {
            if is_changed(key) {
                mark(watching);
            }
        }
    }
}

fn mark(watching: &[Arc<AtomicBool>]) {
    for changed in watching {
        changed.store(true, Ordering::Relaxed);
    }
}

impl Watch {
    /// Watches nothing yet.
    pub fn new(watches: Arc<Watches>) -> Self {
        Self {
            watches,
            changed: Arc::default(),
            keys: Vec::new(),
        }
    }

    /// Watches `key` as well. `is_there` is asked once it is watched, so that no change is missed.
    pub fn add(&mut self, key: &[u8], is_there: impl FnOnce(&[u8]) -> bool) {
        if self.keys.iter().any(|(watched, _)| **watched == *key) {
            return;
        }
        self.watches.count.fetch_add(1, Ordering::SeqCst);
        let mut keys = self.watches.keys.lock();
        keys.entry(key.into())
            .or_default()
            .push(Arc::clone(&self.changed));
        drop(keys);
        self.keys.push((key.into(), is_there(key)));
    }

    /// Whether a watched key is known to have been changed.
    pub fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// A position up to which no watched key was changed, unless one was.
    pub fn unchanged_until(&self) -> Option<u64> {
        // In this order: a change at or before this position was marked before it was published.
        let applied = self.watches.applied();
        (!self.is_changed()).then_some(applied)
    }

    /// The keys, and whether each was there when it began to be watched.
    pub fn keys(&self) -> impl Iterator<Item = (&[u8], bool)> {
        self.keys
            .iter()
            .map(|(key, was_there)| (&**key, *was_there))
    }

    /// How many keys are watched.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is watched.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut keys = self.watches.keys.lock();
        for (key, _) in &self.keys {
            if let Some(watching) = keys.get_mut(key) {
                watching.retain(|other| !Arc::ptr_eq(other, &self.changed));
                if watching.is_empty() {
                    keys.remove(key);
                }
            }
        }
        drop(keys);
        self.watches
            .count
            .fetch_sub(self.keys.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_of_a_watched_key_is_told() {
        let watches = Arc::new(Watches::default());
        let mut watch = Watch::new(Arc::clone(&watches));
        watch.add(b"a", |_| true);
        watch.add(b"a", |_| false);
        watches.touch(b"b");
        watches.publish(3);
        assert_eq!(watch.unchanged_until(), Some(3));
        watches.touch(b"a");
        assert_eq!(watch.unchanged_until(), None);
        assert_eq!(watch.keys().collect::<Vec<_>>(), [(&b"a"[..], true)]);
    }

    #[test]
    fn what_nobody_watches_any_more_is_forgotten() {
        let watches = Arc::new(Watches::default());
        let mut one = Watch::new(Arc::clone(&watches));
        let mut two = Watch::new(Arc::clone(&watches));
        one.add(b"a", |_| true);
        two.add(b"a", |_| true);
        two.add(b"b", |_| true);
        drop(two);
        watches.touch(b"a");
        assert!(one.is_changed());
        drop(one);
        assert!(watches.is_empty() && watches.keys.lock().is_empty());
    }
}
