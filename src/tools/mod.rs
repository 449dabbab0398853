//! Tools for the files of a server that does not run: what `postres log ...` does.
//!
//! Each has a file: [`dump`] writes out what a log holds, [`import`] makes a log of the text log of
//! post-go-res. What they share is beside them: [`closed_log`] reads a log's segments in order
//! without changing anything, [`text`] and [`json`] write operations down.
//!
//! A tool is a function of a file system, a log's path and somewhere to write to, so that a test
//! can give it any of these. It takes the log's lock, so no server works on the files meanwhile.

mod closed_log;
pub mod dump;
mod error;
pub mod import;
mod json;
mod original;
mod staging;
mod text;

pub use closed_log::Ending;
pub use error::ToolError;
