//! fred, with each protocol (RESP2 is its default). Each test empties the server, so they run one
//! at a time.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fred::cmd;
use fred::error::ErrorKind;
use fred::prelude::*;
use fred::types::{InfoKind, RespVersion, Value};
use futures::TryStreamExt;
use futures::future::join_all;
use postres_rust_clients::{every_byte, five_mb, locked, open};

fn config(protocol: &RespVersion) -> Config {
    let (host, port) = open();
    Config {
        server: ServerConfig::new_centralized(host, port),
        version: protocol.clone(),
        ..Config::default()
    }
}

/// Without trying again: a test that fails should do so soon.
async fn connect_with(config: Config) -> FredResult<Client> {
    let client = Client::new(config, None, None, None);
    client.init().await?;
    Ok(client)
}

async fn connect(protocol: &RespVersion) -> Client {
    connect_with(config(protocol)).await.unwrap()
}

fn with_each_protocol(test: impl AsyncFn(&Client, &RespVersion)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for protocol in [RespVersion::RESP2, RespVersion::RESP3] {
            println!("{protocol:?}");
            let client = connect(&protocol).await;
            let _: () = client.flushall(false).await.unwrap();
            test(&client, &protocol).await;
            client.quit().await.unwrap();
        }
    });
}

async fn eventually(holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(5), "waited in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn take(client: &Client, name: &str, millis: i64) -> bool {
    let (expiry, options) = (Some(Expiration::PX(millis)), Some(SetOptions::NX));
    let reply: Option<String> = client
        .set("lock", name, expiry, options, false)
        .await
        .unwrap();
    reply.is_some()
}

async fn give(client: &Client, name: &str) -> bool {
    client
        .custom(cmd!("DELIFEQ"), vec!["lock", name])
        .await
        .unwrap()
}

#[test]
fn the_protocol_that_was_chosen_is_spoken() {
    with_each_protocol(async |client, protocol| {
        let info: String = client.client_info().await.unwrap();
        let spoken = if *protocol == RespVersion::RESP2 {
            2
        } else {
            3
        };
        assert!(info.contains(&format!(" resp={spoken}")), "{info}");
    });
}

#[test]
fn values_come_back() {
    with_each_protocol(async |client, _| {
        assert_eq!(client.ping::<String>(None).await.unwrap(), "PONG");
        let _: () = client
            .set("city", "Lisbon", None, None, false)
            .await
            .unwrap();
        assert_eq!(client.get::<String, _>("city").await.unwrap(), "Lisbon");
        assert_eq!(
            client.get::<Option<String>, _>("absent").await.unwrap(),
            None
        );
        let _: () = client.mset(vec![("a", "1"), ("b", "2.5")]).await.unwrap();
        let values: Vec<Option<String>> = client.mget(vec!["a", "absent", "b"]).await.unwrap();
        assert_eq!(values, [Some("1".to_owned()), None, Some("2.5".to_owned())]);
        assert_eq!(client.incr_by_float::<f64, _>("b", 0.5).await.unwrap(), 3.0);
        assert_eq!(
            client
                .del::<i64, _>(vec!["a", "b", "absent"])
                .await
                .unwrap(),
            2
        );
    });
}

#[test]
fn a_pipeline_answers_in_order() {
    with_each_protocol(async |client, _| {
        let pipeline = client.pipeline();
        for i in 0..1000 {
            let _: () = pipeline
                .set(i.to_string(), i, None, None, false)
                .await
                .unwrap();
            let _: () = pipeline.get(i.to_string()).await.unwrap();
            let _: () = pipeline.incr("count").await.unwrap();
        }
        let replies: Vec<String> = pipeline.all().await.unwrap();
        let of = |i: i32| ["OK".to_owned(), i.to_string(), (i + 1).to_string()];
        assert_eq!(replies, (0..1000).flat_map(of).collect::<Vec<_>>());
    });
}

