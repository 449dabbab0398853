//! Values as strings of bits: GETBIT, SETBIT, BITCOUNT, BITPOS, BITOP.
//!
//! Bit 0 is the most significant bit of the first byte.

use std::iter::zip;
use std::ops::RangeInclusive;

use super::{number, range};

/// The highest bit that a request may name: the last of 512 MiB.
pub const MAX_OFFSET: u64 = (512 << 20) * 8 - 1;

/// What is said of an offset that [`parse_offset`] refuses.
pub const BAD_OFFSET: &str = "bit offset is not an integer or out of range";

/// What SETBIT says of a bit that [`parse_bit`] refuses.
pub const BAD_BIT: &str = "bit is not an integer or out of range";

/// What BITOP says if it is to negate other than one value.
pub const NOT_TAKES_ONE: &str = "BITOP NOT must be called with a single source key.";

/// The bit that `text` names, at most [`MAX_OFFSET`].
pub fn parse_offset(text: &[u8]) -> Option<u64> {
    let offset = u64::try_from(number::parse_i64(text)?).ok()?;
    (offset <= MAX_OFFSET).then_some(offset)
}

/// A bit as SETBIT takes it: `0` or `1`.
pub fn parse_bit(text: &[u8]) -> Option<bool> {
    match text {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

/// The bit at `offset`; behind the end, all bits are 0.
pub fn get(value: &[u8], offset: u64) -> bool {
    let byte = usize::try_from(offset / 8)
        .ok()
        .and_then(|index| value.get(index));
    byte.is_some_and(|byte| byte & mask(offset) != 0)
}

/// Sets the bit at `offset`, and returns what it was. The value grows by zeros until it has that
/// bit, also if the bit is to be 0.
///
/// The offset is the caller's to bound, by [`parse_offset`] for instance.
pub fn set(value: &mut Vec<u8>, offset: u64, bit: bool) -> bool {
    grow(value, offset);
    let before = get(value, offset);
    change(value, offset, bit);
    before
}

/// Makes the bit at `offset` this one, if the value has so many.
pub fn change(value: &mut [u8], offset: u64, bit: bool) {
    if let Some(byte) = value.get_mut((offset / 8) as usize) {
        *byte = (*byte & !mask(offset)) | if bit { mask(offset) } else { 0 };
    }
}

/// Appends zeros until there is a bit at `offset`.
pub(super) fn grow(value: &mut Vec<u8>, offset: u64) {
    let len = (offset / 8) as usize + 1;
    if value.len() < len {
        value.resize(len, 0);
    }
}

fn mask(offset: u64) -> u8 {
    0x80 >> (offset % 8)
}

/// What the positions of a [`BitRange`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, unless a request says otherwise.
    Byte,
    /// Bits.
    Bit,
}

impl Unit {
    /// The unit of that name, in any case.
    pub fn parse(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"BYTE") {
            Some(Self::Byte)
        } else if name.eq_ignore_ascii_case(b"BIT") {
            Some(Self::Bit)
        } else {
            None
        }
    }
}

/// The part of a value that BITCOUNT or BITPOS looks at. Negative positions count from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitRange {
    /// The first position.
    pub start: i64,
    /// The last position; without one, the range goes to the end of the value.
    pub end: Option<i64>,
    /// What the positions count.
    pub unit: Unit,
}

impl BitRange {
    /// All of a value: what is meant where a request has no range.
    pub const ALL: Self = Self {
        start: 0,
        end: None,
        unit: Unit::Byte,
    };

    /// The bits of the range in a value of `len` bytes; `None` if there are none.
    fn bits(self, len: usize) -> Option<RangeInclusive<u64>> {
        let (len, end) = (len as u64, self.end.unwrap_or(-1));
        match self.unit {
            Unit::Bit => range::clamp(self.start, end, len * 8),
            Unit::Byte => {
                let (first, last) = range::clamp(self.start, end, len)?.into_inner();
                Some(first * 8..=last * 8 + 7)
            }
        }
    }
}

/// How many bits of the range are 1. BITCOUNT.
pub fn count(value: &[u8], range: BitRange) -> u64 {
    // As with GETRANGE, and unlike with BITPOS, a reversed range is empty even ahead of the value.
    if let BitRange {
        start,
        end: Some(end),
        ..
    } = range
        && start < 0
        && end < 0
        && start > end
    {
        return 0;
    }
    let Some((first, last)) = range.bits(value.len()).map(RangeInclusive::into_inner) else {
        return 0;
    };
    let Some(bytes) = value.get((first / 8) as usize..=(last / 8) as usize) else {
        return 0;
    };
    // The bits of the outermost bytes that are not in the range.
    let ahead = bytes.first().map_or(0, |byte| byte & !from_bit(first));
    let behind = bytes.last().map_or(0, |byte| byte & !to_bit(last));
    ones(bytes) - u64::from(ahead.count_ones()) - u64::from(behind.count_ones())
}

