//! The line protocol, as post-go-res has it: `SET key value`, `+OK`.
//!
//! A request ends with `\n` or `\r\n` and its reply ends the same way. Fields are split at runs of
//! spaces and tabs; there is no quoting; blank lines are skipped. Fields are bytes, not text.

use std::io::Write;

use super::{Dialect, ErrorReply, ProtocolError, Reply, Request};

/// The longest line, in bytes, its line break not counted.
pub const MAX_LINE_LEN: usize = 1 << 20;

/// Finds lines. Remembers how far it has looked, so that a long line that comes in small pieces
/// is not searched from its start each time.
#[derive(Debug, Clone, Default)]
pub struct LineDecoder {
    searched: usize,
}

impl LineDecoder {
    /// The first line of `bytes` (with no field, if it is blank) and its length with its line
    /// break; `None` while there is no line break.
    pub fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<Option<(Request<'a>, usize)>, ProtocolError> {
        let unseen = bytes.get(self.searched..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', unseen) else {
            // One byte more may be the `\r` of the line break.
            if bytes.len() > MAX_LINE_LEN + 1 {
                return Err(ProtocolError::LineTooLong);
            }
            self.searched = bytes.len();
            return Ok(None);
        };
        let len = self.searched + at;
        self.searched = 0;
        let line = bytes.get(..len).unwrap_or_default();
        let (line, dialect) = match line.strip_suffix(b"\r") {
            Some(line) => (line, Dialect::LineCrLf),
            None => (line, Dialect::Line),
        };
        if line.len() > MAX_LINE_LEN {
            return Err(ProtocolError::LineTooLong);
        }
        let fields = line.split(|byte| matches!(byte, b' ' | b'\t'));
        let args = fields.filter(|field| !field.is_empty()).collect();
        Ok(Some((Request { args, dialect }, len + 1)))
    }
}

