//! The command line: flags, environment, exit codes, and what is said on which stream.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::support::client::Client;
use crate::support::process::{
    Server, binary, eventually, file_names, run, segments, wal_path, with_log,
};

fn run_with(dir: &Path, args: &[&str]) -> Output {
    let mut command = binary(dir);
    command.args(args);
    run(command)
}

/// A start with a log in `dir` that is to fail.
fn start_refused(dir: &Path, args: &[&str]) -> Output {
    // Few clients, so that a low limit on open files adds no warning of its own.
    let mut command = with_log(binary(dir), dir);
    command.args(["-max-connections", "50"]).args(args);
    run(command)
}

/// Wants this exit code, nothing on stdout, and one line on stderr that holds all of `named`.
#[track_caller]
pub fn assert_refused(output: &Output, code: i32, named: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(stderr.ends_with('\n'), "{stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("postres: "), "{stderr}");
    for named in named {
        assert!(stderr.contains(named), "{named:?} is not in: {stderr}");
    }
}

#[test]
fn a_bad_flag_is_one_line_on_stderr_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    for (args, named) in [
        ("-port x", "port"),
        ("-port 65536", "port"),
        ("-port -1", "-1"),
        ("-port", "port"),
        ("--port=", "port"),
        ("-shards 0", "shards"),
        ("-shards x", "shards"),
        ("-bind nowhere", "bind"),
        ("-persist maybe", "persist"),
        ("-size -5", "-5"),
        ("-fsync sometimes", "always, everysec, never"),
        ("-segment-mib 0", "segment-mib"),
        ("-threads 0", "threads"),
        ("-max-connections 0", "max-connections"),
        ("-max-connections many", "max-connections"),
        ("-shutdown-timeout soon", "shutdown-timeout"),
        ("-log-format xml", "text, json"),
        ("-log-level loud", "log-level"),
        ("-nonsense", "nonsense"),
        ("stray", "stray"),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        assert_refused(&run_with(dir.path(), &args), 2, &[named]);
    }
    assert_eq!(file_names(dir.path()), [""; 0], "something was made");
}

#[test]
fn a_port_that_is_taken_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = binary(dir.path());
    command.args(["-max-connections", "50", "-port", &addr.port().to_string()]);
    assert_refused(&run(command), 1, &[&addr.to_string(), "in use"]);
}

#[test]
fn an_address_of_another_machine_is_one_line_and_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    // Set aside for documentation: no machine has it.
    let output = start_refused(dir.path(), &["-bind", "192.0.2.1"]);
    assert_refused(&output, 1, &["192.0.2.1"]);
}

#[test]
fn a_log_in_use_is_one_line_that_names_the_process_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    assert_eq!(client.request("SET a 1"), "+OK");
    let pid = format!("process {}", server.pid());
    for _ in 0..2 {
        let output = start_refused(dir.path(), &[]);
        assert_refused(&output, 1, &[&pid, "wal_file", "in use"]);
    }
    assert_eq!(client.request("SET b 2"), "+OK");
    server.kill();

    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.connect().request("DBSIZE"), "+OK 2");
    server.stop();
}

#[test]
fn a_path_that_cannot_hold_a_log_is_one_clear_line_and_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "not a folder").unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    for (wal, named) in [
        ("file/wal_file", "file"),
        ("file/deeper/wal_file", "file/deeper"),
        ("folder", "-wal ./folder/wal_file"),
        ("folder/", "folder/"),
        ("/proc/wal_file", "/proc"),
    ] {
        let mut command = binary(dir.path());
        command.args(["-port", "0", "-max-connections", "50", "-wal", wal]);
        assert_refused(&run(command), 1, &[named]);
    }
    for tool in ["check", "dump", "repair"] {
        let mut command = binary(dir.path());
        command.args(["log", tool, "-wal", "folder"]);
        assert_refused(&run(command), 1, &["-wal ./folder/wal_file"]);
    }
    let file = fs::read_to_string(dir.path().join("file")).unwrap();
    assert_eq!(file, "not a folder");
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 2, "a start that was refused left something");
}

