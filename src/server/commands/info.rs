//! INFO: how the server is and what it has done, under Valkey's names.
//!
//! Clients choose what they do by some of the fields (`loading`, `redis_version`, `cluster_enabled`,
//! `role`), and exporters read most of them. A field that has no meaning here is 0 where tools insist
//! on it, and is left out elsewhere.

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::connection::REDIS_VERSION;
use super::{catalogue, system};
use crate::command::Reply;
use crate::metrics::{Counter, Totals};
use crate::server::clients::Role;
use crate::server::session::Session;

/// Valkey's fields that are about a position among replicas, of which there are none.
const NO_REPLICATION: &str = "0000000000000000000000000000000000000000";

/// A section's name, its heading, what writes it, and whether it is told unless asked for.
struct Section {
    name: &'static str,
    heading: &'static str,
    write: fn(&Session, &mut Fields),
    by_default: bool,
}

const fn section(
    name: &'static str,
    heading: &'static str,
    by_default: bool,
    write: fn(&Session, &mut Fields),
) -> Section {
    Section {
        name,
        heading,
        write,
        by_default,
    }
}

static SECTIONS: &[Section] = &[
    section("server", "Server", true, server),
    section("clients", "Clients", true, clients),
    section("memory", "Memory", true, memory),
    section("persistence", "Persistence", true, persistence),
    section("log", "Log", true, log),
    section("stats", "Stats", true, stats),
    section("replication", "Replication", true, replication),
    section("cpu", "CPU", true, cpu),
    section("modules", "Modules", true, |_, _| {}),
    section("commandstats", "Commandstats", false, command_stats),
    section("errorstats", "Errorstats", true, error_stats),
    section("latencystats", "Latencystats", false, latency_stats),
    section("cluster", "Cluster", true, |_, fields| {
        fields.add("cluster_enabled", 0)
    }),
    section("keyspace", "Keyspace", true, keyspace),
];

/// The text as it grows: a field each line.
struct Fields(String);

impl Fields {
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// Many fields, of which each has the same value.
    fn add_all(&mut self, names: &[&str], value: impl std::fmt::Display + Copy) {
        for name in names {
            self.add(name, value);
        }
    }

    /// A number of bytes, and the same for people.
    fn add_bytes(&mut self, name: &str, bytes: u64) {
        self.add(name, bytes);
        self.add(&format!("{name}_human"), for_people(bytes));
    }
}

