//! Accepting connections, and turning away those that are too many.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::Shared;
use super::connection::Connection;
use super::ending::linger;
use crate::metrics::Counter;

/// Refusals under way at once; a client beyond that is closed without a word.
pub(super) const MAX_REFUSALS: usize = 8;

/// How long a refused client may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the accept loop pauses after an error that would only repeat itself (no descriptor
/// left, say): doubled up to the second figure while it does.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long an idle connection is left before the system asks whether its peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(300);

pub(super) async fn accept_connections(listener: TcpListener, shared: Arc<Shared>) {
    let mut pause = PAUSE.0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.begins() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = PAUSE.0;
                admit(stream, peer, &shared);
            }
            Err(error) if concerns_one_peer(&error) => {
                tracing::debug!(%error, "a client left before it was accepted");
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept connections; trying again in {pause:?}");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shared.stop.begins() => return,
                }
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

fn concerns_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

fn admit(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>) {
    if !peer.ip().to_canonical().is_loopback() && shared.settings.is_closed_to_strangers() {
        tracing::warn!(%peer, "refusing a client from another machine: no password is set");
        shared.console.metrics.add(Counter::ConnectionsRejected, 1);
        refuse(stream, shared, NO_STRANGERS);
        return;
    }
    let Ok(permit) = Arc::clone(&shared.free).try_acquire_owned() else {
        tracing::warn!(
            max_connections = shared.max_connections,
            "refusing a client: too many"
        );
        shared.console.metrics.add(Counter::ConnectionsRejected, 1);
        refuse(stream, shared, TOO_MANY);
        return;
    };
    shared.console.metrics.add(Counter::ConnectionsReceived, 1);
    prepare(&stream);
    let local = stream.local_addr().unwrap_or(peer);
    let connected = shared.clients.add(peer, local, shared.stop.child_token());
    let task = Arc::clone(shared);
    shared.connections.spawn(async move {
        let mut connection = Connection::new(stream, task, connected);
        if let Err(error) = connection.serve().await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(permit);
    });
}

/// Sets what a request-and-reply protocol wants of its socket. Best effort: without it the
/// connection is slower, or found dead later.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// What a client is told that comes from another machine to a server without a password.
const NO_STRANGERS: &str = "-DENIED Running in protected mode: without a password, only clients \
    on this machine are served. Either set a password (the flag -requirepass, the variable \
    POSTRES_REQUIREPASS, or CONFIG SET requirepass from this machine), or say that everyone who \
    reaches this address may read and write everything (-protected-mode no).\r\n";

const TOO_MANY: &str = "-ERR max number of clients reached\r\n";

fn refuse(mut stream: TcpStream, shared: &Arc<Shared>, why: &'static str) {
    let Ok(permit) = Arc::clone(&shared.refusing).try_acquire_owned() else {
        return;
    };
    shared.connections.spawn(async move {
        let refusal = async {
            stream.write_all(why.as_bytes()).await?;
            let (mut reader, mut writer) = stream.split();
            linger(&mut reader, &mut writer).await
        };
        // A client that does not read its refusal is closed all the same.
        let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refusal).await;
        drop(permit);
    });
}
