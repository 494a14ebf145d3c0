#!/usr/bin/env bash
# Fuzzes the C interface with libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer: tools/fuzz.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-3600}
CXX=${CXX:-$(command -v clang++ || compgen -c clang++- | sort -V | tail -1 || true)}
if [[ -z $CXX ]]; then
    echo "needs clang++ with its runtime libraries (Debian: clang-14 libclang-rt-14-dev)" >&2
    exit 1
fi
command -v cmake >/dev/null || { echo "needs cmake (pip install cmake ninja)" >&2; exit 1; }

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cmake -S . -B "$build" -DCMAKE_CXX_COMPILER="$CXX" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSKBUILD_PROJECT_VERSION=0 \
    -DFUSEDSTEP_NATIVE=ON \
    -DCMAKE_CXX_FLAGS="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all" >/dev/null
cmake --build "$build" --target fuzz_c_api

# Findings stay in the folder that the program is started in.
mkdir -p fuzz-findings
echo "fuzzing for $seconds seconds"
"$build"/tests/native/fuzz_c_api -max_total_time="$seconds" -max_len=4096 -print_final_stats=1 -artifact_prefix=fuzz-findings/
