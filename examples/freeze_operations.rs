//! Writes the log that is kept under `tests/fixtures/v1-operations`: every operation that version 1
//! of the log's format knew when it was released, in each of its variants.
//!
//! It was run once, `cargo run --example freeze_operations -- tests/fixtures/v1-operations/wal_file`.
//! What it wrote never changes again: operations that come later get a log of their own. What it
//! holds is told in `tests/it/history.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use postres::command::value::bitfield::{FieldType, Overflow};
use postres::command::{
    BitCombine, Condition, Deadline, ExpireCondition, Expiry, FieldAction, FieldStep, Operation,
    Rest,
};
use postres::engine::{Batch, CompactionOptions, Engine};
use postres::store;
use postres::time::Timestamp;
use postres::wal::LogOptions;
use postres::wal::fs::StdFs;

/// The time of the first frame. Each frame is a second later than the one before.
const START: u64 = 1_700_000_000_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args()
        .nth(1)
        .context("usage: freeze_operations PATH")?;
    let clock = Arc::new(AtomicU64::new(START));
    let source = Arc::clone(&clock);
    let options = LogOptions {
        segment_capacity: 8192,
        prepare_ahead: false,
        clock: Arc::new(move || Timestamp(source.load(Ordering::Relaxed))),
        ..LogOptions::new(path)
    };
    let store = store::with_shards(8, 0).into();
    let (engine, mut running, _) = Engine::recover(
        store,
        Arc::new(StdFs),
        &options,
        CompactionOptions::default(),
    )?;
    let mut transactions = Vec::new();
    for operations in [
        vec![set(b"exec:inside", b"1"), incr(b"exec:inside", 41)],
        vec![set(b"exec:lost", b"1")],
    ] {
        transactions.push(operations.iter().map(encoded).collect::<Vec<_>>());
    }
    let [carried_out, lost] = transactions.as_slice() else {
        anyhow::bail!("there are two");
    };
    let frames = [
        flushed(),
        set_with(),
        several(),
        strings(),
        numbers(),
        bits(),
        expiries(),
        keys(),
        execs(carried_out, lost),
        vec![Operation::Tick {}],
    ];
    for operations in frames {
        let mut batch = Batch::default();
        for operation in &operations {
            batch.write(operation);
        }
        engine.submit(batch).await?;
        clock.fetch_add(1000, Ordering::Relaxed);
    }
    engine.close();
    running.ended().await?;
    Ok(())
}

fn encoded(operation: &Operation<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    operation.encode(&mut bytes);
    bytes
}

fn set<'a>(key: &'a [u8], value: &'a [u8]) -> Operation<'a> {
    Operation::Set {
        key,
        value: Rest(value),
    }
}

fn incr(key: &[u8], by: i64) -> Operation<'_> {
    Operation::IncrBy { key, by }
}

fn expire(key: &[u8], at: Deadline, condition: ExpireCondition) -> Operation<'_> {
    Operation::Expire { key, at, condition }
}

fn flushed() -> Vec<Operation<'static>> {
    vec![
        set(b"flushed", b"1"),
        Operation::FlushAll {},
        set(b"set", b"1"),
        set(b"binary\0\xff", b"\r\n\0\xfe"),
        set(b"del", b"1"),
        Operation::Del { key: Rest(b"del") },
        Operation::Del {
            key: Rest(b"never there"),
        },
    ]
}

fn set_with() -> Vec<Operation<'static>> {
    let with = |key, value, expiry, condition| Operation::SetWith {
        key,
        expiry,
        condition,
        get: false,
        value: Rest(value),
    };
    let (in_a_minute, at) = (
        Expiry::New(Deadline::In(60_000)),
        Expiry::New(Deadline::At(1_700_000_500_000)),
    );
    vec![
        with(b"with:never", b"a", in_a_minute, Condition::Always),
        with(b"with:never", b"b", Expiry::Never, Condition::Present),
        with(b"with:keep", b"a", at, Condition::Always),
        with(b"with:keep", b"b", Expiry::Keep, Condition::Equal(b"a")),
        with(b"with:absent", b"a", in_a_minute, Condition::Absent),
        with(b"with:absent", b"b", Expiry::Never, Condition::Absent),
        with(b"with:present", b"a", Expiry::Never, Condition::Present),
        set(b"with:equal", b"a"),
        with(b"with:equal", b"b", at, Condition::Equal(b"c")),
        set(b"with:past", b"a"),
        with(
            b"with:past",
            b"b",
            Expiry::New(Deadline::At(1)),
            Condition::Always,
        ),
        Operation::SetWith {
            key: b"with:get",
            expiry: Expiry::Never,
            condition: Condition::Always,
            get: true,
            value: Rest(b"a"),
        },
        with(
            b"with:soon",
            b"a",
            Expiry::New(Deadline::In(5000)),
            Condition::Always,
        ),
    ]
}

