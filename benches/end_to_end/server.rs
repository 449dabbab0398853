//! Starting and stopping the servers that are compared.
//!
//! Every server is a child process on a free port of the loopback, with a fresh folder of its own
//! on the project's disk, and is ended by its process id.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use tempfile::TempDir;

use super::ask::ask;
use super::bare;
use super::contestant::Contestant;
use super::machine::{self, Used, Whose};
use super::naive;
use super::peers;
use super::plain;
use super::slow_sync::SlowSync;

/// A server that is not there after this time will not come.
const START: Duration = Duration::from_secs(20);

/// A server that has not stopped after this time is killed.
const STOP: Duration = Duration::from_secs(20);

/// Between two looks at whether a server started or stopped.
const LOOK: Duration = Duration::from_millis(10);

/// Open files of a process beside its connections: logs, listeners, epolls.
const OTHER_FILES: u64 = 1000;

/// Clients of a server beside those of a measurement: whoever asks it something.
const OTHER_CLIENTS: u32 = 100;

/// What servers and measurements need.
#[derive(Debug)]
pub(crate) struct Lab {
    /// Where the servers' folders are made.
    pub(crate) scratch: PathBuf,
    /// Valkey's server, unless it is left out.
    pub(crate) valkey: Option<PathBuf>,
    /// Another build of postres, if one is to be measured.
    pub(crate) other_build: Option<PathBuf>,
    /// redis-benchmark, unless it is left out.
    pub(crate) redis_benchmark: Option<PathBuf>,
}

impl Lab {
    /// Those of `contestants` that can take part: Valkey may have been left out.
    pub(crate) fn present(&self, contestants: &[Contestant]) -> impl Iterator<Item = Contestant> {
        let with_valkey = self.valkey.is_some();
        let contestants = contestants.to_vec();
        contestants
            .into_iter()
            .filter(move |contestant| with_valkey || !contestant.is_valkey())
    }
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    contestant: Contestant,
    child: Child,
    address: SocketAddr,
    folder: Arc<TempDir>,
}

impl Server {
    /// Starts a server, each of its syncs slower as `slow_sync` says, and waits until it answers.
    pub(crate) fn start(
        contestant: Contestant,
        lab: &Lab,
        slow_sync: Option<&SlowSync>,
    ) -> Result<Self> {
        Self::start_in(contestant, lab, slow_sync, &Arc::new(new_folder(lab)?))
    }

    /// The same over what an earlier server left in its folder.
    pub(crate) fn start_in(
        contestant: Contestant,
        lab: &Lab,
        slow_sync: Option<&SlowSync>,
        folder: &Arc<TempDir>,
    ) -> Result<Self> {
        Self::launch(contestant, lab, folder, |command| {
            if let Some(slow_sync) = slow_sync {
                slow_sync.apply(command);
            }
        })
    }

    /// Starts a server with more flags than it has otherwise.
    pub(crate) fn start_with(contestant: Contestant, lab: &Lab, flags: &[&str]) -> Result<Self> {
        let folder = Arc::new(new_folder(lab)?);
        Self::launch(contestant, lab, &folder, |command| {
            command.args(flags);
        })
    }

    /// Starts a server that takes so many clients at a time, and lets this process have as many
    /// connections. An error where the system has too few files for that.
    pub(crate) fn start_for(contestant: Contestant, lab: &Lab, clients: u32) -> Result<Self> {
        let needed = u64::from(clients) + OTHER_FILES;
        let granted = rlimit::increase_nofile_limit(needed)?;
        ensure!(
            granted >= needed,
            "{clients} connections need {needed} open files, and the system allows {granted}"
        );
        let flag = if contestant.is_valkey() {
            "--maxclients"
        } else {
            "-max-connections"
        };
        let most = (clients + OTHER_CLIENTS).to_string();
        Self::start_with(contestant, lab, &[flag, &most])
    }

    /// Waits until its clients are gone, all but the one that asks.
    pub(crate) fn wait_until_left(&self) -> Result<()> {
        let deadline = Instant::now() + STOP;
        loop {
            let info = ask(self.address, &["INFO", "clients"])?;
            if info.lines().any(|line| line == "connected_clients:1") {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "clients that closed their connections are still there after {STOP:?}"
            );
            thread::sleep(LOOK);
        }
    }

    fn launch(
        contestant: Contestant,
        lab: &Lab,
        folder: &Arc<TempDir>,
        adjust: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let port = free_port()?;
        let mut command = command(contestant, lab, folder.path(), port)?;
        adjust(&mut command);
        command
            .stdin(Stdio::piped())
            .stdout(File::create(folder.path().join("stdout"))?)
            .stderr(File::create(folder.path().join("stderr"))?);
        let child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Self {
            contestant,
            child,
            address,
            folder: Arc::clone(folder),
        };
        let ready = server.wait_until_ready();
        ready.map_err(|error| server.account("did not start", &error))?;
        Ok(server)
    }

    /// The folder that its files are in, which lasts as long as anybody holds it.
    pub(crate) fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The processor time it has used so far.
    pub(crate) fn used(&self) -> Result<Used> {
        machine::used(Whose::Process(self.child.id()))
    }

    /// Makes sure that it has exactly `keys` keys: what is filled in beforehand, nothing else.
    pub(crate) fn check_size(&self, keys: u32) -> Result<()> {
        let size = ask(self.address, &["DBSIZE"]);
        let checked = size.and_then(|size| {
            ensure!(size == keys.to_string(), "{size} keys where {keys} are due");
            Ok(())
        });
        checked.map_err(|error| self.account("is not filled as it should be", &error))
    }

