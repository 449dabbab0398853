//! Sends a sequence to both servers and says where they differ.

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::io::ErrorKind;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::compare::{Leeway, Outcome, Rule, rule, same};
use super::peer::{Pair, Peer, now};
use super::step::{Action, Arg, Step};
use crate::support::resp::{RespClient, Value, encode};

/// The most requests that are sent before the first reply to them is read, and the most bytes:
/// few enough for the system to hold them, should a server wait for its replies to be read.
const PIPELINE: usize = 16;
const PIPELINE_BYTES: usize = 64 * 1024;

/// What the clocks of the two servers may differ by even if nothing takes any time.
const CLOCKS: Duration = Duration::from_millis(5);

/// Names of commands that are not sent, with spaces between them.
const WITHOUT: &str = "POSTRES_DIFFERENTIAL_WITHOUT";

type Args = Vec<Vec<u8>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Resp2,
    Resp3,
}

pub const PROTOCOLS: [Protocol; 2] = [Protocol::Resp2, Protocol::Resp3];

/// How a sequence is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    pub protocol: Protocol,
    /// Whether requests that follow each other on one connection are sent in one write.
    pub pipelined: bool,
}

/// A place where the two servers differ.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The step it was seen at; none for the contents at the end.
    pub step: Option<usize>,
    /// The request, in short, by which differences of the same kind are told.
    pub kind: String,
    pub reference: String,
    pub subject: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    Valkey   {}", self.reference)?;
        write!(f, "\n    subject  {}", self.subject)
    }
}

/// Runs the sequence on two empty stores; all differences, those of the contents at its end last.
pub fn run(pair: &Pair, steps: &[Step], manner: Manner) -> Vec<Difference> {
    for peer in [&pair.reference, &pair.subject] {
        let flushed = peer.connect().command(["FLUSHALL"]);
        assert_eq!(flushed, Value::Simple("OK".into()), "FLUSHALL");
    }
    let mut run = Run {
        pair,
        protocol: manner.protocol,
        sessions: [None, None],
        begun: Instant::now(),
        expired: false,
        differences: Vec::new(),
    };
    let mut at = 0;
    while at < steps.len() {
        if left_out(&steps[at]) {
            at += 1;
            continue;
        }
        let count = if manner.pipelined {
            pipeline_len(&steps[at..])
        } else {
            1
        };
        run.steps(at, &steps[at..at + count]);
        at += count;
    }
    run.contents();
    run.nothing_is_left();
    run.differences
}

/// How many of the first steps can be sent before a reply is read; at least one.
fn pipeline_len(steps: &[Step]) -> usize {
    let mut bytes = 0;
    let fits = steps.iter().take_while(|step| {
        let same_connection = step.connection == steps[0].connection;
        match requests(step) {
            Some(request) if !left_out(step) => {
                bytes += request.bytes.len();
                same_connection && bytes <= PIPELINE_BYTES
            }
            _ => false,
        }
    });
    fits.take(PIPELINE).count().max(1)
}

/// Whether the environment wants this command left out, to see what lies behind it.
fn left_out(step: &Step) -> bool {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let names = env::var(WITHOUT).unwrap_or_default().to_uppercase();
        names.split(' ').map(str::to_owned).collect()
    });
    let (Action::Command(args) | Action::Silent(args)) = &step.action else {
        return false;
    };
    let Some(Arg::Bytes(name)) = args.first() else {
        return false;
    };
    let named = |wanted: &String| name.eq_ignore_ascii_case(wanted.as_bytes());
    !name.is_empty() && NAMES.iter().any(named)
}

struct Request {
    /// The command; none where the bytes are raw.
    args: Args,
    bytes: Vec<u8>,
    replies: bool,
}

