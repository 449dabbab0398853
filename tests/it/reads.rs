//! P3: reads never wait for the disk.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::support::server::Server;

const SYNC: Duration = Duration::from_millis(200);

fn connect(server: &Server) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(server.addr).unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::new(stream)
}

fn reply(client: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line
}

#[test]
fn gets_beside_sets_answer_at_once_though_each_sync_takes_200_ms() {
    gets_beside_sets(4, 2);
}

#[test]
fn gets_beside_a_lone_writer_answer_at_once_even_on_one_thread() {
    gets_beside_sets(1, 1);
}

#[test]
fn gets_beside_a_lone_writer_answer_at_once_where_it_waits_on_one_of_two_threads() {
    // It finds the log idle, and waits for the disk on a thread that serves connections.
    gets_beside_sets(1, 2);
}

fn gets_beside_sets(writers: usize, threads: usize) {
    let disk = Disk::default();
    let server = Server::start_on(&disk, 8, threads);
    let mut client = connect(&server);
    client.get_mut().write_all(b"SET k v\n").unwrap();
    assert_eq!(reply(&mut client), "+OK\n");
    disk.slow_syncs(SYNC);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = |_| {
            scope.spawn(|| {
                let (mut writer, mut fastest) = (connect(&server), Duration::MAX);
                while !done.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    writer.get_mut().write_all(b"SET k v\n").unwrap();
                    assert_eq!(reply(&mut writer), "+OK\n");
                    fastest = fastest.min(begun.elapsed());
                }
                fastest
            })
        };
        let writers: Vec<_> = (0..writers).map(writer).collect();
        let mut waits = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            client.get_mut().write_all(b"GET k\n").unwrap();
            assert_eq!(reply(&mut client), "+OK v\n");
            waits.push(asked.elapsed());
        }
        done.store(true, Ordering::Relaxed);
        for writer in writers {
            let fastest = writer.join().unwrap();
            assert!(
                fastest >= SYNC,
                "a SET was acknowledged after {fastest:?}, before its sync"
            );
        }
        waits.sort();
        assert!(
            waits.len() > 200,
            "only {} GETs in two seconds",
            waits.len()
        );
        // Far below a sync, and far above what a busy machine adds.
        let p99 = waits[waits.len() * 99 / 100];
        assert!(p99 < SYNC / 4, "one GET in a hundred took {p99:?}");
        let slowest = waits[waits.len() - 1];
        assert!(slowest < SYNC, "a GET took {slowest:?}, as long as a sync");
    });
    disk.slow_syncs(Duration::ZERO);
    server.stop().unwrap();
}

#[test]
fn a_get_ahead_of_a_set_in_one_pipeline_is_answered_before_the_sync() {
    for threads in [1, 2] {
        let disk = Disk::default();
        let server = Server::start_on(&disk, 1, threads);
        disk.slow_syncs(SYNC);
        let mut client = connect(&server);
        let begun = Instant::now();
        client
            .get_mut()
            .write_all(b"GET k\nSET k v\nGET k\n")
            .unwrap();
        assert_eq!(reply(&mut client), "-GET could not find key in store\n");
        assert!(begun.elapsed() < SYNC / 2, "took {:?}", begun.elapsed());
        assert_eq!(reply(&mut client), "+OK\n");
        assert_eq!(reply(&mut client), "+OK v\n");
        assert!(begun.elapsed() >= SYNC, "took {:?}", begun.elapsed());
        disk.slow_syncs(Duration::ZERO);
        server.stop().unwrap();
    }
}

#[test]
fn no_read_sees_a_write_that_is_not_durable_yet() {
    let disk = Disk::default();
    let server = Server::start(&disk, 8);
    let (mut writer, mut reader) = (connect(&server), connect(&server));
    writer.get_mut().write_all(b"SET k old\n").unwrap();
    assert_eq!(reply(&mut writer), "+OK\n");
    disk.slow_syncs(SYNC);
    let begun = Instant::now();
    writer.get_mut().write_all(b"SET k new\n").unwrap();
    loop {
        let before = begun.elapsed();
        reader.get_mut().write_all(b"GET k\n").unwrap();
        match reply(&mut reader).as_str() {
            "+OK old\n" => assert!(before < Duration::from_secs(10), "the write never came"),
            "+OK new\n" => break,
            other => panic!("{other}"),
        }
    }
    assert!(
        begun.elapsed() >= SYNC,
        "seen after {:?}, before its sync",
        begun.elapsed()
    );
    disk.slow_syncs(Duration::ZERO);
    server.stop().unwrap();
}
