//! The text log of post-go-res, the server whose successor this one is.
//!
//! A record is a line: `3SET5hello5world`, `3DEL5hello`. Before each part stands its length in
//! bytes, in decimal, and nothing between the length and the part. So a length may run into digits
//! of the part itself, and a line may be read in several ways. A reading counts only if it uses the
//! line up to its end; for nearly every line just one does.
//!
//! Each line has a line break at its end. What stands behind the last one was cut short, unless
//! somebody has edited the file; where it can be read nevertheless, a length tells in nearly every case
//! that nothing is missing but the line break.

use std::io::{self, BufRead};

/// A longer line is no record: a value has at most 512 MiB here, and a key is not long.
const MAX_LINE_LEN: usize = (512 << 20) + (1 << 20);

/// What a record asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Set { key: &'a [u8], value: &'a [u8] },
    Del { key: &'a [u8] },
}

/// Every way to read `line`, which has no line break at its end. There are ten at most.
pub(super) fn readings(line: &[u8]) -> Vec<Record<'_>> {
    if let Some(rest) = line.strip_prefix(b"3DEL") {
        let keys = parts(rest).filter(|(_, behind)| behind.is_empty());
        keys.map(|(key, _)| Record::Del { key }).collect()
    } else if let Some(rest) = line.strip_prefix(b"3SET") {
        let pairs = parts(rest).flat_map(|(key, behind)| {
            let values = parts(behind).filter(|(_, behind)| behind.is_empty());
            values.map(move |(value, _)| Record::Set { key, value })
        });
        pairs.collect()
    } else {
        Vec::new()
    }
}

/// Whether a longer line than `line`, which can be read, may have begun as it does.
fn begins_longer(line: &[u8]) -> bool {
    if let Some(rest) = line.strip_prefix(b"3DEL") {
        begins_longer_part(rest)
    } else if let Some(rest) = line.strip_prefix(b"3SET") {
        begins_longer_part(rest) || parts(rest).any(|(_, behind)| begins_longer_part(behind))
    } else {
        false
    }
}

/// The same of a part.
fn begins_longer_part(bytes: &[u8]) -> bool {
    bytes.is_empty() || lengths(bytes).any(|(length, rest)| length > rest.len())
}

/// Every part that `bytes` can begin with, and what stands behind it.
fn parts(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lengths(bytes).filter_map(|(length, rest)| rest.split_at_checked(length))
}

/// Every length that `bytes` can begin with, and what stands behind it. A length has no more digits
/// than it needs.
fn lengths(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    // More digits than these are longer than any line.
    const MAX_DIGITS: usize = 10;
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
    let digits = digits.take(MAX_DIGITS).count();
    // Zero is a length of one digit, and no other begins with it.
    let digits = if bytes.first() == Some(&b'0') {
        1
    } else {
        digits
    };
    (1..=digits).filter_map(|digits| {
        let (length, rest) = bytes.split_at_checked(digits)?;
        let length = std::str::from_utf8(length).ok()?.parse().ok()?;
        Some((length, rest))
    })
}

/// The lines of a file, one in memory at a time.
pub(super) struct Lines<'a> {
    source: &'a mut dyn BufRead,
    line: Vec<u8>,
    number: u64,
    max_len: usize,
}

/// A line without its line break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) bytes: &'a [u8],
    /// Its length, which is more than that of `bytes` where it is too long to be a record.
    pub(super) len: u64,
    /// Whether there was a line break at its end.
    pub(super) is_ended: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(source: &'a mut dyn BufRead) -> Self {
        Self {
            source,
            line: Vec::new(),
            number: 0,
            max_len: MAX_LINE_LEN,
        }
    }

    /// The next line; `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        const KEEP: usize = 8 << 20;
        if self.line.capacity() > KEEP {
            self.line = Vec::new();
        }
        self.line.clear();
        let (mut len, mut is_ended) = (0, false);
        while !is_ended {
            let found = match self.source.fill_buf() {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if found.is_empty() {
                break;
            }
            let end = memchr::memchr(b'\n', found);
            is_ended = end.is_some();
            let part = found.get(..end.unwrap_or(found.len())).unwrap_or(found);
            len += part.len() as u64;
            let room = self.max_len.saturating_sub(self.line.len());
            self.line
                .extend_from_slice(part.get(..room).unwrap_or(part));
            let used = part.len() + usize::from(is_ended);
            self.source.consume(used);
        }
        if len == 0 && !is_ended {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(Line {
            number: self.number,
            bytes: &self.line,
            len,
            is_ended,
        }))
    }
}

