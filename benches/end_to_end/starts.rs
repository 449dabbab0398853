//! How long a start takes, of files that have to be read from the disk.
//!
//! What the system still has of them in its cache depends on who wrote them, and on how long ago:
//! postres lets go of its full segments, Valkey's files stay. So neither has any.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise};
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
            leave_cache(folder.path())?;
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

/// Has the system forget what it has of a folder's files in memory.
fn leave_cache(folder: &Path) -> Result<()> {
    let names = || format!("cannot have {} leave the cache", folder.display());
    for entry in fs::read_dir(folder).with_context(names)? {
        let path = entry.with_context(names)?.path();
        if path.is_dir() {
            leave_cache(&path)?;
            continue;
        }
        // What is not on the disk yet cannot be let go of.
        File::open(&path)
            .and_then(|file| {
                file.sync_all()?;
                Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
            })
            .with_context(names)?;
    }
    Ok(())
}
