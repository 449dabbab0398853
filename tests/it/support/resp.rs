//! RESP2 and RESP3 for tests: commands out, replies in, with their types as they were on the wire.
//!
//! Strict on purpose: a reply that a lenient client would take, such as `:+1`, `$-2` or a bare
//! `\n`, is [`Malformed`] here.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a reply may take before reading it fails.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// How deep replies may be nested.
const MAX_DEPTH: usize = 16;

/// One reply. What RESP2 and RESP3 write differently is different here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `+`; what is not UTF-8 in it, here and in an error, is replaced by U+FFFD
    Simple(String),
    /// `-`
    Error(String),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `$-1`, RESP2's null
    NullBulk,
    /// `*-1`, RESP2's null where an array was wanted
    NullArray,
    /// `_`, RESP3's null
    Null,
    /// `*`
    Array(Vec<Value>),
    /// `%`
    Map(Vec<(Value, Value)>),
    /// `~`
    Set(Vec<Value>),
    /// `,` and its text as it was sent
    Double(String),
    /// `#`
    Boolean(bool),
    /// `=`: the three letters of its format, and its text
    Verbatim(String, Vec<u8>),
    /// `(`
    BigNumber(String),
    /// `!`
    BulkError(Vec<u8>),
    /// `>`
    Push(Vec<Value>),
}

/// Bytes that are no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

/// A command as clients send it: an array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(args: impl IntoIterator<Item = A>) -> Vec<u8> {
    let (mut body, mut count) = (Vec::new(), 0);
    for arg in args {
        let arg = arg.as_ref();
        body.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        body.extend_from_slice(arg);
        body.extend_from_slice(b"\r\n");
        count += 1;
    }
    let mut bytes = format!("*{count}\r\n").into_bytes();
    bytes.append(&mut body);
    bytes
}

/// The reply at the start of `bytes` and its length; `None` while more bytes are needed.
pub fn parse(bytes: &[u8]) -> Result<Option<(Value, usize)>, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    Ok(reader.value(MAX_DEPTH)?.map(|value| (value, reader.at)))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Option<Value>, Malformed> {
        if depth == 0 {
            return Err(Malformed("nested too deeply".into()));
        }
        let Some(line) = self.line()? else {
            return Ok(None);
        };
        let Some((kind, rest)) = line.split_first() else {
            return Err(Malformed("an empty line".into()));
        };
        Ok(Some(match kind {
            b'+' => Value::Simple(String::from_utf8_lossy(rest).into_owned()),
            b'-' => Value::Error(String::from_utf8_lossy(rest).into_owned()),
            b':' => Value::Integer(number(rest)?),
            b',' => Value::Double(text(rest)?),
            b'(' => Value::BigNumber(text(rest)?),
            b'_' if rest.is_empty() => Value::Null,
            b'#' if rest == b"t" => Value::Boolean(true),
            b'#' if rest == b"f" => Value::Boolean(false),
            b'$' if rest == b"-1" => Value::NullBulk,
            b'*' if rest == b"-1" => Value::NullArray,
            b'$' | b'=' | b'!' => match self.bulk(length(rest)?)? {
                None => return Ok(None),
                Some(bulk) if *kind == b'$' => Value::Bulk(bulk.to_vec()),
                Some(bulk) if *kind == b'!' => Value::BulkError(bulk.to_vec()),
                Some(bulk) => verbatim(bulk)?,
            },
            b'*' | b'~' | b'>' => match self.values(length(rest)?, depth)? {
                None => return Ok(None),
                Some(values) if *kind == b'*' => Value::Array(values),
                Some(values) if *kind == b'~' => Value::Set(values),
                Some(values) => Value::Push(values),
            },
            b'%' => match self.values(2 * length(rest)?, depth)? {
                None => return Ok(None),
                Some(values) => Value::Map(pairs(values)),
            },
            _ => return Err(Malformed(format!("\"{}\"", line.escape_ascii()))),
        }))
    }

    fn line(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        self.at += end + 1;
        let line = rest[..end].strip_suffix(b"\r");
        let line = line.filter(|line| !line.contains(&b'\r'));
        let bare = || Malformed(format!("\"{}\" ends badly", rest[..=end].escape_ascii()));
        line.ok_or_else(bare).map(Some)
    }

    fn bulk(&mut self, len: usize) -> Result<Option<&'a [u8]>, Malformed> {
        let Some(bulk) = self.bytes[self.at..].get(..len + 2) else {
            return Ok(None);
        };
        self.at += len + 2;
        let bulk = bulk.strip_suffix(b"\r\n");
        bulk.ok_or_else(|| Malformed(format!("no line break behind {len} bytes")))
            .map(Some)
    }

    fn values(&mut self, count: usize, depth: usize) -> Result<Option<Vec<Value>>, Malformed> {
        let mut values = Vec::new();
        for _ in 0..count {
            match self.value(depth - 1)? {
                None => return Ok(None),
                Some(value) => values.push(value),
            }
        }
        Ok(Some(values))
    }
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    let text = String::from_utf8(bytes.to_vec());
    text.map_err(|_| Malformed(format!("\"{}\" is not UTF-8", bytes.escape_ascii())))
}

