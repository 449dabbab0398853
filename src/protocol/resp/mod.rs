//! RESP, the protocol of Redis and Valkey, versions 2 and 3.
//!
//! A request is an array of bulk strings, `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`, in both versions: a
//! count, and each element's length before its bytes. The versions differ in how replies are
//! written: the third has types for what the second shows as an array, a string or an odd length.
//!
//! What is accepted and refused, and in which words, follows Valkey 9.1: numbers have no plus sign
//! and no leading zero, every line ends in `\r\n`, and so do the bytes of every element. Two limits
//! are this server's own: [`MAX_ELEMENTS`] is what Valkey documents, which itself takes more, and
//! [`MAX_REQUEST_LEN`] bounds a request as a whole, which Valkey holds in pieces.

mod decoder;
mod encode;
mod short;

pub use decoder::{
    MAX_BULK_LEN, MAX_ELEMENTS, MAX_HEADER_LEN, MAX_REQUEST_LEN, MAX_UNTRUSTED_BULK_LEN,
    MAX_UNTRUSTED_ELEMENTS, RespDecoder, RespError,
};
pub use encode::encode;

use super::Dialect;

/// A version of RESP. A connection begins with the second and changes by HELLO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RespVersion {
    /// Strings, numbers, arrays, errors.
    #[default]
    Two,
    /// Maps, sets, doubles, verbatim text and a null of its own as well.
    Three,
}

impl From<RespVersion> for Dialect {
    fn from(version: RespVersion) -> Self {
        match version {
            RespVersion::Two => Self::Resp2,
            RespVersion::Three => Self::Resp3,
        }
    }
}
