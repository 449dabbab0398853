//! Bytes to requests, replies to bytes.
//!
//! This layer does no I/O and knows of no store and no command. It is incremental: given more of
//! the same bytes it goes on where it stopped, without looking at any byte twice.
//!
//! Two languages share a port. The first byte of a request tells which it is: `*` begins RESP
//! ([`resp`]), anything else a line ([`mod@line`]). A client may change between them at every request.

mod double;
pub mod line;
mod output;
pub mod resp;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use smallvec::SmallVec;

pub use output::{MAX_SLICES, Output, SHARE_FROM};
pub use resp::{RespError, RespVersion};

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
    /// RESP, as a client gets it that did not ask for another version.
    Resp2,
    /// RESP with the types of its third version.
    Resp3,
    /// Not at all: the client said that it does not want to hear the reply.
    Silent,
}

/// What a request is answered with; `V` is a value as the store shares it.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply<V> {
    /// Done.
    Ok,
    /// The answer to a bare PING.
    Pong,
    /// Another word that says how it went, such as `QUEUED`.
    Status(&'static str),
    /// A value from the store, not copied yet.
    Value(V),
    /// Other bytes.
    Bytes(Vec<u8>),
    /// A text for people, its lines ending in `\n` or `\r\n`.
    Text(String),
    /// Several lines, each an element of its own.
    Lines(Vec<String>),
    /// A number.
    Integer(i64),
    /// A number that need not be whole.
    Double(f64),
    /// How many keys were removed. On a line simply `OK`: the original never told.
    Removed(i64),
    /// What was asked for is not there.
    Nil(Absence),
    /// A transaction was not carried out, because a key that it watched had changed.
    Aborted,
    /// Several replies in order.
    Array(Vec<Reply<V>>),
    /// Names and what belongs to them.
    Map(Vec<(Reply<V>, Reply<V>)>),
    /// Several replies, whose order means nothing.
    Set(Vec<Reply<V>>),
    /// The request was refused or failed.
    Error(ErrorReply),
}

/// What it is that is not there. RESP has one word for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The key that `command` asked for.
    Key {
        /// The name of the command.
        command: &'static str,
    },
    /// What `command` made its condition.
    Condition {
        /// The name of the command.
        command: &'static str,
    },
    /// Anything else.
    Plain,
}

/// Why a request was refused or failed, in the words of its protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorReply {
    /// There is no such command.
    UnknownCommand {
        /// The name and the first arguments, as RESP clients are shown them.
        preview: String,
    },
    /// Too few or too many arguments.
    WrongCount {
        /// The name of the command; of a part of one, `client|kill`.
        command: &'static str,
        /// What it expects, such as `1 argument KEY`.
        expected: String,
    },
    /// Arguments that make no sense together.
    Syntax {
        /// The name of the command.
        command: &'static str,
        /// What it expects, where a line says more than that this was wrong; else empty.
        expected: String,
    },
    /// Any other cause: the whole text, which begins with its code, such as `ERR`.
    Other(Cow<'static, str>),
}

/// The bytes cannot be a request. Answered with its text, and then the connection is closed:
/// where the next request would begin is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// No line break within [`line::MAX_LINE_LEN`].
    #[error("ERR line is longer than {} bytes", line::MAX_LINE_LEN)]
    LineTooLong,
    /// A request in RESP that breaks its rules, or a limit.
    #[error("ERR Protocol error: {0}")]
    Resp(RespError),
}

impl ProtocolError {
    /// How to tell the client. It may speak RESP's third version, which writes errors the same way.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::LineTooLong => Dialect::Line,
            Self::Resp(_) => Dialect::Resp2,
        }
    }
}

/// Finds requests in the bytes of one connection.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    line: line::LineDecoder,
    resp: resp::RespDecoder,
    version: RespVersion,
    /// The first error, behind which there is nothing to find.
    failed: Option<ProtocolError>,
}

