//! HELLO, AUTH, SELECT, RESET.

use super::{refuse, text};
use crate::command::{Reply, database, integer, is_word};
use crate::metrics::Counter;
use crate::protocol::{ErrorReply, RespVersion};
use crate::server::clients::Role;
use crate::server::session::{Replies, Session};
use crate::server::settings::Verdict;

/// The version of Redis whose clients are served: they choose what they send by it.
pub(in crate::server) const REDIS_VERSION: &str = "7.2.4";

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_AUTH: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";

impl Session {
    pub(super) fn hello(&mut self, args: &[&[u8]]) -> Reply {
        let mut rest = args.iter().copied();
        let version = match rest.next().map(integer) {
            None => None,
            Some(Ok(2)) => Some(RespVersion::Two),
            Some(Ok(3)) => Some(RespVersion::Three),
            Some(Ok(_)) => return refuse("NOPROTO unsupported protocol version"),
            Some(Err(_)) => {
                return refuse("ERR Protocol version is not an integer or out of range");
            }
        };
        let (mut credentials, mut name) = (None, None);
        while let Some(option) = rest.next() {
            let arguments = (rest.next(), is_word(option, "AUTH"));
            match arguments {
                (Some(user), true) => match rest.next() {
                    Some(password) => credentials = Some((user, password)),
                    None => return bad_option(option),
                },
                (Some(given), false) if is_word(option, "SETNAME") => name = Some(given),
                _ => return bad_option(option),
            }
        }
        if let Some((user, password)) = credentials
            && !self.log_in(user, password)
        {
            return refuse(WRONG_PASSWORD);
        }
        if !self.may_ask() {
            return refuse(NO_AUTH);
        }
        if let Some(name) = name
            && let Err(error) = self.client.set_name(name)
        {
            return Reply::Error(error);
        }
        if let Some(version) = version {
            self.decoder.speak(version);
            self.client.set_version(version);
        }
        let proto = match self.decoder.version() {
            RespVersion::Two => 2,
            RespVersion::Three => 3,
        };
        let id = i64::try_from(self.client.id).unwrap_or(i64::MAX);
        let fields = [
            ("server", text("postres")),
            ("version", text(REDIS_VERSION)),
            ("proto", Reply::Integer(proto)),
            ("id", Reply::Integer(id)),
            ("mode", text("standalone")),
            ("role", text("master")),
            ("modules", Reply::Array(Vec::new())),
        ];
        Reply::Map(fields.map(|(name, value)| (text(name), value)).into())
    }

    pub(super) fn auth(&mut self, args: &[&[u8]]) -> Reply {
        let (user, password) = match *args {
            [password] if !self.shared.settings.needs_password() => {
                let _ = password;
                return refuse(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
                );
            }
            [password] => (&b"default"[..], password),
            [user, password] => (user, password),
            _ => return Reply::Error(crate::command::syntax("AUTH")),
        };
        if self.log_in(user, password) {
            Reply::Ok
        } else {
            refuse(WRONG_PASSWORD)
        }
    }

    /// There is one user, `default`. An attempt that fails leaves the session as it was.
    fn log_in(&mut self, user: &[u8], password: &[u8]) -> bool {
        let verdict = self.shared.settings.check_password(password);
        let welcome = user == b"default" && verdict == Verdict::Right;
        if welcome {
            self.trust(true);
        } else {
            self.shared.console.metrics.add(Counter::AuthDenied, 1);
        }
        welcome
    }

    pub(super) fn reset(&mut self) -> Reply {
        (self.queue, self.watch) = (None, None);
        self.replies = Replies::On;
        self.monitor = None;
        self.decoder.speak(RespVersion::Two);
        self.client.reset();
        self.client.set_role(Role::Normal);
        self.trust(!self.shared.settings.needs_password());
        Reply::Status("RESET")
    }
}

fn bad_option(option: &[u8]) -> Reply {
    let option = String::from_utf8_lossy(option).replace(['\r', '\n', '\0'], " ");
    let text = format!("ERR Syntax error in HELLO option '{option}'");
    Reply::Error(ErrorReply::Other(text.into()))
}

pub(super) fn select(args: &[&[u8]]) -> Reply {
    match args.first().map(|index| database(index)) {
        Some(Ok(())) => Reply::Ok,
        Some(Err(error)) => Reply::Error(error),
        None => Reply::Error(crate::command::syntax("SELECT")),
    }
}
