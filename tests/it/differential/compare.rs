//! What counts as the same reply. Everything does not that is not in [`LENIENT`].

use std::time::Duration;

use crate::support::resp::Value;

/// What came back for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Reply(Value),
    /// The server closed the connection, or had closed it before.
    Closed,
    /// No reply came in time.
    Nothing,
    /// Bytes came that are no reply.
    Malformed(String),
}

/// How a reply that may differ is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Types and bytes are the same.
    Exact,
    /// Seconds, which may differ by as long as the sequence took, and one for the rounding.
    Seconds,
    /// Milliseconds, which may differ by as long as the sequence took.
    Millis,
    /// The same elements in any order.
    Unordered,
    /// Only the reply's type is the same.
    Type,
    /// Only the types of the reply and of all that is in it are the same.
    Shape,
    /// A cursor and an array; their contents are compared by `!scan`.
    Page,
    /// Field names, and values other than those of these fields.
    Except(&'static [&'static str]),
    /// Name, arity and positions of keys of each command.
    Commands,
    /// Exact, unless a key may have run out before.
    ExactUntilExpiry,
}

/// Commands whose replies are compared by another rule than [`Rule::Exact`], and why. The doc of
/// `differential` shows this table; a test keeps the two the same. Errors are compared exactly
/// everywhere.
pub const LENIENT: &[(&str, Rule)] = &[
    ("TTL", Rule::Seconds),
    ("PTTL", Rule::Millis),
    ("EXPIRETIME", Rule::Seconds),
    ("PEXPIRETIME", Rule::Millis),
    ("KEYS", Rule::Unordered),
    ("SCAN", Rule::Page),
    ("RANDOMKEY", Rule::Type),
    ("DBSIZE", Rule::ExactUntilExpiry),
    (
        "HELLO",
        Rule::Except(&["server", "version", "id", "modules"]),
    ),
    ("TIME", Rule::Shape),
    ("LASTSAVE", Rule::Type),
    ("INFO", Rule::Type),
    ("CLIENT ID", Rule::Type),
    ("CLIENT INFO", Rule::Type),
    ("CLIENT LIST", Rule::Type),
    ("CLIENT HELP", Rule::Type),
    ("CONFIG HELP", Rule::Type),
    ("COMMAND HELP", Rule::Type),
    ("OBJECT HELP", Rule::Type),
    ("MEMORY HELP", Rule::Type),
    ("LATENCY HELP", Rule::Type),
    ("SLOWLOG HELP", Rule::Type),
    ("CONFIG GET", Rule::Type),
    ("COMMAND", Rule::Type),
    ("COMMAND COUNT", Rule::Type),
    ("COMMAND LIST", Rule::Type),
    ("COMMAND DOCS", Rule::Type),
    ("COMMAND INFO", Rule::Commands),
    ("MEMORY USAGE", Rule::Type),
    ("OBJECT ENCODING", Rule::Type),
    ("OBJECT REFCOUNT", Rule::Type),
    ("OBJECT IDLETIME", Rule::Type),
    ("SLOWLOG GET", Rule::Type),
    ("SLOWLOG LEN", Rule::Type),
    ("LATENCY DOCTOR", Rule::Type),
    ("LATENCY HISTOGRAM", Rule::Type),
    ("WAITAOF", Rule::Shape),
];

/// The rule for the reply to this command.
pub fn rule(args: &[Vec<u8>]) -> Rule {
    let upper = |arg: &Vec<u8>| String::from_utf8_lossy(arg).to_uppercase();
    let name = args.first().map(upper).unwrap_or_default();
    let with_sub = args.get(1).map(|sub| format!("{name} {}", upper(sub)));
    let find = |name: &str| LENIENT.iter().find(|row| row.0 == name).map(|row| row.1);
    if with_sub.as_deref() == Some("COMMAND INFO") && args.len() == 2 {
        return find("COMMAND").unwrap_or(Rule::Exact);
    }
    let found = with_sub.and_then(|both| find(&both));
    found.or_else(|| find(&name)).unwrap_or(Rule::Exact)
}

/// What is known where two replies are compared.
#[derive(Debug, Clone, Copy)]
pub struct Leeway {
    /// How far apart the two servers' clocks may have been read.
    pub time: Duration,
    /// Whether a key may have run out before.
    pub expired: bool,
}

