//! How a connection ends: who is told when, and what is still read of a client that goes on sending.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::clients::Client;
use super::stop::Stop;

/// How long a client whose connection is closed after an error may go on sending.
const LINGER: Duration = Duration::from_secs(1);

/// Whether a connection is ended, by someone or since the server stops, for a task that waits for something
/// else, too, and so asks often: to look costs much less than to poll the future, which has to be done once
/// for each waker.
pub(super) struct Ending<'a, 't> {
    client: &'t Client,
    stop: &'t Stop,
    cancelled: Pin<&'a mut WaitForCancellationFuture<'t>>,
    /// Who is woken when it is ended.
    told: Option<Waker>,
}

impl<'a, 't> Ending<'a, 't> {
    /// `cancelled` is that of the client's own token.
    pub(super) fn new(
        client: &'t Client,
        stop: &'t Stop,
        cancelled: Pin<&'a mut WaitForCancellationFuture<'t>>,
    ) -> Self {
        Self {
            client,
            stop,
            cancelled,
            told: None,
        }
    }

    pub(super) fn has_come(&self) -> bool {
        self.client.is_ended() || self.stop.has_begun()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker();
        if self.told.as_ref().is_some_and(|told| told.will_wake(waker)) {
            return match self.has_come() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            };
        }
        self.told = Some(waker.clone());
        self.cancelled.as_mut().poll(cx)
    }
}

/// Waits until the client is ended while the server goes on.
pub(super) async fn killed(ended: &CancellationToken, stop: &Stop) {
    ended.cancelled().await;
    if stop.has_begun() {
        std::future::pending::<()>().await;
    }
}

/// How many bytes the system has received and holds for this connection.
pub(super) fn waiting_bytes(stream: &TcpStream) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(stream)?)
}

/// Closes a connection whose client may still be sending. Closing at once would make the system
/// throw away what it has not delivered yet, the error first of all; so the client is read, up to
/// a limit, until it closes too.
pub(super) async fn linger(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    const LIMIT: u64 = 64 << 20;
    writer.shutdown().await?;
    let mut rest = reader.take(LIMIT);
    let mut sink = tokio::io::sink();
    let drained = tokio::io::copy(&mut rest, &mut sink);
    match tokio::time::timeout(LINGER, drained).await {
        Ok(drained) => drained.map(drop),
        Err(_) => Ok(()),
    }
}
