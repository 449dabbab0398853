//! Tools for the files of a log: what `postres log ...` does.
//!
//! Each has a file: [`dump`] writes out what a log holds, [`check`] judges it, [`repair`] mends what
//! a start would mend, [`backup`] copies it, [`import`] makes a log of the text log of post-go-res.
//! What a log's files mean only [`recovery`](crate::wal::recovery) says. What the tools share is
//! beside them: [`staging`] makes a log that gets its name only when it is whole, [`text`] and
//! [`json`] write operations down.
//!
//! A tool is a function of a file system, a log's path and somewhere to write to, so that a test
//! can give it any of these. It takes the log's lock, so no server works on the files meanwhile;
//! only a backup does not.

pub mod backup;
pub mod check;
pub mod dump;
mod error;
mod existing;
pub mod import;
mod json;
mod original;
pub mod repair;
mod staging;
mod text;

pub use error::ToolError;
