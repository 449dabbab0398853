//! Getting the programs that postres is compared with, and those that compare.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::report::progress;

/// The file of a program on the path.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut files = env::split_paths(&path).map(|place| place.join(program));
    files.find(|file| file.is_file())
}

/// Runs a command to its end. What it says goes to stderr: stdout is the report's.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdout(io::stderr())
        .status()
        .with_context(|| format!("{command:?} did not run"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// Installs a package of Debian's, with sudo where this is not root.
pub(crate) fn install(package: &str) -> Result<()> {
    progress(format_args!("installing Debian's {package}"));
    let installed = apt_get(&["update", "-qq"]).and_then(|()| {
        apt_get(&[
            "install",
            "-qq",
            "-y",
            "--no-install-recommends",
            "--",
            package,
        ])
    });
    installed.with_context(|| {
        format!(
            "Debian's package {package} is needed and could not be installed; install it by hand"
        )
    })
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = if is_root()? {
        Command::new("env")
    } else {
        let mut command = Command::new("sudo");
        command.arg("env");
        command
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    run(command.args(arguments))
}

fn is_root() -> Result<bool> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("running id")?;
    Ok(output.stdout.trim_ascii() == b"0")
}
