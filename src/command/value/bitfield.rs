//! Integers of any width at any bit of a value: BITFIELD.
//!
//! A field's first bit is its most significant one, and bits count as in [`bits`].

use super::{bits, number};

/// What is said of a type that [`FieldType::parse`] refuses.
pub const BAD_TYPE: &str =
    "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";

/// What is said of a way that [`Overflow::parse`] refuses.
pub const BAD_OVERFLOW: &str = "Invalid OVERFLOW type specified";

/// What BITFIELD_RO says of a SET or INCRBY.
pub const READ_ONLY: &str = "BITFIELD_RO only supports the GET subcommand";

/// The bytes that a field of 64 bits can touch.
const WINDOW: usize = 9;

/// The width of a field, and whether its numbers have a sign: `i1` to `i64`, `u1` to `u63`.
///
/// So each of its numbers is an [`i64`], which is what a reply can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldType {
    signed: bool,
    bits: u32,
}

impl FieldType {
    /// The type that `text` names, in small letters only.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (signed, bits) = match text {
            [b'i', bits @ ..] => (true, bits),
            [b'u', bits @ ..] => (false, bits),
            _ => return None,
        };
        let bits = u32::try_from(number::parse_i64(bits)?).ok()?;
        Self::new(signed, bits)
    }

    /// The type of this width, if there is one.
    pub fn new(signed: bool, bits: u32) -> Option<Self> {
        let most = if signed { 64 } else { 63 };
        (1..=most).contains(&bits).then_some(Self { signed, bits })
    }

    /// Whether its numbers have a sign.
    pub fn is_signed(self) -> bool {
        self.signed
    }

    /// Its width.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// The last bit of a field at `offset`.
    pub fn last_bit(self, offset: u64) -> u64 {
        offset + u64::from(self.bits) - 1
    }

    fn min(self) -> i128 {
        if self.signed {
            -(1 << (self.bits - 1))
        } else {
            0
        }
    }

    fn max(self) -> i128 {
        (1 << (self.bits - u32::from(self.signed))) - 1
    }

    fn mask(self) -> u128 {
        (1 << self.bits) - 1
    }

    /// The number that these bits are, whatever stands above them.
    fn number(self, bits: u128) -> i64 {
        let number = (bits & self.mask()).cast_signed();
        let negative = number > self.max();
        (if negative {
            number - (1 << self.bits)
        } else {
            number
        }) as i64
    }

    /// The number to store for `number`; `None` if it does not fit and shall not be made to.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        if (self.min()..=self.max()).contains(&number) {
            return Some(number as i64);
        }
        match overflow {
            Overflow::Wrap => Some(self.number(number.cast_unsigned())),
            Overflow::Sat => Some(number.clamp(self.min(), self.max()) as i64),
            Overflow::Fail => None,
        }
    }

    /// How far up a field at `offset` lies in its [`window`].
    fn shift(self, offset: u64) -> u32 {
        WINDOW as u32 * 8 - (offset % 8) as u32 - self.bits
    }
}

/// What becomes of a number that does not fit its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The bits that fit are kept.
    #[default]
    Wrap,
    /// The nearest number that fits is taken.
    Sat,
    /// Nothing is changed.
    Fail,
}

impl Overflow {
    /// The way of that name, in any case.
    pub fn parse(name: &[u8]) -> Option<Self> {
        [
            (&b"WRAP"[..], Self::Wrap),
            (b"SAT", Self::Sat),
            (b"FAIL", Self::Fail),
        ]
        .into_iter()
        .find_map(|(known, way)| name.eq_ignore_ascii_case(known).then_some(way))
    }
}

/// Where a field begins: a bit, or with a `#` ahead of it the number of a field, where fields of
/// this type stand one behind another. At most [`bits::MAX_OFFSET`]; what is refused is answered with
/// [`bits::BAD_OFFSET`].
///
/// A number of a field whose bit is beyond 64 bits is refused. In Valkey it can wrap around to a
/// small one.
pub fn parse_offset(text: &[u8], field: FieldType) -> Option<u64> {
    let offset = match text {
        [b'#', number @ ..] => {
            let number = u64::try_from(number::parse_i64(number)?).ok()?;
            number.checked_mul(u64::from(field.bits))?
        }
        offset => bits::parse_offset(offset)?,
    };
    (offset <= bits::MAX_OFFSET).then_some(offset)
}

/// The number in the field; behind the end of the value, all bits are 0.
pub fn get(value: &[u8], field: FieldType, offset: u64) -> i64 {
    field.number(window(value, offset) >> field.shift(offset))
}

