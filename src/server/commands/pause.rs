//! CLIENT PAUSE: commands that wait until a time, without anything being blocked but them.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// No pause is longer: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

const NOTHING: u8 = 0;
const WRITES: u8 = 1;
const ALL: u8 = 2;

/// What waits, and until when.
#[derive(Debug)]
pub(in crate::server) struct Pause {
    state: watch::Sender<Option<Paused>>,
    /// The same for whoever asks in passing: which commands wait.
    held: AtomicU8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Paused {
    pub(in crate::server) until: Instant,
    /// Whether commands wait that change nothing.
    pub(in crate::server) all: bool,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(None),
            held: AtomicU8::new(NOTHING),
        }
    }
}

impl Pause {
    /// Begins a pause, or adds to the one that there is: it becomes neither shorter nor milder.
    pub(super) fn begin(&self, lasting: Duration, all: bool) {
        let until = Instant::now() + lasting.min(LONGEST);
        let before = self.now();
        self.state.send_replace(Some(Paused {
            until: before.map_or(until, |before| before.until.max(until)),
            all: all || before.is_some_and(|before| before.all),
        }));
        self.mark();
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.state.send_replace(None);
        self.mark();
    }

    fn mark(&self) {
        let held = match *self.state.borrow() {
            None => NOTHING,
            Some(Paused { all: false, .. }) => WRITES,
            Some(Paused { all: true, .. }) => ALL,
        };
        self.held.store(held, Ordering::Release);
    }

    /// The pause that there is.
    pub(super) fn now(&self) -> Option<Paused> {
        let paused = *self.state.borrow();
        paused.filter(|paused| Instant::now() < paused.until)
    }

    /// Whether a command has to wait that `writes`, or does not.
    pub(in crate::server) fn holds(&self, writes: bool) -> bool {
        let held = match self.held.load(Ordering::Acquire) {
            NOTHING => return false,
            WRITES => writes,
            _ => true,
        };
        held && self.now().is_some()
    }

    /// Waits until the pause is over, or is another.
    pub(in crate::server) async fn changed(&self) {
        let mut state = self.state.subscribe();
        let paused = *state.borrow_and_update();
        if let Some(Paused { until, .. }) = paused {
            let over = tokio::time::sleep_until(until.into());
            tokio::select! {
                () = over => {}
                _ = state.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_pause_becomes_neither_shorter_nor_milder_until_it_is_ended() {
        let pause = Pause::default();
        assert!(!pause.holds(true));
        pause.begin(MINUTE, false);
        assert!(pause.holds(true) && !pause.holds(false));
        let until = pause.now().unwrap().until;
        pause.begin(Duration::ZERO, true);
        assert!(pause.holds(true) && pause.holds(false));
        assert_eq!(pause.now().unwrap().until, until);
        pause.begin(MINUTE, false);
        assert!(pause.holds(false));
        pause.end();
        assert!(!pause.holds(true));
        pause.begin(Duration::ZERO, true);
        assert!(!pause.holds(true), "it is over at once");
    }

    #[tokio::test]
    async fn who_waits_hears_of_the_end() {
        let pause = std::sync::Arc::new(Pause::default());
        pause.changed().await;
        pause.begin(MINUTE, true);
        let waits = tokio::spawn({
            let pause = std::sync::Arc::clone(&pause);
            async move { pause.changed().await }
        });
        tokio::task::yield_now().await;
        pause.end();
        tokio::time::timeout(MINUTE / 2, waits)
            .await
            .unwrap()
            .unwrap();
        pause.begin(Duration::from_millis(1), true);
        tokio::time::timeout(MINUTE / 2, pause.changed())
            .await
            .unwrap();
    }
}
