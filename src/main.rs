//! The `postres` binary: flags, logging, runtime, server or tool, exit code.
//!
//! Exit codes: 0 after an orderly stop, 1 when the server cannot start or its log failed, 2 for
//! bad flags, 128 and the signal's number when a second signal cut the stop short. Of a tool: 0 if
//! it did what it was asked for, 1 if not.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use postres::config::{
    self, Config, Fsync, LogCommand, LogFormat, LogLevel, Refusal, Subcommand, YesNo,
};
use postres::engine::{Engine, Running};
use postres::server::{self, DebugCommand, Limits, OWN_DESCRIPTORS, Settings, StartedWith};
use postres::store::{self, InMemStore};
use postres::time::system_clock;
use postres::tools::backup::{BackedUp, backup};
use postres::tools::check::check;
use postres::tools::dump::{Form, dump};
use postres::tools::import::{Imported, Source, import};
use postres::tools::repair::repair;
use postres::wal::fs::{Fs, ReadFs, StdFs, open_to_read, read_start};
use postres::wal::recovery::{Repair, Report};
use postres::wal::{LogOptions, Lsn};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;

fn main() -> ExitCode {
    let config = match Config::from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(Refusal::Text(text)) => {
            // A reader that went away early (`postres --help | head -1`) is no failure.
            let _ = write!(std::io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Err(Refusal::Usage(line)) => {
            let _ = writeln!(std::io::stderr(), "{line}");
            return ExitCode::from(2);
        }
    };
    let done = match &config.subcommand {
        None => {
            start_logging(&config);
            run(&config)
        }
        Some(Subcommand::Log(command)) => work_on_log(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "postres: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What `postres log` does: no server, and no log lines of one.
fn work_on_log(command: &LogCommand) -> anyhow::Result<()> {
    let (mut stdout, mut stderr) = (std::io::stdout().lock(), std::io::stderr().lock());
    match command {
        LogCommand::Dump { log, from, json } => {
            let form = if *json { Form::Json } else { Form::Text };
            if let Some(ending) = dump(&ReadFs, &log.wal, Lsn(*from), form, &mut stdout)? {
                let _ = writeln!(stderr, "postres: {ending}");
            }
        }
        LogCommand::Check { log } => check(&ReadFs, &log.wal, &mut stdout)?,
        LogCommand::Repair { log } => repair(&StdFs, &log.wal, &mut stdout)?,
        LogCommand::Backup { to, log } => {
            let fs: Arc<dyn Fs> = Arc::new(ReadFs);
            let BackedUp { files, bytes, last } = backup(&fs, &log.wal, to)?;
            let last = last.map_or("no operation".to_owned(), |last| {
                format!("operation {last}")
            });
            let _ = writeln!(
                stdout,
                "copied {files} files, {bytes} bytes, up to {last}, into {}",
                to.display()
            );
        }
        LogCommand::Import {
            file,
            wal,
            skip_unclear,
        } => {
            let source = Source {
                path: file,
                open: &|| open_to_read(file),
                skip_unclear: *skip_unclear,
            };
            let options = LogOptions::new(wal);
            let Imported { sets, dels, .. } =
                import(Arc::new(StdFs), &options, &source, &mut stderr)?;
            let _ = writeln!(
                stdout,
                "imported {} operations ({sets} sets, {dels} dels) from {} into {}",
                sets + dels,
                file.display(),
                wal.display()
            );
        }
    }
    Ok(())
}

fn start_logging(config: &Config) {
    let level = match config.log_level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => lines
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init(),
        LogFormat::Json => lines.json().flatten_event(true).with_target(false).init(),
    }
}

fn run(config: &Config) -> anyhow::Result<()> {
    let runtime = server::runtime(config.threads()).context("cannot start the threads")?;
    let served = runtime.block_on(serve(config));
    // What a stop left behind has had its time; the log is closed, or was never open. To end each task by itself
    // would only take longer.
    std::mem::forget(runtime);
    served
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let settings = Arc::new(settings(config)?);
    let stop = CancellationToken::new();
    watch_signals(stop.clone())?;
    let max_connections = raise_descriptors(config.max_connections);
    // First the ports: a port that is taken should not cost the time it takes to read the log.
    // Clients that come before the log is read are told so.
    let listeners = bind(config)?;
    let addrs = listeners.iter().map(TcpListener::local_addr);
    let addrs: Vec<_> = addrs
        .collect::<Result<_, _>>()
        .context("cannot tell the address")?;
    let (engine, ready) = make_engine(config);
    let engine = Arc::new(engine);
    // Never freed: at the end the system takes the memory back at once, where freeing it key by
    // key would hold up the exit for a second for every few million keys.
    std::mem::forget(Arc::clone(&engine));
    let limits = Limits {
        max_connections,
        shutdown_timeout: config.shutdown_timeout(),
    };
    let (own, own_settings) = (Arc::clone(&engine), Arc::clone(&settings));
    let server = server::start(listeners, own, limits, own_settings, stop.clone());
    let running = match ready {
        Some(running) => running,
        None => {
            let config = config.clone();
            let reading = tokio::task::spawn_blocking(move || load(&engine, &config));
            tokio::select! {
                started = reading => started.context("reading the log panicked")??,
                // Nothing was acknowledged yet and nothing waits, so there is nothing to finish.
                () = stop.cancelled() => return Ok(()),
            }
        }
    };
    tell_addresses(&addrs, &settings);
    server.serve(running).await?;
    tracing::info!("stopped");
    Ok(())
}

fn tell_addresses(addrs: &[SocketAddr], settings: &Settings) {
    for addr in addrs {
        tracing::info!(%addr, "listening");
        if addr.ip().is_loopback() || settings.needs_password() {
            continue;
        }
        if settings.is_closed_to_strangers() {
            tracing::warn!(
                %addr,
                "only clients on this machine are served: set a password (-requirepass), or say that \
                 all others may come without one (-protected-mode no)"
            );
        } else {
            tracing::warn!(%addr, "anyone who reaches this address can read and write everything");
        }
    }
}

/// What clients are told of the flags, and those that CONFIG SET can change.
fn settings(config: &Config) -> anyhow::Result<Settings> {
    let settings = Settings::new(StartedWith {
        log: config.wal.clone(),
        sync: match config.fsync {
            Fsync::Always => "always",
            Fsync::Everysec => "everysec",
            Fsync::Never => "no",
        },
        segment_len: config.log_options().segment_capacity,
        threads: config.threads(),
        shards: config.shards,
        log_level: match config.log_level {
            LogLevel::Off => "nothing",
            LogLevel::Error | LogLevel::Warn => "warning",
            LogLevel::Info => "notice",
            LogLevel::Debug => "verbose",
            LogLevel::Trace => "debug",
        },
        debug: match config.enable_debug_command {
            config::DebugCommand::No => DebugCommand::No,
            config::DebugCommand::Local => DebugCommand::Local,
            config::DebugCommand::Yes => DebugCommand::Yes,
        },
    });
    settings.set_protected_mode(config.protected_mode == YesNo::Yes);
    if let Some(password) = &config.requirepass {
        settings.set_password(password.bytes());
    } else if let Some(path) = &config.requirepass_file {
        settings.set_password(&password_in(path)?);
    }
    Ok(settings)
}

/// The first line of a file.
fn password_in(path: &Path) -> anyhow::Result<Vec<u8>> {
    /// A file with a longer first line is not one with a password.
    const LIMIT: u64 = 4096;
    let bytes = read_start(path, LIMIT)
        .with_context(|| format!("cannot read the password in {}", path.display()))?;
    let line = bytes
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    anyhow::ensure!(
        !line.is_empty() && (line.len() as u64) < LIMIT,
        "there is no password in the first line of {}",
        path.display()
    );
    Ok(line.to_vec())
}

/// Cancels `stop` at the first signal; ends the process at the second.
fn watch_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let mut signals = server::stop_signals().context("cannot watch for signals")?;
    tokio::spawn(async move {
        let first = signals.next().await;
        tracing::info!(
            signal = first.name(),
            "asked to stop; a second signal stops at once"
        );
        stop.cancel();
        let second = signals.next().await;
        tracing::warn!(signal = second.name(), "stopping at once");
        std::process::exit(second.exit_code());
    });
    Ok(())
}

/// Asks the system for a descriptor for each client; says how many clients there can be.
fn raise_descriptors(max_connections: usize) -> usize {
    let needed = max_connections as u64 + OWN_DESCRIPTORS;
    let granted = rlimit::increase_nofile_limit(needed).unwrap_or(needed);
    if granted >= needed {
        return max_connections;
    }
    let possible = usize::try_from(granted.saturating_sub(OWN_DESCRIPTORS).max(1)).unwrap_or(1);
    tracing::warn!(
        asked = max_connections,
        max_connections = possible,
        "the system allows fewer open files: raise its limit (ulimit -n) for more clients"
    );
    possible
}

fn bind(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    let addrs = config
        .bind
        .iter()
        .map(|&ip| SocketAddr::new(ip, config.port));
    addrs
        .map(|addr| server::listen(addr).with_context(|| format!("cannot listen on {addr}")))
        .collect()
}

/// An engine, and what runs in it if there is no log to be read first.
fn make_engine(config: &Config) -> (Engine, Option<Running>) {
    let store: Arc<dyn InMemStore> = store::with_shards(config.shards, config.size).into();
    if config.persist {
        return (Engine::loading(store, system_clock()), None);
    }
    tracing::warn!("no log is kept: everything is gone when the server stops");
    let (engine, running) = Engine::without_log(store);
    (engine, Some(running))
}

fn load(engine: &Engine, config: &Config) -> anyhow::Result<Running> {
    let options = config.log_options();
    let (running, report) = engine.load(Arc::new(StdFs), &options, config.compaction_options())?;
    tell(&report, engine.store().len(), config);
    Ok(running)
}

fn tell(report: &Report, keys: usize, config: &Config) {
    for repair in &report.repairs {
        match repair {
            Repair::TornTail {
                path,
                offset,
                bytes,
                kept,
            } => tracing::warn!(
                path = %path.display(), offset, bytes, kept = %kept.display(),
                "the log ended in a write that a crash cut short; it was never acknowledged under -fsync always"
            ),
            Repair::ShortFile { path, len } => tracing::warn!(
                path = %path.display(), len,
                "the log's last file was shorter than it was made: something cut it"
            ),
            Repair::BrokenSnapshot { path, reason } => tracing::error!(
                path = %path.display(), %reason,
                "a snapshot is damaged; all that it held was read from older files, and the next snapshot will take its place"
            ),
            Repair::Superfluous { path } => tracing::info!(
                path = %path.display(),
                "removed what a later snapshot has made superfluous"
            ),
            Repair::Leftover { path } => tracing::info!(
                path = %path.display(),
                "removed a file that was being prepared when the server stopped"
            ),
        }
    }
    if let Some(snapshot) = &report.snapshot {
        tracing::info!(
            path = %snapshot.display(),
            records = report.records,
            "the state begins with a snapshot"
        );
    }
    tracing::info!(
        wal = %config.wal.display(),
        segments = report.segments,
        operations = report.operations,
        keys,
        "the log is read"
    );
}
