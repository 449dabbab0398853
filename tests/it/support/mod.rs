//! What several concerns need: the real process, a client of lines, random requests.

pub mod client;
pub mod log;
pub mod process;
pub mod requests;
pub mod resp;
pub mod server;
