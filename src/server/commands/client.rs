//! CLIENT: this connection and the others.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Answer, catalogue, refuse};
use crate::command::{ClientCommand, Reply, count, error, integer, is_word, syntax};
use crate::protocol::{Absence, ErrorReply};
use crate::server::clients::{Client, Role, is_plain};
use crate::server::session::{End, Replies, Session};

impl Session {
    pub(super) fn client(&mut self, command: ClientCommand, args: &[&[u8]]) -> Answer {
        match command {
            ClientCommand::Id => Reply::Integer(number(self.client.id)).into(),
            ClientCommand::Info => Reply::Text(describe(&self.client)).into(),
            ClientCommand::List => or_error(self.client_list(args)),
            ClientCommand::GetName => self.client_name().into(),
            ClientCommand::SetName => or_error(self.client_set_name(args)),
            ClientCommand::SetInfo => or_error(self.client_set_info(args)),
            ClientCommand::Kill => self.client_kill(args),
            ClientCommand::Pause => or_error(self.client_pause(args)),
            ClientCommand::Unpause => {
                self.shared.console.pause.end();
                Reply::Ok.into()
            }
            ClientCommand::Reply => or_error(self.client_reply(args)),
            ClientCommand::NoEvict => or_error(on_or_off(args).map(|on| {
                self.client.activity.no_evict.store(on, Ordering::Relaxed);
                Reply::Ok
            })),
            ClientCommand::NoTouch => or_error(on_or_off(args).map(|on| {
                self.client.activity.no_touch.store(on, Ordering::Relaxed);
                Reply::Ok
            })),
            ClientCommand::Unblock => or_error(self.client_unblock(args)),
            // There is no tracking to redirect.
            ClientCommand::GetRedir => Reply::Integer(-1).into(),
        }
    }

    fn client_name(&self) -> Reply {
        let name = self.client.traits.lock().name.clone();
        if name.is_empty() {
            Reply::Nil(Absence::Plain)
        } else {
            Reply::Bytes(name)
        }
    }

    fn client_set_name(&self, args: &[&[u8]]) -> Result<Reply, ErrorReply> {
        let name = args.first().copied().unwrap_or_default();
        self.client.set_name(name).map(|()| Reply::Ok)
    }

    fn client_set_info(&self, args: &[&[u8]]) -> Result<Reply, ErrorReply> {
        let [what, value] = *args else {
            return Err(syntax("CLIENT|SETINFO"));
        };
        let mut traits = self.client.traits.lock();
        let place = if is_word(what, "LIB-NAME") {
            &mut traits.library
        } else if is_word(what, "LIB-VER") {
            &mut traits.library_version
        } else {
            let what = super::shown(what);
            return Err(other(format!("ERR Unrecognized option '{what}'")));
        };
        if !is_plain(value) {
            let what = super::shown(what);
            return Err(other(format!(
                "ERR {what} cannot contain spaces, newlines or special characters."
            )));
        }
        *place = value.to_vec();
        Ok(Reply::Ok)
    }

    fn client_list(&self, args: &[&[u8]]) -> Result<Reply, ErrorReply> {
        let filter = Filter::parse(args, false)?;
        let is_skipped = |client: &Client| filter.skip_me && client.id == self.client.id;
        let clients = self.shared.clients.all();
        let chosen = clients
            .iter()
            .filter(|client| filter.takes(client) && !is_skipped(client));
        Ok(Reply::Text(chosen.map(|client| describe(client)).collect()))
    }

    fn client_kill(&mut self, args: &[&[u8]]) -> Answer {
        // The old form is an address and nothing else.
        let (filter, old_form) = match *args {
            [addr] => (Ok(Filter::of_addr(addr)), true),
            _ => (Filter::parse(args, true), false),
        };
        let filter = match filter {
            Ok(filter) => filter,
            Err(error) => return Reply::Error(error).into(),
        };
        let mut killed = 0;
        let mut own = false;
        for client in self.shared.clients.all() {
            if client.is_ended() || !filter.takes(&client) {
                continue;
            }
            if client.id == self.client.id {
                if filter.skip_me {
                    continue;
                }
                own = true;
            } else {
                client.end();
            }
            killed += 1;
        }
        let reply = match (old_form, killed) {
            (true, 0) => refuse("ERR No such client"),
            (true, _) => Reply::Ok,
            (false, killed) => count(killed),
        };
        if own {
            Answer::End(End::Close, Some(reply))
        } else {
            reply.into()
        }
    }

