//! Replies to pipelines, held back until all who are ready have been read: so whoever reads those of many clients is
//! woken once for them, and not for each.
//!
//! A connection that holds its own back has a second turn, behind those who are ready, and writes them first of all.
//! By then what all of them write is with the log, and to write the replies of many takes about as long as a sync: so
//! the log commits it meanwhile.

use std::cell::RefCell;
use std::task::Context;

use super::Connection;
use super::replies::Submitted;
use crate::server::second_turns::SecondTurns;

/// Up to so many bytes are held back.
pub(super) const HOLD_UP_TO: usize = 4 << 10;

/// Where the replies of fewer than so many would be held back, whoever reads them had better begin with the first.
/// Those ahead of a write are held back all the same, and count: the write goes to the log before they are sent.
const FEW: usize = 6;

/// Where the replies of so many are held back, and so many batches wait, these are committed while the replies are
/// written, not behind them: then the disk need not wait for the replies, nor the clients for the disk. Of fewer
/// little is gained, or nothing.
const MANY: usize = 8;

thread_local! {
    /// Those of this thread whose replies are held back.
    static HELD: RefCell<SecondTurns> = const { RefCell::new(SecondTurns::new(FEW)) };
}

impl Connection {
    /// Holds the replies to what was read back, if that is worth it: says whether it does. The next turn comes behind
    /// all who are ready now. A client that is killed meanwhile does not get them.
    ///
    /// They must not wait for the disk, nor may a batch that stands behind them wait for their second turn. So it is
    /// handed over here, and they are held back only if the log has room for it. If it was carried out at once, its
    /// replies can be written together with them, and nothing is held back.
    pub(super) fn hold_back(&mut self, cx: &Context<'_>) -> bool {
        let len = self.session.out.len();
        let may = self.pipelined
            && (1..=HOLD_UP_TO).contains(&len)
            && !self.session.shared.engine.may_block();
        self.held = may
            && if self.session.batch.is_empty() {
                HELD.with_borrow_mut(SecondTurns::are_worth_it)
            } else {
                self.try_submit() && matches!(self.batch, Some(Submitted::UnderWay))
            };
        if self.held {
            HELD.with_borrow_mut(SecondTurns::add);
            cx.waker().wake_by_ref();
        }
        self.held
    }

    /// The second turn has come, if this is one.
    pub(super) fn end_hold(&mut self) {
        if !std::mem::take(&mut self.held) {
            return;
        }
        let first_of = HELD.with_borrow_mut(SecondTurns::end);
        if first_of.is_some_and(|count| count >= MANY) {
            self.session.shared.engine.commit_if(MANY);
        }
    }
}
