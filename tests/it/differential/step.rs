//! One step of a sequence, and how it is written down.
//!
//! The notation of the corpus, and of every sequence that a test prints, so that one can be pasted
//! into the other:
//!
//! ```text
//! # a comment
//! SET k "a\r\n\x00"             a command; strings are quoted as in redis-cli
//! 2> GET k                      the same on the second connection
//! SET k v EXAT @now+100         100 seconds from now, the time being one for both servers
//! SET k v PXAT @nowms-5000      the same in milliseconds
//! SET k @repeat:3000:ab         "ab", 3000 times
//! !scan MATCH k* COUNT 2        SCAN with these arguments, from cursor 0 until it is 0 again
//! !wait 20                      20 milliseconds pass
//! !silent CLIENT REPLY OFF      a command that gets no reply
//! !raw "*1\r\n$-1\r\n"          bytes as they are, that get one reply
//! !mute "*0\r\n"                bytes as they are, that get none
//! ```

use std::fmt;
use std::time::Duration;

use postres::time::Timestamp;

/// A step, and the connection that it is for: 0 or 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub connection: usize,
    pub action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Command(Vec<Arg>),
    Silent(Vec<Arg>),
    Raw(Vec<u8>),
    Mute(Vec<u8>),
    Scan(Vec<Arg>),
    Wait(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arg {
    Bytes(Vec<u8>),
    Repeat(usize, Vec<u8>),
    /// This many seconds from now, as a time of day.
    Seconds(i64),
    /// This many milliseconds from now, as a time of day.
    Millis(i64),
}

impl Arg {
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(bytes.as_ref().to_vec())
    }

    /// What is sent for it at this time.
    pub fn render(&self, now: Timestamp) -> Vec<u8> {
        let now = i64::try_from(now.0).expect("a time of this era");
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Repeat(times, piece) => piece.repeat(*times),
            Self::Seconds(from_now) => (now / 1000 + from_now).to_string().into_bytes(),
            Self::Millis(from_now) => (now + from_now).to_string().into_bytes(),
        }
    }
}

impl Step {
    pub fn new(connection: usize, action: Action) -> Self {
        Self { connection, action }
    }

    pub fn is_wait(&self) -> bool {
        matches!(self.action, Action::Wait(_))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.connection == 1 {
            f.write_str("2> ")?;
        }
        match &self.action {
            Action::Command(args) => write_args(f, "", args),
            Action::Silent(args) => write_args(f, "!silent ", args),
            Action::Scan(args) => write_args(f, "!scan ", args),
            Action::Raw(bytes) => write!(f, "!raw {}", Quoted(bytes)),
            Action::Mute(bytes) => write!(f, "!mute {}", Quoted(bytes)),
            Action::Wait(time) => write!(f, "!wait {}", time.as_millis()),
        }
    }
}

fn write_args(f: &mut fmt::Formatter<'_>, word: &str, args: &[Arg]) -> fmt::Result {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    write!(f, "{}", format!("{word}{}", args.join(" ")).trim_end())
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-_.:*?[]^".contains(byte);
        match self {
            Self::Bytes(bytes) if !bytes.is_empty() && bytes.iter().all(plain) => {
                f.write_str(&String::from_utf8_lossy(bytes))
            }
            Self::Bytes(bytes) => Quoted(bytes).fmt(f),
            Self::Repeat(times, piece) => {
                let piece = String::from_utf8_lossy(piece);
                assert!(piece.bytes().all(|byte| plain(&byte)), "{piece:?}");
                write!(f, "@repeat:{times}:{piece}")
            }
            Self::Seconds(from_now) => write!(f, "@now{from_now:+}"),
            Self::Millis(from_now) => write!(f, "@nowms{from_now:+}"),
        }
    }
}

struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"")?;
        for byte in self.0 {
            match byte {
                b'\'' => write!(f, "'")?,
                other => write!(f, "{}", other.escape_ascii())?,
            }
        }
        write!(f, "\"")
    }
}

