//! The longest common subsequence of two values: LCS.
//!
//! The table L, where L(i, j) is the length for the first i bytes of one and the first j of the
//! other, is computed a row at a time, 64 columns at once: along a row, L grows by 0 or 1 a column,
//! so a row is a bit a column, and the next row follows from it by an addition and a few bit
//! operations (Hyyrö, 'Bit-parallel LCS-length computation revisited', 2004). The same bits, kept,
//! tell the way back through the table.

use std::iter::zip;

/// What the table would take with 4 bytes an entry, at most; Valkey's bound with its default
/// settings. Here it bounds the time, to some 2^27 steps of one bit, and the memory: 64 MiB and, in
/// all but the most lopsided cases, no more than 32 MiB.
pub const MAX_TABLE_BYTES: u64 = 512 << 20;

/// What is said of values whose table is [`TooLarge`].
pub const TOO_LARGE: &str =
    "Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";

/// The values are so long that their table would exceed [`MAX_TABLE_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{TOO_LARGE}")]
pub struct TooLarge;

/// A stretch that both values have, a part of the longest common subsequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Where it begins in the first value.
    pub first: usize,
    /// Where it begins in the second value.
    pub second: usize,
    /// How many bytes it has, at least one.
    pub len: usize,
}

/// The length of the longest common subsequence.
pub fn length(a: &[u8], b: &[u8]) -> Result<usize, TooLarge> {
    check(a, b)?;
    let masks = Masks::new(a, b);
    let mut row = masks.first_row();
    for byte in a {
        masks.advance(&mut row, *byte);
    }
    Ok(length_of(&row))
}

/// The longest common subsequence; of several, the one that Valkey returns.
pub fn subsequence(a: &[u8], b: &[u8]) -> Result<Vec<u8>, TooLarge> {
    let table = Table::new(a, b)?;
    let mut found = Vec::with_capacity(table.length);
    table.walk(a, b, |_, _, byte| found.push(byte));
    found.reverse();
    Ok(found)
}

/// The stretches that the longest common subsequence consists of, from the last to the first, those
/// shorter than `min_len` left out, and its length. LCS with IDX.
pub fn matches(a: &[u8], b: &[u8], min_len: usize) -> Result<(Vec<Match>, usize), TooLarge> {
    let table = Table::new(a, b)?;
    let mut found = Vec::new();
    let mut current: Option<Match> = None;
    table.walk(a, b, |first, second, _| match &mut current {
        Some(Match {
            first: f,
            second: s,
            len,
        }) if *f == first + 1 && *s == second + 1 => {
            (*f, *s, *len) = (first, second, *len + 1);
        }
        _ => {
            let next = Match {
                first,
                second,
                len: 1,
            };
            found.extend(current.replace(next).filter(|done| done.len >= min_len));
        }
    });
    found.extend(current.filter(|done| done.len >= min_len));
    Ok((found, table.length))
}

fn check(a: &[u8], b: &[u8]) -> Result<(), TooLarge> {
    let (rows, columns) = (a.len() as u64 + 1, b.len() as u64 + 1);
    let bytes = rows
        .checked_mul(columns)
        .and_then(|entries| entries.checked_mul(4));
    if bytes.is_some_and(|bytes| bytes <= MAX_TABLE_BYTES) {
        Ok(())
    } else {
        Err(TooLarge)
    }
}

/// For each byte, the columns where the second value has it: bit j % 64 of word j / 64. Bytes that
/// the values do not share have no words.
struct Masks {
    of_byte: Vec<Vec<u64>>,
    words: usize,
}