#[test]
fn a_transaction_is_carried_out_as_one() {
    with_each_protocol(async |client, _| {
        let transaction = client.multi();
        let _: Value = transaction.set("k", "v", None, None, false).await.unwrap();
        let _: Value = transaction.get("k").await.unwrap();
        let _: Value = transaction.incr("n").await.unwrap();
        let replies: (String, String, i64) = transaction.exec(true).await.unwrap();
        assert_eq!(replies, ("OK".to_owned(), "v".to_owned(), 1));
    });
}

#[test]
fn a_watched_key_that_changes_makes_the_transaction_run_again() {
    with_each_protocol(async |client, protocol| {
        let (other, mut runs) = (connect(protocol).await, Vec::new());
        let _: () = client.set("n", 1, None, None, false).await.unwrap();
        loop {
            client.watch("n").await.unwrap();
            let n: i64 = client.get("n").await.unwrap();
            if runs.is_empty() {
                let _: () = other.set("n", 10, None, None, false).await.unwrap();
            }
            runs.push(n);
            let transaction = client.multi();
            let _: Value = transaction
                .set("n", n * 2, None, None, false)
                .await
                .unwrap();
            let done: Value = transaction.exec(true).await.unwrap();
            if !done.is_null() {
                break;
            }
        }
        assert_eq!(runs, [1, 10]);
        assert_eq!(client.get::<i64, _>("n").await.unwrap(), 20);
    });
}

#[test]
fn a_scan_returns_every_key() {
    with_each_protocol(async |client, _| {
        let keys: HashSet<String> = (0..1000).map(|i| format!("scan:{i}")).collect();
        let pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), "")).collect();
        let _: () = client.mset(pairs).await.unwrap();
        let _: () = client.set("other", "", None, None, false).await.unwrap();
        let scan = client.scan_buffered("scan:*", Some(100), None);
        let found: Vec<Key> = scan.try_collect().await.unwrap();
        let found: HashSet<String> = found
            .into_iter()
            .map(|key| key.into_string().unwrap())
            .collect();
        assert_eq!(found, keys);
    });
}

#[test]
fn a_lock_is_held_by_one_until_it_is_given_back_or_expires() {
    with_each_protocol(async |client, protocol| {
        let other = connect(protocol).await;
        assert!(take(client, "mine", 30_000).await && !take(&other, "theirs", 30_000).await);
        assert!(!give(&other, "theirs").await && give(client, "mine").await);
        assert!(take(client, "mine", 100).await);
        eventually(async || take(&other, "theirs", 30_000).await).await;
        assert!(!give(client, "mine").await);
        assert_eq!(client.get::<String, _>("lock").await.unwrap(), "theirs");
    });
}

#[test]
fn keys_and_values_are_any_bytes() {
    with_each_protocol(async |client, _| {
        let (key, mut value) = (every_byte(), every_byte());
        value.reverse();
        let (key, value) = (key.as_slice(), Value::Bytes(value.into()));
        let _: () = client
            .set(key, value.clone(), None, None, false)
            .await
            .unwrap();
        assert_eq!(client.get::<Value, _>(key).await.unwrap(), value);
        let found: Vec<Key> = client
            .scan_buffered("*", None, None)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(found, [Key::from(key)]);
    });
}

#[test]
fn five_megabytes_pass_whole() {
    with_each_protocol(async |client, _| {
        let large = Value::Bytes(five_mb().into());
        let _: () = client
            .set("large", large.clone(), None, None, false)
            .await
            .unwrap();
        let pipeline = client.pipeline();
        let _: () = pipeline
            .set("other", large.clone(), None, None, false)
            .await
            .unwrap();
        let _: () = pipeline.get("large").await.unwrap();
        let _: () = pipeline.get("other").await.unwrap();
        let (_, one, two): (Value, Value, Value) = pipeline.all().await.unwrap();
        assert!(
            one == large && two == large,
            "a large value came back changed"
        );
    });
}