fn for_people(bytes: u64) -> String {
    let units = [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    let unit = units.into_iter().find(|(shift, _)| bytes >= 1 << shift);
    match unit {
        None => format!("{bytes}B"),
        Some((shift, letter)) => format!("{:.2}{letter}", bytes as f64 / (1_u64 << shift) as f64),
    }
}

impl Session {
    pub(super) fn info(&self, args: &[&[u8]]) -> Reply {
        let asked = |name: &str| {
            args.iter()
                .any(|arg| arg.eq_ignore_ascii_case(name.as_bytes()))
        };
        let everything = asked("all") || asked("everything");
        let default = args.is_empty() || asked("default");
        let mut text = Fields(String::new());
        for section in SECTIONS {
            if everything || (default && section.by_default) || asked(section.name) {
                if !text.0.is_empty() {
                    text.0.push_str("\r\n");
                }
                let _ = write!(text.0, "# {}\r\n", section.heading);
                (section.write)(self, &mut text);
            }
        }
        Reply::Text(text.0)
    }

    fn totals(&self) -> Totals {
        self.shared.console.metrics.totals()
    }
}

fn server(session: &Session, fields: &mut Fields) {
    let console = &session.shared.console;
    let uptime = console.started.elapsed().as_secs();
    fields.add("redis_version", REDIS_VERSION);
    fields.add("server_name", "postres");
    fields.add("postres_version", env!("CARGO_PKG_VERSION"));
    fields.add("redis_mode", "standalone");
    fields.add("server_mode", "standalone");
    fields.add("os", system::name());
    fields.add("arch_bits", usize::BITS);
    fields.add("multiplexing_api", "tokio");
    fields.add("process_id", std::process::id());
    fields.add("process_supervised", "no");
    fields.add("run_id", &console.run_id);
    fields.add("tcp_port", console.port());
    fields.add(
        "server_time_usec",
        session.shared.engine.time().0.saturating_mul(1000),
    );
    fields.add("uptime_in_seconds", uptime);
    fields.add("uptime_in_days", uptime / 86_400);
    fields.add_all(&["hz", "configured_hz"], 10);
    let executable = std::env::current_exe().unwrap_or_default();
    fields.add("executable", executable.display());
    fields.add("config_file", "");
    fields.add(
        "io_threads_active",
        u8::from(session.shared.settings.started_with().threads > 1),
    );
    for (index, addr) in console.addrs.iter().enumerate() {
        let (ip, port) = (addr.ip(), addr.port());
        fields.add(
            &format!("listener{index}"),
            format_args!("name=tcp,bind={ip},port={port}"),
        );
    }
}

fn clients(session: &Session, fields: &mut Fields) {
    let shared = &session.shared;
    let clients = shared.clients.all();
    let count = |is: &dyn Fn(&crate::server::clients::Client) -> bool| {
        clients.iter().filter(|client| is(client)).count()
    };
    fields.add("connected_clients", clients.len());
    fields.add("cluster_connections", 0);
    fields.add("maxclients", shared.max_connections);
    fields.add_all(
        &[
            "client_recent_max_input_buffer",
            "client_recent_max_output_buffer",
        ],
        0,
    );
    fields.add(
        "blocked_clients",
        count(&|client| client.waiting.is_going_on()),
    );
    fields.add_all(&["tracking_clients", "pubsub_clients"], 0);
    fields.add(
        "watching_clients",
        count(&|client| client.activity.watched() > 0),
    );
    fields.add(
        "monitor_clients",
        count(&|client| client.traits.lock().role == Role::Monitor),
    );
    fields.add("clients_in_timeout_table", 0);
    fields.add("total_watched_keys", shared.engine.watches().len());
    fields.add_all(&["total_blocking_keys", "total_blocking_keys_on_nokey"], 0);
    let paused = shared.console.pause.now();
    fields.add(
        "paused_reason",
        if paused.is_some() {
            "client_pause"
        } else {
            "none"
        },
    );
    fields.add(
        "paused_actions",
        match paused {
            None => "none",
            Some(paused) if paused.all => "all",
            Some(_) => "write",
        },
    );
    let left = paused.map(|paused| {
        paused
            .until
            .saturating_duration_since(std::time::Instant::now())
    });
    fields.add(
        "paused_timeout_milliseconds",
        left.unwrap_or_default().as_millis(),
    );
}

/// What the system has given the process counts as used: how much of it holds keys and values is
/// not counted.
fn memory(_: &Session, fields: &mut Fields) {
    let memory = system::memory();
    fields.add_bytes("used_memory", memory.resident);
    fields.add_bytes("used_memory_rss", memory.resident);
    fields.add_bytes("used_memory_peak", memory.peak);
    let share = memory.resident as f64 / memory.peak.max(1) as f64;
    fields.add(
        "used_memory_peak_perc",
        format_args!("{:.2}%", share * 100.0),
    );
    fields.add_bytes("total_system_memory", memory.machine);
    fields.add_bytes("used_memory_lua", 0);
    fields.add_bytes("used_memory_scripts", 0);
    fields.add_bytes("maxmemory", 0);
    fields.add("maxmemory_policy", "noeviction");
    fields.add_all(&["mem_fragmentation_ratio"], "1.00");
    fields.add_all(
        &[
            "mem_fragmentation_bytes",
            "mem_not_counted_for_evict",
            "mem_replication_backlog",
            "mem_clients_slaves",
            "mem_clients_normal",
            "mem_aof_buffer",
            "active_defrag_running",
            "lazyfree_pending_objects",
            "lazyfreed_objects",
        ],
        0,
    );
    fields.add("mem_allocator", "libc");
}

fn persistence(session: &Session, fields: &mut Fields) {
    let engine = &session.shared.engine;
    let status = engine.compaction_status();
    let loading = engine.load_progress();
    fields.add("loading", u8::from(loading.is_some()));
    fields.add("async_loading", 0);
    if let Some((done, total)) = loading {
        let console = &session.shared.console;
        let elapsed = console.started.elapsed().as_secs_f64();
        let share = done as f64 / total.max(1) as f64;
        let left = elapsed / share.max(f64::EPSILON) - elapsed;
        fields.add("loading_start_time", console.started_at.0 / 1000);
        fields.add("loading_total_bytes", total);
        fields.add("loading_loaded_bytes", done);
        fields.add("loading_loaded_perc", format_args!("{:.2}", share * 100.0));
        let left = if done == 0 { 1 } else { left.ceil() as u64 };
        fields.add("loading_eta_seconds", left);
    }
    let next = status.last.map_or(1, |last| last.next.0);
    let changes = (engine.watches().applied() + 1).saturating_sub(next);
    fields.add("rdb_changes_since_last_save", changes);
    let running = u8::from(status.running_since.is_some());
    let outcome = ok_or_err(status.error.is_none());
    let seconds = |took: Option<Duration>| took.map_or(-1, |took| took.as_secs().cast_signed());
    let last = seconds(status.last.and_then(|last| last.took));
    let current = seconds(status.running_since.map(|since| since.elapsed()));
    fields.add("rdb_bgsave_in_progress", running);
    fields.add("rdb_last_save_time", session.last_save_seconds());
    fields.add("rdb_last_bgsave_status", outcome);
    fields.add("rdb_last_bgsave_time_sec", last);
    fields.add("rdb_current_bgsave_time_sec", current);
    fields.add("rdb_saves", status.finished);
    fields.add("aof_enabled", u8::from(engine.has_log()));
    fields.add("aof_rewrite_in_progress", running);
    fields.add("aof_rewrite_scheduled", 0);
    fields.add("aof_last_rewrite_time_sec", last);
    fields.add("aof_current_rewrite_time_sec", current);
    fields.add("aof_last_bgrewrite_status", outcome);
    fields.add("aof_last_write_status", ok_or_err(engine.log_accepts()));
    let base = status.last.map_or(0, |last| last.bytes);
    fields.add("aof_current_size", engine.log_size() + base);
    fields.add("aof_base_size", base);
}

fn ok_or_err(ok: bool) -> &'static str {
    if ok { "ok" } else { "err" }
}