/// What a step sends; `None` if it is more than one request, or none.
fn requests(step: &Step) -> Option<Request> {
    let now = now();
    let render = |args: &[Arg]| -> Args { args.iter().map(|arg| arg.render(now)).collect() };
    let (args, replies) = match &step.action {
        Action::Command(args) => (render(args), true),
        Action::Silent(args) => (render(args), false),
        Action::Raw(bytes) | Action::Mute(bytes) => {
            return Some(Request {
                args: Vec::new(),
                bytes: bytes.clone(),
                replies: matches!(step.action, Action::Raw(_)),
            });
        }
        Action::Scan(_) | Action::Wait(_) => return None,
    };
    let bytes = encode(&args);
    Some(Request {
        args,
        bytes,
        replies,
    })
}

/// The same connection on both servers.
struct Session {
    reference: Link,
    subject: Link,
    /// The commands queued since MULTI, as the reference has them.
    queued: Option<Vec<Args>>,
}

struct Run<'a> {
    pair: &'a Pair,
    protocol: Protocol,
    sessions: [Option<Session>; 2],
    begun: Instant,
    expired: bool,
    differences: Vec<Difference>,
}

impl Run<'_> {
    /// Carries out steps that [`pipeline_len`] lets go together.
    fn steps(&mut self, first: usize, steps: &[Step]) {
        match &steps[0].action {
            Action::Wait(time) => {
                std::thread::sleep(*time);
                self.expired = true;
            }
            Action::Scan(args) => self.scan(first, &steps[0], args),
            _ => {
                let requests: Vec<Request> = steps.iter().filter_map(requests).collect();
                self.requests(first, steps, &requests);
            }
        }
    }

    fn requests(&mut self, first: usize, steps: &[Step], requests: &[Request]) {
        let mut session = self.session(first, steps[0].connection);
        session.reference.send(requests);
        session.subject.send(requests);
        for (index, request) in requests.iter().enumerate().filter(|r| r.1.replies) {
            let mut reference = session.reference.read(&request.args);
            let mut subject = session.subject.read(&request.args);
            let carried_out = session.follow(&request.args, &reference);
            let outcomes = (&reference, &subject);
            if !same(
                &request.args,
                carried_out.as_deref(),
                outcomes,
                self.leeway(),
            ) {
                self.differ(
                    Some((first + index, &steps[index])),
                    &mut reference,
                    &mut subject,
                );
            }
        }
        self.sessions[steps[0].connection] = Some(session);
    }

    /// The connection, made and told its protocol when it is first used.
    fn session(&mut self, step: usize, connection: usize) -> Session {
        if let Some(session) = self.sessions[connection].take() {
            return session;
        }
        let mut session = Session {
            reference: Link::new(&self.pair.reference),
            subject: Link::new(&self.pair.subject),
            queued: None,
        };
        if self.protocol == Protocol::Resp3 {
            let hello: Args = vec!["HELLO".into(), "3".into()];
            let mut reference = session.reference.command(&hello);
            let mut subject = session.subject.command(&hello);
            if !same(&hello, None, (&reference, &subject), self.leeway()) {
                let hello = hello.iter().map(Arg::bytes).collect();
                let hello = Step::new(connection, Action::Command(hello));
                self.differ(Some((step, &hello)), &mut reference, &mut subject);
            }
        }
        session
    }

    fn scan(&mut self, at: usize, step: &Step, args: &[Arg]) {
        let now = now();
        let args: Args = args.iter().map(|arg| arg.render(now)).collect();
        let mut session = self.session(at, step.connection);
        if session.queued.is_some() {
            // It would be queued: one page has to do.
            self.sessions[step.connection] = Some(session);
            let page = [Arg::bytes("SCAN"), Arg::bytes("0")].into_iter();
            let page = Action::Command(page.chain(args.iter().map(Arg::bytes)).collect());
            self.steps(at, &[Step::new(step.connection, page)]);
            return;
        }
        let mut reference = session.reference.scan(&args);
        let mut subject = session.subject.scan(&args);
        if reference != subject {
            self.differ(Some((at, step)), &mut reference, &mut subject);
        }
        self.sessions[step.connection] = Some(session);
    }

    /// Wants each reply to have been read: where one came too many, those behind it were compared
    /// with the wrong ones.
    fn nothing_is_left(&mut self) {
        for session in self.sessions.iter_mut().flatten() {
            let left = [&mut session.reference, &mut session.subject].map(Link::unread);
            if left.iter().any(|bytes| !bytes.is_empty()) {
                let [reference, subject] =
                    left.map(|bytes| format!("unread: \"{}\"", bytes.escape_ascii()));
                self.differences.push(Difference {
                    step: None,
                    kind: "unread replies".into(),
                    reference,
                    subject,
                });
            }
        }
    }

    /// Compares every key, value and time to live, and how many keys there are.
    fn contents(&mut self) {
        let pair = self.pair;
        let mut peers = [&pair.reference, &pair.subject].map(Peer::connect);
        let [mut a, mut b] = [0, 1].map(|at| Outcome::Reply(keys(&mut peers[at])));
        if a != b {
            self.differ(None, &mut a, &mut b);
            return;
        }
        let Outcome::Reply(Value::Array(keys)) = a else {
            return;
        };
        if !self.expired {
            self.compare_contents(&mut peers, &["DBSIZE".into()]);
        }
        for key in keys {
            let Value::Bulk(key) = key else { continue };
            self.compare_contents(&mut peers, &["GET".into(), key.clone()]);
            self.compare_contents(&mut peers, &["PTTL".into(), key]);
        }
    }

    fn compare_contents(&mut self, peers: &mut [RespClient; 2], args: &[Vec<u8>]) {
        let [mut a, mut b] = [0, 1].map(|at| Outcome::Reply(peers[at].command(args)));
        if !same(args, None, (&a, &b), self.leeway()) {
            let args = args.iter().map(Arg::bytes).collect();
            let step = Step::new(0, Action::Command(args));
            self.differ(None, &mut a, &mut b);
            if let Some(last) = self.differences.last_mut() {
                last.kind = "contents".into();
                last.reference = format!("at the end, {step}: {}", last.reference);
            }
        }
    }

    fn leeway(&self) -> Leeway {
        Leeway {
            time: self.begun.elapsed() + CLOCKS,
            expired: self.expired,
        }
    }

    fn differ(&mut self, step: Option<(usize, &Step)>, a: &mut Outcome, b: &mut Outcome) {
        let kind = match step {
            None => "contents".to_owned(),
            Some((_, step)) => match (sort(a), sort(b)) {
                (a, b) if a == b && a.starts_with("ERR unknown") => a,
                (a, b) => format!("{} {a} {b}", name(step)),
            },
        };
        self.differences.push(Difference {
            step: step.map(|(at, _)| at),
            kind,
            reference: show(a),
            subject: show(b),
        });
    }
}

