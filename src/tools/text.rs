//! Operations as lines for people.
//!
//! `SET key="a\x00b" value="1"`: bytes stand in quotes, printable ASCII as it is, all else escaped,
//! as redis-cli does it. So a line has no other byte than printable ASCII, and one meaning.

use std::io::{self, Write};

use crate::command::Shown;
use crate::time::Timestamp;

/// Writes `shown` as a part of a line.
pub(super) fn write_shown(shown: &Shown<'_>, out: &mut dyn Write) -> io::Result<()> {
    match shown {
        Shown::Bytes(bytes) => write_quoted(bytes, out),
        Shown::Number(number) => write!(out, "{number}"),
        Shown::Flag(on) => write!(out, "{on}"),
        Shown::Word(word) => out.write_all(word.as_bytes()),
        Shown::List(items) => {
            out.write_all(b"[")?;
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.write_all(b" ")?;
                }
                // Else one could not tell where one operation of a list ends.
                let apart = matches!(item, Shown::Operation { .. });
                out.write_all(if apart { b"(" } else { b"" })?;
                write_shown(item, out)?;
                out.write_all(if apart { b")" } else { b"" })?;
            }
            out.write_all(b"]")
        }
        Shown::Fields(fields) => {
            out.write_all(b"{")?;
            write_fields(fields, out)?;
            out.write_all(b"}")
        }
        Shown::Operation { name, fields } => {
            out.write_all(name.as_bytes())?;
            if !fields.is_empty() {
                out.write_all(b" ")?;
            }
            write_fields(fields, out)
        }
    }
}

fn write_fields(fields: &[(&'static str, Shown<'_>)], out: &mut dyn Write) -> io::Result<()> {
    for (n, (name, value)) in fields.iter().enumerate() {
        let space = if n > 0 { " " } else { "" };
        write!(out, "{space}{name}=")?;
        write_shown(value, out)?;
    }
    Ok(())
}

/// Writes bytes in quotes.
pub(super) fn write_quoted(bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"\"")?;
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    let mut rest = bytes;
    loop {
        let plain = rest.iter().position(|byte| !is_plain(byte));
        let (plain, behind) = rest
            .split_at_checked(plain.unwrap_or(rest.len()))
            .unwrap_or_default();
        out.write_all(plain)?;
        let Some((byte, behind)) = behind.split_first() else {
            return out.write_all(b"\"");
        };
        match byte {
            b'"' | b'\\' => out.write_all(&[b'\\', *byte])?,
            b'\n' => out.write_all(b"\\n")?,
            b'\r' => out.write_all(b"\\r")?,
            b'\t' => out.write_all(b"\\t")?,
            0x07 => out.write_all(b"\\a")?,
            0x08 => out.write_all(b"\\b")?,
            byte => write!(out, "\\x{byte:02x}")?,
        }
        rest = behind;
    }
}

/// Writes a time as RFC 3339 has it, in UTC, to the millisecond.
pub(super) fn write_time(time: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    const DAY: u64 = 86_400_000;
    let (day, milli) = (time.0 / DAY, time.0 % DAY);
    let (year, month, day) = date(day);
    let (second, milli) = (milli / 1000, milli % 1000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
    )
}

/// Year, month and day of the month, of a day that is so many behind the first of 1970.
fn date(day: u64) -> (u64, u64, u64) {
    // Counted from the first of March of the year 0, a leap day is the last of its year, and 400
    // years, an era, have 146,097 days.
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on: 31, 30, 31, 30, 31 days, and again: 153 for five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (400 * era + year + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_quoted(bytes, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn time(millis: u64) -> String {
        let mut out = Vec::new();
        write_time(Timestamp(millis), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn any_bytes_are_shown_in_printable_ascii_and_no_two_alike() {
        assert_eq!(quoted(b""), r#""""#);
        assert_eq!(quoted(b"a b"), r#""a b""#);
        assert_eq!(quoted(b"\"\\\n\r\t\x07\x08"), r#""\"\\\n\r\t\a\b""#);
        assert_eq!(quoted("\0\x7f\u{e9}".as_bytes()), r#""\x00\x7f\xc3\xa9""#);
        let mut seen = std::collections::BTreeSet::new();
        for first in 0..=u8::MAX {
            for bytes in [vec![first], vec![b'\\', first], vec![first, b'0']] {
                let shown = quoted(&bytes);
                assert!(shown.bytes().all(|b| matches!(b, b' '..=b'~')), "{shown}");
                assert!(
                    seen.insert(shown) || first == b'\\' || bytes == b"\\0",
                    "{bytes:?}"
                );
            }
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_700_000_000_000, "2023-11-14T22:13:20.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(time(millis), text);
        }
        assert!(time(u64::MAX).ends_with('Z'));
    }
}
