//! Operations: what the log holds of a command that writes.
//!
//! An operation is its code, one byte, and its fields in the order in which they stand below, laid
//! out as [`super::field`] tells. `Rest` is what is left of the operation: it has no length of its
//! own. The meaning of a code never changes once it was released: a new meaning is a new code.
//!
//! What is logged is what the client asked for, not what came of it. A condition, an expiry that
//! counts from now, an increment: all of it is decided by [`super::apply`], in the order of the log
//! and by the time of the frame.

use super::bitfield::FieldStep;
use super::field::{Field, choice, take};
use super::shown::Shown;

/// These bytes are not an operation that this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadOperation {
    /// The code is unknown.
    #[error(
        "operation code {0} is unknown to this version: use the postres that wrote the log, or a newer one"
    )]
    UnknownCode(u8),
    /// A field has a value that is unknown.
    #[error("an operation holds {0} where this version knows no such choice")]
    UnknownChoice(u8),
    /// A number is larger than any that is ever logged.
    #[error("an operation holds a number that is out of range")]
    OutOfRange,
    /// What follows the code does not fit it.
    #[error("the operation is cut short")]
    Short,
    /// A transaction inside of another.
    #[error("a transaction holds another transaction")]
    Nested,
    /// More follows than the code's fields.
    #[error("the operation has {0} bytes too many")]
    Long(usize),
}

/// Bytes to the end of the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest<'a>(pub &'a [u8]);

impl<'a> Field<'a> for Rest<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }

    fn decode(input: &mut &'a [u8]) -> Result<Self, BadOperation> {
        Ok(Self(take(input, input.len())?))
    }

    fn show(&self) -> Shown<'a> {
        Shown::Bytes(self.0)
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $code:literal $name:ident $shown:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => {
        /// A change to the store, as it is logged and applied.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Operation<'a> {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type,)* },)*
        }

        impl<'a> Operation<'a> {
            /// Every code there is.
            pub const CODES: &'static [u8] = &[$($code),*];

            /// Appends the operation's bytes.
            pub fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name { $($field),* } => {
                        out.push($code);
                        $($field.encode(out);)*
                    })*
                }
            }

            /// Reads an operation back.
            pub fn decode(bytes: &'a [u8]) -> Result<Self, BadOperation> {
                let (&code, mut rest) = bytes.split_first().ok_or(BadOperation::Short)?;
                let input = &mut rest;
                let operation = match code {
                    $($code => Self::$name { $($field: Field::decode(input)?,)* },)*
                    code => return Err(BadOperation::UnknownCode(code)),
                };
                match input.len() {
                    0 => operation.checked(),
                    left => Err(BadOperation::Long(left)),
                }
            }

            /// The name of the command that a client asks for it by; several have one name.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $shown,)*
                }
            }

            /// Its fields, each with its name.
            fn fields(&self) -> Vec<(&'static str, Shown<'a>)> {
                match self {
                    $(Self::$name { $($field),* } => vec![$((stringify!($field), $field.show())),*],)*
                }
            }
        }
    };
}

