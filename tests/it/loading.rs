//! What clients are told while the log is being read, and what of saving they can ask for.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use postres::engine::{CompactionOptions, Engine};
use postres::server::{self, Limits};
use postres::store;
use postres::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::disk::Disk;
use crate::support::client::Client;
use crate::support::log::options;
use crate::support::process::{self, eventually};

/// The lines of INFO's section.
fn info(client: &mut Client, section: &str) -> Vec<String> {
    client.list(&format!("INFO {section}"))
}

fn field(client: &mut Client, section: &str, name: &str) -> String {
    let lines = info(client, section);
    let prefix = format!("{name}:");
    let line = lines.iter().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("no {name} in {lines:?}"))
        .to_owned()
}

#[test]
fn while_the_log_is_read_clients_are_told_so_and_afterwards_they_are_served() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let clock = Arc::new(|| Timestamp(1_700_000_000_000));
        let engine = Arc::new(Engine::loading(store::with_shards(8, 0).into(), clock));
        let listener = server::listen(([127, 0, 0, 1], 0).into()).unwrap();
        let addr = listener.local_addr().unwrap();
        let limits = Limits {
            max_connections: 10,
            shutdown_timeout: Duration::from_secs(5),
        };
        let stop = CancellationToken::new();
        let own = Arc::clone(&engine);
        let server = server::start(vec![listener], own, limits, Arc::default(), stop.clone());

        // The log is being read for as long as its disk does not answer.
        let (disk, (go_on, told)) = (Disk::default(), mpsc::channel::<()>());
        let (begun, has_begun) = mpsc::channel();
        disk.plan(move |_, _| {
            // Nobody may wait for it any more.
            let _ = begun.send(());
            let _ = told.recv();
            None
        });
        let loading = Arc::clone(&engine);
        let loading = tokio::task::spawn_blocking(move || {
            loading.load(Arc::new(disk), &options(), CompactionOptions::default())
        });
        let mut client = tokio::task::spawn_blocking(move || {
            has_begun.recv().unwrap();
            let mut client = Client::connect(addr);
            for request in [
                "SET a 1", "GET a", "DEL a", "WATCH a", "SAVE", "BGSAVE", "DBSIZE",
            ] {
                let reply = client.request(request);
                assert!(reply.starts_with("-LOADING "), "{request}: {reply}");
            }
            client.send(b"GET a\nGET a\n");
            for reply in [client.reply(), client.reply()] {
                assert!(reply.starts_with("-LOADING "), "of two at a time: {reply}");
            }
            assert_eq!(field(&mut client, "persistence", "loading"), "1");
            for request in ["HELLO 2", "CONFIG GET port", "CLIENT ID", "COMMAND COUNT"] {
                let reply = Client::connect(addr).request(request);
                assert!(!reply.starts_with('-'), "{request}: {reply}");
            }
            // Whatever of it would be refused now is not put off until later.
            assert_eq!(client.request("MULTI"), "+OK");
            assert!(client.request("SET a 1").starts_with("-LOADING "));
            assert!(client.request("EXEC").starts_with("-EXECABORT "));
            // It looks at no key, and so must not wait for those who change some.
            assert_eq!(client.request("MULTI"), "+OK");
            assert_eq!(client.request("TIME"), "+QUEUED");
            assert_eq!(client.request("EXEC"), "+OK 2");
            client.reply();
            client.reply();
            client
        })
        .await
        .unwrap();

        drop(go_on);
        let (running, _) = loading.await.unwrap().unwrap();
        let asked = tokio::task::spawn_blocking(move || {
            assert_eq!(client.request("SET a 1"), "+OK");
            assert_eq!(client.request("GET a"), "+OK 1");
            assert_eq!(field(&mut client, "persistence", "loading"), "0");
            stop.cancel();
        });
        server.serve(running).await.unwrap();
        asked.await.unwrap();
    });
}

