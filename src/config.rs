//! Flags and environment, turned into one validated [`Config`].

mod log;

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::cores;
use crate::engine::CompactionOptions;
use crate::wal::{LogOptions, SyncPolicy};

pub use log::{ExistingLog, LogCommand, Subcommand};

/// A durable in-memory key-value server.
///
/// Every acknowledged write survives a crash; reads never wait for the disk. Talk to it with
/// lines, for instance through nc: SET key value, GET key, DEL key, HELP.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "postres",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Flags may be written with one dash or two, their values behind a space or `=`: \
                  -port 4242, -port=4242, --port 4242.\nA flag wins over its environment variable."
)]
pub struct Config {
    /// TCP port; 0 takes any free one and names it in the log
    #[arg(
        long,
        env = "POSTRES_PORT",
        hide_env_values = true,
        default_value_t = 4242
    )]
    pub port: u16,

    /// Address to listen on; may be given several times
    #[arg(
        long,
        env = "POSTRES_BIND",
        hide_env_values = true,
        value_delimiter = ',',
        default_value = "127.0.0.1"
    )]
    pub bind: Vec<IpAddr>,

    /// Locks that the store is divided by; 1 is one `HashMap`
    #[arg(long, env = "POSTRES_SHARDS", hide_env_values = true, default_value_t = 8, value_parser = ranged(1, 16_384))]
    pub shards: usize,

    /// The log: its folder, and the first part of its files' names
    #[arg(
        long,
        env = "POSTRES_WAL",
        hide_env_values = true,
        value_name = "PATH",
        default_value = "./wal_files/wal_file"
    )]
    pub wal: PathBuf,

    /// Whether to keep a log at all; without one, all is gone when the server stops
    #[arg(
        long,
        env = "POSTRES_PERSIST", hide_env_values = true,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub persist: bool,

    /// How many keys to make room for at the start
    #[arg(long, env = "POSTRES_SIZE", hide_env_values = true, default_value_t = 64, value_parser = ranged(0, 100_000_000))]
    pub size: usize,

    /// When a write is acknowledged: once it is on the disk, or before that
    #[arg(
        long,
        env = "POSTRES_FSYNC",
        hide_env_values = true,
        value_name = "POLICY",
        default_value = "always"
    )]
    pub fsync: Fsync,

    /// Length of the log's files, in MiB
    #[arg(long, env = "POSTRES_SEGMENT_MIB", hide_env_values = true, value_name = "MIB", default_value_t = 64, value_parser = ranged(1, 1024))]
    pub segment_mib: usize,

    /// The log is compacted by itself only once it has grown by so many MiB since it was last
    #[arg(long, env = "POSTRES_COMPACT_MIB", hide_env_values = true, value_name = "MIB", default_value_t = 64, value_parser = ranged(0, 1 << 20))]
    pub compact_mib: usize,

    /// And by so many percent of the last snapshot's length; 0 compacts it only when asked (BGSAVE)
    #[arg(long, env = "POSTRES_COMPACT_PERCENT", hide_env_values = true, value_name = "PERCENT", default_value_t = 100, value_parser = ranged(0, 100_000))]
    pub compact_percent: usize,

    /// Threads that serve connections [default: the cores but one]
    #[arg(long, env = "POSTRES_THREADS", hide_env_values = true, value_parser = ranged(1, 1024))]
    pub threads: Option<usize>,

    /// Clients served at once; one more gets an error and is closed
    #[arg(long, env = "POSTRES_MAX_CONNECTIONS", hide_env_values = true, value_name = "N", default_value_t = 10_000, value_parser = ranged(1, 1_000_000))]
    pub max_connections: usize,

    /// Password that clients must give before anything else; none if it is empty
    #[arg(
        long,
        env = "POSTRES_REQUIREPASS",
        hide_env_values = true,
        value_name = "PASSWORD",
        conflicts_with = "requirepass_file"
    )]
    pub requirepass: Option<Secret>,

    /// The same: the first line of this file, which other users of the machine cannot see as they see flags
    #[arg(
        long,
        env = "POSTRES_REQUIREPASS_FILE",
        hide_env_values = true,
        value_name = "PATH"
    )]
    pub requirepass_file: Option<PathBuf>,

    /// Whether clients from other machines are refused for as long as there is no password
    #[arg(
        long,
        env = "POSTRES_PROTECTED_MODE",
        hide_env_values = true,
        value_name = "YES|NO",
        default_value = "yes"
    )]
    pub protected_mode: YesNo,

    /// Whether DEBUG may be used: by nobody, by clients on this machine, by all
    #[arg(
        long,
        env = "POSTRES_ENABLE_DEBUG_COMMAND",
        hide_env_values = true,
        value_name = "WHO",
        default_value = "no"
    )]
    pub enable_debug_command: DebugCommand,

    /// Seconds that a stopping server gives its clients to take their replies
    #[arg(long, env = "POSTRES_SHUTDOWN_TIMEOUT", hide_env_values = true, value_name = "SECONDS", default_value_t = 10, value_parser = ranged(0, 86_400))]
    pub shutdown_timeout: usize,

    /// How the server's own log lines are written
    #[arg(
        long,
        env = "POSTRES_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,

    /// Which of the server's own log lines are written
    #[arg(
        long,
        env = "POSTRES_LOG_LEVEL",
        hide_env_values = true,
        value_name = "LEVEL",
        default_value = "info"
    )]
    pub log_level: LogLevel,

    /// What to do instead of serving
    #[command(subcommand)]
    pub subcommand: Option<Subcommand>,
}

/// The flag `-fsync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fsync {
    /// Acknowledged is on the disk: no crash takes it back
    Always,
    /// Synced once a second: a power cut may take back the last second
    Everysec,
    /// Left to the system: a power cut may take back half a minute and more
    Never,
}

