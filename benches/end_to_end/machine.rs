//! What the figures were measured on, and who used its processors.

use std::fs;
use std::num::ParseIntError;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// File systems that live in memory, where a sync costs nothing.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// The units of a process's times in procfs: `USER_HZ`, which is 100 on every Linux that cargo
/// runs on.
const TICKS_A_SECOND: u64 = 100;

/// For how long others are watched, and the share of the processors that is too much.
const LOOK: Duration = Duration::from_secs(1);
const BUSY: f64 = 0.1;

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

/// The version, and the commit of the sources as the run begins, and whether anything there differs from it.
pub(crate) fn build() -> String {
    let described = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR")])
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .output();
    let described = described.ok().filter(|output| output.status.success());
    let commit = described.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let commit = commit.as_deref().unwrap_or("of an unknown commit");
    format!("{} {commit}", env!("CARGO_PKG_VERSION"))
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

/// How much of the processors others use before anything is measured, and whether that spoils the
/// figures.
pub(crate) fn others() -> Result<String> {
    let before = Ticks::now()?;
    thread::sleep(LOOK);
    let share = Ticks::now()?.since(before).used_share();
    let remark = if share > BUSY {
        ": the machine is BUSY, and the figures vary more than they should"
    } else {
        ""
    };
    Ok(format!("{:.0} % of the processors{remark}", share * 100.0))
}

/// What became of all processors' time, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl Ticks {
    /// Since the machine started.
    pub(crate) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let fields = text.lines().next().unwrap_or_default().split_whitespace();
        let ticks: Vec<u64> = fields
            .skip(1)
            .take(8)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        // What follows is counted in the first.
        let [user, nice, system, idle, iowait, irq, softirq, stolen] = ticks.as_slice() else {
            bail!("/proc/stat begins with {text:.80}");
        };
        let idle = idle + iowait;
        Ok(Self {
            all: user + nice + system + idle + irq + softirq + stolen,
            idle,
            stolen: *stolen,
        })
    }

    /// What has passed since it was so much.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            idle: self.idle.saturating_sub(before.idle),
            stolen: self.stolen.saturating_sub(before.stolen),
        }
    }

    /// The part in which somebody had a processor, or wanted one.
    fn used_share(self) -> f64 {
        self.all.saturating_sub(self.idle) as f64 / self.all.max(1) as f64
    }

    /// The part in which somebody wanted a processor, and the host of this virtual machine had taken it.
    pub(crate) fn stolen_share(self) -> f64 {
        self.stolen as f64 / self.all.max(1) as f64
    }
}

/// Binds the calling thread to a core, and what it starts meanwhile, until this is dropped.
#[derive(Debug)]
pub(crate) struct Bound {
    before: CpuSet,
}

/// Binds the calling thread to the core of this number.
pub(crate) fn bind(core: usize) -> Result<Bound> {
    let before = sched_getaffinity(None).context("asking for the cores of this thread")?;
    let there = core < CpuSet::MAX_CPU && before.is_set(core);
    ensure!(
        there,
        "--generator-core {core}: this process may not run there"
    );
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).with_context(|| format!("binding to core {core}"))?;
    Ok(Bound { before })
}

impl Drop for Bound {
    fn drop(&mut self) {
        // It was bound to these before, so it may be again.
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// Whose processor time is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose {
    /// A process's, all its threads.
    Process(u32),
    /// The calling thread's.
    ThisThread,
    /// That of all children of this process that have ended and been waited for.
    EndedChildren,
}

/// Processor time that was used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// Outside of the kernel.
    pub(crate) own: Duration,
    /// By the kernel on its behalf.
    pub(crate) kernel: Duration,
}

impl Used {
    /// What has been used since it was so much.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            own: self.own.saturating_sub(before.own),
            kernel: self.kernel.saturating_sub(before.kernel),
        }
    }

    /// All of it.
    pub(crate) fn all(self) -> Duration {
        self.own + self.kernel
    }
}

/// The processor time used so far.
pub(crate) fn used(whose: Whose) -> Result<Used> {
    // The name, in brackets, may hold anything; the fields after it are numbers. The 12th and 13th
    // of those are the own times, the two after them the ended children's.
    let (path, skipped) = match whose {
        Whose::Process(id) => (format!("/proc/{id}/stat"), 11),
        Whose::ThisThread => ("/proc/thread-self/stat".to_owned(), 11),
        Whose::EndedChildren => ("/proc/self/stat".to_owned(), 13),
    };
    let stat = fs::read_to_string(path)?;
    let (_, fields) = stat
        .rsplit_once(") ")
        .context("a process status without a name")?;
    let mut times = fields.split(' ').skip(skipped).map(|ticks| {
        let ticks: u64 = ticks.parse()?;
        Ok::<_, ParseIntError>(Duration::from_millis(ticks * 1000 / TICKS_A_SECOND))
    });
    let mut next = || times.next().context("a process status without times");
    Ok(Used {
        own: next()??,
        kernel: next()??,
    })
}