fn several() -> Vec<Operation<'static>> {
    let nx = |key, value| Operation::SetNx {
        key,
        value: Rest(value),
    };
    vec![
        nx(b"setnx", b"a"),
        nx(b"setnx", b"b"),
        Operation::MSet {
            pairs: vec![(b"mset:1", b"a"), (b"mset:2", b"b"), (b"mset:1", b"c")],
        },
        Operation::MSetNx {
            pairs: vec![(b"msetnx:lost", b"a"), (b"mset:2", b"a")],
        },
        Operation::MSetNx {
            pairs: vec![(b"msetnx:1", b"a"), (b"msetnx:2", b"")],
        },
        set(b"many:1", b"a"),
        set(b"many:2", b"a"),
        Operation::DelMany {
            keys: vec![b"many:1", b"many:2", b"many:3"],
        },
        set(b"delifeq:kept", b"a"),
        Operation::DelIfEq {
            key: b"delifeq:kept",
            value: Rest(b"b"),
        },
        set(b"delifeq:gone", b"a"),
        Operation::DelIfEq {
            key: b"delifeq:gone",
            value: Rest(b"a"),
        },
        set(b"getdel", b"a"),
        Operation::GetDel {
            key: Rest(b"getdel"),
        },
    ]
}

fn strings() -> Vec<Operation<'static>> {
    let append = |key, value| Operation::Append {
        key,
        value: Rest(value),
    };
    let range = |key, offset, value| Operation::SetRange {
        key,
        offset,
        value: Rest(value),
    };
    vec![
        append(b"append", b"ab"),
        append(b"append", b"cd"),
        range(b"setrange:behind", 3, b"xy"),
        set(b"setrange:inside", b"abcdef"),
        range(b"setrange:inside", 1, b"XY"),
        range(b"setrange:nothing", 9, b""),
    ]
}

fn numbers() -> Vec<Operation<'static>> {
    let float = |key, by| Operation::IncrByFloat { key, by: Rest(by) };
    vec![
        incr(b"incr", 10),
        incr(b"incr", -3),
        set(b"incr:text", b"ten"),
        incr(b"incr:text", 1),
        set(b"incr:most", b"9223372036854775807"),
        incr(b"incr:most", 1),
        set(b"float", b"10.50"),
        float(b"float", b"0.1"),
        float(b"float:e", b"5.0e3"),
    ]
}

fn bits() -> Vec<Operation<'static>> {
    let bit = |key, offset, on| Operation::SetBit { key, offset, on };
    let combine = |combine, destination, sources| Operation::BitOp {
        combine,
        destination,
        sources,
    };
    let step = |signed, bits, offset, action| {
        FieldType::new(signed, bits).map(|field| FieldStep {
            field,
            offset,
            action,
        })
    };
    let steps = [
        step(false, 8, 0, FieldAction::Set(250, Overflow::Wrap)),
        step(false, 8, 0, FieldAction::Increment(10, Overflow::Wrap)),
        step(true, 8, 8, FieldAction::Increment(200, Overflow::Sat)),
        step(false, 4, 16, FieldAction::Set(9, Overflow::Wrap)),
        step(false, 4, 16, FieldAction::Increment(9, Overflow::Fail)),
        step(true, 5, 27, FieldAction::Set(-2, Overflow::Sat)),
        step(false, 63, 0, FieldAction::Get),
    ];
    vec![
        bit(b"setbit", 7, true),
        bit(b"setbit", 17, true),
        bit(b"setbit", 7, false),
        bit(b"setbit:off", 9, false),
        set(b"bit:a", b"\x0f\xf0\xaa"),
        set(b"bit:b", b"\xff\x3c"),
        set(b"bit:none", b"a"),
        combine(BitCombine::And, b"bit:and", vec![b"bit:a", b"bit:b"]),
        combine(
            BitCombine::Or,
            b"bit:or",
            vec![b"bit:a", b"bit:b", b"never there"],
        ),
        combine(BitCombine::Xor, b"bit:xor", vec![b"bit:a", b"bit:b"]),
        combine(BitCombine::Not, b"bit:not", vec![b"bit:a"]),
        combine(BitCombine::Or, b"bit:none", vec![b"never there"]),
        Operation::BitField {
            key: b"bitfield",
            steps: steps.into_iter().flatten().collect(),
        },
    ]
}

