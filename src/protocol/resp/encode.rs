//! Writes replies in RESP.

use super::RespVersion;
use crate::protocol::{ErrorReply, Output, Reply, double};

/// What a verbatim string says of itself: plain text.
const VERBATIM_PREFIX: &[u8] = b"txt:";

/// Appends `reply`.
pub fn encode<V: AsRef<[u8]>>(reply: Reply<V>, version: RespVersion, out: &mut Output<V>) {
    match reply {
        Reply::Ok => out.push_bytes(b"+OK\r\n"),
        Reply::Pong => out.push_bytes(b"+PONG\r\n"),
        Reply::Status(word) => line(b'+', word, out),
        Reply::Value(value) => {
            header(b'$', value.as_ref().len(), out);
            out.push_value(value);
            out.push_bytes(b"\r\n");
        }
        Reply::Bytes(bytes) => {
            header(b'$', bytes.len(), out);
            out.push_vec(bytes);
            out.push_bytes(b"\r\n");
        }
        Reply::Text(text) => encode_text(text, version, out),
        Reply::Lines(lines) => {
            header(b'*', lines.len(), out);
            for text in lines {
                line(b'+', &text, out);
            }
        }
        Reply::Integer(number) | Reply::Removed(number) => {
            out.push_bytes(b":");
            out.push_number(number);
            out.push_bytes(b"\r\n");
        }
        Reply::Double(number) => {
            let text = double::format(number);
            match version {
                RespVersion::Two => bulk(text.as_bytes(), out),
                RespVersion::Three => line(b',', &text, out),
            }
        }
        Reply::Nil(_) => out.push_bytes(match version {
            RespVersion::Two => b"$-1\r\n",
            RespVersion::Three => b"_\r\n",
        }),
        Reply::Aborted => out.push_bytes(match version {
            RespVersion::Two => b"*-1\r\n",
            RespVersion::Three => b"_\r\n",
        }),
        Reply::Array(replies) => encode_all(b'*', replies, version, out),
        Reply::Set(replies) => match version {
            RespVersion::Two => encode_all(b'*', replies, version, out),
            RespVersion::Three => encode_all(b'~', replies, version, out),
        },
        Reply::Map(pairs) => {
            match version {
                RespVersion::Two => header(b'*', 2 * pairs.len(), out),
                RespVersion::Three => header(b'%', pairs.len(), out),
            }
            for (name, reply) in pairs {
                encode(name, version, out);
                encode(reply, version, out);
            }
        }
        Reply::Error(error) => encode_error(error, out),
    }
}

fn encode_all<V: AsRef<[u8]>>(
    kind: u8,
    replies: Vec<Reply<V>>,
    version: RespVersion,
    out: &mut Output<V>,
) {
    header(kind, replies.len(), out);
    for reply in replies {
        encode(reply, version, out);
    }
}

fn encode_text<V: AsRef<[u8]>>(text: String, version: RespVersion, out: &mut Output<V>) {
    match version {
        RespVersion::Two => header(b'$', text.len(), out),
        RespVersion::Three => {
            header(b'=', VERBATIM_PREFIX.len() + text.len(), out);
            out.push_bytes(VERBATIM_PREFIX);
        }
    }
    out.push_vec(text.into_bytes());
    out.push_bytes(b"\r\n");
}

fn encode_error<V: AsRef<[u8]>>(error: ErrorReply, out: &mut Output<V>) {
    match error {
        ErrorReply::UnknownCommand { preview } => {
            line(b'-', &format!("ERR unknown command {preview}"), out);
        }
        ErrorReply::WrongCount { command, .. } => {
            let command = command.to_ascii_lowercase();
            let text = format!("ERR wrong number of arguments for '{command}' command");
            line(b'-', &text, out);
        }
        ErrorReply::Syntax { .. } => out.push_bytes(b"-ERR syntax error\r\n"),
        ErrorReply::Other(text) => line(b'-', &text, out),
    }
}