/// Reads a line of the notation; `None` for a blank one or a comment.
pub fn parse(line: &str) -> Result<Option<Step>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (connection, line) = match line.strip_prefix("2> ") {
        Some(rest) => (1, rest.trim_start()),
        None => (0, line),
    };
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let action = match word {
        "!silent" => Action::Silent(args(rest)?),
        "!scan" => Action::Scan(args(rest)?),
        "!raw" => Action::Raw(bytes(rest)?),
        "!mute" => Action::Mute(bytes(rest)?),
        "!wait" => {
            let millis = rest.trim().parse().map_err(|e| format!("{rest:?}: {e}"))?;
            Action::Wait(Duration::from_millis(millis))
        }
        word if word.starts_with('!') => return Err(format!("what is {word}?")),
        _ => Action::Command(args(line)?),
    };
    Ok(Some(Step { connection, action }))
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let args = args(text)?;
    Ok(args
        .iter()
        .flat_map(|arg| arg.render(Timestamp(0)))
        .collect())
}

fn args(text: &str) -> Result<Vec<Arg>, String> {
    let (mut args, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let (arg, behind) = if first == '"' {
            quoted(&rest[1..])?
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (word(&rest[..end])?, &rest[end..])
        };
        if behind.starts_with(|c: char| !c.is_whitespace()) {
            return Err(format!("no space before {behind:?}"));
        }
        args.push(arg);
        rest = behind.trim_start();
    }
    Ok(args)
}

fn word(word: &str) -> Result<Arg, String> {
    let number = |text: &str| text.parse().map_err(|e| format!("{word}: {e}"));
    let Some(special) = word.strip_prefix('@') else {
        return Ok(Arg::bytes(word));
    };
    if let Some(offset) = special.strip_prefix("nowms") {
        Ok(Arg::Millis(number(offset)?))
    } else if let Some(offset) = special.strip_prefix("now") {
        Ok(Arg::Seconds(number(offset)?))
    } else if let Some((times, piece)) = special
        .strip_prefix("repeat:")
        .and_then(|rest| rest.split_once(':'))
    {
        let times = times.parse().map_err(|e| format!("{word}: {e}"))?;
        Ok(Arg::Repeat(times, piece.into()))
    } else {
        Err(format!("what is {word}?"))
    }
}

/// The string whose opening quote was just read, and what stands behind its closing one.
fn quoted(text: &str) -> Result<(Arg, &str), String> {
    let (mut bytes, mut chars) = (Vec::new(), text.chars());
    loop {
        match chars.next().ok_or("a quote is not closed")? {
            '"' => return Ok((Arg::Bytes(bytes), chars.as_str())),
            '\\' => bytes.push(match chars.next().ok_or("nothing behind \\")? {
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                'x' => {
                    let hex = chars.as_str().get(..2).ok_or("\\x wants two digits")?;
                    chars = chars.as_str()[2..].chars();
                    u8::from_str_radix(hex, 16).map_err(|e| format!("\\x{hex}: {e}"))?
                }
                c @ ('"' | '\\') => c as u8,
                c => return Err(format!("what is \\{c}?")),
            }),
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[test]
fn a_step_is_read_as_it_was_written() {
    let time = Timestamp(1_700_000_000_123);
    let step = parse(r#" 2> SET "a b" "\r\n\x00\"\\" @now-1 @nowms+2 @repeat:2:ab # "#);
    let step = step.unwrap().unwrap();
    let Action::Command(args) = &step.action else {
        panic!("{step:?}");
    };
    let rendered: Vec<Vec<u8>> = args.iter().map(|arg| arg.render(time)).collect();
    let expected: [&[u8]; 7] = [
        b"SET",
        b"a b",
        b"\r\n\0\"\\",
        b"1699999999",
        b"1700000000125",
        b"abab",
        b"#",
    ];
    assert_eq!(rendered, expected);
    assert_eq!(step.connection, 1);
    assert_eq!(parse(&step.to_string()), Ok(Some(step)));

    let every_byte: Vec<u8> = (0..=255).collect();
    let raw = Step::new(0, Action::Raw(every_byte));
    assert_eq!(parse(&raw.to_string()), Ok(Some(raw)));
}

#[test]
fn a_line_that_makes_no_sense_is_refused() {
    for line in [
        "!what",
        "!wait soon",
        "GET \"k",
        "GET \"k\"x",
        "GET \"\\q\"",
        "GET @now",
        "GET @then+1",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert_eq!(parse("  # nothing"), Ok(None));
}
