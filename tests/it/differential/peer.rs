//! The two servers: the reference, which is always Valkey, and the subject.

use std::any::Any;
use std::env;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use postres::time::Timestamp;
use tempfile::TempDir;

use crate::support::process::{self, eventually};
use crate::support::resp::{RespClient, Value};

/// The variable that names Valkey's server.
const VALKEY: &str = "POSTRES_VALKEY";

/// The variable that says what is compared with it; `valkey` compares it with itself.
const SUBJECT: &str = "POSTRES_DIFFERENTIAL_SUBJECT";

/// Spoils what goes to a server or comes from it, for tests of the comparison itself.
#[derive(Clone, Copy)]
pub struct Plant {
    pub request: fn(&mut Vec<Vec<u8>>),
    pub reply: fn(&[Vec<u8>], &mut Value),
}

/// A running server.
pub struct Peer {
    addr: SocketAddr,
    pub plant: Option<Plant>,
    /// Ends the process, and then removes its folder, when it is dropped.
    _process: Box<dyn Any>,
}

struct Valkey {
    child: Child,
    _folder: TempDir,
}

impl Drop for Valkey {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A reference and a subject, both empty.
pub struct Pair {
    pub reference: Peer,
    pub subject: Peer,
}

impl Pair {
    /// Valkey, and what the environment wants compared with it.
    pub fn start() -> Self {
        let subject = match env::var(SUBJECT).as_deref() {
            Ok("valkey") => Peer::valkey(),
            Ok(other) if other != "postres" => panic!("{SUBJECT} is postres or valkey"),
            _ => Peer::postres(),
        };
        let reference = Peer::valkey();
        Self { reference, subject }
    }

    /// Valkey twice, with something wrong with the second.
    pub fn planted(plant: Plant) -> Self {
        let (reference, mut subject) = (Peer::valkey(), Peer::valkey());
        subject.plant = Some(plant);
        Self { reference, subject }
    }
}

impl Peer {
    fn valkey() -> Self {
        let program = env::var_os(VALKEY).map(PathBuf::from);
        let program = program.unwrap_or_else(|| panic!("{VALKEY} names no server"));
        // Another process may take the port between its choice and its use.
        let started = (0..5).find_map(|_| try_valkey(&program));
        let (addr, valkey) = started.unwrap_or_else(|| panic!("{program:?} does not listen"));
        Self {
            addr,
            plant: None,
            _process: Box::new(valkey),
        }
    }

    fn postres() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        // What a sync is worth is for other tests to see; here it only takes time.
        let server = process::Server::start(folder.path(), &["-fsync", "never"]);
        Self {
            addr: server.addr(),
            plant: None,
            _process: Box::new((server, folder)),
        }
    }

    pub fn connect(&self) -> RespClient {
        RespClient::connect(self.addr)
    }
}

fn try_valkey(program: &Path) -> Option<(SocketAddr, Valkey)> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let addr = free.expect("a port is free");
    let port = addr.port().to_string();
    let mut command = Command::new(program);
    // One database, as postres has; expired keys are looked for often.
    command.args(["--bind", "127.0.0.1", "--port", &port, "--databases", "1"]);
    command.args(["--save", "", "--appendonly", "no", "--hz", "500"]);
    command.current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.stderr(Stdio::null()).spawn();
    let mut valkey = Valkey {
        child: child.unwrap_or_else(|e| panic!("{program:?} does not start: {e}")),
        _folder: folder,
    };
    // Who took the port listens, too, and may end at any moment.
    let own = format!("process_id:{}\r\n", valkey.child.id());
    let listens = || {
        RespClient::try_connect(addr).is_ok_and(|mut client| {
            let info = client.command(&[b"INFO".to_vec(), b"server".to_vec()]);
            matches!(info, Value::Bulk(info) if String::from_utf8_lossy(&info).contains(&own))
        })
    };
    let mut ended = || valkey.child.try_wait().is_ok_and(|ended| ended.is_some());
    let up = eventually(|| ended() || listens()) && !ended();
    up.then_some((addr, valkey))
}

/// The time, for steps that name one.
pub fn now() -> Timestamp {
    postres::time::system_clock()()
}