#[test]
fn a_text_log_of_the_original_is_left_alone_and_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = "SET a 1\nSET b 2\nDEL a\n";
    fs::write(wal_path(dir.path()), text).unwrap();
    let output = start_refused(dir.path(), &[]);
    assert_refused(&output, 1, &["wal_file", "move it away"]);
    assert_eq!(fs::read_to_string(wal_path(dir.path())).unwrap(), text);
    assert_eq!(segments(dir.path()), [""; 0]);
}

#[test]
fn damage_in_the_log_is_one_line_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.connect().request("SET a 1"), "+OK");
    server.stop();
    let segment = dir.path().join(&segments(dir.path())[0]);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[0] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let output = start_refused(dir.path(), &[]);
    assert_refused(
        &output,
        1,
        &[segment.file_name().unwrap().to_str().unwrap()],
    );
    assert_eq!(fs::read(&segment).unwrap(), bytes);
}

#[test]
fn help_goes_to_stdout_and_tells_every_flag_with_its_default() {
    let dir = tempfile::tempdir().unwrap();
    for flag in ["--help", "-help", "-h"] {
        let output = run_with(dir.path(), &[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty(), "{output:?}");
        let help = String::from_utf8(output.stdout).unwrap();
        for (flag, default) in [
            ("--port", "4242"),
            ("--bind", "127.0.0.1"),
            ("--shards", "8"),
            ("--wal", "./wal_files/wal_file"),
            ("--persist", "true"),
            ("--size", "64"),
            ("--fsync", "always"),
            ("--segment-mib", "64"),
            ("--threads", "the cores but one"),
            ("--max-connections", "10000"),
            ("--shutdown-timeout", "10"),
            ("--log-format", "text"),
            ("--log-level", "info"),
        ] {
            let about = help
                .split_once(flag)
                .unwrap_or_else(|| panic!("no {flag}: {help}"));
            let default = format!("[default: {default}]");
            let told = about.1.find(&default);
            // In what is said of this flag, not of a later one.
            let ends_at = about
                .1
                .find("\n  ")
                .map(|at| at + 3)
                .unwrap_or(about.1.len());
            let next = about.1[ends_at..]
                .find("--")
                .map_or(about.1.len(), |at| at + ends_at);
            assert!(told.is_some_and(|at| at < next), "{flag} {default}: {help}");
        }
        for policy in ["always", "everysec", "never", "json", "POSTRES_PORT"] {
            assert!(help.contains(policy), "{policy}: {help}");
        }
    }
}

#[test]
fn version_goes_to_stdout() {
    let dir = tempfile::tempdir().unwrap();
    for flag in ["--version", "-version", "-V"] {
        let output = run_with(dir.path(), &[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty(), "{output:?}");
        let version = format!("postres {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
    }
}

#[test]
fn flags_are_taken_with_one_dash_and_with_two() {
    for args in [
        ["-port", "0", "-wal", "log/a"].as_slice(),
        &["-port=0", "-wal=log/a"],
        &["--port", "0", "--wal", "log/a"],
        &["--port=0", "--wal=log/a"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = binary(dir.path());
        command.args(args);
        let server = Server::spawn(command);
        assert_eq!(server.connect().request("SET a 1"), "+OK");
        server.stop();
        let made = segments(&dir.path().join("log"));
        assert_eq!(made, ["a.00000000000000000001.segment"], "{args:?}");
    }
}

#[test]
fn the_default_log_is_made_in_a_folder_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = binary(dir.path());
    command.args(["-port", "0"]);
    let server = Server::spawn(command);
    assert_eq!(server.connect().request("SET a 1"), "+OK");
    assert!(server.addr().ip().is_loopback());
    server.stop();
    assert_eq!(file_names(dir.path()), ["wal_files"]);
    let made = segments(&dir.path().join("wal_files"));
    assert_eq!(made, ["wal_file.00000000000000000001.segment"]);
}

#[test]
fn several_addresses_are_listened_on() {
    let port = free_port();
    let dir = tempfile::tempdir().unwrap();
    let mut command = with_log(binary(dir.path()), dir.path());
    command.args(["-bind", "127.0.0.1", "-bind", "127.0.0.2"]);
    let server = Server::spawn(command);
    assert!(
        server.stderr().contains("addr=127.0.0.1:"),
        "{}",
        server.stderr()
    );
    assert!(eventually(|| {
        server.stderr().contains("addr=127.0.0.2:")
    }));
    server.stop();

    // The same from the environment, with a port that can be known beforehand.
    let mut command = with_env(dir.path(), &[("BIND", "127.0.0.1,127.0.0.2")]);
    command.args(["-port", &port.to_string(), "-persist", "false"]);
    let server = Server::spawn(command);
    for ip in ["127.0.0.1", "127.0.0.2"] {
        let addr = format!("{ip}:{port}").parse().unwrap();
        let mut client = Client::connect(addr);
        assert_eq!(client.request("PING"), "+PONG");
    }
    server.stop();
}

/// A port below those that the system hands out, so that nothing else that runs now takes it.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let mut ports = std::iter::repeat_with(|| begin + NEXT.fetch_add(1, Ordering::Relaxed));
    ports
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .unwrap()
}

fn with_env(dir: &Path, variables: &[(&str, &str)]) -> std::process::Command {
    let mut command = binary(dir);
    for (name, value) in variables {
        command.env(format!("POSTRES_{name}"), value);
    }
    command
}

#[test]
fn the_environment_sets_what_no_flag_does() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let server = Server::spawn(with_env(
        dir.path(),
        &[
            ("PORT", &port.to_string()),
            ("WAL", "from_env/log"),
            ("SHARDS", "1"),
            ("SIZE", "10"),
            ("FSYNC", "everysec"),
            ("SEGMENT_MIB", "1"),
            ("THREADS", "1"),
            ("MAX_CONNECTIONS", "1"),
            ("SHUTDOWN_TIMEOUT", "1"),
            ("LOG_FORMAT", "json"),
            ("LOG_LEVEL", "info"),
        ],
    ));
    assert_eq!(server.addr().port(), port);
    let mut only = server.connect();
    assert_eq!(only.request("SET a 1"), "+OK");
    assert_eq!(
        server.connect().reply(),
        "-ERR max number of clients reached\r"
    );
    assert!(server.stderr().lines().all(|line| line.starts_with('{')));
    let segment = dir.path().join("from_env/log.00000000000000000001.segment");
    assert_eq!(fs::metadata(segment).unwrap().len(), 1 << 20);
    server.stop();

    let server = Server::spawn(with_env(dir.path(), &[("PORT", "0"), ("PERSIST", "false")]));
    assert_eq!(server.connect().request("SET a 1"), "+OK");
    server.stop();
    assert_eq!(file_names(dir.path()), ["from_env"]);
}

#[test]
fn a_bad_value_in_the_environment_is_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("PORT", "x"),
        ("SHARDS", "0"),
        ("BIND", "nowhere"),
        ("PERSIST", "maybe"),
        ("FSYNC", "sometimes"),
        ("MAX_CONNECTIONS", "-1"),
        ("LOG_LEVEL", "loud"),
    ] {
        let output = run(with_env(dir.path(), &[(name, value)]));
        let flag = name.to_lowercase().replace('_', "-");
        assert_refused(&output, 2, &[&flag, value]);
    }
}

