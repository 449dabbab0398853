//! redis-rs: its blocking connection and its multiplexed one, with each protocol (RESP2 is its
//! default). Each test empties the server, so they run one at a time.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use postres_rust_clients::{every_byte, five_mb, locked, open};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncCommands, Client, Commands, Connection, ConnectionAddr, ConnectionInfo, ErrorKind,
    ExistenceCheck, InfoDict, IntoConnectionInfo, ProtocolVersion, RedisError, RedisResult,
    ScanOptions, ServerErrorKind, SetExpiry, SetOptions, Value, cmd, pipe,
};

/// A server that the test has emptied, and the protocol that is spoken with it.
struct Server {
    info: ConnectionInfo,
    protocol: ProtocolVersion,
}

impl Server {
    fn client(&self) -> Client {
        Client::open(self.info.clone()).unwrap()
    }

    fn connect(&self) -> Connection {
        self.client().get_connection().unwrap()
    }

    async fn connect_multiplexed(&self) -> MultiplexedConnection {
        let client = self.client();
        client.get_multiplexed_async_connection().await.unwrap()
    }
}

fn with_each_protocol(test: impl Fn(&Server)) {
    for protocol in [ProtocolVersion::RESP2, ProtocolVersion::RESP3] {
        println!("{protocol:?}");
        let (host, port) = open();
        let info = ConnectionAddr::Tcp(host, port)
            .into_connection_info()
            .unwrap();
        let settings = info.redis_settings().clone().set_protocol(protocol);
        let server = Server {
            info: info.set_redis_settings(settings),
            protocol,
        };
        let _: () = server.connect().flushall().unwrap();
        test(&server);
    }
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(5), "waited in vain");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The code and the text of what must be an error reply.
fn refusal<T: std::fmt::Debug>(result: RedisResult<T>) -> String {
    let error: RedisError = result.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Server(_)), "{error:?}");
    format!("{} {}", error.code().unwrap(), error.detail().unwrap())
}

#[test]
fn the_protocol_that_was_chosen_is_spoken() {
    with_each_protocol(|server| {
        let info: String = cmd("CLIENT")
            .arg("INFO")
            .query(&mut server.connect())
            .unwrap();
        let spoken = if server.protocol == ProtocolVersion::RESP2 {
            2
        } else {
            3
        };
        assert!(info.contains(&format!(" resp={spoken}")), "{info}");
        assert!(info.contains(" lib-name=redis-rs"), "{info}");
    });
}

#[test]
fn values_come_back() {
    with_each_protocol(|server| {
        let mut r = server.connect();
        assert_eq!(cmd("PING").query(&mut r), Ok("PONG".to_owned()));
        assert_eq!(r.set("city", "Lisbon"), Ok("OK".to_owned()));
        assert_eq!(r.get("city"), Ok(Some("Lisbon".to_owned())));
        assert_eq!(r.get("absent"), Ok(None::<String>));
        assert_eq!(r.set_nx("city", "Porto"), Ok(false));
        assert_eq!(r.mset(&[("a", "1"), ("b", "2.5")]), Ok(()));
        assert_eq!(r.mget(&["a", "absent", "b"]), Ok((1, None::<String>, 2.5)));
        assert_eq!(r.incr("b", 0.5), Ok(3.0));
        assert_eq!(r.del(&["a", "b", "absent"]), Ok(2));
    });
}

#[test]
fn a_pipeline_answers_in_order() {
    with_each_protocol(|server| {
        let mut pipe = pipe();
        for i in 0..1000 {
            pipe.set(i, i).ignore().get(i).incr("count", 1);
        }
        let replies: Vec<i64> = pipe.query(&mut server.connect()).unwrap();
        let want: Vec<i64> = (0..1000).flat_map(|i| [i, i + 1]).collect();
        assert_eq!(replies, want);
    });
}

#[test]
fn a_transaction_is_carried_out_as_one() {
    with_each_protocol(|server| {
        let mut r = server.connect();
        let mut pipe = pipe();
        pipe.atomic()
            .set("k", "v")
            .ignore()
            .get("k")
            .incr("n", 1)
            .get("n");
        assert_eq!(pipe.query(&mut r), Ok(("v".to_owned(), 1, 1)));
        pipe.clear();
        pipe.atomic().incr("k", 1).incr("n", 1);
        assert!(pipe.query::<Value>(&mut r).is_err());
        assert_eq!(r.get("n"), Ok(2), "one that fails does not stop the others");
    });
}

