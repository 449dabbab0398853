//! Random sequences of commands, the same for the same seed.
//!
//! Nothing in a sequence may depend on how fast a server is. A time to live is thus far longer
//! than a sequence takes, or past, or so short that a wait follows; and no two of them are so
//! close that which is the longer (`EXPIRE ... GT`) hangs on when each came.

use std::collections::BTreeSet;
use std::time::Duration;

use super::grammar::{GRAMMAR, OPERANDS};
use super::run::{Manner, Protocol};
use super::step::{Action, Arg, Step};

/// Keys, of which a sequence uses a few.
const KEYS: &[&[u8]] = &[
    b"k",
    b"key:2",
    b"",
    b"a b",
    b"c\r\nd",
    b"\x00\xff\xfe",
    b"*",
    b"{t}k[1]",
    b"K",
];

const VALUES: &[&[u8]] = &[
    b"",
    b"v",
    b"ohmytext",
    b"mynewtext",
    b"\x00",
    b"\xff\xff",
    b"a\r\nb",
    b"\x00\x0f\xf0\xff",
    b"hello world",
    b"foobar",
    b"NX",
    b"EX",
    b"\xff\x00\xaa\x55",
];

/// Times to live, in milliseconds, that are as good as past or come soon.
const SOON: std::ops::RangeInclusive<i64> = 1..=20;

/// What is sure to be longer than a sequence takes.
const LATER: i64 = 100_000;

/// A small generator of numbers (splitmix64): a seed gives the same ones everywhere.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// The sequence that a seed stands for, and how it is sent.
pub fn sequence(seed: u64, protocol: Protocol) -> (Vec<Step>, Manner) {
    let mut dice = Dice::new(seed);
    let pipelined = dice.percent(50);
    let manner = Manner {
        protocol,
        pipelined,
    };
    let len = 3 + dice.below(12) + if dice.percent(20) { dice.below(60) } else { 0 };
    let count = 2 + dice.below(3);
    let mut generator = Generator {
        keys: (0..count).map(|_| *dice.pick(KEYS)).collect(),
        dice,
        times: BTreeSet::new(),
        in_multi: [false; 2],
    };
    let mut steps = Vec::new();
    while steps.len() < len {
        generator.step(&mut steps);
    }
    (steps, manner)
}

struct Generator {
    dice: Dice,
    keys: Vec<&'static [u8]>,
    /// Relative times to live in use, in milliseconds.
    times: BTreeSet<i64>,
    /// Whether the connections may be between MULTI and EXEC.
    in_multi: [bool; 2],
}

impl Generator {
    fn step(&mut self, steps: &mut Vec<Step>) {
        let connection = usize::from(self.dice.percent(15));
        let template = self.template();
        let mut args = self.expand(&template.split(' ').collect::<Vec<_>>());
        if self.dice.percent(6) {
            self.spoil(&mut args);
        }
        if args.first() == Some(&Arg::bytes("!scan")) {
            args.remove(0);
            steps.push(Step::new(connection, Action::Scan(args)));
            return;
        }
        if args.is_empty()
            || needs_much_memory(&args)
            || stops_the_harness(&args)
            || is_known_to_differ(&args)
        {
            return;
        }
        let Some(wait) = self.time_to_live(&args) else {
            return;
        };
        match name(&args).as_str() {
            "MULTI" => self.in_multi[connection] = true,
            "EXEC" | "DISCARD" | "RESET" if args.len() == 1 => self.in_multi[connection] = false,
            _ => {}
        }
        steps.push(Step::new(connection, Action::Command(args)));
        if let Some(wait) = wait {
            steps.push(Step::new(0, Action::Wait(wait)));
        }
    }

