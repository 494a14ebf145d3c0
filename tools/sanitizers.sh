#!/usr/bin/env bash
# Runs the tests with the extension built under a sanitizer: address (with undefined behaviour) or thread.
#
# tools/sanitizers.sh [address|thread] [files, -k ...: what pytest gets in place of all that the sanitizer concerns]
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf '%s\n' "tools/sanitizers.sh: $*" >&2
    exit 2
}

kind=${1:-address}
shift || true
[[ $kind == address || $kind == thread ]] || fail "the sanitizer is '$kind', expected address or thread"
[[ $(uname -s) == Linux ]] || fail "needs Linux, where a runtime can be preloaded"
compiler=${CXX:-g++}
"$compiler" --version 2>/dev/null | grep -qi 'g++\|gcc' || fail "needs g++ (Debian: g++); CXX is '$compiler'"

# The path of a library as the compiler links it.
library() {
    local path
    path=$("$compiler" -print-file-name="$1")
    [[ $path == /* ]] || fail "needs $1, which comes with the compiler (Debian: libasan8 libubsan1 libtsan2)"
    realpath "$path"
}

folder=$PWD/build/sanitizers/$kind
reports=$folder/reports # each process writes its own, so one in a child fails the run too
rm -rf "$reports"
mkdir -p "$reports"
export PYTHONDONTWRITEBYTECODE=1

# Tests that don't concern what is built here, and why.
left_out=(
    --ignore=tests/project/test_objects.py # reads the assembler of kernels that it compiles anew, without the sanitizer
    --ignore=tests/project/test_hashes.py  # runs a program of its own, compiled in the same way
    --ignore=tests/project/test_made_up_rules.py # likewise
)
# What the whole run is, if no arguments say something else.
tests=()
start=()
case $kind in
address)
    # float-cast-overflow is not part of undefined. vptr needs type information that pybind11 hides.
    flags="-fsanitize=address,undefined,float-cast-overflow -fno-sanitize=vptr -fno-sanitize-recover=all"
    # libstdc++ too, because the runtime looks for its exceptions before Python has loaded it.
    preload="$(library libasan.so) $(library libubsan.so) $(library libstdc++.so)"
    # Python leaves memory to the end of the process on purpose: no search for leaks, tools/soak.py watches them. Too
    # large a request gets a null pointer, as from malloc, and so Python's MemoryError.
    export ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1"
    ASAN_OPTIONS+=":log_path=$reports/address"
    # Beside the other, this runtime writes to standard error only; what it finds ends the process.
    export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
    # Else Python's own allocator gives objects neighbours instead of red zones.
    export PYTHONMALLOC=malloc
    ;;
thread)
    flags="-fsanitize=thread"
    preload="$(library libtsan.so) $(library libstdc++.so)"
    # Children are forked while other threads run: the runtime goes on in them, but sees nothing there.
    export TSAN_OPTIONS="die_after_fork=0:history_size=7:second_deadlock_stack=1:log_path=$reports/thread"
    # No list of suppressions: neither Python nor NumPy has given a false report.
    # Older runtimes know no addresses as random as newer kernels give.
    if setarch "$(uname -m)" -R true 2>/dev/null; then start=(setarch "$(uname -m)" -R); fi
    # Nothing races in one thread: the tests that start some, and those that run over the number of threads, with 7.
    with_threads="threads and not 1threads and not 2threads and not 3threads"
    tests=(tests -k "$with_threads or same_bits or past_the_caches or soak")
    ;;
esac

[[ -x $folder/venv/bin/python ]] || "${PYTHON:-python3}" -m venv "$folder/venv"
# What builds stays installed, so that only what changed is compiled again.
mapfile -t requires < <("$folder/venv/bin/python" -c \
    'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")')
"$folder/venv/bin/python" -m pip install --quiet cmake ninja "${requires[@]}"
CXX=$compiler "$folder/venv/bin/python" -m pip install --quiet --no-build-isolation ".[test]" \
    -C build-dir="$folder/build" -C cmake.build-type=RelWithDebInfo -C install.strip=false \
    -C cmake.define.CMAKE_C_FLAGS="$flags -fno-omit-frame-pointer" \
    -C cmake.define.CMAKE_CXX_FLAGS="$flags -fno-omit-frame-pointer"

status=0
(($#)) || set -- "${tests[@]}"
# Python's own capturing: what a runtime writes must not end in pytest's files.
"${start[@]}" env LD_PRELOAD="$preload" "$folder/venv/bin/python" -m pytest -p no:cacheprovider -p no:faulthandler \
    --capture=sys "${left_out[@]}" "$@" 2>&1 | tee "$folder/output" || status=$?

if compgen -G "$reports/*" >/dev/null; then
    head -n 100 "$reports"/* >&2
    fail "the sanitizer has reported something: see $reports"
fi
if grep -q 'runtime error:' "$folder/output"; then fail "the sanitizer has reported something: see $folder/output"; fi
exit "$status"
