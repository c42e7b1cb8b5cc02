#!/usr/bin/env bash
# Installs what a build needs besides a Rust toolchain: a C compiler, for revm's cryptography.
set -euo pipefail

command -v cargo >/dev/null 2>&1 || {
    echo "kiln: no cargo on PATH; install a Rust toolchain (1.95 or newer) from https://rustup.rs" >&2
    exit 2
}
if command -v cc >/dev/null 2>&1; then
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "kiln: no C compiler (cc) on PATH; install one with your system's package manager" >&2
    exit 2
fi
if [ "$(id -u)" -eq 0 ]; then
    sudo=""
elif command -v sudo >/dev/null 2>&1; then
    sudo="sudo"
else
    echo "kiln: no C compiler; run as root: apt-get install -y build-essential" >&2
    exit 2
fi
$sudo apt-get update
$sudo apt-get install -y --no-install-recommends build-essential
