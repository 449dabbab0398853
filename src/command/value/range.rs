//! Ranges of positions that may count from the end, as GETRANGE, BITCOUNT and BITPOS take them.

use std::ops::RangeInclusive;

/// The part of `value` from `start` to `end`, both included; a negative position counts from the
/// end, -1 being the last byte. GETRANGE.
pub fn slice(value: &[u8], start: i64, end: i64) -> &[u8] {
    // Both are taken from the end before they are moved to the start, so this is empty even where
    // both lie ahead of it.
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    clamp(start, end, value.len() as u64)
        .and_then(|range| value.get(*range.start() as usize..=*range.end() as usize))
        .unwrap_or_default()
}

/// The positions that `start` and `end` mean among `len`; `None` if there are none.
///
/// What lies ahead of the start is moved to it, the end of the range included: among three, -9 to
/// -8 is the first one. What lies behind the last position is cut off.
pub(super) fn clamp(start: i64, end: i64, len: u64) -> Option<RangeInclusive<u64>> {
    let len = i64::try_from(len).ok()?;
    let from_start = |position: i64| match position {
        ..0 => position.saturating_add(len).max(0),
        _ => position,
    };
    let (start, end) = (from_start(start), from_start(end).min(len - 1));
    (start <= end).then(|| start.unsigned_abs()..=end.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(start: i64, end: i64) -> &'static str {
        std::str::from_utf8(slice(b"abcdef", start, end)).unwrap()
    }

    #[test]
    fn positions_count_from_either_end() {
        assert_eq!(text(0, 0), "a");
        assert_eq!(text(1, 3), "bcd");
        assert_eq!(text(0, -1), "abcdef");
        assert_eq!(text(-3, -2), "de");
        assert_eq!(text(4, -1), "ef");
        assert_eq!(text(-2, 5), "ef");
    }

    #[test]
    fn a_range_that_leaves_the_value_is_cut() {
        assert_eq!(text(4, 100), "ef");
        assert_eq!(text(-100, 1), "ab");
        assert_eq!(text(i64::MIN, i64::MAX), "abcdef");
    }

    #[test]
    fn a_range_that_is_reversed_or_behind_the_value_is_empty() {
        assert_eq!(text(3, 2), "");
        assert_eq!(text(-1, -2), "");
        assert_eq!(text(6, 9), "");
        assert_eq!(text(i64::MAX, i64::MAX), "");
        assert_eq!(slice(b"", 0, -1), b"");
        assert_eq!(slice(b"", -5, 5), b"");
    }

    #[test]
    fn a_range_ahead_of_the_value_is_its_first_byte_unless_reversed() {
        assert_eq!(text(-100, -50), "a");
        assert_eq!(text(-50, -100), "");
        assert_eq!(text(0, -100), "a");
    }

    proptest! {
        #[test]
        fn a_range_is_what_its_positions_select(
            value in prop::collection::vec(any::<u8>(), 0..20),
            start in -30_i64..30,
            end in -30_i64..30,
        ) {
            let len = value.len() as i64;
            let place = |at: i64| if at < 0 { (len + at).max(0) } else { at };
            let reversed = start < 0 && end < 0 && start > end;
            let model: Vec<u8> = (0..len)
                .filter(|at| !reversed && *at >= place(start) && *at <= place(end))
                .map(|at| value[at as usize])
                .collect();
            prop_assert_eq!(slice(&value, start, end), model);
        }
    }
}
