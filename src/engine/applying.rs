//! Applying what the log has made durable: in its order, one batch after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Ticket;
use super::ahead::Ahead;
use super::answer::Answer;
use super::batch::{Applied, Contents};
use super::execution::{self, Batched, Place};
use crate::command::{Applier, Sequence, View, Watches};
use crate::store::{Each, InMemStore};
use crate::time::SharedClock;
use crate::wal::group_commit::Group;
use crate::wal::writer::{AppendError, Position};

/// Steps that the applier carries out before it lets other tasks of its thread run (P3).
const STEPS_PER_TURN: usize = 128;

/// To give an answer counts as so many steps. A recipient that writes to its client takes as long as eight; but
/// turns that are so much shorter cost SETs in pipelines a twelfth.
const STEPS_PER_ANSWER: usize = 2;

/// What is kept in memory, and the hand that changes it.
#[derive(Debug)]
pub(super) struct State {
    store: Arc<dyn InMemStore>,
    /// Held for writing while steps are carried out, so for no longer than a turn of them; held for
    /// reading by those who must see several keys as they were together.
    applier: RwLock<Applier>,
    watches: Arc<Watches>,
    sequence: Arc<Sequence>,
    clock: Arc<SharedClock>,
    /// Keys that were removed because they had expired.
    expired: AtomicU64,
    /// Groups that the log accepted.
    groups: AtomicU64,
    /// Whether the log rejected the last group.
    rejects: AtomicBool,
}

impl State {
    pub(super) fn new(store: Arc<dyn InMemStore>, clock: Arc<SharedClock>) -> Self {
        let watches = Arc::new(Watches::default());
        let sequence = Arc::new(Sequence::default());
        let applier = Applier::new(
            Arc::clone(&store),
            Arc::clone(&watches),
            Arc::clone(&sequence),
        );
        Self {
            store,
            applier: RwLock::new(applier),
            watches,
            sequence,
            clock,
            expired: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            rejects: AtomicBool::new(false),
        }
    }

    pub(super) fn store(&self) -> &dyn InMemStore {
        &*self.store
    }

    pub(super) fn shared_store(&self) -> &Arc<dyn InMemStore> {
        &self.store
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    pub(super) fn shared_clock(&self) -> &Arc<SharedClock> {
        &self.clock
    }

    pub(super) fn watches(&self) -> &Arc<Watches> {
        &self.watches
    }

    pub(super) fn applier(&self) -> &RwLock<Applier> {
        &self.applier
    }

    pub(super) fn expired(&self) -> &AtomicU64 {
        &self.expired
    }

    pub(super) fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    pub(super) fn log_rejects(&self) -> bool {
        self.rejects.load(Ordering::Relaxed)
    }

    /// The store as it is now.
    pub(super) fn view(&self) -> View<'_> {
        View::now(&*self.store, &self.clock, &self.sequence)
    }