fn expiries() -> Vec<Operation<'static>> {
    let (soon, late) = (Deadline::In(60_000), Deadline::At(1_700_000_900_000));
    let getex = |key, expiry| Operation::GetEx { key, expiry };
    let mut all = Vec::new();
    // Each condition on a key with an expiry, and on one without.
    let conditions: [(ExpireCondition, [&[u8]; 2]); 7] = [
        (
            ExpireCondition::Always,
            [b"expire:always:set", b"expire:always"],
        ),
        (ExpireCondition::Unset, [b"expire:nx:set", b"expire:nx"]),
        (ExpireCondition::Set, [b"expire:xx:set", b"expire:xx"]),
        (ExpireCondition::Later, [b"expire:gt:set", b"expire:gt"]),
        (ExpireCondition::Earlier, [b"expire:lt:set", b"expire:lt"]),
        (
            ExpireCondition::SetAndLater,
            [b"expire:xx-gt:set", b"expire:xx-gt"],
        ),
        (
            ExpireCondition::SetAndEarlier,
            [b"expire:xx-lt:set", b"expire:xx-lt"],
        ),
    ];
    for (condition, [with, without]) in conditions {
        all.push(set(with, b"a"));
        all.push(expire(with, late, ExpireCondition::Always));
        all.push(expire(with, soon, condition));
        all.push(set(without, b"a"));
        all.push(expire(without, soon, condition));
    }
    all.extend([
        set(b"expire:past", b"a"),
        expire(b"expire:past", Deadline::In(-1), ExpireCondition::Always),
        expire(b"never there", soon, ExpireCondition::Always),
        set(b"getex:in", b"a"),
        getex(b"getex:in", Expiry::New(Deadline::In(70_000))),
        set(b"getex:never", b"a"),
        getex(b"getex:never", Expiry::New(late)),
        getex(b"getex:never", Expiry::Never),
        set(b"getex:keep", b"a"),
        getex(b"getex:keep", Expiry::New(late)),
        getex(b"getex:keep", Expiry::Keep),
        set(b"persist", b"a"),
        expire(b"persist", soon, ExpireCondition::Always),
        Operation::Persist {
            key: Rest(b"persist"),
        },
    ]);
    all
}

fn keys() -> Vec<Operation<'static>> {
    let late = Deadline::At(1_700_000_900_000);
    vec![
        set(b"rename:from", b"a"),
        expire(b"rename:from", late, ExpireCondition::Always),
        Operation::Rename {
            from: b"rename:from",
            to: b"rename:to",
        },
        Operation::Rename {
            from: b"never there",
            to: b"rename:to",
        },
        set(b"renamenx:taken", b"a"),
        set(b"renamenx:from", b"b"),
        Operation::RenameNx {
            from: b"renamenx:from",
            to: b"renamenx:taken",
        },
        Operation::RenameNx {
            from: b"renamenx:from",
            to: b"renamenx:free",
        },
        set(b"copy:from", b"a"),
        expire(b"copy:from", late, ExpireCondition::Always),
        set(b"copy:taken", b"b"),
        set(b"copy:replaced", b"b"),
        Operation::Copy {
            from: b"copy:from",
            to: b"copy:taken",
            replace: false,
        },
        Operation::Copy {
            from: b"copy:from",
            to: b"copy:replaced",
            replace: true,
        },
        Operation::Copy {
            from: b"copy:from",
            to: b"copy:to",
            replace: false,
        },
    ]
}

/// Positions count from 1, and `set` was changed last by the third operation.
fn execs<'a>(carried_out: &'a [Vec<u8>], lost: &'a [Vec<u8>]) -> Vec<Operation<'a>> {
    let exec = |base, watched, operations: &'a [Vec<u8>]| Operation::Exec {
        base,
        watched,
        operations: operations.iter().map(Vec::as_slice).collect(),
    };
    vec![
        exec(0, Vec::new(), carried_out),
        // Carried out: neither was changed behind its base, and each is as it was.
        exec(
            3,
            vec![(b"set", true), (b"never there", false)],
            carried_out,
        ),
        // Not carried out: one was changed, one is not there any more, one was not there.
        exec(2, vec![(b"set", true)], lost),
        exec(u64::MAX, vec![(b"never there", true)], lost),
        exec(u64::MAX, vec![(b"set", false)], lost),
    ]
}
