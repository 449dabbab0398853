//! Which writes share a sync.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use postres::command::Operation;
use postres::engine::{Applied, Batch, CompactionOptions, Engine, Recipient, Running, Stopped};
use postres::store;
use postres::wal::frame::push_operation;
use postres::wal::group_commit::{self, Submission};

use crate::disk::Disk;
use crate::support::client::Client;
use crate::support::log::{open, options};
use crate::support::server::Server;

fn engine(disk: &Disk) -> (Arc<Engine>, Running) {
    let store = store::with_shards(8, 0).into();
    let (engine, running, _) = Engine::recover(
        store,
        Arc::new(disk.clone()),
        &options(),
        CompactionOptions::default(),
    )
    .unwrap();
    (Arc::new(engine), running)
}

fn batch(n: u32) -> Batch {
    let mut batch = Batch::default();
    batch.write(&Operation::Set {
        key: &n.to_le_bytes(),
        value: b"v".as_slice().into(),
    });
    batch
}

async fn set(engine: &Engine, n: u32) {
    engine.submit(batch(n)).await.unwrap();
}

#[tokio::test]
async fn writes_that_are_ready_together_share_one_sync() {
    const ROUNDS: usize = 11;
    let mut in_one = 0;
    for _ in 0..ROUNDS {
        let (engine, _running) = engine(&Disk::default());
        let writers = (0..40).map(|n| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move { set(&engine, n).await })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        in_one += usize::from(engine.groups_applied() == 1);
    }
    // Where to submit them takes milliseconds, the log does not wait for all.
    assert!(in_one > ROUNDS / 2, "{in_one} times of {ROUNDS}");
}

#[tokio::test]
async fn a_write_is_committed_though_the_runtime_never_comes_to_rest() {
    let (engine, _running) = engine(&Disk::default());
    let done = Arc::new(AtomicBool::new(false));
    let (seen, busy) = (Arc::clone(&done), Arc::clone(&engine));
    // Others write all the time, too: there is always more to come.
    let others = tokio::spawn(async move {
        let mut n = 1;
        while !seen.load(Ordering::Relaxed) {
            let busy = Arc::clone(&busy);
            tokio::spawn(async move { set(&busy, n).await });
            n += 1;
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..20 {
        let lone = tokio::time::timeout(Duration::from_secs(60), set(&engine, 0));
        lone.await.expect("the group is committed");
    }
    done.store(true, Ordering::Relaxed);
    others.await.unwrap();
}

#[test]
fn one_thread_stays_awake_while_a_group_of_many_is_committed_quickly() {
    const ROUNDS: usize = 21;
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        // On one core it never does.
        return;
    }
    let rests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&rests);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    let disk = Disk::default();
    let (engine, _running) = runtime.block_on(async { engine(&disk) });
    // Long enough to rest, and no longer than it stays awake.
    disk.slow_syncs(Duration::from_micros(100));
    // In how many rounds of so many who write at once the thread rested.
    let rested = |writers: u32| {
        let round = || {
            let before = rests.load(Ordering::Relaxed);
            runtime.block_on(async {
                let write = |n| {
                    let engine = Arc::clone(&engine);
                    tokio::spawn(async move { set(&engine, n).await })
                };
                for writer in (0..writers).map(write).collect::<Vec<_>>() {
                    writer.await.unwrap();
                }
            });
            rests.load(Ordering::Relaxed) > before
        };
        (0..ROUNDS).filter(|_| round()).count()
    };
    // While the machine is busy any commit may take long, and where others want its core the thread does not stay
    // awake for a while. Where they want it all the time there is nothing to see.
    let wanted_by_others = || {
        let begun = Instant::now();
        (0..20).for_each(|_| std::thread::yield_now());
        begun.elapsed() > Duration::from_micros(500)
    };
    let mut rested_for_nobody = 0;
    for _ in 0..150 {
        if rested(10) < ROUNDS / 2 {
            rested_for_nobody = 0;
            break;
        }
        rested_for_nobody += u32::from(!wanted_by_others());
        if rested_for_nobody == 100 {
            break;
        }
        std::thread::sleep(Duration::from_millis(350));
    }
    assert!(rested_for_nobody < 100, "it rests");
    for few in [1, 4] {
        let for_few = rested(few);
        assert!(for_few > ROUNDS / 2, "rested {for_few} times of {ROUNDS}");
    }
    disk.slow_syncs(Duration::from_millis(2));
    let for_long = rested(10);
    assert!(for_long > ROUNDS / 2, "rested {for_long} times of {ROUNDS}");
}

/// Who is told, and in which order.
#[derive(Debug)]
struct Told(u32, mpsc::Sender<u32>);

impl Recipient for Told {
    fn receive(&self, applied: Result<Applied, Stopped>) {
        assert!(applied.is_ok());
        self.1.send(self.0).unwrap();
    }
}

/// Submits batches on the one thread that serves clients, each while the one before is being synced, and says who was
/// told while that thread was busy, and who afterwards.
fn told_meanwhile(batches: u32) -> (Vec<u32>, Vec<u32>) {
    const SYNC: Duration = Duration::from_millis(200);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let disk = Disk::default();
        let (engine, mut running) = engine(&disk);
        disk.slow_syncs(SYNC);
        let (told, who) = mpsc::channel();
        for n in 0..batches {
            let recipient = Arc::new(Told(n, told.clone()));
            engine.try_submit(batch(n), || recipient).unwrap();
            std::thread::sleep(SYNC / 2);
        }
        std::thread::sleep(4 * SYNC);
        let meanwhile = who.try_iter().collect();
        engine.close();
        running.ended().await.unwrap();
        (meanwhile, who.try_iter().collect())
    })
}

