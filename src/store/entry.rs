//! Compact entries: key and value in one reference-counted allocation behind one pointer.

use std::fmt;

use smallvec::SmallVec;
use triomphe::ThinArc;

use crate::time::Timestamp;

/// A key, its value, and perhaps a time at which both are gone.
///
/// One pointer wide. The allocation holds the reference count, a length, and then the bytes: twice
/// the key's length as LEB128, its lowest bit telling whether there is an expiry (one byte for keys
/// below 64 bytes), the expiry (8 bytes), the key, the value. A clone shares it, so a large value
/// leaves its table's lock without being copied.
#[derive(Clone)]
pub struct Entry {
    bytes: ThinArc<(), u8>,
}

impl Entry {
    /// Copies key and value into a new entry, which expires at `expires` if ever.
    pub fn new(key: &[u8], value: &[u8], expires: Option<Timestamp>) -> Self {
        Self::with_parts(key, &[value], expires)
    }

    /// The same, of a value that is given in parts.
    pub fn with_parts(key: &[u8], value: &[&[u8]], expires: Option<Timestamp>) -> Self {
        let value_len: usize = value.iter().map(|part| part.len()).sum();
        let mut bytes = SmallVec::<[u8; ON_STACK]>::with_capacity(
            MAX_PREFIX_LEN + EXPIRY_LEN + key.len() + value_len,
        );
        push_length(&mut bytes, key.len() << 1 | usize::from(expires.is_some()));
        if let Some(Timestamp(at)) = expires {
            bytes.extend_from_slice(&at.to_le_bytes());
        }
        bytes.extend_from_slice(key);
        for part in value {
            bytes.extend_from_slice(part);
        }
        Self {
            bytes: ThinArc::from_header_and_slice((), &bytes),
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.parts().1
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        self.parts().2
    }

    /// When it expires, if ever.
    pub fn expires(&self) -> Option<Timestamp> {
        self.parts().0
    }

    /// Whether it is still there at `now`: an entry is gone from the millisecond it expires in.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires().is_none_or(|at| now < at)
    }

    /// Whether both are the very same entry, not only equal ones.
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.bytes.slice.as_ptr(), other.bytes.slice.as_ptr())
    }

    /// Bytes of memory that it takes, the pointer in its table included.
    pub fn memory(&self) -> usize {
        const COUNT_AND_LEN: usize = 2 * size_of::<usize>();
        size_of::<Self>() + COUNT_AND_LEN + self.bytes.slice.len()
    }

    /// Looks at both ends of the allocation, and says something that depends on it.
    pub(super) fn touch(&self) -> usize {
        let bytes = &self.bytes.slice;
        bytes.len() + usize::from(bytes.last().copied().unwrap_or_default())
    }

    /// Looks at the end of the allocation at which the key lies.
    pub(super) fn touch_key(&self) -> usize {
        usize::from(self.bytes.slice.first().copied().unwrap_or_default())
    }

    /// Changes the value where it lies, if nobody else holds this entry; says whether it could.
    pub(super) fn change_in_place(&mut self, change: &mut dyn FnMut(&mut [u8])) -> bool {
        let at = self.bytes.slice.len() - self.value().len();
        self.bytes.with_arc_mut(|arc| {
            let value =
                triomphe::Arc::get_mut(arc).and_then(|inner| inner.slice_mut().get_mut(at..));
            value.map(change).is_some()
        })
    }

    fn parts(&self) -> (Option<Timestamp>, &[u8], &[u8]) {
        let (length, mut rest) = take_length(&self.bytes.slice);
        let mut expires = None;
        if length & 1 == 1
            && let Some((at, behind)) = rest.split_first_chunk()
        {
            expires = Some(Timestamp(u64::from_le_bytes(*at)));
            rest = behind;
        }
        let (key, value) = rest.split_at_checked(length >> 1).unwrap_or((rest, &[]));
        (expires, key, value)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (expires, key, value) = self.parts();
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
        self.bytes.slice == other.bytes.slice
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

/// Bytes that the longest length takes: 7 bits in each.
const MAX_PREFIX_LEN: usize = 10;
/// An entry of up to so many bytes is put together where that takes no allocation.
const ON_STACK: usize = 512;
/// Bytes of an expiry.
const EXPIRY_LEN: usize = 8;
const MORE: u8 = 0x80;

fn push_length(bytes: &mut SmallVec<[u8; ON_STACK]>, mut length: usize) {
    while length >= MORE as usize {
        // The cast keeps the low byte, of which seven bits count.
        bytes.push(length as u8 | MORE);
        length >>= 7;
    }
    bytes.push(length as u8);
}

fn take_length(bytes: &[u8]) -> (usize, &[u8]) {
    let mut length = 0;
    let mut rest = bytes;
    let mut shift = 0;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        length |= usize::from(byte & !MORE) << shift;
        shift += 7;
        if byte & MORE == 0 {
            break;
        }
    }
    (length, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_gives_back_what_it_was_made_of() {
        for key_len in [0, 1, 63, 64, 8191, 8192, 70_000] {
            for value_len in [0, 1, 64, 5000] {
                for expires in [None, Some(Timestamp(0)), Some(Timestamp(u64::MAX))] {
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
        let mut entry = Entry::new(b"key", b"value", Some(Timestamp(7)));
        assert!(entry.change_in_place(&mut |value| value.fill(b'x')));
        assert_eq!(entry, Entry::new(b"key", b"xxxxx", Some(Timestamp(7))));
        let held = entry.clone();
        assert!(!entry.change_in_place(&mut |value| value.fill(b'y')));
        assert_eq!(held.value(), b"xxxxx");
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
