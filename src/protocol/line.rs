//! The line protocol, as post-go-res has it: `SET key value`, `+OK`.
//!
//! A request ends with `\n` or `\r\n` and its reply ends the same way. Fields are split at runs of
//! spaces and tabs; there is no quoting; blank lines are skipped. Fields are bytes, not text.

use super::{Absence, Args, Dialect, ErrorReply, Output, ProtocolError, Reply, double};

/// The longest line, in bytes, its line break not counted.
pub const MAX_LINE_LEN: usize = 1 << 20;

const HOLDS_LINE_BREAK: &[u8] =
    b"-ERR the value holds a line break, which a line cannot show: use RESP";

/// Finds lines. Remembers how far it has looked, so that a long line that comes in small pieces
/// is not searched from its start each time.
#[derive(Debug, Clone, Default)]
pub struct LineDecoder {
    searched: usize,
}

impl LineDecoder {
    /// Finds the fields of the first line of `bytes` (none, if it is blank), how it is to be answered
    /// and its length with its line break; `None` while there is no line break. What `args` hold
    /// before is lost.
    pub fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
        args: &mut Args<'a>,
    ) -> Result<Option<(Dialect, usize)>, ProtocolError> {
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
        args.clear();
        args.extend(fields.filter(|field| !field.is_empty()));
        Ok(Some((dialect, len + 1)))
    }
}

/// Appends `reply` and `line_break`.
pub fn encode<V: AsRef<[u8]>>(reply: Reply<V>, line_break: &[u8], out: &mut Output<V>) {
    match reply {
        Reply::Ok | Reply::Removed(_) => out.push_bytes(b"+OK"),
        Reply::Pong => out.push_bytes(b"+PONG"),
        Reply::Status(word) => {
            out.push_bytes(b"+");
            out.push_in_one_line(word);
        }
        Reply::Nil(absence) => encode_absence(absence, out),
        Reply::Text(_) | Reply::Lines(_) | Reply::Array(_) | Reply::Map(_) | Reply::Set(_) => {
            out.push_bytes(b"+OK ");
            out.push_number(i64::try_from(count_lines(&reply)).unwrap_or(i64::MAX));
            encode_lines(reply, line_break, out);
        }
        one => encode_element(one, b"+OK ", out),
    }
    out.push_bytes(line_break);
}

/// How many lines [`encode_lines`] makes of a reply.
fn count_lines<V>(reply: &Reply<V>) -> usize {
    match reply {
        Reply::Text(text) => text.lines().count(),
        Reply::Lines(lines) => lines.len(),
        Reply::Array(replies) | Reply::Set(replies) => replies.iter().map(count_lines).sum(),
        Reply::Map(pairs) => {
            let count = |(name, reply): &(_, _)| count_lines(name) + count_lines(reply);
            pairs.iter().map(count).sum()
        }
        _ => 1,
    }
}

/// Appends each element of a reply as a line, those within its elements too. Each line comes
/// behind `line_break`.
fn encode_lines<V: AsRef<[u8]>>(reply: Reply<V>, line_break: &[u8], out: &mut Output<V>) {
    match reply {
        Reply::Text(text) => {
            for line in text.lines() {
                out.push_bytes(line_break);
                out.push_in_one_line(line);
            }
        }
        Reply::Lines(lines) => {
            for line in lines {
                out.push_bytes(line_break);
                out.push_in_one_line(&line);
            }
        }
        Reply::Array(replies) | Reply::Set(replies) => {
            for reply in replies {
                encode_lines(reply, line_break, out);
            }
        }
        Reply::Map(pairs) => {
            for (name, reply) in pairs {
                encode_lines(name, line_break, out);
                encode_lines(reply, line_break, out);
            }
        }
        element => {
            out.push_bytes(line_break);
            encode_element(element, b"", out);
        }
    }
}

