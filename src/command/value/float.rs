//! Floats as INCRBYFLOAT computes with them.
//!
//! Valkey uses C's `long double`, which on x86-64 has a significand of 64 bits and an exponent of
//! 15. A replay must give the same value on every machine, so the three operations that are needed,
//! reading, adding and writing, are done here, with integers, exactly as such a machine does them
//! with glibc: each result is the representable number nearest to the exact one, the even one of
//! two. What is printed has 17 digits behind the point, zeros at the end left out, and shows what
//! the computation lost: 0.1 and 0.2 make 0.3, but 1000000.1 and 0.1 make 1000000.20000000000004547.
//! Decimal arithmetic would print fewer digits there, and not what Valkey prints.
//!
//! Every size is bounded: a text by [`MAX_TEXT_LEN`], a number by 2^16384, which takes 4932 digits.

use super::bignum::{Leading, Natural};

/// The longest text that is read as a float.
pub const MAX_TEXT_LEN: usize = 5 * 1024 - 1;

/// Why a float cannot be incremented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FloatError {
    /// One of the texts is not a float.
    #[error("value is not a valid float")]
    Invalid,
    /// The sum would be no number, or one that is too large.
    #[error("increment would produce NaN or Infinity")]
    NotFinite,
}

/// The sum of the two floats, as text. INCRBYFLOAT.
pub fn increment(value: &[u8], by: &[u8]) -> Result<String, FloatError> {
    let value = Float::parse(value).ok_or(FloatError::Invalid)?;
    let by = Float::parse(by).ok_or(FloatError::Invalid)?;
    let sum = value.checked_add(by).ok_or(FloatError::NotFinite)?;
    Ok(sum.to_text())
}

/// Bits of a significand.
const PRECISION: u32 = 64;

/// The exponent of the least positive float, which is 1 at this exponent.
const MIN_EXPONENT: i32 = -16_445;

/// Floats are below 2 to the power of this.
const MAX_EXPONENT: i32 = 16_384;

/// Digits behind the point of a printed float.
const FRACTION_DIGITS: u32 = 17;

/// A number with a significand of 64 bits, or an infinity; what `long double` is on x86-64, less
/// the values that are no numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Float {
    negative: bool,
    magnitude: Magnitude,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Magnitude {
    Infinite,
    /// `significand` times 2 to the power of `exponent`. The highest bit of the significand is 1,
    /// unless the exponent is [`MIN_EXPONENT`].
    Finite {
        significand: u64,
        exponent: i32,
    },
}

