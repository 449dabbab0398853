//! Finds requests in RESP.

use smallvec::SmallVec;

use super::short::short;
use crate::protocol::Args;

/// The longest element, in bytes.
pub const MAX_BULK_LEN: usize = 512 << 20;
/// The most elements of a request.
pub const MAX_ELEMENTS: usize = 1 << 20;
/// The longest request, in bytes. Elements may each be as long as they may and still be too much
/// together: a request is held whole until it was carried out.
pub const MAX_REQUEST_LEN: usize = 1 << 30;
/// The longest count or length, in bytes, its line break not counted.
pub const MAX_HEADER_LEN: usize = 64 << 10;
/// The longest element of a client that has not given its password.
pub const MAX_UNTRUSTED_BULK_LEN: usize = 16 << 10;
/// The most elements of a request of such a client.
pub const MAX_UNTRUSTED_ELEMENTS: usize = 10;

pub(super) const LINE_BREAK: &[u8] = b"\r\n";

/// Why bytes are not a request, in Valkey's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// No line break within [`MAX_HEADER_LEN`] behind `*`.
    #[error("too big mbulk count string")]
    CountTooLong,
    /// The count is no number, or above [`MAX_ELEMENTS`].
    #[error("invalid multibulk length")]
    InvalidCount,
    /// The count is above [`MAX_UNTRUSTED_ELEMENTS`].
    #[error("unauthenticated multibulk length")]
    UntrustedCount,
    /// No line break within [`MAX_HEADER_LEN`] where an element begins.
    #[error("too big bulk count string")]
    LenTooLong,
    /// An element that does not begin with `$`.
    #[error("expected '$', got '{}'", shown(*.0))]
    NotBulk(u8),
    /// An element's length is no number, negative, or above [`MAX_BULK_LEN`].
    #[error("invalid bulk length")]
    InvalidLen,
    /// An element's length is above [`MAX_UNTRUSTED_BULK_LEN`].
    #[error("unauthenticated bulk length")]
    UntrustedLen,
    /// Anything but `\r\n` where only that can be.
    #[error("invalid CRLF in request")]
    InvalidLineBreak,
    /// The elements are together longer than [`MAX_REQUEST_LEN`].
    #[error("too big request")]
    RequestTooLong,
}

/// A byte as an error shows it: in one line, and as text.
fn shown(byte: u8) -> String {
    match byte {
        b'\r' | b'\n' => " ".into(),
        _ if byte == b' ' || byte.is_ascii_graphic() => char::from(byte).into(),
        _ => byte.escape_ascii().to_string(),
    }
}

/// Where an element lies in its request. Requests are far shorter than 4 GiB.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

const _: () = assert!(MAX_REQUEST_LEN < u32::MAX as usize);

/// Finds requests. Remembers the elements that it has found, so that a request that comes in many
/// pieces is read once. What it remembers grows with what has arrived, not with what a client
/// says will come.
#[derive(Debug, Clone, Default)]
pub struct RespDecoder {
    untrusted: bool,
    /// What it knows of a request that is not complete, if anything. In a box, since almost all requests
    /// come whole.
    partial: Option<Box<Partial>>,
}

/// What is known of a request of which not all is there, or that is being read.
#[derive(Debug, Clone, Default)]
struct Partial {
    untrusted: bool,
    /// Where to go on: everything before this offset is understood.
    at: usize,
    /// The bytes behind `at` among which there is no `\r`.
    searched: usize,
    /// How many elements are missing; 0 where their count is not known.
    missing: usize,
    /// The length of the element whose bytes begin at `at`, where it is known.
    bulk: Option<usize>,
    /// How many bytes that element and its line break lack.
    wanted: usize,
    found: SmallVec<[Span; 4]>,
}

impl RespDecoder {
    /// See [`Decoder::trust`](crate::protocol::Decoder::trust).
    pub fn trust(&mut self, authenticated: bool) {
        self.untrusted = !authenticated;
    }

    /// Whether the client may send requests of any size.
    pub fn trusts(&self) -> bool {
        !self.untrusted
    }

