//! P4 and P5: any history, applied live and read back from its log, gives equal stores; and a log
//! written by a released version still gives what it gave then.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use postres::command::{Operation, Rest};
use postres::engine::{Batch, Engine};
use postres::store::{self, InMemStore};
use postres::wal::fs::StdFs;
use postres::wal::{LogOptions, SyncPolicy};
use proptest::prelude::*;

use crate::disk::{Disk, Fate};
use crate::support::log::options;
use crate::support::server::contents_of;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Clone)]
enum Step {
    Set(Vec<u8>, Vec<u8>),
    Del(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop::collection::vec(0_u8..3, 0..4);
    prop_oneof![
        3 => (key(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(k, v)| Step::Set(k, v)),
        1 => key().prop_map(Step::Del),
    ]
}

fn batch(steps: &[Step]) -> Batch {
    let mut batch = Batch::default();
    for step in steps {
        batch.write(&match step {
            Step::Set(key, value) => Operation::Set {
                key,
                value: Rest(value),
            },
            Step::Del(key) => Operation::Del { key: Rest(key) },
        });
    }
    batch
}

fn model(steps: &[Vec<Step>]) -> Contents {
    let mut model = BTreeMap::new();
    for step in steps.concat() {
        match step {
            Step::Set(key, value) => model.insert(key, value),
            Step::Del(key) => model.remove(&key),
        };
    }
    model
}

/// Recovers from `disk`, carries out `batches`, and closes; what the store held before and after.
fn live(
    disk: &Disk,
    policy: SyncPolicy,
    shards: usize,
    batches: &[Vec<Step>],
) -> (Contents, Contents) {
    let store: Arc<dyn InMemStore> = store::with_shards(shards, 0).into();
    let options = LogOptions {
        policy,
        ..options()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (engine, mut running, _) =
            Engine::recover(Arc::clone(&store), Arc::new(disk.clone()), &options).unwrap();
        let before = contents_of(&*store);
        for steps in batches {
            let replies = engine.submit(batch(steps)).await.unwrap().replies;
            assert_eq!(replies.len(), steps.len());
        }
        engine.close();
        running.ended().await.unwrap();
        (before, contents_of(&*store))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn a_history_applied_live_and_replayed_gives_equal_stores(
        batches in prop::collection::vec(prop::collection::vec(step(), 1..12), 1..40),
        policy in prop_oneof![
            Just(SyncPolicy::Always), Just(SyncPolicy::EverySecond), Just(SyncPolicy::Never)
        ],
        shards in 1_usize..10,
    ) {
        let disk = Disk::default();
        let (_, lived) = live(&disk, policy, shards, &batches);
        prop_assert_eq!(&lived, &model(&batches));
        // Read back by a store of another kind, after a crash that keeps only what was synced.
        let (replayed, _) = live(&disk.crash(Fate::Lost), policy, 10 - shards, &[]);
        prop_assert_eq!(&replayed, &lived);
    }
}

/// What the frozen log of version 1 holds. It was made by `cargo run --example freeze_log`.
fn frozen() -> Contents {
    let mut frozen: Contents = (0..60_u32)
        .filter(|n| n % 7 != 3)
        .map(|n| {
            (
                format!("key:{n}").into_bytes(),
                vec![n as u8; n as usize * 3],
            )
        })
        .collect();
    frozen.insert(b"binary\0\xff".to_vec(), b"\r\n\0\xfe".to_vec());
    frozen.insert(Vec::new(), Vec::new());
    frozen
}

#[test]
fn the_frozen_log_of_version_1_still_loads() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let copy = tempfile::tempdir().unwrap();
    let mut files = 0;
    for file in std::fs::read_dir(source).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        files += 1;
    }
    assert!(files >= 2, "the frozen log has several segments");
    let store: Arc<dyn InMemStore> = store::with_shards(8, 0).into();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = LogOptions::new(copy.path().join("wal_file"));
        let (_engine, _running, report) =
            Engine::recover(Arc::clone(&store), Arc::new(StdFs), &options).unwrap();
        assert_eq!(report.repairs, []);
    });
    assert_eq!(contents_of(&*store), frozen());
}
