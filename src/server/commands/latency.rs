//! LATENCY: what took long, and how long commands take.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use parking_lot::Mutex;

use super::{catalogue, text};
use crate::command::{LatencyCommand, Reply, count};
use crate::protocol::ErrorReply;
use crate::server::session::Session;

/// Samples that are kept of an event: one a second, so as many seconds in which it happened.
const SAMPLES: usize = 160;

/// Events that took long, by their names. There are few names, all of them the server's own.
#[derive(Debug, Default)]
pub(in crate::server) struct Events {
    by_name: Mutex<BTreeMap<&'static str, Event>>,
}

#[derive(Debug, Default)]
struct Event {
    /// When, in seconds since 1970, and the longest time of that second in milliseconds.
    samples: VecDeque<(u64, u64)>,
    longest: u64,
}

impl Events {
    /// Something took long.
    pub(super) fn add(&self, name: &'static str, at: u64, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut events = self.by_name.lock();
        let event = events.entry(name).or_default();
        event.longest = event.longest.max(millis);
        match event.samples.back_mut() {
            Some((second, longest)) if *second == at => *longest = millis.max(*longest),
            _ => {
                if event.samples.len() == SAMPLES {
                    event.samples.pop_front();
                }
                event.samples.push_back((at, millis));
            }
        }
    }

    fn reset(&self, names: &[&[u8]]) -> usize {
        let mut events = self.by_name.lock();
        let before = events.len();
        events.retain(|name, _| !names.is_empty() && !names.contains(&name.as_bytes()));
        before - events.len()
    }

    fn with<R>(&self, name: &[u8], tell: impl FnOnce(&'static str, &Event) -> R) -> Option<R> {
        let events = self.by_name.lock();
        let name = std::str::from_utf8(name).ok()?;
        let (name, event) = events.get_key_value(name)?;
        Some(tell(name, event))
    }
}

impl Session {
    pub(super) fn latency(&self, command: LatencyCommand, args: &[&[u8]]) -> Reply {
        let events = &self.shared.console.events;
        let name = args.first().copied().unwrap_or_default();
        match command {
            LatencyCommand::Latest => {
                let events = events.by_name.lock();
                Reply::Array(
                    events
                        .iter()
                        .map(|(name, event)| latest(name, event))
                        .collect(),
                )
            }
            LatencyCommand::History => {
                let samples = |_: &str, event: &Event| {
                    event
                        .samples
                        .iter()
                        .map(|&(at, millis)| Reply::Array(vec![number(at), number(millis)]))
                        .collect()
                };
                Reply::Array(events.with(name, samples).unwrap_or_default())
            }
            LatencyCommand::Reset => count(events.reset(args)),
            LatencyCommand::Graph => events.with(name, graph).unwrap_or_else(|| {
                let name = super::shown(name);
                let text = format!("ERR No samples available for event '{name}'");
                Reply::Error(ErrorReply::Other(text.into()))
            }),
            LatencyCommand::Histogram => self.histograms(args),
            LatencyCommand::Doctor => Reply::Text(self.diagnosis()),
        }
    }

    fn histograms(&self, names: &[&[u8]]) -> Reply {
        let totals = self.shared.console.metrics.totals();
        let tell = |spec| {
            let command = totals.commands().get(catalogue::number_of(spec))?;
            let octaves = command.octaves();
            let calls = octaves.last()?.1;
            let octaves = octaves.into_iter().flat_map(|(nanos, count)| {
                // Valkey's histogram has these ends.
                [number((nanos + nanos / 128) / 1000), number(count)]
            });
            // Pairs, in both versions of RESP.
            let mut pairs = Vec::new();
            let mut octaves = octaves;
            while let (Some(end), Some(count)) = (octaves.next(), octaves.next()) {
                pairs.push((end, count));
            }
            let histogram = vec![
                (text("calls"), number(calls)),
                (text("histogram_usec"), Reply::Map(pairs)),
            ];
            Some((text(catalogue::name_of(spec)), Reply::Map(histogram)))
        };
        Reply::Map(if names.is_empty() {
            catalogue::all().filter_map(tell).collect()
        } else {
            let named = names
                .iter()
                .filter_map(|name| catalogue::by_full_name(name));
            // A command that is known by its subcommands stands for all of them.
            let with_parts = named.flat_map(|spec| std::iter::once(spec).chain(spec.subcommands));
            with_parts.filter_map(tell).collect()
        })
    }

    fn diagnosis(&self) -> String {
        let events = self.shared.console.events.by_name.lock();
        let threshold = self.shared.settings.latency_threshold();
        if threshold == 0 && events.is_empty() {
            return "Nothing is recorded: \"CONFIG SET latency-monitor-threshold <milliseconds>\" \
                    makes the server note what takes longer than that.\n"
                .to_owned();
        }
        if events.is_empty() {
            return format!("Nothing has taken {threshold} ms or longer.\n");
        }
        let mut told = format!("These have taken {threshold} ms or longer:\n");
        for (name, event) in events.iter() {
            let count = event.samples.len();
            let sum: u64 = event.samples.iter().map(|(_, millis)| millis).sum();
            let mean = sum / (count.max(1) as u64);
            let longest = event.longest;
            // Writing to a string does not fail.
            let _ = writeln!(
                told,
                "- {name}: in {count} different seconds, {mean} ms on average, {longest} ms at most"
            );
        }
        told.push_str("SLOWLOG GET tells which commands they were.\n");
        told
    }
}

fn number(number: u64) -> Reply {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn latest(name: &'static str, event: &Event) -> Reply {
    let (at, millis) = event.samples.back().copied().unwrap_or_default();
    let count = event.samples.len() as u64;
    let sum: u64 = event.samples.iter().map(|(_, millis)| millis).sum();
    Reply::Array(vec![
        text(name),
        number(at),
        number(millis),
        number(event.longest),
        number(sum),
        number(count),
    ])
}

/// The samples as bars, one below the other.
fn graph(name: &'static str, event: &Event) -> Reply {
    const WIDTH: u64 = 60;
    let longest = event
        .samples
        .iter()
        .map(|(_, millis)| *millis)
        .max()
        .unwrap_or(0);
    let mut drawn = format!(
        "{name}: at most {} ms in all, {longest} ms of late\n",
        event.longest
    );
    for (at, millis) in &event.samples {
        let len = usize::try_from(millis * WIDTH / longest.max(1)).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(drawn, "{at} {} {millis} ms", "#".repeat(len.max(1)));
    }
    Reply::Text(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_the_longest_time_of_each_of_its_last_seconds() {
        let events = Events::default();
        let add = |at, millis| events.add("command", at, Duration::from_millis(millis));
        add(1, 900);
        for at in 0..SAMPLES as u64 {
            for millis in [20, 30, 10] {
                add(at + 2, millis);
            }
        }
        events
            .with(b"command", |_, event| {
                assert_eq!((event.samples.len(), event.longest), (SAMPLES, 900));
                assert_eq!(event.samples.front(), Some(&(2, 30)));
            })
            .unwrap();
        assert_eq!(events.reset(&[b"other"]), 0);
        assert_eq!(events.reset(&[b"command", b"other"]), 1);
        add(1, 1);
        assert_eq!(events.reset(&[]), 1);
        assert!(events.with(b"command", |_, _| ()).is_none());
    }
}
