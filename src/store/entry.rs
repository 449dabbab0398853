//! Compact entries: key and value in one reference-counted allocation behind one pointer.

use std::fmt;

use smallvec::SmallVec;

use super::leb128;
use super::shared_bytes::{SharedBytes, Slot};
use crate::time::Timestamp;

/// An expiry of 5 bytes is in milliseconds from here on: the beginning of 2020. It ends late in 2054.
const SHORT_FROM: u64 = 1_577_836_800_000;

/// As 5 bytes: that all 8 follow.
const LONG: [u8; 5] = [0xff; 5];

/// A key, its value, and perhaps a time at which both are gone.
///
/// One pointer wide. The allocation holds a length and the reference count, and then the bytes: twice
/// the key's length as LEB128, its lowest bit telling whether there is an expiry (one byte for keys
/// below 64 bytes), the expiry (5 bytes for the next decades, 13 for others), the key, the value: 3 bytes
/// beside key and value, 8 with an expiry, where the key is below 64 and all below 128. A clone shares
/// it, so a large value leaves its table's lock without being copied.
#[derive(Clone)]
pub struct Entry {
    bytes: SharedBytes,
}

impl Entry {
    /// Copies key and value into a new entry, which expires at `expires` if ever.
    pub fn new(key: &[u8], value: &[u8], expires: Option<Timestamp>) -> Self {
        Self::with_parts(key, &[value], expires)
    }

    /// The same, of a value that is given in parts.
    pub fn with_parts(key: &[u8], value: &[&[u8]], expires: Option<Timestamp>) -> Self {
        let mut head = leb128::encode(key.len() << 1 | usize::from(expires.is_some()));
        if let Some(at) = expires {
            push_expiry(at, &mut head);
        }
        let mut parts = SmallVec::<[&[u8]; 8]>::new();
        parts.push(&head);
        parts.push(key);
        parts.extend_from_slice(value);
        Self {
            bytes: SharedBytes::concat(&parts),
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        parts(&self.bytes).1
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        parts(&self.bytes).2
    }

    /// When it expires, if ever.
    pub fn expires(&self) -> Option<Timestamp> {
        parts(&self.bytes).0
    }

    /// Whether it is still there at `now`: an entry is gone from the millisecond it expires in.
    pub fn is_live(&self, now: Timestamp) -> bool {
        is_live(self.expires(), now)
    }

    /// Bytes of memory that it takes, the pointer in its table included.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.bytes.allocated()
    }

    /// Puts it into a slot of a table, and hands back what was there.
    pub(super) fn put_into(self, slot: &mut Slot, tag: u16) -> Option<Self> {
        slot.put(tag, self.bytes).map(|bytes| Self { bytes })
    }

    /// What is in a slot of a table, taken out.
    pub(super) fn take_from(slot: &mut Slot) -> Option<Self> {
        slot.take().map(|bytes| Self { bytes })
    }
}

/// An entry in its slot of a table, which has not been looked at yet: whoever does waits for memory.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    slot: &'a Slot,
}

impl<'a> Held<'a> {
    /// What is in this slot.
    pub(super) fn of(slot: &'a Slot) -> Option<Self> {
        (!slot.is_empty()).then_some(Self { slot })
    }

    pub(super) fn key(self) -> &'a [u8] {
        parts(self.bytes()).1
    }

    pub(super) fn expires(self) -> Option<Timestamp> {
        parts(self.bytes()).0
    }

    pub(super) fn is_live(self, now: Timestamp) -> bool {
        is_live(self.expires(), now)
    }

    /// The entry, shared with the table.
    pub(super) fn share(self) -> Option<Entry> {
        self.slot.share().map(|bytes| Entry { bytes })
    }

    /// Where it lies in its table, to tell it from others there.
    pub(super) fn place(self) -> *const Slot {
        self.slot
    }

    /// Has it fetched, or of a long one where it begins.
    pub(super) fn prefetch(self) {
        self.slot.prefetch_bytes();
    }

    fn bytes(self) -> &'a [u8] {
        self.slot.get().unwrap_or_default()
    }
}

/// Changes the value in a slot where it lies, if nobody else holds that entry; says whether it could.
pub(super) fn change_in_place(slot: &mut Slot, change: &mut dyn FnMut(&mut [u8])) -> bool {
    let Some(bytes) = slot.get_mut() else {
        return false;
    };
    let at = bytes.len() - parts(bytes).2.len();
    bytes.get_mut(at..).map(change).is_some()
}

fn push_expiry(Timestamp(at): Timestamp, head: &mut SmallVec<[u8; leb128::ROOM]>) {
    let since = at.wrapping_sub(SHORT_FROM).to_le_bytes();
    match since.split_first_chunk() {
        Some((short, [0, 0, 0])) if *short != LONG => head.extend_from_slice(short),
        _ => {
            head.extend_from_slice(&LONG);
            head.extend_from_slice(&at.to_le_bytes());
        }
    }
}

