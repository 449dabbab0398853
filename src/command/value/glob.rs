//! Patterns of KEYS and of SCAN's MATCH.

/// The most `*` that a pattern can make use of, runs of them counted once and one at its end not.
/// A pattern with more matches nothing.
pub const MAX_STARS: usize = 1000;

/// Whether all of `text` fits `pattern`.
///
/// `*` stands for any bytes, `?` for one byte, `[ab0-9]` for one of those listed, `[^ab0-9]` for
/// one that is not; `\` takes the byte behind it literally, in a class too. Any other byte stands
/// for itself. What needs care:
///
/// - A class that is not closed ends with the pattern. A `]` closes a class wherever it stands,
///   unless it is the end of a range: `[]` matches nothing, `[^]` any byte.
/// - The ends of a range may be in either order, and a `\` there is a plain byte. Bytes compare as
///   signed numbers, as they do in Valkey on x86-64: `[a-\xff]` has `\xff`, `\0` and what is between
///   `\0` and `a`, but not `b`.
/// - A `\` at the end of the pattern stands for itself.
/// - An empty text fits the empty pattern only. That KEYS * returns the empty key as well is KEYS's
///   doing.
///
/// Only the last `*` that was met is ever tried again, which suffices since everything else stands
/// for a fixed number of bytes: the time is at most the product of the two lengths.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut pattern, mut text) = (pattern, text);
    let mut stars = 0;
    // The pattern behind the last star, and the text that the star has not been made to cover.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', behind @ ..] = pattern {
            pattern = skip_stars(behind);
            if pattern.is_empty() {
                return true;
            }
            stars += 1;
            if stars > MAX_STARS {
                return false;
            }
            retry = Some((pattern, text));
        }
        let Some((byte, unread)) = text.split_first() else {
            // If the pattern goes on, then a star that covers more leaves even less for it.
            return pattern.is_empty();
        };
        if let Some((true, behind)) = fit_one(pattern, *byte) {
            (pattern, text) = (behind, unread);
            continue;
        }
        let Some((behind, [_, uncovered @ ..])) = retry else {
            return false;
        };
        (pattern, text) = (behind, uncovered);
        retry = Some((behind, uncovered));
    }
}

fn skip_stars(mut pattern: &[u8]) -> &[u8] {
    while let [b'*', behind @ ..] = pattern {
        pattern = behind;
    }
    pattern
}

/// Whether `byte` fits the first element of `pattern`, and what stands behind that element; `None`
/// if the pattern is empty. The element is not a star.
fn fit_one(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    Some(match pattern {
        [] => return None,
        [b'?', behind @ ..] => (true, behind),
        [b'[', b'^', class @ ..] => {
            let (listed, behind) = fit_class(class, byte);
            (!listed, behind)
        }
        [b'[', class @ ..] => fit_class(class, byte),
        [b'\\', literal, behind @ ..] | [literal, behind @ ..] => (*literal == byte, behind),
    })
}

