//! The threads that take in a snapshot and the log, so that recovery uses all cores.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::run::Run;
use crate::command::{self, Applier};
use crate::wal::snapshot::Block;

/// Jobs that wait for one thread: it bounds how far the reading is ahead.
const QUEUED: usize = 4;

#[derive(Debug)]
enum Job {
    /// A part of a snapshot.
    Block(Block),
    /// A part of the log, of which each thread applies what is its own.
    Run(Arc<Run>),
    /// Everything before this is done.
    Mark(mpsc::Sender<()>),
}

/// Threads that apply beside each other. Two operations on one key go to the same thread.
#[derive(Debug)]
pub(super) struct Workers {
    threads: Vec<Thread>,
    next: usize,
    /// Whether anything was given to them since they were last waited for.
    busy: bool,
    /// What was wrong first.
    error: Arc<Mutex<Option<String>>>,
}

#[derive(Debug)]
struct Thread {
    jobs: Option<SyncSender<Job>>,
    applier: Arc<Mutex<Applier>>,
    handle: Option<JoinHandle<()>>,
}

impl Workers {
    /// Begins with `count` threads, or as many as can be had.
    pub(super) fn new(count: usize, main: &Applier) -> Self {
        let error = Arc::new(Mutex::new(None));
        let threads = (0..count).map_while(|index| {
            let (jobs, queue) = mpsc::sync_channel(QUEUED);
            let applier = Arc::new(Mutex::new(main.beside()));
            let (own, found) = (Arc::clone(&applier), Arc::clone(&error));
            let thread = std::thread::Builder::new().name("postres-replay".to_owned());
            let handle = thread.spawn(move || work(&queue, &own, &found, (index, count)));
            Some(Thread {
                jobs: Some(jobs),
                applier,
                handle: Some(handle.ok()?),
            })
        });
        let threads: Vec<_> = threads.collect();
        // With fewer threads than the operations were divided among, some would be nobody's.
        let threads = if threads.len() == count {
            threads
        } else {
            Vec::new()
        };
        Self {
            threads,
            next: 0,
            busy: false,
            error,
        }
    }

    /// How many threads there are.
    pub(super) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Gives one of them a block.
    pub(super) fn block(&mut self, block: Block) {
        self.next = (self.next + 1) % self.threads.len().max(1);
        self.send(self.next, Job::Block(block));
    }

    /// Gives all of them a run.
    pub(super) fn run(&mut self, run: Run) {
        let run = Arc::new(run);
        for index in 0..self.threads.len() {
            self.send(index, Job::Run(Arc::clone(&run)));
        }
    }

    fn send(&mut self, index: usize, job: Job) {
        self.busy = true;
        let jobs = self
            .threads
            .get(index)
            .and_then(|thread| thread.jobs.as_ref());
        // One that has gone has panicked, which `settle` notices.
        let _ = jobs.map(|jobs| jobs.send(job));
    }

    /// Waits until all that was given to them is done. `applier` then knows what they know.
    pub(super) fn settle(&mut self, applier: &mut Applier) -> Result<(), String> {
        if !std::mem::take(&mut self.busy) {
            return Ok(());
        }
        let (mark, marked) = mpsc::channel();
        for index in 0..self.threads.len() {
            self.send(index, Job::Mark(mark.clone()));
        }
        self.busy = false;
        drop(mark);
        if marked.iter().count() < self.threads.len() {
            return Err(
                "a thread that read the log panicked, which is a defect of postres".to_owned(),
            );
        }
        let mut appliers: Vec<_> = self
            .threads
            .iter()
            .map(|thread| thread.applier.lock())
            .collect();
        applier.absorb(appliers.iter_mut().map(|applier| &mut **applier));
        match self.error.lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.jobs = None;
        }
        for handle in self
            .threads
            .iter_mut()
            .filter_map(|thread| thread.handle.take())
        {
            // Whether it panicked was told by `settle`.
            let _ = handle.join();
        }
    }
}

/// The heap of a thread grows by so much.
const HEAP_STEP: usize = 8 << 20;

/// Room that is given back unused. Beside its first thread, glibc asks the system for one page at
/// a time, 150,000 times for 5 million keys, and all threads wait for each. What was once asked for
/// at a time, and given back, it keeps: at first a larger piece, for it to take such pieces from
/// the thread's heap at all. With another allocator this does nothing.
fn room(bytes: usize) -> impl Sized {
    black_box(Vec::<u8>::with_capacity(bytes))
}

fn work(
    queue: &Receiver<Job>,
    applier: &Mutex<Applier>,
    found: &Mutex<Option<String>>,
    (index, count): (usize, usize),
) {
    drop(room(2 * HEAP_STEP));
    for job in queue {
        drop(room(HEAP_STEP));
        match job {
            Job::Block(block) => {
                let applier = applier.lock();
                let restored = command::restore(applier.view().store(), block.records());
                let error = match restored {
                    Ok(rest) if rest.is_empty() => continue,
                    Ok(_) => "a record that belongs at a snapshot's beginning stands behind it"
                        .to_owned(),
                    Err(error) => error.to_string(),
                };
                found.lock().get_or_insert(error);
            }
            Job::Run(run) => run.apply(&mut applier.lock(), |lane| lane % count == index),
            Job::Mark(done) => {
                // Who waits may have given up.
                let _ = done.send(());
            }
        }
    }
}