#[test]
fn a_transaction_with_an_unknown_command_is_not_begun() {
    with_each_protocol(|server| {
        let mut r = server.connect();
        let mut pipe = pipe();
        pipe.atomic().set("k", "v").cmd("NOSUCHCOMMAND");
        let error = pipe.query::<Value>(&mut r).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ExecAbort),
            "{error:?}"
        );
        assert_eq!(r.get("k"), Ok(None::<String>));
    });
}

#[test]
fn a_watched_key_that_changes_makes_the_transaction_run_again() {
    with_each_protocol(|server| {
        let (mut r, mut other, mut runs) = (server.connect(), server.connect(), Vec::new());
        let _: () = r.set("n", 1).unwrap();
        let (n,): (i64,) = redis::transaction(&mut r, &["n"], |r, pipe| {
            let n: i64 = r.get("n")?;
            if runs.is_empty() {
                let _: () = other.set("n", 10)?;
            }
            runs.push(n);
            pipe.set("n", n * 2).ignore().get("n").query(r)
        })
        .unwrap();
        assert_eq!((runs, n), (vec![1, 10], 20));
    });
}

#[test]
fn a_scan_returns_every_key() {
    with_each_protocol(|server| {
        let mut r = server.connect();
        let keys: HashSet<String> = (0..1000).map(|i| format!("scan:{i}")).collect();
        let pairs: Vec<_> = keys.iter().map(|key| (key, "")).collect();
        let _: () = r.mset(&pairs).unwrap();
        let _: () = r.set("other", "").unwrap();
        let options = ScanOptions::default()
            .with_pattern("scan:*")
            .with_count(100);
        let found: RedisResult<HashSet<String>> = r.scan_options(options).unwrap().collect();
        assert_eq!(found.unwrap(), keys);
    });
}

#[test]
fn a_lock_is_held_by_one_until_it_is_given_back_or_expires() {
    fn take(r: &mut Connection, name: &str, millis: u64) -> bool {
        let options = SetOptions::default().conditional_set(ExistenceCheck::NX);
        let options = options.with_expiration(SetExpiry::PX(millis));
        let reply: Option<String> = r.set_options("lock", name, options).unwrap();
        reply.is_some()
    }
    fn give(r: &mut Connection, name: &str) -> bool {
        cmd("DELIFEQ").arg("lock").arg(name).query(r).unwrap()
    }
    with_each_protocol(|server| {
        let (mut r, mut other) = (server.connect(), server.connect());
        assert!(take(&mut r, "mine", 30_000) && !take(&mut other, "theirs", 30_000));
        assert!(!give(&mut other, "theirs") && give(&mut r, "mine"));
        assert!(take(&mut r, "mine", 100));
        eventually(|| take(&mut other, "theirs", 30_000));
        assert!(!give(&mut r, "mine"));
        assert_eq!(r.get("lock"), Ok("theirs".to_owned()));
    });
}

#[test]
fn keys_and_values_are_any_bytes() {
    with_each_protocol(|server| {
        let mut r = server.connect();
        let (key, mut value) = (every_byte(), every_byte());
        value.reverse();
        let _: () = r.set(&key, &value).unwrap();
        assert_eq!(r.get(&key), Ok(value));
        let found: RedisResult<Vec<Vec<u8>>> = r.scan().unwrap().collect();
        assert_eq!(found, Ok(vec![key]));
    });
}

#[test]
fn five_megabytes_pass_whole() {
    with_each_protocol(|server| {
        let (mut r, large) = (server.connect(), five_mb());
        let _: () = r.set("large", &large).unwrap();
        let mut pipe = pipe();
        pipe.atomic()
            .set("other", &large)
            .ignore()
            .get("large")
            .get("other");
        let (one, two): (Vec<u8>, Vec<u8>) = pipe.query(&mut r).unwrap();
        assert!(
            one == large && two == large,
            "a large value came back changed"
        );
    });
}

#[test]
fn racing_increments_are_all_counted() {
    with_each_protocol(|server| {
        thread::scope(|scope| {
            for _ in 0..20 {
                let mut r = server.connect();
                scope.spawn(move || (0..100).for_each(|_| r.incr("n", 1).unwrap()));
            }
        });
        assert_eq!(server.connect().get("n"), Ok(2000));
    });
}

