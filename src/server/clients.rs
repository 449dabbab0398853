//! The clients that are connected, as others see them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::command::error;
use crate::protocol::{ErrorReply, RespVersion};

/// All clients that are connected.
#[derive(Debug, Default)]
pub(super) struct Clients {
    last_id: AtomicU64,
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    /// Adds a client; it is there until the guard is dropped.
    ///
    /// `kill` ends it, and is cancelled when the server stops.
    pub(super) fn add(
        self: &Arc<Self>,
        addr: SocketAddr,
        local: SocketAddr,
        kill: CancellationToken,
    ) -> Connected {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client {
            id,
            addr,
            local,
            since: Instant::now(),
            kill,
            traits: Mutex::default(),
        });
        self.connected.lock().insert(id, Arc::clone(&client));
        Connected {
            clients: Arc::clone(self),
            client,
        }
    }

    /// All of them, in the order in which they came.
    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        self.connected.lock().values().cloned().collect()
    }
}

/// A client's place among those that are connected.
#[derive(Debug)]
pub(super) struct Connected {
    clients: Arc<Clients>,
    pub(super) client: Arc<Client>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.clients.connected.lock().remove(&self.client.id);
    }
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    /// Its number; none is given twice.
    pub(super) id: u64,
    pub(super) addr: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) since: Instant,
    /// Cancelled by whoever wants it gone.
    pub(super) kill: CancellationToken,
    pub(super) traits: Mutex<Traits>,
}

/// What a client said of itself.
#[derive(Debug, Default)]
pub(super) struct Traits {
    pub(super) name: Vec<u8>,
    pub(super) library: Vec<u8>,
    pub(super) library_version: Vec<u8>,
    pub(super) resp3: bool,
    pub(super) role: Role,
}

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Role {
    /// It asks, and is answered.
    #[default]
    Normal,
    /// It watches what others ask.
    Monitor,
}

impl Client {
    /// Gives it a name, which may be empty.
    pub(super) fn set_name(&self, name: &[u8]) -> Result<(), ErrorReply> {
        if !name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
            return Err(error(
                "ERR Client names cannot contain spaces, newlines or special characters.",
            ));
        }
        self.traits.lock().name = name.to_vec();
        Ok(())
    }

    pub(super) fn set_version(&self, version: RespVersion) {
        self.traits.lock().resp3 = version == RespVersion::Three;
    }

    pub(super) fn set_role(&self, role: Role) {
        self.traits.lock().role = role;
    }

    /// Forgets its name and its version of RESP.
    pub(super) fn reset(&self) {
        let mut traits = self.traits.lock();
        traits.name.clear();
        traits.resp3 = false;
    }
}
