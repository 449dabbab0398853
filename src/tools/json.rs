//! Operations as JSON.
//!
//! Bytes that are UTF-8 are a string, and others the object `{"base64":"..."}`; where bytes stand
//! no other object does, so each has one meaning.

use std::io::{self, Write};

use crate::command::Shown;

/// Writes `shown` as a value.
pub(super) fn write_shown(shown: &Shown<'_>, out: &mut dyn Write) -> io::Result<()> {
    match shown {
        Shown::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => write_string(text, out),
            Err(_) => {
                out.write_all(b"{\"base64\":\"")?;
                write_base64(bytes, out)?;
                out.write_all(b"\"}")
            }
        },
        Shown::Number(number) => write!(out, "{number}"),
        Shown::Flag(on) => write!(out, "{on}"),
        Shown::Word(word) => write_string(word, out),
        Shown::List(items) => {
            out.write_all(b"[")?;
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.write_all(b",")?;
                }
                write_shown(item, out)?;
            }
            out.write_all(b"]")
        }
        Shown::Fields(fields) => {
            out.write_all(b"{")?;
            write_members(fields, out)?;
            out.write_all(b"}")
        }
        Shown::Operation { .. } => {
            out.write_all(b"{")?;
            write_operation(shown, out)?;
            out.write_all(b"}")
        }
    }
}

/// Writes an operation's name and fields as members of an object that is open.
pub(super) fn write_operation(shown: &Shown<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Shown::Operation { name, fields } = shown else {
        return write_members(&[("operation", shown.clone())], out);
    };
    out.write_all(b"\"operation\":")?;
    write_string(&name.to_ascii_lowercase(), out)?;
    if !fields.is_empty() {
        out.write_all(b",")?;
    }
    write_members(fields, out)
}

fn write_members(members: &[(&'static str, Shown<'_>)], out: &mut dyn Write) -> io::Result<()> {
    for (n, (name, value)) in members.iter().enumerate() {
        if n > 0 {
            out.write_all(b",")?;
        }
        write_string(name, out)?;
        out.write_all(b":")?;
        write_shown(value, out)?;
    }
    Ok(())
}

fn write_string(text: &str, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"\"")?;
    let must_be_escaped = |c: char| c < ' ' || matches!(c, '"' | '\\' | '\x7f');
    for part in text.split_inclusive(must_be_escaped) {
        let last = part.chars().next_back().filter(|c| must_be_escaped(*c));
        let plain = part.strip_suffix(must_be_escaped).unwrap_or(part);
        out.write_all(plain.as_bytes())?;
        match last {
            None => {}
            Some(c @ ('"' | '\\')) => write!(out, "\\{c}")?,
            Some(c) => write!(out, "\\u{:04x}", u32::from(c))?,
        }
    }
    out.write_all(b"\"")
}

fn write_base64(bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let byte = |n| three.get(n).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * n) & 63) as usize);
            let digit = digit.copied().filter(|_| n as usize <= three.len());
            out.write_all(&[digit.unwrap_or(b'=')])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_shown(&Shown::Bytes(bytes), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_a_string_and_other_bytes_are_base64() {
        assert_eq!(shown(b""), r#""""#);
        assert_eq!(shown("h\u{e9}".as_bytes()), "\"h\u{e9}\"");
        assert_eq!(shown(b"\0\n\"\\a"), r#""\u0000\u000a\"\\a""#);
        for (bytes, base64) in [
            (&b"\xff"[..], "/w=="),
            (b"\xff\xfe", "//4="),
            (b"\xff\xfe\x00", "//4A"),
            (b"\xffabc", "/2FiYw=="),
        ] {
            assert_eq!(shown(bytes), format!("{{\"base64\":\"{base64}\"}}"));
        }
    }
}
