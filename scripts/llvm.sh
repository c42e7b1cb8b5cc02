#!/usr/bin/env bash
# Is LLVM 22 there, so that the crate llvm-sys finds it and builds against it? Prints its llvm-config if so. If not,
# says why on standard error and exits with 1.
#
# KILN_NO_LLVM=1: it is not wanted. LLVM_SYS_221_PREFIX: the folder it was installed to, if not on PATH.
set -euo pipefail

fail() {
    echo "$1" >&2
    exit 1
}

[ -z "${KILN_NO_LLVM:-}" ] || fail "KILN_NO_LLVM is set"

# llvm-sys takes the first of these that is version 22 or newer.
folder=${LLVM_SYS_221_PREFIX:+$LLVM_SYS_221_PREFIX/bin/}
config=
for name in llvm-config-22 llvm-config22 llvm22-config llvm-config-22.1 llvm-config221 llvm-config; do
    version=$("$folder$name" --version 2>/dev/null) || continue
    major=${version%%.*}
    [ "$major" -ge 22 ] 2>/dev/null || continue
    [ "$major" -eq 22 ] || fail "$folder$name is LLVM $version, not 22"
    config=$folder$name
    break
done
[ -n "$config" ] || fail "there is no llvm-config of LLVM 22 in ${folder:-any folder of PATH}"

# What llvm-sys does: it compiles C against the headers, and links to the shared library if there is one, and to the
# C++ runtime.
if libraries=$("$config" --link-shared --libnames 2>/dev/null); then
    kind=--link-shared
else
    libraries=$("$config" --link-static --libnames 2>/dev/null) || fail "$config knows no libraries"
    kind=--link-static
fi
flags=()
for library in $libraries; do
    library=${library#lib}
    library=${library%.so}
    flags+=("-l${library%.a}")
done
read -r -a compile <<< "$("$config" --cflags | tr '\n' ' ')"
read -r -a system <<< "$("$config" "$kind" --system-libs | tr '\n' ' ')"
out=$(mktemp)
trap 'rm -f "$out"' EXIT
program='#include <llvm-c/Core.h>
int main(void) { LLVMShutdown(); return 0; }'
if ! said=$(cc -x c "${compile[@]}" - -o "$out" "-L$("$config" --libdir)" "${flags[@]}" "${system[@]}" -lstdc++ \
    <<< "$program" 2>&1); then
    fail "LLVM 22 of $config does not link: ${said##*$'\n'}"
fi
echo "$config"
