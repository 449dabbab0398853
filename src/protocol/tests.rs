//! Tests of the protocols together, and what the tests of each share.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Requests as they outlive their bytes.
pub(super) type Decoded = Vec<Owned>;

type Owned = (Vec<Vec<u8>>, Dialect);

/// Decodes pieces as a connection does, up to the first error.
pub(super) fn decode_pieces(
    mut decoder: Decoder,
    pieces: &[&[u8]],
) -> (Decoded, Option<ProtocolError>) {
    let (mut buffer, mut decoded) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let (request, taken) = match decoder.decode(&buffer) {
                Ok(found) => found,
                Err(error) => {
                    assert_eq!(decoder.decode(&buffer), Err(error), "the error stays");
                    return (decoded, Some(error));
                }
            };
            let request = request.map(|request| {
                assert!(!request.args.is_empty());
                let args = request.args.iter().map(|arg| arg.to_vec()).collect();
                (args, request.dialect)
            });
            let done = request.is_none();
            decoded.extend(request);
            buffer.drain(..taken);
            if done {
                break;
            }
        }
    }
    (decoded, None)
}

/// Decodes bytes that come in two pieces.
pub(super) fn decode_split(bytes: &[u8], at: usize) -> (Decoded, Option<ProtocolError>) {
    let (first, second) = bytes.split_at(at);
    decode_pieces(Decoder::default(), &[first, second])
}

pub(super) fn request(args: &[&[u8]], dialect: Dialect) -> Owned {
    (args.iter().map(|arg| arg.to_vec()).collect(), dialect)
}

/// What a reply looks like, escaped.
pub(super) fn encoded(reply: Reply<Vec<u8>>, dialect: Dialect) -> String {
    let mut out = Output::new();
    encode(reply, dialect, &mut out);
    drain(&mut out).escape_ascii().to_string()
}

pub(super) fn drain<V: AsRef<[u8]>>(out: &mut Output<V>) -> Vec<u8> {
    let mut drained = Vec::new();
    while !out.is_empty() {
        let slices = out.io_slices();
        let before = drained.len();
        slices
            .iter()
            .for_each(|slice| drained.extend_from_slice(slice));
        let written = drained.len() - before;
        assert!(
            written > 0,
            "nothing to write of an output that is not empty"
        );
        drop(slices);
        out.advance(written);
    }
    drained
}

fn push_request(args: &[Vec<u8>], bytes: &mut Vec<u8>) {
    bytes.extend(format!("*{}\r\n", args.len()).bytes());
    for arg in args {
        bytes.extend(format!("${}\r\n", arg.len()).bytes());
        bytes.extend(arg);
        bytes.extend(b"\r\n");
    }
}

/// A pipeline with all that a connection can meet.
fn corpus() -> (Vec<u8>, Decoded) {
    let bytes = [
        &b"SET a 1\r\n\n  \t\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n"[..],
        b"*0\r\n*-1\r\n*-9223372036854775808\r\n\tGET \t *a  \n",
        b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$12\r\n\r\n*1\r\n$0\0\xff\n\r\r\n",
        b"*1\r\n$0\r\n\r\n\r\n*5\r\n$1\r\n*\r\n$1\r\n$\r\n$2\r\n\r\n\r\n$1\r\n\r\r\n$1\r\n\n\r\n",
        b"DEL\0 \xff\r\r\n*1\r\n$10\r\n0123456789\r\n*2\r\n$4\r\nleft\r\n$4\r\nove",
    ]
    .concat();
    let expected = vec![
        request(&[b"SET", b"a", b"1"], Dialect::LineCrLf),
        request(&[b"GET", b"a"], Dialect::Resp2),
        request(&[b"GET", b"*a"], Dialect::Line),
        request(&[b"SET", b"", b"\r\n*1\r\n$0\0\xff\n\r"], Dialect::Resp2),
        request(&[b""], Dialect::Resp2),
        request(&[b"*", b"$", b"\r\n", b"\r", b"\n"], Dialect::Resp2),
        request(&[b"DEL\0", b"\xff\r"], Dialect::LineCrLf),
        request(&[b"0123456789"], Dialect::Resp2),
    ];
    (bytes, expected)
}

#[test]
fn requests_are_the_same_wherever_the_bytes_are_split() {
    let (bytes, expected) = corpus();
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            let decoded = decode_pieces(Decoder::default(), &pieces);
            assert_eq!(
                decoded,
                (expected.clone(), None),
                "split at {first} and {second}"
            );
        }
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode_pieces(Decoder::default(), &single), (expected, None));
}

#[test]
fn a_client_may_change_between_lines_and_resp_at_every_request() {
    let bytes = b"PING\n*1\r\n$4\r\nPING\r\nPING\r\n";
    let dialects: Vec<Dialect> = decode_split(bytes, 7).0.iter().map(|one| one.1).collect();
    assert_eq!(dialects, [Dialect::Line, Dialect::Resp2, Dialect::LineCrLf]);
}