/// Appends what a reply that is no list has on its line, a value or a number behind `prefix`.
fn encode_element<V: AsRef<[u8]>>(reply: Reply<V>, prefix: &[u8], out: &mut Output<V>) {
    match reply {
        Reply::Ok | Reply::Removed(_) => out.push_bytes(b"OK"),
        Reply::Pong => out.push_bytes(b"PONG"),
        Reply::Status(word) => out.push_in_one_line(word),
        Reply::Value(value) if holds_line_break(value.as_ref()) => {
            out.push_bytes(HOLDS_LINE_BREAK);
        }
        Reply::Value(value) => {
            out.push_bytes(prefix);
            out.push_value(value);
        }
        Reply::Bytes(bytes) if holds_line_break(&bytes) => out.push_bytes(HOLDS_LINE_BREAK),
        Reply::Bytes(bytes) => {
            out.push_bytes(prefix);
            out.push_vec(bytes);
        }
        Reply::Integer(number) => {
            out.push_bytes(prefix);
            out.push_number(number);
        }
        Reply::Double(number) => {
            out.push_bytes(prefix);
            out.push_in_one_line(&double::format(number));
        }
        Reply::Nil(_) => out.push_bytes(b"(nil)"),
        Reply::Aborted => out.push_bytes(b"-EXEC aborted: a watched key was changed"),
        Reply::Error(error) => encode_error(error, out),
        // Lists, whose elements `encode_lines` has taken apart.
        Reply::Text(_) | Reply::Lines(_) | Reply::Array(_) | Reply::Map(_) | Reply::Set(_) => {}
    }
}

fn holds_line_break(bytes: &[u8]) -> bool {
    memchr::memchr(b'\n', bytes).is_some()
}

fn encode_absence<V: AsRef<[u8]>>(absence: Absence, out: &mut Output<V>) {
    match absence {
        Absence::Key { command } => {
            out.push_in_one_line(&format!("-{command} could not find key in store"));
        }
        Absence::Condition { command } => {
            out.push_in_one_line(&format!("-{command} condition was not met"));
        }
        Absence::Plain => out.push_bytes(b"-NIL"),
    }
}

