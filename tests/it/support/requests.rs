//! Random requests for every command that writes, with all its options; and what they are made of.

use postres::command::{self, Command, Flags, Reply, Run};
use postres::protocol::{self, Dialect, Output};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// A key, a value, or another argument.
pub type Word = Vec<u8>;

/// A request: its name, and what stands behind it.
pub type Words = Vec<Word>;

/// The times that requests name, in milliseconds.
#[derive(Debug, Clone)]
pub struct Times {
    /// From now on.
    pub relative: BoxedStrategy<i64>,
    /// Since 1970.
    pub absolute: BoxedStrategy<i64>,
}

impl Times {
    /// Some seconds around `now`, and now and then such as no clock shows.
    pub fn around(now: u64) -> Self {
        let now = now.cast_signed();
        let extreme = || select(vec![i64::MIN, 0, 1, i64::MAX]);
        Self {
            relative: prop_oneof![12 => -2000..8000_i64, 1 => extreme()].boxed(),
            absolute: prop_oneof![12 => now - 5000..now + 20_000, 1 => extreme()].boxed(),
        }
    }

    /// Years ahead of `now`, or past for long: whether such a time has come does not depend on when
    /// in a test it is asked. No two are nearer to each other than 100 seconds, as far as chance
    /// goes.
    pub fn far_from(now: u64) -> Self {
        let now = now.cast_signed();
        let ahead = || (10_000_000..40_000_000_i64).prop_map(|n| n * 100_000);
        Self {
            relative: prop_oneof![9 => ahead(), 1 => -9_000_000..=-1000_i64].boxed(),
            absolute: prop_oneof![9 => ahead().prop_map(move |n| n + now), 1 => 1000..9000_i64]
                .boxed(),
        }
    }
}

/// Words of a request, none of them or some.
type Part = BoxedStrategy<Words>;

/// The names of the commands that [`Requests::write`] makes requests of.
pub fn names_of_writes() -> Vec<&'static str> {
    let writes = command::COMMANDS.iter().filter(|spec| {
        let logged = matches!(spec.run, Run::Parsed(_));
        logged && spec.flags.has(Flags::WRITE)
    });
    writes.map(|spec| spec.name).collect()
}

/// Makes requests.
#[derive(Debug, Clone)]
pub struct Requests {
    /// Their keys.
    pub key: BoxedStrategy<Word>,
    /// Their times.
    pub times: Times,
    /// Whether there are some that remove all keys.
    pub flush: bool,
}

impl Requests {
    /// Requests of commands that write. Most make sense; all have as many words as they need.
    pub fn write(&self) -> BoxedStrategy<Words> {
        let mut strings = self.strings();
        strings.extend(self.bits());
        strings.extend(self.keys());
        strings.extend(self.expiries());
        let all = proptest::strategy::Union::new(strings);
        if self.flush {
            let how = optional(words_of(&["SYNC", "async"]));
            let flush = command("FLUSHALL", vec![how.clone()]);
            let flush = prop_oneof![flush, command("FLUSHDB", vec![how])];
            prop_oneof![40 => all, 1 => flush].boxed()
        } else {
            all.boxed()
        }
    }

    /// GET of a key.
    pub fn get(&self) -> BoxedStrategy<Words> {
        command("GET", vec![self.key()])
    }

    fn key(&self) -> Part {
        one(self.key.clone())
    }

    fn strings(&self) -> Vec<BoxedStrategy<Words>> {
        let key = || self.key();
        let pairs = || {
            let pairs = vec((self.key.clone(), value()), 1..4);
            let pairs = pairs.prop_map(|pairs| pairs.into_iter().flat_map(|(k, v)| [k, v]));
            pairs.prop_map(Iterator::collect).boxed()
        };
        let (seconds, millis) = (self.relative(1000), self.relative(1));
        vec![
            self.set(),
            self.set(),
            command("SETNX", vec![key(), one(value())]),
            command("SETEX", vec![key(), seconds, one(value())]),
            command("PSETEX", vec![key(), millis, one(value())]),
            command("GETSET", vec![key(), one(value())]),
            command("GETDEL", vec![key()]),
            command("GETEX", vec![key(), optional(self.lifetime("PERSIST"))]),
            command("DELIFEQ", vec![key(), one(value())]),
            command("MSET", vec![pairs()]),
            command("MSETNX", vec![pairs()]),
            command("APPEND", vec![key(), one(value())]),
            command(
                "SETRANGE",
                vec![
                    key(),
                    prop_oneof![number(0..8), number(0..300)].boxed(),
                    one(value()),
                ],
            ),
            command("INCR", vec![key()]),
            command("DECR", vec![key()]),
            command("INCRBY", vec![key(), increment()]),
            command("DECRBY", vec![key(), increment()]),
            command("INCRBYFLOAT", vec![key(), fraction()]),
        ]
    }

