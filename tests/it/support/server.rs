//! The real server, in this process, on a log of the test's choice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use postres::engine::{CompactionOptions, Engine, EngineFailure};
use postres::server::{self, Limits};
use postres::store::{self, InMemStore};
use tokio_util::sync::CancellationToken;

use crate::disk::Disk;
use crate::support::log::options;

/// A server that listens on a free port.
pub struct Server {
    pub addr: SocketAddr,
    pub store: Arc<dyn InMemStore>,
    stop: CancellationToken,
    ended: JoinHandle<Result<(), EngineFailure>>,
}

impl Server {
    /// Starts a server on the log that `disk` holds.
    pub fn start(disk: &Disk, shards: usize) -> Self {
        Self::start_on(disk, shards, 2)
    }

    /// The same, with this many threads for connections.
    pub fn start_on(disk: &Disk, shards: usize, threads: usize) -> Self {
        let store: Arc<dyn InMemStore> = store::with_shards(shards, 64).into();
        let (stop, disk) = (CancellationToken::new(), disk.clone());
        let (addr_tx, addr_rx) = std::sync::mpsc::channel();
        let (token, shared) = (stop.clone(), Arc::clone(&store));
        let ended = std::thread::spawn(move || {
            let runtime = server::runtime(threads).unwrap();
            runtime.block_on(async {
                let (engine, running, _) = Engine::recover(
                    shared,
                    Arc::new(disk),
                    &options(),
                    CompactionOptions::default(),
                )
                .unwrap();
                let listener = server::listen(([127, 0, 0, 1], 0).into()).unwrap();
                addr_tx.send(listener.local_addr().unwrap()).unwrap();
                let limits = Limits {
                    max_connections: 100,
                    shutdown_timeout: Duration::from_secs(5),
                };
                let settings = Arc::default();
                server::run(
                    vec![listener],
                    Arc::new(engine),
                    running,
                    limits,
                    settings,
                    token,
                )
                .await
            })
        });
        Self {
            addr: addr_rx.recv().unwrap(),
            store,
            stop,
            ended,
        }
    }

    /// Stops it in an orderly way; says how it ended.
    pub fn stop(self) -> Result<(), EngineFailure> {
        self.stop.cancel();
        self.ended.join().unwrap()
    }

    /// Waits until it ends by itself.
    pub fn ended(self) -> Result<(), EngineFailure> {
        self.ended.join().unwrap()
    }
}

/// Everything that a store holds.
pub fn contents_of(store: &dyn InMemStore) -> BTreeMap<Vec<u8>, Vec<u8>> {
    (0..store.table_count())
        .flat_map(|index| store.table(index))
        .map(|entry| (entry.key().to_vec(), entry.value().to_vec()))
        .collect()
}
