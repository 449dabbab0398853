//! Operations as commands of each of the server's languages, and the replies back as outcomes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::load::{Connection, Ended, Request};
use super::model::{Form, Operation, Outcome, Step};
use crate::support::client::{Client, show};
use crate::support::resp::{RespClient, Value, encode};

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Line,
    Resp2,
    Resp3,
}

/// The commands of an operation, as words.
pub fn commands(operation: &Operation, keys: &[String; 2]) -> Vec<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let single = operation.steps.iter().map(|(slot, step)| {
        let key = keys[*slot].as_str();
        match step {
            Step::Get => words(&["GET", key]),
            Step::Set(value) => words(&["SET", key, value]),
            Step::SetNx(value) => words(&["SET", key, value, "NX"]),
            Step::Incr => words(&["INCR", key]),
            Step::Del => words(&["DEL", key]),
        }
    });
    let name = match operation.form {
        Form::Single => return single.collect(),
        Form::Exec => {
            let (first, last) = (words(&["MULTI"]), words(&["EXEC"]));
            return [first].into_iter().chain(single).chain([last]).collect();
        }
        Form::MGet => "MGET",
        Form::MSet => "MSET",
    };
    // Their arguments are those of GET and SET, one after another.
    let arguments = single.flat_map(|words| words.into_iter().skip(1));
    vec![[name.to_owned()].into_iter().chain(arguments).collect()]
}

/// A connection to a server that speaks lines, RESP or both.
pub enum Socket {
    Line(Client),
    Resp(RespClient),
}

impl Socket {
    pub fn connect(addr: SocketAddr, dialect: Dialect) -> Self {
        match dialect {
            Dialect::Line => Self::Line(Client::connect(addr)),
            Dialect::Resp2 => Self::Resp(RespClient::connect(addr)),
            Dialect::Resp3 => {
                let mut client = RespClient::connect(addr);
                let hello = client.command(["HELLO", "3"]);
                assert!(matches!(hello, Value::Map(_)), "{hello:?}");
                Self::Resp(client)
            }
        }
    }
}

impl Connection for Socket {
    fn send(&mut self, batch: &[Request<'_>]) -> Result<(), Ended> {
        let commands = batch.iter().flat_map(|r| commands(&r.operation, r.keys));
        let sent = match self {
            Self::Line(client) => {
                let lines: String = commands.map(|words| words.join(" ") + "\n").collect();
                client.try_send(lines.as_bytes())
            }
            Self::Resp(client) => client.send(&commands.flat_map(encode).collect::<Vec<_>>()),
        };
        sent.map_err(|error| ended(&error))
    }

    fn receive(&mut self, request: &Request<'_>) -> Result<Vec<Outcome>, Ended> {
        let Operation { form, steps } = &request.operation;
        match self {
            Self::Line(client) => receive_lines(client, *form, steps.iter().map(|(_, s)| s)),
            Self::Resp(client) => receive_resp(client, *form, steps.iter().map(|(_, s)| s)),
        }
    }
}

fn receive_lines<'a>(
    client: &mut Client,
    form: Form,
    steps: impl ExactSizeIterator<Item = &'a Step>,
) -> Result<Vec<Outcome>, Ended> {
    let mut line = || -> Result<String, Ended> {
        let line = client.try_line().map_err(|error| ended(&error))?;
        // What the end of the connection has cut is no reply.
        let whole = line.strip_suffix(b"\n").ok_or(Ended)?;
        let text = String::from_utf8(whole.to_vec());
        Ok(text.unwrap_or_else(|_| panic!("{} in a reply", show(&line))))
    };
    let len = steps.len();
    if form == Form::Exec {
        assert_eq!(line()?, "+OK", "to MULTI");
        for _ in 0..len {
            assert_eq!(line()?, "+QUEUED");
        }
    }
    match form {
        Form::Single => {}
        Form::MSet => {
            assert_eq!(line()?, "+OK", "to MSET");
            return Ok(vec![Outcome::Done; len]);
        }
        Form::MGet | Form::Exec => assert_eq!(line()?, format!("+OK {len}"), "to {form:?}"),
    }
    let outcome = |step: &Step| {
        let line = line()?;
        let told = match form {
            Form::Single => of_line(step, &line),
            _ => of_element(step, &line),
        };
        Ok(told.unwrap_or_else(|| panic!("{line:?} to {step:?} in {form:?}")))
    };
    steps.map(outcome).collect()
}

