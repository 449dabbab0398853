//! What the connections of a thread are about to look up, where several of them have something to read.
//!
//! A look at a key waits for memory three times in a row, which is a tenth of a GET's time; looks at several
//! keys wait together (see [`InMemStore::warm`](crate::store::InMemStore::warm)). A pipeline brings its keys
//! at a time. Where there is none, each connection brings one: so who has read a request that looks one up
//! sets it aside until its next turn, and by then the others that were ready have read theirs. The first who
//! has its turn again has all of their keys fetched.
//!
//! Two turns cost more than one, so where they bring few keys together it is not done for a while.

use smallvec::SmallVec;

use super::second_turns::SecondTurns;
use crate::store::WARM_AT_ONCE;

/// Fewer keys than this are not worth a second turn of each connection.
const FEW: usize = 4;

/// The most requests of a round: the keys of more would have left the cache, and so would what each connection
/// needs for its second turn.
const MOST: usize = 8 * WARM_AT_ONCE;

/// So many requests are not set aside after a round of that many: where so many come at a time, the next rounds would
/// be as large. A look now and then is enough to see whether that has changed.
const WITHOUT_AFTER_MOST: u32 = 1024;

/// The requests that a thread's connections have set aside, from the first until one of them has its turn
/// again on that thread. One that is ended, or goes on elsewhere, may leave a round open for the next: then
/// some keys are fetched in vain.
#[derive(Debug)]
pub(super) struct Round {
    /// The keys that are not fetched yet, one behind the other.
    keys: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    turns: SecondTurns,
}

impl Round {
    pub(super) const fn new() -> Self {
        Self {
            keys: Vec::new(),
            ends: Vec::new(),
            turns: SecondTurns::new(FEW),
        }
    }

    /// Whether a request that looks up a key, and was read now, should be set aside.
    pub(super) fn is_worth_it(&mut self) -> bool {
        if !self.turns.are_worth_it() {
            return false;
        }
        if self.turns.len() < MOST {
            return true;
        }
        self.turns.rest(WITHOUT_AFTER_MOST);
        false
    }

    /// A request was set aside that looks up `key`. Once there are as many as can be fetched together, `warm`
    /// fetches them.
    pub(super) fn add(&mut self, key: &[u8], warm: impl FnOnce(&[&[u8]])) {
        self.turns.add();
        self.keys.extend_from_slice(key);
        self.ends.push(self.keys.len());
        if self.ends.len() == WARM_AT_ONCE {
            self.fetch(warm);
        }
    }

    /// One that was set aside has its turn again: `warm` fetches the keys that are left.
    pub(super) fn end(&mut self, warm: impl FnOnce(&[&[u8]])) {
        if self.turns.end().is_some() {
            self.fetch(warm);
        }
    }

    fn fetch(&mut self, warm: impl FnOnce(&[&[u8]])) {
        let mut from = 0;
        let keys = self.ends.iter().filter_map(|&end| {
            let key = self.keys.get(from..end);
            from = end;
            key
        });
        let keys: SmallVec<[&[u8]; WARM_AT_ONCE]> = keys.collect();
        // One alone is looked up right away.
        if keys.len() > 1 {
            warm(&keys);
        }
        drop(keys);
        self.keys.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds so many keys, each its number, and says which were fetched together, before the end and with it.
    fn fetched(round: &mut Round, count: usize) -> Vec<Vec<usize>> {
        let mut fetched = Vec::new();
        let mut note = |keys: &[&[u8]]| {
            let numbers = keys.iter().map(|key| {
                let text = std::str::from_utf8(key).expect("digits");
                text.parse().expect("a number")
            });
            fetched.push(numbers.collect());
        };
        for number in 0..count {
            round.add(number.to_string().as_bytes(), &mut note);
        }
        round.end(&mut note);
        round.end(&mut note);
        fetched
    }

    #[test]
    fn keys_are_fetched_as_many_together_as_can_be_and_the_rest_at_the_end() {
        let mut round = Round::new();
        let all: Vec<usize> = (0..WARM_AT_ONCE + 3).collect();
        let (first, rest) = all.split_at(WARM_AT_ONCE);
        assert_eq!(fetched(&mut round, all.len()), [first, rest]);
        assert_eq!(fetched(&mut round, 2), [[0, 1]]);
        assert_eq!(fetched(&mut round, 1), [[]; 0]);
    }

    #[test]
    fn a_round_is_bounded_though_none_has_its_turn_again() {
        let mut round = Round::new();
        for _ in 0..3 {
            let set_aside = (0..).take_while(|_| {
                let worth_it = round.is_worth_it();
                if worth_it {
                    round.add(b"key", |_| {});
                }
                worth_it
            });
            assert_eq!(set_aside.count(), MOST);
            assert!(round.keys.is_empty());
            let without = (0..).take_while(|_| !round.is_worth_it());
            assert_eq!(without.count(), WITHOUT_AFTER_MOST as usize);
            round.add(b"key", |_| {});
            round.end(|_| {});
            round.turns.rest(0);
        }
    }
}
