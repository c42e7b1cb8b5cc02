#!/usr/bin/env bash
# Installs what a build needs besides a Rust toolchain: a C compiler, for revm's cryptography, and LLVM 22, for tier 1.
# Without LLVM everything else builds: this says so and goes on, or fails if it is called with --require-llvm.
#
# --dry-run: says what would be run as root, and does not run it.
# KILN_NO_LLVM=1: goes without LLVM, and does not try to install it.
set -euo pipefail
cd "$(dirname "$0")/.."

# All that llvm-sys needs where it links to the shared library: headers, llvm-config, libLLVM-22.so. The C++ runtime
# to link to comes with the compilers.
llvm_packages=(llvm-22-dev)
compiler_packages=(build-essential)

require_llvm=
dry_run=
for argument in "$@"; do
    case $argument in
        --require-llvm) require_llvm=1 ;;
        --dry-run) dry_run=1 ;;
        *)
            echo "usage: scripts/setup.sh [--require-llvm] [--dry-run]" >&2
            exit 2
            ;;
    esac
done

say() {
    echo "kiln: $*" >&2
}

as_root() {
    local command=("$@")
    [ "$(id -u)" -eq 0 ] || command=(sudo "$@")
    if [ -n "$dry_run" ]; then
        echo "would run: ${command[*]}"
        return
    fi
    "${command[@]}"
}

# Why packages can not be installed here; empty if they can.
why_not() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo no-apt
    elif [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then
        echo no-root
    fi
}

known() {
    local package
    for package in "$@"; do
        apt-cache show "$package" >/dev/null 2>&1 || return 1
    done
}

# Installs packages. 1: some are not in this distribution. 2: it did not work.
install_packages() {
    local updated=
    if ! known "$@"; then
        as_root apt-get update || true
        updated=1
        known "$@" || [ -n "$dry_run" ] || return 1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" && return
    # What is known may be older than what there is.
    [ -z "$updated" ] || return 2
    as_root apt-get update || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" || return 2
}

need_compiler() {
    command -v cc >/dev/null 2>&1 && return
    local reason
    reason=$(why_not)
    if [ -z "$reason" ]; then
        install_packages "${compiler_packages[@]}" && return
        reason=failed
    fi
    say "there is no C compiler (cc) on PATH."
    case $reason in
        no-apt) say "Install one with the system's package manager" ;;
        *) say "As root: apt-get update && apt-get install -y --no-install-recommends ${compiler_packages[*]}" ;;
    esac
    exit 2
}

# What to do where LLVM is missing and can not be installed, by the reason for that.
explain_llvm() {
    local packages="${llvm_packages[*]} ${compiler_packages[*]}"
    say "tier 1 needs LLVM 22: $1"
    case $2 in
        unknown)
            say "This distribution has no package ${llvm_packages[*]}. As root, from https://apt.llvm.org:"
            say "    curl -fsSLO https://apt.llvm.org/llvm.sh && bash llvm.sh 22 && apt-get install -y $packages"
            ;;
        no-apt) say "Install it, with headers and llvm-config, with the system's package manager" ;;
        no-root)
            say "As root: apt-get update && apt-get install -y --no-install-recommends $packages"
            ;;
        *) say "It could not be installed; apt-get says above why. As root: apt-get install -y $packages" ;;
    esac
    say "If it is elsewhere, name the folder it was installed to: LLVM_SYS_221_PREFIX=DIR"
}

need_llvm() {
    local missing reason status=0
    if [ -n "${KILN_NO_LLVM:-}" ]; then
        say "KILN_NO_LLVM is set: WITHOUT TIER 1, which is not built and not tested"
        return
    fi
    missing=$(scripts/llvm.sh 2>&1 >/dev/null) && return
    reason=$(why_not)
    if [ -z "$reason" ]; then
        install_packages "${llvm_packages[@]}" "${compiler_packages[@]}" || status=$?
        case $status in
            0)
                [ -z "$dry_run" ] || return 0
                missing=$(scripts/llvm.sh 2>&1 >/dev/null) && return
                reason=failed
                ;;
            1) reason=unknown ;;
            *) reason=failed ;;
        esac
    fi
    explain_llvm "$missing" "$reason"
    if [ -n "$require_llvm" ]; then
        say "to go without tier 1: KILN_NO_LLVM=1"
        exit 2
    fi
    say "going on WITHOUT TIER 1"
}

command -v cargo >/dev/null 2>&1 || {
    say "no cargo on PATH; install a Rust toolchain (1.95 or newer) from https://rustup.rs"
    exit 2
}
need_compiler
need_llvm
