//! Compact entries: key and value in one reference-counted allocation behind one pointer.

use std::fmt;

use smallvec::SmallVec;

use super::leb128;
use super::shared_bytes::SharedBytes;
use crate::time::Timestamp;

/// A key, its value, and perhaps a time at which both are gone.
///
/// One pointer wide. The allocation holds the reference count, a length, and then the bytes: twice
/// the key's length as LEB128, its lowest bit telling whether there is an expiry (one byte for keys
/// below 64 bytes), the expiry (8 bytes), the key, the value: 6 bytes beside key and value where these
/// are below 64 and 128. A clone shares it, so a large value leaves its table's lock without being copied.
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
        if let Some(Timestamp(at)) = expires {
            head.extend_from_slice(&at.to_le_bytes());
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
        self.bytes.is_same(&other.bytes)
    }

    /// Bytes of memory that it takes, the pointer in its table included.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.bytes.allocated()
    }

    /// Looks at both ends of the allocation, and says something that depends on it.
    pub(super) fn touch(&self) -> usize {
        let bytes = &*self.bytes;
        bytes.len() + usize::from(bytes.last().copied().unwrap_or_default())
    }

    /// Changes the value where it lies, if nobody else holds this entry; says whether it could.
    pub(super) fn change_in_place(&mut self, change: &mut dyn FnMut(&mut [u8])) -> bool {
        let at = self.bytes.len() - self.value().len();
        let bytes = self.bytes.get_mut();
        let value = bytes.and_then(|bytes| bytes.get_mut(at..));
        value.map(change).is_some()
    }

    fn parts(&self) -> (Option<Timestamp>, &[u8], &[u8]) {
        let (length, mut rest) = leb128::split(&self.bytes);
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
