//! Group commit: many submitters, one thread that writes, one sync for all that waited.
//!
//! While a sync is under way the next group gathers, so the slower the disk, the larger the
//! groups. There is no timer: a submission that finds the writer idle is written at once.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::writer::{AppendError, LogWriter, Position};

/// A group is written once it holds this many bytes, though more may wait: it bounds the writer's
/// buffer and the time until the first of the group is acknowledged.
const GROUP_BYTES: usize = 4 << 20;

/// Operations to be made durable together, and what the submitter wants back.
#[derive(Debug)]
pub struct Submission<T> {
    /// Operations, each behind its length (see [`super::frame::push_operation`]).
    pub operations: Vec<u8>,
    /// How many they are.
    pub count: u32,
    /// Handed back with the outcome. The log does not look at it.
    pub ticket: T,
}

/// Submissions that shared a frame, in log order, and what became of them.
#[derive(Debug)]
pub struct Group<T> {
    /// Durable at this position, or why not.
    pub outcome: Result<Position, AppendError>,
    /// The submissions, in the order of their operations in the log.
    pub submissions: Vec<Submission<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    submissions: Vec<Submission<T>>,
    open: bool,
}

#[derive(Debug)]
struct Shared<T> {
    waiting: Mutex<Waiting<T>>,
    arrived: Condvar,
}

impl<T> Shared<T> {
    fn close(&self) {
        self.waiting.lock().open = false;
        self.arrived.notify_one();
    }
}

/// Where operations are submitted to the log. When it is dropped the log closes.
#[derive(Debug)]
pub struct Submitter<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Drop for Submitter<T> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// The log takes no more: it was closed, or it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log is closed")]
pub struct LogClosed;

impl<T> Submitter<T> {
    /// Puts a submission behind those that wait. Its outcome is delivered, never returned here.
    ///
    /// The caller bounds how much may wait (P8): the log itself takes whatever it is given.
    pub fn submit(&self, submission: Submission<T>) -> Result<(), LogClosed> {
        let mut waiting = self.shared.waiting.lock();
        if !waiting.open {
            return Err(LogClosed);
        }
        waiting.submissions.push(submission);
        let first = waiting.submissions.len() == 1;
        drop(waiting);
        if first {
            self.shared.arrived.notify_one();
        }
        Ok(())
    }

    /// Takes no more submissions; what waits is still written.
    pub fn close(&self) {
        self.shared.close();
    }
}

/// The running log thread. Ends when the log was closed and all that waited is written, or when
/// the log failed for good.
pub type LogThread = JoinHandle<Result<(), AppendError>>;

/// Starts the thread that owns `writer`. `deliver` is called on it with every group, in log order;
/// while it blocks, nothing is written.
pub fn start<T, F>(writer: LogWriter, deliver: F) -> std::io::Result<(Submitter<T>, LogThread)>
where
    T: Send + 'static,
    F: FnMut(Group<T>) + Send + 'static,
{
    let shared = Arc::new(Shared {
        waiting: Mutex::new(Waiting {
            submissions: Vec::new(),
            open: true,
        }),
        arrived: Condvar::new(),
    });
    let committer = Committer {
        shared: Arc::clone(&shared),
        writer: Some(writer),
        deliver,
    };
    let thread = std::thread::Builder::new().name("postres-log".to_owned());
    let handle = thread.spawn(move || committer.run())?;
    Ok((Submitter { shared }, handle))
}

struct Committer<T, F> {
    shared: Arc<Shared<T>>,
    writer: Option<LogWriter>,
    deliver: F,
}

/// Closes the queue however the thread ends, so that nobody waits for a log that is gone.
struct CloseOnExit<T>(Arc<Shared<T>>);

impl<T> Drop for CloseOnExit<T> {
    fn drop(&mut self) {
        self.0.close();
        // What still waits is dropped, and with it each ticket: its owner learns that way.
        self.0.waiting.lock().submissions.clear();
    }
}

impl<T, F: FnMut(Group<T>)> Committer<T, F> {
    fn run(mut self) -> Result<(), AppendError> {
        let _close = CloseOnExit(Arc::clone(&self.shared));
        let Some(mut writer) = self.writer.take() else {
            return Ok(());
        };
        let mut refusing = false;
        while let Some(submissions) = self.next_batch(&mut writer)? {
            for group in Groups(submissions.into_iter().peekable()) {
                let outcome = commit(&mut writer, &group);
                let failed = match &outcome {
                    Err(error @ AppendError::Failed { .. }) => Some(error.clone()),
                    _ => None,
                };
                report_change(&mut refusing, &outcome);
                (self.deliver)(Group {
                    outcome,
                    submissions: group,
                });
                if let Some(error) = failed {
                    return Err(error);
                }
            }
        }
        writer.close()
    }

    /// Waits for submissions and takes all there are; `None` once the queue is closed and empty.
    /// Under `everysec` it syncs when that is due.
    fn next_batch(
        &self,
        writer: &mut LogWriter,
    ) -> Result<Option<Vec<Submission<T>>>, AppendError> {
        loop {
            let due = writer.sync_due();
            if due.is_some_and(|due| due <= Instant::now()) {
                writer.sync()?;
                continue;
            }
            let mut waiting = self.shared.waiting.lock();
            if !waiting.submissions.is_empty() {
                let room = Vec::with_capacity(waiting.submissions.len());
                return Ok(Some(std::mem::replace(&mut waiting.submissions, room)));
            }
            if !waiting.open {
                return Ok(None);
            }
            match due {
                Some(due) => {
                    self.shared.arrived.wait_until(&mut waiting, due);
                }
                None => self.shared.arrived.wait(&mut waiting),
            }
        }
    }
}

fn commit<T>(writer: &mut LogWriter, group: &[Submission<T>]) -> Result<Position, AppendError> {
    let count = group.iter().map(|submission| submission.count).sum();
    writer.append(
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
struct Groups<T>(std::iter::Peekable<std::vec::IntoIter<Submission<T>>>);

impl<T> Iterator for Groups<T> {
    type Item = Vec<Submission<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.0.next()?;
        let mut bytes = first.operations.len();
        let mut group = Vec::with_capacity(self.0.len() + 1);
        group.push(first);
        while let Some(next) = self
            .0
            .next_if(|next| bytes + next.operations.len() <= GROUP_BYTES)
        {
            bytes += next.operations.len();
            group.push(next);
        }
        Some(group)
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
                ticket: (),
            })
            .collect();
        Groups(submissions.into_iter().peekable())
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
