//! A yardstick for GETs: what postres is built of, and little else of it.
//!
//! A server that keeps nothing, as the [bare one](super::bare), says little of what one that looks keys up can come to.
//! This one has a task of tokio's for each client, on one thread, as postres has on two cores, and postres's decoder,
//! store and encoder. It has no other commands but those that fill it, no log, no figures, no clocks, no limits, no
//! clients that others can see or end. It looks up each key by itself, and answers at once.
//!
//! It runs in a process of its own, this same program started with [`PLAIN`] set.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::process;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BytesMut};
use postres::command::Reply;
use postres::protocol::{self, Absence, Args, Decoder, Output};
use postres::store::{self, Entry, InMemStore, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;

/// The variable that makes the program this server.
pub(crate) const PLAIN: &str = "POSTRES_BENCH_PLAIN";

/// As many shards as postres has by default.
const SHARDS: usize = 8;

/// What a GET is answered with where there is no such key.
const NONE: Reply = Reply::Nil(Absence::Key { command: "GET" });

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
    let mut out = Output::new();
    while stream.read_buf(&mut input).await? > 0 {
        let taken = execute_all(&mut decoder, &input, store, &mut out)?;
        input.advance(taken);
        while !out.is_empty() {
            let piece = out.one_piece().context("a value that long")?;
            let written = stream.write(piece).await?;
            out.advance(written);
        }
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
    out: &mut Output<Value>,
) -> Result<usize> {
    let mut args = Args::new();
    let mut all = 0;
    while let Some(rest) = input.get(all..) {
        let (found, taken) = decoder.decode_into(rest, &mut args)?;
        all += taken;
        let Some(dialect) = found else {
            break;
        };
        protocol::encode(execute(&args, store)?, dialect, out);
    }
    Ok(all)
}

fn execute(args: &[&[u8]], store: &dyn InMemStore) -> Result<Reply> {
    Ok(match *args {
        [b"GET", key] => store
            .get(key)
            .map_or(NONE, |entry| Reply::Value(entry.into())),
        [b"SET", key, value] => {
            store.set(Entry::new(key, value, None));
            Reply::Ok
        }
        [b"DBSIZE"] => Reply::Integer(i64::try_from(store.len())?),
        _ => bail!("no such command"),
    })
}
