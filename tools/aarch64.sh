#!/usr/bin/env bash
# Compares the bits of all kernels and drivers on aarch64, emulated by qemu, with those of x86-64.
#
#   tools/aarch64.sh
set -euo pipefail
cd "$(dirname "$0")/.."

need() { command -v "$1" > /dev/null || { echo "needs $1 ($2)" >&2; exit 1; }; }
need aarch64-linux-gnu-g++ "Debian: g++-aarch64-linux-gnu"
need qemu-aarch64 "Debian: qemu-user"
need cmake "pip install cmake"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Linked whole, so that qemu need not be told where the C library of the other processor is.
cmake -S . -B "$work" -DSKBUILD_PROJECT_VERSION=0 -DFUSEDSTEP_NATIVE=ON \
  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
  -DCMAKE_EXE_LINKER_FLAGS=-static
cmake --build "$work" --parallel "$(nproc)"
qemu-aarch64 "$work/tests/native/hashes" > "$work/hashes.txt"
diff tests/native/hashes.txt "$work/hashes.txt" || { echo "the bits differ from those of x86-64" >&2; exit 1; }
echo "aarch64 has the bits of x86-64 in all $(wc -l < "$work/hashes.txt") cases"