/// The expiry that stands at the beginning, and what is behind it.
fn split_expiry(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (short, rest) = bytes.split_first_chunk()?;
    if *short == LONG {
        let (at, rest) = rest.split_first_chunk()?;
        return Some((Timestamp(u64::from_le_bytes(*at)), rest));
    }
    let [a, b, c, d, e] = *short;
    let since = u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]);
    Some((Timestamp(SHORT_FROM + since), rest))
}

/// Expiry, key and value of what an entry holds.
fn parts(bytes: &[u8]) -> (Option<Timestamp>, &[u8], &[u8]) {
    let (length, mut rest) = leb128::split(bytes);
    let mut expires = None;
    if length & 1 == 1
        && let Some((at, behind)) = split_expiry(rest)
    {
        expires = Some(at);
        rest = behind;
    }
    let (key, value) = rest.split_at_checked(length >> 1).unwrap_or((rest, &[]));
    (expires, key, value)
}

fn is_live(expires: Option<Timestamp>, now: Timestamp) -> bool {
    expires.is_none_or(|at| now < at)
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (expires, key, value) = parts(&self.bytes);
        write!(
            f,
            "Entry({} => {}",
            key.escape_ascii(),
            value.escape_ascii()
        )?;
        match expires {
            Some(Timestamp(at)) => write!(f, ", until {at})"),
            None => f.write_str(")"),
        }
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        *self.bytes == *other.bytes
    }
}

impl Eq for Entry {}

/// The value of an entry, shared with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Entry);

impl From<Entry> for Value {
    fn from(entry: Entry) -> Self {
        Self(entry)
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({})", self.as_ref().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Never, and on both sides of where 5 bytes begin and end to do.
    const EXPIRIES: [Option<Timestamp>; 8] = [
        None,
        Some(Timestamp(0)),
        Some(Timestamp(SHORT_FROM - 1)),
        Some(Timestamp(SHORT_FROM)),
        Some(Timestamp(SHORT_FROM + (1 << 40) - 2)),
        Some(Timestamp(SHORT_FROM + (1 << 40) - 1)),
        Some(Timestamp(SHORT_FROM + (1 << 40))),
        Some(Timestamp(u64::MAX)),
    ];

    #[test]
    fn an_entry_gives_back_what_it_was_made_of() {
        for key_len in [0, 1, 63, 64, 8191, 8192, 70_000] {
            for value_len in [0, 1, 64, 5000] {
                for expires in EXPIRIES {
                    let (key, value) = (vec![b'k'; key_len], vec![0xff; value_len]);
                    let entry = Entry::new(&key, &value, expires);
                    assert_eq!(entry.key(), key);
                    assert_eq!(entry.value(), value);
                    assert_eq!(entry.expires(), expires);
                }
            }
        }
    }

    #[test]
    fn a_value_in_parts_is_the_parts_in_a_row() {
        let entry = Entry::with_parts(b"k", &[b"ab", b"", b"c"], None);
        assert_eq!(entry, Entry::new(b"k", b"abc", None));
    }

    #[test]
    fn an_entry_is_gone_from_the_millisecond_it_expires_in() {
        let entry = Entry::new(b"k", b"v", Some(Timestamp(5)));
        assert!(entry.is_live(Timestamp(4)));
        assert!(!entry.is_live(Timestamp(5)));
        assert!(Entry::new(b"k", b"v", None).is_live(Timestamp(u64::MAX)));
    }

    #[test]
    fn a_value_that_someone_else_holds_is_not_changed_in_place() {
        let mut slot = Slot::default();
        Entry::new(b"key", b"value", Some(Timestamp(7))).put_into(&mut slot, 0);
        assert!(change_in_place(&mut slot, &mut |value| value.fill(b'x')));
        let held = Held::of(&slot).and_then(Held::share).unwrap();
        assert_eq!(held, Entry::new(b"key", b"xxxxx", Some(Timestamp(7))));
        assert!(!change_in_place(&mut slot, &mut |value| value.fill(b'y')));
        assert_eq!(held.value(), b"xxxxx");
    }

    #[test]
    fn a_short_entry_has_few_bytes_beside_key_and_value() {
        let beside = |expires| Entry::new(&[0; 16], &[0; 64], expires).memory() - 80;
        let soon = Timestamp(SHORT_FROM + 1_000_000_000_000);
        // The pointer counts, too.
        assert_eq!([None, Some(soon)].map(beside), [8 + 3, 8 + 8]);
    }

    #[test]
    fn an_entry_is_one_pointer_wide() {
        assert_eq!(size_of::<Entry>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Value>>(), size_of::<usize>());
    }

    #[test]
    fn a_value_outlives_its_entry() {
        let entry = Entry::new(b"key", b"value", None);
        let value = Value::from(entry.clone());
        drop(entry);
        assert_eq!(value.as_ref(), b"value");
    }
}
