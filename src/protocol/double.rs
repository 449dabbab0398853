//! How numbers that need not be whole are written: as Valkey writes them.

/// Up to this magnitude a whole number is written with all its digits.
const MAX_WHOLE: f64 = (1_u64 << 62) as f64;

/// The shortest text that reads back as this number.
///
/// Whole numbers have neither point nor exponent while they fit an integer easily. Others have no
/// exponent while few zeros are needed to do without; so `0.000015`, but `1e-7`.
pub(super) fn format(number: f64) -> String {
    if !number.is_finite() {
        // A NaN's sign means nothing.
        return if number.is_nan() {
            "nan".into()
        } else if number > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    if number.abs() <= MAX_WHOLE && number.fract() == 0.0 {
        // An integer has all its digits, and zero no sign.
        return (number as i64).to_string();
    }
    let scientific = format!("{number:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let digits = i32::try_from(digits).unwrap_or(i32::MAX);
    let exponent: i32 = exponent.parse().unwrap_or_default();
    // Were the digits a whole number, how many zeros it would need behind it, or if negative, how
    // many of the digits stand behind the point.
    let zeros = exponent - (digits - 1);
    if (zeros >= 0 && exponent < digits + 7) || (zeros < 0 && (zeros > -7 || exponent.abs() < 4)) {
        return format!("{number}");
    }
    format!("{mantissa}e{exponent:+}")
}

#[cfg(test)]
mod tests {
    use super::format;

    /// What Valkey 9.1 answers to ZSCORE in RESP3, for scores given so.
    #[test]
    fn doubles_are_written_as_valkey_writes_them() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (-1.0, "-1"),
            (0.1, "0.1"),
            (1.5, "1.5"),
            (1e5, "100000"),
            (1e17, "100000000000000000"),
            (4_611_686_018_427_387_904.0, "4611686018427387904"),
            (1e19, "1e+19"),
            (1e20, "1e+20"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1.2345e25, "1.2345e+25"),
            (1.5e300, "1.5e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (1e-3, "0.001"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-5, "0.000015"),
            (1.5e-6, "1.5e-6"),
            (1.234_567_89e-5, "1.23456789e-5"),
            (0.000_123, "0.000123"),
            (0.333_333_333_333_333_3, "0.3333333333333333"),
            (12_345.678, "12345.678"),
            (-1e-10, "-1e-10"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (-f64::NAN, "nan"),
        ] {
            assert_eq!(format(number), text);
        }
    }
}