/// The log, under its own names.
fn log(session: &Session, fields: &mut Fields) {
    let (engine, started_with) = (
        &session.shared.engine,
        session.shared.settings.started_with(),
    );
    fields.add("wal_enabled", u8::from(engine.has_log()));
    fields.add("wal_fsync", started_with.sync);
    fields.add("wal_segment_len", started_with.segment_len);
    fields.add("wal_accepts_writes", u8::from(engine.log_accepts()));
    fields.add("wal_applied_lsn", engine.watches().applied());
    fields.add("wal_groups", engine.groups_applied());
    fields.add("wal_bytes_since_snapshot", engine.log_size());
    let status = engine.compaction_status();
    let (done, tables) = engine.snapshot_progress();
    let running = status.running_since.is_some();
    fields.add("snapshot_in_progress", u8::from(running));
    let percent = if running {
        done * 100 / tables.max(1)
    } else {
        0
    };
    fields.add("snapshot_progress_perc", percent);
    fields.add("snapshots_finished", status.finished);
    fields.add("snapshots_failed", status.failed);
    fields.add("snapshot_last_error", one_line(status.error.as_deref()));
    let last = status.last;
    let held = last.map_or(0, |last| last.next.0.saturating_sub(1));
    fields.add("snapshot_last_lsn", held);
    fields.add("snapshot_last_bytes", last.map_or(0, |last| last.bytes));
    let saved = session.last_save_seconds();
    let age = last.map_or(0, |_| (engine.time().0 / 1000).saturating_sub(saved));
    fields.add("snapshot_last_age_sec", age);
}

/// A field is a line.
fn one_line(text: Option<&str>) -> String {
    text.unwrap_or_default().replace(['\r', '\n'], " ")
}

