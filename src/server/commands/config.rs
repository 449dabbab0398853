//! CONFIG: settings under Valkey's names, and the truth about each.
//!
//! What Valkey can change and this server cannot may still be set to what it is: clients that make
//! sure of a setting they need are content, and nobody is told that something changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::{refuse, text};
use crate::command::value::glob;
use crate::command::value::number::parse_i64;
use crate::command::{ConfigCommand, Reply, error, syntax};
use crate::protocol::ErrorReply;
use crate::protocol::resp::MAX_BULK_LEN;
use crate::server::Shared;
use crate::server::session::Session;
use crate::server::settings::DebugCommand;

/// A setting.
struct Setting {
    name: &'static str,
    value: fn(&Shared) -> String,
    change: Change,
}

/// What is to be done to change a setting.
type Apply = Box<dyn FnOnce(&Shared)>;

/// How a setting is changed.
#[derive(Clone, Copy)]
enum Change {
    /// Not at all, nor is it in Valkey.
    Never,
    /// Not at all, though it is in Valkey.
    NotHere,
    /// To a number from this one on.
    Number(i64, fn(&Shared, i64)),
    YesOrNo(fn(&Shared, bool)),
    Bytes(fn(&Shared, &[u8])),
}

const fn setting(name: &'static str, value: fn(&Shared) -> String, change: Change) -> Setting {
    Setting {
        name,
        value,
        change,
    }
}

static SETTINGS: &[Setting] = &[
    setting("activedefrag", |_| no(), Change::NotHere),
    setting(
        "appendfsync",
        |shared| shared.settings.started_with().sync.to_owned(),
        Change::NotHere,
    ),
    setting(
        "appendonly",
        |shared| yes_or_no(shared.engine.has_log()),
        Change::NotHere,
    ),
    setting("bind", bind, Change::NotHere),
    setting("cluster-enabled", |_| no(), Change::Never),
    setting("daemonize", |_| no(), Change::Never),
    setting("databases", |_| 1.to_string(), Change::Never),
    setting("dbfilename", |_| String::new(), Change::NotHere),
    setting("dir", dir, Change::NotHere),
    setting("enable-debug-command", debug, Change::Never),
    setting("enable-module-command", |_| no(), Change::Never),
    setting("hz", |_| 10.to_string(), Change::NotHere),
    setting(
        "io-threads",
        |shared| shared.settings.started_with().threads.to_string(),
        Change::NotHere,
    ),
    setting(
        "latency-monitor-threshold",
        |shared| shared.settings.latency_threshold().to_string(),
        LATENCY_THRESHOLD,
    ),
    setting("latency-tracking", |_| yes_or_no(true), Change::NotHere),
    setting("logfile", |_| String::new(), Change::Never),
    setting(
        "loglevel",
        |shared| shared.settings.started_with().log_level.to_owned(),
        Change::NotHere,
    ),
    setting(
        "maxclients",
        |shared| shared.max_connections.to_string(),
        Change::NotHere,
    ),
    setting("maxmemory", |_| 0.to_string(), Change::NotHere),
    setting(
        "maxmemory-policy",
        |_| "noeviction".to_owned(),
        Change::NotHere,
    ),
    setting("notify-keyspace-events", |_| String::new(), Change::NotHere),
    setting(
        "port",
        |shared| shared.console.port().to_string(),
        Change::NotHere,
    ),
    setting(
        "protected-mode",
        |shared| yes_or_no(shared.settings.is_protected()),
        PROTECTED_MODE,
    ),
    setting(
        "proto-max-bulk-len",
        |_| MAX_BULK_LEN.to_string(),
        Change::NotHere,
    ),
    setting("replicaof", |_| String::new(), Change::Never),
    setting("requirepass", password, PASSWORD),
    setting("save", |_| String::new(), Change::NotHere),
    setting(
        "shards",
        |shared| shared.settings.started_with().shards.to_string(),
        Change::Never,
    ),
    setting(
        "slowlog-log-slower-than",
        |shared| shared.settings.slower_than().to_string(),
        SLOWER_THAN,
    ),
    setting(
        "slowlog-max-len",
        |shared| shared.settings.slow_log_len().to_string(),
        SLOW_LOG_LEN,
    ),
    setting(
        "tcp-backlog",
        |_| crate::server::BACKLOG.to_string(),
        Change::Never,
    ),
    setting("tcp-keepalive", |_| 300.to_string(), Change::NotHere),
    setting("timeout", |_| 0.to_string(), Change::NotHere),
    setting("unixsocket", |_| String::new(), Change::Never),
    setting(
        "wal",
        |shared| shared.settings.started_with().log.display().to_string(),
        Change::Never,
    ),
    setting(
        "wal-segment-len",
        |shared| shared.settings.started_with().segment_len.to_string(),
        Change::Never,
    ),
];

const LATENCY_THRESHOLD: Change = Change::Number(0, |shared, millis| {
    shared.settings.set_latency_threshold(millis.unsigned_abs());
});

const SLOWER_THAN: Change = Change::Number(-1, |shared, micros| {
    shared.settings.set_slower_than(micros);
});

const SLOW_LOG_LEN: Change = Change::Number(0, |shared, len| {
    shared.settings.set_slow_log_len(len.unsigned_abs());
});

const PROTECTED_MODE: Change = Change::YesOrNo(|shared, protected| {
    shared.settings.set_protected_mode(protected);
});

