//! What is measured: every case, and what is asked of postres in it.

use super::cases::{Case, Generator};
use super::contestant::Contestant;
use super::load::Group;
use super::sample::Count;
use super::wire::Kind;

use Contestant::{Naive, PostresAlways, PostresNever, ValkeyAlways, ValkeyNoLog};

const GET: Count = Count::Kind(Kind::Get);
const SET: Count = Count::Kind(Kind::Set);

/// A value that is more to copy than to look up, and how many of them are kept.
const LARGE_VALUE: usize = 1_000_000;
const LARGE_VALUES: u32 = 100;

/// Every case, in the order they are run.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = one_kind();
    cases.extend(more_clients());
    cases.extend(reads_beside_writes());
    cases.extend(large_values());
    cases.extend(baseline());
    cases.extend(second_opinions());
    cases
}

/// How much of one kind of operation there is in a second, against Valkey.
fn one_kind() -> Vec<Case> {
    let gets = [PostresAlways, ValkeyNoLog];
    let sets = [PostresAlways, ValkeyAlways];
    let three = [PostresAlways, ValkeyAlways, ValkeyNoLog];
    let (reading, writing) = (Group::new(50, 0), Group::new(50, 100));
    vec![
        Case::new("GET, 50 clients", &gets, &[reading])
            .with_bare()
            .with_plain()
            .ratio(3, GET, 1.0, ValkeyNoLog)
            .ratio(5, GET, 1.05, ValkeyNoLog)
            .processor(5, 0.85, ValkeyNoLog),
        Case::new(
            "GET, 50 clients, pipeline 16",
            &gets,
            &[reading.pipelined(16)],
        )
        .with_bare()
        .ratio(3, GET, 1.2, ValkeyNoLog)
        .ratio(5, GET, 1.5, ValkeyNoLog),
        Case::new("SET, 50 clients", &sets, &[writing])
            .with_bare()
            .ratio(3, SET, 1.0, ValkeyAlways)
            .ratio(5, SET, 1.5, ValkeyAlways),
        Case::new(
            "SET, 50 clients, pipeline 16",
            &three,
            &[writing.pipelined(16)],
        )
        .with_bare()
        .ratio(3, SET, 1.5, ValkeyAlways)
        .ratio(5, SET, 1.8, ValkeyAlways)
        .ratio(5, SET, 0.9, ValkeyNoLog),
    ]
}

/// SETs of fewer clients, and of more, and where syncs are slow.
fn more_clients() -> Vec<Case> {
    let sets = [PostresAlways, ValkeyAlways];
    vec![
        Case::new("SET, 1 client", &sets, &[Group::new(1, 100)]).ratio(5, SET, 1.0, ValkeyAlways),
        // The log against none at all: with so many clients a group is large enough to hide it.
        Case::new(
            "SET, 200 clients",
            &[PostresAlways, ValkeyNoLog],
            &[Group::new(200, 100)],
        )
        .with_bare()
        .ratio(5, SET, 0.8, ValkeyNoLog),
        Case::new("SET, 1,000 clients", &sets, &[Group::new(1_000, 100)])
            .with_bare()
            .ratio(5, SET, 1.1, ValkeyAlways),
        Case::new(
            "SET, 50 clients, syncs 2 ms slower",
            &sets,
            &[Group::new(50, 100)],
        )
        .slow()
        .with_bare()
        .ratio(5, SET, 1.7, ValkeyAlways),
    ]
}

/// Reads and writes at a time: against Valkey, and whether GETs are as quick as if no log were
/// synced.
fn reads_beside_writes() -> Vec<Case> {
    let contestants = [PostresAlways, PostresNever, ValkeyAlways];
    let mixed = [Group::new(50, 10)];
    let apart = [Group::new(50, 0), Group::new(8, 100)];
    // The same load for each server, and one that leaves the server idle most of the time:
    // what a GET waits for here is not the processor.
    let paced = [
        Group::new(50, 0).paced(10_000),
        Group::new(8, 100).paced(500),
    ];
    vec![
        Case::new("1 SET : 9 GET, 50 clients", &contestants, &mixed)
            .with_bare()
            .ratio(3, Count::All, 1.6, ValkeyAlways)
            .ratio(5, Count::All, 2.0, ValkeyAlways)
            .same_tail(2),
        Case::new(
            "1 SET : 9 GET, 50 clients, pipeline 16",
            &[PostresAlways, ValkeyAlways],
            &[Group::new(50, 10).pipelined(16)],
        )
        .with_bare()
        .ratio(5, Count::All, 1.4, ValkeyAlways),
        Case::new(
            "1 SET : 9 GET, 50 clients, syncs 2 ms slower",
            &contestants,
            &mixed,
        )
        .slow()
        .with_bare()
        .ratio(3, Count::All, 5.0, ValkeyAlways)
        .ratio(5, Count::All, 7.0, ValkeyAlways)
        .same_tail(2),
        Case::new(
            "50 GET clients beside 8 SET clients, syncs 2 ms slower",
            &contestants,
            &apart,
        )
        .slow()
        .with_bare()
        .ratio(3, GET, 10.0, ValkeyAlways)
        .ratio(5, GET, 14.0, ValkeyAlways)
        .ratio(5, SET, 1.0, ValkeyAlways)
        .same_tail(2),
        Case::new(
            "10,000 GET/s beside 500 SET/s, syncs 2 ms slower",
            &contestants,
            &paced,
        )
        .slow()
        .same_tail(2),
    ]
}

/// How many bytes go in and out.
fn large_values() -> Vec<Case> {
    let contestants = [PostresAlways, ValkeyAlways];
    vec![
        Case::new(
            "GET, values of 1 MB, 10 clients",
            &contestants,
            &[Group::new(10, 0)],
        )
        .large_values(LARGE_VALUE, LARGE_VALUES)
        .ratio(5, GET, 1.2, ValkeyAlways),
        Case::new(
            "SET, values of 1 MB, 10 clients",
            &contestants,
            &[Group::new(10, 100)],
        )
        .large_values(LARGE_VALUE, LARGE_VALUES)
        .ratio(5, SET, 1.2, ValkeyAlways),
    ]
}

/// What group commit is worth, in lines. A million keys would take the baseline minutes to fill in.
fn baseline() -> Vec<Case> {
    let contestants = [PostresAlways, Naive];
    vec![
        Case::new("SET, 1 client, lines", &contestants, &[Group::new(1, 100)])
            .empty()
            .ratio(2, SET, 0.9, Naive),
        Case::new(
            "SET, 50 clients, lines",
            &contestants,
            &[Group::new(50, 100)],
        )
        .empty()
        .ratio(2, SET, 10.0, Naive),
    ]
}

/// The cases of one kind once more, as another program sees them: asked what issue 3 asks.
fn second_opinions() -> Vec<Case> {
    let names = [
        "redis-benchmark: GET, 50 clients",
        "redis-benchmark: GET, 50 clients, pipeline 16",
        "redis-benchmark: SET, 50 clients",
        "redis-benchmark: SET, 50 clients, pipeline 16",
    ];
    let with_name = |(name, mut case): (_, Case)| {
        case.goals.retain(|goal| goal.issue == 3);
        case.contestants.truncate(2);
        Case {
            name,
            generator: Generator::RedisBenchmark,
            ..case
        }
    };
    names.into_iter().zip(one_kind()).map(with_name).collect()
}
