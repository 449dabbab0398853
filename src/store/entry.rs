//! Compact entries: key and value in one reference-counted allocation behind one pointer.

use std::fmt;

use triomphe::ThinArc;

/// A key and its value.
///
/// One pointer wide. The allocation holds the reference count, a length, and then the bytes: the
/// key's length as LEB128 (one byte for keys below 128 bytes), the key, the value. A clone shares
/// it, so a large value leaves its table's lock without being copied.
#[derive(Clone)]
pub struct Entry {
    bytes: ThinArc<(), u8>,
}

impl Entry {
    /// Copies key and value into a new entry.
    pub fn new(key: &[u8], value: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(MAX_PREFIX_LEN + key.len() + value.len());
        push_length(&mut bytes, key.len());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Self {
            bytes: ThinArc::from_header_and_slice((), &bytes),
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.parts().0
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        self.parts().1
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let (key_len, rest) = take_length(&self.bytes.slice);
        rest.split_at_checked(key_len).unwrap_or((rest, &[]))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = self.parts();
        write!(
            f,
            "Entry({} => {})",
            key.escape_ascii(),
            value.escape_ascii()
        )
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
const MORE: u8 = 0x80;

fn push_length(bytes: &mut Vec<u8>, mut length: usize) {
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
    fn an_entry_gives_back_its_key_and_value() {
        for key_len in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            for value_len in [0, 1, 64, 5000] {
                let (key, value) = (vec![b'k'; key_len], vec![0xff; value_len]);
                let entry = Entry::new(&key, &value);
                assert_eq!(entry.key(), key);
                assert_eq!(entry.value(), value);
            }
        }
    }

    #[test]
    fn an_entry_is_one_pointer_wide() {
        assert_eq!(size_of::<Entry>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Value>>(), size_of::<usize>());
    }

    #[test]
    fn a_value_outlives_its_entry() {
        let entry = Entry::new(b"key", b"value");
        let value = Value::from(entry.clone());
        drop(entry);
        assert_eq!(value.as_ref(), b"value");
    }
}
