//! How much memory a server has.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::ask::ask;
use super::server::Server;

/// A server at rest has let go of what it only needed under load after this time.
const REST: Duration = Duration::from_secs(1);

/// Valkey's word for a table that grows, bit by bit, and is there twice until it has. It must have
/// grown by this time.
const GROWING: &str = "mem_overhead_db_hashtable_rehashing:";
const PATIENCE: Duration = Duration::from_secs(120);

/// Resident bytes of a server that has nothing to do any more.
pub(crate) fn at_rest(server: &Server) -> Result<u64> {
    let begun = Instant::now();
    thread::sleep(REST);
    while is_growing(server)? {
        ensure!(
            begun.elapsed() < PATIENCE,
            "its table still grows after {PATIENCE:?}"
        );
        thread::sleep(REST);
    }
    let bytes = resident(server.pid());
    ensure!(bytes > 0, "the system does not tell a process's memory");
    Ok(bytes)
}

fn is_growing(server: &Server) -> Result<bool> {
    let info = ask(server.address(), &["INFO", "memory"])?;
    let told = info.lines().find_map(|line| line.strip_prefix(GROWING));
    Ok(told.is_some_and(|bytes| bytes != "0"))
}

/// Resident bytes of a process.
pub(crate) fn resident(pid: u32) -> u64 {
    kibibytes(&format!("/proc/{pid}/status"), "VmRSS:") * 1024
}

/// The same, and of its children what they do not share with it: a fork's copies.
pub(crate) fn tree_resident(pid: u32) -> u64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let own = children.split_whitespace().map(|child| {
        let file = format!("/proc/{child}/smaps_rollup");
        (kibibytes(&file, "Private_Dirty:") + kibibytes(&file, "Private_Clean:")) * 1024
    });
    resident(pid) + own.sum::<u64>()
}

fn kibibytes(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let told = text.lines().find_map(|line| line.strip_prefix(name));
    let number = told.and_then(|told| told.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}