    fn client_pause(&self, args: &[&[u8]]) -> Result<Reply, ErrorReply> {
        let (millis, mode) = args.split_first().ok_or_else(|| syntax("CLIENT|PAUSE"))?;
        let all = match *mode {
            [] => true,
            // What stands behind the mode is not looked at; Valkey does not either.
            [mode, ..] if is_word(mode, "ALL") => true,
            [mode, ..] if is_word(mode, "WRITE") => false,
            _ => return Err(error("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        };
        let lasting = super::timeout(millis)?;
        self.shared.console.pause.begin(lasting, all);
        Ok(Reply::Ok)
    }

    fn client_reply(&mut self, args: &[&[u8]]) -> Result<Reply, ErrorReply> {
        let wanted = args.first().copied().unwrap_or_default();
        if is_word(wanted, "ON") {
            self.replies = Replies::On;
        } else if is_word(wanted, "OFF") {
            self.replies = Replies::Off;
        } else if is_word(wanted, "SKIP") {
            if self.replies != Replies::Off {
                self.replies = Replies::Skip;
            }
        } else {
            return Err(syntax("CLIENT|REPLY"));
        }
        Ok(Reply::Ok)
    }

    fn client_unblock(&self, args: &[&[u8]]) -> Result<Reply, ErrorReply> {
        let (id, how) = args.split_first().ok_or_else(|| syntax("CLIENT|UNBLOCK"))?;
        let with_error = match *how {
            // Only as a pair with the id is it looked at, as Valkey has it.
            [] | [_, _, ..] => false,
            [how] if is_word(how, "TIMEOUT") => false,
            [how] if is_word(how, "ERROR") => true,
            _ => {
                return Err(error(
                    "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
                ));
            }
        };
        let client = u64::try_from(integer(id)?).ok();
        let client = client.and_then(|id| self.shared.clients.by_id(id));
        let unblocked = client.is_some_and(|client| client.waiting.unblock(with_error));
        Ok(Reply::Integer(unblocked.into()))
    }
}

fn or_error(reply: Result<Reply, ErrorReply>) -> Answer {
    reply.unwrap_or_else(Reply::Error).into()
}

fn other(text: String) -> ErrorReply {
    ErrorReply::Other(text.into())
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn on_or_off(args: &[&[u8]]) -> Result<bool, ErrorReply> {
    match *args {
        [arg] if is_word(arg, "ON") => Ok(true),
        [arg] if is_word(arg, "OFF") => Ok(false),
        _ => Err(syntax("CLIENT")),
    }
}

fn client_id(arg: &[u8]) -> Result<u64, ErrorReply> {
    let id = integer(arg).map_err(|_| syntax("CLIENT"))?;
    let id = u64::try_from(id).ok().filter(|id| *id > 0);
    id.ok_or_else(|| error("ERR client-id should be greater than 0"))
}

/// What kind of client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    /// One that there is none of here: replicas, a primary, subscribers.
    Other,
}

impl Kind {
    fn named(name: &[u8]) -> Result<Self, ErrorReply> {
        let others = ["REPLICA", "SLAVE", "PRIMARY", "MASTER", "PUBSUB"];
        if is_word(name, "NORMAL") {
            Ok(Self::Normal)
        } else if others.iter().any(|other| is_word(name, other)) {
            Ok(Self::Other)
        } else {
            let name = super::shown(name);
            Err(other(format!("ERR Unknown client type '{name}'")))
        }
    }
}

/// Which clients are meant: those that fit everything that is given.
#[derive(Debug, Default)]
struct Filter {
    ids: Option<BTreeSet<u64>>,
    kind: Option<Kind>,
    addr: Option<Vec<u8>>,
    local: Option<Vec<u8>>,
    /// Connected for at least as long.
    age: Option<Duration>,
    skip_me: bool,
}

impl Filter {
    fn of_addr(addr: &[u8]) -> Self {
        Self {
            addr: Some(addr.to_vec()),
            ..Self::default()
        }
    }

    /// What LIST or KILL was given.
    fn parse(args: &[&[u8]], skip_me: bool) -> Result<Self, ErrorReply> {
        let mut filter = Self {
            skip_me,
            ..Self::default()
        };
        let mut rest = args;
        while let [option, behind @ ..] = rest {
            rest = filter.option(option, behind)?;
        }
        Ok(filter)
    }

    /// Takes one option and its value; hands back what comes behind them.
    fn option<'a, 'b>(
        &mut self,
        option: &[u8],
        behind: &'a [&'b [u8]],
    ) -> Result<&'a [&'b [u8]], ErrorReply> {
        let [value, rest @ ..] = behind else {
            return Err(syntax("CLIENT|KILL"));
        };
        if is_word(option, "ID") {
            let ids = self.ids.get_or_insert_default();
            // As many as there are, up to the next option.
            let count = behind.iter().take_while(|arg| integer(arg).is_ok()).count();
            let (given, rest) = behind.split_at_checked(count).unwrap_or((behind, &[]));
            for id in given {
                ids.insert(client_id(id)?);
            }
            return Ok(rest);
        } else if is_word(option, "TYPE") {
            self.kind = Some(Kind::named(value)?);
        } else if is_word(option, "ADDR") {
            self.addr = Some(value.to_vec());
        } else if is_word(option, "LADDR") {
            self.local = Some(value.to_vec());
        } else if is_word(option, "USER") {
            if *value != b"default" {
                let user = super::shown(value);
                return Err(other(format!("ERR No such user '{user}'")));
            }
        } else if is_word(option, "MAXAGE") {
            let seconds = integer(value)
                .map_err(|_| error("ERR maxage is not an integer or out of range"))?;
            let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
            let seconds = seconds.ok_or_else(|| error("ERR maxage should be greater than 0"))?;
            self.age = Some(Duration::from_secs(seconds));
        } else if is_word(option, "SKIPME") && is_word(value, "YES") {
            self.skip_me = true;
        } else if is_word(option, "SKIPME") && is_word(value, "NO") {
            self.skip_me = false;
        } else {
            return Err(syntax("CLIENT|KILL"));
        }
        Ok(rest)
    }

    fn takes(&self, client: &Client) -> bool {
        let is = |wanted: &Option<Vec<u8>>, addr: std::net::SocketAddr| {
            let wanted = wanted.as_ref();
            wanted.is_none_or(|wanted| addr.to_string().as_bytes() == wanted)
        };
        self.ids.as_ref().is_none_or(|ids| ids.contains(&client.id))
            && self.kind.is_none_or(|kind| kind == Kind::Normal)
            && is(&self.addr, client.addr)
            && is(&self.local, client.local)
            && self.age.is_none_or(|age| client.age() >= age)
    }
}

/// A client in one line. What has no meaning here is 0.
fn describe(client: &Client) -> String {
    let traits = client.traits.lock();
    let activity = &client.activity;
    let queued = activity.queued();
    let flags = [
        (traits.role == Role::Monitor, 'O'),
        (client.waiting.is_going_on(), 'b'),
        (queued >= 0, 'x'),
        (activity.no_evict.load(Ordering::Relaxed), 'e'),
        (activity.no_touch.load(Ordering::Relaxed), 'T'),
    ];
    let mut flags: String = flags
        .iter()
        .filter_map(|&(is_set, flag)| is_set.then_some(flag))
        .collect();
    if flags.is_empty() {
        flags.push('N');
    }
    let command = activity.command().and_then(catalogue::by_number);
    let command = command.map_or("NULL".to_owned(), catalogue::name_of);
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut line = format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} capa= db=0",
        client.id,
        client.addr,
        client.local,
        activity.descriptor.load(Ordering::Relaxed),
        shown(&traits.name),
        client.age().as_secs(),
        client.idle().as_secs(),
    );
    // Writing to a string does not fail.
    let _ = writeln!(
        line,
        " sub=0 psub=0 ssub=0 multi={queued} watch={} qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 \
         rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={command} user=default redir=-1 \
         resp={} lib-name={} lib-ver={} tot-net-in={} tot-net-out={} tot-cmds={}",
        activity.watched(),
        if traits.resp3 { 3 } else { 2 },
        shown(&traits.library),
        shown(&traits.library_version),
        activity.input.load(Ordering::Relaxed),
        activity.output.load(Ordering::Relaxed),
        activity.commands(),
    );
    line
}
