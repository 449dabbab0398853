//! Lengths as LEB128: seven bits in each byte, the lowest first, the highest bit telling whether
//! another byte follows.

use smallvec::SmallVec;

/// The longest length takes 10 bytes; there is room for something short behind it.
pub(super) const ROOM: usize = 24;
/// Tells that another byte follows.
pub(super) const MORE: u8 = 0x80;
/// Bits of a length in a byte.
pub(super) const BITS: u32 = 7;

/// A length, encoded.
pub(super) fn encode(mut length: usize) -> SmallVec<[u8; ROOM]> {
    let mut bytes = SmallVec::new();
    while length >= usize::from(MORE) {
        // The cast keeps the low byte, of which seven bits count.
        bytes.push(length as u8 | MORE);
        length >>= BITS;
    }
    bytes.push(length as u8);
    bytes
}

/// The length that stands at the beginning, and what is behind it.
pub(super) fn split(bytes: &[u8]) -> (usize, &[u8]) {
    // Most are short.
    if let Some((&byte, rest)) = bytes.split_first()
        && byte & MORE == 0
    {
        return (byte.into(), rest);
    }
    let (mut length, mut shift, mut rest) = (0, 0, bytes);
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        length |= usize::from(byte & !MORE) << shift;
        shift += BITS;
        if byte & MORE == 0 {
            break;
        }
    }
    (length, rest)
}