/// Whether the outcomes of the same request count as the same. `queued` are the commands that an
/// EXEC carries out, `None` for any other request.
pub fn same(
    args: &[Vec<u8>],
    queued: Option<&[Vec<Vec<u8>>]>,
    outcomes: (&Outcome, &Outcome),
    leeway: Leeway,
) -> bool {
    let (Outcome::Reply(reference), Outcome::Reply(subject)) = outcomes else {
        // Where both say nothing, or nonsense, the sequence itself is wrong.
        return matches!(outcomes, (Outcome::Closed, Outcome::Closed));
    };
    match (queued, reference, subject) {
        (Some(queued), Value::Array(a), Value::Array(b))
            if a.len() == queued.len() && b.len() == queued.len() =>
        {
            let mut each = a.iter().zip(b).zip(queued);
            each.all(|((a, b), args)| same_one(args, a, b, leeway))
        }
        _ => same_one(args, reference, subject, leeway),
    }
}

fn same_one(args: &[Vec<u8>], reference: &Value, subject: &Value, leeway: Leeway) -> bool {
    match (reference, subject) {
        // Valkey's texts end their quotation of an argument at a zero byte, as strings do in C.
        (Value::Error(a), Value::Error(b)) if args.concat().contains(&0) => {
            a.split(' ').take(3).eq(b.split(' ').take(3))
        }
        _ => same_reply(rule(args), reference, subject, leeway),
    }
}

fn same_reply(rule: Rule, reference: &Value, subject: &Value, leeway: Leeway) -> bool {
    use Value::{Array, Bulk, Error, Integer};
    if let (Error(a), Error(b)) = (reference, subject) {
        return a == b;
    }
    let near = |tolerance: u128| match (reference, subject) {
        (Integer(a), Integer(b)) if *a > 0 && *b > 0 => u128::from(a.abs_diff(*b)) <= tolerance,
        _ => reference == subject,
    };
    match (rule, reference, subject) {
        (Rule::Seconds, ..) => near(leeway.time.as_millis().div_ceil(1000) + 1),
        (Rule::Millis, ..) => near(leeway.time.as_millis()),
        (Rule::Unordered, Array(a), Array(b)) => sorted(a) == sorted(b),
        (Rule::Type, ..) => kind(reference) == kind(subject),
        (Rule::Shape, ..) => shape(reference) == shape(subject),
        (Rule::Page, Array(a), Array(b)) => {
            let page = |v: &[Value]| matches!(v, [Bulk(_), Array(_)]);
            page(a) && page(b)
        }
        (Rule::Except(fields), ..) => except(reference, fields) == except(subject, fields),
        (Rule::Commands, Array(a), Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_command(a, b))
        }
        (Rule::ExactUntilExpiry, ..) if leeway.expired => kind(reference) == kind(subject),
        _ => reference == subject,
    }
}

pub fn sorted(values: &[Value]) -> Vec<Value> {
    let mut values = values.to_vec();
    values.sort();
    values
}

fn kind(value: &Value) -> std::mem::Discriminant<Value> {
    std::mem::discriminant(value)
}

/// The reply with nothing but its types.
fn shape(value: &Value) -> Value {
    let shapes = |values: &[Value]| values.iter().map(shape).collect();
    match value {
        Value::Array(values) => Value::Array(shapes(values)),
        Value::Set(values) => Value::Set(shapes(values)),
        Value::Push(values) => Value::Push(shapes(values)),
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(k, v)| (shape(k), shape(v)));
            Value::Map(pairs.collect())
        }
        Value::Simple(_) => Value::Simple(String::new()),
        Value::Error(_) => Value::Error(String::new()),
        Value::Integer(_) => Value::Integer(0),
        Value::Bulk(_) => Value::Bulk(Vec::new()),
        Value::Double(_) => Value::Double(String::new()),
        Value::Boolean(_) => Value::Boolean(false),
        Value::Verbatim(format, _) => Value::Verbatim(format.clone(), Vec::new()),
        Value::BigNumber(_) => Value::BigNumber(String::new()),
        Value::BulkError(_) => Value::BulkError(Vec::new()),
        Value::NullBulk | Value::NullArray | Value::Null => value.clone(),
    }
}