fn ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_ne_bytes(*word));
    let rest = rest.iter().map(|byte| u64::from(*byte));
    words
        .chain(rest)
        .map(|word| u64::from(word.count_ones()))
        .sum()
}

/// The bits of a byte from the one that is at `offset` in the value.
fn from_bit(offset: u64) -> u8 {
    0xff >> (offset % 8)
}

/// The bits of a byte up to the one that is at `offset` in the value.
fn to_bit(offset: u64) -> u8 {
    0xff << (7 - offset % 8)
}

/// Where in the range the first bit is that equals `bit`. BITPOS.
///
/// The position counts from the start of the value. `value` is `None` for a key that does not exist:
/// that is a string of zeros without end, whatever the range. Of a value that exists, a range
/// without an end goes on with zeros behind the value, unless it is empty; one with an end does not.
pub fn position(value: Option<&[u8]>, bit: bool, range: BitRange) -> Option<u64> {
    let Some(value) = value else {
        return (!bit).then_some(0);
    };
    let (first, last) = range.bits(value.len())?.into_inner();
    let found = first_from(value, bit, first).filter(|at| *at <= last);
    let behind = || (!bit && range.end.is_none()).then_some(value.len() as u64 * 8);
    found.or_else(behind)
}

/// Where the first bit at or behind `first` is that equals `bit`.
fn first_from(value: &[u8], bit: bool, first: u64) -> Option<u64> {
    // With this, what is looked for is always a 1.
    let flip: u64 = if bit { 0 } else { u64::MAX };
    let (head, rest) = value.get((first / 8) as usize..)?.split_first()?;
    let head = (head ^ flip as u8) & from_bit(first);
    if head != 0 {
        return Some(first / 8 * 8 + u64::from(head.leading_zeros()));
    }
    let rest_at = (first / 8 + 1) * 8;
    let (words, tail) = rest.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_be_bytes(*word) ^ flip);
    let tail_at = rest_at + words.len() as u64 * 64;
    let in_words = zip((rest_at..).step_by(64), words).find(|(_, word)| *word != 0);
    if let Some((at, word)) = in_words {
        return Some(at + u64::from(word.leading_zeros()));
    }
    let tail = tail.iter().map(|byte| byte ^ flip as u8);
    let in_tail = zip((tail_at..).step_by(8), tail).find(|(_, byte)| *byte != 0);
    in_tail.map(|(at, byte)| at + u64::from(byte.leading_zeros()))
}

/// What BITOP does with bits. Valkey 9.1 knows these four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitOp {
    /// 1 where all have 1.
    And,
    /// 1 where any has 1.
    Or,
    /// 1 where an odd number have 1.
    Xor,
    /// 1 where the one value has 0.
    Not,
}

impl BitOp {
    /// The operation of that name, in any case.
    pub fn parse(name: &[u8]) -> Option<Self> {
        [
            (&b"AND"[..], Self::And),
            (b"OR", Self::Or),
            (b"XOR", Self::Xor),
            (b"NOT", Self::Not),
        ]
        .into_iter()
        .find_map(|(known, op)| name.eq_ignore_ascii_case(known).then_some(op))
    }
}

