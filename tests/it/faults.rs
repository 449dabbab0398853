//! What a failing disk does: nothing acknowledged is lost, nothing refused comes back, and memory
//! is what the log says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postres::engine::EngineFailure;
use postres::store;
use postres::wal::writer::AppendError;
use postres::wal::{LogOptions, SyncPolicy};

use crate::disk::{Call, Disk, EIO, ENOSPC, Fate, Fault};
use crate::support::log::{
    append, contents, disk_with_policy, open, open_with, operations, options,
};
use crate::support::server::{Server, contents_of};

const FATES: [Fate; 6] = [
    Fate::Kept,
    Fate::Lost,
    Fate::Torn(1),
    Fate::Torn(100),
    Fate::OnlyLast,
    Fate::OnlyFirst,
];

/// What a scripted run was told of its operations.
#[derive(Default)]
struct Told {
    acknowledged: Vec<Vec<u8>>,
    /// Neither acknowledged nor known to be absent.
    unknown: Option<Vec<u8>>,
    failed_for_good: bool,
}

/// Appends the script's operations, which fill several segments, to a disk that fails as `plan`
/// says from the `nth` call on; `once` only there.
fn run_script(disk: &Disk, nth: usize, once: bool, fault: Fault) -> (Told, usize) {
    let mut told = Told::default();
    let (mut writer, ..) = open(disk).unwrap();
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    disk.plan({
        let calls = Arc::clone(&calls);
        move |_, _| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            (call == nth || (!once && call > nth)).then_some(fault)
        }
    });
    for operation in operations(30, 400) {
        match append(&mut writer, &operation) {
            Ok(_) => {
                assert!(!told.failed_for_good, "acknowledged after a failed sync");
                assert!(
                    told.unknown.is_none(),
                    "acknowledged before a cut-back was made"
                );
                told.acknowledged.push(operation);
            }
            Err(AppendError::Failed { .. }) => {
                if !std::mem::replace(&mut told.failed_for_good, true) && told.unknown.is_none() {
                    told.unknown = Some(operation);
                }
            }
            Err(AppendError::Uncertain { .. }) => {
                // The first one is what may come back; those behind it were never written.
                told.unknown.get_or_insert(operation);
            }
            // A cut-back has been made by now, if one was needed.
            Err(_) => told.unknown = None,
        }
    }
    (told, calls.load(Ordering::Relaxed))
}

fn check_every_crash(disk: &Disk, told: &Told, context: &str) {
    for fate in FATES {
        let after = disk.crash(fate);
        let found = contents(&after);
        let mut allowed = vec![told.acknowledged.clone()];
        if let Some(unknown) = &told.unknown {
            allowed.push([told.acknowledged.as_slice(), std::slice::from_ref(unknown)].concat());
        }
        assert!(
            allowed.contains(&found),
            "{context}, {fate:?}: {} acknowledged, {} found",
            told.acknowledged.len(),
            found.len()
        );
    }
}

#[test]
fn any_call_that_fails_once_or_from_then_on_loses_and_invents_nothing() {
    let mut states = 0;
    for fault in [
        Fault::Fail(EIO),
        Fault::Fail(ENOSPC),
        Fault::FailHalfway(ENOSPC),
        Fault::FailHalfway(EIO),
    ] {
        for once in [true, false] {
            for nth in 0.. {
                let disk = Disk::default();
                let (told, calls) = run_script(&disk, nth, once, fault);
                let context = format!("{fault:?} at call {nth}, once: {once}");
                check_every_crash(&disk, &told, &context);
                states += FATES.len();
                if calls <= nth {
                    assert_eq!(told.acknowledged.len(), 30, "nothing failed");
                    break;
                }
            }
        }
    }
    println!("{states} crashed states of failing disks");
    assert!(states > 1000);
}

