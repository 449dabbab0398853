//! What several concerns need: the real process, and a client of lines.

pub mod client;
pub mod log;
pub mod process;
pub mod resp;
pub mod server;
