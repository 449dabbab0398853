//! What a connection takes of a server's memory while its client does nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::comparison::{self, Comparison, Wanted};
use super::contestant::Contestant;
use super::large::ENOUGH;
use super::options::Options;
use super::report::{progress, thousands};
use super::resident;
use super::server::{Lab, Server};

/// How many there are.
const CONNECTIONS: u32 = 10_000;

/// Both as they come; keys, and so the log, play no part.
const SERVERS: [Contestant; 2] = [Contestant::PostresAlways, Contestant::ValkeyAlways];

/// What each says, so that it is served and not only accepted, and what it must hear.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const PONG: [u8; 7] = *b"+PONG\r\n";

/// A server that takes longer to answer has stopped.
const PATIENCE: Duration = Duration::from_secs(10);

/// The table, in Markdown.
pub(crate) fn measure(lab: &Lab, options: &Options) -> Result<String> {
    let mut servers: Vec<_> = lab
        .present(&SERVERS)
        .map(|contestant| (contestant, Vec::new()))
        .collect();
    for _ in 0..options.rounds.min(ENOUGH) {
        for (contestant, figures) in &mut servers {
            let kibibytes = kibibytes_each(*contestant, lab)?;
            progress(format_args!(
                "idle connections: {contestant}: {kibibytes:.2} KiB each"
            ));
            figures.push(kibibytes);
        }
    }
    let comparison = Comparison {
        name: "a connection".to_owned(),
        servers,
        wanted: Wanted::Less,
        issue: 5,
    };
    let table = comparison::table(&[comparison], "resident KiB");
    Ok(format!(
        "\n### Idle connections, {}, without what the kernel holds for them\n\n{table}",
        thousands(f64::from(CONNECTIONS))
    ))
}

fn kibibytes_each(contestant: Contestant, lab: &Lab) -> Result<f64> {
    let server = Server::start_for(contestant, lab, CONNECTIONS)?;
    let before = resident::at_rest(&server)?;
    let open = || {
        let mut connection = TcpStream::connect_timeout(&server.address(), PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.write_all(PING)?;
        let mut reply = [0; PONG.len()];
        connection.read_exact(&mut reply)?;
        ensure!(
            reply == PONG,
            "the reply to a PING is \"{}\"",
            reply.escape_ascii()
        );
        Ok(connection)
    };
    let connections = (0..CONNECTIONS)
        .map(|number| open().with_context(|| format!("connection {number}")))
        .collect::<Result<Vec<_>>>()
        .map_err(|error| server.account("did not serve a connection", &error))?;
    let after = resident::at_rest(&server)?;
    drop(connections);
    server.stop()?;
    let added = after
        .checked_sub(before)
        .context("it has less memory with connections than without")?;
    Ok(added as f64 / 1024.0 / f64::from(CONNECTIONS))
}
