//! The baseline: a server that does the obvious thing.
//!
//! A thread for each connection, a map behind one lock, and under that lock each SET appends to
//! the log, syncs, changes the map and only then is answered. It is as durable as postres, and
//! its one sync for each SET is what group commit is measured against. It syncs with fdatasync,
//! the cheaper of the two calls, so that the comparison is fair to it.
//!
//! It runs in a process of its own, this same program started with [`LOG`] set, so that it does
//! not share the generator's threads and allocator.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use parking_lot::Mutex;

/// The variable that makes the program the baseline server; its value is the log's path.
pub(crate) const LOG: &str = "POSTRES_BENCH_NAIVE_LOG";

#[derive(Debug)]
struct Store {
    log: File,
    map: HashMap<String, String>,
}

/// Serves on a free port of the loopback, named on stderr, until stdin ends.
///
/// The end of stdin is the end of the program that started it, however that came about: no
/// baseline is left behind.
pub(crate) fn serve(log: &Path) -> Result<()> {
    let log = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let store = Arc::new(Mutex::new(Store {
        log,
        map: HashMap::new(),
    }));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(
        std::io::stderr(),
        "listening addr={}",
        listener.local_addr()?
    )?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let store = Arc::clone(&store);
            // A connection's error is its client's to notice: the generator does.
            thread::spawn(move || answer(stream, &store));
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer(mut stream: TcpStream, store: &Mutex<Store>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        let reply = execute(line.trim_end(), store)?;
        stream.write_all(reply.as_bytes())?;
        line.clear();
    }
    Ok(())
}

fn execute(line: &str, store: &Mutex<Store>) -> Result<String> {
    let mut fields = line.split(' ');
    Ok(match (fields.next(), fields.next(), fields.next()) {
        (Some("SET"), Some(key), Some(value)) => {
            let mut store = store.lock();
            store
                .log
                .write_all(format!("SET {key} {value}\n").as_bytes())?;
            store.log.sync_data()?;
            store.map.insert(key.to_owned(), value.to_owned());
            "+OK\n".to_owned()
        }
        (Some("GET"), Some(key), None) => match store.lock().map.get(key) {
            Some(value) => format!("+OK {value}\n"),
            None => "-GET could not find key in store\n".to_owned(),
        },
        _ => "-INVALID COMMAND\n".to_owned(),
    })
}
