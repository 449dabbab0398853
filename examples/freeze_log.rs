//! Writes the log that is kept under `tests/fixtures` for the current format version.
//!
//! Run it once for each released version, commit what it wrote, and never change that again:
//! `cargo run --example freeze_log -- tests/fixtures/v1/wal_file`

use std::sync::Arc;

use anyhow::Context;
use postres::command::{Operation, Rest};
use postres::engine::{Batch, CompactionOptions, Engine};
use postres::store;
use postres::wal::LogOptions;
use postres::wal::fs::StdFs;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("usage: freeze_log PATH")?;
    let options = LogOptions {
        segment_capacity: 8192,
        prepare_ahead: false,
        ..LogOptions::new(path)
    };
    let store = store::with_shards(8, 0).into();
    let (engine, mut running, _) = Engine::recover(
        store,
        Arc::new(StdFs),
        &options,
        CompactionOptions::default(),
    )?;
    for n in 0..60_u32 {
        let (key, value) = (
            format!("key:{n}").into_bytes(),
            vec![n as u8; n as usize * 3],
        );
        let mut batch = Batch::default();
        batch.write(&Operation::Set {
            key: &key,
            value: Rest(b"overwritten"),
        });
        batch.write(&Operation::Set {
            key: &key,
            value: Rest(&value),
        });
        if n % 7 == 3 {
            batch.write(&Operation::Del { key: Rest(&key) });
        }
        engine.submit(batch).await?;
    }
    let mut batch = Batch::default();
    batch.write(&Operation::Set {
        key: b"binary\0\xff",
        value: Rest(b"\r\n\0\xfe"),
    });
    batch.write(&Operation::Set {
        key: b"",
        value: Rest(b""),
    });
    batch.write(&Operation::Del {
        key: Rest(b"never there"),
    });
    engine.submit(batch).await?;
    engine.close();
    running.ended().await?;
    Ok(())
}
