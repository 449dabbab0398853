//! The server: listeners, one task for each connection, and an orderly stop.

mod accept;
mod aside;
mod clients;
mod commands;
mod connection;
mod ending;
mod long_read;
mod reads;
mod round;
mod runtime;
mod second_turns;
mod session;
mod settings;
mod shutdown;
mod stop;
mod stretch;
mod transaction;
mod wait;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use runtime::runtime;
pub use settings::{DebugCommand, Settings, StartedWith};
pub use shutdown::{StopSignal, stop_signals};

use clients::Clients;
use commands::Console;
use stop::Stop;

use crate::engine::{Engine, EngineFailure, Running};

/// Connections that the system keeps waiting while the server is busy accepting others.
const BACKLOG: i32 = 1024;

/// The least time that closing the log is given, whatever the clients were given.
const MIN_CLOSE: Duration = Duration::from_secs(1);

/// File descriptors that the server needs beside one for each client it serves: listeners, log
/// files, the runtime's own, and a client that is being refused.
pub const OWN_DESCRIPTORS: u64 = 16 + accept::MAX_REFUSALS as u64;

/// The server's limits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Clients served at once.
    pub max_connections: usize,
    /// How long a stop waits for clients to take their replies.
    pub shutdown_timeout: Duration,
}

/// Listens on `addr`. The port is the server's alone, but may have been another's a moment ago.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if addr.is_ipv6() {
        // An IPv4 address on the same port is a listener of its own.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A server that accepts clients. While its engine reads the log they are told so.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    accepting: TaskTracker,
    limits: Limits,
}

/// Begins to accept clients. An engine that is yet to read its log may do so meanwhile.
pub fn start(
    listeners: Vec<TcpListener>,
    engine: Arc<Engine>,
    limits: Limits,
    settings: Arc<Settings>,
    stop: CancellationToken,
) -> Server {
    let addrs = listeners.iter();
    let addrs = addrs.filter_map(|listener| listener.local_addr().ok());
    let shared = Arc::new(Shared {
        console: Console::new(addrs.collect(), engine.time()),
        engine,
        settings,
        clients: Arc::default(),
        free: Arc::new(Semaphore::new(limits.max_connections)),
        refusing: Semaphore::new(accept::MAX_REFUSALS).into(),
        max_connections: limits.max_connections,
        connections: TaskTracker::new(),
        stop: Stop::new(stop),
    });
    tokio::spawn({
        let shared = Arc::clone(&shared);
        async move { shared.stop.watch().await }
    });
    let accepting = TaskTracker::new();
    for listener in listeners {
        accepting.spawn(accept::accept_connections(listener, Arc::clone(&shared)));
    }
    accepting.close();
    Server {
        shared,
        accepting,
        limits,
    }
}

/// Starts a server whose engine is ready, and serves.
pub async fn run(
    listeners: Vec<TcpListener>,
    engine: Arc<Engine>,
    running: Running,
    limits: Limits,
    settings: Arc<Settings>,
    stop: CancellationToken,
) -> Result<(), EngineFailure> {
    let server = start(listeners, engine, limits, settings, stop);
    server.serve(running).await
}

impl Server {
    /// Serves until the server is told to stop or the engine fails.
    ///
    /// The stop is orderly: accepting ends, every connection carries out what it had received and
    /// writes its replies, and then the log is closed. A connection that takes longer than the
    /// limit is cut off; what it was acknowledged is durable all the same.
    pub async fn serve(self, mut running: Running) -> Result<(), EngineFailure> {
        let Self {
            shared,
            accepting,
            limits,
        } = self;
        let sweeping = tokio::spawn({
            let engine = Arc::clone(&shared.engine);
            async move { engine.sweep_expired().await }
        });
        let compacting = tokio::spawn(Arc::clone(&shared.engine).compact());
        let sampling = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move { shared.console.sample().await }
        });

        let has_log = running.has_log();
        tokio::select! {
            () = shared.stop.begins() => {}
            failure = running.ended(), if has_log => {
                // Nothing that waits will be acknowledged, and reads would only hide that.
                return failure;
            }
        }
        accepting.wait().await;
        shared.connections.close();
        let open = shared.connections.len();
        tracing::info!(connections = open, "stopping: finishing what was received");
        if tokio::time::timeout(limits.shutdown_timeout, shared.connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                connections = shared.connections.len(),
                "some clients did not take their replies in time and are cut off"
            );
        }
        sweeping.abort();
        sampling.abort();
        shared.engine.close();
        compacting.abort();
        let closing = tokio::time::timeout(limits.shutdown_timeout.max(MIN_CLOSE), running.ended());
        closing.await.unwrap_or(Err(EngineFailure::Stuck))
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    engine: Arc<Engine>,
    settings: Arc<Settings>,
    console: Console,
    clients: Arc<Clients>,
    /// A permit for each client that may still come.
    free: Arc<Semaphore>,
    /// A permit for each refusal that may still be under way.
    refusing: Arc<Semaphore>,
    max_connections: usize,
    connections: TaskTracker,
    stop: Stop,
}