impl Float {
    /// The float that `text` is, all of it.
    ///
    /// Accepted are decimal numbers, with or without a sign, point and exponent, hexadecimal ones
    /// (`0x1.8p3`), `inf` and `infinity`, letters in any case. Refused are white space, `nan`, texts
    /// over [`MAX_TEXT_LEN`], and numbers that are not 0 but would be rounded to 0 or to infinity:
    /// from about 1.2e4932 on, and to about 1.8e-4951.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_TEXT_LEN {
            return None;
        }
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let infinite = [&b"inf"[..], b"infinity"]
            .iter()
            .any(|name| text.eq_ignore_ascii_case(name));
        let magnitude = match text {
            _ if infinite => Magnitude::Infinite,
            [b'0', b'x' | b'X', rest @ ..] => parse_hexadecimal(rest)?,
            _ => parse_decimal(text)?,
        };
        Some(Self {
            negative,
            magnitude,
        })
    }

    /// The sum; `None` if it is too large, or one of the two is infinite.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        use Magnitude::Finite;
        let (
            Finite { exponent: own, .. },
            Finite {
                exponent: others, ..
            },
        ) = (self.magnitude, other.magnitude)
        else {
            return None;
        };
        let (large, small) = if own >= others {
            (self, other)
        } else {
            (other, self)
        };
        let (
            Finite {
                significand,
                exponent,
            },
            Finite {
                significand: addend,
                ..
            },
        ) = (large.magnitude, small.magnitude)
        else {
            return None;
        };
        // The significand of the one with the higher exponent is moved up by as much as 128 bits
        // allow, the other one's down by the rest; then some of it may be lost.
        let apart = own.abs_diff(others);
        let up = apart.min(u128::BITS - PRECISION - 1);
        let down = apart - up;
        let aligned = u128::from(significand) << up;
        let addend = u128::from(addend);
        let kept = addend.checked_shr(down).unwrap_or(0);
        let inexact = kept.checked_shl(down).unwrap_or(0) != addend;
        let (bits, negative) = if large.negative == small.negative {
            (aligned + kept, large.negative)
        } else if aligned >= kept {
            // What was lost makes the difference less than one smaller.
            (aligned - kept - u128::from(inexact), large.negative)
        } else {
            (kept - aligned, small.negative)
        };
        let exponent = exponent - up.cast_signed();
        let magnitude = round(Leading {
            bits,
            exponent,
            inexact,
        })?;
        Some(Self {
            negative,
            magnitude,
        })
    }

    /// The number with up to 17 digits behind the point, and no more than it needs.
    pub fn to_text(self) -> String {
        let (significand, exponent) = match self.magnitude {
            Magnitude::Infinite => return if self.negative { "-inf" } else { "inf" }.to_owned(),
            Magnitude::Finite {
                significand,
                exponent,
            } => (significand, exponent),
        };
        let sign = if self.negative { "-" } else { "" };
        let Ok(down) = u32::try_from(-exponent) else {
            return format!("{sign}{}", shifted_up(significand, exponent.unsigned_abs()));
        };
        let scaled = u128::from(significand) * 10_u128.pow(FRACTION_DIGITS);
        let number = shifted_down(scaled, down);
        if number == 0 {
            return "0".to_owned();
        }
        let one = 10_u128.pow(FRACTION_DIGITS);
        let (whole, fraction) = (number / one, number % one);
        let text = format!(
            "{sign}{whole}.{fraction:0width$}",
            width = FRACTION_DIGITS as usize
        );
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// `number` divided by 2 to the power of `by`, rounded to the nearest, to the even one of two.
fn shifted_down(number: u128, by: u32) -> u128 {
    let Some(kept) = number.checked_shr(by) else {
        // Two to the power of 128 and above is more than twice any number that comes here.
        return 0;
    };
    let lost = number - (kept << by);
    let twice = lost.checked_mul(2);
    let up = match (1_u128.checked_shl(by), twice) {
        (Some(one), Some(twice)) => twice > one || (twice == one && kept & 1 == 1),
        _ => false,
    };
    kept + u128::from(up)
}

/// `number` times 2 to the power of `by`, in decimal.
fn shifted_up(number: u64, by: u32) -> String {
    /// The highest power of 10 that a word holds.
    const STEP: u32 = 19;
    let mut number = Natural::from_digits(number.to_be_bytes().into_iter(), 256);
    number.shift_left(by);
    let mut parts = Vec::new();
    while !number.is_zero() {
        parts.push(number.divide(10_u64.pow(STEP)));
    }
    let mut text = parts.pop().unwrap_or(0).to_string();
    for part in parts.iter().rev() {
        text.push_str(&format!("{part:0width$}", width = STEP as usize));
    }
    text
}

/// The float nearest to a number; `None` if that is infinity, or 0 while the number is not 0.
///
/// A number that is inexact has at least 66 bits, so what is missing is behind the first bit that
/// is cut off, where it only matters that it is not 0.
fn round(number: Leading) -> Option<Magnitude> {
    let Leading {
        bits,
        exponent,
        inexact,
    } = number;
    if bits == 0 {
        return Some(Magnitude::Finite {
            significand: 0,
            exponent: MIN_EXPONENT,
        });
    }
    let len = u128::BITS - bits.leading_zeros();
    let excess = len.cast_signed() - PRECISION.cast_signed();
    let cut = excess.max(MIN_EXPONENT.checked_sub(exponent)?);
    let exponent = exponent + cut;
    let Ok(cut) = u32::try_from(cut) else {
        let significand = (bits << cut.unsigned_abs()) as u64;
        return finite(significand, exponent);
    };
    let kept = bits.checked_shr(cut).unwrap_or(0);
    let lost = bits - kept.checked_shl(cut).unwrap_or(0);
    // Where there is no such bit, the number is less than half of the least float.
    let half = cut
        .checked_sub(1)
        .and_then(|place| 1_u128.checked_shl(place));
    let up = half.is_some_and(|half| lost > half || (lost == half && (inexact || kept & 1 == 1)));
    let rounded = kept + u128::from(up);
    match u64::try_from(rounded) {
        Ok(0) => None,
        Ok(significand) => finite(significand, exponent),
        // All bits were 1, and it was rounded up.
        Err(_) => finite(1 << 63, exponent + 1),
    }
}

fn finite(significand: u64, exponent: i32) -> Option<Magnitude> {
    let fits = exponent <= MAX_EXPONENT - PRECISION.cast_signed();
    fits.then_some(Magnitude::Finite {
        significand,
        exponent,
    })
}

fn parse_decimal(text: &[u8]) -> Option<Magnitude> {
    let Parsed {
        digits,
        len,
        exponent,
    } = parse_digits(text, 10, b'e')?;
    // The number is below 10 to the power of this, and not below a tenth of that.
    let power = exponent.checked_add(len)?;
    if len != 0 && !(-4_960..=4_940).contains(&power) {
        return None;
    }
    let mut number = Natural::from_digits(digits, 10);
    if number.is_zero() {
        return round(number.leading());
    }
    let leading = if exponent < 0 {
        let mut divisor = Natural::from_digits(std::iter::once(1), 10);
        divisor.multiply_by_power_of_5(exponent.unsigned_abs());
        number.leading_of_quotient(divisor)
    } else {
        number.multiply_by_power_of_5(exponent.unsigned_abs());
        number.leading()
    };
    let exponent = leading.exponent + exponent;
    round(Leading {
        exponent,
        ..leading
    })
}

fn parse_hexadecimal(text: &[u8]) -> Option<Magnitude> {
    let Parsed {
        digits, exponent, ..
    } = parse_digits(text, 16, b'p')?;
    let leading = Natural::from_digits(digits, 16).leading();
    let exponent = leading.exponent.checked_add(exponent)?;
    round(Leading {
        exponent,
        ..leading
    })
}

/// A number as it is written: these digits times the base of the exponent to the power of it.
struct Parsed<I> {
    digits: I,
    /// How many digits there are from the first that is not 0 on.
    len: i32,
    exponent: i32,
}

/// Takes `text` apart: digits, of which one at least, with a point or without, and an exponent, if
/// `marker` stands behind them.
fn parse_digits(text: &[u8], radix: u32, marker: u8) -> Option<Parsed<impl Iterator<Item = u8>>> {
    let value_of = move |byte: &u8| char::from(*byte).to_digit(radix).map(|digit| digit as u8);
    let digits_of = |text: &[u8]| {
        text.iter()
            .take_while(|byte| value_of(byte).is_some())
            .count()
    };
    let (whole, rest) = text.split_at_checked(digits_of(text))?;
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => rest.split_at_checked(digits_of(rest))?,
        rest => (&[][..], rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let exponent = match rest {
        [] => 0,
        [first, exponent @ ..] if first.eq_ignore_ascii_case(&marker) => parse_exponent(exponent)?,
        _ => return None,
    };
    let digits = whole.iter().chain(fraction).filter_map(value_of);
    let len = digits.clone().skip_while(|digit| *digit == 0).count() as i32;
    // A hexadecimal digit has four bits, and its exponent is one of 2.
    let places = fraction.len() as i32 * if radix == 16 { 4 } else { 1 };
    Some(Parsed {
        digits,
        len,
        exponent: exponent - places,
    })
}

/// An exponent, one that is far outside of what a float has being moved to some 2^29.
fn parse_exponent(text: &[u8]) -> Option<i32> {
    const FAR: i32 = 1 << 29;
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let exponent = digits.iter().try_fold(0_i32, |exponent, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        Some(
            exponent
                .saturating_mul(10)
                .saturating_add(digit.cast_signed())
                .min(FAR),
        )
    })?;
    Some(if negative { -exponent } else { exponent })
}
