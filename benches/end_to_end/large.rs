//! What takes many keys, or many connections, to be seen.

use std::fmt::Write as _;

use anyhow::Result;

use super::comparison::{self, Comparison};
use super::contestant::Contestant;
use super::generator;
use super::load::Load;
use super::options::{Options, Part};
use super::report::thousands;
use super::server::{Lab, Server};
use super::wire::{Protocol, Values};
use super::{compaction, growth, idle, memory, starts};

/// Figures that hardly differ from round to round, and take long, are taken no more often.
pub(crate) const ENOUGH: u32 = 3;

/// What was measured, for the report and for the plots.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// How many keys there were, to be read.
    pub(crate) keys: String,
    /// The tables, in Markdown.
    pub(crate) text: String,
    /// Seconds that starts took.
    pub(crate) starts: Vec<Comparison>,
    /// Resident bytes a key.
    pub(crate) memory: Vec<Comparison>,
}

/// Measures all of it.
pub(crate) fn measure(lab: &Lab, keys: u32, options: &Options) -> Result<Report> {
    let shown = thousands(f64::from(keys));
    let mut report = Report {
        keys: shown.clone(),
        ..Report::default()
    };
    if options.wants(Part::Starts) {
        report.starts = starts::measure(lab, keys, options)?;
        let table = comparison::table(&report.starts, "seconds");
        let _ = write!(report.text, "\n### Starts, {shown} keys\n\n{table}");
    }
    if options.wants(Part::Compaction) {
        report.text += &compaction::measure(lab, keys, options)?;
    }
    if options.wants(Part::Memory) {
        report.memory = memory::measure(lab, keys, options)?;
        let table = comparison::table(&report.memory, "resident bytes a key");
        let _ = write!(
            report.text,
            "\n### Memory, {shown} keys of 16 bytes with values of 64\n\n{table}"
        );
    }
    if options.wants(Part::Idle) {
        report.text += &idle::measure(lab, options)?;
    }
    if options.wants(Part::Growth) {
        report.text += &growth::measure(lab, options)?;
    }
    Ok(report)
}

/// A server with `keys` keys, all of them written once.
pub(crate) fn filled(contestant: Contestant, lab: &Lab, keys: u32) -> Result<Server> {
    let server = Server::start(contestant, lab, None)?;
    fill(&server, keys, Values::default())?;
    Ok(server)
}

/// Writes `keys` keys, which nobody had, and makes sure that they are there.
pub(crate) fn fill(server: &Server, keys: u32, values: Values) -> Result<()> {
    server.sync_writes(false)?;
    generator::run(
        server.address(),
        Protocol::Resp,
        &Load::preload(keys, values),
    )
    .map_err(|error| server.account("failed while it was filled", &error))?;
    server.sync_writes(true)?;
    server.check_size(keys)
}
