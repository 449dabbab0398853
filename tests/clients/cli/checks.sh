# shellcheck shell=bash
# What the suites of the command-line tools need; sourced by them.

host=${CLIENTS_ADDRESS%:*} port=${CLIENTS_ADDRESS##*:}
locked_host=${CLIENTS_LOCKED_ADDRESS:-} locked_port=${CLIENTS_LOCKED_ADDRESS:-}
locked_host=${locked_host%:*} locked_port=${locked_port##*:}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
passed=0 failed=0

# check NAME FUNCTION...: runs it in a shell of its own that ends at the first failure.
check() {
    local name=$1 status
    shift
    set +e
    (
        set -e
        "$@"
    ) >"$folder/output" 2>&1
    status=$?
    set -e
    if ((status == 0)); then
        passed=$((passed + 1))
        printf 'ok      %s\n' "$name"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s (exit code %d)\n' "$name" "$status"
        sed 's/^/        /' "$folder/output"
    fi
}

# same WANT GOT: fails, and shows both, where they differ.
same() {
    [[ $1 == "$2" ]] || {
        printf 'want: %q\ngot:  %q\n' "$1" "$2"
        return 1
    }
}

# like PATTERN GOT: the same with an extended regular expression.
like() {
    [[ $2 =~ $1 ]] || {
        printf 'want a match of: %s\ngot:  %q\n' "$1" "$2"
        return 1
    }
}

# Prints the counts; the exit code says whether all passed.
conclude() {
    printf '%d passed, %d failed\n' "$passed" "$failed"
    ((failed == 0))
}
