//! The real binary, started in a folder of the test's own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::Client;

const BINARY: &str = env!("CARGO_BIN_EXE_postres");

/// How long a server may take to listen, or a command to end.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    addr: SocketAddr,
    stderr: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

/// The binary alone, in `dir`, with nothing of the surrounding environment's `POSTRES_...`.
pub fn binary(dir: &Path) -> Command {
    without_settings(Command::new(BINARY), dir)
}

/// The binary with a limit on its open files that it cannot raise.
pub fn binary_with_open_files(dir: &Path, open_files: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        &format!("ulimit -n {open_files}; exec \"$0\" \"$@\""),
        BINARY,
    ]);
    without_settings(shell, dir)
}

/// Adds what every test wants: a free port, and a log in `dir` whose files soon are full.
pub fn with_log(mut command: Command, dir: &Path) -> Command {
    command.args(["-port", "0", "-segment-mib", "1", "-wal"]);
    command.arg(wal_path(dir));
    command
}

pub fn wal_path(dir: &Path) -> PathBuf {
    dir.join("wal_file")
}

/// The log's segments in `dir`, by name.
pub fn segments(dir: &Path) -> Vec<String> {
    let mut names = file_names(dir);
    names.retain(|name| name.ends_with(".segment"));
    names
}

pub fn file_names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("the folder is there");
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Runs a command that is to end by itself.
pub fn run(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    // Read meanwhile, since a full pipe would hold it up.
    let stdout = all_of(child.stdout.take());
    let stderr = all_of(child.stderr.take());
    let ended = wait(&mut child, TIMEOUT);
    if ended.is_none() {
        let _ = child.kill();
    }
    let output = Output {
        status: child.wait().expect("the process is ours"),
        stdout: stdout.join().expect("its stdout is read"),
        stderr: stderr.join().expect("its stderr is read"),
    };
    assert!(
        ended.is_some(),
        "{command:?} still runs, having said {output:?}"
    );
    output
}

/// What comes from a pipe until it ends.
fn all_of(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("it is a pipe");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

impl Server {
    /// A server with its log in `dir`; `args` come on top of [`with_log`]'s.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        let mut command = with_log(binary(dir), dir);
        command.args(args);
        Self::spawn(command)
    }

    /// Starts a command and waits until it listens.
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let pipe = child.stderr.take().expect("its stderr is a pipe");
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let (found, addrs) = mpsc::channel();
        let reader = std::thread::spawn({
            let stderr = Arc::clone(&stderr);
            move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let addr = listening_addr(&line);
                    stderr.lock().unwrap().push(line);
                    // After the push: whoever has the address finds the line that told it.
                    if let Some(addr) = addr {
                        let _ = found.send(addr);
                    }
                }
            }
        });
        let Ok(addr) = addrs.recv_timeout(TIMEOUT) else {
            let _ = child.kill();
            let said = stderr.lock().unwrap().join("\n");
            panic!("{command:?} does not listen, having said:\n{said}");
        };
        let reader = Some(reader);
        Self {
            child,
            addr,
            stderr,
            reader,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    /// kill -9: no handler runs, nothing is flushed.
    pub fn kill(self) {
        let _ = self.killed();
    }

    /// The same; says what it had written to stderr.
    pub fn killed(mut self) -> String {
        self.child.kill().expect("the process runs");
        self.wait();
        self.stderr()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.expect("kill is installed").success());
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait(&mut self.child, TIMEOUT);
        let status = status.unwrap_or_else(|| panic!("still running: {}", self.stderr()));
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status
    }

    /// An orderly stop, for tests of something else.
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.stderr());
    }

    /// What it has written to stderr.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().join("\n")
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that it ever had, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.expect("the field is listed").parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again until `done`, or until half a minute has passed; says whether it ever was.
pub fn eventually(mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn without_settings(mut command: Command, dir: &Path) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTRES_") {
            command.env_remove(name);
        }
    }
    command.current_dir(dir);
    command
}

fn wait(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < timeout {
        if let Some(status) = child.try_wait().expect("the process is ours") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// The address in a line such as `INFO listening addr=127.0.0.1:4242`, or its JSON.
fn listening_addr(line: &str) -> Option<SocketAddr> {
    let rest = line.split_once("listening")?.1;
    let addr = rest
        .split_once("addr=")
        .or_else(|| rest.split_once("\"addr\":\""))?
        .1;
    let end = addr.find(|c: char| c == '"' || c.is_whitespace());
    addr[..end.unwrap_or(addr.len())].parse().ok()
}