    /// See [`Decoder::wanted`](crate::protocol::Decoder::wanted).
    pub fn wanted(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.wanted)
    }

    /// Finds the elements of the request that `bytes` begin with, and its length, if it is short, as almost all are,
    /// and nothing is known of it yet. What is anything else is for [`decode`](Self::decode). What `args` hold before
    /// is lost.
    #[inline]
    pub fn decode_short<'a>(&self, bytes: &'a [u8], args: &mut Args<'a>) -> Option<usize> {
        args.clear();
        match self.partial {
            None => short(bytes, args),
            Some(_) => None,
        }
    }

    /// Finds the elements of the request that `bytes` begin with, and its length; `None` while it is
    /// not complete. No elements is a request too, and asks for nothing. Not to be called after an error.
    /// What `args` hold before is lost, and where no request is found, means nothing afterwards.
    pub fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
        args: &mut Args<'a>,
    ) -> Result<Option<usize>, RespError> {
        let Some(partial) = &mut self.partial else {
            let mut partial = Partial::of(self.untrusted);
            let found = partial.decode(bytes, args);
            if let Ok(None) = found {
                self.partial = Some(Box::new(partial));
            }
            return found;
        };
        partial.untrusted = self.untrusted;
        let found = partial.decode(bytes, args);
        if !matches!(found, Ok(None)) {
            self.partial = None;
        }
        found
    }

    /// See [`Decoder::start_over`](crate::protocol::Decoder::start_over).
    pub fn start_over(&mut self) {
        self.partial = None;
    }
}

impl Partial {
    /// Nothing is known yet.
    fn of(untrusted: bool) -> Self {
        Self {
            untrusted,
            ..Self::default()
        }
    }