fn encode_error<V: AsRef<[u8]>>(error: ErrorReply, out: &mut Output<V>) {
    match error {
        ErrorReply::UnknownCommand { .. } => out.push_bytes(b"-INVALID COMMAND"),
        ErrorReply::Syntax { expected, .. } if expected.is_empty() => {
            out.push_bytes(b"-ERR syntax error");
        }
        ErrorReply::WrongCount { command, expected } | ErrorReply::Syntax { command, expected } => {
            out.push_in_one_line(&format!("-{command} expected {expected}"));
        }
        ErrorReply::Other(text) => {
            out.push_bytes(b"-");
            out.push_in_one_line(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::{decode_split, encoded, request};

    #[test]
    fn fields_are_split_at_runs_of_blanks() {
        let bytes = b"SET a 1\r\n\n  \t\r\n\tGET \t a  \nDEL\0 \xff\r\r\nleft over";
        let expected = vec![
            request(&[b"SET", b"a", b"1"], Dialect::LineCrLf),
            request(&[b"GET", b"a"], Dialect::Line),
            request(&[b"DEL\0", b"\xff\r"], Dialect::LineCrLf),
        ];
        for split in 0..=bytes.len() {
            assert_eq!(decode_split(bytes, split), (expected.clone(), None));
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        let too_long = Some(ProtocolError::LineTooLong);
        for line_break in [&b"\n"[..], b"\r\n"] {
            let longest = [&vec![b'x'; MAX_LINE_LEN][..], line_break].concat();
            for at in [5, MAX_LINE_LEN, MAX_LINE_LEN + 1] {
                assert_eq!(decode_split(&longest, at).0.len(), 1);
            }
            let longer = [&vec![b'x'; MAX_LINE_LEN + 1][..], line_break].concat();
            for at in [5, MAX_LINE_LEN, MAX_LINE_LEN + 1, MAX_LINE_LEN + 2] {
                assert_eq!(decode_split(&longer, at).1, too_long);
            }
        }
        let endless = vec![b'x'; MAX_LINE_LEN + 2];
        assert_eq!(decode_split(&endless, 5).1, too_long);
    }

    fn value(bytes: &[u8]) -> Reply<Vec<u8>> {
        Reply::Value(bytes.to_vec())
    }

    #[test]
    fn every_reply_is_one_line_or_says_how_many_follow() {
        let key = Absence::Key { command: "GET" };
        let condition = Absence::Condition { command: "SET" };
        for (reply, text) in [
            (Reply::Ok, "+OK"),
            (Reply::Pong, "+PONG"),
            (Reply::Status("QUEUED"), "+QUEUED"),
            (value(b"v\0\xff"), r"+OK v\x00\xff"),
            (value(b""), "+OK "),
            (Reply::Bytes(b"x".to_vec()), "+OK x"),
            (
                Reply::Text("a: 1\r\n\r\nb\nc".into()),
                r"+OK 4\r\na: 1\r\n\r\nb\r\nc",
            ),
            (Reply::Text("a\n".into()), r"+OK 1\r\na"),
            (Reply::Text(String::new()), "+OK 0"),
            (
                Reply::Lines(vec!["a".into(), "b".into()]),
                r"+OK 2\r\na\r\nb",
            ),
            (Reply::Integer(-3), "+OK -3"),
            (Reply::Integer(i64::MIN), "+OK -9223372036854775808"),
            (Reply::Double(0.5), "+OK 0.5"),
            (Reply::Removed(1), "+OK"),
            (Reply::Nil(key), "-GET could not find key in store"),
            (Reply::Nil(condition), "-SET condition was not met"),
            (Reply::Nil(Absence::Plain), "-NIL"),
            (Reply::Aborted, "-EXEC aborted: a watched key was changed"),
            (Reply::Array(Vec::new()), "+OK 0"),
            (
                Reply::Array(vec![value(b"a"), Reply::Nil(key)]),
                r"+OK 2\r\na\r\n(nil)",
            ),
            (Reply::Set(vec![value(b"a")]), r"+OK 1\r\na"),
            (
                Reply::Map(vec![(value(b"a"), Reply::Integer(1))]),
                r"+OK 2\r\na\r\n1",
            ),
        ] {
            assert_eq!(
                encoded(reply.clone(), Dialect::LineCrLf),
                format!(r"{text}\r\n")
            );
            let with_lf = format!(r"{text}\n").replace(r"\r\n", r"\n");
            assert_eq!(encoded(reply, Dialect::Line), with_lf);
        }
    }

    #[test]
    fn an_error_is_a_line_with_a_minus() {
        let error = |error| encoded(Reply::Error(error), Dialect::Line);
        let preview = "'foo', with args beginning with: ".to_owned();
        assert_eq!(
            error(ErrorReply::UnknownCommand { preview }),
            r"-INVALID COMMAND\n"
        );
        let (command, expected) = ("GET", "1 argument KEY".to_owned());
        assert_eq!(
            error(ErrorReply::WrongCount { command, expected }),
            r"-GET expected 1 argument KEY\n"
        );
        let (command, expected) = ("SET", "2 arguments KEY and VALUE".to_owned());
        assert_eq!(
            error(ErrorReply::Syntax { command, expected }),
            r"-SET expected 2 arguments KEY and VALUE\n"
        );
        let expected = String::new();
        assert_eq!(
            error(ErrorReply::Syntax { command, expected }),
            r"-ERR syntax error\n"
        );
        assert_eq!(
            error(ErrorReply::Other("ERR no\r\n+OK".into())),
            r"-ERR no  +OK\n"
        );
    }

    #[test]
    fn the_elements_of_elements_are_lines_of_the_same_list() {
        let reply = Reply::Array(vec![
            Reply::Ok,
            Reply::Removed(1),
            Reply::Pong,
            Reply::Status("string"),
            value(b"v"),
            Reply::Array(vec![
                value(b"inner"),
                Reply::Array(Vec::new()),
                Reply::Integer(-1),
            ]),
            Reply::Map(vec![(
                value(b"k"),
                Reply::Set(vec![value(b"a"), value(b"b")]),
            )]),
            Reply::Text("l\nm\n".into()),
            Reply::Lines(vec!["n".into()]),
            Reply::Double(1.5),
            Reply::Nil(Absence::Plain),
            Reply::Aborted,
            Reply::Error(ErrorReply::Other("ERR why".into())),
            value(b"two\nlines"),
        ]);
        let lines = [
            "+OK 19",
            "OK",
            "OK",
            "PONG",
            "string",
            "v",
            "inner",
            "-1",
            "k",
            "a",
            "b",
            "l",
            "m",
            "n",
            "1.5",
            "(nil)",
            "-EXEC aborted: a watched key was changed",
            "-ERR why",
            "-ERR the value holds a line break, which a line cannot show: use RESP",
            "",
        ];
        // The first line is not one of those that it counts.
        let expected = lines
            .join(r"\n")
            .replace("+OK 19", &format!("+OK {}", lines.len() - 2));
        assert_eq!(encoded(reply, Dialect::Line), expected);
    }

    #[test]
    fn a_value_with_a_line_break_is_an_error_that_points_to_resp() {
        let error = r"-ERR the value holds a line break, which a line cannot show: use RESP\n";
        assert_eq!(encoded(value(b"a\nb"), Dialect::Line), error);
        assert_eq!(encoded(Reply::Bytes(b"\n".to_vec()), Dialect::Line), error);
    }
}
