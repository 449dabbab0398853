//! Applying increments.

use super::super::arguments::{NOT_AN_INTEGER, OVERFLOW};
use super::super::value::{float, number::parse_i64};
use super::super::{Reply, error};
use super::Applier;
use crate::protocol::ErrorReply;
use crate::store::Entry;

impl Applier {
    pub(super) fn incr_by(&mut self, key: &[u8], by: i64) -> Reply {
        let old = self.get(key);
        let number = match &old {
            Some(entry) => parse_i64(entry.value()),
            None => Some(0),
        };
        let Some(number) = number else {
            return Reply::Error(error(NOT_AN_INTEGER));
        };
        let Some(number) = number.checked_add(by) else {
            return Reply::Error(error(OVERFLOW));
        };
        let expires = old.as_ref().and_then(Entry::expires);
        self.put(Entry::new(key, number.to_string().as_bytes(), expires));
        Reply::Integer(number)
    }

    pub(super) fn incr_by_float(&mut self, key: &[u8], by: &[u8]) -> Reply {
        let old = self.get(key);
        let value = old.as_ref().map_or(&b"0"[..], Entry::value);
        match float::increment(value, by) {
            Ok(sum) => {
                let expires = old.as_ref().and_then(Entry::expires);
                self.put(Entry::new(key, sum.as_bytes(), expires));
                Reply::Bytes(sum.into_bytes())
            }
            Err(failure) => Reply::Error(ErrorReply::Other(format!("ERR {failure}").into())),
        }
    }
}
