#!/usr/bin/env bash
# `make test`: checks first, each in one line, then the tests with their runners' own output.
# `make lint`: the part that needs no build of ours to run.
# A step that cannot run on this machine is named as skipped, never left out; one that fails stops no other.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

NEXTEST=0.9.143
DENY=0.20.2
FUZZ=0.13.2
cargo=${CARGO:-cargo}
venv=$PWD/.venv-test/bin
logs=target/checks
passed=() skipped=() failed=()

mkdir -p "$logs"
export CARGO_TERM_PROGRESS_WHEN=never PATH="$PWD/.tools/bin:$PATH"

check() { # check NAME COMMAND…: one line when it works, its whole output when it does not
    local name=$1 start=$SECONDS
    shift
    printf '  %-12s ' "$name"
    if "$@" >"$logs/$name.log" 2>&1 </dev/null; then
        printf 'ok, %d s\n' $((SECONDS - start))
        passed+=("$name")
    else
        printf 'FAILED\n'
        cat "$logs/$name.log"
        failed+=("$name")
        return 1
    fi
}

skip() { # skip NAME WHY
    printf '  %-12s skipped: %s\n' "$1" "$2"
    skipped+=("$1 ($2)")
}

at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }

tool() { # tool CRATE VERSION FLAG…: the one in PATH if it is new enough, else built once into .tools
    local name=$1 version=$2 found
    shift 2
    found=$("$cargo" "${name#cargo-}" --version 2>/dev/null | sed -n '1s/^[^ ]* \([0-9.]*\).*/\1/p')
    if [[ -n $found ]] && at_least "$version" "$found"; then
        return
    fi
    # It runs for seconds: build it fast rather than make it fast.
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0 \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        check "$name" "$cargo" install --locked --root .tools --target-dir .tools/target "$@" "$name@$version"
}

formatted() { "$cargo" fmt --all --check && "$cargo" fmt --manifest-path fuzz/Cargo.toml --check; }

linted() {
    "$cargo" clippy --workspace --all-targets --locked -- --deny warnings &&
        "$cargo" clippy --manifest-path fuzz/Cargo.toml --all-targets --locked -- --deny warnings
}

nightly() { "$cargo" +nightly "$@"; }

loom() {
    RUSTFLAGS="--cfg loom" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        "$cargo" test --release --locked --package trivet-wire --lib --target-dir target/loom
}

miri() {
    MIRIFLAGS=-Zmiri-disable-isolation nightly miri test --locked --package trivet-wire --package trivet-http \
        --lib --target-dir target/miri
}

address_sanitizer() {
    # Leaks are found by ptrace, which containers refuse; everything else is checked.
    RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0 nightly test --locked --package trivet-wire \
        --package trivet-http --lib --target "$(uname -m)-unknown-linux-gnu" --target-dir target/asan
}

scripts/test-needs.sh && scripts/build-needs.sh && make --silent .venv-test/ready || exit

echo "checks"
check fmt formatted
check clippy linted
check ruff "$venv/ruff" check .
check ruff-format "$venv/ruff" format --check .
check mypy "$venv/mypy"
if [[ ${1:-} == lint ]]; then
    exit $((${#failed[@]} > 0))
fi

if tool cargo-deny "$DENY"; then
    check deny "$cargo" deny --locked check bans licenses sources
    if timeout 60 "$cargo" deny --locked fetch db >"$logs/advisories.log" 2>&1; then
        check advisories "$cargo" deny --locked check --disable-fetch advisories
    else
        skip advisories "the advisory database cannot be fetched"
    fi
fi
check loom loom
nightly --version >/dev/null 2>&1 && tool cargo-fuzz "$FUZZ"
check fuzz scripts/fuzz.sh
if nightly miri --version >/dev/null 2>&1; then
    check miri miri
else
    skip miri "no nightly toolchain with miri"
fi
if nightly --version >/dev/null 2>&1; then
    check sanitizer address_sanitizer
else
    skip sanitizer "no nightly toolchain"
fi
tool cargo-nextest "$NEXTEST" --no-default-features --features default-no-update # no TLS library to build
check build "$cargo" build --release --locked --package trivet --package trivet-python || exit
check wheel "$venv/python" scripts/try_wheel.py
built=$("$cargo" metadata --format-version 1 --no-deps --offline | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

echo "tests"
"$cargo" nextest run --workspace --locked --no-fail-fast || failed+=(nextest)
echo
echo "checks: ${#passed[@]} passed: ${passed[*]}"
if ((${#skipped[@]})); then printf 'skipped: %s\n' "${skipped[@]}"; fi
TRIVET_BIN=$built/release/trivet "$venv/python" -m pytest tests || failed+=(pytest)

if ((${#failed[@]})); then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
