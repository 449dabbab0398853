//! Writes the log with a snapshot that is kept under `tests/fixtures` for the current format
//! version: records of every code, the memory of the last changes among them, and behind the
//! snapshot operations that depend on all of these.
//!
//! Run it once for each released version, commit what it wrote, and never change that again:
//! `cargo run --example freeze_snapshot -- tests/fixtures/v1-snapshot/wal_file`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use postres::command::{Deadline, ExpireCondition, Operation, Rest};
use postres::engine::{Batch, CompactionOptions, Engine};
use postres::store;
use postres::time::Timestamp;
use postres::wal::LogOptions;
use postres::wal::fs::StdFs;

/// The clock's milliseconds at the first operation.
const START: u64 = 1_700_000_000_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args()
        .nth(1)
        .context("usage: freeze_snapshot PATH")?;
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
    let engine = Arc::new(engine);
    let compacting = tokio::spawn(Arc::clone(&engine).compact());
    // So many that the first segments hold nothing but what the snapshot holds, too.
    for n in 0..60_u32 {
        let key = format!("key:{n}").into_bytes();
        let mut batch = Batch::default();
        batch.write(&set(&key, b"overwritten"));
        batch.write(&set(&key, &vec![n as u8; n as usize * 3]));
        if n % 7 == 3 {
            batch.write(&Operation::Del { key: Rest(&key) });
        }
        engine.submit(batch).await?;
    }
    submit(
        &engine,
        &[
            set(b"binary\0\xff", b"\r\n\0\xfe"),
            set(b"", b""),
            set(b"expires", b"a"),
            expire(b"expires", START + 900_000),
            // Gone before the snapshot, gone behind it, and kept behind it.
            set(b"expires:first", b"a"),
            expire(b"expires:first", START + 1000),
            set(b"expires:behind", b"a"),
            expire(b"expires:behind", START + 3000),
            set(b"expires:saved", b"a"),
            expire(b"expires:saved", START + 3000),
            set(b"counter", b"41"),
            set(b"watched", b"a"),
        ],
    )
    .await?;
    clock.store(START + 2000, Ordering::Relaxed);
    let before = engine.watches().applied();
    submit(&engine, &[set(b"watched:changed", b"a")]).await?;
    engine.snapshot().await?;

    submit(
        &engine,
        &[
            Operation::IncrBy {
                key: b"counter",
                by: 1,
            },
            Operation::Append {
                key: b"key:1",
                value: Rest(b"behind"),
            },
            Operation::Del {
                key: Rest(b"key:2"),
            },
            Operation::Persist {
                key: Rest(b"expires:saved"),
            },
        ],
    )
    .await?;
    // What these depend on is in the snapshot, and nowhere else.
    for (key, inside) in [
        (&b"watched"[..], &b"exec:carried out"[..]),
        (b"watched:changed", b"exec:lost"),
    ] {
        let mut bytes = Vec::new();
        set(inside, b"a").encode(&mut bytes);
        submit(
            &engine,
            &[Operation::Exec {
                base: before,
                watched: vec![(key, true)],
                operations: vec![&bytes],
            }],
        )
        .await?;
    }
    clock.store(START + 5000, Ordering::Relaxed);
    for n in 0..60_u32 {
        let key = format!("behind:{n}").into_bytes();
        submit(&engine, &[set(&key, &[b'x'; 100])]).await?;
    }
    engine.close();
    running.ended().await?;
    compacting.abort();
    Ok(())
}

async fn submit(engine: &Engine, operations: &[Operation<'_>]) -> anyhow::Result<()> {
    let mut batch = Batch::default();
    for operation in operations {
        batch.write(operation);
    }
    engine.submit(batch).await?;
    Ok(())
}

fn set<'a>(key: &'a [u8], value: &'a [u8]) -> Operation<'a> {
    Operation::Set {
        key,
        value: Rest(value),
    }
}

fn expire(key: &[u8], at: u64) -> Operation<'_> {
    Operation::Expire {
        key,
        at: Deadline::At(at.cast_signed()),
        condition: ExpireCondition::Always,
    }
}
