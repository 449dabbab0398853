//! Accepting connections, and turning away those that are too many.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::Shared;
use super::connection::{self, Connection};

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
            () = shared.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                pause = PAUSE.0;
                admit(stream, &shared);
            }
            Err(error) if concerns_one_peer(&error) => {
                tracing::debug!(%error, "a client left before it was accepted");
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept connections; trying again in {pause:?}");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shared.stop.cancelled() => return,
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

fn admit(stream: TcpStream, shared: &Arc<Shared>) {
    let Ok(permit) = Arc::clone(&shared.free).try_acquire_owned() else {
        refuse(stream, shared);
        return;
    };
    prepare(&stream);
    let (task, stop) = (Arc::clone(shared), shared.stop.clone());
    shared.connections.spawn(async move {
        if let Err(error) = Connection::new(stream, &task.engine).serve(&stop).await {
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

fn refuse(mut stream: TcpStream, shared: &Arc<Shared>) {
    tracing::warn!(
        max_connections = shared.max_connections,
        "refusing a client: too many"
    );
    let Ok(permit) = Arc::clone(&shared.refusing).try_acquire_owned() else {
        return;
    };
    shared.connections.spawn(async move {
        let refusal = async {
            stream
                .write_all(b"-ERR max number of clients reached\n")
                .await?;
            connection::linger(&mut stream).await
        };
        // A client that does not read its refusal is closed all the same.
        let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refusal).await;
        drop(permit);
    });
}
