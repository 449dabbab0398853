//! Benchmarks of the parts: what one step costs on the way of a request, without sockets and disk.
//!
//! `cargo bench --bench parts -- [PART OF A NAME] [--save-baseline NAME] [--baseline NAME]`
//!
//! They are for comparing a change with what was before it; "Regressions" in CONTRIBUTING.md tells
//! how, and what each stands for. Keys have 16 bytes and values 64, and the next key is any of a
//! million, most of them not in the processor's cache: so it is for a server, and one key looked up
//! again and again would only measure that cache. Every run draws the same keys and places them by
//! the same hash, so two builds do the same work.
//!
//! `cargo test --bench parts` carries each out once, with few keys, to see that it works.
//! `POSTRES_BENCH_ITERATIONS=N` makes that N times, with all keys: for callgrind, under which the
//! difference of two runs is what an iteration takes, the set-up being the same in both.

use std::time::Duration;

use criterion::Criterion;

use parts::input::Input;

mod parts {
    pub(crate) mod apply;
    pub(crate) mod decode;
    pub(crate) mod encode;
    pub(crate) mod frame;
    pub(crate) mod input;
    pub(crate) mod measure;
    pub(crate) mod store;
}

/// A change counts when all of its confidence interval is beyond this: less than this comes and
/// goes with where the linker puts things.
const NOISE: f64 = 0.05;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .noise_threshold(NOISE)
        .without_plots()
        .configure_from_args();
    parts::decode::measure_all(&mut criterion);
    parts::encode::measure_all(&mut criterion);
    parts::frame::measure_all(&mut criterion);
    let input = Input::new();
    parts::store::measure_all(&mut criterion, &input);
    parts::apply::measure_all(&mut criterion, &input);
    criterion.final_summary();
}