    /// Goes on where it stopped.
    fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
        args: &mut Args<'a>,
    ) -> Result<Option<usize>, RespError> {
        if self.missing == 0 {
            match self.count(bytes)? {
                None => return Ok(None),
                Some(count) => self.missing = count,
            }
        }
        while self.missing > 0 {
            if !self.element(bytes)? {
                return Ok(None);
            }
        }
        let element = |span: &Span| {
            let (start, len) = (span.start as usize, span.len as usize);
            bytes.get(start..start + len).unwrap_or_default()
        };
        args.clear();
        args.extend(self.found.iter().map(element));
        Ok(Some(self.at))
    }

    /// The number of elements, once it is there; less than none is none.
    fn count(&mut self, bytes: &[u8]) -> Result<Option<usize>, RespError> {
        let Some(header) = self.header(bytes, RespError::CountTooLong)? else {
            return Ok(None);
        };
        let count = header.number(RespError::InvalidCount)?;
        let count = usize::try_from(count.max(0)).map_err(|_| RespError::InvalidCount)?;
        if count > MAX_ELEMENTS {
            return Err(RespError::InvalidCount);
        }
        if self.untrusted && count > MAX_UNTRUSTED_ELEMENTS {
            return Err(RespError::UntrustedCount);
        }
        self.go_on(header.len);
        Ok(Some(count))
    }

    /// Takes the element at `at`; `false` while it is not complete.
    fn element(&mut self, bytes: &[u8]) -> Result<bool, RespError> {
        if self.bulk.is_none() {
            self.bulk = self.bulk_len(bytes)?;
        }
        let Some(len) = self.bulk else {
            return Ok(false);
        };
        // Neither sum exceeds `MAX_REQUEST_LEN`.
        let end = self.at + len;
        let whole = end + LINE_BREAK.len();
        let Some(line_break) = bytes.get(end..whole) else {
            self.wanted = whole.saturating_sub(bytes.len());
            return Ok(false);
        };
        if line_break != LINE_BREAK {
            return Err(RespError::InvalidLineBreak);
        }
        self.found.push(Span {
            start: u32::try_from(self.at).unwrap_or(u32::MAX),
            len: u32::try_from(len).unwrap_or(u32::MAX),
        });
        self.missing -= 1;
        self.bulk = None;
        self.wanted = 0;
        self.go_on(whole - self.at);
        Ok(true)
    }

    /// The length of the element at `at`, once it is there.
    fn bulk_len(&mut self, bytes: &[u8]) -> Result<Option<usize>, RespError> {
        let Some(header) = self.header(bytes, RespError::LenTooLong)? else {
            return Ok(None);
        };
        if header.first != b'$' {
            return Err(RespError::NotBulk(header.first));
        }
        let len = header.number(RespError::InvalidLen)?;
        let len = usize::try_from(len).map_err(|_| RespError::InvalidLen)?;
        if len > MAX_BULK_LEN {
            return Err(RespError::InvalidLen);
        }
        if self.untrusted && len > MAX_UNTRUSTED_BULK_LEN {
            return Err(RespError::UntrustedLen);
        }
        if self.at + header.len + len + LINE_BREAK.len() > MAX_REQUEST_LEN {
            return Err(RespError::RequestTooLong);
        }
        self.go_on(header.len);
        Ok(Some(len))
    }

    fn go_on(&mut self, len: usize) {
        self.at += len;
        self.searched = 0;
    }

    /// The line at `at`, once it is there with its line break.
    ///
    /// What is too long does not depend on how the bytes were split: neither on whether the line
    /// break had arrived, nor on where the search was left off.
    fn header<'a>(
        &mut self,
        bytes: &'a [u8],
        too_long: RespError,
    ) -> Result<Option<Header<'a>>, RespError> {
        /// Almost every count and length is shorter: not worth setting up a search.
        const NEAR: usize = 8;
        let rest = bytes.get(self.at..).unwrap_or_default();
        // One byte more may be the line break's.
        let searchable = rest.get(..=MAX_HEADER_LEN).unwrap_or(rest);
        let unseen = searchable.get(self.searched..).unwrap_or_default();
        let near = unseen.iter().take(NEAR).position(|byte| *byte == b'\r');
        let Some(found) = near.or_else(|| memchr::memchr(b'\r', unseen)) else {
            if rest.len() > MAX_HEADER_LEN {
                return Err(too_long);
            }
            self.searched = rest.len();
            return Ok(None);
        };
        let end = self.searched + found;
        let (Some(line), Some(last)) = (rest.get(..end), rest.get(end + 1)) else {
            self.searched = end;
            return Ok(None);
        };
        // An empty line has its own line break where its first byte would be.
        let (first, digits) = line.split_first().unwrap_or((&b'\r', &[]));
        Ok(Some(Header {
            first: *first,
            digits,
            ends_well: *last == b'\n',
            len: end + LINE_BREAK.len(),
        }))
    }
}

/// The line of a count or a length.
struct Header<'a> {
    first: u8,
    digits: &'a [u8],
    ends_well: bool,
    /// With its line break.
    len: usize,
}

impl Header<'_> {
    fn number(&self, otherwise: RespError) -> Result<i64, RespError> {
        if !self.ends_well {
            return Err(RespError::InvalidLineBreak);
        }
        number(self.digits).ok_or(otherwise)
    }
}

/// A number in its one and only spelling: no plus sign, no leading zero, no `-0`, no space.
fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        b"0" => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.first() == Some(&b'0') || digits.is_empty() {
        return None;
    }
    // Below zero there is one number more than above it, so the sum is taken there.
    let below_zero = digits.iter().try_fold(0_i64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_sub(digit)
    })?;
    if negative {
        Some(below_zero)
    } else {
        below_zero.checked_neg()
    }
}

#[cfg(test)]
mod tests {
    use super::super::short::SHORT;
    use super::*;
    use crate::protocol::tests::{decode_pieces, decode_split};
    use crate::protocol::{Decoder, ProtocolError};

