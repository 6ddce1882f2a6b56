#!/usr/bin/env bash
# Every fuzz target for TRIVET_FUZZ_SECONDS (20) each: guided by coverage where a nightly toolchain and cargo-fuzz
# are, guided by outcomes elsewhere. `scripts/fuzz.sh TARGET…` runs only those.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

cargo=${CARGO:-cargo}
export TRIVET_FUZZ_SECONDS=${TRIVET_FUZZ_SECONDS:-20}
if (($# == 0)); then
    files=(fuzz_targets/*.rs)
    set -- "${files[@]##*/}"
fi

if "$cargo" +nightly fuzz --version >/dev/null 2>&1; then
    one() { "$cargo" +nightly fuzz run "$1" -- -max_total_time="$TRIVET_FUZZ_SECONDS"; }
    "$cargo" +nightly fuzz build
else
    one() { "target/release/$1"; }
    "$cargo" build --release --locked --bins --target-dir target
fi

# All at once: each is one thread for the given time.
running=()
for target in "${@%.rs}"; do
    one "$target" &
    running+=($!)
done
for process in "${running[@]}"; do
    wait "$process" || failed=1
done
exit "${failed:-0}"