    fn template(&mut self) -> &'static str {
        let total: u32 = GRAMMAR.iter().map(|row| row.0).sum();
        let mut at = self.dice.below(total as usize) as u32;
        let chosen = GRAMMAR
            .iter()
            .find(|(weight, _)| match at.checked_sub(*weight) {
                Some(rest) => {
                    at = rest;
                    false
                }
                None => true,
            });
        chosen.expect("the weights add up").1
    }

    /// The arguments that a template stands for.
    fn expand(&mut self, template: &[&str]) -> Vec<Arg> {
        let (mut args, mut rest) = (Vec::new(), template);
        while let Some((word, behind)) = rest.split_first() {
            rest = behind;
            let times = match *word {
                "(" => 1 + self.dice.below(4),
                "{" => self.dice.below(4),
                "[" => self.dice.below(2),
                _ => {
                    args.push(self.word(word));
                    continue;
                }
            };
            let end = rest
                .iter()
                .position(|word| matches!(*word, ")*" | "}" | "]"));
            let (inside, behind) = rest.split_at(end.expect("a bracket is closed"));
            rest = &behind[1..];
            let choices: Vec<&[&str]> = inside.split(|word| *word == "|").collect();
            for _ in 0..times {
                let choice = *self.dice.pick(&choices);
                args.append(&mut self.expand(choice));
            }
        }
        args
    }

    fn word(&mut self, word: &str) -> Arg {
        let Some(kind) = word.strip_prefix('<').and_then(|w| w.strip_suffix('>')) else {
            return Arg::bytes(match self.dice.below(5) {
                _ if word.starts_with('!') => word.to_owned(),
                0 => word.to_lowercase(),
                1 => self.mixed_case(word),
                _ => word.to_owned(),
            });
        };
        match kind {
            "key" => Arg::bytes(*self.dice.pick(&self.keys.clone())),
            "value" => self.value(),
            "secs" => Arg::bytes(self.relative(1000)),
            "ms" => Arg::bytes(self.relative(1)),
            "at" | "atms" => self.absolute(kind == "at"),
            _ => {
                let pool = OPERANDS.iter().find(|row| row.0 == kind);
                let pool = pool
                    .unwrap_or_else(|| panic!("{word} is not in OPERANDS"))
                    .1;
                // The first ones are the plain ones.
                let plain = pool.len().div_ceil(2);
                let count = if self.dice.percent(60) {
                    plain
                } else {
                    pool.len()
                };
                Arg::bytes(pool[self.dice.below(count)])
            }
        }
    }

    fn mixed_case(&mut self, word: &str) -> String {
        let upper = |c: char| c.to_ascii_uppercase();
        let lower = |c: char| c.to_ascii_lowercase();
        let letters = word.chars();
        letters
            .map(|c| {
                if self.dice.percent(50) {
                    upper(c)
                } else {
                    lower(c)
                }
            })
            .collect()
    }

    fn value(&mut self) -> Arg {
        match self.dice.below(100) {
            0..35 => Arg::bytes(*self.dice.pick(VALUES)),
            35..60 => self.word("<int>"),
            60..70 => self.word("<float>"),
            70..75 => {
                let times = 1 + self.dice.below(3000);
                Arg::Repeat(times, self.dice.pick(&["ab", "x", "0"]).as_bytes().into())
            }
            // Longer than what a server copies rather than shares.
            75 => Arg::Repeat(16_384 + self.dice.below(3), b"y".into()),
            _ => {
                let len = self.dice.below(12);
                let dice = &mut self.dice;
                Arg::Bytes((0..len).map(|_| *dice.pick(b"ab01\x00\xff")).collect())
            }
        }
    }

    /// A time to live in units of this many milliseconds.
    fn relative(&mut self, unit: i64) -> String {
        match self.dice.below(20) {
            0 => "0".into(),
            1 => "-1".into(),
            2 => (*self
                .dice
                .pick(&["9223372036854775807", "9223372036854775", "-5000"]))
            .into(),
            3 => (*self
                .dice
                .pick(&["x", "", "1.5", "-9223372036854775808", "+100", "1e3"]))
            .into(),
            4 if unit == 1 => (1 + self.dice.below(2)).to_string(),
            _ => (LATER * (1 + self.dice.below(10_000) as i64) / unit).to_string(),
        }
    }

    /// A time of day: past, far away, or between two relative ones.
    fn absolute(&mut self, seconds: bool) -> Arg {
        match self.dice.below(20) {
            0 => self.word("<int>"),
            1 => Arg::bytes("1"),
            2 => Arg::bytes(if seconds {
                "32503680000"
            } else {
                "32503680000000"
            }),
            3 if seconds => Arg::Seconds(-10),
            3 => Arg::Millis(-10),
            _ => {
                let from_now = LATER * (1 + self.dice.below(40) as i64) + LATER / 2;
                if seconds {
                    Arg::Seconds(from_now / 1000)
                } else {
                    Arg::Millis(from_now)
                }
            }
        }
    }

    /// Makes a mistake.
    fn spoil(&mut self, args: &mut Vec<Arg>) {
        let at = self.dice.below(args.len());
        match self.dice.below(5) {
            0 => {
                args.remove(at);
            }
            1 => args.insert(at + 1, self.value()),
            2 => args.insert(at, args[at].clone()),
            3 => {
                let last = args.len() - 1;
                args.swap(at, last);
            }
            _ if at > 0 => args[at] = self.value(),
            _ => args.truncate(1),
        }
    }

    /// What has to be waited behind a command that sets a time to live; `None` if it must not be
    /// sent, since what follows would hang on how fast a server is.
    fn time_to_live(&mut self, args: &[Arg]) -> Option<Option<Duration>> {
        let mut wait = None;
        for (operand, unit) in times_to_live(args) {
            let Arg::Bytes(text) = operand else { continue };
            let text = String::from_utf8_lossy(text);
            let Ok(number) = text.parse::<i64>() else {
                continue;
            };
            let Some(millis) = number.checked_mul(unit) else {
                continue;
            };
            if millis <= 0 {
                continue;
            }
            if SOON.contains(&millis) {
                if self.in_multi.contains(&true) {
                    return None;
                }
                wait = Some(Duration::from_millis(millis as u64 + 10));
                continue;
            }
            let near = (millis - LATER / 4)..=(millis.saturating_add(LATER / 4));
            if millis < LATER || self.times.range(near).next().is_some() {
                return None;
            }
            self.times.insert(millis);
        }
        Some(wait)
    }
}

