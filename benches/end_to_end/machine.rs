//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};

/// File systems that live in memory, where a sync costs nothing.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// The processors and the kernel, in a few words.
pub(crate) fn describe() -> Result<String> {
    let processors = thread::available_parallelism()?;
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |rest| {
        rest.trim_start_matches([' ', '\t', ':'])
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{processors} x {model}, Linux {}", kernel.trim()))
}

/// The kind of file system that holds `folder`; one that lives in memory is an error, since it
/// would make every comparison of syncs void.
pub(crate) fn file_system(folder: &Path) -> Result<String> {
    let folder = folder.canonicalize()?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let kind = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((Path::new(fields.next()?), fields.next()?))
        })
        .filter(|(place, _)| folder.starts_with(place))
        // Of places equally deep the later is mounted over the earlier.
        .max_by_key(|(place, _)| place.components().count())
        .map(|(_, kind)| kind.to_owned())
        .with_context(|| format!("no file system holds {}", folder.display()))?;
    ensure!(
        !IN_MEMORY.contains(&kind.as_str()),
        "{} is on {kind}, in memory: build on a disk (CARGO_TARGET_DIR)",
        folder.display()
    );
    Ok(kind)
}
