//! What BITFIELD does to a value, step by step, as it is asked for and as it is logged.

use super::arguments::{integer, is_word};
use super::field::Field;
use super::operation::BadOperation;
use super::shown::Shown;
use super::value::bitfield::{self, FieldType, Overflow};
use super::value::bits;
use super::{arguments, error};
use crate::protocol::ErrorReply;

/// One step, at one field of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldStep {
    /// The field's type.
    pub field: FieldType,
    /// The field's first bit.
    pub offset: u64,
    /// What is done.
    pub action: FieldAction,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldAction {
    /// Tells the number.
    Get,
    /// Gives it a number, and tells the one before.
    Set(i64, Overflow),
    /// Adds to its number, and tells the sum.
    Increment(i64, Overflow),
}

impl FieldStep {
    /// Whether it may change the value.
    pub fn writes(&self) -> bool {
        self.action != FieldAction::Get
    }

    /// The steps that a request asks for.
    pub(super) fn parse(args: &[&[u8]], command: &'static str) -> Result<Vec<Self>, ErrorReply> {
        let syntax = || arguments::syntax(command);
        let (mut steps, mut overflow) = (Vec::new(), Overflow::default());
        let mut rest = args.iter().copied();
        while let Some(word) = rest.next() {
            if is_word(word, "OVERFLOW") {
                let way = rest.next().ok_or_else(syntax)?;
                overflow = Overflow::parse(way).ok_or_else(|| told(bitfield::BAD_OVERFLOW))?;
                continue;
            }
            let numbers = match word {
                _ if is_word(word, "GET") => 0,
                _ if is_word(word, "SET") || is_word(word, "INCRBY") => 1,
                _ => return Err(syntax()),
            };
            let (field, offset) = (rest.next(), rest.next());
            let number = (numbers == 1).then(|| rest.next());
            let (Some(field), Some(offset)) = (field, offset) else {
                return Err(syntax());
            };
            if number == Some(None) {
                return Err(syntax());
            }
            let field = FieldType::parse(field).ok_or_else(|| told(bitfield::BAD_TYPE))?;
            let offset = bitfield::parse_offset(offset, field);
            let offset = offset.ok_or_else(|| told(bits::BAD_OFFSET))?;
            let action = match number.flatten().map(integer).transpose()? {
                None => FieldAction::Get,
                Some(number) if is_word(word, "SET") => FieldAction::Set(number, overflow),
                Some(number) => FieldAction::Increment(number, overflow),
            };
            steps.push(Self {
                field,
                offset,
                action,
            });
        }
        Ok(steps)
    }
}

fn told(text: &'static str) -> ErrorReply {
    ErrorReply::Other(format!("ERR {text}").into())
}

impl Field<'_> for FieldStep {
    fn encode(&self, out: &mut Vec<u8>) {
        self.field.is_signed().encode(out);
        // At most 64.
        out.push(self.field.bits() as u8);
        self.offset.encode(out);
        match self.action {
            FieldAction::Get => out.push(0),
            FieldAction::Set(number, overflow) => {
                out.push(1);
                (number, overflow).encode(out);
            }
            FieldAction::Increment(number, overflow) => {
                out.push(2);
                (number, overflow).encode(out);
            }
        }
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadOperation> {
        let signed = bool::decode(input)?;
        let bits = u8::decode(input)?;
        let field = FieldType::new(signed, u32::from(bits));
        let offset = u64::decode(input)?;
        if offset > bits::MAX_OFFSET {
            return Err(BadOperation::OutOfRange);
        }
        Ok(Self {
            field: field.ok_or(BadOperation::UnknownChoice(bits))?,
            offset,
            action: match u8::decode(input)? {
                0 => FieldAction::Get,
                1 => {
                    let (number, overflow) = Field::decode(input)?;
                    FieldAction::Set(number, overflow)
                }
                2 => {
                    let (number, overflow) = Field::decode(input)?;
                    FieldAction::Increment(number, overflow)
                }
                other => return Err(BadOperation::UnknownChoice(other)),
            },
        })
    }

    fn show(&self) -> Shown<'static> {
        let sign = if self.field.is_signed() { 'i' } else { 'u' };
        let field = Shown::Word(format!("{sign}{}", self.field.bits()).into());
        let (action, change) = match self.action {
            FieldAction::Get => ("get", None),
            FieldAction::Set(number, overflow) => ("set", Some((number, overflow))),
            FieldAction::Increment(number, overflow) => ("incrby", Some((number, overflow))),
        };
        let mut fields = vec![
            ("action", Shown::word(action)),
            ("field", field),
            ("offset", self.offset.show()),
        ];
        if let Some((number, overflow)) = change {
            fields.extend([("number", number.show()), ("overflow", overflow.show())]);
        }
        Shown::Fields(fields)
    }
}

impl Field<'_> for Overflow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Wrap => 0,
            Self::Sat => 1,
            Self::Fail => 2,
        });
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadOperation> {
        match u8::decode(input)? {
            0 => Ok(Self::Wrap),
            1 => Ok(Self::Sat),
            2 => Ok(Self::Fail),
            other => Err(BadOperation::UnknownChoice(other)),
        }
    }

    fn show(&self) -> Shown<'static> {
        Shown::word(match self {
            Self::Wrap => "wrap",
            Self::Sat => "sat",
            Self::Fail => "fail",
        })
    }
}

/// The error of BITFIELD_RO for anything but GET.
pub(super) fn read_only() -> ErrorReply {
    error("ERR BITFIELD_RO only supports the GET subcommand")
}
