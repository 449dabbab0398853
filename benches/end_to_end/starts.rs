//! How long a start takes.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tempfile::TempDir;

use super::compaction::{begin_snapshot, wait_for_snapshot};
use super::comparison::{Comparison, Wanted};
use super::contestant::Contestant;
use super::large::filled;
use super::options::Options;
use super::report::progress;
use super::server::{Lab, Server};

use Contestant::{PostresNever, ValkeyAlways, ValkeyNoLog};

/// What of a start is measured.
#[derive(Clone, Copy)]
struct Start {
    name: &'static str,
    /// Who fills the files, and reads them.
    postres: Contestant,
    valkey: Contestant,
    /// Whether a snapshot is read, and not a log.
    snapshot: bool,
}

const STARTS: [Start; 2] = [
    Start {
        name: "start from a snapshot",
        postres: PostresNever,
        valkey: ValkeyNoLog,
        snapshot: true,
    },
    Start {
        name: "start from a log of SETs",
        postres: PostresNever,
        valkey: ValkeyAlways,
        snapshot: false,
    },
];

/// How many times as fast as Valkey's (issue 4).
const FASTER: f64 = 3.0;

/// Measures both, in seconds.
pub(crate) fn measure(lab: &Lab, keys: u32, options: &Options) -> Result<Vec<Comparison>> {
    STARTS
        .into_iter()
        .map(|start| measure_start(start, lab, keys, options))
        .collect()
}

fn measure_start(start: Start, lab: &Lab, keys: u32, options: &Options) -> Result<Comparison> {
    let mut folders: Vec<(Contestant, Arc<TempDir>, Vec<f64>)> = Vec::new();
    for contestant in lab.present(&[start.postres, start.valkey]) {
        let server = filled(contestant, lab, keys)?;
        if start.snapshot {
            begin_snapshot(&server)?;
            wait_for_snapshot(&server)?;
        }
        let folder = server.folder();
        server.stop()?;
        folders.push((contestant, folder, Vec::new()));
    }
    for round in 0..options.rounds {
        let at = round as usize % folders.len();
        folders.rotate_left(at);
        for (contestant, folder, seconds) in &mut folders {
            let begun = Instant::now();
            let server = Server::start_in(*contestant, lab, None, folder)?;
            let took = begun.elapsed().as_secs_f64();
            server.check_size(keys)?;
            server.stop()?;
            progress(format_args!("{}: {contestant}: {took:.2} s", start.name));
            seconds.push(took);
        }
        folders.rotate_right(at);
    }
    Ok(Comparison {
        name: start.name.to_owned(),
        servers: folders
            .into_iter()
            .map(|(contestant, _, seconds)| (contestant, seconds))
            .collect(),
        wanted: Wanted::TimesLess(FASTER),
        issue: 4,
    })
}
