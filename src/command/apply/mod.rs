//! Applying: the only code that changes the store.

mod bit;
mod expiry;
mod key;
mod number;
mod recent;
pub mod sequence;
pub mod snapshot;
mod string;
pub mod watch;

use std::sync::Arc;

use super::operation::{Operation, Rest};
use super::{Reply, View, error};
use crate::store::{Entry, InMemStore};
use crate::time::Timestamp;
use recent::Recent;
use sequence::Sequence;
use watch::Watches;

/// The hand that changes the store, one operation after the other, in log order.
///
/// It does so live, once an operation is durable (P2), and again when the log is read back (P4).
/// So it must be deterministic (P5): the same operations at the same positions and times leave the
/// same store and give the same replies, in every run. The time is the frame's, and never a clock.
#[derive(Debug)]
pub struct Applier {
    store: Arc<dyn InMemStore>,
    /// Which keys the last operations changed.
    recent: Recent,
    /// Who is to be told when a key changes. Nothing that is decided here depends on it.
    watches: Arc<Watches>,
    /// Who reads is told by it that an operation is half applied.
    sequence: Arc<Sequence>,
    /// The position of the operation at hand.
    position: u64,
    /// Its frame's time.
    now: Timestamp,
}

impl Applier {
    /// Applies to `store`, which is empty and is changed by nobody else.
    pub fn new(store: Arc<dyn InMemStore>, watches: Arc<Watches>, sequence: Arc<Sequence>) -> Self {
        Self {
            store,
            recent: Recent::default(),
            watches,
            sequence,
            position: 0,
            now: Timestamp::default(),
        }
    }

    /// Carries out the operation at `position`, of a frame of the time `now`, and says what its
    /// client is told.
    pub fn apply(&mut self, operation: &Operation<'_>, position: u64, now: Timestamp) -> Reply {
        if operation.changes_several() {
            return self.at_once(position, now, |applier| match operation {
                Operation::Exec { .. } => applier.replay_transaction(operation),
                operation => applier.carry_out(operation),
            });
        }
        (self.position, self.now) = (position, now);
        let reply = self.carry_out(operation);
        self.watches.publish(position);
        reply
    }

    /// Lets `carry_out` do all that the operation at `position` consists of. Whoever reads sees
    /// nothing of it, or all, unless `carry_out` panics.
    pub fn at_once<R>(
        &mut self,
        position: u64,
        now: Timestamp,
        carry_out: impl FnOnce(&mut Self) -> R,
    ) -> R {
        (self.position, self.now) = (position, now);
        self.sequence.begin();
        let half_applied = HalfApplied(self);
        let done = carry_out(half_applied.0);
        drop(half_applied);
        self.watches.publish(position);
        done
    }

    /// Whether the transaction at hand is to be carried out: none of the keys that it watched was
    /// changed between `base` and its own place in the log, nor expired since it was watched.
    pub fn may_execute(&self, base: u64, watched: &[(&[u8], bool)]) -> bool {
        watched.iter().all(|&(key, was_there)| {
            let is_there = self.get(key).is_some();
            is_there == was_there && !self.recent.changed_since(base, key)
        })
    }

    /// Carries out one operation of the transaction at hand, or one that stands alone.
    pub fn carry_out(&mut self, operation: &Operation<'_>) -> Reply {
        match *operation {
            Operation::Set { key, value } => self.set(key, value.0),
            Operation::SetWith {
                key,
                expiry,
                condition,
                get,
                value,
            } => self.set_with(key, value.0, expiry, condition, get),
            Operation::SetNx { key, value } => self.set_nx(key, value.0),
            Operation::MSet { ref pairs } => self.mset(pairs),
            Operation::MSetNx { ref pairs } => self.mset_nx(pairs),
            Operation::Del { key } => self.del(&[key.0]),
            Operation::DelMany { ref keys } => self.del(keys),
            Operation::DelIfEq { key, value } => self.del_if_eq(key, value.0),
            Operation::GetDel { key } => self.get_del(key.0),
            Operation::GetEx { key, expiry } => self.get_ex(key, expiry),
            Operation::Append { key, value } => self.append(key, value.0),
            Operation::SetRange { key, offset, value } => self.set_range(key, offset, value.0),
            Operation::IncrBy { key, by } => self.incr_by(key, by),
            Operation::IncrByFloat { key, by } => self.incr_by_float(key, by.0),
            Operation::SetBit { key, offset, on } => self.set_bit(key, offset, on),
            Operation::BitOp {
                combine,
                destination,
                ref sources,
            } => self.bit_op(combine, destination, sources),
            Operation::BitField { key, ref steps } => self.bit_field(key, steps),
            Operation::Expire { key, at, condition } => self.expire(key, at, condition),
            Operation::Persist { key } => self.persist(key.0),
            Operation::Rename { from, to } => self.rename(from, to),
            Operation::RenameNx { from, to } => self.rename_nx(from, to),
            Operation::Copy { from, to, replace } => self.copy(from, to, replace),
            Operation::FlushAll {} => self.flush_all(),
            Operation::Tick {} => Reply::Ok,
            // Transactions do not nest: EXEC inside of one is never logged.
            Operation::Exec { .. } => Reply::Error(error("ERR EXEC inside of a transaction")),
        }
    }

