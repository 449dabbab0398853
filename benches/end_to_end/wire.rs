//! What goes over the wire: requests formatted ahead of time, and the one reply that is right for
//! each.
//!
//! A key's value follows from the key, so the generator knows every reply byte for byte. Checking
//! a reply is then a comparison, not a parse: it costs the generator next to nothing, and whatever
//! the server says that is not exactly right stops the run. One reply else is allowed, and told
//! apart: that there is no such key.

use std::fmt;

use anyhow::{Result, bail, ensure};

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

/// Bytes of a value, where a load does not ask for more.
pub(crate) const VALUE_BYTES: usize = VALUE.len();

/// A longer value has the key's number once in so many bytes, so that a part of another key's is
/// noticed, and checking it is still a few comparisons of long pieces.
const BLOCK: usize = 4096;

/// Replies longer than this are checked and dropped piece by piece, as they come in.
const WHOLE: usize = 4096;

/// Seconds that a key lives where it has a time to live: longer than any measurement.
const LIFE: &str = "1000000";

/// The reply of RESP to a GET of a key that is not there.
const NIL: &[u8] = b"$-1\r\n";

/// What requests write, and replies must therefore have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Values {
    /// How long each value is: [`VALUE_BYTES`] or more.
    pub(crate) bytes: usize,
    /// Whether every SET gives its key a time to live.
    pub(crate) expiring: bool,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            bytes: VALUE_BYTES,
            expiring: false,
        }
    }
}

/// What the bytes that came in are, as far as they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The reply, or the rest of it.
    Whole(Reply),
    /// Not all of it. So many bytes are right and need not be shown again.
    Part(usize),
}

/// A reply that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// How many bytes of it were shown last.
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

    /// Whether `input` is what the template, made out for the key numbered `key`, has from its byte
    /// `from` on.
    fn agrees(&self, key: u32, from: usize, input: &[u8]) -> bool {
        let digits = decimal(key);
        let end = from + input.len();
        let shown = |start: usize, end: usize| input.get(start - from..end - from);
        let mut at = from;
        let begun = self.slots.partition_point(|slot| slot + DIGITS <= from);
        let slots = self.slots.get(begun..).unwrap_or_default();
        for &slot in slots.iter().take_while(|slot| **slot < end) {
            let (start, stop) = (at.max(slot), end.min(slot + DIGITS));
            let same_text = self.bytes.get(at..start) == shown(at, start);
            if !same_text || digits.get(start - slot..stop - slot) != shown(start, stop) {
                return false;
            }
            at = stop;
        }
        self.bytes.get(at..end) == shown(at, end)
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
    /// The templates of `protocol`, for such values.
    pub(crate) fn new(protocol: Protocol, values: Values) -> Self {
        let value = &value(values.bytes);
        let exchange = |request: String, reply: String| Exchange {
            request: Template::new(&request),
            reply: Template::new(&reply),
        };
        let mut set = vec!["SET", KEY, value];
        if values.expiring {
            set.extend(["EX", LIFE]);
        }
        let (get, set) = match protocol {
            Protocol::Line => (
                exchange(format!("GET {KEY}\n"), format!("+OK {value}\n")),
                exchange(format!("SET {KEY} {value}\n"), "+OK\n".to_owned()),
            ),
            Protocol::Resp => (
                exchange(resp_array(&["GET", KEY]), resp_bulk(value)),
                exchange(resp_array(&set), "+OK\r\n".to_owned()),
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

    /// Appends the reply to a request to `out`.
    pub(crate) fn reply(&self, kind: Kind, key: u32, out: &mut Vec<u8>) {
        self.exchange(kind).reply.append(key, out);
    }

    /// What the first request in `input` does, its key, and how long it is, if all of it is there.
    pub(crate) fn find_request(&self, input: &[u8]) -> Option<(Kind, u32, usize)> {
        [Kind::Get, Kind::Set].into_iter().find_map(|kind| {
            let template = &self.exchange(kind).request;
            let slot = *template.slots.first()?;
            let is_it = input.starts_with(template.bytes.get(..slot)?);
            let digits = input.get(slot..slot + DIGITS).filter(|_| is_it)?;
            let number = |number, digit: &u8| 10 * number + u32::from(digit.wrapping_sub(b'0'));
            let length = template.bytes.len();
            (input.len() >= length).then(|| (kind, digits.iter().fold(0, number), length))
        })
    }

    /// Looks for the reply to one request at the start of `input`; its first `done` bytes were
    /// found before, and dropped.
    ///
    /// A reply that differs is an error as soon as its first wrong byte is there: an error message
    /// shorter than the reply that was due must not look like a slow server.
    pub(crate) fn check_reply(
        &mut self,
        kind: Kind,
        key: u32,
        done: usize,
        input: &[u8],
    ) -> Result<Found> {
        let length = self.exchange(kind).reply.bytes.len();
        if length > WHOLE {
            return self.check_piece(kind, key, done, input);
        }
        let mut expected = std::mem::take(&mut self.expected);
        expected.clear();
        self.exchange(kind).reply.append(key, &mut expected);
        let found = if input.starts_with(&expected) {
            Ok(Found::Whole(Reply { length, hit: true }))
        } else if expected.starts_with(input) {
            Ok(Found::Part(0))
        } else {
            self.check_unusual(kind, key, input)
        };
        self.expected = expected;
        found
    }

    /// The same where a reply is too long to be looked at as one.
    fn check_piece(&self, kind: Kind, key: u32, done: usize, input: &[u8]) -> Result<Found> {
        let template = &self.exchange(kind).reply;
        let left = template.bytes.len().saturating_sub(done);
        let piece = input.get(..left).unwrap_or(input);
        if !template.agrees(key, done, piece) {
            ensure!(
                done == 0,
                "wrong reply to {kind} of key {key}, within {} bytes from its byte {done} on",
                piece.len()
            );
            return self.check_unusual(kind, key, input);
        }
        let length = piece.len();
        Ok(if length == left {
            Found::Whole(Reply { length, hit: true })
        } else if done + length > NIL.len() {
            Found::Part(length)
        } else {
            // It may still turn out to say that there is no such key.
            Found::Part(0)
        })
    }

    /// What to make of a reply that is not the one expected.
    #[cold]
    fn check_unusual(&self, kind: Kind, key: u32, input: &[u8]) -> Result<Found> {
        match self.nil.filter(|_| kind == Kind::Get) {
            Some(nil) if input.starts_with(nil) => Ok(Found::Whole(Reply {
                length: nil.len(),
                hit: false,
            })),
            Some(nil) if nil.starts_with(input) => Ok(Found::Part(0)),
            _ => {
                let mut expected = Vec::new();
                self.exchange(kind).reply.append(key, &mut expected);
                bail!(
                    "wrong reply to {kind} of key {key}: expected \"{}\", got \"{}\"",
                    start_of(&expected).escape_ascii(),
                    start_of(input).escape_ascii()
                )
            }
        }
    }
}

/// As much of a reply as a message should show.
fn start_of(reply: &[u8]) -> &[u8] {
    reply.get(..160).unwrap_or(reply)
}

/// A value of so many bytes.
fn value(bytes: usize) -> String {
    let block = format!("{VALUE:.<BLOCK$}");
    let rest = bytes % BLOCK;
    // What is left over may be too short for a number.
    let end = if rest < VALUE_BYTES {
        ".".repeat(rest)
    } else {
        format!("{VALUE:.<rest$}")
    };
    block.repeat(bytes / BLOCK) + &end
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