operations! {
    /// Gives a key a value and no expiry.
    1 Set "SET" {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: Rest<'a>,
    }
    /// Removes a key.
    2 Del "DEL" {
        /// The key.
        key: Rest<'a>,
    }
    /// SET with any of its options, GETSET, SETEX, PSETEX.
    3 SetWith "SET" {
        /// The key.
        key: &'a [u8],
        /// When it expires.
        expiry: Expiry,
        /// Whether the value is set at all.
        condition: Condition<'a>,
        /// Whether the reply is the value that was there.
        get: bool,
        /// Its new value.
        value: Rest<'a>,
    }
    /// SETNX: gives a key a value if it has none.
    4 SetNx "SETNX" {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: Rest<'a>,
    }
    /// MSET.
    5 MSet "MSET" {
        /// Keys and values.
        pairs: Vec<(&'a [u8], &'a [u8])>,
    }
    /// MSETNX: all of them, if none of the keys is there.
    6 MSetNx "MSETNX" {
        /// Keys and values.
        pairs: Vec<(&'a [u8], &'a [u8])>,
    }
    /// DEL or UNLINK of several keys.
    7 DelMany "DEL" {
        /// The keys.
        keys: Vec<&'a [u8]>,
    }
    /// DELIFEQ: removes a key if it has this value.
    8 DelIfEq "DELIFEQ" {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: Rest<'a>,
    }
    /// GETDEL: removes a key, and tells its value.
    9 GetDel "GETDEL" {
        /// The key.
        key: Rest<'a>,
    }
    /// GETEX with an option: changes a key's expiry, and tells its value.
    10 GetEx "GETEX" {
        /// The key.
        key: &'a [u8],
        /// When it expires.
        expiry: Expiry,
    }
    /// APPEND.
    11 Append "APPEND" {
        /// The key.
        key: &'a [u8],
        /// What is added behind its value.
        value: Rest<'a>,
    }
    /// SETRANGE.
    12 SetRange "SETRANGE" {
        /// The key.
        key: &'a [u8],
        /// Where the bytes go.
        offset: u64,
        /// The bytes.
        value: Rest<'a>,
    }
    /// INCR, DECR, INCRBY, DECRBY.
    13 IncrBy "INCRBY" {
        /// The key.
        key: &'a [u8],
        /// What is added.
        by: i64,
    }
    /// INCRBYFLOAT.
    14 IncrByFloat "INCRBYFLOAT" {
        /// The key.
        key: &'a [u8],
        /// What is added, as the client wrote it.
        by: Rest<'a>,
    }
    /// SETBIT.
    15 SetBit "SETBIT" {
        /// The key.
        key: &'a [u8],
        /// Which bit, the highest of the first byte being 0.
        offset: u64,
        /// What it becomes.
        on: bool,
    }
    /// BITOP.
    16 BitOp "BITOP" {
        /// How the sources are combined.
        combine: BitCombine,
        /// The key that is given the result.
        destination: &'a [u8],
        /// The keys of what is combined.
        sources: Vec<&'a [u8]>,
    }
    /// BITFIELD with a SET or an INCRBY in it.
    17 BitField "BITFIELD" {
        /// The key.
        key: &'a [u8],
        /// What is done, in order.
        steps: Vec<FieldStep>,
    }
    /// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT.
    18 Expire "EXPIRE" {
        /// The key.
        key: &'a [u8],
        /// The new expiry.
        at: Deadline,
        /// Whether it is set at all.
        condition: ExpireCondition,
    }
    /// PERSIST.
    19 Persist "PERSIST" {
        /// The key.
        key: Rest<'a>,
    }
    /// RENAME.
    20 Rename "RENAME" {
        /// The key.
        from: &'a [u8],
        /// Its new name.
        to: &'a [u8],
    }
    /// RENAMENX: unless the new name is taken.
    21 RenameNx "RENAMENX" {
        /// The key.
        from: &'a [u8],
        /// Its new name.
        to: &'a [u8],
    }
    /// COPY.
    22 Copy "COPY" {
        /// The key.
        from: &'a [u8],
        /// The copy's key.
        to: &'a [u8],
        /// Whether it may have been there.
        replace: bool,
    }
    /// FLUSHALL, FLUSHDB.
    23 FlushAll "FLUSHALL" {
    }
    /// EXEC: the operations of a transaction, if none of the keys it watched was changed.
    24 Exec "EXEC" {
        /// How far the log had been applied when no watched key had been changed yet.
        base: u64,
        /// The keys, and whether each was there when it began to be watched.
        watched: Vec<(&'a [u8], bool)>,
        /// Operations, each as here.
        operations: Vec<&'a [u8]>,
    }
    /// Nothing but the passing of time, for keys that expire while nobody writes.
    25 Tick "TICK" {
    }
}

impl<'a> Operation<'a> {
    const EXEC: u8 = 24;

    /// What it holds, to be written for people.
    pub fn show(&self) -> Shown<'a> {
        let mut fields = self.fields();
        if let Self::Exec { operations, .. } = self {
            // As a field they are bytes; whoever reads a log wants to see what they do.
            let inside = operations.iter().map(|bytes| {
                Self::decode(bytes).map_or(Shown::Bytes(bytes), |operation| operation.show())
            });
            fields.retain(|(name, _)| *name != "operations");
            fields.push(("operations", Shown::List(inside.collect())));
        }
        Shown::Operation {
            name: self.name(),
            fields,
        }
    }

    /// Whether it can only remove keys, so that the next snapshot is no larger for it.
    pub fn only_removes(&self) -> bool {
        matches!(
            self,
            Self::Del { .. } | Self::DelMany { .. } | Self::FlushAll {}
        )
    }

    /// Whether it may change more than one key, or one key more than once: then nobody may see a
    /// part of what it does.
    pub fn changes_several(&self) -> bool {
        match self {
            Self::MSet { .. }
            | Self::MSetNx { .. }
            | Self::DelMany { .. }
            | Self::Rename { .. }
            | Self::RenameNx { .. }
            | Self::FlushAll {}
            | Self::Exec { .. } => true,
            Self::Set { .. }
            | Self::Del { .. }
            | Self::SetWith { .. }
            | Self::SetNx { .. }
            | Self::DelIfEq { .. }
            | Self::GetDel { .. }
            | Self::GetEx { .. }
            | Self::Append { .. }
            | Self::SetRange { .. }
            | Self::IncrBy { .. }
            | Self::IncrByFloat { .. }
            | Self::SetBit { .. }
            | Self::BitOp { .. }
            | Self::BitField { .. }
            | Self::Expire { .. }
            | Self::Persist { .. }
            | Self::Copy { .. }
            | Self::Tick {} => false,
        }
    }

    /// The only key that it looks at or changes, if there is just one.
    pub fn only_key(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Set { key, .. }
            | Self::SetWith { key, .. }
            | Self::SetNx { key, .. }
            | Self::DelIfEq { key, .. }
            | Self::GetEx { key, .. }
            | Self::Append { key, .. }
            | Self::SetRange { key, .. }
            | Self::IncrBy { key, .. }
            | Self::IncrByFloat { key, .. }
            | Self::SetBit { key, .. }
            | Self::BitField { key, .. }
            | Self::Expire { key, .. }
            | Self::Del { key: Rest(key) }
            | Self::GetDel { key: Rest(key) }
            | Self::Persist { key: Rest(key) } => Some(key),
            Self::MSet { .. }
            | Self::MSetNx { .. }
            | Self::DelMany { .. }
            | Self::BitOp { .. }
            | Self::Rename { .. }
            | Self::RenameNx { .. }
            | Self::Copy { .. }
            | Self::FlushAll {}
            | Self::Tick {}
            | Self::Exec { .. } => None,
        }
    }

    /// The key that it looks at first, if it looks at any before others.
    pub fn first_key(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Set { key, .. }
            | Self::SetWith { key, .. }
            | Self::SetNx { key, .. }
            | Self::DelIfEq { key, .. }
            | Self::GetEx { key, .. }
            | Self::Append { key, .. }
            | Self::SetRange { key, .. }
            | Self::IncrBy { key, .. }
            | Self::IncrByFloat { key, .. }
            | Self::SetBit { key, .. }
            | Self::BitField { key, .. }
            | Self::Expire { key, .. }
            | Self::Rename { from: key, .. }
            | Self::RenameNx { from: key, .. }
            | Self::Copy { from: key, .. } => Some(key),
            Self::Del { key } | Self::GetDel { key } | Self::Persist { key } => Some(key.0),
            Self::MSet { .. }
            | Self::MSetNx { .. }
            | Self::DelMany { .. }
            | Self::BitOp { .. }
            | Self::FlushAll {}
            | Self::Exec { .. }
            | Self::Tick {} => None,
        }
    }

    /// A transaction is read back only if all of its operations are.
    fn checked(self) -> Result<Self, BadOperation> {
        if let Self::Exec { operations, .. } = &self {
            for bytes in operations {
                // Looked at first: a chain of transactions must not be followed to its end.
                if bytes.first() == Some(&Self::EXEC) {
                    return Err(BadOperation::Nested);
                }
                Self::decode(bytes)?;
            }
        }
        Ok(self)
    }
}