/// Combines the values, bit by bit. The result is as long as the longest of them; the others go on
/// with zeros. [`BitOp::Not`] is of the first one; that there is no other is the caller's to see to.
pub fn combine(op: BitOp, values: &[&[u8]]) -> Vec<u8> {
    let Some((first, others)) = values.split_first() else {
        return Vec::new();
    };
    if op == BitOp::Not {
        return first.iter().map(|byte| !byte).collect();
    }
    let len = values.iter().map(|value| value.len()).max().unwrap_or(0);
    let mut result = Vec::with_capacity(len);
    result.extend_from_slice(first);
    result.resize(len, 0);
    for other in others {
        // Loops this plain are compiled to wide instructions.
        match op {
            BitOp::And => {
                zip(&mut result, *other).for_each(|(byte, other)| *byte &= other);
                result
                    .iter_mut()
                    .skip(other.len())
                    .for_each(|byte| *byte = 0);
            }
            BitOp::Or => zip(&mut result, *other).for_each(|(byte, other)| *byte |= other),
            BitOp::Xor | BitOp::Not => {
                zip(&mut result, *other).for_each(|(byte, other)| *byte ^= other);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: i64, end: i64, unit: Unit) -> BitRange {
        BitRange {
            start,
            end: Some(end),
            unit,
        }
    }

    fn from(start: i64) -> BitRange {
        BitRange {
            start,
            ..BitRange::ALL
        }
    }

    fn all_bits(value: &[u8]) -> Vec<bool> {
        (0..value.len() as u64 * 8)
            .map(|offset| get(value, offset))
            .collect()
    }

    #[test]
    fn bit_0_is_the_most_significant_of_the_first_byte() {
        let mut value = Vec::new();
        assert!(!set(&mut value, 0, true));
        assert_eq!(value, [0x80]);
        assert!(!set(&mut value, 15, true));
        assert_eq!(value, [0x80, 0x01]);
        assert!(set(&mut value, 0, false));
        assert_eq!(value, [0, 0x01]);
        assert!(get(&value, 15));
        assert!(!get(&value, 14));
        assert!(!get(&value, 16));
        assert!(!get(&value, u64::MAX));
    }

    #[test]
    fn setting_a_bit_to_0_behind_the_end_makes_the_value_longer() {
        let mut value = b"a".to_vec();
        assert!(!set(&mut value, 24, false));
        assert_eq!(value, b"a\0\0\0");
    }

    #[test]
    fn offsets_end_with_512_mib() {
        assert_eq!(parse_offset(b"0"), Some(0));
        assert_eq!(parse_offset(b"4294967295"), Some(MAX_OFFSET));
        for text in [
            "4294967296",
            "-1",
            "",
            "01",
            "#1",
            "x",
            "9223372036854775807",
        ] {
            assert_eq!(parse_offset(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_bit(b"0"), Some(false));
        assert_eq!(parse_bit(b"1"), Some(true));
        for text in ["", "2", "-1", "01"] {
            assert_eq!(parse_bit(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn names_are_taken_in_any_case_and_others_refused() {
        assert_eq!(Unit::parse(b"byte"), Some(Unit::Byte));
        assert_eq!(Unit::parse(b"Bit"), Some(Unit::Bit));
        assert_eq!(Unit::parse(b"bits"), None);
        assert_eq!(BitOp::parse(b"and"), Some(BitOp::And));
        assert_eq!(BitOp::parse(b"OR"), Some(BitOp::Or));
        assert_eq!(BitOp::parse(b"xOr"), Some(BitOp::Xor));
        assert_eq!(BitOp::parse(b"not"), Some(BitOp::Not));
        assert_eq!(BitOp::parse(b"DIFF"), None);
    }

    #[test]
    fn ones_are_counted_in_bytes_or_bits() {
        assert_eq!(count(b"foobar", BitRange::ALL), 26);
        assert_eq!(count(b"foobar", range(0, 0, Unit::Byte)), 4);
        assert_eq!(count(b"foobar", range(1, 1, Unit::Byte)), 6);
        assert_eq!(count(b"foobar", range(5, 30, Unit::Bit)), 17);
        assert_eq!(count(b"foobar", from(-2)), 7);
        assert_eq!(count(b"", BitRange::ALL), 0);
    }

    #[test]
    fn a_reversed_range_ahead_of_the_value_counts_nothing_but_has_a_position() {
        let range = range(-50, -100, Unit::Byte);
        assert_eq!(count(b"\xff", range), 0);
        assert_eq!(position(Some(b"\xff"), true, range), Some(0));
    }

    #[test]
    fn zeros_go_on_behind_a_value_only_if_no_end_was_given() {
        let ones = &b"\xff\xff"[..];
        assert_eq!(position(Some(ones), false, BitRange::ALL), Some(16));
        assert_eq!(position(Some(ones), false, from(1)), Some(16));
        assert_eq!(position(Some(ones), false, from(2)), None);
        assert_eq!(position(Some(ones), false, range(0, -1, Unit::Byte)), None);
        assert_eq!(position(Some(ones), false, range(0, 100, Unit::Bit)), None);
        assert_eq!(position(Some(b""), false, BitRange::ALL), None);
        assert_eq!(position(Some(b"\0\0"), true, BitRange::ALL), None);
    }

    #[test]
    fn a_missing_key_is_all_zeros() {
        assert_eq!(position(None, false, BitRange::ALL), Some(0));
        assert_eq!(position(None, false, range(5, 2, Unit::Bit)), Some(0));
        assert_eq!(position(None, true, BitRange::ALL), None);
    }

    #[test]
    fn positions_count_from_the_start_of_the_value() {
        let value = &b"\x00\xff\xf0\x00"[..];
        assert_eq!(position(Some(value), true, BitRange::ALL), Some(8));
        assert_eq!(position(Some(value), true, from(2)), Some(16));
        assert_eq!(position(Some(value), true, from(3)), None);
        assert_eq!(
            position(Some(value), false, range(1, 2, Unit::Byte)),
            Some(20)
        );
        assert_eq!(position(Some(value), false, range(8, 19, Unit::Bit)), None);
        assert_eq!(
            position(Some(value), true, range(-20, -1, Unit::Bit)),
            Some(12)
        );
    }

    #[test]
    fn shorter_values_are_combined_as_if_they_went_on_with_zeros() {
        let values = [&b"\xff\x0f\xff"[..], b"\xf0", b"\xcc\xff"];
        assert_eq!(combine(BitOp::And, &values), b"\xc0\0\0");
        assert_eq!(combine(BitOp::Or, &values), b"\xff\xff\xff");
        assert_eq!(combine(BitOp::Xor, &values), b"\xc3\xf0\xff");
        assert_eq!(combine(BitOp::Not, &values[..1]), b"\0\xf0\0");
        assert_eq!(combine(BitOp::And, &[b"", b"abc"]), b"\0\0\0");
        assert_eq!(combine(BitOp::Or, &[b"", b""]), b"");
        assert_eq!(combine(BitOp::Or, &[]), b"");
    }

    /// The bits that a range selects, one at a time; `None` if it is empty.
    fn model_range(value: &[u8], range: BitRange) -> Option<RangeInclusive<i64>> {
        let scale = if range.unit == Unit::Bit { 1 } else { 8 };
        let len = value.len() as i64 * 8 / scale;
        let place = |at: i64| if at < 0 { (len + at).max(0) } else { at };
        let (start, end) = (
            place(range.start),
            range.end.map_or(len - 1, place).min(len - 1),
        );
        (start <= end).then(|| start * scale..=end * scale + scale - 1)
    }

    /// Bytes that are often all ones or all zeros, so that searches go far.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![4 => Just(0_u8), 4 => Just(0xff), 1 => any::<u8>()];
        prop_oneof![
            prop::collection::vec(byte, 0..40),
            (any::<bool>(), 0..40_usize)
                .prop_map(|(bit, len)| vec![if bit { 0xff } else { 0 }; len]),
        ]
    }

    fn any_range() -> impl Strategy<Value = BitRange> {
        let unit = prop_oneof![Just(Unit::Byte), Just(Unit::Bit)];
        let span = prop_oneof![-50..50_i64, -400..400_i64];
        (span.clone(), prop::option::of(span), unit).prop_map(|(start, end, unit)| BitRange {
            start,
            end,
            // A unit can only be given behind an end.
            unit: if end.is_some() { unit } else { Unit::Byte },
        })
    }

    proptest! {
        #[test]
        fn a_bit_that_was_set_is_there_and_no_other_changed(
            before in prop::collection::vec(any::<u8>(), 0..10),
            offset in 0..200_u64,
            bit: bool,
        ) {
            let mut after = before.clone();
            prop_assert_eq!(set(&mut after, offset, bit), get(&before, offset));
            prop_assert_eq!(after.len(), before.len().max(offset as usize / 8 + 1));
            for at in 0..300 {
                let expected = if at == offset { bit } else { get(&before, at) };
                prop_assert_eq!(get(&after, at), expected);
            }
        }

        #[test]
        fn counting_agrees_with_looking_at_each_bit(value in value(), range in any_range()) {
            let reversed = range.start < 0 && range.end.is_some_and(|end| end < 0 && range.start > end);
            let model = model_range(&value, range).filter(|_| !reversed).map_or(0, |bits| {
                bits.filter(|at| get(&value, *at as u64)).count() as u64
            });
            prop_assert_eq!(count(&value, range), model);
        }

        #[test]
        fn searching_agrees_with_looking_at_each_bit(value in value(), range in any_range(), bit: bool) {
            let model = model_range(&value, range).and_then(|mut bits| {
                let behind = (!bit && range.end.is_none()).then_some(value.len() as u64 * 8);
                bits.find(|at| get(&value, *at as u64) == bit).map(|at| at as u64).or(behind)
            });
            prop_assert_eq!(position(Some(&value), bit, range), model);
        }

        #[test]
        fn combining_agrees_with_looking_at_each_bit(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..5),
        ) {
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let len = values.iter().map(|value| value.len()).max().unwrap() as u64 * 8;
            let column = |at: u64| values.iter().filter(|value| get(value, at)).count();
            for (op, model) in [
                (BitOp::And, &(|at| column(at) == values.len()) as &dyn Fn(u64) -> bool),
                (BitOp::Or, &|at| column(at) > 0),
                (BitOp::Xor, &|at| column(at) % 2 == 1),
            ] {
                let expected: Vec<bool> = (0..len).map(model).collect();
                prop_assert_eq!(all_bits(&combine(op, &values)), expected, "{:?}", op);
            }
            let negated: Vec<bool> = all_bits(values[0]).iter().map(|bit| !bit).collect();
            prop_assert_eq!(all_bits(&combine(BitOp::Not, &values[..1])), negated);
        }
    }
}
