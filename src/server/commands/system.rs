//! What the system says of this process: the files of `/proc`, where there are any, else nothing.
//!
//! They are no files of a disk, so they do not go through the log's file layer.

use std::time::Duration;

use rustix::fs::{Mode, OFlags};

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    /// What the process has of it now.
    pub(super) resident: u64,
    /// What it has had at most.
    pub(super) peak: u64,
    /// What the machine has.
    pub(super) machine: u64,
}

/// Time that the process has had from the processors.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ProcessorTime {
    pub(super) system: Duration,
    pub(super) user: Duration,
}

pub(super) fn memory() -> Memory {
    let status = read("/proc/self/status");
    let resident = kibibytes(&status, "VmRSS:");
    Memory {
        resident,
        peak: kibibytes(&status, "VmHWM:").max(resident),
        machine: kibibytes(&read("/proc/meminfo"), "MemTotal:"),
    }
}

/// The bytes that a line such as `VmRSS:   6512 kB` tells.
fn kibibytes(text: &str, name: &str) -> u64 {
    let told = text.lines().find_map(|line| line.strip_prefix(name));
    let number = told.and_then(|told| told.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or_default().saturating_mul(1024)
}

pub(super) fn processor_time() -> ProcessorTime {
    let times = times_of(&read("/proc/self/stat"));
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let duration = |count: u64| Duration::from_secs_f64(count as f64 / ticks as f64);
    let (user, system) = times.unwrap_or_default();
    ProcessorTime {
        system: duration(system),
        user: duration(user),
    }
}

/// The user's and the system's time: the 14th and the 15th field, the second being the program's
/// name between parentheses, which may hold anything.
fn times_of(stat: &str) -> Option<(u64, u64)> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user = fields.next()?.parse().ok()?;
    let system = fields.next()?.parse().ok()?;
    Some((user, system))
}

/// The system's name and version.
pub(super) fn name() -> String {
    let release = read("/proc/sys/kernel/osrelease");
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let os = if os == "linux" { "Linux" } else { os };
    format!("{os} {} {arch}", release.trim())
}

fn read(path: &str) -> String {
    /// More than any of these files has.
    const LIMIT: usize = 64 << 10;
    let read = || {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty())?;
        let mut bytes = vec![0; LIMIT];
        let mut len = 0;
        while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match rustix::io::read(&file, rest)? {
                0 => break,
                more => len += more,
            }
        }
        bytes.truncate(len);
        Ok::<_, rustix::io::Errno>(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_s_name_does_not_shift_the_fields() {
        let stat = "1 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 140 150 16";
        assert_eq!(times_of(stat), Some((140, 150)));
        assert_eq!(times_of(""), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_has_some_memory_and_not_all() {
        let memory = memory();
        assert!((1 << 16..memory.machine).contains(&memory.resident));
        assert!(memory.peak >= memory.resident);
    }
}
