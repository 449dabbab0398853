//! The next segment's file, made ahead of its time.
//!
//! To write a file of zeros takes the disk, and a processor, for a tenth of a second, and while it does, a
//! commit waits behind it, and so does a read whose thread the system has put behind this one. So it is
//! written bit by bit, with rests, on a thread of its own, which begins when the segment in use is half
//! full and means to be done when that is three quarters full. Where this takes less time than it thought, it no
//! longer rests.
//!
//! First it has the system let go of the memory that holds the segment before, which hardly anything reads but a
//! start and a backup: that memory is what the next zeros, or frames, go to. Otherwise they go to memory that was not
//! used for long, or never: a virtual machine's host may have to find it first, which takes many times as long as to
//! write there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::wal::Lsn;
use crate::wal::segment::{Prepared, SegmentMaker, Zeros};

/// How many times longer it rests than it has worked, at most.
const RESTS: u32 = 3;

/// What took longer was not work, but waiting for a slow disk: it is no reason to rest.
const WORKS_AT_MOST: Duration = Duration::from_millis(5);

/// Bytes that it lets go of at a time: that takes the system 0.15 ms.
const PIECE: u64 = 4 << 20;

/// A segment's file that is being made, or is ready.
#[derive(Debug)]
pub(super) struct Spare {
    /// `None` once it was waited for.
    thread: Option<JoinHandle<io::Result<Prepared>>>,
    /// Whether it is not to rest any more.
    urgent: Arc<AtomicBool>,
}

impl Spare {
    /// Begins to make one, which is to be there after the time `within`. The segment that begins at `full` is not
    /// written to any more, and all of it is durable.
    pub(super) fn begin(
        maker: SegmentMaker,
        base: Lsn,
        zeros: Zeros,
        within: Duration,
        full: Option<Lsn>,
    ) -> io::Result<Self> {
        let urgent = Arc::new(AtomicBool::new(false));
        let hurries = Arc::clone(&urgent);
        let hurried = Arc::clone(&urgent);
        let (begun, capacity) = (Instant::now(), maker.capacity);
        let pause = move |worked, done: u64| {
            let due = within.mul_f64(done as f64 / capacity as f64);
            if !hurries.load(Ordering::Acquire) {
                thread::park_timeout(rest(worked, due.saturating_sub(begun.elapsed())));
            }
        };
        let thread = thread::Builder::new().name("postres-spare".to_owned());
        let thread = thread.spawn(move || {
            if let Some(full) = full {
                let_go(&maker, full, &hurried);
            }
            maker.prepare(base, zeros, pause)
        })?;
        Ok(Self {
            thread: Some(thread),
            urgent,
        })
    }

    /// Waits until it is made. What went wrong with it says nothing of now.
    pub(super) fn finish(mut self) -> Option<Prepared> {
        self.hurry();
        self.thread.take()?.join().ok()?.ok()
    }

    /// Has it rest no more.
    pub(super) fn hurry(&self) {
        self.urgent.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            // One that is about to rest does not, either.
            thread.thread().unpark();
        }
    }
}

/// Has the system let go of the memory that holds a segment, with rests.
fn let_go(maker: &SegmentMaker, segment: Lsn, urgent: &AtomicBool) {
    // Under that name it is there until a snapshot has made it superfluous.
    let Ok(file) = maker.fs.open(&maker.name.segment(segment)) else {
        return;
    };
    // One that a large frame has made longer holds more than the next one needs.
    let len = file.len().unwrap_or(0).min(maker.capacity);
    let mut done = 0;
    while done < len {
        let begun = Instant::now();
        file.drop_cached(done, PIECE);
        done += PIECE;
        if !urgent.load(Ordering::Acquire) {
            thread::park_timeout(rest(begun.elapsed(), Duration::MAX));
        }
    }
}

/// For how long it rests after so much work, if it is so far ahead of its time.
fn rest(worked: Duration, ahead: Duration) -> Duration {
    ahead.min(worked.min(WORKS_AT_MOST) * RESTS)
}

impl Drop for Spare {
    /// One that nobody waits for any more is soon out of the way.
    fn drop(&mut self) {
        self.hurry();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::wal::fs::StdFs;
    use crate::wal::name::LogName;
    use crate::wal::room::Reserve;
    use crate::wal::segment::Recycled;

    fn maker(dir: &Path, capacity: u64) -> SegmentMaker {
        SegmentMaker {
            fs: Arc::new(StdFs),
            name: LogName::new(&dir.join("log")).unwrap(),
            log_id: 1,
            capacity,
            entropy: || 2,
            recycled: Recycled::default(),
            reserve: Reserve::default(),
        }
    }

    #[test]
    fn it_is_all_zeros_also_where_it_is_made_of_another_and_is_never_long_without_a_pause() {
        const CAPACITY: u64 = (2 << 20) + 4096;
        let dir = tempfile::tempdir().unwrap();
        let maker = maker(dir.path(), CAPACITY);
        let former = dir.path().join("former");
        std::fs::write(&former, vec![0xff; CAPACITY as usize]).unwrap();
        maker.recycled.put(former.clone());
        let mut pauses = 0;
        let prepared = maker.prepare(Lsn::FIRST, Zeros::Written, |_, _| pauses += 1);
        prepared.unwrap();
        assert_eq!(pauses, 8);
        assert!(std::fs::read(former).unwrap() == vec![0; CAPACITY as usize]);
    }

    #[test]
    fn it_rests_three_times_as_long_as_it_worked_where_there_is_time() {
        let ms = Duration::from_millis;
        assert_eq!(rest(ms(2), ms(60_000)), ms(6));
        assert_eq!(rest(ms(2), ms(5)), ms(5));
        assert_eq!(rest(ms(2), ms(0)), ms(0));
        // Most of this it waited for the disk.
        assert_eq!(rest(ms(700), ms(60_000)), ms(15));
    }

    #[test]
    fn one_that_is_waited_for_or_given_up_rests_no_more() {
        const LONG: Duration = Duration::from_secs(60);
        let dir = tempfile::tempdir().unwrap();
        let begin = || {
            let maker = maker(dir.path(), 1 << 20);
            let spare = Spare::begin(maker, Lsn::FIRST, Zeros::Written, LONG, None).unwrap();
            let urgent = Arc::clone(&spare.urgent);
            assert!(!urgent.load(Ordering::Acquire));
            (spare, urgent)
        };
        let (spare, urgent) = begin();
        assert!(spare.finish().is_some());
        assert!(urgent.load(Ordering::Acquire));
        let (spare, urgent) = begin();
        drop(spare);
        assert!(urgent.load(Ordering::Acquire));
    }

    #[test]
    fn one_that_could_not_be_made_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let maker = maker(&gone, 1 << 20);
        let spare = Spare::begin(maker, Lsn::FIRST, Zeros::Written, Duration::ZERO, None);
        assert!(spare.unwrap().finish().is_none());
    }
}
