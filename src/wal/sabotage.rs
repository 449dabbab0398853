//! Promises broken on purpose, one at a time, to see that a test notices (`tests/sabotage/run`).
//!
//! Only in a build with the feature `sabotage`, which nothing but that script makes. Elsewhere
//! [`is`] is a constant, and the compiler removes what stands behind it.

/// Whether the promise of this name is to be broken.
#[cfg(not(feature = "sabotage"))]
pub(super) const fn is(_name: &str) -> bool {
    false
}

/// Whether the promise of this name is to be broken: the one that `POSTRES_SABOTAGE` names.
#[cfg(feature = "sabotage")]
pub(super) fn is(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("POSTRES_SABOTAGE").ok());
    chosen.as_deref() == Some(name)
}