/// A time at which a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// So many milliseconds after the frame's time.
    In(i64),
    /// In this millisecond since 1970.
    At(i64),
}

impl Field<'_> for Deadline {
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, millis) = match self {
            Self::In(millis) => (0, millis),
            Self::At(millis) => (1, millis),
        };
        out.push(kind);
        millis.encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadOperation> {
        match u8::decode(input)? {
            0 => Ok(Self::In(i64::decode(input)?)),
            1 => Ok(Self::At(i64::decode(input)?)),
            other => Err(BadOperation::UnknownChoice(other)),
        }
    }

    fn show(&self) -> Shown<'static> {
        Shown::Fields(vec![match self {
            Self::In(millis) => ("in_ms", millis.show()),
            Self::At(millis) => ("at_ms", millis.show()),
        }])
    }
}

/// What becomes of a key's expiry when it is given a value, or looked at by GETEX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It has none from now on.
    Never,
    /// It keeps the one it has.
    Keep,
    /// It gets this one.
    New(Deadline),
}

impl Field<'_> for Expiry {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Never => out.push(0),
            Self::Keep => out.push(1),
            Self::New(deadline) => {
                out.push(2);
                deadline.encode(out);
            }
        }
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadOperation> {
        match u8::decode(input)? {
            0 => Ok(Self::Never),
            1 => Ok(Self::Keep),
            2 => Ok(Self::New(Deadline::decode(input)?)),
            other => Err(BadOperation::UnknownChoice(other)),
        }
    }

    fn show(&self) -> Shown<'static> {
        match self {
            Self::Never => Shown::word("never"),
            Self::Keep => Shown::word("keep"),
            Self::New(deadline) => deadline.show(),
        }
    }
}

