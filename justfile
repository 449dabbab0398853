# The commands of this project. What `just ci` runs is what CI runs.

# Shows this list.
default:
    @just --list

# Serves on 127.0.0.1:4242; flags go behind it, such as `just run -port 5000`.
run *flags:
    cargo run --release --locked -- {{ flags }}

# Everything that must pass before a change goes in.
ci:
    .ci/run

# Checks the format; `cargo fmt` mends it.
fmt:
    cargo fmt --all --check

# Lints, as errors.
lint:
    cargo clippy --all-targets --locked -- -D warnings

# All tests. Names behind it choose some, such as `just test recovery`.
test *names:
    cargo test --locked {{ names }}

# A million operations of concurrent clients across 250 kills and restarts, checked for
# linearizability; POSTRES_TEST_OPERATIONS, POSTRES_TEST_RESTARTS and POSTRES_TEST_SEED change it.
linearizability:
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo test --release \
        --locked --test it a_long_history -- --ignored --nocapture

# A million states of crashed logs, then a thousand kills; 20 minutes.
torture: crash-states crashes

# A million states of crashed logs with snapshots, power cuts at every two calls; some minutes.
# POSTRES_TEST_STATES and POSTRES_TEST_SEED change it.
crash-states:
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo test --release \
        --locked --test it a_million_states -- --ignored --nocapture

# Breaks one promise of the log after the other, and sees that a test notices; names choose some.
sabotage *names:
    tests/sabotage/run {{ names }}

# A thousand kills of a server that writes snapshots all the time; POSTRES_TEST_CRASHES changes it.
crashes:
    cargo test --locked --test it a_thousand_kills -- --ignored --nocapture

# The server on a file system of 64 MiB that is full; mounts it in a namespace of its own.
full-disk:
    unshare --map-root-user --mount cargo test --locked --test it full_disk -- \
        --ignored --nocapture

# The documentation, private items too; a broken link is an error.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked

# The same commands to this server and to Valkey, which is installed below target/.
differential:
    POSTRES_VALKEY="$(.ci/valkey)" cargo test --locked --test it differential -- --ignored --nocapture

# Real clients of seven kinds against the server; `--only python` runs one, a program or an address may follow.
clients *args:
    tests/clients/run {{ args }}

# Made-up bytes for one decoder: resp, line, frame, operation or snapshot.
fuzz target seconds="60":
    fuzz/run {{ seconds }} {{ target }}

# Writes docs/commands.md anew from the table of commands.
commands:
    POSTRES_WRITE_DOCS=1 cargo test --locked --test it the_page_of_commands

# Licences, banned crates and sources of everything that is compiled in.
deny:
    cargo deny --locked check licenses bans sources

# Compiles the benchmarks without running them.
bench-build:
    CARGO_PROFILE_BENCH_LTO=off CARGO_PROFILE_BENCH_CODEGEN_UNITS=16 cargo bench --no-run --locked

whole := "--large --scaling --report target/bench/report.md --plots target/bench/plots --json target/bench/cases.json"

# Without options all of it, which takes more than an hour; `--help` tells the options.
# Measures postres against Valkey and a naive baseline; installs what is missing for that.
[positional-arguments]
bench *options:
    @mkdir -p target/bench
    [ $# -gt 0 ] || set -- {{ whole }}; cargo bench --locked --bench end_to_end -- "$@"

# Measures the parts alone: decoder, encoder, frames, store, apply. Part of a name chooses some.
bench-parts *args:
    cargo bench --locked --bench parts -- {{ args }}

# Counts a server's instructions and cache misses for each operation of a case; installs valgrind for that.
bench-instructions *case:
    benches/instructions "{{ case }}"

# Sees that every case of the benchmark runs; the figures mean nothing.
bench-check *options:
    CARGO_PROFILE_BENCH_LTO=off CARGO_PROFILE_BENCH_CODEGEN_UNITS=16 \
        cargo bench --locked --bench end_to_end -- --rounds 1 --seconds 0.2 {{ options }}
