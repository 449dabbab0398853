//! postres: a durable in-memory key-value server.
//!
//! The log is the database; the store is a view of it. A write is made durable in the log, then
//! applied to the store, then answered. The way of one request through the crate:
//!
//! ```text
//! server::connection   bytes from a socket
//! protocol             bytes -> Request
//! command              Request -> Command; one that reads is answered from the store at once
//! engine               one that writes is submitted ...
//! wal                  ... to the log: one frame and one fdatasync for all that waited
//! engine               ... and applied, in log order, by command::apply
//! store                the only place where keys and values live
//! protocol             Reply -> bytes
//! ```
//!
//! `ARCHITECTURE.md` tells the whole; the promises P1 to P8 named in comments are listed there.

pub mod command;
pub mod config;
mod cores;
pub mod engine;
pub mod metrics;
pub mod protocol;
pub mod server;
mod spares;
pub mod store;
pub mod time;
pub mod tools;
pub mod wal;
