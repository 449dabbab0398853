//! The store as a command that reads sees it: without what has expired.

use std::cell::Cell;
use std::{fmt, ptr};

use super::Sequence;
use crate::store::{Entry, InMemStore};
use crate::time::{SharedClock, Timestamp};

/// The store at a moment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    store: &'a dyn InMemStore,
    moment: Moment<'a>,
    looked_up: Option<&'a LookedUp<'a>>,
}

/// What was found of one key, for a view whose first look at that key is answered by it.
pub struct LookedUp<'a> {
    key: &'a [u8],
    entry: Cell<Option<Entry>>,
    unused: Cell<bool>,
    enough: Cell<bool>,
}

impl<'a> LookedUp<'a> {
    /// That this is the entry of `key`, if it has one. Others that are equal to it are looked up.
    pub fn new(key: &'a [u8], entry: Option<Entry>) -> Self {
        Self {
            key,
            entry: Cell::new(entry),
            unused: Cell::new(true),
            enough: Cell::new(true),
        }
    }

    /// Whether the store need not be looked at besides.
    pub fn was_enough(&self) -> bool {
        self.enough.get()
    }
}

impl fmt::Debug for LookedUp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LookedUp({})", self.key.escape_ascii())
    }
}

#[derive(Debug, Clone, Copy)]
enum Moment<'a> {
    /// Now, for a read that is answered at once.
    Clock(&'a SharedClock, &'a Sequence),
    /// The time of the frame, for one that stands behind a write.
    Frame(Timestamp),
}

impl<'a> View<'a> {
    /// The store as it is now.
    pub fn now(store: &'a dyn InMemStore, clock: &'a SharedClock, sequence: &'a Sequence) -> Self {
        Self {
            store,
            moment: Moment::Clock(clock, sequence),
            looked_up: None,
        }
    }

    /// The store at the time of a frame that is being applied.
    pub fn at(store: &'a dyn InMemStore, time: Timestamp) -> Self {
        Self {
            store,
            moment: Moment::Frame(time),
            looked_up: None,
        }
    }

    /// The same, where this was looked up before.
    pub fn having(self, looked_up: &'a LookedUp<'a>) -> Self {
        Self {
            looked_up: Some(looked_up),
            ..self
        }
    }

