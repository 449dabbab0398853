//! The next segment's file, made ahead of its time.
//!
//! To write a file of zeros takes the disk, and a processor, for a tenth of a second, and while it does, a
//! commit waits behind it, and so does a read whose thread the system has put behind this one. So it is
//! written bit by bit, with rests, on a thread of its own, which has all the time that the second half
//! of a segment takes to fill. If that is less, it no longer rests.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::wal::Lsn;
use crate::wal::segment::{Prepared, SegmentMaker, Zeros};

/// How many times longer it rests than it has worked.
const RESTS: u32 = 3;

/// What took longer was not work, but waiting for a slow disk: it is no reason to rest.
const WORKS_AT_MOST: Duration = Duration::from_millis(5);

/// A segment's file that is being made, or is ready.
#[derive(Debug)]
pub(super) struct Spare {
    /// `None` once it was waited for.
    thread: Option<JoinHandle<io::Result<Prepared>>>,
    /// Whether it is not to rest any more.
    urgent: Arc<AtomicBool>,
}

impl Spare {
    /// Begins to make one.
    pub(super) fn begin(maker: SegmentMaker, base: Lsn, zeros: Zeros) -> io::Result<Self> {
        let urgent = Arc::new(AtomicBool::new(false));
        let hurries = Arc::clone(&urgent);
        let pause = move |worked: Duration| {
            if !hurries.load(Ordering::Acquire) {
                thread::park_timeout(worked.min(WORKS_AT_MOST) * RESTS);
            }
        };
        let thread = thread::Builder::new().name("postres-spare".to_owned());
        let thread = thread.spawn(move || maker.prepare(base, zeros, pause))?;
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

    fn hurry(&self) {
        self.urgent.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            // One that is about to rest does not, either.
            thread.thread().unpark();
        }
    }
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
    use std::time::Instant;

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
        let prepared = maker.prepare(Lsn::FIRST, Zeros::Written, |_| pauses += 1);
        prepared.unwrap();
        assert_eq!(pauses, 9);
        assert!(std::fs::read(former).unwrap() == vec![0; CAPACITY as usize]);
    }

    #[test]
    fn one_that_is_waited_for_does_not_rest() {
        let dir = tempfile::tempdir().unwrap();
        let made = |zeros| Spare::begin(maker(dir.path(), 32 << 20), Lsn::FIRST, zeros).unwrap();
        let time = |made: &dyn Fn() -> bool| {
            let begun = Instant::now();
            assert!(made());
            begun.elapsed()
        };
        let waited_for = time(&|| made(Zeros::Written).finish().is_some());
        let left_alone = time(&|| {
            let spare = made(Zeros::Written);
            while spare
                .thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished())
            {
                thread::sleep(Duration::from_millis(1));
            }
            spare.finish().is_some()
        });
        assert!(
            waited_for < left_alone * 2 / 3,
            "{waited_for:?}, and {left_alone:?} with rests"
        );
    }

    #[test]
    fn one_that_could_not_be_made_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let spare = Spare::begin(maker(&gone, 1 << 20), Lsn::FIRST, Zeros::Written).unwrap();
        assert!(spare.finish().is_none());
    }
}