    /// Ends it, and complains when it did not end well.
    pub(crate) fn stop(mut self) -> Result<()> {
        let status = self.terminate()?;
        // The servers that are this program have no handler for the signal.
        let own = matches!(
            self.contestant,
            Contestant::Naive | Contestant::Bare | Contestant::Plain
        );
        let well = status.success() || own;
        if well {
            Ok(())
        } else {
            Err(self.account("did not end well", &anyhow!("{status}")))
        }
    }

    /// What went wrong, with the server's own words.
    pub(crate) fn account(&self, event: &str, error: &Error) -> Error {
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let words = read("stdout") + &read("stderr");
        let lines: Vec<&str> = words.lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(20)..)
            .unwrap_or_default()
            .join("\n");
        anyhow!(
            "{} {event}: {error:#}; the end of its output:\n{last}",
            self.contestant
        )
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            if self.contestant.is_valkey() {
                if TcpStream::connect(self.address).is_ok() && self.has_loaded()? {
                    return self.check_identity();
                }
            } else if let Some(address) = self.announced_address()? {
                self.address = address;
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        bail!("it did not listen within {START:?}")
    }

    /// Has Valkey sync each write, if it is to, or leave that for now: it takes minutes to write 20 million
    /// keys with a sync for each few of them. Before it goes on with that, what it has written is synced.
    pub(crate) fn sync_writes(&self, sync: bool) -> Result<()> {
        if !matches!(self.contestant, Contestant::ValkeyAlways) {
            return Ok(());
        }
        if sync {
            peers::run(Command::new("sync").arg("-f").arg(self.folder.path()))?;
        }
        let policy = if sync { "always" } else { "no" };
        let reply = ask(self.address, &["CONFIG", "SET", "appendfsync", policy])?;
        ensure!(reply == "OK", "Valkey keeps its appendfsync: {reply}");
        Ok(())
    }

    /// Whether it has read its files.
    fn has_loaded(&self) -> Result<bool> {
        let info = ask(self.address, &["INFO", "persistence"])?;
        Ok(info.lines().any(|line| line == "loading:0"))
    }

    /// Makes sure that whoever listens on the port that was free is the process that was started.
    fn check_identity(&self) -> Result<()> {
        let info = ask(self.address, &["INFO", "server"])?;
        let own = format!("process_id:{}", self.child.id());
        ensure!(
            info.lines().any(|line| line == own),
            "another process listens at {}",
            self.address
        );
        Ok(())
    }

    /// The address that a server which chooses its own port has logged.
    fn announced_address(&self) -> Result<Option<SocketAddr>> {
        let log = fs::read_to_string(self.folder.path().join("stderr"))?;
        // A line without its end may still be in the writing.
        let mut lines = log
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let Some(line) = lines.find(|line| line.contains("listening")) else {
            return Ok(None);
        };
        let address = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("addr="));
        let address = address.with_context(|| format!("no address in \"{line}\""))?;
        address
            .parse()
            .map(Some)
            .with_context(|| format!("\"{address}\" as an address"))
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        let pid = self.child.id().to_string();
        if self.child.try_wait()?.is_none() {
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .context("running kill")?;
        }
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(LOOK);
        }
        self.child.kill()?;
        self.child.wait()?;
        Err(anyhow!(
            "{} had to be killed: still there {STOP:?} after SIGTERM",
            self.contestant
        ))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Reached with the process still there only after an error, which is being reported.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A folder for a server's files.
fn new_folder(lab: &Lab) -> Result<TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(&lab.scratch)?;
    Ok(folder)
}

fn command(contestant: Contestant, lab: &Lab, folder: &Path, port: u16) -> Result<Command> {
    match contestant {
        Contestant::PostresAlways => Ok(postres(BUILT.as_ref(), "always", folder)),
        Contestant::PostresNever => Ok(postres(BUILT.as_ref(), "never", folder)),
        Contestant::OtherBuild => {
            let program = lab.other_build.as_ref();
            Ok(postres(program.context("not given")?, "always", folder))
        }
        Contestant::Naive => {
            let mut command = Command::new(env::current_exe()?);
            command.env(naive::LOG, folder.join("log"));
            Ok(command)
        }
        Contestant::Bare => {
            let mut command = Command::new(env::current_exe()?);
            command.env(bare::LOG, folder.join("log"));
            Ok(command)
        }
        Contestant::Plain => {
            let mut command = Command::new(env::current_exe()?);
            command.env(plain::PLAIN, "yes");
            Ok(command)
        }
        Contestant::ValkeyAlways => {
            let mut command = valkey(lab, folder, port)?;
            // Rewriting the log in the middle of a measurement would count against Valkey.
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
            command.args(["--auto-aof-rewrite-percentage", "0"]);
            Ok(command)
        }
        Contestant::ValkeyNoLog => {
            let mut command = valkey(lab, folder, port)?;
            command.args(["--appendonly", "no"]);
            Ok(command)
        }
    }
}

/// The build that goes with this program.
const BUILT: &str = env!("CARGO_BIN_EXE_postres");

fn postres(program: &Path, fsync: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["-port", "0", "-bind", "127.0.0.1", "-fsync", fsync, "-wal"]);
    command.arg(folder.join("wal_file"));
    // As with Valkey: compacting in the midst of a measurement is a case of its own.
    command.env("POSTRES_COMPACT_PERCENT", "0");
    command
}

fn valkey(lab: &Lab, folder: &Path, port: u16) -> Result<Command> {
    let mut command = Command::new(lab.valkey.as_ref().context("Valkey was left out")?);
    command.args([
        "--bind",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--save",
        "",
        "--dir",
    ]);
    command.arg(folder);
    Ok(command)
}

/// A port that is free now. Another program may take it before Valkey does; Valkey then fails to
/// start, and the benchmark with it.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
