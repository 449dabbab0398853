//! Applying what changes expiries.

use super::super::Reply;
use super::super::arguments::invalid_expire_time;
use super::super::operation::{Deadline, ExpireCondition};
use super::Applier;
use crate::store::Entry;

impl Applier {
    pub(super) fn expire(&mut self, key: &[u8], at: Deadline, condition: ExpireCondition) -> Reply {
        let Some(at) = self.moment(at) else {
            return Reply::Error(invalid_expire_time("EXPIRE"));
        };
        let Some(old) = self.get(key) else {
            return Reply::Integer(0);
        };
        let later = old.expires().is_some_and(|old| at > old);
        let earlier = old.expires().is_none_or(|old| at < old);
        let set = old.expires().is_some();
        let met = match condition {
            ExpireCondition::Always => true,
            ExpireCondition::Unset => !set,
            ExpireCondition::Set => set,
            ExpireCondition::Later | ExpireCondition::SetAndLater => later,
            ExpireCondition::Earlier => earlier,
            ExpireCondition::SetAndEarlier => set && earlier,
        };
        if met {
            self.put_or_expire(Entry::new(key, old.value(), Some(at)));
        }
        Reply::Integer(i64::from(met))
    }

    pub(super) fn persist(&mut self, key: &[u8]) -> Reply {
        let Some(old) = self.get(key).filter(|entry| entry.expires().is_some()) else {
            return Reply::Integer(0);
        };
        self.put(Entry::new(key, old.value(), None));
        Reply::Integer(1)
    }
}