/// A number in the one form that it has.
fn number(bytes: &[u8]) -> Result<i64, Malformed> {
    let text = text(bytes)?;
    let number = text.parse::<i64>().ok();
    let number = number.filter(|number| number.to_string() == text);
    number.ok_or_else(|| Malformed(format!("\"{text}\" is no number")))
}

fn length(bytes: &[u8]) -> Result<usize, Malformed> {
    let number = number(bytes)?;
    usize::try_from(number).map_err(|_| Malformed(format!("{number} is no length")))
}

fn verbatim(bulk: &[u8]) -> Result<Value, Malformed> {
    match bulk.split_at_checked(4) {
        Some(([format @ .., b':'], rest)) => Ok(Value::Verbatim(text(format)?, rest.to_vec())),
        _ => Err(Malformed("a verbatim string without a format".into())),
    }
}

fn pairs(values: Vec<Value>) -> Vec<(Value, Value)> {
    let mut values = values.into_iter();
    std::iter::from_fn(|| Some((values.next()?, values.next()?))).collect()
}

/// As a person can read it, its type included, cut where it goes on and on.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(text) => write!(f, "+{text}"),
            Self::Error(text) => write!(f, "-{text}"),
            Self::Integer(number) => write!(f, ":{number}"),
            Self::Bulk(bytes) => write!(f, "${}", Quoted(bytes)),
            Self::NullBulk => write!(f, "$-1"),
            Self::NullArray => write!(f, "*-1"),
            Self::Null => write!(f, "_"),
            Self::Array(values) => f.write_str("*").and_then(|()| list(f, values)),
            Self::Set(values) => f.write_str("~").and_then(|()| list(f, values)),
            Self::Push(values) => f.write_str(">").and_then(|()| list(f, values)),
            Self::Map(pairs) => {
                f.write_str("%")?;
                f.debug_map()
                    .entries(pairs.iter().map(|(k, v)| (k, v)))
                    .finish()
            }
            Self::Double(text) => write!(f, ",{text}"),
            Self::Boolean(truth) => write!(f, "#{}", if *truth { "t" } else { "f" }),
            Self::Verbatim(format, bytes) => write!(f, "={format}:{}", Quoted(bytes)),
            Self::BigNumber(text) => write!(f, "({text}"),
            Self::BulkError(bytes) => write!(f, "!{}", Quoted(bytes)),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, values: &[Value]) -> fmt::Result {
    f.debug_list().entries(values).finish()
}

struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        match self.0.get(..SHOWN) {
            Some(start) if self.0.len() > SHOWN => {
                let len = self.0.len();
                write!(f, "\"{}\" ... ({len} bytes)", start.escape_ascii())
            }
            _ => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}