    /// A transaction that is read back: its reads left no trace, and nobody waits for the reply.
    fn replay_transaction(&mut self, operation: &Operation<'_>) -> Reply {
        let Operation::Exec {
            base,
            watched,
            operations,
        } = operation
        else {
            return Reply::Ok;
        };
        if !self.may_execute(*base, watched) {
            return Reply::Aborted;
        }
        let replies = operations.iter().map(|bytes| {
            let operation = Operation::decode(bytes);
            // The log's reader has decoded each of them already: see `Operation::check`.
            operation.map_or(Reply::Ok, |operation| self.carry_out(&operation))
        });
        Reply::Array(replies.collect())
    }

    /// The store as of the operation at hand.
    pub fn view(&self) -> View<'_> {
        View::at(&*self.store, self.now)
    }

    /// How many keys have expired by the last frame's time and were removed from table `index`.
    /// It changes nothing that anyone can see: for every operation to come they are gone already.
    pub fn sweep(&mut self, index: usize) -> usize {
        self.store.sweep(index, self.now)
    }

    /// The time of the last operation's frame.
    pub fn time(&self) -> Timestamp {
        self.now
    }

    /// The entry of `key`, if it has not expired by now.
    fn get(&self, key: &[u8]) -> Option<Entry> {
        self.store.get(key).filter(|entry| entry.is_live(self.now))
    }

    /// Puts an entry in.
    fn put(&mut self, entry: Entry) {
        self.changed(entry.key());
        drop(self.store.set(entry));
    }

    /// Puts an entry in, or, if its expiry has passed already, removes its key.
    fn put_or_expire(&mut self, entry: Entry) {
        if entry.is_live(self.now) {
            self.put(entry);
        } else {
            self.remove(entry.key());
        }
    }

    /// Takes an entry out; `None` if it has expired, too.
    fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let removed = self.store.del(key)?;
        let live = removed.is_live(self.now);
        if live {
            self.changed(key);
        }
        live.then_some(removed)
    }

    /// Changes a value where it lies, its length staying as it is, if that can be done.
    fn change_in_place(&mut self, key: &[u8], change: &mut dyn FnMut(&mut [u8])) -> bool {
        let changed = self.store.change_in_place(key, change);
        if changed {
            self.changed(key);
        }
        changed
    }

    fn changed(&mut self, key: &[u8]) {
        self.recent.push(self.position, key);
        self.watches.touch(key);
    }
}

/// An operation of several changes, while it is applied. One that panics, a defect, is seen as far as it got: who walks
/// a table waits for its end on a thread that all others may need, and the server to stop.
struct HalfApplied<'a>(&'a mut Applier);

impl Drop for HalfApplied<'_> {
    fn drop(&mut self) {
        self.0.sequence.end();
    }
}

impl<'a> From<&'a [u8]> for Rest<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::store;

    #[test]
    fn an_operation_that_panics_leaves_nobody_waiting_for_its_end() {
        let sequence = Arc::new(Sequence::default());
        let store = store::with_shards(1, 0);
        let mut applier = Applier::new(store.into(), Arc::default(), Arc::clone(&sequence));
        let panicking = || {
            applier.at_once(1, Timestamp::default(), |_| {
                assert_eq!(sequence.read(|| 1), None);
                std::panic::resume_unwind(Box::new("planted"))
            })
        };
        let ended: Result<(), _> = catch_unwind(AssertUnwindSafe(panicking));
        assert_eq!(ended.unwrap_err().downcast_ref(), Some(&"planted"));
        assert_eq!(sequence.read(|| 1), Some(1));
    }
}
