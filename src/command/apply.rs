//! `apply`: the only code that changes the store.

use super::{Operation, Reply};
use crate::store::InMemStore;
use crate::time::Timestamp;

/// Carries out one operation of the log and says what its client is told.
///
/// Called in log order, by one thread at a time: live once the operation is durable (P2), and again
/// when the log is read back (P4). So it must be deterministic (P5): the same store and the same
/// arguments give the same store and the same reply, in every run. `_now` is the time of the
/// operation's frame, the only clock there is in here; no operation depends on it yet.
pub fn apply(store: &dyn InMemStore, operation: Operation<'_>, _now: Timestamp) -> Reply {
    match operation {
        Operation::Set { key, value } => {
            store.set(key, value);
            Reply::Ok
        }
        Operation::Del { key } => Reply::Removed(i64::from(store.del(key))),
    }
}