/// Puts `number` into the field and returns what it held, or does nothing and returns `None` if the
/// number does not fit and `overflow` is [`Overflow::Fail`].
///
/// An unsigned field takes a negative number for one that is too large. A signed field takes a number
/// that is too low for what it is. In Valkey, [`Overflow::Sat`] stores the highest number of the type
/// instead, if what is to be stored lies further below that than an [`i64`] can tell: -2^63 in an i8
/// becomes 127 there, and -128 here, as documented.
///
/// The value grows as [`grow`] does it, if it must and only if something is stored.
pub fn set(
    value: &mut Vec<u8>,
    field: FieldType,
    offset: u64,
    number: i64,
    overflow: Overflow,
) -> Option<i64> {
    let wanted = if field.signed {
        i128::from(number)
    } else {
        i128::from(number.cast_unsigned())
    };
    let stored = field.fit(wanted, overflow)?;
    let before = get(value, field, offset);
    put(value, field, offset, stored);
    Some(before)
}

/// Adds `by` to the field and returns the sum as it is stored, or does nothing and returns `None`
/// if the sum does not fit and `overflow` is [`Overflow::Fail`].
///
/// The value grows as [`grow`] does it, if it must and only if something is stored.
pub fn increment(
    value: &mut Vec<u8>,
    field: FieldType,
    offset: u64,
    by: i64,
    overflow: Overflow,
) -> Option<i64> {
    let sum = i128::from(get(value, field, offset)) + i128::from(by);
    let stored = field.fit(sum, overflow)?;
    put(value, field, offset, stored);
    Some(stored)
}

/// Appends zeros until the value has all bits of the field.
///
/// BITFIELD does this before anything else, for the one of its SETs and INCRBYs that ends furthest
/// (by [`FieldType::last_bit`]), and whether or not any of them then fails.
pub fn grow(value: &mut Vec<u8>, field: FieldType, offset: u64) {
    bits::grow(value, field.last_bit(offset));
}

fn put(value: &mut Vec<u8>, field: FieldType, offset: u64, number: i64) {
    grow(value, field, offset);
    let shift = field.shift(offset);
    let number = (i128::from(number).cast_unsigned() & field.mask()) << shift;
    let bytes = (window(value, offset) & !(field.mask() << shift) | number).to_be_bytes();
    let at = (offset / 8) as usize;
    if let (Some(into), Some(bytes)) = (value.get_mut(at..), bytes.last_chunk::<WINDOW>()) {
        into.iter_mut()
            .zip(bytes)
            .for_each(|(into, byte)| *into = *byte);
    }
}

