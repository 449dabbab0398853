//! Time as the log carries it. The only clock that reaches what is applied is the frame's (P5).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

/// Where the time of day comes from: the system, or a test.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The system's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the time of day is asked for"
)]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        // A clock set before 1970 reads as 1970: the log never lets time fall anyway.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    })
}

/// The clock that the log and those who read share.
///
/// It never goes back, whatever its source does. And it tells by which time a key has expired for
/// whoever reads: that is not simply now, since a write that lets the key live on may be under way
/// in a frame of an earlier time. A client that was told that a key is gone must not see it come
/// back, and one that lets it live on in time must not have it seen gone meanwhile.
pub struct SharedClock {
    source: Clock,
    least: AtomicU64,
    under_way: Mutex<UnderWay>,
}

/// Writes that were submitted and not carried out yet.
#[derive(Debug, Default)]
struct UnderWay {
    count: usize,
    /// No frame that any of them is in, or will be, has an earlier time.
    since: Timestamp,
}

impl SharedClock {
    /// Shows what `source` shows, as long as that does not go back.
    pub fn new(source: Clock) -> Self {
        Self {
            source,
            least: AtomicU64::new(0),
            under_way: Mutex::default(),
        }
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        (self.source)().max(Timestamp(self.least.load(Ordering::SeqCst)))
    }

    /// From now on shows this time or a later one.
    pub fn raise(&self, to: Timestamp) {
        if self.least.load(Ordering::Relaxed) < to.0 {
            self.least.fetch_max(to.0, Ordering::SeqCst);
        }
    }

    /// A write is about to be submitted.
    pub fn begin_write(&self) {
        let mut under_way = self.under_way.lock();
        if under_way.count == 0 {
            under_way.since = self.now();
            self.raise(under_way.since);
        }
        under_way.count += 1;
    }

    /// The writes of a frame of this time are about to be carried out, and all before them have
    /// been.
    pub fn begin_frame(&self, time: Timestamp) {
        let mut under_way = self.under_way.lock();
        self.raise(time);
        under_way.since = under_way.since.max(time);
    }

    /// So many writes have been carried out or refused.
    pub fn end_writes(&self, count: usize) {
        let mut under_way = self.under_way.lock();
        under_way.count = under_way.count.saturating_sub(count);
    }

    /// The time by which a key has expired for whoever reads it now. No write that was not carried
    /// out yet has an earlier one, so none finds the key alive that was found gone. The key must
    /// be looked up after this: it may have been let live on until here.
    pub fn expiry_time(&self) -> Timestamp {
        let under_way = self.under_way.lock();
        if under_way.count > 0 {
            return under_way.since;
        }
        let now = self.now();
        self.raise(now);
        now
    }
}

impl fmt::Debug for SharedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedClock")
            .field("least", &self.least)
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(at: &Arc<AtomicU64>) -> SharedClock {
        let at = Arc::clone(at);
        SharedClock::new(Arc::new(move || Timestamp(at.load(Ordering::SeqCst))))
    }

    #[test]
    fn a_time_at_which_someone_saw_a_key_gone_is_never_gone_back_behind() {
        let at = Arc::new(AtomicU64::new(100));
        let clock = clock(&at);
        assert_eq!(clock.expiry_time(), Timestamp(100));
        at.store(50, Ordering::SeqCst);
        assert_eq!(clock.now(), Timestamp(100));
        clock.begin_write();
        assert_eq!(clock.expiry_time(), Timestamp(100));
    }

    #[test]
    fn while_a_write_is_under_way_keys_expire_by_the_time_it_may_have() {
        let at = Arc::new(AtomicU64::new(100));
        let clock = clock(&at);
        clock.begin_write();
        at.store(200, Ordering::SeqCst);
        clock.begin_write();
        assert_eq!(clock.expiry_time(), Timestamp(100));
        clock.begin_frame(Timestamp(150));
        assert_eq!(clock.expiry_time(), Timestamp(150));
        clock.end_writes(1);
        assert_eq!(clock.expiry_time(), Timestamp(150));
        clock.end_writes(1);
        assert_eq!(clock.expiry_time(), Timestamp(200));
    }
}
