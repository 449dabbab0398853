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
/// A number that is inexact has at least 65 bits, so what is missing is behind the first bit that
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn sum(value: &str, by: &str) -> Result<String, FloatError> {
        increment(value.as_bytes(), by.as_bytes())
    }

    fn shown(text: &str) -> Option<String> {
        Float::parse(text.as_bytes()).map(Float::to_text)
    }

    #[test]
    fn every_answer_that_was_recorded_from_valkey_is_given() {
        let lines = include_str!("float_corpus.txt").lines();
        let mut checked = 0;
        for line in lines.filter(|line| !line.starts_with('#')) {
            let [value, by, recorded] = *line.split(' ').collect::<Vec<_>>() else {
                panic!("{line}");
            };
            let expected = match recorded {
                "invalid" => Err(FloatError::Invalid),
                "not-finite" => Err(FloatError::NotFinite),
                text => Ok(text.to_owned()),
            };
            assert_eq!(sum(value, by), expected, "{line}");
            checked += 1;
        }
        assert!(checked > 400, "{checked} lines");
    }

    #[test]
    fn white_space_and_empty_texts_are_refused() {
        for text in [
            "", " ", " 1", "1 ", "\t1", "1\n", "\x0b1", "1\0", "\0", "1 2",
        ] {
            assert_eq!(sum(text, "0"), Err(FloatError::Invalid), "{text:?}");
            assert_eq!(sum("0", text), Err(FloatError::Invalid), "{text:?}");
        }
        assert_eq!(Float::parse(b"\xff"), None);
        assert_eq!(Float::parse("\u{661}".as_bytes()), None);
    }

    #[test]
    fn a_text_over_the_limit_is_refused_whatever_it_says() {
        assert_eq!(shown(&("0".repeat(MAX_TEXT_LEN - 1) + "1")).unwrap(), "1");
        assert_eq!(shown(&("0".repeat(MAX_TEXT_LEN) + "1")), None);
        assert_eq!(
            shown(&("0.".to_owned() + &"3".repeat(MAX_TEXT_LEN - 2))).unwrap(),
            "0.33333333333333333"
        );
    }

    #[test]
    fn an_invalid_value_is_reported_ahead_of_an_infinite_sum() {
        assert_eq!(sum("inf", "x"), Err(FloatError::Invalid));
        assert_eq!(sum("x", "inf"), Err(FloatError::Invalid));
        assert_eq!(
            FloatError::Invalid.to_string(),
            "value is not a valid float"
        );
        assert_eq!(
            FloatError::NotFinite.to_string(),
            "increment would produce NaN or Infinity"
        );
    }

    #[test]
    fn the_largest_floats_are_printed_in_full() {
        let text = shown("1e4931").unwrap();
        assert_eq!(text.len(), 4932);
        assert!(text.starts_with("100000000000000000000601894938"), "{text}");
        assert!(text.ends_with("188662272"), "{text}");
        let largest = format!("0x{}p16320", "f".repeat(16));
        assert!(
            shown(&largest)
                .unwrap()
                .starts_with("118973149535723176502")
        );
        assert_eq!(
            shown(&format!("0x{}.7p16320", "f".repeat(16))),
            shown(&largest)
        );
        assert_eq!(shown(&format!("0x{}.8p16320", "f".repeat(16))), None);
        assert_eq!(sum(&largest, "0x1p16319"), Err(FloatError::NotFinite));
        assert_eq!(
            sum(&largest, "0x1p16318").unwrap(),
            shown(&largest).unwrap()
        );
    }

    #[test]
    fn a_tie_goes_to_the_even_neighbour_and_anything_more_breaks_it() {
        // With 65 bits, the last one is half of what a significand can tell.
        assert_eq!(
            shown("18446744073709551617").unwrap(),
            "18446744073709551616"
        );
        assert_eq!(
            shown("18446744073709551619").unwrap(),
            "18446744073709551620"
        );
        assert_eq!(
            shown("18446744073709551617.0000000000000000000000000000000000000001").unwrap(),
            "18446744073709551618"
        );
        assert_eq!(
            shown("0x10000000000000001.000000000000000000000000000000000000001").unwrap(),
            "18446744073709551618"
        );
        // What is subtracted may be far below the last bit and still decide.
        assert_eq!(
            sum("18446744073709551616", "1").unwrap(),
            "18446744073709551616"
        );
        assert_eq!(
            sum("18446744073709551616", "1.0000000000000000001").unwrap(),
            "18446744073709551618"
        );
        assert_eq!(
            sum("18446744073709551618", "-1.0000000000000000001").unwrap(),
            "18446744073709551616"
        );
        assert_eq!(
            sum("18446744073709551616", "-1e-4940").unwrap(),
            "18446744073709551616"
        );
        // A printed tie, behind the 17th digit.
        assert_eq!(shown("0x1p-18").unwrap(), "0.00000381469726562");
        assert_eq!(shown("0x3p-18").unwrap(), "0.00001144409179688");
    }

    #[test]
    fn the_longest_and_most_extreme_texts_take_little_time() {
        let started = Instant::now();
        let ones = "1".repeat(5000);
        for text in [
            format!("{ones}e-5000"),
            format!("0.{ones}e-4000"),
            format!("0.{}1e{}", "0".repeat(5000), "9".repeat(100)),
            format!("{ones}e-99999999999999999999"),
            format!("0x{ones}p-16000"),
            "1e4931".to_owned(),
            "1e-4949".to_owned(),
            "1e999999999".to_owned(),
            "1e-999999999".to_owned(),
            "0x1p-2147483648".to_owned(),
            "0x1p2147483648".to_owned(),
        ] {
            let _ = sum(&text, &text);
        }
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    proptest! {
        #[test]
        fn integers_of_64_bits_are_exact(a in any::<i64>(), b in any::<u32>()) {
            prop_assert_eq!(shown(&a.to_string()).unwrap(), a.to_string());
            let exact = i128::from(a) + i128::from(b);
            prop_assert_eq!(sum(&a.to_string(), &b.to_string()).unwrap(), exact.to_string());
        }

        #[test]
        fn a_float_is_the_nearest_to_its_text(mantissa: u64, exponent in -300..280_i32) {
            // Rounded a second time, to the 53 bits of what the standard library reads, it may
            // differ from that in the last bit.
            let text = format!("{mantissa}e{exponent}");
            let Float { magnitude: Magnitude::Finite { significand, exponent }, .. } =
                Float::parse(text.as_bytes()).unwrap() else { panic!("{text}") };
            let expected: f64 = text.parse().unwrap();
            // Two factors, since 2 to the power of the whole exponent may not be an f64.
            let half = exponent / 2;
            let found = significand as f64 * 2_f64.powi(half) * 2_f64.powi(exponent - half);
            prop_assert!((found - expected).abs() <= expected * f64::EPSILON, "{found} {expected}");
        }

        #[test]
        fn what_is_printed_reads_back_and_prints_the_same(
            a in "-?[0-9]{1,2}(\\.[0-9]{1,17})?",
            b in "-?[0-9]{1,12}(\\.[0-9]{1,8})?(e-?[0-9])?",
        ) {
            let text = sum(&a, &b).unwrap();
            prop_assert_eq!(sum(&b, &a).unwrap(), text.clone());
            prop_assert_eq!(shown(&text).unwrap(), text);
        }

        #[test]
        fn no_text_stops_it(text in "[-+]?(0x)?[0-9a-f.]{0,30}([ep][-+]?[0-9]{0,12})?", other: String) {
            let _ = sum(&text, &other);
            let _ = sum(&text, &text);
        }

        #[test]
        fn no_bytes_stop_it(bytes: Vec<u8>) {
            let _ = increment(&bytes, &bytes);
        }
    }
}