/// Appends `reply` and `line_break`.
pub fn encode<V: AsRef<[u8]>>(reply: &Reply<V>, line_break: &[u8], out: &mut Vec<u8>) {
    match reply {
        Reply::Ok | Reply::Removed(_) => out.extend_from_slice(b"+OK"),
        Reply::Pong => out.extend_from_slice(b"+PONG"),
        Reply::Value(value) => encode_bytes(value.as_ref(), out),
        Reply::Bytes(bytes) => encode_bytes(bytes, out),
        Reply::Integer(number) => push(out, format_args!("+OK {number}")),
        Reply::NotFound { command } => {
            push(out, format_args!("-{command} could not find key in store"));
        }
        Reply::Text(lines) => {
            push(out, format_args!("+OK {}", lines.len()));
            for line in lines {
                out.extend_from_slice(line_break);
                out.extend_from_slice(line.as_bytes());
            }
        }
        Reply::Error(ErrorReply::UnknownCommand) => out.extend_from_slice(b"-INVALID COMMAND"),
        Reply::Error(ErrorReply::WrongCount { command, expected }) => {
            push(out, format_args!("-{command} expected {expected}"));
        }
        Reply::Error(ErrorReply::Other(text)) => push(out, format_args!("-{text}")),
    }
    out.extend_from_slice(line_break);
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    if memchr::memchr(b'\n', bytes).is_some() {
        out.extend_from_slice(
            b"-ERR the value holds a line break, which a line cannot show: use RESP",
        );
        return;
    }
    out.extend_from_slice(b"+OK ");
    out.extend_from_slice(bytes);
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::*;

    type Decoded = Vec<(Vec<Vec<u8>>, Dialect)>;

    /// Decodes `bytes` given in two pieces, as a connection does.
    fn decode_split(bytes: &[u8], split: usize) -> Result<Decoded, ProtocolError> {
        let (mut decoder, mut buffer, mut decoded) = (Decoder::default(), Vec::new(), Vec::new());
        for piece in [&bytes[..split], &bytes[split..]] {
            buffer.extend_from_slice(piece);
            loop {
                let (request, taken) = decoder.decode(&buffer)?;
                let done = request.is_none();
                decoded.extend(request.map(|request| {
                    (
                        request.args.iter().map(|arg| arg.to_vec()).collect(),
                        request.dialect,
                    )
                }));
                buffer.drain(..taken);
                if done {
                    break;
                }
            }
        }
        Ok(decoded)
    }

    fn request(args: &[&str], dialect: Dialect) -> (Vec<Vec<u8>>, Dialect) {
        (
            args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
            dialect,
        )
    }

    #[test]
    fn requests_are_the_same_wherever_the_bytes_are_split() {
        let bytes = b"SET a 1\r\n\n  \t\r\n\tGET \t a  \nDEL\0 \xff\r\r\nleft over";
        let expected = vec![
            request(&["SET", "a", "1"], Dialect::LineCrLf),
            request(&["GET", "a"], Dialect::Line),
            (
                vec![b"DEL\0".to_vec(), b"\xff\r".to_vec()],
                Dialect::LineCrLf,
            ),
        ];
        for split in 0..=bytes.len() {
            assert_eq!(
                decode_split(bytes, split).unwrap(),
                expected,
                "split at {split}"
            );
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        for line_break in [&b"\n"[..], b"\r\n"] {
            let longest = [&vec![b'x'; MAX_LINE_LEN][..], line_break].concat();
            assert_eq!(decode_split(&longest, 5).unwrap().len(), 1);
            let too_long = [&vec![b'x'; MAX_LINE_LEN + 1][..], line_break].concat();
            assert_eq!(decode_split(&too_long, 5), Err(ProtocolError::LineTooLong));
        }
        let endless = vec![b'x'; MAX_LINE_LEN + 2];
        assert_eq!(decode_split(&endless, 5), Err(ProtocolError::LineTooLong));
    }

    #[test]
    fn resp_is_told_from_a_line_by_its_first_byte() {
        let resp = decode_split(b"\n*1\r\n$4\r\nPING\r\n", 1);
        assert_eq!(resp, Err(ProtocolError::RespNotSpoken));
        assert_eq!(decode_split(b"GET *\n", 0).unwrap().len(), 1);
    }

    #[test]
    fn every_reply_is_one_line_or_says_how_many_follow() {
        let value = |bytes: &[u8]| Reply::Value(bytes.to_vec());
        let other = ErrorReply::Other("ERR why".into());
        let wrong = ErrorReply::WrongCount {
            command: "GET",
            expected: "1 argument KEY".into(),
        };
        for (reply, text) in [
            (Reply::Ok, &b"+OK\r\n"[..]),
            (Reply::Pong, b"+PONG\r\n"),
            (value(b"v\0\xff"), b"+OK v\0\xff\r\n"),
            (value(b""), b"+OK \r\n"),
            (Reply::Bytes(b"x".to_vec()), b"+OK x\r\n"),
            (Reply::Integer(-3), b"+OK -3\r\n"),
            (Reply::Removed(1), b"+OK\r\n"),
            (
                Reply::NotFound { command: "GET" },
                b"-GET could not find key in store\r\n",
            ),
            (
                Reply::Text(vec!["a".into(), "b".into()]),
                b"+OK 2\r\na\r\nb\r\n",
            ),
            (
                Reply::Error(ErrorReply::UnknownCommand),
                b"-INVALID COMMAND\r\n",
            ),
            (Reply::Error(wrong), b"-GET expected 1 argument KEY\r\n"),
            (Reply::Error(other), b"-ERR why\r\n"),
        ] {
            let mut out = Vec::new();
            encode(&reply, b"\r\n", &mut out);
            assert_eq!(
                out.escape_ascii().to_string(),
                text.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn a_value_with_a_line_break_is_an_error_that_points_to_resp() {
        let mut out = Vec::new();
        encode(&Reply::Value(b"a\nb"), b"\n", &mut out);
        assert!(out.starts_with(b"-ERR") && out.ends_with(b"use RESP\n"));
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
