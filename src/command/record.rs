//! Records: what a snapshot consists of.
//!
//! A record is its code, one byte, and its fields, laid out as those of an operation are (see
//! [`super::field`]). Like an operation's, the meaning of a code never changes once it was released.

use super::field::{Field, take};
use super::operation::{BadOperation, Rest};
use crate::store::{Entry, HashSeed};
use crate::time::Timestamp;

const ENTRY: u8 = 1;
const EXPIRING_ENTRY: u8 = 2;
const RECENT_CHANGES: u8 = 3;
const SEED: u8 = 4;

/// A part of the state as of one position of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// Code 1, or 2 with an expiry, which then stands first: a key and its value.
    Entry {
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// When it expires, if ever.
        expires: Option<Timestamp>,
    },
    /// Code 3: the last changes, on which transactions behind the snapshot may depend.
    RecentChanges {
        /// The position of the last change that is not remembered.
        forgotten: u64,
        /// Positions, and checksums of the keys that were changed there. The oldest first.
        changes: Vec<(u64, u32)>,
    },
    /// Code 4: the seed of the hash in whose order the entries come. It changes nothing that anyone
    /// sees, and makes loading fast.
    Seed(HashSeed),
}

impl<'a> Record<'a> {
    /// A key and its value.
    pub fn of(entry: &'a Entry) -> Self {
        Self::Entry {
            key: entry.key(),
            value: entry.value(),
            expires: entry.expires(),
        }
    }

    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Entry {
                key,
                value,
                expires,
            } => {
                match expires {
                    None => out.push(ENTRY),
                    Some(Timestamp(at)) => {
                        out.push(EXPIRING_ENTRY);
                        at.encode(out);
                    }
                }
                key.encode(out);
                Rest(value).encode(out);
            }
            Self::RecentChanges { forgotten, changes } => {
                out.push(RECENT_CHANGES);
                forgotten.encode(out);
                changes.encode(out);
            }
            Self::Seed(HashSeed(one, other)) => {
                out.push(SEED);
                (*one, *other).encode(out);
            }
        }
    }

    /// Whether these bytes are those of an entry, as far as the first of them tells.
    pub fn is_entry(bytes: &[u8]) -> bool {
        matches!(bytes.first(), Some(&(ENTRY | EXPIRING_ENTRY)))
    }

    /// Reads a record back.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BadOperation> {
        let (&code, mut rest) = bytes.split_first().ok_or(BadOperation::Short)?;
        let input = &mut rest;
        let record = match code {
            ENTRY | EXPIRING_ENTRY => {
                let expires = if code == EXPIRING_ENTRY {
                    Some(Timestamp(u64::decode(input)?))
                } else {
                    None
                };
                Self::Entry {
                    expires,
                    key: Field::decode(input)?,
                    value: take(input, input.len())?,
                }
            }
            RECENT_CHANGES => Self::RecentChanges {
                forgotten: u64::decode(input)?,
                changes: Field::decode(input)?,
            },
            SEED => Self::Seed(HashSeed(u64::decode(input)?, u64::decode(input)?)),
            code => return Err(BadOperation::UnknownCode(code)),
        };
        match input.len() {
            0 => Ok(record),
            left => Err(BadOperation::Long(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length of a record that stands before it in a snapshot.
    const PREFIX: usize = 4;

    #[test]
    fn a_record_is_no_longer_than_the_memory_of_its_entry_or_by_a_byte() {
        let lens = [
            0, 1, 16, 63, 64, 100, 120, 127, 128, 16_000, 17_000, 2_100_000,
        ];
        let expiries = [0, 1_600_000_000_000, 1_900_000_000_000, u64::MAX];
        let expiries = expiries.map(|at| Some(Timestamp(at)));
        for (key, value) in lens.iter().flat_map(|key| lens.map(|value| (*key, value))) {
            for expires in expiries.into_iter().chain([None]) {
                let entry = Entry::new(&vec![1; key], &vec![2; value], expires);
                let mut encoded = Vec::new();
                Record::of(&entry).encode(&mut encoded);
                let most = entry.memory() + usize::from(expires.is_some());
                assert!(PREFIX + encoded.len() <= most, "{key} {value} {expires:?}");
            }
        }
    }

    fn records() -> Vec<Record<'static>> {
        let changes = vec![(1, 2), (u64::MAX, u32::MAX)];
        let mut records = vec![Record::RecentChanges {
            forgotten: 7,
            changes,
        }];
        records.push(Record::Seed(HashSeed(1, u64::MAX)));
        for expires in [None, Some(Timestamp(0)), Some(Timestamp(u64::MAX))] {
            for (key, value) in [(&b""[..], &b""[..]), (b"key", b"value\n\0")] {
                records.push(Record::Entry {
                    key,
                    value,
                    expires,
                });
            }
        }
        records
    }

    #[test]
    fn every_record_reads_back_as_it_was_written_and_not_cut_short() {
        for record in records() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(Record::decode(&bytes), Ok(record.clone()));
            for len in 0..bytes.len() {
                assert_ne!(Record::decode(&bytes[..len]), Ok(record.clone()));
            }
        }
        assert_eq!(Record::decode(&[9]), Err(BadOperation::UnknownCode(9)));
    }

    #[test]
    fn the_layout_is_as_it_was_released() {
        let mut bytes = Vec::new();
        let (key, value) = (&b"k"[..], &b"vv"[..]);
        let mut entry = Record::Entry {
            key,
            value,
            expires: None,
        };
        entry.encode(&mut bytes);
        assert_eq!(bytes, b"\x01\x01\0\0\0kvv");
        if let Record::Entry { expires, .. } = &mut entry {
            *expires = Some(Timestamp(0x0102));
        }
        bytes.clear();
        entry.encode(&mut bytes);
        assert_eq!(bytes, b"\x02\x02\x01\0\0\0\0\0\0\x01\0\0\0kvv");
        bytes.clear();
        let recent = Record::RecentChanges {
            forgotten: 3,
            changes: vec![(4, 5)],
        };
        recent.encode(&mut bytes);
        assert_eq!(
            bytes,
            b"\x03\x03\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0"
        );
    }
}
