//! Time as the log carries it. The only clock that reaches what is applied is the frame's (P5).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

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

/// A clock that the log and those who read share, and that never shows less than it was raised to:
/// the time of the last frame, or a time at which someone was told that a key has expired.
pub struct SharedClock {
    source: Clock,
    least: AtomicU64,
}

impl SharedClock {
    /// Shows what `source` shows, until it is raised beyond that.
    pub fn new(source: Clock) -> Self {
        Self {
            source,
            least: AtomicU64::new(0),
        }
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        (self.source)().max(Timestamp(self.least.load(Ordering::Acquire)))
    }

    /// From now on shows this time or a later one.
    pub fn raise(&self, to: Timestamp) {
        if self.least.load(Ordering::Relaxed) < to.0 {
            self.least.fetch_max(to.0, Ordering::AcqRel);
        }
    }
}

impl fmt::Debug for SharedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedClock")
            .field("least", &self.least)
            .finish_non_exhaustive()
    }
}