/// What kind of outcome it is; an error by its text's first words, as far as it quotes nothing.
fn sort(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Reply(Value::Error(text)) => {
            let own = text.split('\'').next().unwrap_or_default();
            own.split(' ').take(5).collect::<Vec<_>>().join(" ")
        }
        Outcome::Reply(value) => format!("{value:?}").chars().take(1).collect(),
        other => format!("{other:?}"),
    }
}

fn name(step: &Step) -> String {
    let text = step.to_string();
    let text = text.strip_prefix("2> ").unwrap_or(&text);
    let words: Vec<String> = text.split(' ').map(str::to_uppercase).collect();
    let subcommands = [
        "CLIENT", "COMMAND", "CONFIG", "OBJECT", "MEMORY", "SLOWLOG", "LATENCY",
    ];
    let count = 1 + usize::from(subcommands.contains(&words[0].as_str()));
    words[..count.min(words.len())].join(" ")
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Reply(value) => format!("{value:?}"),
        other => format!("{other:?}"),
    }
}

impl Session {
    /// Follows MULTI on the reference; the commands that this one carried out, if it was EXEC.
    fn follow(&mut self, args: &[Vec<u8>], outcome: &Outcome) -> Option<Vec<Args>> {
        let is = |name: &str| {
            let first = args.first();
            first.is_some_and(|first| first.eq_ignore_ascii_case(name.as_bytes()))
        };
        match outcome {
            Outcome::Reply(Value::Simple(text)) if text == "QUEUED" => {
                self.queued.get_or_insert_default().push(args.to_vec());
                None
            }
            Outcome::Reply(Value::Simple(text)) if text == "OK" && is("MULTI") => {
                self.queued = Some(Vec::new());
                None
            }
            Outcome::Reply(_) if is("EXEC") => self.queued.take(),
            Outcome::Reply(_) if is("DISCARD") || is("RESET") => {
                self.queued = None;
                None
            }
            _ => None,
        }
    }
}