/// A flag that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "they say what they mean")]
pub enum YesNo {
    Yes,
    No,
}

/// The flag `-enable-debug-command`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DebugCommand {
    /// Nobody
    No,
    /// Clients on this machine
    Local,
    /// Everybody
    Yes,
}

/// What is not shown, in no message and no log.
#[derive(Clone)]
pub struct Secret(OsString);

impl From<OsString> for Secret {
    fn from(secret: OsString) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_encoded_bytes()
    }
}

/// The flag `-log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// The flag `-log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the levels of tracing")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What the command line asks for, other than serving.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// `--help` or `--version`: this text on standard output, and exit code 0.
    #[error("{0}")]
    Text(String),
    /// A bad flag: this line on standard error, and exit code 2.
    #[error("{0}")]
    Usage(String),
}

fn ranged(from: u64, to: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(from..=to)
}

impl Config {
    /// Reads the command line (its first item is the program's name) and the environment.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, Refusal> {
        let mut behind_dashes = false;
        let args = args.into_iter().map(|arg| {
            // What stands behind `--` is no flag.
            behind_dashes |= arg == "--";
            if behind_dashes {
                arg
            } else {
                with_two_dashes(arg)
            }
        });
        let args: Vec<OsString> = args.collect();
        let about_log = args.get(1).is_some_and(|arg| arg == "log");
        let matches = Self::command().try_get_matches_from(args);
        matches
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(|error| {
                if error.use_stderr() {
                    Refusal::Usage(one_line(&error, about_log))
                } else {
                    Refusal::Text(error.to_string())
                }
            })
    }

    /// The log's options.
    pub fn log_options(&self) -> LogOptions {
        LogOptions {
            segment_capacity: (self.segment_mib as u64) << 20,
            policy: match self.fsync {
                Fsync::Always => SyncPolicy::Always,
                Fsync::Everysec => SyncPolicy::EverySecond,
                Fsync::Never => SyncPolicy::Never,
            },
            ..LogOptions::new(&self.wal)
        }
    }

    /// When the log is compacted without being asked.
    pub fn compaction_options(&self) -> CompactionOptions {
        CompactionOptions {
            min_log: (self.compact_mib as u64) << 20,
            percent: self.compact_percent as u64,
        }
    }

    /// Threads that serve connections: unless it was said how many, one less than there are
    /// cores. The log's thread and the system's part of the network fill that core, and a thread
    /// that must share one makes the others wait.
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| (cores::count() - 1).max(1))
    }

    /// How long a stop may take.
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.shutdown_timeout as u64)
    }
}

/// Go's flags have one dash: `-port` becomes `--port`. Single letters (`-h`, `-V`) and numbers stay.
fn with_two_dashes(arg: OsString) -> OsString {
    match arg.to_str().and_then(|text| text.strip_prefix('-')) {
        Some(name) if name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            OsString::from(format!("--{name}"))
        }
        _ => arg,
    }
}

/// clap's message, which spans lines, as one.
fn one_line(error: &clap::Error, about_log: bool) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let said: Vec<_> = lines
        .filter(|line| !line.starts_with("For more information"))
        .collect();
    let said = said.join(" ");
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    let log = if about_log { "log " } else { "" };
    format!(
        "postres: {} (postres {log}--help tells the flags)",
        said.replace(" Usage: ", "; usage: ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &str) -> Result<Config, Refusal> {
        let args = ["postres"].into_iter().chain(args.split_whitespace());
        Config::from_args(args.map(OsString::from))
    }

    #[test]
    fn the_definition_of_the_flags_is_sound() {
        Config::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_the_original_s() {
        let config = config("").unwrap();
        assert_eq!(
            (config.port, config.shards, config.size, config.persist),
            (4242, 8, 64, true)
        );
        assert_eq!(config.wal, PathBuf::from("./wal_files/wal_file"));
        assert_eq!(config.bind, [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(config.fsync, Fsync::Always);
    }

    #[test]
    fn flags_are_read_in_go_s_form_and_in_gnu_s() {
        for args in ["-port 1", "-port=1", "--port 1", "--port=1"] {
            assert_eq!(config(args).unwrap().port, 1, "{args}");
        }
        for (args, persist) in [
            ("-persist", true),
            ("-persist=true", true),
            ("-persist=false", false),
            ("-persist false", false),
            ("-persist -port 1", true),
        ] {
            assert_eq!(config(args).unwrap().persist, persist, "{args}");
        }
        let config = config("-bind 127.0.0.1 -bind ::1 -wal a/b -max-connections 5").unwrap();
        assert_eq!(config.bind.len(), 2);
        assert_eq!(config.max_connections, 5);
    }

    #[test]
    fn a_bad_value_is_told_in_one_line_that_names_the_flag() {
        for (args, named) in [
            ("-port x", "--port"),
            ("-port 65536", "--port"),
            ("-shards 0", "--shards"),
            ("-bind nowhere", "--bind"),
            ("-fsync sometimes", "always, everysec, never"),
            ("-max-connections 0", "--max-connections"),
            ("-nonsense", "--nonsense"),
            ("stray", "stray"),
            ("-port", "--port"),
        ] {
            match config(args) {
                Err(Refusal::Usage(line)) => {
                    assert!(
                        line.contains(named) && !line.contains('\n'),
                        "{args}: {line}"
                    );
                }
                other => panic!("{args}: {other:?}"),
            }
        }
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for args in ["-help", "--help", "-h", "-version", "--version", "-V"] {
            assert!(matches!(config(args), Err(Refusal::Text(_))), "{args}");
        }
    }
}
