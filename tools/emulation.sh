#!/usr/bin/env bash
# Runs the tests as on other x86-64 processors, emulated by qemu: one without AVX, and one with AVX2 and nothing newer.
#
#   tools/emulation.sh [nehalem|haswell ...] [-- what pytest is to be told]
#
# All cores take part unless pytest is told another -n. FUSEDSTEP_EMULATION_LOGS: a folder for each processor's output.
set -euo pipefail
cd "$(dirname "$0")/.."

# What qemu is told, and what isas() and isa() must then be: else nothing was emulated. Haswell lacks what qemu does not
# emulate and would warn of; nothing of it is seen by a program.
declare -A model=([nehalem]=Nehalem [haswell]='Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid')
declare -A expected=([nehalem]="('baseline',) baseline" [haswell]="('baseline', 'x86-64-v3') x86-64-v3")

# Tests that can't tell anything about a processor, each with the reason.
deselected=(
  --ignore=tests/project/test_objects.py  # reads what the compiler, which is not emulated, writes
  --ignore=tests/project/test_hashes.py   # builds a program, which is not emulated
  --ignore=tests/project/test_made_up_rules.py # builds the project, which is not emulated
  # A child that is forked where there are threads starts threads of its own. In qemu 7.2 that ends in an assertion
  # (qemu_plugin_vcpu_init_hook), also for plain Python that forks beside a sleeping thread and starts one in the child.
  --deselect=tests/process/test_threads.py::test_forked_children_finish_a_step
  --ignore=tests/process/test_soak.py     # forks in the same way
  # Limits its memory, which qemu doesn't: it would be its own.
  --deselect=tests/process/test_pool.py::test_the_system_refuses_threads
  --ignore=tests/project/test_search.py   # kills searches, whose trials compute nothing
  # Trains and draws with other libraries; what they call of ours is tested alone.
  --ignore=tests/project/test_example_scripts.py
)

processors=()
while (($#)) && [[ $1 != -- ]]; do
  [[ -n ${model[$1]-} ]] || { echo "the processor is '$1', expected one of: ${!model[*]}" >&2; exit 2; }
  processors+=("$1")
  shift
done
(($#)) && shift
((${#processors[@]})) || processors=(nehalem haswell)

[[ $(uname -sm) == "Linux x86_64" ]] || { echo "needs Linux on x86-64" >&2; exit 1; }
command -v qemu-x86_64 > /dev/null || { echo "needs qemu-x86_64 (Debian: qemu-user)" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
native=$work/native
"${PYTHON:-python3}" -m venv "$native"
# Without the instructions that convert halves: with subnormals flushed qemu 7.2 flushes those of halves too, which
# processors don't (Intel's manual: vcvtph2ps and vcvtps2ph ignore DAZ and FTZ).
CXXFLAGS="${CXXFLAGS-} -DFUSEDSTEP_NO_F16C" "$native/bin/python" -m pip install --quiet ".[test]" pytest-xdist
interpreter=$(readlink -f "$native/bin/python")

# qemu runs one process; what that starts runs on the machine itself. So an environment's python is a script that starts
# qemu. By the name it is given the interpreter takes the script for its own file: it finds the environment's packages,
# and starts the script where it starts itself.
environment() {
  mkdir -p "$work/$1/bin"
  local entry
  for entry in "$native"/*; do
    [[ $entry == */bin ]] || ln -s "$entry" "$work/$1/"
  done
  printf '#!/bin/sh\nexec qemu-x86_64 -cpu %s -0 "$0" %q "$@"\n' "${model[$1]}" "$interpreter" > "$work/$1/bin/python"
  chmod +x "$work/$1/bin/python"
}

asked='import fusedstep as fs; print(fs.isas(), fs.isa())'
child="import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', '''$asked'''], text=True).strip())"
logs=${FUSEDSTEP_EMULATION_LOGS:-$work}
mkdir -p "$logs"
failed=()
for name in "${processors[@]}"; do
  environment "$name"
  python=$work/$name/bin/python
  for code in "$asked" "$child"; do
    found=$("$python" -c "$code")
    [[ $found == "${expected[$name]}" ]] || {
      echo "emulated, $name has '$found', expected '${expected[$name]}'" >&2
      exit 1
    }
  done
  printf '\n== %s: %s\n' "$name" "${expected[$name]}"
  "$python" -m pytest -n "$(nproc)" "${deselected[@]}" "$@" 2>&1 | tee "$logs/$name.log" || failed+=("$name")
done
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