#[test]
fn the_version_spoken_goes_for_requests_in_resp_from_then_on() {
    let mut decoder = Decoder::default();
    let bytes = b"*1\r\n$4\r\nPING\r\nPING\n";
    for (version, dialect) in [
        (RespVersion::Three, Dialect::Resp3),
        (RespVersion::Two, Dialect::Resp2),
    ] {
        decoder.speak(version);
        let (request, taken) = decoder.decode(bytes).unwrap();
        assert_eq!(request.unwrap().dialect, dialect);
        let (request, _) = decoder.decode(&bytes[taken..]).unwrap();
        assert_eq!(request.unwrap().dialect, Dialect::Line);
    }
}

#[test]
fn an_error_is_told_in_the_language_that_was_broken() {
    for (bytes, dialect, text) in [
        (
            &b"*x\r\n"[..],
            Dialect::Resp2,
            "ERR Protocol error: invalid multibulk length",
        ),
        (
            &[b'x'; line::MAX_LINE_LEN + 2],
            Dialect::Line,
            "ERR line is longer than 1048576 bytes",
        ),
    ] {
        let error = decode_split(bytes, 0).1.unwrap();
        assert_eq!((error.dialect(), error.to_string()), (dialect, text.into()));
    }
}

#[test]
fn nothing_is_found_behind_an_error() {
    for bytes in [&b"*0\r\n*1\r\nx\r\n"[..], b"\n*1\r\nx\r\n"] {
        let mut decoder = Decoder::default();
        let error = decoder.decode(bytes).unwrap_err();
        assert_eq!(decoder.decode(bytes), Err(error));
        assert_eq!(decoder.decode(b"PING\n"), Err(error));
    }
}

#[test]
fn a_reply_that_nobody_wants_is_not_written() {
    assert_eq!(encoded(Reply::Pong, Dialect::Silent), "");
}

/// One request, or what is passed over between requests, as bytes and as what is to be found.
fn any_message() -> impl Strategy<Value = (Vec<u8>, Option<Owned>)> {
    let word = vec(any::<u8>(), 1..9).prop_map(|mut word| {
        word.retain(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        word.push(b'x');
        word
    });
    let line = vec(word, 1..4).prop_filter("RESP", |words| words[0][0] != b'*');
    let resp = vec(vec(any::<u8>(), 0..40), 1..6);
    prop_oneof![
        3 => resp.prop_map(|args| {
            let mut bytes = Vec::new();
            push_request(&args, &mut bytes);
            (bytes, Some((args, Dialect::Resp2)))
        }),
        2 => (line, any::<bool>()).prop_map(|(words, cr)| {
            let (dialect, end) = if cr { (Dialect::LineCrLf, &b"\r\n"[..]) } else { (Dialect::Line, &b"\n"[..]) };
            ([&words.join(&b' ')[..], end].concat(), Some((words, dialect)))
        }),
        1 => prop::sample::select(vec![&b"\n"[..], b"\r\n", b" \t\n", b"*0\r\n", b"*-1\r\n"])
            .prop_map(|bytes| (bytes.to_vec(), None)),
    ]
}

/// Bytes that get further into a decoder than those of pure chance.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        &b"*"[..],
        b"$",
        b"\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"0",
        b"1",
        b"2",
        b"3",
        b"-",
        b"+",
        b" ",
        b"x",
        b"\xff",
        b"\0",
        b"*1\r\n",
        b"*2\r\n$1\r\n",
        b"$2\r\nab\r\n",
        b"GET k\n",
    ]);
    vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

fn split<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for cut in cuts {
        pieces.push(&bytes[from..cut]);
        from = cut;
    }
    pieces.push(&bytes[from..]);
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_encoded_is_decoded_under_any_splitting(
        messages in vec(any_message(), 0..8),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let expected: Decoded = messages.into_iter().filter_map(|(_, request)| request).collect();
        let decoded = decode_pieces(Decoder::default(), &split(&bytes, &cuts));
        prop_assert_eq!(decoded, (expected, None));
    }

    #[test]
    fn any_bytes_give_the_same_requests_and_the_same_error_under_any_splitting(
        bytes in prop_oneof![any_bytes(), vec(any::<u8>(), 0..60)],
        cuts in vec(any::<prop::sample::Index>(), 0..8),
        trusted: bool,
    ) {
        let mut decoder = Decoder::default();
        decoder.trust(trusted);
        let whole = decode_pieces(decoder.clone(), &[&bytes]);
        let pieces = decode_pieces(decoder, &split(&bytes, &cuts));
        prop_assert_eq!(whole, pieces);
    }
}
