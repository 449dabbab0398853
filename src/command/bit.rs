//! Bits of strings: rows, arguments, reads.

use super::arguments::{self, first, integer, is_word, or_error};
use super::bitfield::{FieldStep, read_only};
use super::operation::{BitCombine, Operation};
use super::spec::{Flags, Group, Keys, Run, Spec};
use super::value::bitfield;
use super::value::bits::{self, BitRange, Unit};
use super::{Command, Reply, Sees, View, error};
use crate::protocol::ErrorReply;
use crate::store::Entry;

const ROW: Spec = Spec {
    group: Group::Bitmap,
    keys: Keys::FIRST,
    since: "2.2.0",
    ..Spec::BASE
};

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        name: "SETBIT",
        arity: 4,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        required: &["key", "offset", "bit"],
        summary: "change one bit of a value",
        run: Run::Parsed(set_bit),
        ..ROW
    },
    Spec {
        name: "GETBIT",
        arity: 3,
        flags: Flags::READONLY.and(Flags::FAST),
        required: &["key", "offset"],
        summary: "one bit of a value",
        run: Run::Read(|view, args| or_error(get_bit(view, args))),
        ..ROW
    },
    Spec {
        name: "BITCOUNT",
        arity: -2,
        flags: Flags::READONLY,
        since: "2.6.0",
        complexity: "O(N), N being the length of the value",
        required: &["key"],
        optional: "[start [end [BYTE | BIT]]]",
        summary: "how many bits of a value are 1",
        run: Run::Read(|view, args| or_error(bit_count(view, args))),
        ..ROW
    },
    Spec {
        name: "BITPOS",
        arity: -3,
        flags: Flags::READONLY,
        since: "2.8.7",
        complexity: "O(N), N being the length of the value",
        required: &["key", "bit"],
        optional: "[start [end [BYTE | BIT]]]",
        summary: "where the first bit is that is 0, or 1",
        run: Run::Read(|view, args| or_error(bit_pos(view, args))),
        ..ROW
    },
    Spec {
        name: "BITOP",
        arity: -4,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: Keys::range(2, -1, 1),
        since: "2.6.0",
        complexity: "O(N), N being the length of the longest value",
        required: &["AND|OR|XOR|NOT", "destination", "key"],
        optional: "[key ...]",
        summary: "combine values bit by bit",
        run: Run::Parsed(bit_op),
        ..ROW
    },
    Spec {
        name: "BITFIELD",
        arity: -2,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        since: "3.2.0",
        complexity: "O(N), N being the number of fields",
        required: &["key"],
        optional: "[GET type offset | [OVERFLOW WRAP | SAT | FAIL] SET type offset value | INCRBY type offset increment ...]",
        summary: "read and change integers of any width inside of a value",
        run: Run::Parsed(|args| {
            let (key, steps) = (first(args), FieldStep::parse(behind_key(args), "BITFIELD")?);
            Ok(if steps.iter().any(FieldStep::writes) {
                Command::Write(Operation::BitField { key, steps })
            } else {
                Command::Read {
                    run: read_fields,
                    args,
                    sees: Sees::Key,
                }
            })
        }),
        ..ROW
    },
    Spec {
        name: "BITFIELD_RO",
        arity: -2,
        flags: Flags::READONLY.and(Flags::FAST),
        since: "6.0.0",
        complexity: "O(N), N being the number of fields",
        required: &["key"],
        optional: "[GET type offset ...]",
        summary: "read integers of any width inside of a value",
        run: Run::Read(read_fields),
        ..ROW
    },
];

fn told(text: &'static str) -> ErrorReply {
    ErrorReply::Other(format!("ERR {text}").into())
}

fn behind_key<'a, 'b>(args: &'b [&'a [u8]]) -> &'b [&'a [u8]] {
    args.get(1..).unwrap_or_default()
}

fn offset(arg: &[u8]) -> Result<u64, ErrorReply> {
    bits::parse_offset(arg).ok_or_else(|| told(bits::BAD_OFFSET))
}

