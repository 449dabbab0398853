//! Applying what changes strings.

use super::super::arguments::{MAX_VALUE_LEN, TOO_LONG, invalid_expire_time};
use super::super::operation::{Condition, Deadline, Expiry};
use super::super::{Reply, count, error};
use super::Applier;
use crate::protocol::{Absence, ErrorReply};
use crate::store::{Entry, Value};
use crate::time::Timestamp;

impl Applier {
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Reply {
        self.put(Entry::new(key, value, None));
        Reply::Ok
    }

    pub(super) fn set_with(
        &mut self,
        key: &[u8],
        value: &[u8],
        expiry: Expiry,
        condition: Condition<'_>,
        get: bool,
    ) -> Reply {
        let old = self.get(key);
        let met = match condition {
            Condition::Always => true,
            Condition::Absent => old.is_none(),
            Condition::Present => old.is_some(),
            Condition::Equal(expected) => old.as_ref().is_some_and(|e| e.value() == expected),
        };
        if met {
            match self.expires(expiry, old.as_ref(), "SET") {
                Ok(expires) => self.put_or_expire(Entry::new(key, value, expires)),
                Err(error) => return Reply::Error(error),
            }
        }
        match (get, met) {
            (true, _) => value_or_nil(old, Absence::Plain),
            (false, true) => Reply::Ok,
            (false, false) => Reply::Nil(Absence::Condition { command: "SET" }),
        }
    }

    pub(super) fn set_nx(&mut self, key: &[u8], value: &[u8]) -> Reply {
        let absent = self.get(key).is_none();
        if absent {
            self.put(Entry::new(key, value, None));
        }
        Reply::Integer(i64::from(absent))
    }

    pub(super) fn mset(&mut self, pairs: &[(&[u8], &[u8])]) -> Reply {
        for (key, value) in pairs {
            self.put(Entry::new(key, value, None));
        }
        Reply::Ok
    }

    pub(super) fn mset_nx(&mut self, pairs: &[(&[u8], &[u8])]) -> Reply {
        let absent = pairs.iter().all(|(key, _)| self.get(key).is_none());
        if absent {
            self.mset(pairs);
        }
        Reply::Integer(i64::from(absent))
    }

    pub(super) fn get_del(&mut self, key: &[u8]) -> Reply {
        value_or_nil(self.remove(key), Absence::Key { command: "GETDEL" })
    }

    pub(super) fn get_ex(&mut self, key: &[u8], expiry: Expiry) -> Reply {
        let Some(old) = self.get(key) else {
            return Reply::Nil(Absence::Key { command: "GETEX" });
        };
        match self.expires(expiry, Some(&old), "GETEX") {
            Ok(expires) if expires != old.expires() => {
                self.put_or_expire(Entry::new(key, old.value(), expires));
            }
            Ok(_) => {}
            Err(error) => return Reply::Error(error),
        }
        Reply::Value(Value::from(old))
    }

    pub(super) fn del_if_eq(&mut self, key: &[u8], value: &[u8]) -> Reply {
        let equal = self.get(key).is_some_and(|entry| entry.value() == value);
        if equal {
            self.remove(key);
        }
        Reply::Integer(i64::from(equal))
    }

    pub(super) fn append(&mut self, key: &[u8], value: &[u8]) -> Reply {
        let old = self.get(key);
        let old_value = old.as_ref().map_or(&[][..], Entry::value);
        let len = old_value.len() + value.len();
        if len > MAX_VALUE_LEN {
            return Reply::Error(error(TOO_LONG));
        }
        let expires = old.as_ref().and_then(Entry::expires);
        self.put(Entry::with_parts(key, &[old_value, value], expires));
        count(len)
    }

    pub(super) fn set_range(&mut self, key: &[u8], offset: u64, value: &[u8]) -> Reply {
        let old_len = self.get(key).map_or(0, |entry| entry.value().len());
        if value.is_empty() {
            return count(old_len);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(value.len());
        if end > MAX_VALUE_LEN {
            return Reply::Error(error(TOO_LONG));
        }
        let mut write = |whole: &mut [u8]| {
            if let Some(place) = whole.get_mut(start..end) {
                place.copy_from_slice(value);
            }
        };
        if end <= old_len && self.change_in_place(key, &mut write) {
            return count(old_len);
        }
        let old = self.get(key);
        let mut new = Vec::with_capacity(end.max(old_len));
        new.extend_from_slice(old.as_ref().map_or(&[], Entry::value));
        new.resize(end.max(old_len), 0);
        write(&mut new);
        let expires = old.as_ref().and_then(Entry::expires);
        self.put(Entry::new(key, &new, expires));
        count(new.len())
    }

    /// The expiry that a key gets which had the entry `old`.
    fn expires(
        &self,
        expiry: Expiry,
        old: Option<&Entry>,
        command: &'static str,
    ) -> Result<Option<Timestamp>, ErrorReply> {
        match expiry {
            Expiry::Never => Ok(None),
            Expiry::Keep => Ok(old.and_then(Entry::expires)),
            Expiry::New(deadline) => {
                let at = self.moment(deadline);
                at.map(Some).ok_or_else(|| invalid_expire_time(command))
            }
        }
    }

    /// When a deadline is, in this frame; `None` if it lies beyond all time. A time before 1970 is
    /// its beginning: both have passed.
    pub(super) fn moment(&self, deadline: Deadline) -> Option<Timestamp> {
        let now = i64::try_from(self.now.0).ok()?;
        let at = match deadline {
            Deadline::In(millis) => now.checked_add(millis)?,
            Deadline::At(millis) => millis,
        };
        Some(Timestamp(u64::try_from(at).unwrap_or(0)))
    }
}

pub(super) fn value_or_nil(entry: Option<Entry>, absence: Absence) -> Reply {
    match entry {
        Some(entry) => Reply::Value(Value::from(entry)),
        None => Reply::Nil(absence),
    }
}