#[test]
fn racing_increments_are_all_counted() {
    with_each_protocol(async |client, protocol| {
        let clients = join_all((0..20).map(|_| connect(protocol))).await;
        let count = |client: Client| async move {
            for _ in 0..100 {
                let _: i64 = client.incr("n").await.unwrap();
            }
        };
        let tasks: Vec<_> = clients
            .into_iter()
            .map(|client| tokio::spawn(count(client)))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(client.get::<i64, _>("n").await.unwrap(), 2000);
    });
}

#[test]
fn errors_arrive_as_errors_and_the_connection_stays_usable() {
    with_each_protocol(async |client, _| {
        let before: i64 = client.client_id().await.unwrap();
        let _: () = client.set("k", "text", None, None, false).await.unwrap();
        let error = client.incr::<i64, _>("k").await.unwrap_err();
        assert_eq!(
            error.details(),
            "ERR value is not an integer or out of range"
        );
        let error = client
            .custom::<Value, _>(cmd!("NOSUCHCOMMAND"), vec!["a"])
            .await
            .unwrap_err();
        let want = "ERR unknown command 'NOSUCHCOMMAND', with args beginning with: 'a' ";
        assert_eq!(error.details().trim_end(), want.trim_end());
        assert_eq!(client.get::<String, _>("k").await.unwrap(), "text");
        assert_eq!(client.client_id::<i64>().await.unwrap(), before);
    });
}

#[test]
fn the_server_tells_about_itself() {
    with_each_protocol(async |client, _| {
        let expiry = Some(Expiration::EX(100));
        let _: () = client.set("k", "v", expiry, None, false).await.unwrap();
        let info: String = client.info(None).await.unwrap();
        assert!(info.contains("\r\nloading:0\r\n"), "{info}");
        let keyspace: String = client.info(Some(InfoKind::Keyspace)).await.unwrap();
        assert!(keyspace.contains("db0:keys=1,expires=1,"), "{keyspace}");
        assert!(
            client.server_version().is_some(),
            "fred read no version out of INFO"
        );
    });
}

#[test]
fn a_client_has_a_name_and_an_id() {
    with_each_protocol(async |client, _| {
        client.client_setname("named").await.unwrap();
        assert_eq!(client.client_getname::<String>().await.unwrap(), "named");
        let id: i64 = client.client_id().await.unwrap();
        let info: String = client.client_info().await.unwrap();
        assert!(
            info.starts_with(&format!("id={id} ")) && info.contains(" name=named "),
            "{info}"
        );
    });
}

#[test]
fn keys_expire() {
    with_each_protocol(async |client, _| {
        let expiry = Some(Expiration::PX(100));
        let _: () = client.set("k", "v", expiry, None, false).await.unwrap();
        let expiry = Some(Expiration::EX(100));
        let _: () = client.set("kept", "v", expiry, None, false).await.unwrap();
        let left: i64 = client.pttl("kept").await.unwrap();
        assert!((90_000..=100_000).contains(&left), "{left}");
        eventually(async || {
            client
                .get::<Option<String>, _>("k")
                .await
                .unwrap()
                .is_none()
        })
        .await;
        assert_eq!(client.ttl::<i64, _>("k").await.unwrap(), -2);
    });
}

#[test]
fn a_password_is_asked_for() {
    let Some((host, port, password)) = locked() else {
        return;
    };
    with_each_protocol(async |_, protocol| {
        let with = |username: Option<&str>, password: Option<&str>| {
            connect_with(Config {
                server: ServerConfig::new_centralized(host.clone(), port),
                username: username.map(str::to_owned),
                password: password.map(str::to_owned),
                ..config(protocol)
            })
        };
        for username in [None, Some("default")] {
            let client = with(username, Some(&password)).await.unwrap();
            assert_eq!(client.ping::<String>(None).await.unwrap(), "PONG");
            client.quit().await.unwrap();
        }
        for password in [None, Some("wrong")] {
            let error = with(None, password).await.err().unwrap();
            assert_eq!(*error.kind(), ErrorKind::Auth, "{error:?}");
        }
    });
}
