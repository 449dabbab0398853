//! Integration tests: one binary, a module per concern.

mod support;

mod cli;
mod connections;
mod crash;
mod disk;
mod faults;
mod history;
mod protocol;
mod reads;
mod recovery;
mod shutdown;
mod tidy;