#[test]
fn a_batch_with_which_there_is_no_other_is_carried_out_by_the_log_s_thread() {
    assert_eq!(told_meanwhile(1), (vec![0], vec![]));
    assert_eq!(told_meanwhile(2), (vec![], vec![0, 1]));
}

/// So many operations to be made durable together.
fn submission(ticket: u32, count: u32) -> Submission<u32> {
    let mut operations = Vec::new();
    for _ in 0..count {
        push_operation(&mut operations, |out| out.push(1));
    }
    Submission {
        operations,
        count,
        removes: group_commit::Removes::No,
        away: None,
        ticket,
    }
}

#[test]
fn a_group_that_nobody_says_is_complete_is_committed_all_the_same() {
    let (writer, ..) = open(&Disk::default()).unwrap();
    let (committed, groups) = mpsc::channel();
    let deliver = move |group: group_commit::Group<u32>| {
        group.outcome.unwrap();
        committed.send(group.submissions[0].ticket).unwrap();
    };
    let (submitter, log) = group_commit::start(writer, deliver).unwrap();
    // Once while the log's thread still watches, then when it has gone to sleep.
    for ticket in 0..6 {
        assert!(submitter.submit(submission(ticket, 1)).unwrap());
        let group = groups.recv_timeout(Duration::from_secs(60));
        assert_eq!(group, Ok(ticket));
        if ticket % 2 == 1 {
            std::thread::sleep(Duration::from_millis(30));
        }
    }
    drop(submitter);
    log.join().unwrap().unwrap();
}

#[test]
fn a_group_is_complete_when_it_has_enough_or_is_as_large_as_whoever_submits_wants_it() {
    let (writer, ..) = open(&Disk::default()).unwrap();
    let (go_on, waits) = mpsc::channel();
    let (committed, groups) = mpsc::channel();
    let deliver = move |group: group_commit::Group<u32>| {
        committed.send(group.submissions.len()).unwrap();
        // What comes meanwhile is not committed.
        waits.recv().unwrap();
    };
    let (submitter, log) = group_commit::start(writer, deliver).unwrap();
    let submit = |count| submitter.submit(submission(0, count)).unwrap();
    let far = || {
        let gathered = submitter.gathered();
        (gathered.submissions, gathered.complete)
    };
    let next = || groups.recv_timeout(Duration::from_secs(60));
    submit(1);
    submitter.complete();
    assert_eq!(next(), Ok(1));
    assert_eq!(far(), (1, true), "it is gone");

    // Nothing is complete that is not there.
    submitter.complete();
    for _ in 0..47 {
        submit(1);
    }
    assert_eq!(far(), (47, false));
    submit(1);
    assert_eq!(far(), (48, true), "enough submissions");
    submit(1);
    go_on.send(()).unwrap();
    assert_eq!(next(), Ok(49));
    assert_eq!(submitter.last_two(), [1, 49]);

    submit(128);
    assert_eq!(far(), (1, true), "enough operations of one");
    assert_eq!(submitter.last_two(), [49, 1]);
    go_on.send(()).unwrap();
    assert_eq!(next(), Ok(1));
    for _ in 0..8 {
        submit(15);
    }
    assert_eq!(far(), (8, false), "too few");
    submit(8);
    assert_eq!(far(), (9, true), "enough operations");
    go_on.send(()).unwrap();
    assert_eq!(next(), Ok(9));

    for _ in 0..7 {
        submit(1);
    }
    submitter.complete_of(8);
    assert_eq!(far(), (7, false));
    submit(1);
    submitter.complete_of(8);
    assert_eq!(far(), (8, true));
    go_on.send(()).unwrap();
    assert_eq!(next(), Ok(8));
    assert_eq!(submitter.last_two(), [9, 8]);
    go_on.send(()).unwrap();
    drop(submitter);
    log.join().unwrap().unwrap();
}

/// Five clients write once behind each of these pauses, to a disk that takes long. Then one of them writes again,
/// alone, to a disk that is quick now: says how long that takes.
fn one_of_a_group_comes_back(pauses: &[u64]) -> Duration {
    let disk = Disk::default();
    let server = Server::start(&disk, 8);
    let mut clients = [(); 5].map(|()| Client::connect(server.addr));
    disk.slow_syncs(Duration::from_millis(20));
    for &pause in pauses {
        std::thread::sleep(Duration::from_millis(pause));
        for client in &mut clients {
            client.send(b"SET key value\n");
        }
        for client in &mut clients {
            assert_eq!(client.reply(), "+OK");
        }
    }
    disk.slow_syncs(Duration::ZERO);
    let begun = Instant::now();
    assert_eq!(clients[4].request("SET key value"), "+OK");
    let took = begun.elapsed();
    server.stop().unwrap();
    took
}

#[test]
fn a_group_waits_for_those_who_came_back_soon_the_last_time_and_for_nobody_else() {
    // However long a sync takes, 5 ms is the longest that is waited for anybody.
    let waited = Duration::from_millis(4);
    let times = |pauses: &[u64]| {
        let mut times = [(); 9].map(|()| one_of_a_group_comes_back(pauses));
        times.sort_unstable();
        times
    };
    // Of the first group nothing is known, and those before count for as much as the last.
    let often = [0; 15];
    let soon = times(&often);
    assert!(soon[4] > waited, "mostly: {soon:?}");
    let once_late = [&often[..], &[15]].concat();
    for pauses in [&once_late[..], &[0, 0], &[0]] {
        let late = times(pauses);
        assert!(late[4] < waited, "mostly, behind {pauses:?}: {late:?}");
    }
}