/// The bytes from the one that has the bit at `offset`, as a number of [`WINDOW`] bytes.
fn window(value: &[u8], offset: u64) -> u128 {
    let at = usize::try_from(offset / 8).unwrap_or(usize::MAX);
    let bytes = value.get(at..).unwrap_or_default().iter().copied();
    let bytes = bytes.chain([0; WINDOW]).take(WINDOW);
    bytes.fold(0, |number, byte| number << 8 | u128::from(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(text: &str) -> FieldType {
        FieldType::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn types_are_i1_to_i64_and_u1_to_u63() {
        for (text, signed, bits) in [
            ("i1", true, 1),
            ("i64", true, 64),
            ("u1", false, 1),
            ("u63", false, 63),
        ] {
            assert_eq!(field(text), FieldType { signed, bits });
        }
        for text in [
            "", "i", "u", "i0", "u0", "i65", "u64", "U8", "u08", "u-1", "u8\0", "8", "u+8",
        ] {
            assert_eq!(FieldType::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn an_offset_is_a_bit_or_the_number_of_a_field() {
        let at = |text: &str| parse_offset(text.as_bytes(), field("u8"));
        assert_eq!(at("9"), Some(9));
        assert_eq!(at("#9"), Some(72));
        assert_eq!(at("4294967295"), Some(bits::MAX_OFFSET));
        assert_eq!(at("#536870911"), Some(bits::MAX_OFFSET - 7));
        for text in [
            "",
            "#",
            "-1",
            "#-1",
            "##1",
            "4294967296",
            "#536870912",
            // Times 8, this is 0 in 64 bits.
            "#2305843009213693952",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn ways_of_overflowing_are_named_in_any_case() {
        assert_eq!(Overflow::parse(b"wrap"), Some(Overflow::Wrap));
        assert_eq!(Overflow::parse(b"SAT"), Some(Overflow::Sat));
        assert_eq!(Overflow::parse(b"Fail"), Some(Overflow::Fail));
        assert_eq!(Overflow::parse(b"saturate"), None);
    }

    #[test]
    fn a_field_lies_across_bytes_with_its_highest_bit_first() {
        let mut value = Vec::new();
        assert_eq!(set(&mut value, field("u5"), 7, 23, Overflow::Wrap), Some(0));
        assert_eq!(value, [0b0000_0001, 0b0111_0000]);
        assert_eq!(get(&value, field("u5"), 7), 23);
        assert_eq!(get(&value, field("i5"), 7), -9);
    }

    #[test]
    fn behind_the_end_is_zero_and_reading_does_not_grow() {
        assert_eq!(get(b"\xff", field("u8"), 4), 0xf0);
        assert_eq!(get(b"\xff", field("i64"), bits::MAX_OFFSET), 0);
        assert_eq!(get(b"", field("u63"), 0), 0);
    }

    #[test]
    fn what_does_not_fit_is_wrapped_capped_or_refused() {
        let u8_ = field("u8");
        for (overflow, stored) in [
            (Overflow::Wrap, Some(44)),
            (Overflow::Sat, Some(255)),
            (Overflow::Fail, None),
        ] {
            let mut value = vec![250];
            assert_eq!(increment(&mut value, u8_, 0, 50, overflow), stored);
            assert_eq!(i64::from(value[0]), stored.unwrap_or(250));
            let mut value = vec![7];
            assert_eq!(set(&mut value, u8_, 0, 300, overflow), stored.map(|_| 7));
            assert_eq!(i64::from(value[0]), stored.unwrap_or(7));
        }
        let mut value = vec![3];
        assert_eq!(increment(&mut value, u8_, 0, -4, Overflow::Sat), Some(0));
        assert_eq!(increment(&mut value, u8_, 0, -4, Overflow::Wrap), Some(252));
    }

    #[test]
    fn signed_fields_overflow_at_either_end() {
        let mut value = vec![0x7f];
        assert_eq!(
            increment(&mut value, field("i8"), 0, 1, Overflow::Wrap),
            Some(-128)
        );
        assert_eq!(
            increment(&mut value, field("i8"), 0, -1, Overflow::Sat),
            Some(-128)
        );
        assert_eq!(
            increment(&mut value, field("i8"), 0, -1, Overflow::Fail),
            None
        );
        let mut value = i64::MAX.to_be_bytes().to_vec();
        let i64_ = field("i64");
        assert_eq!(increment(&mut value, i64_, 0, 1, Overflow::Fail), None);
        assert_eq!(
            increment(&mut value, i64_, 0, 1, Overflow::Wrap),
            Some(i64::MIN)
        );
        assert_eq!(
            increment(&mut value, i64_, 0, i64::MIN, Overflow::Sat),
            Some(i64::MIN)
        );
        assert_eq!(set(&mut value, i64_, 0, -1, Overflow::Fail), Some(i64::MIN));
        assert_eq!(get(&value, i64_, 0), -1);
    }

    #[test]
    fn the_lowest_number_saturates_to_the_lowest_of_the_type() {
        let mut value = vec![0];
        set(&mut value, field("i8"), 0, i64::MIN, Overflow::Sat);
        assert_eq!(get(&value, field("i8"), 0), -128);
    }

    #[test]
    fn an_unsigned_field_takes_a_negative_number_for_a_large_one() {
        let mut value = vec![0];
        assert_eq!(set(&mut value, field("u8"), 0, -1, Overflow::Sat), Some(0));
        assert_eq!(value, [255]);
        assert_eq!(
            set(&mut value, field("u8"), 0, -256, Overflow::Wrap),
            Some(255)
        );
        assert_eq!(value, [0]);
        assert_eq!(set(&mut value, field("u8"), 0, -1, Overflow::Fail), None);
    }

    #[test]
    fn a_refused_number_leaves_the_value_as_short_as_it_was() {
        let mut value = Vec::new();
        assert_eq!(set(&mut value, field("u2"), 100, 4, Overflow::Fail), None);
        assert_eq!(value, b"");
        grow(&mut value, field("u2"), 7);
        assert_eq!(value, b"\0\0");
    }

    fn any_field() -> impl Strategy<Value = FieldType> {
        (any::<bool>(), 1..=64_u32).prop_map(|(signed, bits)| FieldType {
            signed,
            bits: bits.min(if signed { 64 } else { 63 }),
        })
    }

    proptest! {
        #[test]
        fn a_field_is_its_bits_one_by_one(
            before in prop::collection::vec(any::<u8>(), 0..30),
            field in any_field(),
            offset in 0..200_u64,
            number: i64,
        ) {
            let mut after = before.clone();
            set(&mut after, field, offset, number, Overflow::Wrap);
            let last = field.last_bit(offset);
            for at in 0..300 {
                let expected = match at {
                    _ if at >= offset && at <= last => number >> (last - at) & 1 == 1,
                    _ => bits::get(&before, at),
                };
                prop_assert_eq!(bits::get(&after, at), expected, "bit {}", at);
            }
            prop_assert_eq!(after.len(), before.len().max(last as usize / 8 + 1));
            let dropped = 64 - field.bits;
            let kept = if field.signed {
                number << dropped >> dropped
            } else {
                (number.cast_unsigned() << dropped >> dropped).cast_signed()
            };
            prop_assert_eq!(get(&after, field, offset), kept);
        }

        #[test]
        fn a_sum_that_fits_is_stored_and_another_is_not(
            mut value in prop::collection::vec(any::<u8>(), 20..30),
            field in any_field(),
            offset in 0..80_u64,
            by in prop_oneof![any::<i64>(), -5..5_i64],
        ) {
            let before = get(&value, field, offset);
            let sum = i128::from(before) + i128::from(by);
            let fits = sum >= field.min() && sum <= field.max();
            let stored = increment(&mut value, field, offset, by, Overflow::Fail);
            prop_assert_eq!(stored.map(i128::from), fits.then_some(sum));
            prop_assert_eq!(get(&value, field, offset), stored.unwrap_or(before));
        }
    }
}
