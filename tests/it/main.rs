//! Integration tests: one binary, a module per concern.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test that meets something unexpected should stop there and then"
)]
#![expect(
    unreachable_pub,
    reason = "pub in a test's module means: for the other modules"
)]

mod support;

mod awaiting;
mod cli;
mod connections;
mod crash;
mod differential;
mod disk;
mod docs;
mod every_write;
mod expiry;
mod faults;
mod full_disk;
mod groups;
mod history;
mod isolation;
mod large;
mod linearizable;
mod loading;
mod long_reads;
mod operators;
mod pipelines;
mod protocol;
mod reads;
mod recovery;
mod segments;
mod shutdown;
mod snapshot_histories;
mod snapshots;
mod tidy;
mod tools;
mod tools_backup;
mod tools_check;
mod torture;
mod transactions;