fn of_line(step: &Step, line: &str) -> Option<Outcome> {
    match (step, line) {
        (Step::Get, "-GET could not find key in store") => Some(Outcome::Nil),
        (Step::SetNx(_), "-SET condition was not met") => Some(Outcome::Nil),
        (Step::Incr, line) if line.strip_prefix('-') == Some(NOT_AN_INTEGER) => {
            Some(Outcome::NotAnInteger)
        }
        (Step::Set(_) | Step::SetNx(_) | Step::Del, "+OK") => Some(Outcome::Done),
        (Step::Get | Step::Incr, line) => of_element(step, line.strip_prefix("+OK ")?),
        _ => None,
    }
}

/// A reply within the reply to MGET or EXEC.
fn of_element(step: &Step, line: &str) -> Option<Outcome> {
    match (step, line) {
        (Step::Get | Step::SetNx(_), "(nil)") => Some(Outcome::Nil),
        (Step::Get, value) => Some(Outcome::Value(value.into())),
        (Step::Incr, line) if line.strip_prefix('-') == Some(NOT_AN_INTEGER) => {
            Some(Outcome::NotAnInteger)
        }
        (Step::Incr, number) => number.parse().ok().map(Outcome::Integer),
        (Step::Set(_) | Step::SetNx(_) | Step::Del, "OK") => Some(Outcome::Done),
        _ => None,
    }
}

fn receive_resp<'a>(
    client: &mut RespClient,
    form: Form,
    steps: impl ExactSizeIterator<Item = &'a Step>,
) -> Result<Vec<Outcome>, Ended> {
    let mut reply = || client.read().map_err(|error| ended(&error));
    let simple = |text: &str| Value::Simple(text.into());
    if form == Form::Exec {
        assert_eq!(reply()?, simple("OK"), "to MULTI");
        for _ in 0..steps.len() {
            assert_eq!(reply()?, simple("QUEUED"));
        }
    }
    let replies = match (form, reply()?) {
        (Form::Single, reply) => vec![reply],
        (Form::MGet | Form::Exec, Value::Array(replies)) => replies,
        (Form::MSet, reply) if reply == simple("OK") => vec![reply; steps.len()],
        (_, other) => panic!("{other:?} to {form:?}"),
    };
    assert_eq!(replies.len(), steps.len(), "{replies:?} to {form:?}");
    let outcome = |(step, reply)| {
        let told = of_value(&reply);
        told.unwrap_or_else(|| panic!("{reply:?} to {step:?} in {form:?}"))
    };
    Ok(steps.zip(replies).map(outcome).collect())
}

fn of_value(reply: &Value) -> Option<Outcome> {
    match reply {
        Value::Simple(text) if text == "OK" => Some(Outcome::Done),
        Value::NullBulk | Value::Null => Some(Outcome::Nil),
        Value::Bulk(bytes) => {
            let text = str::from_utf8(bytes).ok()?;
            Some(Outcome::Value(text.into()))
        }
        Value::Integer(number) => Some(Outcome::Integer(*number)),
        Value::Error(text) if text == NOT_AN_INTEGER => Some(Outcome::NotAnInteger),
        _ => None,
    }
}

/// A reply that does not come in time is a fault of its own, not the end of a connection.
fn ended(error: &io::Error) -> Ended {
    let too_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    assert!(!too_late, "no reply in time: {error}");
    Ended
}
