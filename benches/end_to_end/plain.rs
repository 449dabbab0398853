//! The floor of a GET as postres is built: a task of tokio's for each client, the decoder, the store.
//!
//! What the [bare server](super::bare) comes to no server can have that keeps anything. This one does what a GET
//! needs in any case and nothing else: it decodes the request, looks the key up, and writes what it found. It has
//! no other commands but those that fill it, no log, no figures, no limits, no clients that others can see or end.
//! It serves on one thread, as postres does on two cores, and looks up each key by itself.
//!
//! It runs in a process of its own, this same program started with [`PLAIN`] set.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::process;
use std::sync::Arc;
use std::thread;

use anyhow::{Result, bail};
use bytes::{Buf, BytesMut};
use postres::protocol::Decoder;
use postres::store::{self, Entry, InMemStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;

/// The variable that makes the program this server.
pub(crate) const PLAIN: &str = "POSTRES_BENCH_PLAIN";

/// As many shards as postres has by default.
const SHARDS: usize = 8;

/// Bytes read at once.
const INPUT: usize = 64 << 10;

/// Serves on a free port of the loopback, named on stderr, until stdin ends.
pub(crate) fn serve() -> Result<()> {
    thread::spawn(|| {
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        process::exit(i32::from(ended.is_err()))
    });
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let Err(error) = runtime.block_on(accept());
    Err(error)
}

async fn accept() -> Result<Infallible> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    writeln!(
        std::io::stderr(),
        "listening addr={}",
        listener.local_addr()?
    )?;
    let store: Arc<dyn InMemStore> = Arc::from(store::with_shards(SHARDS, 0));
    loop {
        let (stream, _) = listener.accept().await?;
        let store = Arc::clone(&store);
        // A connection's error is its client's to notice: the generator does.
        tokio::spawn(async move { answer(stream, &*store).await });
    }
}

async fn answer(mut stream: TcpStream, store: &dyn InMemStore) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut decoder = Decoder::default();
    let mut input = BytesMut::with_capacity(INPUT);
    let mut out = Vec::new();
    while stream.read_buf(&mut input).await? > 0 {
        let taken = execute_all(&mut decoder, &input, store, &mut out)?;
        input.advance(taken);
        stream.write_all(&out).await?;
        out.clear();
        input.reserve(INPUT);
    }
    Ok(())
}

/// Carries out the requests that are whole. Says how many bytes they have.
fn execute_all(
    decoder: &mut Decoder,
    input: &[u8],
    store: &dyn InMemStore,
    out: &mut Vec<u8>,
) -> Result<usize> {
    let mut all = 0;
    while let Some(rest) = input.get(all..) {
        let (found, taken) = decoder.decode(rest)?;
        all += taken;
        match found {
            Some(request) => execute(&request.args, store, out)?,
            None => break,
        }
    }
    Ok(all)
}

fn execute(args: &[&[u8]], store: &dyn InMemStore, out: &mut Vec<u8>) -> Result<()> {
    match *args {
        [b"GET", key] => match store.get(key) {
            Some(entry) => {
                let value = entry.value();
                write!(out, "${}\r\n", value.len())?;
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
            }
            None => out.extend_from_slice(b"$-1\r\n"),
        },
        [b"SET", key, value] => {
            store.set(Entry::new(key, value, None));
            out.extend_from_slice(b"+OK\r\n");
        }
        [b"DBSIZE"] => write!(out, ":{}\r\n", store.len())?,
        _ => bail!("no such command"),
    }
    Ok(())
}
