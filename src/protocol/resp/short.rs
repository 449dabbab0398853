//! Finds short requests, in one go.

use super::decoder::{LINE_BREAK, MAX_UNTRUSTED_BULK_LEN, MAX_UNTRUSTED_ELEMENTS};
use crate::protocol::Args;

/// The most elements of a short request, as the digit that says it, and as a number.
const MOST: u8 = b'4';
const FEW: usize = (MOST - b'0') as usize;

/// The length of no element of a short request has more than three digits.
pub(super) const SHORT: usize = 999;

// So whoever sends one need not be trusted.
const _: () = assert!(FEW <= MAX_UNTRUSTED_ELEMENTS && SHORT <= MAX_UNTRUSTED_BULK_LEN);

/// Appends the elements of the request that `bytes` begin with, and tells its length, if it is whole and
/// short: of at most [`FEW`] elements of at most [`SHORT`] bytes each. Almost all are, and to find them
/// takes a third of the time that way. What is anything else, or not a request, is for the other way
/// to tell.
#[inline]
pub(super) fn short<'a>(bytes: &'a [u8], args: &mut Args<'a>) -> Option<usize> {
    let [b'*', count @ b'1'..=MOST, b'\r', b'\n', rest @ ..] = bytes else {
        return None;
    };
    let mut rest = rest;
    for _ in b'0'..*count {
        let (len, behind) = short_len(rest)?;
        let (element, behind) = behind.split_at_checked(len)?;
        rest = behind.strip_prefix(LINE_BREAK)?;
        args.push(element);
    }
    Some(bytes.len() - rest.len())
}

/// A length of up to three digits, and what is behind its line.
#[inline]
fn short_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let value = |digit: &u8| usize::from(*digit - b'0');
    let [b'$', a @ b'0'..=b'9', rest @ ..] = bytes else {
        return None;
    };
    let a = value(a);
    match rest {
        [b'\r', b'\n', rest @ ..] => Some((a, rest)),
        // Only a length of one digit begins with 0.
        _ if a == 0 => None,
        [b @ b'0'..=b'9', b'\r', b'\n', rest @ ..] => Some((a * 10 + value(b), rest)),
        [b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', b'\n', rest @ ..] => {
            Some((a * 100 + value(b) * 10 + value(c), rest))
        }
        _ => None,
    }
}
