//! A slower disk, for the servers under test only.
//!
//! A library of a few lines of C, built when the benchmark runs and preloaded into a server, makes
//! each sync take longer. It is the plain way to ask whether reads wait for the disk: if they do,
//! a slower disk makes them slower.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The library's source.
const SOURCE: &str = include_str!("slow_sync.c");

/// The variable the library reads its delay from, in microseconds.
const DELAY: &str = "POSTRES_BENCH_SYNC_DELAY_US";

/// A library that makes each sync of a process take longer.
#[derive(Debug)]
pub(crate) struct SlowSync {
    library: PathBuf,
    delay: Duration,
}

impl SlowSync {
    /// Builds the library in `folder`.
    pub(crate) fn build(folder: &Path, delay: Duration) -> Result<Self> {
        let source = folder.join("slow_sync.c");
        let library = folder.join("slow_sync.so");
        std::fs::write(&source, SOURCE)?;
        let compiled = Command::new("cc")
            .args(["-O2", "-Wall", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(&source)
            .status()
            .context("running cc, which builds the library that slows syncs down")?;
        ensure!(
            compiled.success(),
            "cc could not build the library that slows syncs down"
        );
        Ok(Self { library, delay })
    }

    /// How much longer each sync takes.
    pub(crate) fn delay(&self) -> Duration {
        self.delay
    }

    /// Makes the process that `command` starts have slow syncs.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library);
        command.env(DELAY, self.delay.as_micros().to_string());
    }
}
