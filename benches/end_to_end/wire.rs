//! What goes over the wire: requests formatted ahead of time, and the one reply that is right for
//! each.
//!
//! A key's value follows from the key, so the generator knows every reply byte for byte. Checking
//! a reply is then a comparison, not a parse: it costs the generator next to nothing, and whatever
//! the server says that is not exactly right stops the run. One reply else is allowed, and told
//! apart: that there is no such key.

use std::fmt;

use anyhow::{Result, bail};

/// The language a server is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// One request a line, fields parted by spaces.
    Line,
    /// Valkey's own protocol, version 2, which every connection starts with.
    Resp,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Read a key.
    Get,
    /// Write a key.
    Set,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Get => "GET",
            Self::Set => "SET",
        })
    }
}

/// Decimal digits of a key's number that vary. The key itself is longer.
const DIGITS: usize = 8;

/// More keys than this would not have different names.
pub(crate) const MOST_KEYS: u32 = 100_000_000;

/// Stands for the key's number in the text a template is made from.
const SLOT: &str = "########";

/// A key as text: 16 bytes.
const KEY: &str = "key:0000########";

/// A value as text: 64 bytes, with the key's number at its start, so that one key's value is never
/// right for another.
const VALUE: &str = "########-value-of-sixty-four-bytes-abcdefghijklmnopqrstuvwxyz-01";

/// The reply of RESP to a GET of a key that is not there.
const NIL: &[u8] = b"$-1\r\n";

/// A reply that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// How many bytes it has.
    pub(crate) length: usize,
    /// Whether it is what a key that was written must give, and not that there is no such key.
    pub(crate) hit: bool,
}

/// Bytes in which the number of a key is filled in at known places.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    slots: Vec<usize>,
}

impl Template {
    fn new(text: &str) -> Self {
        let slots = text.match_indices(SLOT).map(|(at, _)| at).collect();
        Self {
            bytes: text.as_bytes().to_vec(),
            slots,
        }
    }

    /// Appends the template to `out`, made out for the key numbered `key`.
    fn append(&self, key: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if self.slots.is_empty() {
            return;
        }
        let digits = decimal(key);
        for slot in &self.slots {
            let from = start + slot;
            if let Some(place) = out.get_mut(from..from + DIGITS) {
                place.copy_from_slice(&digits);
            }
        }
    }
}

/// The last digits of `number`, zeros in front.
fn decimal(mut number: u32) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// The request and the reply of one kind of operation.
#[derive(Debug)]
struct Exchange {
    request: Template,
    reply: Template,
}

/// Every request and reply of one protocol.
#[derive(Debug)]
pub(crate) struct Wire {
    get: Exchange,
    set: Exchange,
    /// What a GET gets where there is no value, if that may be.
    nil: Option<&'static [u8]>,
    /// Room to make out the reply that is expected.
    expected: Vec<u8>,
}

impl Wire {
    /// The templates of `protocol`.
    pub(crate) fn new(protocol: Protocol) -> Self {
        let exchange = |request: String, reply: String| Exchange {
            request: Template::new(&request),
            reply: Template::new(&reply),
        };
        let (get, set) = match protocol {
            Protocol::Line => (
                exchange(format!("GET {KEY}\n"), format!("+OK {VALUE}\n")),
                exchange(format!("SET {KEY} {VALUE}\n"), "+OK\n".to_owned()),
            ),
            Protocol::Resp => (
                exchange(resp_array(&["GET", KEY]), resp_bulk(VALUE)),
                exchange(resp_array(&["SET", KEY, VALUE]), "+OK\r\n".to_owned()),
            ),
        };
        Self {
            get,
            set,
            nil: (protocol == Protocol::Resp).then_some(NIL),
            expected: Vec::new(),
        }
    }

    fn exchange(&self, kind: Kind) -> &Exchange {
        match kind {
            Kind::Get => &self.get,
            Kind::Set => &self.set,
        }
    }

    /// Appends a request to `out`.
    pub(crate) fn request(&self, kind: Kind, key: u32, out: &mut Vec<u8>) {
        self.exchange(kind).request.append(key, out);
    }

    /// Looks for the reply to one request at the start of `input`.
    ///
    /// Returns `None` while the rest of it is still to come. A reply that differs
    /// is an error as soon as its first wrong byte is there: an error message shorter than the
    /// reply that was due must not look like a slow server.
    pub(crate) fn check_reply(
        &mut self,
        kind: Kind,
        key: u32,
        input: &[u8],
    ) -> Result<Option<Reply>> {
        let mut expected = std::mem::take(&mut self.expected);
        expected.clear();
        self.exchange(kind).reply.append(key, &mut expected);
        let verdict = if input.starts_with(&expected) {
            let length = expected.len();
            Ok(Some(Reply { length, hit: true }))
        } else if expected.starts_with(input) {
            Ok(None)
        } else {
            self.check_unusual(kind, key, &expected, input)
        };
        self.expected = expected;
        verdict
    }

    /// What to make of a reply that is not the one expected.
    #[cold]
    fn check_unusual(
        &self,
        kind: Kind,
        key: u32,
        expected: &[u8],
        input: &[u8],
    ) -> Result<Option<Reply>> {
        match self.nil.filter(|_| kind == Kind::Get) {
            Some(nil) if input.starts_with(nil) => Ok(Some(Reply {
                length: nil.len(),
                hit: false,
            })),
            Some(nil) if nil.starts_with(input) => Ok(None),
            _ => wrong_reply(kind, key, expected, input),
        }
    }
}

fn wrong_reply(kind: Kind, key: u32, expected: &[u8], input: &[u8]) -> Result<Option<Reply>> {
    let shown = input.get(..input.len().min(160)).unwrap_or_default();
    bail!(
        "wrong reply to {kind} of key {key}: expected \"{}\", got \"{}\"",
        expected.escape_ascii(),
        shown.escape_ascii()
    )
}

/// A bulk string of RESP.
fn resp_bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// A request of RESP: an array of bulk strings.
pub(crate) fn resp_array(fields: &[&str]) -> String {
    let bulks: String = fields.iter().map(|field| resp_bulk(field)).collect();
    format!("*{}\r\n{bulks}", fields.len())
}