#[test]
fn errors_arrive_as_errors_and_the_connection_stays_usable() {
    with_each_protocol(|server| {
        let mut r = server.connect();
        let before: i64 = cmd("CLIENT").arg("ID").query(&mut r).unwrap();
        let _: () = r.set("k", "text").unwrap();
        let not_a_number = refusal(r.incr::<_, _, i64>("k", 1));
        assert_eq!(not_a_number, "ERR value is not an integer or out of range");
        let syntax = cmd("SET")
            .arg(&["k", "v", "NOSUCHOPTION"])
            .query::<Value>(&mut r);
        assert_eq!(refusal(syntax), "ERR syntax error");
        let unknown = refusal(cmd("NOSUCHCOMMAND").arg("a").query::<Value>(&mut r));
        let want = "ERR unknown command 'NOSUCHCOMMAND', with args beginning with: 'a' ";
        assert_eq!(unknown.trim_end(), want.trim_end());
        assert_eq!(r.get("k"), Ok("text".to_owned()));
        assert_eq!(cmd("CLIENT").arg("ID").query(&mut r), Ok(before));
    });
}

#[test]
fn the_server_tells_about_itself() {
    with_each_protocol(|server| {
        let mut r = server.connect();
        let _: () = r.set_ex("k", "v", 100).unwrap();
        let info: InfoDict = cmd("INFO").query(&mut r).unwrap();
        assert_eq!(info.get::<i64>("loading"), Some(0));
        assert!(
            info.get::<String>("db0")
                .unwrap()
                .starts_with("keys=1,expires=1,")
        );
        let config: HashMap<String, String> = cmd("CONFIG")
            .arg("GET")
            .arg("maxmemory*")
            .query(&mut r)
            .unwrap();
        assert!(config.contains_key("maxmemory"));
    });
}

#[test]
fn a_client_has_a_name_and_an_id() {
    with_each_protocol(|server| {
        let mut r = server.connect();
        assert_eq!(r.client_setname("named"), Ok(()));
        assert_eq!(r.client_getname(), Ok(Some("named".to_owned())));
        let id: i64 = r.client_id().unwrap();
        let info: String = cmd("CLIENT").arg("INFO").query(&mut r).unwrap();
        assert!(
            info.starts_with(&format!("id={id} ")) && info.contains(" name=named "),
            "{info}"
        );
    });
}

#[test]
fn keys_expire() {
    with_each_protocol(|server| {
        let mut r = server.connect();
        let _: () = r.pset_ex("k", "v", 100).unwrap();
        let _: () = r.set_ex("kept", "v", 100).unwrap();
        let left: i64 = r.pttl("kept").unwrap();
        assert!((90_000..=100_000).contains(&left), "{left}");
        eventually(|| r.get::<_, Option<String>>("k").unwrap().is_none());
        assert_eq!(r.ttl("k"), Ok(-2));
    });
}

#[test]
fn a_multiplexed_connection_gives_each_task_its_own_reply() {
    with_each_protocol(|server| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let r = server.connect_multiplexed().await;
            let tasks: Vec<_> = (0..1000_i64)
                .map(|i| {
                    let mut r = r.clone();
                    tokio::spawn(async move {
                        let _: () = r.set(i, i).await?;
                        let _: () = r.incr("n", 1).await?;
                        r.get(i).await
                    })
                })
                .collect();
            for (i, task) in (0..1000_i64).zip(tasks) {
                assert_eq!(task.await.unwrap(), Ok(i));
            }
            assert_eq!(r.clone().get("n").await, Ok(1000));
        });
    });
}

#[test]
fn a_password_is_asked_for() {
    let Some((host, port, password)) = locked() else {
        return;
    };
    with_each_protocol(|server| {
        let connect = |settings| {
            let address = ConnectionAddr::Tcp(host.clone(), port);
            let info = address
                .into_connection_info()
                .unwrap()
                .set_redis_settings(settings);
            Client::open(info).unwrap().get_connection()
        };
        let plain = || server.info.redis_settings().clone();
        let right = plain().set_password(&password);
        assert_eq!(connect(right.clone()).unwrap().set("k", "v"), Ok(()));
        let named = right.set_username("default");
        assert_eq!(connect(named).unwrap().get("k"), Ok("v".to_owned()));
        let wrong = connect(plain().set_password("wrong")).err().unwrap();
        // AUTH's refusal has a kind of its own, that of HELLO only its code.
        let refused = wrong.kind() == ErrorKind::AuthenticationFailed;
        assert!(refused || wrong.code() == Some("WRONGPASS"), "{wrong:?}");
        // RESP3 begins with a HELLO, which is refused; RESP2 with nothing that must succeed.
        let none = match connect(plain()) {
            Ok(mut r) => r.get::<_, Value>("k").unwrap_err(),
            Err(refused) => refused,
        };
        assert!(none.to_string().contains("NOAUTH"), "{none:?}");
    });
}
