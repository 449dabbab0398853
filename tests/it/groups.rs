//! Which writes share a sync.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postres::command::Operation;
use postres::engine::{Batch, CompactionOptions, Engine, Running};
use postres::store;

use crate::disk::{Call, Disk};
use crate::support::log::options;

fn engine(disk: &Disk) -> (Arc<Engine>, Running) {
    let store = store::with_shards(8, 0).into();
    let (engine, running, _) = Engine::recover(
        store,
        Arc::new(disk.clone()),
        &options(),
        CompactionOptions::default(),
    )
    .unwrap();
    (Arc::new(engine), running)
}

async fn set(engine: &Engine, n: u32) {
    let key = n.to_le_bytes();
    let mut batch = Batch::default();
    batch.write(&Operation::Set {
        key: &key,
        value: b"v".as_slice().into(),
    });
    engine.submit(batch).await.unwrap();
}

#[tokio::test]
async fn writes_that_are_ready_together_share_one_sync() {
    let disk = Disk::default();
    let (engine, _running) = engine(&disk);
    let before = disk.count(Call::SyncData);
    let writers = (0..2000).map(|n| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { set(&engine, n).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(engine.groups_applied(), 1);
    assert_eq!(disk.count(Call::SyncData) - before, 1);
}

#[tokio::test]
async fn a_write_is_committed_though_the_runtime_never_comes_to_rest() {
    let (engine, _running) = engine(&Disk::default());
    let done = Arc::new(AtomicBool::new(false));
    let (seen, busy) = (Arc::clone(&done), Arc::clone(&engine));
    // Others write all the time, too: there is always more to come.
    let others = tokio::spawn(async move {
        let mut n = 1;
        while !seen.load(Ordering::Relaxed) {
            let busy = Arc::clone(&busy);
            tokio::spawn(async move { set(&busy, n).await });
            n += 1;
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..20 {
        let lone = tokio::time::timeout(Duration::from_secs(60), set(&engine, 0));
        lone.await.expect("the group is committed");
    }
    done.store(true, Ordering::Relaxed);
    others.await.unwrap();
}