fn set_bit<'a>(args: &'a [&'a [u8]]) -> Result<Command<'a>, ErrorReply> {
    let [key, at, bit] = *args else {
        return Err(arguments::syntax("SETBIT"));
    };
    let offset = offset(at)?;
    let on = bits::parse_bit(bit).ok_or_else(|| told(bits::BAD_BIT))?;
    Ok(Command::Write(Operation::SetBit { key, offset, on }))
}

fn get_bit(view: &View<'_>, args: &[&[u8]]) -> Result<Reply, ErrorReply> {
    let offset = offset(args.get(1).copied().unwrap_or_default())?;
    let entry = view.get(first(args));
    let value = entry.as_ref().map_or(&[][..], Entry::value);
    Ok(Reply::Integer(i64::from(bits::get(value, offset))))
}

/// A range as BITCOUNT and BITPOS take it.
fn range(args: &[&[u8]], command: &'static str) -> Result<BitRange, ErrorReply> {
    let (start, end, unit) = match *args {
        [] => return Ok(BitRange::ALL),
        [start] => (start, None, None),
        [start, end] => (start, Some(end), None),
        [start, end, unit] => (start, Some(end), Some(unit)),
        _ => return Err(arguments::syntax(command)),
    };
    let start = integer(start)?;
    let unit = match unit {
        None => Unit::Byte,
        Some(name) => Unit::parse(name).ok_or_else(|| arguments::syntax(command))?,
    };
    let end = end.map(integer).transpose()?;
    Ok(BitRange { start, end, unit })
}

fn bit_count(view: &View<'_>, args: &[&[u8]]) -> Result<Reply, ErrorReply> {
    let range = range(behind_key(args), "BITCOUNT")?;
    let entry = view.get(first(args));
    let value = entry.as_ref().map_or(&[][..], Entry::value);
    Ok(integer_reply(Some(bits::count(value, range))))
}

fn bit_pos(view: &View<'_>, args: &[&[u8]]) -> Result<Reply, ErrorReply> {
    let [key, bit, ref rest @ ..] = *args else {
        return Err(arguments::syntax("BITPOS"));
    };
    let bit = match integer(bit)? {
        0 => false,
        1 => true,
        _ => return Err(error("ERR The bit argument must be 1 or 0.")),
    };
    let range = range(rest, "BITPOS")?;
    let entry = view.get(key);
    let value = entry.as_ref().map(Entry::value);
    Ok(integer_reply(bits::position(value, bit, range)))
}

fn integer_reply(number: Option<u64>) -> Reply {
    Reply::Integer(number.map_or(-1, |number| i64::try_from(number).unwrap_or(i64::MAX)))
}

fn bit_op<'a>(args: &'a [&'a [u8]]) -> Result<Command<'a>, ErrorReply> {
    let [combine, destination, ref sources @ ..] = *args else {
        return Err(arguments::syntax("BITOP"));
    };
    let combine = match combine {
        _ if is_word(combine, "AND") => BitCombine::And,
        _ if is_word(combine, "OR") => BitCombine::Or,
        _ if is_word(combine, "XOR") => BitCombine::Xor,
        _ if is_word(combine, "NOT") => BitCombine::Not,
        _ => return Err(arguments::syntax("BITOP")),
    };
    if combine == BitCombine::Not && sources.len() != 1 {
        return Err(told(bits::NOT_TAKES_ONE));
    }
    Ok(Command::Write(Operation::BitOp {
        combine,
        destination,
        sources: sources.to_vec(),
    }))
}

fn read_fields(view: &View<'_>, args: &[&[u8]]) -> Reply {
    let steps = match FieldStep::parse(behind_key(args), "BITFIELD_RO") {
        Ok(steps) if steps.iter().any(FieldStep::writes) => return Reply::Error(read_only()),
        Ok(steps) => steps,
        Err(error) => return Reply::Error(error),
    };
    let entry = view.get(first(args));
    let value = entry.as_ref().map_or(&[][..], Entry::value);
    let numbers = steps
        .iter()
        .map(|step| bitfield::get(value, step.field, step.offset));
    Reply::Array(numbers.map(Reply::Integer).collect())
}
