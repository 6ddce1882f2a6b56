#!/bin/sh
# Says in one line what a build lacks.
set -eu
cd "$(dirname "$0")/.."
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if ! found=$("${CARGO:-cargo}" --version 2>/dev/null); then
    echo "\`cargo\` is missing: install Rust $wanted or newer (https://rustup.rs)" >&2
    exit 69
fi
found=$(echo "$found" | cut -d' ' -f2)
if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
    echo "Rust $found is too old: $wanted or newer is needed (rustup update stable)" >&2
    exit 69
fi
if ! command -v cc >/dev/null; then
    echo "a C compiler for linking is missing (apt install build-essential)" >&2
    exit 69
fi