impl Masks {
    fn new(a: &[u8], b: &[u8]) -> Self {
        let mut wanted = [false; 256];
        for byte in a {
            if let Some(wanted) = wanted.get_mut(usize::from(*byte)) {
                *wanted = true;
            }
        }
        let words = b.len().div_ceil(64);
        let mut of_byte = vec![Vec::new(); 256];
        for (column, byte) in b.iter().enumerate() {
            let byte = usize::from(*byte);
            if wanted.get(byte) != Some(&true) {
                continue;
            }
            if let Some(mask) = of_byte.get_mut(byte) {
                if mask.is_empty() {
                    mask.resize(words, 0);
                }
                if let Some(word) = mask.get_mut(column / 64) {
                    *word |= 1 << (column % 64);
                }
            }
        }
        Self { of_byte, words }
    }

    /// Row 0. A bit of a row is 0 where L is one more than in the column ahead of it.
    fn first_row(&self) -> Vec<u64> {
        vec![u64::MAX; self.words]
    }

    /// Makes the row for one more byte of the first value out of the one ahead of it.
    fn advance(&self, row: &mut [u64], byte: u8) {
        let mask = self.of_byte.get(usize::from(byte));
        let mask = mask.map(Vec::as_slice).unwrap_or_default();
        let mut carry = false;
        for (word, mask) in zip(row, mask) {
            let (sum, first) = word.overflowing_add(*word & mask);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            carry = first || second;
            *word = sum | (*word & !mask);
        }
    }
}

fn length_of(row: &[u64]) -> usize {
    row.iter().map(|word| word.count_zeros() as usize).sum()
}

/// All rows but row 0, in whole bytes each.
struct Table {
    rows: Vec<u8>,
    bytes_per_row: usize,
    length: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> Result<Self, TooLarge> {
        check(a, b)?;
        let masks = Masks::new(a, b);
        let mut row = masks.first_row();
        let bytes_per_row = b.len().div_ceil(8);
        let mut rows = Vec::with_capacity(a.len() * bytes_per_row);
        for byte in a {
            masks.advance(&mut row, *byte);
            let mut room = bytes_per_row;
            for word in &row {
                let bytes = word.to_le_bytes();
                rows.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
                room = room.saturating_sub(bytes.len());
            }
        }
        let length = length_of(&row);
        Ok(Self {
            rows,
            bytes_per_row,
            length,
        })
    }

    /// Whether L(i, j) is greater than L(i, j - 1); i and j are at least 1.
    fn grows_at(&self, i: usize, j: usize) -> bool {
        let byte = self.rows.get((i - 1) * self.bytes_per_row + (j - 1) / 8);
        byte.is_some_and(|byte| byte >> ((j - 1) % 8) & 1 == 0)
    }