#[test]
fn a_refused_write_is_gone_whatever_it_left_on_the_disk_and_whatever_a_crash_keeps() {
    let mut refusals = 0;
    for fault in [
        Fault::Fail(EIO),
        Fault::FailHalfway(EIO),
        Fault::FailAfterAll(EIO),
    ] {
        for nth in 1..40 {
            let disk = Disk::default();
            let (mut writer, ..) = open(&disk).unwrap();
            let mut writes = 0;
            disk.plan(move |call, _| {
                writes += usize::from(call == Call::Write);
                (call == Call::Write && writes == nth).then_some(fault)
            });
            let mut acknowledged = Vec::new();
            for operation in operations(30, 400) {
                match append(&mut writer, &operation) {
                    Ok(_) => acknowledged.push(operation),
                    Err(AppendError::Rejected { .. }) => {
                        refusals += 1;
                        for fate in FATES {
                            let found = contents(&disk.crash(fate));
                            assert_eq!(found.len(), acknowledged.len(), "{fault:?} {nth} {fate:?}");
                        }
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    assert!(refusals > 90);
}

#[test]
fn short_writes_are_completed() {
    let disk = Disk::default();
    let (told, _) = run_script(&disk, 0, false, Fault::Short);
    assert_eq!(told.acknowledged.len(), 30);
    check_every_crash(&disk, &told, "short writes");
}

/// Cuts the power at each call of a run that appends these operations. How many states it left, and
/// how often a file was declared to be zeros in the run that was not cut.
fn cut_power_at_any_call(script: &[Vec<u8>], fates: &[Fate]) -> (usize, usize) {
    let mut states = 0;
    for stop_at in 0.. {
        // From that call on nothing reaches the disk: the power is gone.
        let disk = Disk::default();
        let (mut writer, ..) = open(&disk).unwrap();
        let mut calls = 0;
        disk.plan(move |_, _| {
            calls += 1;
            (calls > stop_at).then_some(Fault::Fail(EIO))
        });
        let written = |operation: &&Vec<u8>| append(&mut writer, operation).is_ok();
        let acknowledged = script.iter().take_while(written).count();
        let in_flight = script.len().min(acknowledged + 1);
        for &fate in fates {
            let after = disk.crash(fate);
            let found = contents(&after);
            assert!(
                found == script[..acknowledged] || found == script[..in_flight],
                "call {stop_at}, {fate:?}"
            );
            // What the first recovery decided stands.
            assert_eq!(contents(&after), found);
            states += 1;
        }
        if acknowledged == script.len() {
            return (states, disk.count(Call::ZeroRange));
        }
    }
    unreachable!("one of the runs is not cut")
}

#[test]
fn a_crash_at_any_call_keeps_what_was_acknowledged_however_the_rest_is_torn() {
    let torn = (8..600).step_by(8).map(Fate::Torn);
    let fates: Vec<_> = FATES.into_iter().chain(torn).collect();
    let (states, declared) = cut_power_at_any_call(&operations(30, 400), &fates);
    println!("{states} crashed states");
    assert!(states > 5000);
    assert_eq!(
        declared, 0,
        "the zeros of small frames' segments are written"
    );
}

#[test]
fn so_does_one_of_large_frames_whose_segments_are_not_written_twice() {
    let script: Vec<_> = (b'a'..b'e').map(|byte| vec![byte; 600_000]).collect();
    let fates = [FATES.as_slice(), &[Fate::Torn(4096), Fate::Torn(300_000)]].concat();
    let (states, declared) = cut_power_at_any_call(&script, &fates);
    println!("{states} crashed states");
    assert!(states > 100);
    assert_eq!(declared, 3, "segments behind the first");
}

/// A process that dies leaves to the next one what only the system's cache holds. Once that was
/// taken for durable: a power cut then took back what had been read, and a frame written behind it
/// made the start refuse a tail that was merely torn.
#[test]
fn what_a_restart_reads_survives_a_power_cut_whatever_the_first_process_had_synced() {
    for policy in [
        SyncPolicy::Always,
        SyncPolicy::EverySecond,
        SyncPolicy::Never,
    ] {
        for count in [1, 5, 9, 30] {
            let all = operations(count, 400);
            let disk = disk_with_policy(&all, SyncPolicy::Never);
            let restarted = LogOptions {
                policy,
                ..options()
            };
            let (mut writer, _, found) = open_with(&disk, &restarted).unwrap();
            assert_eq!(found, all);
            for fate in FATES {
                assert_eq!(
                    contents(&disk.crash(fate)),
                    all,
                    "{policy:?} {count} {fate:?}"
                );
            }
            // The power goes while a frame behind them is written.
            disk.plan(|call, _| (call == Call::SyncData).then_some(Fault::Fail(EIO)));
            let _ = append(&mut writer, &[b'x'; 400]);
            for fate in FATES {
                let found = contents(&disk.crash(fate));
                assert_eq!(found[..count], all, "{policy:?} {count} {fate:?}");
            }
        }
    }
}

#[test]
fn a_restart_after_a_failed_sync_makes_durable_what_it_reads_seals_too() {
    for nth in 1..60 {
        let disk = Disk::default();
        let (mut writer, ..) = open(&disk).unwrap();
        let mut syncs = 0;
        disk.plan(move |call, _| {
            syncs += usize::from(call == Call::SyncData);
            (call == Call::SyncData && syncs == nth).then_some(Fault::Fail(EIO))
        });
        let all = operations(30, 400);
        let _ = all
            .iter()
            .take_while(|operation| append(&mut writer, operation).is_ok())
            .count();
        drop(writer);
        disk.heal();
        let (mut writer, _, mut found) = open(&disk).unwrap();
        append(&mut writer, b"behind").unwrap();
        found.push(b"behind".to_vec());
        for fate in FATES {
            assert_eq!(contents(&disk.crash(fate)), found, "sync {nth}, {fate:?}");
        }
    }
}

#[test]
fn a_log_that_found_no_room_still_closes_in_order() {
    let disk = Disk::default();
    let waits = LogOptions {
        retry_after: Duration::from_secs(60),
        ..options()
    };
    let (mut writer, ..) = open_with(&disk, &waits).unwrap();
    disk.plan(|call, _| (call == Call::Create).then_some(Fault::Fail(ENOSPC)));
    let kept = operations(30, 400)
        .iter()
        .take_while(|o| append(&mut writer, o).is_ok())
        .count();
    assert!(kept < 30);
    writer.close().unwrap();
    assert_eq!(contents(&disk).len(), kept);
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.addr).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    fn ask(&mut self, request: &str) -> String {
        self.stream
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())
            .unwrap();
        let mut reply = String::new();
        self.stream.read_line(&mut reply).unwrap();
        reply.trim_end().to_owned()
    }
}

/// What the log says, folded into a store of its own.
fn folded(disk: &Disk) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
    use postres::command::{Applier, Operation};
    let store: Arc<dyn store::InMemStore> = store::with_shards(1, 0).into();
    let mut applier = Applier::new(Arc::clone(&store), Arc::default(), Arc::default());
    for (bytes, position) in contents(disk).iter().zip(1..) {
        let operation = Operation::decode(bytes).unwrap();
        applier.apply(&operation, position, Default::default());
    }
    contents_of(&*store)
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_resumes_by_itself() {
    for shards in [1, 8] {
        let disk = Disk::default();
        let server = Server::start(&disk, shards);
        let mut client = Client::connect(&server);
        let value = "x".repeat(500);
        let full = Arc::new(AtomicBool::new(true));
        disk.plan({
            let full = Arc::clone(&full);
            // What was given to the log stays: only a new segment finds no room.
            move |call, _| {
                let refused = full.load(Ordering::Relaxed) && call == Call::Create;
                refused.then_some(Fault::Fail(ENOSPC))
            }
        });
        let mut refusal = None;
        for n in 0..100 {
            let reply = client.ask(&format!("SET key:{n} {value}"));
            if reply != "+OK" {
                refusal = Some((n, reply));
                break;
            }
        }
        let (n, reply) = refusal.expect("the disk is full after a few writes");
        assert!(
            reply.starts_with("-MISCONF not saved: ") && reply.contains("No space left"),
            "{reply}"
        );
        assert_eq!(
            client.ask(&format!("GET key:{n}")),
            "-GET could not find key in store"
        );
        assert_eq!(client.ask("GET key:0"), format!("+OK {value}"));
        assert_eq!(client.ask(&format!("EXISTS key:{n} key:0")), "+OK 1");
        full.store(false, Ordering::Relaxed);
        let begun = Instant::now();
        while client.ask("SET after room") != "+OK" {
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "writes do not resume"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let memory = contents_of(&*server.store);
        server.stop().unwrap();
        assert_eq!(memory, folded(&disk));
        assert_eq!(memory.len(), n + 1);
    }
}

#[test]
fn a_write_that_fails_changes_nothing_and_its_neighbours_in_the_pipeline_say_so() {
    let disk = Disk::default();
    let server = Server::start(&disk, 8);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("SET a 1"), "+OK");
    let mut writes = 0;
    disk.plan(move |call, _| {
        writes += usize::from(call == Call::Write);
        (call == Call::Write && writes == 1).then_some(Fault::FailHalfway(EIO))
    });
    client
        .stream
        .get_mut()
        .write_all(b"GET a\nSET a 2\nGET a\nDEL a\nGET a\nPING\n")
        .unwrap();
    let mut replies = Vec::new();
    for _ in 0..6 {
        let mut reply = String::new();
        client.stream.read_line(&mut reply).unwrap();
        replies.push(
            reply
                .chars()
                .take(18)
                .collect::<String>()
                .trim_end()
                .to_owned(),
        );
    }
    assert_eq!(
        replies,
        [
            "+OK 1",
            "-MISCONF not saved",
            "+OK 1",
            "-MISCONF not saved",
            "+OK 1",
            "+PONG"
        ]
    );
    assert_eq!(client.ask("SET a 3"), "+OK");
    let memory = contents_of(&*server.store);
    server.stop().unwrap();
    assert_eq!(memory, folded(&disk));
}

#[test]
fn a_transaction_that_is_not_saved_changes_nothing_and_one_that_watched_its_keys_goes_on() {
    let disk = Disk::default();
    let server = Server::start(&disk, 8);
    let (mut client, mut watcher) = (Client::connect(&server), Client::connect(&server));
    assert_eq!(client.ask("SET a 1"), "+OK");
    assert_eq!(watcher.ask("WATCH a b"), "+OK");
    let mut writes = 0;
    disk.plan(move |call, _| {
        writes += usize::from(call == Call::Write);
        (call == Call::Write && writes == 1).then_some(Fault::FailHalfway(EIO))
    });
    for (request, reply) in [
        ("MULTI", "+OK"),
        ("SET a 2", "+QUEUED"),
        ("GET a", "+QUEUED"),
        ("INCR b", "+QUEUED"),
    ] {
        assert_eq!(client.ask(request), reply);
    }
    let refusal = client.ask("EXEC");
    assert!(refusal.starts_with("-MISCONF not saved: "), "{refusal}");
    assert_eq!(client.ask("GET a"), "+OK 1");
    assert_eq!(client.ask("EXISTS b"), "+OK 0");
    // It is over, and nobody's key was changed.
    assert_eq!(client.ask("EXEC"), "-ERR EXEC without MULTI");
    assert_eq!(watcher.ask("MULTI"), "+OK");
    assert_eq!(watcher.ask("APPEND a 0"), "+QUEUED");
    assert_eq!(watcher.ask("EXEC"), "+OK 1");
    let mut length = String::new();
    watcher.stream.read_line(&mut length).unwrap();
    assert_eq!(length, "2\n");
    assert_eq!(client.ask("GET a"), "+OK 10");
    let memory = contents_of(&*server.store);
    server.stop().unwrap();
    assert_eq!(memory, folded(&disk));
}

#[test]
fn nothing_is_acknowledged_after_a_failed_sync_and_the_server_ends() {
    let disk = Disk::default();
    let server = Server::start(&disk, 8);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("SET kept 1"), "+OK");
    let mut others = [0; 10].map(|_| Client::connect(&server));
    disk.plan(|call, _| (call == Call::SyncData).then_some(Fault::Fail(EIO)));
    for (n, other) in others.iter_mut().enumerate() {
        other
            .stream
            .get_mut()
            .write_all(format!("SET lost:{n} 1\nGET kept\n").as_bytes())
            .unwrap();
    }
    for other in &mut others {
        let mut replies = Vec::new();
        // A reset is as good an end as an error reply: what counts is that no OK comes.
        let _ = other.stream.read_to_end(&mut replies);
        let replies = String::from_utf8(replies).unwrap();
        assert!(!replies.lines().any(|line| line == "+OK"), "{replies}");
    }
    let store = Arc::clone(&server.store);
    match server.ended() {
        Err(EngineFailure::Log(error @ AppendError::Failed { .. })) => {
            let text = error.to_string();
            assert!(
                text.contains("syncing dir/wal_file") && text.contains("os error 5"),
                "{text}"
            );
        }
        ended => panic!("{ended:?}"),
    }
    assert_eq!(store.len(), 1, "memory holds only what is durable");
    disk.heal();
    assert_eq!(contents(&disk.crash(Fate::Lost)).len(), 1);
}
