//! Bytes to requests, replies to bytes.
//!
//! This layer does no I/O and knows of no store and no command. It is incremental: given more of
//! the same bytes it goes on where it stopped, without looking at any byte twice.
//!
//! Two languages share a port. The first byte of a request tells which it is: `*` begins RESP,
//! anything else a line. RESP has its place here and is not spoken yet.

pub mod line;

use std::borrow::Cow;

use smallvec::SmallVec;

/// The arguments of a request, its name first: borrowed from the bytes that were read.
pub type Args<'a> = SmallVec<[&'a [u8]; 4]>;

/// One request. It is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Name and arguments.
    pub args: Args<'a>,
    /// How its reply is to be written.
    pub dialect: Dialect,
}

/// How a reply is written: as its request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A line that ends in `\n`.
    Line,
    /// A line that ends in `\r\n`.
    LineCrLf,
}

/// What a request is answered with; `V` is a value as the store shares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<V> {
    /// Done.
    Ok,
    /// The answer to a bare PING.
    Pong,
    /// A value from the store, not copied yet.
    Value(V),
    /// Other bytes.
    Bytes(Vec<u8>),
    /// A number.
    Integer(i64),
    /// How many keys were removed. On a line simply `+OK`: the original never told.
    Removed(i64),
    /// The key that `command` asked for is not there.
    NotFound {
        /// The name of the command.
        command: &'static str,
    },
    /// Several lines of text.
    Text(Vec<String>),
    /// The request was refused or failed.
    Error(ErrorReply),
}

/// Why a request was refused or failed, in the words of its protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorReply {
    /// There is no such command.
    UnknownCommand,
    /// Too few or too many arguments.
    WrongCount {
        /// The name of the command.
        command: &'static str,
        /// What it expects, such as `1 argument KEY`.
        expected: String,
    },
    /// Any other cause. No line breaks.
    Other(Cow<'static, str>),
}

/// The bytes cannot be a request. Answered with its text, and then the connection is closed:
/// where the next request would begin is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// No line break within [`line::MAX_LINE_LEN`].
    #[error("ERR line is longer than {} bytes", line::MAX_LINE_LEN)]
    LineTooLong,
    /// A request in RESP.
    #[error("ERR RESP is not spoken by this version, send lines such as: SET key value")]
    RespNotSpoken,
}

/// Finds requests in the bytes of one connection.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    line: line::LineDecoder,
}

impl Decoder {
    /// The first request in `bytes` and how many of them it takes, or how many can be thrown away
    /// where there is none yet. Bytes that were not taken are to be given again, with what came
    /// behind them.
    pub fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<(Option<Request<'a>>, usize), ProtocolError> {
        let mut skipped = 0;
        loop {
            let rest = bytes.get(skipped..).unwrap_or_default();
            if rest.first() == Some(&b'*') {
                return Err(ProtocolError::RespNotSpoken);
            }
            let Some((line, taken)) = self.line.decode(rest)? else {
                return Ok((None, skipped));
            };
            skipped += taken;
            if !line.args.is_empty() {
                return Ok((Some(line), skipped));
            }
        }
    }
}

/// Appends `reply` to `out` as its request's dialect has it.
pub fn encode<V: AsRef<[u8]>>(reply: &Reply<V>, dialect: Dialect, out: &mut Vec<u8>) {
    match dialect {
        Dialect::Line => line::encode(reply, b"\n", out),
        Dialect::LineCrLf => line::encode(reply, b"\r\n", out),
    }
}