/// A connection that speaks RESP; RESP2 until it is told otherwise with `HELLO 3`.
#[derive(Debug)]
pub struct RespClient {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl RespClient {
    pub fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).expect("the server accepts a connection")
    }

    pub fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, REPLY_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        let buffer = Vec::new();
        Ok(Self { stream, buffer })
    }

    /// Sends one command and waits for its reply.
    #[track_caller]
    pub fn command<A: AsRef<[u8]>>(&mut self, args: impl IntoIterator<Item = A>) -> Value {
        self.send(&encode(args))
            .expect("the server takes a command");
        self.read().expect("a reply within ten seconds")
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// What has arrived and was not read as a reply; does not wait for more.
    pub fn unread(&mut self) -> io::Result<Vec<u8>> {
        self.stream.set_nonblocking(true)?;
        let mut bytes = std::mem::take(&mut self.buffer);
        let rest = self.stream.read_to_end(&mut bytes);
        self.stream.set_nonblocking(false)?;
        match rest {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(bytes),
        }
    }

    /// One reply; an error of kind `InvalidData` where the bytes are none, of kind
    /// `UnexpectedEof` where the server has closed.
    pub fn read(&mut self) -> io::Result<Value> {
        loop {
            let parsed = parse(&self.buffer);
            let parsed = parsed.map_err(|e| io::Error::new(ErrorKind::InvalidData, e.0))?;
            if let Some((value, len)) = parsed {
                self.buffer.drain(..len);
                return Ok(value);
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk)? {
                0 if self.buffer.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
                0 => return Err(io::Error::new(ErrorKind::InvalidData, "a cut reply")),
                len => self.buffer.extend_from_slice(&chunk[..len]),
            }
        }
    }
}

#[test]
fn every_type_of_reply_is_read_at_every_split() {
    let wire = b"*15\r\n+OK\r\n-ERR no\r\n:-7\r\n$2\r\n\r\n\r\n$-1\r\n*-1\r\n_\r\n*0\r\n\
        %1\r\n+a\r\n:1\r\n~1\r\n:1\r\n,inf\r\n#t\r\n=7\r\ntxt:abc\r\n(12\r\n!3\r\nERR\r\n";
    let expected = Value::Array(vec![
        Value::Simple("OK".into()),
        Value::Error("ERR no".into()),
        Value::Integer(-7),
        Value::Bulk(b"\r\n".into()),
        Value::NullBulk,
        Value::NullArray,
        Value::Null,
        Value::Array(vec![]),
        Value::Map(vec![(Value::Simple("a".into()), Value::Integer(1))]),
        Value::Set(vec![Value::Integer(1)]),
        Value::Double("inf".into()),
        Value::Boolean(true),
        Value::Verbatim("txt".into(), b"abc".into()),
        Value::BigNumber("12".into()),
        Value::BulkError(b"ERR".into()),
    ]);
    assert_eq!(parse(wire), Ok(Some((expected, wire.len()))));
    for cut in 0..wire.len() {
        assert_eq!(parse(&wire[..cut]), Ok(None), "cut at {cut}");
    }
}

#[test]
fn what_is_no_reply_is_told_from_what_is_not_yet_one() {
    for wire in [
        "OK\r\n",
        "\r\n",
        "+OK\n",
        "+O\rK\r\n",
        ":+1\r\n",
        ":01\r\n",
        ":\r\n",
        ":9223372036854775808\r\n",
        "$-2\r\n",
        "$1\r\nab\r\n",
        "*-2\r\n",
        "%-1\r\n",
        "_x\r\n",
        "#x\r\n",
        "=3\r\ntxt\r\n",
    ] {
        assert!(parse(wire.as_bytes()).is_err(), "{wire:?}");
    }
    assert!(parse(b"+\xff\r\n").is_ok());
    assert!(parse("*1\r\n".repeat(100).as_bytes()).is_err());
}

#[test]
fn a_command_is_an_array_of_bulk_strings() {
    assert_eq!(
        encode(["GET", "", "a\r\n"]),
        b"*3\r\n$3\r\nGET\r\n$0\r\n\r\n$3\r\na\r\n\r\n"
    );
}