/// One server's end of a session.
struct Link {
    client: RespClient,
    /// Set when nothing more can come.
    over: Option<Outcome>,
    plant: Option<super::peer::Plant>,
}

impl Link {
    fn new(peer: &Peer) -> Self {
        Self {
            client: peer.connect(),
            over: None,
            plant: peer.plant,
        }
    }

    fn send(&mut self, requests: &[Request]) {
        let mut bytes = Vec::new();
        for request in requests {
            match self.plant {
                Some(plant) if !request.args.is_empty() => {
                    let mut args = request.args.clone();
                    (plant.request)(&mut args);
                    bytes.append(&mut encode(&args));
                }
                _ => bytes.extend_from_slice(&request.bytes),
            }
        }
        if self.over.is_none() {
            // Where it fails the server has closed, and what it wrote before can still be read.
            let _ = self.client.send(&bytes);
        }
    }

    fn read(&mut self, args: &[Vec<u8>]) -> Outcome {
        if let Some(over) = &self.over {
            return over.clone();
        }
        let outcome = match self.client.read() {
            Ok(mut value) => {
                if let Some(plant) = self.plant {
                    (plant.reply)(args, &mut value);
                }
                return Outcome::Reply(value);
            }
            Err(error) => match error.kind() {
                ErrorKind::InvalidData => Outcome::Malformed(error.to_string()),
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Outcome::Nothing,
                _ => Outcome::Closed,
            },
        };
        self.over = Some(outcome.clone());
        outcome
    }

    fn unread(&mut self) -> Vec<u8> {
        match self.over {
            Some(_) => Vec::new(),
            None => self.client.unread().unwrap_or_default(),
        }
    }

    fn command(&mut self, args: &[Vec<u8>]) -> Outcome {
        let request = Request {
            args: args.to_vec(),
            bytes: encode(args),
            replies: true,
        };
        self.send(&[request]);
        self.read(args)
    }

    /// A whole iteration: the set of keys in it, or the first reply that is not a page of it.
    fn scan(&mut self, args: &[Vec<u8>]) -> Outcome {
        let (mut cursor, mut found) = (b"0".to_vec(), BTreeSet::new());
        // Far more pages than any store of these tests has.
        for _ in 0..100_000 {
            let mut command = vec![b"SCAN".to_vec(), cursor];
            command.extend_from_slice(args);
            debug_assert_eq!(rule(&command), Rule::Page);
            match self.command(&command) {
                Outcome::Reply(Value::Array(page)) => match page.as_slice() {
                    [Value::Bulk(next), Value::Array(keys)] => {
                        cursor = next.clone();
                        found.extend(keys.iter().cloned());
                    }
                    _ => return Outcome::Reply(Value::Array(page)),
                },
                other => return other,
            }
            if cursor == b"0" {
                return Outcome::Reply(Value::Set(found.into_iter().collect()));
            }
        }
        Outcome::Malformed("a SCAN without an end".into())
    }
}

/// All keys, sorted.
fn keys(client: &mut RespClient) -> Value {
    match client.command(["KEYS", "*"]) {
        Value::Array(keys) => Value::Array(super::compare::sorted(&keys)),
        other => other,
    }
}
