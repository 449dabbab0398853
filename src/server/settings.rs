//! What can be changed while the server runs, and what it was started with.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Commands that take longer than this many microseconds are noted, unless told otherwise.
const SLOWER_THAN: i64 = 10_000;

/// How many of them are kept, unless told otherwise.
const SLOW_LOG_LEN: u64 = 128;

/// The settings that `CONFIG SET` can change, and those that it cannot.
#[derive(Debug)]
pub struct Settings {
    /// The password's digest: compared in a time that tells nothing of either, nor of its length.
    password: RwLock<Option<[u8; 32]>>,
    /// Whether clients from other machines are served although no password is needed.
    open: AtomicBool,
    /// In microseconds; negative to note no command, 0 to note all.
    slower_than: AtomicI64,
    slow_log_len: AtomicU64,
    /// In milliseconds; 0 to note nothing.
    latency_threshold: AtomicU64,
    /// The least time, in nanoseconds, that one of the two above wants to hear of.
    noted_from: AtomicU64,
    started_with: StartedWith,
}

/// What the server was started with, and nothing changes.
#[derive(Debug, Clone, Default)]
pub struct StartedWith {
    /// The log, as the flag has it.
    pub log: PathBuf,
    /// When it is synced, as Valkey says it: `always`, `everysec` or `no`.
    pub sync: &'static str,
    /// The length of its segments, in bytes.
    pub segment_len: u64,
    /// Threads that serve connections.
    pub threads: usize,
    /// Locks that the store is divided by.
    pub shards: usize,
    /// How much the server says of itself, as Valkey says it.
    pub log_level: &'static str,
    /// Whether DEBUG may be used.
    pub debug: DebugCommand,
}

/// Who may use DEBUG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DebugCommand {
    /// Nobody.
    #[default]
    No,
    /// Clients on this machine.
    Local,
    /// Everybody.
    Yes,
}

/// What is thought of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the one, or none is needed.
    Right,
    Wrong,
}

impl Default for Settings {
    fn default() -> Self {
        Self::new(StartedWith::default())
    }
}

impl Settings {
    /// Asks for no password, and serves this machine only.
    pub fn new(started_with: StartedWith) -> Self {
        let settings = Self {
            password: RwLock::default(),
            open: AtomicBool::default(),
            slower_than: AtomicI64::new(SLOWER_THAN),
            slow_log_len: AtomicU64::new(SLOW_LOG_LEN),
            latency_threshold: AtomicU64::new(0),
            noted_from: AtomicU64::new(0),
            started_with,
        };
        settings.set_slower_than(SLOWER_THAN);
        settings
    }

    /// What the server was started with.
    pub(super) fn started_with(&self) -> &StartedWith {
        &self.started_with
    }

    /// Asks every client for this password from now on; for none if it is empty.
    pub fn set_password(&self, password: &[u8]) {
        let digest = (!password.is_empty()).then(|| Sha256::digest(password).into());
        *self.password.write() = digest;
    }

    /// Whether clients are asked for a password.
    pub fn needs_password(&self) -> bool {
        self.password.read().is_some()
    }

    /// Whether clients from other machines are refused for as long as no password is needed.
    pub fn set_protected_mode(&self, protected: bool) {
        self.open.store(!protected, Ordering::Relaxed);
    }

    /// The same, asked.
    pub(super) fn is_protected(&self) -> bool {
        !self.open.load(Ordering::Relaxed)
    }

    /// Whether clients from other machines are refused now.
    pub fn is_closed_to_strangers(&self) -> bool {
        self.is_protected() && !self.needs_password()
    }

    pub(super) fn check_password(&self, given: &[u8]) -> Verdict {
        let given: [u8; 32] = Sha256::digest(given).into();
        match &*self.password.read() {
            Some(password) if !bool::from(password.ct_eq(&given)) => Verdict::Wrong,
            _ => Verdict::Right,
        }
    }

    pub(super) fn slower_than(&self) -> i64 {
        self.slower_than.load(Ordering::Relaxed)
    }

    pub(super) fn set_slower_than(&self, micros: i64) {
        self.slower_than.store(micros, Ordering::Relaxed);
        self.note_from();
    }

    pub(super) fn slow_log_len(&self) -> u64 {
        self.slow_log_len.load(Ordering::Relaxed)
    }

    pub(super) fn set_slow_log_len(&self, len: u64) {
        self.slow_log_len.store(len, Ordering::Relaxed);
    }

    pub(super) fn latency_threshold(&self) -> u64 {
        self.latency_threshold.load(Ordering::Relaxed)
    }

    pub(super) fn set_latency_threshold(&self, millis: u64) {
        self.latency_threshold.store(millis, Ordering::Relaxed);
        self.note_from();
    }

    fn note_from(&self) {
        let slow = u64::try_from(self.slower_than())
            .map_or(u64::MAX, |micros| micros.saturating_mul(1000));
        let late = match self.latency_threshold() {
            0 => u64::MAX,
            millis => millis.saturating_mul(1_000_000),
        };
        self.noted_from.store(slow.min(late), Ordering::Relaxed);
    }

    /// Whether a command that took so long is to be noted anywhere.
    pub(super) fn is_noted(&self, took: Duration) -> bool {
        took.as_nanos() >= u128::from(self.noted_from.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_noted_from_the_lower_of_the_two_thresholds_on() {
        let settings = Settings::default();
        let noted = |micros| settings.is_noted(Duration::from_micros(micros));
        assert!(!noted(9_999) && noted(10_000));
        settings.set_latency_threshold(5);
        assert!(!noted(4_999) && noted(5_000));
        settings.set_slower_than(-1);
        assert!(!noted(4_999) && noted(5_000));
        settings.set_latency_threshold(0);
        assert!(!noted(u64::from(u32::MAX)));
        settings.set_slower_than(0);
        assert!(noted(0));
    }

    #[test]
    fn a_password_that_is_taken_back_is_needed_no_more() {
        let settings = Settings::default();
        assert!(settings.is_closed_to_strangers());
        assert_eq!(settings.check_password(b"any"), Verdict::Right);
        settings.set_password(b"secret");
        assert!(settings.needs_password() && !settings.is_closed_to_strangers());
        assert_eq!(settings.check_password(b"secret"), Verdict::Right);
        for wrong in [&b""[..], b"secre", b"secret "] {
            assert_eq!(settings.check_password(wrong), Verdict::Wrong);
        }
        settings.set_password(b"");
        assert!(!settings.needs_password());
    }
}
