//! postres: a durable in-memory key-value server.
#![forbid(unsafe_code)]
pub mod store;
pub mod wal;