    fn set(&self) -> BoxedStrategy<Words> {
        let condition = prop_oneof![words_of(&["NX", "xx"]), command("IFEQ", vec![one(value())])];
        let options = (
            optional(condition.boxed()),
            optional(words_of(&["GET"])),
            optional(self.lifetime("KEEPTTL")),
        );
        let options = options.prop_map(|(a, b, c)| vec![a, b, c]).prop_shuffle();
        let options = options.prop_map(|options| options.concat()).boxed();
        command("SET", vec![self.key(), one(value()), options])
    }

    /// An option that sets an expiry, or the one that does not.
    fn lifetime(&self, fixed: &'static str) -> Part {
        prop_oneof![
            words_of(&[fixed]),
            command("EX", vec![self.relative(1000)]),
            command("PX", vec![self.relative(1)]),
            command("EXAT", vec![self.absolute(1000)]),
            command("PXAT", vec![self.absolute(1)]),
        ]
        .boxed()
    }

    fn relative(&self, unit: i64) -> Part {
        let times = self.times.relative.clone();
        one(times.prop_map(move |millis| text(millis / unit)).boxed())
    }

    fn absolute(&self, unit: i64) -> Part {
        let times = self.times.absolute.clone();
        one(times.prop_map(move |millis| text(millis / unit)).boxed())
    }

    fn bits(&self) -> Vec<BoxedStrategy<Words>> {
        let keys = || vec(self.key.clone(), 1..4).boxed();
        let combine = words_of(&["AND", "or", "XOR"]);
        let overflow = command("OVERFLOW", vec![words_of(&["WRAP", "sat", "FAIL"])]);
        let field = || words_of(&["u1", "i5", "u8", "i16", "i64", "u63"]);
        let offset = || {
            let place = (any::<bool>(), 0..60_u32);
            let place = place.prop_map(|(times, n)| format!("{}{n}", if times { "#" } else { "" }));
            one(place.prop_map(String::into_bytes).boxed())
        };
        let step = prop_oneof![
            1 => command("GET", vec![field(), offset()]),
            2 => command("SET", vec![field(), offset(), increment()]),
            2 => command("INCRBY", vec![field(), offset(), increment()]),
            2 => overflow,
        ];
        let steps = vec(step, 1..6).prop_map(|steps| steps.concat()).boxed();
        vec![
            command("SETBIT", vec![self.key(), number(0..2000), number(0..2)]),
            command("BITOP", vec![combine, self.key(), keys()]),
            command("BITOP", vec![words_of(&["NOT"]), self.key(), self.key()]),
            command("BITFIELD", vec![self.key(), steps]),
        ]
    }

    fn keys(&self) -> Vec<BoxedStrategy<Words>> {
        let keys = |most| vec(self.key.clone(), 1..=most).boxed();
        let two = || vec![self.key(), self.key()];
        let options = (
            optional(words_of(&["DB 0"])),
            optional(words_of(&["REPLACE"])),
        );
        let options = options.prop_map(|(db, replace)| [db, replace].concat());
        let copy = command("COPY", [two(), vec![options.boxed()]].concat());
        vec![
            command("DEL", vec![keys(1)]),
            command("DEL", vec![keys(3)]),
            command("UNLINK", vec![keys(3)]),
            command("RENAME", two()),
            command("RENAMENX", two()),
            copy,
        ]
    }