/// A map, or RESP2's array of fields and values, with these fields' values blanked.
fn except(value: &Value, fields: &[&str]) -> Value {
    let is_one = |name: &Value| match name {
        Value::Bulk(name) => fields.iter().any(|field| field.as_bytes() == name),
        _ => false,
    };
    match value {
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| {
                let value = if is_one(name) { &Value::Null } else { value };
                (name.clone(), value.clone())
            });
            Value::Map(pairs.collect())
        }
        Value::Array(values) => {
            let mut values = values.clone();
            for pair in values.chunks_exact_mut(2) {
                if is_one(&pair[0]) {
                    pair[1] = Value::Null;
                }
            }
            Value::Array(values)
        }
        other => other.clone(),
    }
}

/// Name, arity, first key, last key and step; what else there is names Valkey's internals.
fn same_command(reference: &Value, subject: &Value) -> bool {
    let (Value::Array(a), Value::Array(b)) = (reference, subject) else {
        return reference == subject;
    };
    [0, 1, 3, 4, 5].iter().all(|at| a.get(*at) == b.get(*at))
}

#[test]
fn the_type_of_a_reply_is_part_of_it() {
    let leeway = Leeway {
        time: Duration::from_millis(10),
        expired: false,
    };
    let same = |command: &str, a: Value, b: Value| {
        let args: Vec<Vec<u8>> = command.split(' ').map(Into::into).collect();
        same(
            &args,
            None,
            (&Outcome::Reply(a), &Outcome::Reply(b)),
            leeway,
        )
    };
    let bulk = |text: &str| Value::Bulk(text.into());
    assert!(same("GET k", bulk("1"), bulk("1")));
    assert!(!same("GET k", bulk("1"), bulk("2")));
    assert!(!same("GET k", bulk("1"), Value::Integer(1)));
    assert!(!same("GET k", bulk("OK"), Value::Simple("OK".into())));
    assert!(!same("GET k", Value::Null, Value::NullBulk));
    assert!(!same("GET k", Value::NullArray, Value::NullBulk));
    assert!(!same("HELLO", Value::Array(vec![]), Value::Map(vec![])));
    let error = |text: &str| Value::Error(text.into());
    assert!(!same(
        "NO k",
        error("ERR no such 'k'"),
        error("ERR no such ' '")
    ));
    assert!(same(
        "NO \0",
        error("ERR no such ''"),
        error("ERR no such ' '")
    ));
    assert!(!same(
        "NO \0",
        error("ERR no such ''"),
        error("ERR no other")
    ));
    assert!(!same(
        "TTL k",
        Value::Error("ERR a".into()),
        Value::Error("ERR b".into())
    ));
}

#[test]
fn a_rule_forgives_only_what_it_is_for() {
    let at = |time, expired| Leeway {
        time: Duration::from_millis(time),
        expired,
    };
    let int = Value::Integer;
    let bulk = |text: &str| Value::Bulk(text.into());
    assert!(same_reply(
        Rule::Millis,
        &int(1000),
        &int(1010),
        at(10, false)
    ));
    assert!(!same_reply(
        Rule::Millis,
        &int(1000),
        &int(1011),
        at(10, false)
    ));
    assert!(!same_reply(Rule::Millis, &int(-1), &int(1), at(10, false)));
    assert!(!same_reply(
        Rule::Seconds,
        &int(-2),
        &int(-1),
        at(10, false)
    ));
    assert!(same_reply(Rule::Seconds, &int(9), &int(10), at(10, false)));
    let (ab, ba) = (
        Value::Array(vec![bulk("a"), bulk("b")]),
        Value::Array(vec![bulk("b"), bulk("a")]),
    );
    assert!(same_reply(Rule::Unordered, &ab, &ba, at(0, false)));
    assert!(!same_reply(Rule::Exact, &ab, &ba, at(0, false)));
    assert!(!same_reply(Rule::Type, &ab, &Value::Null, at(0, false)));
    assert!(!same_reply(
        Rule::ExactUntilExpiry,
        &int(1),
        &int(2),
        at(0, false)
    ));
    assert!(same_reply(
        Rule::ExactUntilExpiry,
        &int(1),
        &int(2),
        at(0, true)
    ));
    assert!(same_reply(Rule::Except(&["a"]), &ab, &ab, at(0, false)));
    let ac = Value::Array(vec![bulk("a"), bulk("c")]);
    assert!(same_reply(Rule::Except(&["a"]), &ab, &ac, at(0, false)));
    assert!(!same_reply(Rule::Except(&["b"]), &ab, &ac, at(0, false)));
}
