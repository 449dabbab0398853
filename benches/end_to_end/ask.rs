//! One question to a server, outside of any measurement.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::wire::resp_array;

/// A server that takes longer to answer one question has stopped.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest bulk that is an answer to what is asked here.
const LONGEST: usize = 1024 * 1024;

/// Sends one command in RESP and returns the text of its reply: a status, a number or a bulk.
pub(crate) fn ask(address: SocketAddr, command: &[&str]) -> Result<String> {
    exchange(address, command).with_context(|| format!("asking for {}", command.join(" ")))
}

fn exchange(address: SocketAddr, command: &[&str]) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(resp_array(command).as_bytes())?;
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line)?;
    let line = line
        .strip_suffix("\r\n")
        .with_context(|| format!("a reply cut short: {line:?}"))?;
    if let Some(text) = line.strip_prefix(['+', ':']) {
        return Ok(text.to_owned());
    }
    let length = line.strip_prefix('$').and_then(|text| text.parse().ok());
    match length {
        Some(length) if length <= LONGEST => {
            let mut bulk = vec![0; length];
            input.read_exact(&mut bulk)?;
            Ok(String::from_utf8(bulk)?)
        }
        _ => bail!("the reply is {line:?}"),
    }
}