    type Found<'a> = Result<Option<(Args<'a>, usize)>, RespError>;

    /// Decodes as a connection does whose last request was another.
    fn decode<'a>(decoder: &mut RespDecoder, bytes: &'a [u8]) -> Found<'a> {
        let mut args = Args::from_slice(&[b"left", b"over"]);
        let short = decoder.decode_short(bytes, &mut args);
        let taken =
            short.map_or_else(|| decoder.decode(bytes, &mut args), |taken| Ok(Some(taken)))?;
        Ok(taken.map(|taken| (args, taken)))
    }

    /// The error that a client would see without `ERR Protocol error: `, or that there is none.
    fn error_of(bytes: &[u8], trusted: bool) -> String {
        let mut decoder = Decoder::default();
        decoder.trust(trusted);
        let halves = bytes.split_at(bytes.len() / 2);
        let error = decode_pieces(decoder.clone(), &[bytes]).1;
        assert_eq!(
            decode_pieces(decoder.clone(), &[halves.0, halves.1]).1,
            error
        );
        error.map_or("none".into(), |error| {
            let text = error.to_string();
            let text = text.strip_prefix("ERR Protocol error: ");
            text.expect("an error of RESP").into()
        })
    }

    #[test]
    fn an_element_is_as_long_as_it_says_whatever_it_holds() {
        let line_breaks = LINE_BREAK.repeat(SHORT);
        for len in 0..SHORT + 2 {
            let element = &line_breaks[..len];
            let head = format!("*2\r\n$3\r\nGET\r\n${len}\r\n");
            let request = [head.as_bytes(), element, LINE_BREAK].concat();
            // With as many bytes of the next one that a wrong length would not show.
            let bytes = [&*request, &*line_breaks].concat();
            let (args, taken) = decode(&mut RespDecoder::default(), &bytes)
                .unwrap()
                .unwrap();
            assert_eq!(
                (args.as_slice(), taken),
                (&[b"GET", element][..], request.len())
            );
        }
    }

    /// Each of these was tried on Valkey 9.1, save where a limit is this server's own.
    #[test]
    fn what_is_no_request_is_refused_in_valkey_s_words() {
        let count = "invalid multibulk length";
        let len = "invalid bulk length";
        let line_break = "invalid CRLF in request";
        for (bytes, error) in [
            (&b"*0\r\n*-0\r\n"[..], count),
            (b"*+1\r\n", count),
            (b"*01\r\n", count),
            (b"*01\r\n$4\r\nPING\r\n", count),
            (b"*1\r\n$04\r\nPING\r\n", len),
            (b"*1\r\n$004\r\nPING\r\n", len),
            (b"*1\r\n$4\r\nPING\r-", line_break),
            (b"*00\r\n", count),
            (b"*\r\n", count),
            (b"*-\r\n", count),
            (b"* 1\r\n", count),
            (b"*1 \r\n", count),
            (b"*1\0\r\n", count),
            (b"*x", "none"),
            (b"*x\r", "none"),
            (b"*x\r\n", count),
            (b"*x\rx", line_break),
            (b"*0\rx", line_break),
            (b"*12\rx", line_break),
            (b"*1\n$4\nPING\n", "none"),
            (b"*-9223372036854775808\r\n", "none"),
            (b"*-9223372036854775809\r\n", count),
            (b"*9223372036854775808\r\n", count),
            (b"*18446744073709551617\r\n", count),
            (b"*1048576\r\n", "none"),
            (b"*1048577\r\n", count),
            (b"*1\r\n$-1\r\n", len),
            (b"*1\r\n$-0\r\n", len),
            (b"*1\r\n$+4\r\n", len),
            (b"*1\r\n$04\r\n", len),
            (b"*1\r\n$\r\n", len),
            (b"*1\r\n$4\0\r\n", len),
            (b"*1\r\n$x\rx", line_break),
            (b"*1\r\n$4\rxPING\r\n", line_break),
            (b"*1\r\n$4\r\nPINGx", "none"),
            (b"*1\r\n$4\r\nPINGxx", line_break),
            (b"*1\r\n$4\r\nPING\rx", line_break),
            (b"*1\r\n$4\r\nPING\n\n", line_break),
            (b"*1\r\n$536870912\r\n", "none"),
            (b"*1\r\n$536870913\r\n", len),
            (b"*1\r\n$18446744073709551617\r\n", len),
            (b"*1\r\nx", "none"),
            (b"*1\r\nxyz\r", "none"),
            (b"*1\r\nxyz\r\n", "expected '$', got 'x'"),
            (b"*1\r\nxyz\rx", "expected '$', got 'x'"),
            (b"*2\r\n$1\r\na\r\n*1\r\n", "expected '$', got '*'"),
            (b"*1\r\n'\r\n", "expected '$', got '''"),
            (b"*1\r\n\r\n", "expected '$', got ' '"),
            (b"*1\r\n\n\r\n", "expected '$', got ' '"),
            // Not as Valkey, whose error has the byte itself in it, text or not.
            (b"*1\r\n\xff\r\n", "expected '$', got '\\xff'"),
            (b"*1\r\n\0\r\n", "expected '$', got '\\x00'"),
        ] {
            assert_eq!(error_of(bytes, true), error, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_client_without_a_password_is_held_to_a_few_small_elements() {
        let count = "unauthenticated multibulk length";
        let len = "unauthenticated bulk length";
        for (bytes, error) in [
            (&b"*10\r\n"[..], "none"),
            (b"*11\r\n", count),
            (b"*1\r\n$4\r\nPING\r\n*11\r\n", count),
            (b"*11\rx", "invalid CRLF in request"),
            (b"*1048577\r\n", "invalid multibulk length"),
            (b"*1\r\n$16384\r\n", "none"),
            (b"*1\r\n$16385\r\n", len),
            (b"*1\r\n$16385\rx", "invalid CRLF in request"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        ] {
            assert_eq!(error_of(bytes, false), error, "{}", bytes.escape_ascii());
        }
        let mut decoder = Decoder::default();
        decoder.trust(false);
        let (_, auth) = decoder.decode(b"*1\r\n$1\r\na\r\n*11\r\n").unwrap();
        assert_eq!(auth, 11);
        decoder.trust(true);
        assert_eq!(decoder.decode(b"*11\r\n"), Ok((None, 0)));
    }

    #[test]
    fn a_count_or_length_without_end_is_refused_however_it_comes() {
        let too_long = |error| Some(ProtocolError::Resp(error));
        for (prefix, digits_fit, error, number) in [
            (
                &b"*"[..],
                MAX_HEADER_LEN - 1,
                RespError::CountTooLong,
                RespError::InvalidCount,
            ),
            (
                b"*1\r\n$",
                MAX_HEADER_LEN - 1,
                RespError::LenTooLong,
                RespError::InvalidLen,
            ),
            // What begins an element is looked at once its line is there.
            (
                b"*1\r\n",
                MAX_HEADER_LEN,
                RespError::LenTooLong,
                RespError::NotBulk(b'1'),
            ),
        ] {
            let longest = [prefix, &vec![b'1'; digits_fit]].concat();
            assert_eq!(decode_split(&longest, 9).1, None);
            let ended = [&longest[..], b"\r\n"].concat();
            let longer = [&longest[..], b"1"].concat();
            let longer_ended = [&longer[..], b"\r\n"].concat();
            for at in [0, 9, longest.len(), longer.len()] {
                assert_eq!(decode_split(&ended, at).1, too_long(number));
                assert_eq!(decode_split(&longer, at).1, too_long(error));
                assert_eq!(decode_split(&longer_ended, at).1, too_long(error));
            }
        }
    }

    /// Also that elements are not searched: most of these bytes are memory that nothing touches.
    #[test]
    fn elements_may_be_as_long_as_the_limits_and_together_no_longer_than_a_request() {
        let first = b"*2\r\n$536870912\r\n";
        let most = 536_870_880;
        for len in [most, most + 1] {
            let second = format!("\r\n${len}\r\n").into_bytes();
            let second_at = first.len() + MAX_BULK_LEN;
            let whole = second_at + second.len() + len + 2;
            let mut bytes = vec![0; whole];
            bytes[..first.len()].copy_from_slice(first);
            bytes[second_at..second_at + second.len()].copy_from_slice(&second);
            bytes[whole - 2..].copy_from_slice(b"\r\n");
            let decoded = decode(&mut RespDecoder::default(), &bytes);
            if len > most {
                assert_eq!(decoded, Err(RespError::RequestTooLong));
                continue;
            }
            let (args, taken) = decoded.unwrap().unwrap();
            let lens: Vec<usize> = args.iter().map(|arg| arg.len()).collect();
            assert_eq!((lens, taken), (vec![MAX_BULK_LEN, most], MAX_REQUEST_LEN));
        }
    }

    #[test]
    fn a_request_may_have_as_many_elements_as_the_limit() {
        let mut bytes = format!("*{MAX_ELEMENTS}\r\n").into_bytes();
        bytes.extend(b"$0\r\n\r\n".repeat(MAX_ELEMENTS));
        let mut decoder = RespDecoder::default();
        let half = decode(&mut decoder, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(half, None);
        let (args, taken) = decode(&mut decoder, &bytes).unwrap().unwrap();
        assert_eq!((args.len(), taken), (MAX_ELEMENTS, bytes.len()));
        assert!(decoder.partial.is_none(), "memory is given back");
    }

    #[test]
    fn elements_that_have_not_arrived_take_no_memory() {
        let mut decoder = RespDecoder::default();
        let mut bytes = format!("*{MAX_ELEMENTS}\r\n").into_bytes();
        assert_eq!(decode(&mut decoder, &bytes), Ok(None));
        let found = |decoder: &RespDecoder| decoder.partial.clone().unwrap().found;
        assert!(!found(&decoder).spilled());
        bytes.extend(b"$0\r\n\r\n".repeat(100));
        assert_eq!(decode(&mut decoder, &bytes), Ok(None));
        assert_eq!(found(&decoder).len(), 100);
        let partial = decoder.partial.unwrap();
        assert!(partial.found.capacity() <= 200);
    }

    /// What was read is made unreadable before more of it comes.
    #[test]
    fn bytes_that_were_understood_are_not_looked_at_again() {
        let bytes = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\n";
        let understood = [4, 8, 13, 17, 20, 26];
        let value = [b'v'; 100];
        let whole = [&bytes[..], &value, b"\r\n"].concat();
        for at in 1..whole.len() {
            let mut decoder = RespDecoder::default();
            assert_eq!(decode(&mut decoder, &whole[..at]), Ok(None));
            let expected = understood.iter().rfind(|end| **end <= at);
            let understood = decoder.partial.as_ref().map_or(0, |partial| partial.at);
            assert_eq!(understood, *expected.unwrap_or(&0), "split at {at}");
            let mut spoilt = whole.clone();
            spoilt[..understood].fill(b'\r');
            let (args, taken) = decode(&mut decoder, &spoilt).unwrap().unwrap();
            assert_eq!((args.len(), args[2], taken), (3, &value[..], whole.len()));
        }
        let mut decoder = RespDecoder::default();
        let mut endless = b"*".repeat(60_000);
        assert_eq!(decode(&mut decoder, &endless), Ok(None));
        endless.fill(b'\r');
        assert_eq!(decode(&mut decoder, &endless), Ok(None));
    }

    #[test]
    fn wanted_says_what_the_element_at_hand_lacks() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$5\r\nabcde\r\n";
        let mut kept = Decoder::default();
        let wanted: Vec<usize> = (0..=bytes.len())
            .map(|at| {
                let mut fresh = Decoder::default();
                let (request, _) = fresh.decode(&bytes[..at]).unwrap();
                assert_eq!(request.is_some(), at == bytes.len());
                assert!(kept.decode(&bytes[..at]).is_ok());
                assert_eq!(kept.wanted(), fresh.wanted(), "{at} bytes");
                fresh.wanted()
            })
            .collect();
        let header = [0; 4];
        let first = [0, 0, 0, 0, 5, 4, 3, 2, 1];
        let second = [0, 0, 0, 0, 7, 6, 5, 4, 3, 2, 1, 0];
        assert_eq!(wanted, [&header[..], &first, &second].concat());
    }

    #[test]
    fn a_number_has_one_spelling() {
        for number_of in [0, 1, -1, 9, 10, 1234567890, i64::MAX, i64::MIN] {
            assert_eq!(number(number_of.to_string().as_bytes()), Some(number_of));
        }
        for text in [
            "",
            "-",
            "+",
            "+1",
            "-0",
            "00",
            "01",
            "-01",
            "--1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x1",
            "/",
            ":",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
        ] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }
}
