//! Groups and the writer: of how much a group is made, and what is done where one is rejected.

use std::time::Instant;

use super::{Group, Removes, Submission};
use crate::wal::writer::{AppendError, LogWriter, Position};

/// A group is written once it holds this many bytes, though more may wait: it bounds the writer's
/// buffer and the time until the first of the group is acknowledged.
const GROUP_BYTES: usize = 4 << 20;

/// The writer, and what was said of its state.
#[derive(Debug)]
pub(super) struct Committer {
    writer: LogWriter,
    refusing: bool,
}

impl Committer {
    pub(super) fn new(writer: LogWriter) -> Self {
        Self {
            writer,
            refusing: false,
        }
    }

    /// Commits a group. If it is rejected, those that only remove keys are committed by themselves: they may
    /// take room that others may not. Then these are a group of their own, behind the others.
    pub(super) fn commit<T>(
        &mut self,
        submissions: Vec<Submission<T>>,
    ) -> impl Iterator<Item = Group<T>> + use<T> {
        let outcome = self.append(&submissions);
        let (submissions, removals) = match outcome {
            Err(AppendError::Rejected { .. }) => submissions
                .into_iter()
                .partition(|submission| submission.removes == Removes::No),
            _ => (submissions, Vec::new()),
        };
        let first = (!submissions.is_empty()).then_some(Group {
            outcome,
            submissions,
        });
        let second = (!removals.is_empty()).then(|| Group {
            outcome: self.append_removals(&removals),
            submissions: removals,
        });
        [first, second].into_iter().flatten()
    }

    /// Commits a group of one submission.
    pub(super) fn commit_one<T>(&mut self, submission: Submission<T>) -> Group<T> {
        let removes = submission.removes != Removes::No;
        let submissions = vec![submission];
        let outcome = match self.append(&submissions) {
            Err(AppendError::Rejected { .. }) if removes => self.append_removals(&submissions),
            outcome => outcome,
        };
        Group {
            outcome,
            submissions,
        }
    }

    fn append<T>(&mut self, group: &[Submission<T>]) -> Result<Position, AppendError> {
        let (count, pieces) = parts(group);
        let outcome = self.writer.append(count, pieces);
        report_change(&mut self.refusing, &outcome);
        outcome
    }

    fn append_removals<T>(&mut self, group: &[Submission<T>]) -> Result<Position, AppendError> {
        let (count, pieces) = parts(group);
        let all = group
            .iter()
            .any(|submission| submission.removes == Removes::All);
        self.writer.append_removals(all, count, pieces)
    }

    /// Why nothing is committed any more, if so.
    pub(super) fn failure(&self) -> Option<AppendError> {
        self.writer.failure()
    }

    /// When the next sync is due, if what was committed awaits one.
    pub(super) fn sync_due(&self) -> Option<Instant> {
        self.writer.sync_due()
    }

    /// Syncs what was committed. A failure is final.
    pub(super) fn sync(&mut self) -> Result<(), AppendError> {
        self.writer.sync()
    }

    /// Ends the log in an orderly way.
    pub(super) fn close(self) -> Result<(), AppendError> {
        self.writer.close()
    }
}

fn parts<T>(group: &[Submission<T>]) -> (u32, impl Iterator<Item = &[u8]>) {
    let count = group.iter().map(|submission| submission.count).sum();
    (
        count,
        group
            .iter()
            .map(|submission| submission.operations.as_slice()),
    )
}

/// Says once that writes are refused, and once that they are accepted again.
fn report_change(refusing: &mut bool, outcome: &Result<Position, AppendError>) {
    match outcome {
        Ok(_) if *refusing => {
            *refusing = false;
            tracing::info!("the log can be written again; writes are accepted");
        }
        Err(error @ (AppendError::Rejected { .. } | AppendError::Uncertain { .. }))
            if !*refusing =>
        {
            *refusing = true;
            tracing::error!("{error}; reads go on, writes are refused until this is mended");
        }
        _ => {}
    }
}

/// Splits what waited into groups of bounded size; a larger submission is a group of its own.
pub(super) struct Groups<T>(Vec<Submission<T>>);

impl<T> Groups<T> {
    pub(super) fn of(submissions: Vec<Submission<T>>) -> Self {
        Self(submissions)
    }
}

impl<T> Iterator for Groups<T> {
    type Item = Vec<Submission<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = 0;
        let mut fits = |submission: &Submission<T>| {
            bytes += submission.operations.len();
            bytes <= GROUP_BYTES
        };
        let count = self.0.iter().take_while(|next| fits(next)).count().max(1);
        let rest = self.0.split_off(count.min(self.0.len()));
        let group = std::mem::replace(&mut self.0, rest);
        (!group.is_empty()).then_some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(lengths: &[usize]) -> Vec<Vec<usize>> {
        let submissions: Vec<_> = lengths
            .iter()
            .map(|&len| Submission {
                operations: vec![0; len],
                count: 1,
                removes: Removes::No,
                away: None,
                ticket: (),
            })
            .collect();
        Groups::of(submissions)
            .map(|group| {
                group
                    .iter()
                    .map(|submission| submission.operations.len())
                    .collect()
            })
            .collect()
    }

    #[test]
    fn groups_keep_the_order_and_stay_within_the_bound() {
        const BIG: usize = GROUP_BYTES + 1;
        assert_eq!(groups(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(groups(&[1, 2, 3]), [[1, 2, 3]]);
        assert_eq!(groups(&[1, BIG, 2, 3]), [vec![1], vec![BIG], vec![2, 3]]);
        assert_eq!(groups(&[GROUP_BYTES, 1]), [[GROUP_BYTES], [1]]);
    }
}
