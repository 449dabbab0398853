//! Applying what changes bits.

use super::super::bitfield::{FieldAction, FieldStep};
use super::super::operation::BitCombine;
use super::super::value::bitfield;
use super::super::value::bits::{self, BitOp};
use super::super::{Reply, count};
use super::Applier;
use crate::protocol::Absence;
use crate::store::Entry;

impl Applier {
    pub(super) fn set_bit(&mut self, key: &[u8], offset: u64, on: bool) -> Reply {
        let old = self.get(key);
        let value = old.as_ref().map_or(&[][..], Entry::value);
        let (before, in_place) = (bits::get(value, offset), offset / 8 < value.len() as u64);
        if offset > bits::MAX_OFFSET || (in_place && before == on) {
            return Reply::Integer(i64::from(before));
        }
        if in_place {
            // The store's own entry is changed, if nobody reads it: not even this function.
            drop(old);
            let mut flip = |value: &mut [u8]| bits::change(value, offset, on);
            if self.change_in_place(key, &mut flip) {
                return Reply::Integer(i64::from(before));
            }
        }
        let old = self.get(key);
        let mut value = old.as_ref().map_or(&[][..], Entry::value).to_vec();
        bits::set(&mut value, offset, on);
        self.put(Entry::new(
            key,
            &value,
            old.as_ref().and_then(Entry::expires),
        ));
        Reply::Integer(i64::from(before))
    }

    pub(super) fn bit_op(
        &mut self,
        combine: BitCombine,
        destination: &[u8],
        sources: &[&[u8]],
    ) -> Reply {
        let entries: Vec<_> = sources.iter().map(|key| self.get(key)).collect();
        let values = entries
            .iter()
            .map(|entry| entry.as_ref().map_or(&[][..], Entry::value));
        let values: Vec<_> = values.collect();
        let combined = match combine {
            BitCombine::And => bits::combine(BitOp::And, &values),
            BitCombine::Or => bits::combine(BitOp::Or, &values),
            BitCombine::Xor => bits::combine(BitOp::Xor, &values),
            BitCombine::Not => bits::combine(BitOp::Not, &values),
        };
        if combined.is_empty() {
            self.remove(destination);
        } else {
            self.put(Entry::new(destination, &combined, None));
        }
        count(combined.len())
    }

    pub(super) fn bit_field(&mut self, key: &[u8], steps: &[FieldStep]) -> Reply {
        let old = self.get(key);
        let mut value = old.as_ref().map_or(&[][..], Entry::value).to_vec();
        // Whether or not one of them then fails, the value has room for all of them.
        let furthest = steps.iter().filter(|step| step.writes());
        if let Some(step) = furthest.max_by_key(|step| step.field.last_bit(step.offset)) {
            bitfield::grow(&mut value, step.field, step.offset);
        }
        let mut replies = Vec::with_capacity(steps.len());
        for FieldStep {
            field,
            offset,
            action,
        } in steps
        {
            let told = match *action {
                FieldAction::Get => Some(bitfield::get(&value, *field, *offset)),
                FieldAction::Set(number, overflow) => {
                    bitfield::set(&mut value, *field, *offset, number, overflow)
                }
                FieldAction::Increment(by, overflow) => {
                    bitfield::increment(&mut value, *field, *offset, by, overflow)
                }
            };
            replies.push(told.map_or(Reply::Nil(Absence::Plain), Reply::Integer));
        }
        if old.as_ref().is_none_or(|old| old.value() != value) {
            let expires = old.as_ref().and_then(Entry::expires);
            self.put(Entry::new(key, &value, expires));
        }
        Reply::Array(replies)
    }
}