    /// What `read` says of one key; it sees each operation whole or not at all.
    pub(super) fn view_key<R>(&self, read: impl Fn(&View<'_>) -> R) -> R {
        let found = self.sequence.read(|| read(&self.view()));
        // Some operation was half applied: this waits until it is done.
        found.unwrap_or_else(|| self.view_whole(read))
    }

    /// The entries of these keys, unless some operation is half applied: then what the looks need is fetched.
    pub(super) fn look_up(&self, keys: &[&[u8]]) -> Option<Each> {
        let found = self.sequence.read(|| self.store.get_each(keys));
        if found.is_none() {
            self.store.warm(keys);
        }
        found
    }

    pub(super) fn view_whole<R>(&self, read: impl FnOnce(&View<'_>) -> R) -> R {
        let _nothing_is_applied = self.applier.read();
        read(&self.view())
    }

    /// Lets the log be read back.
    pub(super) fn replay<R>(&self, read: impl FnOnce(&mut Applier) -> R) -> R {
        read(&mut self.applier.write())
    }

    /// Carries out a batch where no log is kept.
    pub(super) fn apply_unlogged(&self, mut contents: Box<Contents>) -> Applied {
        let mut applier = self.applier.write();
        self.clock.begin_write();
        let place = Place {
            position: self.watches.applied() + 1,
            time: self.clock.now(),
        };
        self.clock.begin_frame(place.time);
        let mut batched = Batched::new(&mut contents, place, Ahead::default(), Instant::now());
        while batched.step(&mut applier) {}
        self.clock.end_writes(1);
        Applied::new(contents)
    }

    /// Carries out a batch, a group of its own, in one go, and tells its recipient.
    pub(super) fn apply_alone(&self, group: Group<Ticket>) {
        let (place, error) = self.place_of(&group.outcome);
        for alone in group.submissions {
            let mut contents = alone.ticket.contents;
            contents.operations = alone.operations;
            match &error {
                Some(error) => execution::refuse(&mut contents, &self.view(), error),
                None => {
                    let mut applier = self.applier.write();
                    let now = Instant::now();
                    let mut batched = Batched::new(&mut contents, place, Ahead::default(), now);
                    while batched.step(&mut applier) {}
                }
            }
            drop(alone.ticket.room);
            self.clock.end_writes(1);
            alone.ticket.answer.give(Applied::new(contents));
        }
    }

    /// Where a group stands in the log, or why it does not.
    fn place_of(&self, outcome: &Result<Position, AppendError>) -> (Place, Option<AppendError>) {
        match outcome {
            Ok(Position { lsn, time }) => {
                self.clock.begin_frame(*time);
                self.groups.fetch_add(1, Ordering::Relaxed);
                self.rejects.store(false, Ordering::Relaxed);
                let place = Place {
                    position: lsn.0,
                    time: *time,
                };
                (place, None)
            }
            Err(error) => {
                self.rejects.store(true, Ordering::Relaxed);
                let nowhere = Place {
                    position: 0,
                    time: self.clock.now(),
                };
                (nowhere, Some(error.clone()))
            }
        }
    }
}

/// The applier: carries out groups in log order. On the `one_thread` that serves clients those who are told write to
/// their clients at once; where there are several they are only woken.
pub(super) async fn apply_groups(
    state: Arc<State>,
    mut groups: mpsc::Receiver<Group<Ticket>>,
    unapplied: Arc<AtomicUsize>,
    one_thread: bool,
) {
    let mut budget = STEPS_PER_TURN;
    let mut answers = Answers::default();
    while let Some(group) = groups.recv().await {
        let (mut place, error) = state.place_of(&group.outcome);
        let count = group.submissions.len();
        let mut submissions = group.submissions.into_iter();
        let mut warmed = 0;
        // Where one batch ends the next one begins: that spares each two looks at the clock, of 25 ns.
        let mut now = Instant::now();
        let mut taken: Option<OwnedSemaphorePermit> = None;
        while let Some(submission) = submissions.next() {
            let Ticket {
                mut contents,
                answer,
                room,
            } = submission.ticket;
            contents.operations = submission.operations;
            match &error {
                Some(error) => execution::refuse(&mut contents, &state.view(), error),
                None => {
                    let ahead = Ahead::new(submissions.as_slice(), warmed);
                    let mut batched = Batched::new(&mut contents, place, ahead, now);
                    while state.take_turn(&mut batched, &mut budget) {
                        answers.give();
                        tokio::task::yield_now().await;
                        batched.resume();
                    }
                    let (ahead, ended) = batched.finish();
                    (warmed, now) = (ahead.warmed(), ended);
                }
            }
            place.position += u64::from(submission.count);
            answers.owed.push((answer, Applied::new(contents)));
            // To give back the room of each by itself would cost as much as to apply it.
            match &mut taken {
                Some(taken) => taken.merge(room),
                None => taken = Some(room),
            }
            if !one_thread {
                // Who is told goes on elsewhere meanwhile.
                answers.give();
                continue;
            }
            budget = budget.saturating_sub(STEPS_PER_ANSWER);
            if budget == 0 {
                budget = STEPS_PER_TURN;
                answers.give();
                tokio::task::yield_now().await;
                now = Instant::now();
            }
        }
        answers.give();
        drop(taken);
        state.clock.end_writes(count);
        unapplied.fetch_sub(1, Ordering::Release);
    }
}

/// The answers that are owed to those whose batches were carried out in this turn. To give each at once would
/// drive out of the cache what the next batches need.
#[derive(Debug, Default)]
struct Answers {
    owed: Vec<(Answer, Applied)>,
}

impl Answers {
    fn give(&mut self) {
        for (answer, applied) in self.owed.drain(..) {
            answer.give(applied);
        }
    }
}

impl State {
    /// Carries out steps until there are no more of them, or until the turn is over: then there
    /// may be.
    fn take_turn(&self, batched: &mut Batched<'_>, budget: &mut usize) -> bool {
        let mut applier = self.applier.try_write().unwrap_or_else(|| {
            let applier = self.applier.write();
            batched.resume();
            applier
        });
        while batched.step(&mut applier) {
            *budget -= 1;
            if *budget == 0 {
                *budget = STEPS_PER_TURN;
                return true;
            }
        }
        false
    }
}