fn header<V: AsRef<[u8]>>(kind: u8, len: usize, out: &mut Output<V>) {
    // Most lengths have two or three digits: those go out in one piece, for half of the instructions.
    let digit = |place: usize| b'0' + (len / place % 10) as u8;
    match len {
        10..100 => out.push_bytes(&[kind, digit(10), digit(1), b'\r', b'\n']),
        100..1000 => out.push_bytes(&[kind, digit(100), digit(10), digit(1), b'\r', b'\n']),
        _ => {
            out.push_bytes(&[kind]);
            out.push_number(i64::try_from(len).unwrap_or(i64::MAX));
            out.push_bytes(b"\r\n");
        }
    }
}

fn bulk<V: AsRef<[u8]>>(bytes: &[u8], out: &mut Output<V>) {
    header(b'$', bytes.len(), out);
    out.push_bytes(bytes);
    out.push_bytes(b"\r\n");
}

fn line<V: AsRef<[u8]>>(kind: u8, text: &str, out: &mut Output<V>) {
    out.push_bytes(&[kind]);
    out.push_in_one_line(text);
    out.push_bytes(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use crate::protocol::tests::{drain, encoded};
    use crate::protocol::{Absence, Dialect, ErrorReply, Output, Reply, encode};

    fn value(bytes: &[u8]) -> Reply<Vec<u8>> {
        Reply::Value(bytes.to_vec())
    }

    #[test]
    fn every_reply_in_both_versions() {
        let two = vec![value(b"a"), Reply::Nil(Absence::Plain)];
        let pairs = vec![(value(b"a"), Reply::Integer(1)), (value(b"b"), Reply::Ok)];
        let lines = vec!["a b".into(), "c".into()];
        for (reply, resp2, resp3) in [
            (Reply::Ok, r"+OK\r\n", r"+OK\r\n"),
            (Reply::Pong, r"+PONG\r\n", r"+PONG\r\n"),
            (Reply::Status("QUEUED"), r"+QUEUED\r\n", r"+QUEUED\r\n"),
            (
                value(b"v\n\xff"),
                r"$3\r\nv\n\xff\r\n",
                r"$3\r\nv\n\xff\r\n",
            ),
            (value(b""), r"$0\r\n\r\n", r"$0\r\n\r\n"),
            (
                Reply::Bytes(b"0123456789".into()),
                r"$10\r\n0123456789\r\n",
                r"$10\r\n0123456789\r\n",
            ),
            (
                Reply::Text("a\nb".into()),
                r"$3\r\na\nb\r\n",
                r"=7\r\ntxt:a\nb\r\n",
            ),
            (Reply::Text(String::new()), r"$0\r\n\r\n", r"=4\r\ntxt:\r\n"),
            (
                Reply::Lines(lines),
                r"*2\r\n+a b\r\n+c\r\n",
                r"*2\r\n+a b\r\n+c\r\n",
            ),
            (Reply::Integer(-3), r":-3\r\n", r":-3\r\n"),
            (Reply::Integer(0), r":0\r\n", r":0\r\n"),
            (
                Reply::Integer(i64::MAX),
                r":9223372036854775807\r\n",
                r":9223372036854775807\r\n",
            ),
            (
                Reply::Integer(i64::MIN),
                r":-9223372036854775808\r\n",
                r":-9223372036854775808\r\n",
            ),
            (Reply::Double(1.5), r"$3\r\n1.5\r\n", r",1.5\r\n"),
            (
                Reply::Double(f64::NEG_INFINITY),
                r"$4\r\n-inf\r\n",
                r",-inf\r\n",
            ),
            (Reply::Removed(2), r":2\r\n", r":2\r\n"),
            (
                Reply::Nil(Absence::Key { command: "GET" }),
                r"$-1\r\n",
                r"_\r\n",
            ),
            (
                Reply::Nil(Absence::Condition { command: "SET" }),
                r"$-1\r\n",
                r"_\r\n",
            ),
            (Reply::Nil(Absence::Plain), r"$-1\r\n", r"_\r\n"),
            (Reply::Aborted, r"*-1\r\n", r"_\r\n"),
            (Reply::Array(Vec::new()), r"*0\r\n", r"*0\r\n"),
            (
                Reply::Array(two.clone()),
                r"*2\r\n$1\r\na\r\n$-1\r\n",
                r"*2\r\n$1\r\na\r\n_\r\n",
            ),
            (
                Reply::Set(two),
                r"*2\r\n$1\r\na\r\n$-1\r\n",
                r"~2\r\n$1\r\na\r\n_\r\n",
            ),
            (
                Reply::Map(pairs),
                r"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n+OK\r\n",
                r"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n+OK\r\n",
            ),
        ] {
            assert_eq!(encoded(reply.clone(), Dialect::Resp2), resp2);
            assert_eq!(encoded(reply, Dialect::Resp3), resp3);
        }
    }

    #[test]
    fn an_error_has_valkey_s_words() {
        let preview = "'foo', with args beginning with: 'a' 'b' ".into();
        let (command, expected) = ("GET", "1 argument KEY".to_owned());
        for (error, text) in [
            (
                ErrorReply::UnknownCommand { preview },
                r"-ERR unknown command \'foo\', with args beginning with: \'a\' \'b\' \r\n",
            ),
            (
                ErrorReply::WrongCount {
                    command,
                    expected: expected.clone(),
                },
                r"-ERR wrong number of arguments for \'get\' command\r\n",
            ),
            (
                ErrorReply::WrongCount {
                    command: "client|kill",
                    expected: expected.clone(),
                },
                r"-ERR wrong number of arguments for \'client|kill\' command\r\n",
            ),
            (
                ErrorReply::Syntax { command, expected },
                r"-ERR syntax error\r\n",
            ),
            (ErrorReply::Other("NOAUTH who".into()), r"-NOAUTH who\r\n"),
        ] {
            for dialect in [Dialect::Resp2, Dialect::Resp3] {
                assert_eq!(encoded(Reply::Error(error.clone()), dialect), text);
            }
        }
    }

    #[test]
    fn what_a_client_sent_cannot_end_the_reply_that_shows_it() {
        let preview = "'a\r\n+OK\n', with args beginning with: ".into();
        let reply = Reply::Error(ErrorReply::UnknownCommand { preview });
        assert_eq!(
            encoded(reply, Dialect::Resp2),
            r"-ERR unknown command \'a  +OK \', with args beginning with: \r\n"
        );
    }

    /// What a client makes of a reply.
    #[derive(Debug, Clone, PartialEq)]
    enum Parsed {
        Line(char, String),
        Bulk(char, Vec<u8>),
        List(char, Vec<Parsed>),
        Null(char),
    }

    fn parse_line<'a>(bytes: &mut &'a [u8]) -> (char, &'a str) {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let (line, rest) = bytes.split_at(end);
        *bytes = &rest[2..];
        (
            char::from(line[0]),
            std::str::from_utf8(&line[1..]).unwrap(),
        )
    }

    fn parse(bytes: &mut &[u8]) -> Parsed {
        let (kind, text) = parse_line(bytes);
        match kind {
            '$' | '*' if text == "-1" => Parsed::Null(kind),
            '_' => Parsed::Null(kind),
            '$' | '=' => {
                let (bulk, rest) = bytes.split_at(text.parse().unwrap());
                *bytes = rest.strip_prefix(b"\r\n").unwrap();
                Parsed::Bulk(kind, bulk.to_vec())
            }
            '*' | '~' | '%' => {
                let count = text.parse::<usize>().unwrap() * if kind == '%' { 2 } else { 1 };
                Parsed::List(kind, (0..count).map(|_| parse(bytes)).collect())
            }
            '+' | '-' | ':' | ',' => Parsed::Line(kind, text.into()),
            _ => panic!("{kind} is no type"),
        }
    }

    fn expected(reply: &Reply<Vec<u8>>, three: bool) -> Parsed {
        let all = |replies: &[Reply<_>]| replies.iter().map(|one| expected(one, three)).collect();
        match reply {
            Reply::Value(bytes) | Reply::Bytes(bytes) => Parsed::Bulk('$', bytes.clone()),
            Reply::Text(text) if three => Parsed::Bulk('=', format!("txt:{text}").into()),
            Reply::Text(text) => Parsed::Bulk('$', text.clone().into()),
            Reply::Integer(number) | Reply::Removed(number) => {
                Parsed::Line(':', number.to_string())
            }
            Reply::Nil(_) => Parsed::Null(if three { '_' } else { '$' }),
            Reply::Aborted => Parsed::Null(if three { '_' } else { '*' }),
            Reply::Array(replies) => Parsed::List('*', all(replies)),
            Reply::Set(replies) => Parsed::List(if three { '~' } else { '*' }, all(replies)),
            Reply::Map(pairs) => {
                let flat: Vec<_> = pairs.iter().cloned().flat_map(<[_; 2]>::from).collect();
                Parsed::List(if three { '%' } else { '*' }, all(&flat))
            }
            Reply::Error(ErrorReply::Other(text)) => {
                Parsed::Line('-', text.replace(['\r', '\n'], " "))
            }
            _ => Parsed::Line('+', "OK".into()),
        }
    }

    fn any_reply() -> impl Strategy<Value = Reply<Vec<u8>>> {
        let bytes = prop_oneof![9 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 20_000)];
        let leaf = prop_oneof![
            Just(Reply::Ok),
            Just(Reply::Aborted),
            Just(Reply::Nil(Absence::Plain)),
            bytes.clone().prop_map(Reply::Value),
            bytes.prop_map(Reply::Bytes),
            any::<String>().prop_map(Reply::Text),
            any::<i64>().prop_map(Reply::Integer),
            any::<i64>().prop_map(Reply::Removed),
            any::<String>().prop_map(|text| Reply::Error(ErrorReply::Other(text.into()))),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..5).prop_map(Reply::Array),
                vec(inner.clone(), 0..5).prop_map(Reply::Set),
                vec((inner.clone(), inner), 0..4).prop_map(Reply::Map),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_client_reads_back_what_was_written(replies in vec(any_reply(), 1..4), three: bool) {
            let dialect = if three { Dialect::Resp3 } else { Dialect::Resp2 };
            let mut out = Output::new();
            for reply in &replies {
                encode(reply.clone(), dialect, &mut out);
            }
            let bytes = drain(&mut out);
            let mut rest = &bytes[..];
            for reply in &replies {
                prop_assert_eq!(parse(&mut rest), expected(reply, three));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn a_line_client_gets_as_many_lines_as_it_was_told(reply in any_reply(), cr: bool) {
            let (dialect, end) = if cr {
                (Dialect::LineCrLf, &b"\r\n"[..])
            } else {
                (Dialect::Line, &b"\n"[..])
            };
            let list = matches!(
                reply,
                Reply::Array(_) | Reply::Set(_) | Reply::Map(_) | Reply::Text(_)
            );
            let mut out = Output::new();
            encode(reply, dialect, &mut out);
            let bytes = drain(&mut out);
            prop_assert!(bytes.ends_with(end));
            let mut lines = bytes.split(|byte| *byte == b'\n');
            let first = lines.next().unwrap();
            let told = if list {
                let text = std::str::from_utf8(&first[4..]).unwrap();
                text.trim_end().parse::<usize>().unwrap()
            } else {
                0
            };
            // What is behind the last line break is no line.
            prop_assert_eq!(lines.count() - 1, told);
        }
    }
}
