//! Tests of the operations: what is encoded is decoded, and codes do not change.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::bitfield::FieldAction;
use super::super::value::bitfield::{FieldType, Overflow};
use super::super::value::bits::MAX_OFFSET;
use super::*;

type Bytes = Vec<u8>;

/// What the fields of operations are made of.
#[derive(Debug, Clone)]
struct Parts {
    key: Bytes,
    other: Bytes,
    value: Bytes,
    keys: Vec<Bytes>,
    pairs: Vec<(Bytes, Bytes)>,
    watched: Vec<(Bytes, bool)>,
    number: u64,
    by: i64,
    flag: bool,
    at: Deadline,
    expiry: Expiry,
    condition: usize,
    expire_condition: ExpireCondition,
    combine: BitCombine,
    steps: Vec<FieldStep>,
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..12)
}

fn deadline() -> impl Strategy<Value = Deadline> {
    prop_oneof![
        any::<i64>().prop_map(Deadline::In),
        any::<i64>().prop_map(Deadline::At),
    ]
}

fn expiry() -> impl Strategy<Value = Expiry> {
    prop_oneof![
        Just(Expiry::Never),
        Just(Expiry::Keep),
        deadline().prop_map(Expiry::New),
    ]
}

fn step() -> impl Strategy<Value = FieldStep> {
    let overflow = || select(vec![Overflow::Wrap, Overflow::Sat, Overflow::Fail]);
    let action = prop_oneof![
        Just(FieldAction::Get),
        (any::<i64>(), overflow()).prop_map(|(n, o)| FieldAction::Set(n, o)),
        (any::<i64>(), overflow()).prop_map(|(n, o)| FieldAction::Increment(n, o)),
    ];
    let field = (any::<bool>(), 1..=63_u32);
    let field = field.prop_map(|(signed, bits)| FieldType::new(signed, bits).unwrap());
    (field, 0..=MAX_OFFSET, action).prop_map(|(field, offset, action)| FieldStep {
        field,
        offset,
        action,
    })
}

fn parts() -> impl Strategy<Value = Parts> {
    let lists = (
        vec(bytes(), 0..5),
        vec((bytes(), bytes()), 0..5),
        vec((bytes(), any::<bool>()), 0..5),
        vec(step(), 0..5),
    );
    let expire_conditions = vec![
        ExpireCondition::Always,
        ExpireCondition::Unset,
        ExpireCondition::Set,
        ExpireCondition::Later,
        ExpireCondition::Earlier,
        ExpireCondition::SetAndLater,
        ExpireCondition::SetAndEarlier,
    ];
    let combine = vec![
        BitCombine::And,
        BitCombine::Or,
        BitCombine::Xor,
        BitCombine::Not,
    ];
    let choices = (0..4_usize, select(expire_conditions), select(combine));
    let numbers = (any::<u64>(), any::<i64>(), any::<bool>());
    let words = (bytes(), bytes(), bytes());
    (words, lists, numbers, deadline(), expiry(), choices).prop_map(
        |(words, lists, numbers, at, expiry, choices)| Parts {
            key: words.0,
            other: words.1,
            value: words.2,
            keys: lists.0,
            pairs: lists.1,
            watched: lists.2,
            steps: lists.3,
            number: numbers.0,
            by: numbers.1,
            flag: numbers.2,
            at,
            expiry,
            condition: choices.0,
            expire_condition: choices.1,
            combine: choices.2,
        },
    )
}