fn name(args: &[Arg]) -> String {
    match args.first() {
        Some(Arg::Bytes(bytes)) => String::from_utf8_lossy(bytes).to_uppercase(),
        _ => String::new(),
    }
}

/// The operands that are times to live, each with its unit in milliseconds.
fn times_to_live(args: &[Arg]) -> Vec<(&Arg, i64)> {
    let mut found = Vec::new();
    let unit = match name(args).as_str() {
        "SETEX" => Some(1000),
        "PSETEX" => Some(1),
        "EXPIRE" => Some(1000),
        "PEXPIRE" => Some(1),
        _ => None,
    };
    found.extend(args.get(2).zip(unit));
    for pair in args.windows(2) {
        match name(pair).as_str() {
            "EX" => found.push((&pair[1], 1000)),
            "PX" => found.push((&pair[1], 1)),
            _ => {}
        }
    }
    found
}

/// Whether it may make a value of hundreds of megabytes.
fn needs_much_memory(args: &[Arg]) -> bool {
    let grows = matches!(name(args).as_str(), "SETBIT" | "SETRANGE" | "BITFIELD");
    let large = |arg: &Arg| {
        let Arg::Bytes(bytes) = arg else { return false };
        let text = String::from_utf8_lossy(bytes);
        let number = text.trim_start_matches('#').parse::<i64>();
        number.is_ok_and(|number| (100_000..=4_294_967_295).contains(&number))
    };
    grows && args.iter().any(large)
}

/// Whether it is answered by more or less than one reply, or keeps others waiting.
fn stops_the_harness(args: &[Arg]) -> bool {
    let word = |at: usize| name(args.get(at..).unwrap_or_default());
    match (word(0).as_str(), word(1).as_str()) {
        ("CLIENT", "PAUSE") => true,
        ("CLIENT", "REPLY") => matches!(word(2).as_str(), "OFF" | "SKIP"),
        // What a misplaced operand of FLUSHALL is: a replica's request for everything.
        ("SYNC", _) => true,
        ("WAIT", replicas) => args.len() == 3 && replicas != "0",
        _ => false,
    }
}

/// Whether the README's table of differences names it: `BITFIELD ... OVERFLOW SAT SET` of a number
/// far below what the field holds.
fn is_known_to_differ(args: &[Arg]) -> bool {
    let has = |word: &str| (0..args.len()).any(|at| name(&args[at..]) == word);
    let far_below =
        || (0..args.len()).any(|at| name(&args[at..]).starts_with("-92233720368547758"));
    name(args) == "BITFIELD" && has("SAT") && has("SET") && far_below()
}

#[test]
fn a_seed_gives_the_same_sequence_every_time() {
    let sequence = |seed| sequence(seed, Protocol::Resp2);
    assert_eq!(sequence(7), sequence(7));
    assert_ne!(sequence(7), sequence(8));
}

#[test]
fn a_printed_sequence_is_read_back_as_it_was() {
    for seed in 0..2000 {
        for step in sequence(seed, Protocol::Resp2).0 {
            let text = step.to_string();
            assert_eq!(super::step::parse(&text), Ok(Some(step)), "{text}");
        }
    }
}

#[test]
fn every_command_is_generated() {
    let wanted = GRAMMAR.iter().map(|row| row.1.split(' ').next().unwrap());
    let wanted: BTreeSet<&str> = wanted
        .filter(|name| !name.starts_with(['<', '!']))
        .collect();
    let mut seen = BTreeSet::new();
    for seed in 0..500 {
        for step in sequence(seed, Protocol::Resp2).0 {
            if let Action::Command(args) = step.action {
                seen.insert(name(&args));
            }
        }
    }
    let missing: Vec<_> = wanted
        .iter()
        .filter(|name| !seen.contains(**name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
