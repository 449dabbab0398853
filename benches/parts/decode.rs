//! Finding requests in bytes: the first thing that happens to what a client sends.

use criterion::{Criterion, Throughput};
use postres::protocol::{Decoder, Request};

use super::input::Random;
use super::measure;

/// What a connection reads at a time, as `server::connection` has it.
const READ_LEN: usize = 64 << 10;

/// Pairs of the longer requests.
const PAIRS: usize = 10;

pub(crate) fn measure_all(criterion: &mut Criterion) {
    let mut random = Random::new();
    one(criterion, "resp/get", &filled(|| get(&mut random)));
    one(criterion, "resp/set", &filled(|| set(&mut random)));
    one(criterion, "resp/mset_10", &filled(|| mset(&mut random)));
    one(
        criterion,
        "line/get",
        &filled(|| line(&[b"GET", &random.key()])),
    );
    let mut set_line = || line(&[b"SET", &random.key(), &random.value()]);
    one(criterion, "line/set", &filled(&mut set_line));
    in_two_pieces(criterion, &filled(|| set(&mut random)));
}

/// A full read buffer: as many whole requests as fit.
#[derive(Debug)]
struct Requests {
    bytes: Vec<u8>,
    /// How long each of them is.
    len: usize,
}

fn filled(mut make: impl FnMut() -> Vec<u8>) -> Requests {
    let first = make();
    let len = first.len();
    let mut bytes = first;
    while bytes.len() + len <= READ_LEN {
        bytes.extend_from_slice(&make());
    }
    Requests { bytes, len }
}

impl Requests {
    /// Fails where the decoder does not find what the buffer was filled with.
    fn check(&self) {
        let mut decoder = Decoder::default();
        let mut rest = &*self.bytes;
        while !rest.is_empty() {
            let request = next(&mut decoder, &mut rest, &self.bytes);
            assert!(request.is_some_and(|request| request.args.len() > 1));
            assert!(rest.len().is_multiple_of(self.len));
        }
    }
}

/// The next request of a buffer that begins again when it is used up.
fn next<'a>(decoder: &mut Decoder, rest: &mut &'a [u8], bytes: &'a [u8]) -> Option<Request<'a>> {
    if rest.is_empty() {
        *rest = bytes;
    }
    let (request, taken) = decoder.decode(rest).ok()?;
    *rest = rest.get(taken..)?;
    request
}

fn one(criterion: &mut Criterion, name: &str, requests: &Requests) {
    requests.check();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(requests.len as u64));
    let mut decoder = Decoder::default();
    let mut rest: &[u8] = &[];
    group.bench_function(name, |bencher| {
        measure::each(bencher, || next(&mut decoder, &mut rest, &requests.bytes));
    });
    group.finish();
}

/// A request of which half is there at first, as it is at the end of most reads of a long pipeline:
/// the decoder is not to look at that half twice.
fn in_two_pieces(criterion: &mut Criterion, requests: &Requests) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(requests.len as u64));
    let mut decoder = Decoder::default();
    let mut whole = requests.bytes.chunks_exact(requests.len).cycle();
    let mut both = || {
        let whole = whole.next()?;
        let half = whole.get(..requests.len / 2)?;
        let (first, _) = decoder.decode(half).ok()?;
        let (second, _) = decoder.decode(whole).ok()?;
        Some((first, second))
    };
    assert!(matches!(both(), Some((None, Some(_)))));
    group.bench_function("resp/set_in_two_pieces", |bencher| {
        measure::each(bencher, &mut both);
    });
    group.finish();
}

fn get(random: &mut Random) -> Vec<u8> {
    resp(&[b"GET", &random.key()])
}

fn set(random: &mut Random) -> Vec<u8> {
    resp(&[b"SET", &random.key(), &random.value()])
}

fn mset(random: &mut Random) -> Vec<u8> {
    let pairs: Vec<_> = (0..PAIRS).map(|_| (random.key(), random.value())).collect();
    let pairs = pairs.iter().flat_map(|(key, value)| [&key[..], value]);
    let args: Vec<_> = std::iter::once(&b"MSET"[..]).chain(pairs).collect();
    resp(&args)
}

fn resp(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn line(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = args.join(&b' ');
    bytes.push(b'\n');
    bytes
}