#[test]
fn saving_writes_a_snapshot_removes_the_log_before_it_and_shows_in_info() {
    let dir = tempfile::tempdir().unwrap();
    let server = process::Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let value = "v".repeat(100_000);
    for n in 0..40 {
        assert_eq!(client.request(&format!("SET key{n} {value}")), "+OK");
    }
    assert_eq!(field(&mut client, "log", "snapshots_finished"), "0");
    assert_eq!(
        field(&mut client, "persistence", "rdb_changes_since_last_save"),
        "40"
    );
    let before = process::segments(dir.path());
    assert_eq!(client.request("SAVE"), "+OK");
    let after = process::segments(dir.path());
    assert!(before.len() > 3 && after.len() == 1, "{before:?} {after:?}");
    assert_eq!(field(&mut client, "log", "snapshot_last_lsn"), "40");
    assert_eq!(
        field(&mut client, "persistence", "rdb_changes_since_last_save"),
        "0"
    );
    assert_eq!(
        field(&mut client, "persistence", "rdb_last_bgsave_status"),
        "ok"
    );

    assert_eq!(client.request("BGSAVE"), "+Background saving started");
    assert!(eventually(|| field(
        &mut client,
        "log",
        "snapshots_finished"
    ) == "2"));
    assert!(
        client
            .request("BGREWRITEAOF")
            .starts_with("+Background append only")
    );
    assert!(eventually(|| field(
        &mut client,
        "log",
        "snapshots_finished"
    ) == "3"));
    assert_eq!(client.request("BGSAVE NOW"), "-ERR syntax error");

    client.send(b"SET last x\n");
    assert_eq!(client.reply(), "+OK");
    server.kill();
    let server = process::Server::start(dir.path(), &[]);
    let mut client = server.connect();
    assert_eq!(client.request("DBSIZE"), "+OK 41");
    assert_eq!(client.request("GET key39"), format!("+OK {value}"));
    assert_eq!(client.request("GET last"), "+OK x");
    server.stop();
}

#[test]
fn a_snapshot_that_is_cancelled_leaves_nothing_and_the_next_one_is_whole() {
    const NONE: &str = "-ERR Background saving is currently not in progress or scheduled";
    let dir = tempfile::tempdir().unwrap();
    let server = process::Server::start(dir.path(), &[]);
    let mut client = server.connect();
    assert_eq!(client.request("BGSAVE CANCEL"), NONE);
    // So many take a second.
    for first in (0..20_000).step_by(1000) {
        let sets = (first..first + 1000).map(|n| format!("SET key:{n} value\n"));
        client.send(sets.collect::<String>().as_bytes());
        (0..1000).for_each(|_| assert_eq!(client.reply(), "+OK"));
    }
    assert_eq!(client.request("BGSAVE"), "+Background saving started");
    let cancelled = client.request("BGSAVE CANCEL");
    assert_eq!(cancelled, "+Background saving cancelled");
    assert!(eventually(|| client.request("BGSAVE CANCEL") == NONE));
    assert_eq!(field(&mut client, "log", "snapshots_finished"), "0");
    let status = field(&mut client, "persistence", "rdb_last_bgsave_status");
    assert_eq!(status, "ok");
    let left = process::file_names(dir.path());
    assert!(
        !left.iter().any(|name| name.contains("snapshot")),
        "{left:?}"
    );

    assert_eq!(client.request("SAVE"), "+OK");
    server.kill();
    let server = process::Server::start(dir.path(), &[]);
    assert_eq!(server.connect().request("DBSIZE"), "+OK 20000");
    server.stop();
}

#[test]
fn who_has_sent_all_it_will_send_still_hears_that_all_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let server = process::Server::start(dir.path(), &[]);
    let mut client = server.connect();
    client.send(b"SET a 1\nSAVE\nGET a\n");
    client.half_close();
    let replies = [client.reply(), client.reply(), client.reply()];
    assert_eq!(replies, ["+OK", "+OK", "+OK 1"]);
    server.stop();
}

#[test]
fn a_log_that_grows_is_compacted_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-compact-mib", "2"];
    let server = process::Server::start(dir.path(), &flags);
    let mut client = server.connect();
    let value = "v".repeat(100_000);
    let mut most = 0;
    for n in 0..300 {
        assert_eq!(client.request(&format!("SET key{} {value}", n % 3)), "+OK");
        most = most.max(process::segments(dir.path()).len());
    }
    assert!(eventually(|| process::segments(dir.path()).len() <= 3));
    let finished: u32 = field(&mut client, "log", "snapshots_finished")
        .parse()
        .unwrap();
    assert!(
        finished >= 2,
        "{finished} snapshots, at most {most} segments"
    );
    server.stop();
}
