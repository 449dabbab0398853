//! Waiting before an answer: of a client that asked for it, for a pause to be over, or for work that goes on
//! elsewhere.

use std::fmt;
use std::sync::Arc;

use super::commands::Later;
use super::connection::Connection;
use crate::command::{Reply, error};
use crate::protocol::Dialect;

/// What a client waits for before it is answered.
pub(super) struct Wait {
    pub(super) dialect: Dialect,
    pub(super) reply: Later,
    /// What it is answered if the server stops first.
    pub(super) at_stop: Reply,
    /// Whether CLIENT UNBLOCK ends it.
    pub(super) can_be_ended: bool,
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").finish_non_exhaustive()
    }
}

impl Connection {
    /// Waits as long as it takes, or until the server stops, and answers. Says whether the client is
    /// still there.
    pub(super) async fn wait(&mut self, wait: Wait) -> bool {
        let client = Arc::clone(&self.connected.client);
        client.waiting.begin();
        let mut reply = None;
        // One that waits for work to be done may have half-closed, as `nc` does, and listens still.
        let may_leave = wait.can_be_ended;
        let gone = self
            .is_gone_before(may_leave, async {
                tokio::select! {
                    made = wait.reply => reply = Some(made),
                    () = client.waiting.ended.notified(), if wait.can_be_ended => {}
                }
            })
            .await;
        let unblocked = client.waiting.end();
        let reply = match reply {
            Some(reply) if !unblocked => reply,
            None if !unblocked => wait.at_stop,
            _ => Reply::Error(error("UNBLOCKED client unblocked via CLIENT UNBLOCK")),
        };
        self.session.answer(reply, wait.dialect);
        !gone
    }

    /// Whether the client is ended, or leaves, before something has happened. When the server
    /// stops, nothing more is waited for.
    pub(super) async fn is_gone_before(
        &self,
        may_leave: bool,
        happened: impl Future<Output = ()>,
    ) -> bool {
        let client = &self.connected.client;
        let left = async {
            // What it has sent meanwhile says that it is there, and is read later.
            let mut byte = [0];
            if !matches!(self.reader.as_ref().peek(&mut byte).await, Ok(0) | Err(_)) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = happened => false,
            () = client.kill.cancelled() => !self.session.shared.stop.has_begun(),
            () = left, if may_leave => true,
        }
    }
}