    /// Goes from the end of both values to the start of either, and tells of each pair of equal
    /// bytes that the subsequence has.
    ///
    /// Where the last bytes differ, L(i, j) is the greater of L(i - 1, j) and L(i, j - 1), and the
    /// way is to the greater, and to the latter if they are equal, as in Valkey. The former is the
    /// greater exactly if L(i, j) is greater than the latter.
    fn walk(&self, a: &[u8], b: &[u8], mut pair: impl FnMut(usize, usize, u8)) {
        let (mut i, mut j) = (a.len(), b.len());
        while let (Some(first), Some(second)) = (last_of(a, i), last_of(b, j)) {
            if first == second {
                (i, j) = (i - 1, j - 1);
                pair(i, j, first);
            } else if self.grows_at(i, j) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }
}

/// The last of the first `len` bytes.
fn last_of(value: &[u8], len: usize) -> Option<u8> {
    value.get(len.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(first: usize, second: usize, len: usize) -> Match {
        Match { first, second, len }
    }

    /// The table entry by entry, and the way through it, by their definitions.
    fn naive(a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<(usize, usize)>) {
        let mut table = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i][j] = if a[i - 1] == b[j - 1] {
                    table[i - 1][j - 1] + 1
                } else {
                    table[i - 1][j].max(table[i][j - 1])
                };
            }
        }
        let (mut i, mut j, mut pairs) = (a.len(), b.len(), Vec::new());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                pairs.push((i, j));
            } else if table[i - 1][j] > table[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        (pairs.iter().rev().map(|(i, _)| a[*i]).collect(), pairs)
    }

    #[test]
    fn the_example_of_the_documentation() {
        let (a, b) = (b"ohmytext", b"mynewtext");
        assert_eq!(length(a, b), Ok(6));
        assert_eq!(subsequence(a, b).unwrap(), b"mytext");
        assert_eq!(matches(a, b, 0), Ok((vec![at(4, 5, 4), at(2, 0, 2)], 6)));
        assert_eq!(matches(a, b, 4), Ok((vec![at(4, 5, 4)], 6)));
        assert_eq!(matches(a, b, 5), Ok((vec![], 6)));
    }

    #[test]
    fn values_with_nothing_in_common() {
        for (a, b) in [
            (&b""[..], &b""[..]),
            (b"", b"abc"),
            (b"abc", b""),
            (b"abc", b"xyz"),
        ] {
            assert_eq!(length(a, b), Ok(0));
            assert_eq!(subsequence(a, b).unwrap(), b"");
            assert_eq!(matches(a, b, 0), Ok((vec![], 0)));
        }
    }

    #[test]
    fn values_that_are_equal_are_one_match() {
        let value: Vec<u8> = (0..1000_u32).map(|i| (i * i % 251) as u8).collect();
        assert_eq!(subsequence(&value, &value).unwrap(), value);
        assert_eq!(matches(&value, &value, 1), Ok((vec![at(0, 0, 1000)], 1000)));
    }

    #[test]
    fn a_table_over_the_limit_is_refused_and_one_at_it_is_not() {
        // 4 * 11585 * 11585 is just under 512 MiB.
        let value = vec![b'x'; 11_585];
        assert_eq!(length(&value[1..], &value[1..]), Ok(11_584));
        assert_eq!(length(&value, &value), Err(TooLarge));
        assert_eq!(subsequence(&value, &value), Err(TooLarge));
        assert_eq!(matches(&value, &value, 0), Err(TooLarge));
    }

    #[test]
    fn a_long_and_a_short_value_are_compared_in_either_order() {
        let long = b"abcdefgh".repeat(1000);
        assert_eq!(subsequence(&long, b"hgf").unwrap(), b"hgf");
        assert_eq!(subsequence(b"hgf", &long).unwrap(), b"hgf");
        assert_eq!(matches(&long, b"c", 0), Ok((vec![at(7994, 0, 1)], 1)));
        assert_eq!(matches(b"c", &long, 0), Ok((vec![at(0, 7994, 1)], 1)));
    }

    proptest! {
        #[test]
        fn all_of_it_agrees_with_the_plain_table(
            a in prop_oneof!["[ab]{0,20}", "[a-d]{0,200}", "[a-z]{0,90}"],
            b in prop_oneof!["[ab]{0,20}", "[a-d]{0,200}", "[a-z]{0,90}"],
            min_len in 0..4_usize,
        ) {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let (sequence, pairs) = naive(a, b);
            prop_assert_eq!(length(a, b), Ok(sequence.len()));
            prop_assert_eq!(subsequence(a, b).unwrap(), sequence);
            let (all, len) = matches(a, b, 0).unwrap();
            prop_assert_eq!(len, pairs.len());
            let told: Vec<_> = all.iter().flat_map(|found| {
                (0..found.len).rev().map(|i| (found.first + i, found.second + i))
            }).collect();
            prop_assert_eq!(told, pairs);
            for pair in all.windows(2) {
                let joined = pair[1].first + pair[1].len == pair[0].first
                    && pair[1].second + pair[1].len == pair[0].second;
                prop_assert!(!joined, "{:?} is one match", pair);
            }
            let long: Vec<Match> = all.into_iter().filter(|found| found.len >= min_len).collect();
            prop_assert_eq!(matches(a, b, min_len).unwrap().0, long);
        }
    }
}