/// One operation of each code, except for EXEC.
#[rustfmt::skip]
fn operations(parts: &Parts) -> Vec<Operation<'_>> {
    let Parts { key, other, value, number: offset, flag, expiry, .. } = parts;
    let (key, other, value) = (key.as_slice(), other.as_slice(), Rest(value));
    let (offset, on, expiry) = (*offset, *flag, *expiry);
    let conditions =
        [Condition::Always, Condition::Absent, Condition::Present, Condition::Equal(other)];
    let condition = conditions[parts.condition];
    let keys = || parts.keys.iter().map(Vec::as_slice).collect();
    let pairs = || parts.pairs.iter().map(|(k, v)| (k.as_slice(), v.as_slice())).collect();
    let (by, steps) = (parts.by, parts.steps.clone());
    let (at, expire_condition) = (parts.at, parts.expire_condition);
    vec![
        Operation::Set { key, value },
        Operation::Del { key: value },
        Operation::SetWith { key, expiry, condition, get: on, value },
        Operation::SetNx { key, value },
        Operation::MSet { pairs: pairs() },
        Operation::MSetNx { pairs: pairs() },
        Operation::DelMany { keys: keys() },
        Operation::DelIfEq { key, value },
        Operation::GetDel { key: value },
        Operation::GetEx { key, expiry },
        Operation::Append { key, value },
        Operation::SetRange { key, offset, value },
        Operation::IncrBy { key, by },
        Operation::IncrByFloat { key, by: value },
        Operation::SetBit { key, offset, on },
        Operation::BitOp { combine: parts.combine, destination: key, sources: keys() },
        Operation::BitField { key, steps },
        Operation::Expire { key, at, condition: expire_condition },
        Operation::Persist { key: value },
        Operation::Rename { from: key, to: other },
        Operation::RenameNx { from: key, to: other },
        Operation::Copy { from: key, to: other, replace: on },
        Operation::FlushAll {},
        Operation::Tick {},
    ]
}

fn encoded(operation: &Operation<'_>) -> Bytes {
    let mut bytes = Vec::new();
    operation.encode(&mut bytes);
    bytes
}

fn exec<'a>(parts: &'a Parts, operations: &'a [Bytes]) -> Operation<'a> {
    let watched = parts.watched.iter();
    Operation::Exec {
        base: parts.number,
        watched: watched.map(|(key, there)| (&**key, *there)).collect(),
        operations: operations.iter().map(Vec::as_slice).collect(),
    }
}

/// The encodings of one operation of each code.
fn all_encoded(parts: &Parts) -> Vec<Bytes> {
    let mut all: Vec<_> = operations(parts).iter().map(encoded).collect();
    all.push(encoded(&exec(parts, &all)));
    all
}

/// What is decoded of `bytes`, if anything is, must be what those bytes are the encoding of.
fn check_decoding(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(operation) = Operation::decode(bytes) {
        prop_assert_eq!(encoded(&operation), bytes, "{:?}", operation);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_operation_is_read_back_as_it_was_written(parts in parts()) {
        let simple = operations(&parts);
        let inside: Vec<_> = simple.iter().map(encoded).collect();
        let exec = exec(&parts, &inside);
        let mut codes = Vec::new();
        for operation in simple.iter().chain([&exec]) {
            let bytes = encoded(operation);
            prop_assert_eq!(&Operation::decode(&bytes), &Ok(operation.clone()));
            codes.push(bytes[0]);
        }
        codes.sort_unstable();
        prop_assert_eq!(codes, Operation::CODES, "a new code belongs into this test");
    }

    #[test]
    fn any_bytes_are_an_operation_or_an_error(bytes in vec(any::<u8>(), 0..60)) {
        check_decoding(&bytes)?;
        for code in Operation::CODES {
            check_decoding(&[&[*code], bytes.as_slice()].concat())?;
        }
    }

    #[test]
    fn a_damaged_operation_is_another_one_or_an_error(
        parts in parts(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        for bytes in all_encoded(&parts) {
            let at = at.index(bytes.len());
            check_decoding(&bytes[..at])?;
            check_decoding(&[&bytes, &[byte][..]].concat())?;
            let mut changed = bytes;
            changed[at] = byte;
            check_decoding(&changed)?;
        }
    }
}

#[test]
fn a_transaction_inside_of_a_transaction_is_not_read() {
    let inner = encoded(&Operation::Exec {
        base: 0,
        watched: Vec::new(),
        operations: Vec::new(),
    });
    let outer = encoded(&Operation::Exec {
        base: 0,
        watched: Vec::new(),
        operations: vec![&inner],
    });
    assert_eq!(Operation::decode(&outer), Err(BadOperation::Nested));
    let empty = encoded(&Operation::Exec {
        base: 0,
        watched: Vec::new(),
        operations: vec![b""],
    });
    assert_eq!(Operation::decode(&empty), Err(BadOperation::Short));
}

#[test]
fn a_claim_of_four_billion_items_reserves_nothing() {
    for code in [5, 7, 16, 17, 24] {
        let bytes = [&[code][..], &[0xff; 40]].concat();
        assert!(Operation::decode(&bytes).is_err(), "code {code}");
    }
}