    /// The entry of `key`, if it has not expired.
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        let entry = self.look_up(key)?;
        match self.moment {
            _ if entry.expires().is_none() => Some(entry),
            Moment::Frame(time) => entry.is_live(time).then_some(entry),
            Moment::Clock(clock, _) if entry.is_live(clock.now()) => Some(entry),
            Moment::Clock(clock, _) => {
                let time = clock.expiry_time();
                self.look_up(key).filter(|entry| entry.is_live(time))
            }
        }
    }

    fn look_up(&self, key: &[u8]) -> Option<Entry> {
        if let Some(found) = self.looked_up {
            if ptr::eq(found.key, key) && found.unused.take() {
                return found.entry.take();
            }
            found.enough.take();
        }
        self.store.get(key)
    }

    /// Whether an entry that was just taken from this store has not expired.
    pub fn is_live(&self, entry: &Entry) -> bool {
        entry.expires().is_none() || entry.is_live(self.time()) || self.get(entry.key()).is_some()
    }

    /// What one table holds that has not expired. No operation is half applied in it: a key that an
    /// operation removes and sets again is not missed.
    pub fn table(&self, index: usize) -> impl Iterator<Item = Entry> {
        let entries = loop {
            let look = || self.store.table(index);
            let found = match self.moment {
                Moment::Clock(_, sequence) => sequence.read(look),
                Moment::Frame(_) => Some(look()),
            };
            match found {
                Some(entries) => break entries,
                None => std::thread::yield_now(),
            }
        };
        entries.into_iter().filter(|entry| self.is_live(entry))
    }

    /// The entries of two keys as they were at one moment.
    pub fn pair(&self, first: &[u8], second: &[u8]) -> (Option<Entry>, Option<Entry>) {
        loop {
            let look = || self.live_pair(first, second);
            let found = match self.moment {
                Moment::Clock(_, sequence) => sequence.read(look),
                Moment::Frame(_) => Some(look()),
            };
            match found {
                Some(pair) => return pair,
                None => std::thread::yield_now(),
            }
        }
    }

    /// The same, were no operation half applied. Both have expired or not by one time.
    fn live_pair(&self, first: &[u8], second: &[u8]) -> (Option<Entry>, Option<Entry>) {
        let look = || self.store.get_pair(first, second);
        let mut pair = look();
        let mut time = self.time();
        let all_live = pair
            .0
            .iter()
            .chain(&pair.1)
            .all(|entry| entry.is_live(time));
        if let Moment::Clock(clock, _) = self.moment
            && !all_live
        {
            time = clock.expiry_time();
            pair = look();
        }
        let is_live = |entry: &Entry| entry.is_live(time);
        (pair.0.filter(is_live), pair.1.filter(is_live))
    }

    /// What time it is.
    pub fn time(&self) -> Timestamp {
        match self.moment {
            Moment::Clock(clock, _) => clock.now(),
            Moment::Frame(time) => time,
        }
    }

    /// The store, with what has expired and was not swept yet.
    pub fn store(&self) -> &'a dyn InMemStore {
        self.store
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::store;

    #[test]
    fn what_was_looked_up_answers_the_first_look_at_its_key_unless_it_has_expired() {
        let clock = SharedClock::new(Arc::new(|| Timestamp(100)));
        let (sequence, store) = (Sequence::default(), store::with_shards(1, 0));
        let entry = |value: &[u8], expires| Entry::new(b"key", value, expires);
        let now = entry(b"now", None);
        store.set(now.clone());
        store.set(Entry::new(b"other", b"own", None));
        let view = View::now(&*store, &clock, &sequence);
        let (key, same) = (&b"key key"[..3], &b"key key"[4..]);
        let looks = |before: Option<Entry>, keys: [&[u8]; 2]| {
            let looked_up = LookedUp::new(key, before);
            let view = view.having(&looked_up);
            let first = view.get(keys[0]);
            let enough = looked_up.was_enough();
            let found = [first, view.get(keys[1])];
            assert!(!looked_up.was_enough());
            (found, enough)
        };
        let before = entry(b"before", Some(Timestamp(200)));
        let ([first, second], enough) = looks(Some(before.clone()), [key, key]);
        assert!(enough);
        assert_eq!([first, second], [Some(before), Some(now.clone())]);
        assert_eq!(looks(None, [key, key]), ([None, Some(now.clone())], true));
        let expired = Some(entry(b"before", Some(Timestamp(100))));
        let again = [Some(now.clone()), Some(now.clone())];
        assert_eq!(looks(expired, [key, key]), (again, false));
        // It is that request's key, and no other of the same bytes.
        let ([other, equal], enough) = looks(None, [b"other", same]);
        assert!(!enough);
        assert_eq!(
            other.map(|entry| entry.value().to_vec()),
            Some(b"own".to_vec())
        );
        assert_eq!(equal, Some(now));
    }

    #[test]
    fn of_a_pair_each_is_there_as_it_is_alone() {
        for shards in [1, 8] {
            let at = Arc::new(AtomicU64::new(99));
            let system = Arc::clone(&at);
            let clock =
                SharedClock::new(Arc::new(move || Timestamp(system.load(Ordering::SeqCst))));
            let sequence = Sequence::default();
            let store = store::with_shards(shards, 0);
            for (key, expires) in [(b"a", None), (b"b", Some(100)), (b"c", Some(200))] {
                store.set(Entry::new(key, key, expires.map(Timestamp)));
            }
            let there = |view: View<'_>| {
                let keys = [b"a", b"b", b"c", b"d"];
                let alone = keys.map(|key| view.get(key));
                for (one, first) in keys.into_iter().zip(&alone) {
                    for (two, second) in keys.into_iter().zip(&alone) {
                        assert_eq!(view.pair(one, two), (first.clone(), second.clone()));
                    }
                }
                alone.map(|entry| entry.is_some())
            };
            let now = View::now(&*store, &clock, &sequence);
            assert_eq!(there(now), [true, true, true, false]);
            clock.begin_write();
            at.store(150, Ordering::SeqCst);
            // The write may still have a time at which the key is there.
            assert_eq!(there(now), [true, true, true, false]);
            clock.end_writes(1);
            assert_eq!(there(now), [true, false, true, false]);
            assert_eq!(
                there(View::at(&*store, Timestamp(99))),
                [true, true, true, false]
            );
            assert_eq!(
                there(View::at(&*store, Timestamp(200))),
                [true, false, false, false]
            );
        }
    }
}
