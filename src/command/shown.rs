//! What an operation holds, as a tree that can be written in any form: a line for people, JSON.

use std::borrow::Cow;

/// A part of an operation, or the whole of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown<'a> {
    /// A key, a value, or something else that a client chose.
    Bytes(&'a [u8]),
    /// Any number of the log fits in it.
    Number(i128),
    /// On or off.
    Flag(bool),
    /// One of a few choices.
    Word(Cow<'static, str>),
    /// Any number of parts, or a pair.
    List(Vec<Self>),
    /// Parts, each with its name.
    Fields(Vec<(&'static str, Self)>),
    /// An operation.
    Operation {
        /// The name of the command that a client asks for it by.
        name: &'static str,
        /// Its fields, in the order in which they are logged.
        fields: Vec<(&'static str, Self)>,
    },
}

impl Shown<'_> {
    /// A choice whose name is known beforehand.
    pub(super) fn word(word: &'static str) -> Self {
        Self::Word(Cow::Borrowed(word))
    }
}
