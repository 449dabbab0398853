//! How the fields of an operation are laid out in the log.
//!
//! Numbers are little-endian and of fixed length. Bytes are preceded by their length in 4 bytes,
//! lists by their number of items in 4. All of it is part of the log's format: what is released
//! never changes.

use super::operation::BadOperation;
use super::shown::Shown;

/// Something that an operation is made of.
pub(super) trait Field<'a>: Sized {
    /// Appends its bytes.
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes it from the front of `input`.
    fn decode(input: &mut &'a [u8]) -> Result<Self, BadOperation>;
    /// What it holds, to be written for people. This is no part of the log's format.
    fn show(&self) -> Shown<'a>;
}

/// The first `len` bytes of `input`, which is left with what is behind them.
pub(super) fn take<'a>(input: &mut &'a [u8], len: usize) -> Result<&'a [u8], BadOperation> {
    let (taken, rest) = input.split_at_checked(len).ok_or(BadOperation::Short)?;
    *input = rest;
    Ok(taken)
}

macro_rules! number_fields {
    ($($number:ty),*) => {$(
        impl Field<'_> for $number {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn decode(input: &mut &[u8]) -> Result<Self, BadOperation> {
                let (bytes, rest) = input.split_first_chunk().ok_or(BadOperation::Short)?;
                *input = rest;
                Ok(Self::from_le_bytes(*bytes))
            }

            fn show(&self) -> Shown<'static> {
                Shown::Number(i128::from(*self))
            }
        }
    )*};
}

number_fields!(u8, u32, u64, i64);

impl Field<'_> for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(input: &mut &[u8]) -> Result<Self, BadOperation> {
        match u8::decode(input)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(BadOperation::UnknownChoice(other)),
        }
    }

    fn show(&self) -> Shown<'static> {
        Shown::Flag(*self)
    }
}

impl<'a> Field<'a> for &'a [u8] {
    fn encode(&self, out: &mut Vec<u8>) {
        // What comes from a request is bounded far below 4 GiB.
        u32::try_from(self.len()).unwrap_or(u32::MAX).encode(out);
        out.extend_from_slice(self);
    }

    fn decode(input: &mut &'a [u8]) -> Result<Self, BadOperation> {
        let len = u32::decode(input)?;
        take(input, len as usize)
    }

    fn show(&self) -> Shown<'a> {
        Shown::Bytes(self)
    }
}

impl<'a, T: Field<'a>> Field<'a> for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).encode(out);
        for item in self {
            item.encode(out);
        }
    }

    fn decode(input: &mut &'a [u8]) -> Result<Self, BadOperation> {
        let len = u32::decode(input)?;
        // Not `with_capacity`: a number that is not true must not reserve what it claims.
        (0..len).map(|_| T::decode(input)).collect()
    }

    fn show(&self) -> Shown<'a> {
        Shown::List(self.iter().map(Field::show).collect())
    }
}

impl<'a, A: Field<'a>, B: Field<'a>> Field<'a> for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(input: &mut &'a [u8]) -> Result<Self, BadOperation> {
        Ok((A::decode(input)?, B::decode(input)?))
    }

    fn show(&self) -> Shown<'a> {
        Shown::List(vec![self.0.show(), self.1.show()])
    }
}

/// Makes an enum without fields a field of one byte, the number beside each variant; the word
/// beside that is what it is shown as.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$doc:meta])* $variant:ident = $number:literal $word:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl Field<'_> for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                out.push(match self {
                    $(Self::$variant => $number,)*
                });
            }

            fn decode(input: &mut &[u8]) -> Result<Self, BadOperation> {
                match u8::decode(input)? {
                    $($number => Ok(Self::$variant),)*
                    other => Err(BadOperation::UnknownChoice(other)),
                }
            }

            fn show(&self) -> Shown<'static> {
                Shown::word(match self {
                    $(Self::$variant => $word,)*
                })
            }
        }
    };
}

pub(super) use choice;
