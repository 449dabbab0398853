//! Integers as text.

/// The integer that `text` is the one spelling of: what formatting it gives, and nothing else.
///
/// A `+`, a leading zero, `-0`, white space and numbers outside of [`i64`] are refused. So a value
/// that is a counter can be told from one that merely resembles a number, and reads back as it was.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    digits.iter().try_fold(0_i64, |number, byte| {
        let digit = i64::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        // Counted downwards where it is negative, since i64::MIN has no positive counterpart.
        let number = number.checked_mul(10)?;
        if negative {
            number.checked_sub(digit)
        } else {
            number.checked_add(digit)
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_integer_has_one_spelling() {
        for (text, number) in [
            ("0", 0),
            ("7", 7),
            ("-1", -1),
            ("10", 10),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), Some(number), "{text}");
        }
    }

    #[test]
    fn whatever_is_not_that_spelling_is_refused() {
        for text in [
            "",
            "-",
            "+1",
            "-0",
            "00",
            "01",
            "-01",
            " 1",
            "1 ",
            "1\0",
            "1.0",
            "1e3",
            "0x1",
            "--1",
            "/",
            ":",
            "1:",
            "1/",
            "9223372036854775808",
            "-9223372036854775809",
            "92233720368547758070",
            "18446744073709551616",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_integer_comes_back_from_its_text(number: i64) {
            prop_assert_eq!(parse_i64(number.to_string().as_bytes()), Some(number));
        }

        #[test]
        fn a_text_is_accepted_exactly_when_it_is_the_integer_s_own(text in "[-+]?[0-9]{0,21}") {
            let model = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
            prop_assert_eq!(parse_i64(text.as_bytes()), model);
        }

        #[test]
        fn any_bytes_are_refused_or_read_back(bytes: Vec<u8>) {
            if let Some(number) = parse_i64(&bytes) {
                prop_assert_eq!(number.to_string().into_bytes(), bytes);
            }
        }
    }
}
