//! How often a benchmark is carried out, and with how many keys.

use std::env;
use std::hint::black_box;
use std::sync::LazyLock;

use criterion::Bencher;

/// Asks for so many iterations of each benchmark where criterion would carry out one.
const ITERATIONS: &str = "POSTRES_BENCH_ITERATIONS";

/// Keys in a store that is measured: some 110 MB with their values, more than any cache holds.
const KEYS: usize = 1_000_000;
/// Keys where nothing is measured.
const FEW_KEYS: usize = 1000;

/// What the program was started for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Measuring,
    /// To see that every benchmark works.
    Trying,
    /// To count what so many iterations do.
    Counting(u64),
}

static PURPOSE: LazyLock<Purpose> = LazyLock::new(|| {
    // As criterion tells it: `cargo bench` gives the first of these, `cargo test` neither.
    let is_given = |name| env::args().any(|argument| argument == name);
    let iterations = env::var(ITERATIONS).ok();
    match iterations.and_then(|iterations| iterations.parse().ok()) {
        _ if is_given("--bench") && !is_given("--test") => Purpose::Measuring,
        Some(iterations) => Purpose::Counting(iterations),
        None => Purpose::Trying,
    }
});

/// How many keys a store is to hold.
pub(crate) fn keys() -> usize {
    match *PURPOSE {
        Purpose::Measuring | Purpose::Counting(_) => KEYS,
        Purpose::Trying => FEW_KEYS,
    }
}

/// How many times to do what criterion asks for once.
pub(crate) fn times() -> u64 {
    match *PURPOSE {
        Purpose::Counting(times) => times,
        Purpose::Measuring | Purpose::Trying => 1,
    }
}

/// Measures `routine`, and the dropping of what it returns.
pub(crate) fn each<R>(bencher: &mut Bencher<'_>, mut routine: impl FnMut() -> R) {
    match times() {
        1 => bencher.iter(routine),
        times => bencher.iter(|| {
            for _ in 0..times {
                black_box(routine());
            }
        }),
    }
}