impl<'a> Line<'a> {
    /// Every way to read it.
    pub(super) fn readings(&self) -> Vec<Record<'a>> {
        if self.len > self.bytes.len() as u64 {
            return Vec::new();
        }
        readings(self.bytes)
    }

    /// Whether it may be what was left of a longer one, though it can be read.
    pub(super) fn may_be_cut(&self) -> bool {
        !self.is_ended && begins_longer(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set<'a>(key: &'a [u8], value: &'a [u8]) -> Record<'a> {
        Record::Set { key, value }
    }

    #[test]
    fn a_line_with_one_reading_is_read() {
        for (line, record) in [
            (&b"3SET5hello5world"[..], set(b"hello", b"world")),
            (b"3DEL5hello", Record::Del { key: b"hello" }),
            // Lengths that run into digits.
            (b"3SET1k211", set(b"k", b"11")),
            (b"3SET1k10", set(b"k", b"0")),
            (b"3DEL3123", Record::Del { key: b"123" }),
            (b"3SET1k0", set(b"k", b"")),
            (b"3SET01v", set(b"", b"v")),
            (b"3DEL0", Record::Del { key: b"" }),
            (b"3SET10aaaaaaaaaa2bb", set(b"aaaaaaaaaa", b"bb")),
            (b"3SET1k4\0\xff\r ", set(b"k", b"\0\xff\r ")),
        ] {
            assert_eq!(readings(line), [record], "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_line_that_no_reading_uses_up_is_not_read() {
        for line in [
            &b""[..],
            b"3",
            b"3SET",
            b"3SET5hello",
            b"3SET5hello5worl",
            b"3SET5hello5worlds",
            b"3SET5hello5world\r",
            b"3set5hello5world",
            b"03SET5hello5world",
            b"3SET05hello5world",
            b"3SET5hello05world",
            b"3SET5hello-5world",
            b"3SET5hello+5world",
            b"3DEL5hell",
            b"3DEL5hello5world",
            b"3GET5hello",
            b"4INCR1k",
            b"3SET99999999999999999999999999999999a1b",
            b"\0\0\0\0",
        ] {
            assert_eq!(readings(line), [], "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_line_with_two_readings_has_both() {
        let line = b"3SET1111xxxxxxxxx1y";
        assert_eq!(
            readings(line),
            [set(b"1", b"xxxxxxxxx1y"), set(b"11xxxxxxxxx", b"y")]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_written_is_among_the_readings(
            key in "[0-9a-c]{0,12}", value in "[0-9a-c]{0,120}",
        ) {
            let (key, value) = (key.as_bytes(), value.as_bytes());
            let line = written(&set(key, value));
            let all = readings(&line);
            prop_assert!(all.contains(&set(key, value)));
            // Each of them would have been written as this line, and none is told twice.
            for (n, reading) in all.iter().enumerate() {
                prop_assert_eq!(&written(reading), &line);
                prop_assert!(!all[..n].contains(reading));
            }
            let line = written(&Record::Del { key });
            prop_assert_eq!(readings(&line), [Record::Del { key }]);
        }

        #[test]
        fn whatever_is_left_of_a_line_and_can_be_read_is_known_to_be_perhaps_cut(
            key in "[0-9a-c]{0,12}", value in "[0-9a-c]{0,120}",
        ) {
            let (key, value) = (key.as_bytes(), value.as_bytes());
            for line in [written(&set(key, value)), written(&Record::Del { key })] {
                for len in 0..line.len() {
                    let left = &line[..len];
                    prop_assert!(begins_longer(left) || readings(left).is_empty());
                }
            }
        }
    }

    /// The line that the original writes for a record.
    fn written(record: &Record<'_>) -> Vec<u8> {
        let part = |bytes: &[u8]| [bytes.len().to_string().as_bytes(), bytes].concat();
        match record {
            Record::Set { key, value } => [&part(b"SET")[..], &part(key), &part(value)].concat(),
            Record::Del { key } => [part(b"DEL"), part(key)].concat(),
        }
    }

    /// All lines: number, bytes, length, whether it is ended.
    fn lines(text: &[u8], max_len: usize, buffer: usize) -> Vec<(u64, Vec<u8>, u64, bool)> {
        let mut source = io::BufReader::with_capacity(buffer, text);
        let mut lines = Lines::new(&mut source);
        lines.max_len = max_len;
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push((line.number, line.bytes.to_vec(), line.len, line.is_ended));
        }
        all
    }

    #[test]
    fn lines_are_read_whole_wherever_the_buffer_ends() {
        for buffer in 1..8 {
            assert_eq!(lines(b"", 10, buffer), []);
            assert_eq!(
                lines(b"ab\n\ncde\nf", 10, buffer),
                [
                    (1, b"ab".to_vec(), 2, true),
                    (2, b"".to_vec(), 0, true),
                    (3, b"cde".to_vec(), 3, true),
                    (4, b"f".to_vec(), 1, false),
                ]
            );
        }
    }

    #[test]
    fn of_a_line_that_is_too_long_the_rest_is_not_kept_and_it_has_no_reading() {
        for buffer in 1..8 {
            let lines = lines(b"3DEL5hello\n3DEL1k\n", 6, buffer);
            let expected = [
                (1, b"3DEL5h".to_vec(), 10, true),
                (2, b"3DEL1k".to_vec(), 6, true),
            ];
            assert_eq!(lines, expected);
        }
        let cut = Line {
            number: 1,
            bytes: b"3DEL1k",
            len: 7,
            is_ended: true,
        };
        assert_eq!(cut.readings(), []);
    }
}