/// On what a SET depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition<'a> {
    /// On nothing.
    Always,
    /// NX: the key is not there.
    Absent,
    /// XX: the key is there.
    Present,
    /// IFEQ: the key has this value.
    Equal(&'a [u8]),
}

impl<'a> Field<'a> for Condition<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Always => out.push(0),
            Self::Absent => out.push(1),
            Self::Present => out.push(2),
            Self::Equal(value) => {
                out.push(3);
                value.encode(out);
            }
        }
    }

    fn decode(input: &mut &'a [u8]) -> Result<Self, BadOperation> {
        match u8::decode(input)? {
            0 => Ok(Self::Always),
            1 => Ok(Self::Absent),
            2 => Ok(Self::Present),
            3 => Ok(Self::Equal(Field::decode(input)?)),
            other => Err(BadOperation::UnknownChoice(other)),
        }
    }

    fn show(&self) -> Shown<'a> {
        match self {
            Self::Always => Shown::word("always"),
            Self::Absent => Shown::word("nx"),
            Self::Present => Shown::word("xx"),
            Self::Equal(value) => Shown::Fields(vec![("ifeq", value.show())]),
        }
    }
}

choice! {
    /// On what an EXPIRE depends. A key without an expiry counts as one that never expires.
    ExpireCondition {
        /// On nothing.
        Always = 0 "always",
        /// NX: the key has no expiry.
        Unset = 1 "nx",
        /// XX: the key has one.
        Set = 2 "xx",
        /// GT: the new one is later.
        Later = 3 "gt",
        /// LT: the new one is earlier.
        Earlier = 4 "lt",
        /// XX and GT.
        SetAndLater = 5 "xx+gt",
        /// XX and LT.
        SetAndEarlier = 6 "xx+lt",
    }
}

choice! {
    /// How BITOP combines its sources.
    BitCombine {
        /// Bits that all have.
        And = 0 "and",
        /// Bits that any has.
        Or = 1 "or",
        /// Bits that an odd number of them has.
        Xor = 2 "xor",
        /// Bits that the one source does not have.
        Not = 3 "not",
    }
}

#[cfg(test)]
mod tests;