#[test]
fn a_flag_wins_over_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = with_env(
        dir.path(),
        &[
            ("PORT", "1"),
            ("WAL", "env"),
            ("LOG_FORMAT", "json"),
            ("PERSIST", "false"),
        ],
    );
    command.args([
        "-port",
        "0",
        "-wal",
        "flag",
        "-log-format",
        "text",
        "-persist",
        "true",
    ]);
    let server = Server::spawn(command);
    assert_eq!(server.connect().request("SET a 1"), "+OK");
    assert!(!server.stderr().contains('{'), "{}", server.stderr());
    server.stop();
    assert_eq!(segments(dir.path()), ["flag.00000000000000000001.segment"]);
}

#[test]
fn without_persistence_nothing_is_kept_and_no_file_made() {
    let dir = tempfile::tempdir().unwrap();
    for flag in [&["-persist", "false"][..], &["-persist=false"]] {
        let server = Server::start(dir.path(), flag);
        let mut client = server.connect();
        assert_eq!(client.request("DBSIZE"), "+OK 0");
        assert_eq!(client.request("SET a 1"), "+OK");
        assert_eq!(client.request("GET a"), "+OK 1");
        assert_eq!(client.request("DEL a"), "+OK");
        assert_eq!(client.request("SET b 1"), "+OK");
        assert!(
            server.stderr().contains("no log is kept"),
            "{}",
            server.stderr()
        );
        server.stop();
        assert_eq!(file_names(dir.path()), [""; 0]);
    }
}