fn stats(session: &Session, fields: &mut Fields) {
    let (console, totals) = (&session.shared.console, session.totals());
    let rates = console.rates();
    fields.add(
        "total_connections_received",
        totals.of(Counter::ConnectionsReceived),
    );
    fields.add(
        "total_commands_processed",
        totals.of(Counter::CommandsProcessed),
    );
    fields.add("instantaneous_ops_per_sec", rates.commands.round());
    fields.add("total_net_input_bytes", totals.of(Counter::InputBytes));
    fields.add("total_net_output_bytes", totals.of(Counter::OutputBytes));
    fields.add_all(
        &["total_net_repl_input_bytes", "total_net_repl_output_bytes"],
        0,
    );
    fields.add(
        "instantaneous_input_kbps",
        format_args!("{:.2}", rates.input / 1024.0),
    );
    fields.add(
        "instantaneous_output_kbps",
        format_args!("{:.2}", rates.output / 1024.0),
    );
    fields.add(
        "rejected_connections",
        totals.of(Counter::ConnectionsRejected),
    );
    fields.add_all(&["sync_full", "sync_partial_ok", "sync_partial_err"], 0);
    let expired = session.shared.engine.expired_keys();
    let expired_before = console.expired_before.load(Ordering::Relaxed);
    fields.add("expired_keys", expired.saturating_sub(expired_before));
    fields.add("expired_stale_perc", "0.00");
    fields.add_all(
        &[
            "expired_time_cap_reached_count",
            "evicted_keys",
            "evicted_clients",
        ],
        0,
    );
    fields.add("keyspace_hits", totals.of(Counter::KeyspaceHits));
    fields.add("keyspace_misses", totals.of(Counter::KeyspaceMisses));
    fields.add_all(
        &[
            "pubsub_channels",
            "pubsub_patterns",
            "pubsubshard_channels",
            "latest_fork_usec",
            "total_forks",
            "migrate_cached_sockets",
            "tracking_total_keys",
            "unexpected_error_replies",
        ],
        0,
    );
    fields.add(
        "total_error_replies",
        totals.errors().map(|(_, count)| count).sum::<u64>(),
    );
    fields.add("total_reads_processed", totals.of(Counter::Reads));
    fields.add("total_writes_processed", totals.of(Counter::Writes));
    fields.add("client_query_buffer_limit_disconnections", 0);
    fields.add(
        "client_output_buffer_limit_disconnections",
        totals.of(Counter::OutputLimit),
    );
    fields.add("acl_access_denied_auth", totals.of(Counter::AuthDenied));
    fields.add("acl_access_denied_cmd", totals.of(Counter::CommandDenied));
}

fn replication(session: &Session, fields: &mut Fields) {
    fields.add("role", "master");
    fields.add("connected_slaves", 0);
    fields.add("master_failover_state", "no-failover");
    fields.add("master_replid", &session.shared.console.run_id);
    fields.add("master_replid2", NO_REPLICATION);
    fields.add(
        "master_repl_offset",
        session.shared.engine.watches().applied(),
    );
    fields.add("second_repl_offset", -1);
    fields.add_all(
        &[
            "repl_backlog_active",
            "repl_backlog_size",
            "repl_backlog_first_byte_offset",
            "repl_backlog_histlen",
        ],
        0,
    );
}

fn cpu(_: &Session, fields: &mut Fields) {
    let time = system::processor_time();
    fields.add(
        "used_cpu_sys",
        format_args!("{:.6}", time.system.as_secs_f64()),
    );
    fields.add(
        "used_cpu_user",
        format_args!("{:.6}", time.user.as_secs_f64()),
    );
    fields.add_all(
        &["used_cpu_sys_children", "used_cpu_user_children"],
        "0.000000",
    );
}

fn command_stats(session: &Session, fields: &mut Fields) {
    let totals = session.totals();
    for (spec, command) in catalogue::all().zip(totals.commands()) {
        if command.calls == 0 && command.rejected == 0 {
            continue;
        }
        let per_call = command.nanos as f64 / 1000.0 / command.calls.max(1) as f64;
        fields.add(
            &format!("cmdstat_{}", catalogue::name_of(spec)),
            format_args!(
                "calls={},usec={},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
                command.calls,
                command.nanos / 1000,
                command.rejected,
                command.failed
            ),
        );
    }
}

fn error_stats(session: &Session, fields: &mut Fields) {
    for (code, count) in session.totals().errors() {
        fields.add(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn latency_stats(session: &Session, fields: &mut Fields) {
    let totals = session.totals();
    for (spec, command) in catalogue::all().zip(totals.commands()) {
        if command.calls == 0 {
            continue;
        }
        let micros = |percent| command.percentile(percent) as f64 / 1000.0;
        fields.add(
            &format!("latency_percentiles_usec_{}", catalogue::name_of(spec)),
            format_args!(
                "p50={:.3},p99={:.3},p99.9={:.3}",
                micros(50.0),
                micros(99.0),
                micros(99.9)
            ),
        );
    }
}

fn keyspace(session: &Session, fields: &mut Fields) {
    let store = session.shared.engine.store();
    let (keys, expires) = (store.len(), store.expiring());
    if keys > 0 {
        fields.add(
            "db0",
            format_args!("keys={keys},expires={expires},avg_ttl=0"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_to_people_in_the_largest_unit_that_fits() {
        for (bytes, told) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1_018_720, "994.84K"),
            (6_512_640, "6.21M"),
            (25_276_514_304, "23.54G"),
            (3 << 40, "3.00T"),
        ] {
            assert_eq!(for_people(bytes), told);
        }
    }

    #[test]
    fn sections_have_names_of_their_own() {
        let mut names: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SECTIONS.len());
    }
}
