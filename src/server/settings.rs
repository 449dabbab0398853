//! What can be changed while the server runs.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The settings that `CONFIG SET` can change.
#[derive(Debug, Default)]
pub struct Settings {
    /// The password's digest: compared in a time that tells nothing of either, nor of its length.
    password: RwLock<Option<[u8; 32]>>,
    /// Whether clients from other machines are served although no password is needed.
    open: AtomicBool,
}

/// What is thought of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the one, or none is needed.
    Right,
    Wrong,
}

impl Settings {
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

    /// Whether clients from other machines are refused now.
    pub(super) fn is_closed_to_strangers(&self) -> bool {
        !self.open.load(Ordering::Relaxed) && !self.needs_password()
    }

    pub(super) fn check_password(&self, given: &[u8]) -> Verdict {
        let given: [u8; 32] = Sha256::digest(given).into();
        match &*self.password.read() {
            Some(password) if !bool::from(password.ct_eq(&given)) => Verdict::Wrong,
            _ => Verdict::Right,
        }
    }
}
