#!/usr/bin/env bash
# Builds the sdist and from it a wheel for each interpreter given, checks both, and runs the test suite against the wheel.
#
#     tools/try_wheel.sh PYTHON...        e.g. tools/try_wheel.sh python3.11 python3.13
#
# PYTEST_ARGS narrows the tests. The sdist and the repaired wheels are left in dist/.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'try_wheel: %s\n' "$*" >&2; exit 1; }
step() { printf '\n== %s\n' "$*"; "$@"; }

(( $# )) || fail "needs one interpreter or more, as in: tools/try_wheel.sh python3.11 python3.13"
[[ $(uname -s) == Linux ]] || fail "needs Linux: auditwheel knows no other wheels"
for tool in c++ readelf "$@"; do
    command -v "$tool" >/dev/null || fail "needs $tool (Debian: g++, binutils and pythonX.Y-venv)"
done

# Nothing that happens to be set here may go into a wheel, or stand in for what it lacks.
for name in $(compgen -e | grep -E '^(C|CXX|CPP|LD)FLAGS$|^(CMAKE|SKBUILD|FUSEDSTEP)_|^(PYTHONPATH|VIRTUAL_ENV)$'); do
    unset "$name"
done

limit=2000000  # bytes of a wheel
system_libraries='^(lib(c|m|pthread)\.so\.[0-9]+|libstdc\+\+\.so\.6|libgcc_s\.so\.1|ld-linux-.*\.so\.[0-9]+)$'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$1" -m venv "$work/tools"
tools=$work/tools/bin
"$tools/python" -m pip install --quiet --upgrade pip
"$tools/python" -m pip install --quiet --group wheels

step "$tools/python" -m build --sdist --outdir "$work/sdist" .
sdist=$(echo "$work"/sdist/*.tar.gz)
step "$tools/twine" check --strict "$sdist"
mkdir -p dist
cp "$sdist" dist/

try() {
    local python=$1 here=$2 wheel size module modules library libraries
    mkdir -p "$here/unpacked"
    "$python" -m venv "$here/build"
    step "$here/build/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$here/built" "$sdist"
    wheel=$(echo "$here"/built/*.whl)
    step "$tools/twine" check --strict "$wheel"
    size=$(stat -c %s "$wheel")
    echo "$size bytes"
    (( size < limit )) || fail "${wheel##*/} has $size bytes, expected fewer than $limit"

    "$python" -m zipfile -e "$wheel" "$here/unpacked"
    mapfile -t modules < <(find "$here/unpacked" -name '*.so*')
    (( ${#modules[@]} )) || fail "${wheel##*/} has no extension module"
    for module in "${modules[@]}"; do
        mapfile -t libraries < <(readelf --dynamic --wide "$module" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
        echo "${module##*/} needs: ${libraries[*]}"
        for library in "${libraries[@]}"; do
            [[ $library =~ $system_libraries ]] || fail "${module##*/} needs $library, expected only the C and C++ runtimes"
        done
    done
    step "$tools/auditwheel" show "$wheel"
    PATH=$tools:$PATH step "$tools/auditwheel" repair --wheel-dir "$here/repaired" "$wheel"
    wheel=$(echo "$here"/repaired/*.whl)

    # First with nothing but NumPy and no compiler in reach, then with what the tests need.
    "$python" -m venv "$here/run"
    step "$here/run/bin/python" -m pip install --quiet --only-binary :all: "$wheel"
    (cd / && PATH=$here/run/bin step "$here/run/bin/python" -W error -c "
import fusedstep, numpy
assert fusedstep.__file__.startswith('$here/run'), fusedstep.__file__
w = numpy.ones(1000, numpy.float32)
for isa in fusedstep.isas():
    fusedstep.use_isa(isa)
    fusedstep.Adam().update(w, w.copy())
fusedstep.show_config()")
    "$here/run/bin/python" -m pip install --quiet "${wheel}[test]"
    mkdir "$here/source"
    tar -xf "$sdist" -C "$here/source" --strip-components 1
    # The tests are the sdist's; the package beside them lies in a folder that Python doesn't look into.
    (cd "$here/source" && "$here/run/bin/python" -c "
import fusedstep
assert fusedstep.__file__.startswith('$here/run'), fusedstep.__file__" &&
        step "$here/run/bin/python" -m pytest "${arguments[@]}")
    cp "$wheel" dist/
    tried+=("$("$python" -VV | head -n 1): ${wheel##*/}, $size bytes")
}

read -ra arguments <<< "${PYTEST_ARGS:-}"
tried=()
for python in "$@"; do
    try "$(command -v "$python")" "$work/${#tried[@]}"
done
printf '\n%s\n' "The wheels were built, checked, installed and tested:" "${tried[@]}"