#[test]
fn log_lines_in_json_are_one_object_each() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &["-log-format", "json", "-log-level=debug"]);
    assert_eq!(server.connect().request("SET a 1"), "+OK");
    // A line of the server's that quotes what a client did.
    let mut forger = server.connect();
    forger.send(b"POST / HTTP/1.1\r\n\r\n");
    forger.assert_closed();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let stderr = server.stderr();
    assert!(stderr.lines().count() >= 4, "{stderr}");
    for line in stderr.lines() {
        let rest = json_object(line).unwrap_or_else(|| panic!("no JSON object: {line}"));
        assert_eq!(rest, "", "more than one object: {line}");
        for field in ["\"timestamp\":", "\"level\":", "\"message\":"] {
            assert!(line.contains(field), "{field} in {line}");
        }
    }
}

/// What follows a JSON value that `text` begins with; `None` where there is none.
pub fn json_value(text: &str) -> Option<&str> {
    match text.chars().next()? {
        '{' => json_object(text),
        '[' => json_list(text, '[', ']', json_value),
        '"' => json_string(text),
        '-' | '0'..='9' => {
            let end = text.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c)));
            let (number, rest) = text.split_at(end.unwrap_or(text.len()));
            number.parse::<f64>().ok().map(|_| rest)
        }
        _ => ["true", "false", "null"]
            .iter()
            .find_map(|word| text.strip_prefix(word)),
    }
}

pub fn json_object(text: &str) -> Option<&str> {
    json_list(text, '{', '}', |member| {
        json_value(json_string(member)?.strip_prefix(':')?)
    })
}

fn json_list(text: &str, open: char, close: char, item: fn(&str) -> Option<&str>) -> Option<&str> {
    let mut rest = text.strip_prefix(open)?;
    if let Some(rest) = rest.strip_prefix(close) {
        return Some(rest);
    }
    loop {
        rest = item(rest)?;
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return rest.strip_prefix(close),
        }
    }
}

fn json_string(text: &str) -> Option<&str> {
    let mut chars = text.strip_prefix('"')?.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return text.get(at + 2..),
            '\\' => match chars.next()?.1 {
                '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => {}
                'u' => {
                    for _ in 0..4 {
                        chars.next().filter(|(_, c)| c.is_ascii_hexdigit())?;
                    }
                }
                _ => return None,
            },
            c if c < ' ' => return None,
            _ => {}
        }
    }
    None
}

#[test]
fn the_log_level_decides_which_lines_are_written() {
    let dir = tempfile::tempdir().unwrap();
    for (level, written) in [
        ("warn", vec!["WARN"]),
        ("info", vec!["WARN", "INFO"]),
        ("off", vec![]),
    ] {
        let port = free_port();
        let mut command = binary(dir.path());
        command.args([
            "-persist=false",
            "-max-connections",
            "50",
            "-log-level",
            level,
        ]);
        command.args(["-port", &port.to_string()]);
        let output = run_and_stop(command, port);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        for name in ["WARN", "INFO"] {
            assert_eq!(
                stderr.contains(name),
                written.contains(&name),
                "{level}: {stderr}"
            );
        }
    }
}

/// Starts a server whose log line may not tell when it listens, and stops it once it does.
fn run_and_stop(mut command: std::process::Command, port: u16) -> Output {
    command.stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let addr = ([127, 0, 0, 1], port).into();
    // A connection alone says little: one to a port that nobody listens at can be to itself.
    let answers = || {
        let mut client = Client::try_connect(addr)?;
        client.try_send(b"PING\r\n")?;
        client.try_line()
    };
    let listens = eventually(|| answers().is_ok_and(|line| line.starts_with(b"+PONG")));
    let pid = child.id().to_string();
    let stopped = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status();
    let output = child.wait_with_output().unwrap();
    assert!(stopped.unwrap().success() && listens, "{output:?}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    output
}
