//! Commands of the server that are not worth a file each.

use std::time::Duration;

use super::config::no_debug;
use super::{Answer, refuse, text};
use crate::command::{Reply, error, integer, is_word, syntax};
use crate::protocol::ErrorReply;
use crate::server::clients::Role;
use crate::server::session::{End, Session};
use crate::server::settings::DebugCommand;

/// How long a command waits that says forever.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Session {
    pub(super) fn time(&self) -> Reply {
        let millis = self.shared.engine.time().0;
        let (seconds, micros) = (millis / 1000, millis % 1000 * 1000);
        Reply::Array(vec![text(seconds.to_string()), text(micros.to_string())])
    }

    pub(super) fn wait(&self, args: &[&[u8]]) -> Result<Answer, ErrorReply> {
        let [replicas, timeout] = *args else {
            return Err(syntax("WAIT"));
        };
        let replicas = integer(replicas)?;
        let timeout = super::timeout(timeout)?;
        let none = Reply::Integer(0);
        Ok(if replicas <= 0 {
            none.into()
        } else {
            Answer::After(or_forever(timeout), none)
        })
    }

    /// Under `-fsync always` what is acknowledged is on this disk, and only then does the next
    /// command of the connection run.
    pub(super) fn wait_aof(&self, args: &[&[u8]]) -> Result<Answer, ErrorReply> {
        let [local, replicas, timeout] = *args else {
            return Err(syntax("WAITAOF"));
        };
        let local = integer(local)?;
        if !(0..=1).contains(&local) {
            return Err(error(
                "ERR value is out of range, value must between 0 and 1",
            ));
        }
        let replicas = integer(replicas).ok().filter(|replicas| *replicas >= 0);
        let replicas =
            replicas.ok_or_else(|| error("ERR value is out of range, must be positive"))?;
        let timeout = super::timeout(timeout)?;
        let has_log = self.shared.engine.has_log();
        if local == 1 && !has_log {
            return Err(error(
                "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
            ));
        }
        let synced = has_log && self.shared.settings.started_with().sync == "always";
        let reply = Reply::Array(vec![Reply::Integer(synced.into()), Reply::Integer(0)]);
        let reached = replicas == 0 && (local == 0 || synced);
        Ok(if reached {
            reply.into()
        } else {
            Answer::After(or_forever(timeout), reply)
        })
    }

    pub(super) fn monitor(&mut self) -> Reply {
        if self.monitor.is_none() {
            let client = std::sync::Arc::clone(&self.client);
            self.monitor = Some(self.shared.console.monitors.add(client));
            self.client.set_role(Role::Monitor);
        }
        Reply::Ok
    }

    pub(super) fn shutdown(&self, args: &[&[u8]]) -> Answer {
        let (mut save, mut no_save, mut abort, mut other) = (false, false, false, false);
        for option in args {
            let seen = match () {
                () if is_word(option, "SAVE") => &mut save,
                () if is_word(option, "NOSAVE") => &mut no_save,
                () if is_word(option, "ABORT") => &mut abort,
                () if is_word(option, "NOW") || is_word(option, "FORCE") => &mut other,
                () => return Reply::Error(syntax("SHUTDOWN")).into(),
            };
            *seen = true;
        }
        if (save && no_save) || (abort && (save || no_save || other)) {
            return Reply::Error(syntax("SHUTDOWN")).into();
        }
        if abort {
            // One that has begun is not held up, and takes no more commands.
            return refuse("ERR No shutdown in progress.").into();
        }
        tracing::info!(addr = %self.client.addr, "asked to stop by a client");
        self.shared.stop.ask();
        Answer::End(End::Close, None)
    }

    pub(super) fn debug(&self, args: &[&[u8]]) -> Result<Answer, ErrorReply> {
        let allowed = match self.shared.settings.started_with().debug {
            DebugCommand::No => false,
            DebugCommand::Local => self.client.addr.ip().to_canonical().is_loopback(),
            DebugCommand::Yes => true,
        };
        if !allowed {
            return Err(no_debug());
        }
        match *args {
            [part, seconds] if is_word(part, "SLEEP") => {
                // What is no number is 0, as in Valkey.
                let seconds = std::str::from_utf8(seconds).ok();
                let seconds = seconds
                    .and_then(|text| text.parse::<f64>().ok())
                    .unwrap_or(0.0);
                let delay = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(FOREVER);
                Ok(Answer::Busy(delay.min(FOREVER), Reply::Ok))
            }
            [part] if is_word(part, "HELP") => Ok(Reply::Lines(vec![
                "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:".to_owned(),
                "SLEEP <seconds>".to_owned(),
                "    let this connection wait; the others go on".to_owned(),
                "HELP".to_owned(),
                "    its subcommands".to_owned(),
            ])
            .into()),
            [part, ..] => Ok(super::no_such_part(&super::shown(part), "DEBUG").into()),
            [] => Err(syntax("DEBUG")),
        }
    }
}

fn or_forever(timeout: Duration) -> Duration {
    if timeout.is_zero() {
        FOREVER
    } else {
        timeout.min(FOREVER)
    }
}
