//! Writing replies in RESP: the last thing that happens before the bytes go to the socket.
//!
//! A value comes from an entry, as it does from the store: to share it and to let it go again is
//! measured with the rest.

use criterion::Criterion;
use postres::command::Reply;
use postres::protocol::{self, Absence, Dialect, Output, SHARE_FROM};
use postres::store::{Entry, Value};

use super::input::Random;
use super::measure;

/// So many bytes are written to the socket at a time, as `server::connection` has it.
const WRITE_AT: usize = 64 << 10;

/// Elements of the long reply.
const ELEMENTS: usize = 10;

const NIL: Absence = Absence::Key { command: "GET" };

pub(crate) fn measure_all(criterion: &mut Criterion) {
    let mut random = Random::new();
    let mut entries = random.values().into_iter().map(|value| entry(&value));
    let short: Vec<_> = entries.by_ref().collect();
    let long = [entry(&vec![b'x'; SHARE_FROM])];
    let mut number = 0_i64;
    let mut integer = || {
        number = number.wrapping_add(7919);
        Reply::Integer(number)
    };
    let two = Dialect::Resp2;
    one(criterion, "resp2/ok", two, || Reply::Ok);
    one(criterion, "resp2/nil", two, || Reply::Nil(NIL));
    one(criterion, "resp3/nil", Dialect::Resp3, || Reply::Nil(NIL));
    one(criterion, "resp2/integer", two, &mut integer);
    one(criterion, "resp2/value_64", two, values(&short));
    one(criterion, "resp2/value_shared", two, values(&long));
    let mut values = values(&short);
    one(criterion, "resp2/array_10", two, || {
        Reply::Array((0..ELEMENTS).map(|_| values()).collect())
    });
}

fn entry(value: &[u8]) -> Entry {
    Entry::new(&Random::new().key(), value, None)
}

/// The entries' values, over and over.
fn values(entries: &[Entry]) -> impl FnMut() -> Reply {
    let mut entries = entries.iter().cycle();
    move || {
        let value = entries.next().cloned().map(Value::from);
        value.map_or(Reply::Nil(NIL), Reply::Value)
    }
}

/// One reply behind the other; what would be written is taken away when there is enough of it.
fn one(criterion: &mut Criterion, name: &str, dialect: Dialect, mut make: impl FnMut() -> Reply) {
    let mut out = Output::new();
    protocol::encode(make(), dialect, &mut out);
    assert!(out.len() > 2, "{name} is encoded as nothing");
    let mut group = criterion.benchmark_group("encode");
    group.bench_function(name, |bencher| {
        measure::each(bencher, || {
            protocol::encode(make(), dialect, &mut out);
            if out.len() >= WRITE_AT {
                let written: usize = out.io_slices().iter().map(|slice| slice.len()).sum();
                out.advance(written);
            }
            out.len()
        });
    });
    group.finish();
}
