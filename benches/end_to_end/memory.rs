//! What a key takes of a server's memory.

use anyhow::{Context, Result};

use super::comparison::{Comparison, Wanted};
use super::contestant::Contestant;
use super::large::{ENOUGH, fill};
use super::options::Options;
use super::report::progress;
use super::resident;
use super::server::{Lab, Server};
use super::wire::Values;

/// postres as it comes, and Valkey where it needs the least.
const SERVERS: [Contestant; 2] = [Contestant::PostresAlways, Contestant::ValkeyNoLog];

/// The share of Valkey's memory that postres may take (issue 5).
const SHARE: f64 = 0.85;

/// Measures the resident bytes that each key adds, without and with a time to live.
pub(crate) fn measure(lab: &Lab, keys: u32, options: &Options) -> Result<Vec<Comparison>> {
    [("without a time to live", false), ("with one each", true)]
        .into_iter()
        .map(|(name, expiring)| {
            let values = Values {
                expiring,
                ..Values::default()
            };
            let mut servers: Vec<_> = lab
                .present(&SERVERS)
                .map(|contestant| (contestant, Vec::new()))
                .collect();
            for _ in 0..options.rounds.min(ENOUGH) {
                for (contestant, figures) in &mut servers {
                    let bytes = bytes_a_key(*contestant, lab, keys, values)?;
                    progress(format_args!(
                        "memory {name}: {contestant}: {bytes:.1} bytes a key"
                    ));
                    figures.push(bytes);
                }
            }
            Ok(Comparison {
                name: name.to_owned(),
                servers,
                wanted: Wanted::AtMost(SHARE),
                issue: 5,
            })
        })
        .collect()
}

/// What the server holds once it is filled and at rest, less what it held when it was empty: so
/// what its allocator keeps for itself counts, and its program does not.
fn bytes_a_key(contestant: Contestant, lab: &Lab, keys: u32, values: Values) -> Result<f64> {
    let server = Server::start(contestant, lab, None)?;
    let empty = resident::at_rest(&server)?;
    fill(&server, keys, values)?;
    let full = resident::at_rest(&server)?;
    server.stop()?;
    let added = full
        .checked_sub(empty)
        .context("it has less memory with keys than without")?;
    Ok(added as f64 / f64::from(keys))
}
