//! The clients that are connected, as others see them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
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
            kill,
            traits: Mutex::default(),
            activity: Activity::new(),
            waiting: Waiting::default(),
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

    /// The one with this number.
    pub(super) fn by_id(&self, id: u64) -> Option<Arc<Client>> {
        self.connected.lock().get(&id).cloned()
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
    /// Cancelled by whoever wants it gone, and when the server stops.
    pub(super) kill: CancellationToken,
    pub(super) traits: Mutex<Traits>,
    pub(super) activity: Activity,
    pub(super) waiting: Waiting,
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

/// What a client does. Only its own task writes it, but for `ended`, or whoever carries out its batch while the task waits for that.
///
/// What is written with each request lies in one line of the processor's cache: with many clients each
/// line more is one more to wait for.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Activity {
    since: Instant,
    /// When it sent something last, in milliseconds since it connected.
    at: AtomicU64,
    commands: AtomicU64,
    pub(super) input: AtomicU64,
    pub(super) output: AtomicU64,
    /// The number of its last command and one, or 0.
    command: AtomicU32,
    pub(super) descriptor: AtomicI32,
    /// Whether someone has ended it.
    ended: AtomicBool,
    pub(super) no_evict: AtomicBool,
    pub(super) no_touch: AtomicBool,
    /// How many commands its transaction has and one, or 0 if it is in none.
    queued: AtomicI64,
    watched: AtomicUsize,
}

impl Activity {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            at: AtomicU64::default(),
            commands: AtomicU64::default(),
            input: AtomicU64::default(),
            output: AtomicU64::default(),
            command: AtomicU32::default(),
            descriptor: AtomicI32::default(),
            ended: AtomicBool::default(),
            no_evict: AtomicBool::default(),
            no_touch: AtomicBool::default(),
            queued: AtomicI64::default(),
            watched: AtomicUsize::default(),
        }
    }

    /// It sends something at this moment.
    pub(super) fn wakes(&self, now: Instant) {
        let after = now.saturating_duration_since(self.since).as_millis();
        let millis = u64::try_from(after).unwrap_or(u64::MAX);
        self.at.store(millis, Ordering::Relaxed);
    }

    /// It asked for the command of this number.
    pub(super) fn asked(&self, command: usize) {
        // There are a few hundred.
        let number = u32::try_from(command + 1).unwrap_or(0);
        self.command.store(number, Ordering::Relaxed);
    }

    /// So many of its requests were answered.
    pub(super) fn answered(&self, count: u64) {
        add(&self.commands, count);
    }

    /// It is in a transaction of so many commands, or in none; it watches so many keys.
    pub(super) fn in_transaction(&self, queued: Option<usize>, watched: usize) {
        let queued = queued.map_or(0, |count| i64::try_from(count).unwrap_or(i64::MAX - 1) + 1);
        self.queued.store(queued, Ordering::Relaxed);
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// The number of its last command.
    pub(super) fn command(&self) -> Option<usize> {
        let number = self.command.load(Ordering::Relaxed);
        number.checked_sub(1).map(|number| number as usize)
    }

    /// How many commands were carried out for it.
    pub(super) fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// How many commands its transaction has; -1 if it is in none.
    pub(super) fn queued(&self) -> i64 {
        self.queued.load(Ordering::Relaxed) - 1
    }

    /// How many keys it watches.
    pub(super) fn watched(&self) -> usize {
        self.watched.load(Ordering::Relaxed)
    }
}

/// Adds to what only one task writes.
pub(super) fn add(counter: &AtomicU64, by: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(by);
    counter.store(sum, Ordering::Relaxed);
}

/// What a client waits for that CLIENT UNBLOCK can end.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    waits: AtomicBool,
    pub(super) ended: Notify,
    /// Whether it is to be told so by an error.
    with_error: AtomicBool,
}

impl Waiting {
    /// The client waits from now on.
    pub(super) fn begin(&self) {
        self.with_error.store(false, Ordering::Relaxed);
        self.waits.store(true, Ordering::Release);
    }

    /// It no longer does; says whether it is to be told by an error.
    pub(super) fn end(&self) -> bool {
        self.waits.store(false, Ordering::Release);
        self.with_error.load(Ordering::Acquire)
    }

    /// Whether it waits.
    pub(super) fn is_going_on(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// Ends it; says whether there was anything to end.
    pub(super) fn unblock(&self, with_error: bool) -> bool {
        let waited = self.waits.swap(false, Ordering::AcqRel);
        if waited {
            self.with_error.store(with_error, Ordering::Release);
            self.ended.notify_one();
        }
        waited
    }
}

impl Client {
    /// Ends it: its connection is cut off.
    pub(super) fn end(&self) {
        self.activity.ended.store(true, Ordering::Release);
        self.kill.cancel();
    }

    /// Whether someone has ended it. Costs less than to ask `kill`.
    pub(super) fn is_ended(&self) -> bool {
        self.activity.ended.load(Ordering::Acquire)
    }

    /// Gives it a name, which may be empty.
    pub(super) fn set_name(&self, name: &[u8]) -> Result<(), ErrorReply> {
        if !is_plain(name) {
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

    /// How long it has been connected.
    pub(super) fn age(&self) -> Duration {
        self.activity.since.elapsed()
    }

    /// How long ago it last sent anything.
    pub(super) fn idle(&self) -> Duration {
        let at = Duration::from_millis(self.activity.at.load(Ordering::Relaxed));
        self.age().saturating_sub(at)
    }

    /// Forgets its name and its version of RESP.
    pub(super) fn reset(&self) {
        let mut traits = self.traits.lock();
        traits.name.clear();
        traits.resp3 = false;
        self.activity.no_evict.store(false, Ordering::Relaxed);
        self.activity.no_touch.store(false, Ordering::Relaxed);
    }
}

/// Whether this can be shown in a line of fields.
pub(super) fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}