const PASSWORD: Change = Change::Bytes(|shared, password| shared.settings.set_password(password));

fn no() -> String {
    yes_or_no(false)
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn bind(shared: &Shared) -> String {
    let addrs = shared.console.addrs.iter();
    let addrs: Vec<_> = addrs.map(|addr| addr.ip().to_string()).collect();
    addrs.join(" ")
}

/// The folder that the log is in.
fn dir(shared: &Shared) -> String {
    let log = std::path::absolute(&shared.settings.started_with().log);
    let folder = log.as_deref().ok().and_then(Path::parent);
    folder
        .map(|folder| folder.display().to_string())
        .unwrap_or_default()
}

fn debug(shared: &Shared) -> String {
    match shared.settings.started_with().debug {
        DebugCommand::No => "no",
        DebugCommand::Local => "local",
        DebugCommand::Yes => "yes",
    }
    .to_owned()
}

/// Whether there is a password: what it is, nobody here knows.
fn password(shared: &Shared) -> String {
    if shared.settings.needs_password() {
        "(redacted)".to_owned()
    } else {
        String::new()
    }
}

impl Session {
    pub(super) fn config(&mut self, command: ConfigCommand, args: &[&[u8]]) -> Reply {
        match command {
            ConfigCommand::Get => self.config_get(args),
            ConfigCommand::Set => match self.config_set(args) {
                Ok(()) => Reply::Ok,
                Err(error) => Reply::Error(error),
            },
            ConfigCommand::ResetStat => {
                let console = &self.shared.console;
                console.metrics.reset();
                let expired = self.shared.engine.expired_keys();
                console.expired_before.store(expired, Ordering::Relaxed);
                Reply::Ok
            }
            ConfigCommand::Rewrite => refuse("ERR The server is running without a config file"),
        }
    }

    fn config_get(&self, patterns: &[&[u8]]) -> Reply {
        let mut found = BTreeMap::new();
        for pattern in patterns {
            let lower = pattern.to_ascii_lowercase();
            let is_name = !pattern.iter().any(|byte| b"*?[\\".contains(byte));
            for setting in SETTINGS {
                if glob::matches(&lower, setting.name.as_bytes()) {
                    // A name comes back as it was written.
                    let name = if is_name {
                        *pattern
                    } else {
                        setting.name.as_bytes()
                    };
                    found.insert(name, (setting.value)(&self.shared));
                }
            }
        }
        let tell = |(name, value): (&[u8], _)| (Reply::Bytes(name.to_vec()), text(value));
        Reply::Map(found.into_iter().map(tell).collect())
    }

    /// Sets all of them, or none: each is looked at before the first is changed.
    fn config_set(&self, args: &[&[u8]]) -> Result<(), ErrorReply> {
        if !args.len().is_multiple_of(2) {
            return Err(syntax("CONFIG|SET"));
        }
        let mut wanted: Vec<(&Setting, &[u8])> = Vec::new();
        let mut twice = None;
        for pair in args.chunks(2) {
            let [name, value] = *pair else {
                return Err(syntax("CONFIG|SET"));
            };
            let setting = SETTINGS.iter().find(|setting| {
                let name: &[u8] = name;
                name.eq_ignore_ascii_case(setting.name.as_bytes())
            });
            let Some(setting) = setting else {
                let name = super::shown(name);
                return Err(ErrorReply::Other(
                    format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
                        .into(),
                ));
            };
            if wanted.iter().any(|(other, _)| other.name == setting.name) {
                twice = twice.or(Some(setting));
            }
            wanted.push((setting, value));
        }
        if let Some(setting) = twice {
            return Err(refusal(setting, "duplicate parameter"));
        }
        let mut changes: Vec<Apply> = Vec::new();
        for (setting, value) in wanted {
            let change = self.change(setting, value);
            changes.push(change.map_err(|why| refusal(setting, &why))?);
        }
        for change in changes {
            change(&self.shared);
        }
        Ok(())
    }

    /// What is to be done to give a setting this value.
    fn change(&self, setting: &Setting, value: &[u8]) -> Result<Apply, String> {
        match setting.change {
            Change::NotHere if value == (setting.value)(&self.shared).as_bytes() => {
                Ok(Box::new(|_| {}))
            }
            Change::Never | Change::NotHere => Err("can't set immutable config".to_owned()),
            Change::Number(least, set) => {
                let number = parse_i64(value)
                    .ok_or_else(|| "argument couldn't be parsed into an integer".to_owned())?;
                if number < least {
                    return Err(format!(
                        "argument must be between {least} and {} inclusive",
                        i64::MAX
                    ));
                }
                Ok(Box::new(move |shared| set(shared, number)))
            }
            Change::YesOrNo(set) => {
                let yes = value.eq_ignore_ascii_case(b"yes");
                if !yes && !value.eq_ignore_ascii_case(b"no") {
                    return Err("argument must be 'yes' or 'no'".to_owned());
                }
                Ok(Box::new(move |shared| set(shared, yes)))
            }
            Change::Bytes(set) => {
                let value = value.to_vec();
                Ok(Box::new(move |shared| set(shared, &value)))
            }
        }
    }
}

fn refusal(setting: &Setting, why: &str) -> ErrorReply {
    let name = setting.name;
    let text = format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
    ErrorReply::Other(text.into())
}

/// What DEBUG says to those who may not use it.
pub(super) fn no_debug() -> ErrorReply {
    error(
        "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
    )
}