/// Whether `byte` is in the class that `pattern` begins inside of, and what stands behind it.
fn fit_class(mut pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut listed = false;
    loop {
        pattern = match pattern {
            [] => return (listed, pattern),
            [b'\\', literal, behind @ ..] => {
                listed |= *literal == byte;
                behind
            }
            [b']', behind @ ..] => return (listed, behind),
            [first, b'-', last, behind @ ..] => {
                let (first, last) = (first.cast_signed(), last.cast_signed());
                listed |= (first.min(last)..=first.max(last)).contains(&byte.cast_signed());
                behind
            }
            [literal, behind @ ..] => {
                listed |= *literal == byte;
                behind
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    /// Matching by its definition, with all the backtracking there is.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', behind @ ..], _) => {
                (0..=text.len()).any(|covered| naive(behind, &text[covered..]))
            }
            (_, []) => false,
            (_, [byte, unread @ ..]) => match fit_one(pattern, *byte) {
                Some((true, behind)) => naive(behind, unread),
                _ => false,
            },
        }
    }

    #[track_caller]
    fn assert_matches(pattern: impl AsRef<[u8]>, text: impl AsRef<[u8]>) {
        let (pattern, text) = (pattern.as_ref(), text.as_ref());
        let shown = (pattern.escape_ascii(), text.escape_ascii());
        assert!(matches(pattern, text), "{} {}", shown.0, shown.1);
    }

    #[track_caller]
    fn assert_differs(pattern: impl AsRef<[u8]>, text: impl AsRef<[u8]>) {
        let (pattern, text) = (pattern.as_ref(), text.as_ref());
        let shown = (pattern.escape_ascii(), text.escape_ascii());
        assert!(!matches(pattern, text), "{} {}", shown.0, shown.1);
    }

    #[test]
    fn stars_cover_any_bytes_and_question_marks_one() {
        for pattern in [
            "user:*", "*:1", "*", "u*r*1", "us?r:?", "*user:1*", "user:1", "**:**",
        ] {
            assert_matches(pattern, "user:1");
        }
        for pattern in [
            "", "user", "user:", "user:1?", "?", "*2", "u*x*", "ser:1", "*:",
        ] {
            assert_differs(pattern, "user:1");
        }
        assert_matches("a*b*c", "aXbXbXc");
        assert_matches("*ab", "aab");
        assert_matches(b"?", b"\xff");
    }

    #[test]
    fn the_empty_text_fits_only_the_empty_pattern() {
        assert_matches("", "");
        for pattern in ["*", "**", "?", "[^", "a*", "\\"] {
            assert_differs(pattern, "");
        }
    }

    #[test]
    fn a_class_is_one_of_its_bytes_or_none_of_them() {
        assert_matches("[abc]", "b");
        assert_differs("[abc]", "d");
        assert_matches("[^abc]", "d");
        assert_differs("[^abc]", "b");
        assert_matches("[0-9a]", "5");
        assert_matches("[z-a]", "m");
        assert_matches("k[0-9]*x", "k5 x");
        assert_differs("[!a]", "b");
        assert_matches("[a^]", "^");
        assert_matches("[*]", "*");
        assert_differs("[*]", "a");
    }

    // Every answer in the next three was Valkey 9.1.2's own.

    #[test]
    fn a_class_that_is_not_closed_ends_with_the_pattern() {
        assert_differs("[", "[");
        assert_matches("[^", "x");
        assert_matches("[a", "a");
        assert_matches("[a-", "-");
        assert_matches("[a-c", "b");
        assert_matches("[\\", "\\");
        assert_matches("[^\\", "x");
        assert_differs("[a-\\", "b");
    }

    #[test]
    fn brackets_and_backslashes_inside_a_class() {
        assert_differs("[]", "]");
        assert_differs("[]a]", "]a]");
        assert_matches("[^]", "^");
        assert_matches("[\\]]", "]");
        assert_matches("[a\\-z]", "-");
        assert_differs("[a\\-z]", "m");
        assert_differs("[\\a-z]", "m");
        assert_differs("[a-\\]", "Z");
        assert_matches("[a-\\]]", "_]");
        assert_matches("[a-]]", "_");
        assert_matches("[a-]", "_");
        assert_differs("[a-]", "-");
        assert_matches("a\\", "a\\");
        assert_matches("\\*", "*");
        assert_differs("\\*", "a");
    }

    #[test]
    fn the_bytes_of_a_range_are_signed() {
        assert_differs(b"[\x00-\xff]", b"a");
        assert_matches(b"[\x00-\xff]", b"\xff");
        assert_differs(b"[a-\xff]", b"z");
        assert_matches(b"[a-\xff]", b"\x00");
        assert_matches(b"[\x80-\xff]", b"\xe4");
    }

    #[test]
    fn more_stars_than_the_limit_match_nothing() {
        let text = "a".repeat(MAX_STARS + 1);
        assert_matches("*?".repeat(MAX_STARS), &text);
        assert_matches("*?".repeat(MAX_STARS) + "*", &text);
        assert_differs("*?".repeat(MAX_STARS + 1), &text);
        assert_matches("*".repeat(5000) + "a", &text);
    }

    #[test]
    fn a_pattern_made_to_backtrack_takes_no_longer_than_the_product_of_the_lengths() {
        let started = Instant::now();
        let text = "a".repeat(10_000);
        assert_differs("a*".repeat(500) + "b", &text);
        assert_differs("*a".repeat(500) + "b", &text);
        assert_differs("*[^b-z]".repeat(100) + "b", &text);
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(
            pattern in "[ab*?\\[\\]^\\\\-]{0,12}",
            text in "[ab\\]^\\\\-]{1,8}",
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), naive(pattern, text));
        }

        #[test]
        fn a_text_fits_itself_when_every_byte_is_escaped(text: Vec<u8>) {
            let pattern: Vec<u8> = text.iter().flat_map(|byte| [b'\\', *byte]).collect();
            prop_assert!(matches(&pattern, &text));
        }

        #[test]
        fn no_pattern_stops_it(pattern: Vec<u8>, text: Vec<u8>) {
            matches(&pattern, &text);
        }
    }
}