impl Decoder {
    /// Marks requests in RESP decoded from now on with this version.
    pub fn speak(&mut self, version: RespVersion) {
        self.version = version;
    }

    /// The version of RESP that is spoken.
    pub fn version(&self) -> RespVersion {
        self.version
    }

    /// Says whether the client may send requests of any size, as it may unless told otherwise. One
    /// that has not given its password yet is held to a few small elements.
    pub fn trust(&mut self, authenticated: bool) {
        self.resp.trust(authenticated);
    }

    /// What the same bytes are read as depends on: the version, and whether the client is trusted.
    pub fn reads_as(&self) -> (RespVersion, bool) {
        (self.version, self.resp.trusts())
    }

    /// How many bytes more, at least, the request at the start of the buffer needs, as far as is
    /// known since the last call of [`decode`](Self::decode); 0 where nothing is known. The number
    /// is what the client claims: at most [`resp::MAX_BULK_LEN`] and a line break.
    pub fn wanted(&self) -> usize {
        self.resp.wanted()
    }

    /// The first request in `bytes` and how many of them it takes, or how many can be thrown away
    /// where there is none yet. Bytes that were not taken are to be given again, with what came
    /// behind them. After an error there is nothing but that error.
    pub fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<(Option<Request<'a>>, usize), ProtocolError> {
        let mut args = Args::new();
        let (dialect, taken) = self.decode_into(bytes, &mut args)?;
        let request = dialect.map(|dialect| Request { args, dialect });
        Ok((request, taken))
    }

    /// The same, for whoever has a place for the arguments: what that holds before is lost, and
    /// where there is no request, it means nothing afterwards. To move them costs as much as to
    /// find them.
    #[inline]
    pub fn decode_into<'a>(
        &mut self,
        bytes: &'a [u8],
        args: &mut Args<'a>,
    ) -> Result<(Option<Dialect>, usize), ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let Some(taken) = self.resp.decode_short(bytes, args) {
            return Ok((Some(self.version.into()), taken));
        }
        let found = self.find(bytes, args);
        self.failed = found.as_ref().err().copied();
        found
    }

    /// Forgets what it knows of a request that is not complete, and an error: the bytes are to be
    /// given again, from the end of a request that it has found before.
    pub fn start_over(&mut self) {
        self.line = line::LineDecoder::default();
        self.resp.start_over();
        self.failed = None;
    }

    fn find<'a>(
        &mut self,
        bytes: &'a [u8],
        args: &mut Args<'a>,
    ) -> Result<(Option<Dialect>, usize), ProtocolError> {
        let mut skipped = 0;
        loop {
            let rest = bytes.get(skipped..).unwrap_or_default();
            let found = match rest.first() {
                None => return Ok((None, skipped)),
                Some(b'*') => {
                    let found = self.resp.decode(rest, args).map_err(ProtocolError::Resp)?;
                    found.map(|taken| (Dialect::from(self.version), taken))
                }
                Some(_) => self.line.decode(rest, args)?,
            };
            let Some((dialect, taken)) = found else {
                return Ok((None, skipped));
            };
            skipped += taken;
            // A blank line and an array without elements ask for nothing.
            if !args.is_empty() {
                return Ok((Some(dialect), skipped));
            }
        }
    }
}

/// Appends `reply` to `out` as its request's dialect has it. Takes the reply, so that a large
/// value moves into `out` and is not copied.
pub fn encode<V: AsRef<[u8]>>(reply: Reply<V>, dialect: Dialect, out: &mut Output<V>) {
    match dialect {
        Dialect::Line => line::encode(reply, b"\n", out),
        Dialect::LineCrLf => line::encode(reply, b"\r\n", out),
        Dialect::Resp2 => resp::encode(reply, RespVersion::Two, out),
        Dialect::Resp3 => resp::encode(reply, RespVersion::Three, out),
        Dialect::Silent => {}
    }
}