    fn expiries(&self) -> Vec<BoxedStrategy<Words>> {
        let conditions = || {
            let conditions = ["NX", "XX", "GT", "LT", "xx gt", "LT XX"];
            optional(words_of(&conditions))
        };
        let expire = |name, time| command(name, vec![self.key(), time, conditions()]);
        vec![
            expire("EXPIRE", self.relative(1000)),
            expire("PEXPIRE", self.relative(1)),
            expire("EXPIREAT", self.absolute(1000)),
            expire("PEXPIREAT", self.absolute(1)),
            command("PERSIST", vec![self.key()]),
        ]
    }
}

/// The name, in capitals or not, and its arguments.
fn command(name: &'static str, parts: Vec<Part>) -> BoxedStrategy<Words> {
    let name = prop_oneof![Just(name.to_owned()), Just(name.to_lowercase())];
    (name, parts)
        .prop_map(|(name, parts)| [vec![name.into_bytes()], parts.concat()].concat())
        .boxed()
}

fn one(word: BoxedStrategy<Word>) -> Part {
    word.prop_map(|word| vec![word]).boxed()
}

fn optional(part: Part) -> Part {
    prop_oneof![Just(Vec::new()), part].boxed()
}

/// One of these, split at its blanks.
fn words_of(choices: &[&'static str]) -> Part {
    let split = |words: &'static str| words.split(' ').map(|word| word.as_bytes().to_vec());
    let choices: Vec<Words> = choices.iter().map(|words| split(words).collect()).collect();
    select(choices).boxed()
}

fn text(number: i64) -> Word {
    number.to_string().into_bytes()
}

fn number(range: std::ops::Range<i64>) -> Part {
    one(range.prop_map(text).boxed())
}

fn increment() -> Part {
    let extreme = select(vec![i64::MIN, i64::MAX, 1 << 40]).prop_map(text);
    let number = prop_oneof![
        12 => (-20..100_i64).prop_map(text),
        2 => extreme,
        1 => Just(b"ten".to_vec()),
    ];
    one(number.boxed())
}

fn fraction() -> Part {
    let numbers = ["0.1", "-2.5", "1e3", "3", "1.0000000000000000001", "x"];
    words_of(&numbers)
}

/// Few different values and many, numbers and any bytes.
fn value() -> BoxedStrategy<Word> {
    let few = select(vec!["a", "b", "", "10", "-3", "2.5", "9223372036854775807"]);
    prop_oneof![
        4 => few.prop_map(|value| value.as_bytes().to_vec()),
        2 => (0..1000_i64).prop_map(text),
        2 => vec(any::<u8>(), 0..40),
        1 => vec(any::<u8>(), 0..300),
    ]
    .boxed()
}

/// What a request asks for. It must be one of a command that there is, with as many words as that
/// allows, and it must not be the server's own to carry out.
pub fn interpreted<R>(words: &Words, dialect: Dialect, see: impl FnOnce(Command<'_>) -> R) -> R {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let spec = command::find(&words, dialect).expect("a command");
    match spec.interpret(&words[1..]) {
        Command::Server(server) => panic!("{server:?} is not carried out here"),
        command => see(command),
    }
}

/// A reply as it is sent.
pub fn sent(reply: Reply, dialect: Dialect) -> Vec<u8> {
    let mut out = Output::default();
    protocol::encode(reply, dialect, &mut out);
    let mut bytes = Vec::new();
    while !out.is_empty() {
        let before = bytes.len();
        for piece in out.io_slices() {
            bytes.extend_from_slice(&piece);
        }
        out.advance(bytes.len() - before);
    }
    bytes
}

#[test]
fn every_command_that_writes_is_among_the_random_ones() {
    let requests = Requests {
        key: Just(b"k".to_vec()).boxed(),
        times: Times::around(1_700_000_000_000),
        flush: true,
    };
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    let strategy = requests.write();
    for _ in 0..4000 {
        let words = strategy.new_tree(&mut runner).unwrap().current();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        seen.insert(command::find(&words, Dialect::Resp2).unwrap().name);
    }
    let seen: Vec<_> = seen.into_iter().collect();
    assert_eq!(seen, names_of_writes());
}
