"""The thread pool: which jobs are worth it, whom a job wakes, and what happens where there are no threads."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import _native

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def in_new_process(code: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def update(optimizer: Any, dtype: Any) -> Callable[[int], None]:
    def run(n: int) -> None:
        optimizer().update(np.ones(n, dtype), np.ones(n, dtype))

    return run


def batch_norm(dtype: Any) -> Callable[[int], None]:
    def run(n: int) -> None:
        fs.batch_norm(np.ones((2, n, 1), dtype), np.ones(n), np.zeros(n))

    return run


def inference(n: int) -> None:
    fs.batch_norm_inference(np.ones((2, n, 1)), np.ones(n), np.zeros(n), np.zeros(n), np.ones(n))


def backward(n: int) -> None:
    x = np.ones((2, n, 1))
    fs.batch_norm_backward(x, x, np.ones(n), np.zeros(n), np.ones(n))


def dropout(dtype: Any) -> Callable[[int], None]:
    def run(n: int) -> None:
        fs.dropout(np.ones(n, dtype), 0.5, seed=1)

    return run


def two_threads(*factors: int) -> int:
    """The size from which a second thread takes part, where one of the size moves the product of these in bytes."""
    return -(-(2 * 896 << 10) // math.prod(factors))


# Updates read all their arrays and write all but the gradient. Batch normalisation here has 2 elements a channel; it
# reads and writes 3 arrays forward, 2 in inference and 5 backward, and a byte counts twice. In dropout an element of
# either type counts 28 bytes.
WORTH_TWO = {
    "SGD float32": (update(fs.SGD, np.float32), two_threads(4, 3)),
    "SGD float64": (update(fs.SGD, np.float64), two_threads(8, 3)),
    "Momentum float32": (update(fs.Momentum, np.float32), two_threads(4, 5)),
    "Adam float32": (update(fs.Adam, np.float32), two_threads(4, 7)),
    "Adam float64": (update(fs.Adam, np.float64), two_threads(8, 7)),
    "batch norm float32": (batch_norm(np.float32), two_threads(2, 4, 3, 2)),
    "batch norm float64": (batch_norm(np.float64), two_threads(2, 8, 3, 2)),
    "inference float64": (inference, two_threads(2, 8, 2, 2)),
    "backward float64": (backward, two_threads(2, 8, 5, 2)),
    "dropout float32": (dropout(np.float32), two_threads(28)),
    "dropout float64": (dropout(np.float64), two_threads(28)),
}


@pytest.mark.parametrize(("run", "size"), WORTH_TWO.values(), ids=WORTH_TWO.keys())
def test_a_second_thread_takes_part_from_this_size(run: Callable[[int], None], size: int) -> None:
    fs.set_num_threads(2)
    before = _native.parallel_regions()
    run(size - 1)
    assert _native.parallel_regions() == before
    run(size)
    assert _native.parallel_regions() > before


STARTED = """
from pathlib import Path
import numpy as np
import fusedstep as fs

w, g = np.ones(300_000, np.float32), np.ones(300_000, np.float32)
optimizer = fs.Adam()

def step(threads):
    before = set(Path("/proc/self/task").iterdir())
    fs.set_num_threads(threads)
    optimizer.update(w, g)
    return len(set(Path("/proc/self/task").iterdir()) - before)

# 8.4 MB are worth 9 threads.
assert [step(n) for n in (1, 2, 2, 3, 64, 64)] == [0, 1, 0, 1, 6, 0]
"""


@LINUX
def test_no_more_threads_start_than_take_part() -> None:
    in_new_process(STARTED)


WOKEN = """
import os, time
from pathlib import Path
import numpy as np
import fusedstep as fs

def sleeps():
    found = {}
    for task in Path("/proc/self/task").iterdir():
        if task.name == str(os.getpid()):
            continue
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                found[task.name] = int(line.split()[1])
    return found

def settled():
    last = None
    while last != (last := sleeps()):
        time.sleep(0.05)
    return last

w, g = np.ones(2_000_000, np.float32), np.ones(2_000_000, np.float32)
optimizer = fs.Adam()
idle = set(sleeps())
fs.set_num_threads({pool})
optimizer.update(w, g)
before = settled()
workers = set(before) - idle
assert len(workers) == {pool} - 1, workers
fs.set_num_threads({threads})
for _ in range(20):
    optimizer.update(w, g)
    time.sleep(0.002)
after = settled()
woken = [task for task in workers if after[task] != before[task]]
assert 1 <= len(woken) < {threads}, (before, after)
"""


@LINUX
@pytest.mark.parametrize(("pool", "threads"), [(3, 2), (16, 2), (16, 5)])
def test_a_job_wakes_the_workers_that_it_needs_and_no_others(pool: int, threads: int) -> None:
    in_new_process(WOKEN.replace("{pool}", str(pool)).replace("{threads}", str(threads)))


REFUSED = """
import resource
from pathlib import Path
import numpy as np
import fusedstep as fs

w, expected, g = (np.ones(300_000, np.float32) for _ in range(3))
ours, theirs = fs.Adam(), fs.reference.Adam()
for _ in range(2):
    theirs.update(expected, g)
fs.set_num_threads(2)
ours.update(w, g)
threads = len(list(Path("/proc/self/task").iterdir()))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
unlimited = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), unlimited[1]))  # less than the stack of a thread
fs.set_num_threads(8)
ours.update(w, g)
resource.setrlimit(resource.RLIMIT_AS, unlimited)
assert len(list(Path("/proc/self/task").iterdir())) == threads
np.testing.assert_array_equal(w, expected)
"""


@LINUX
def test_the_system_refuses_threads() -> None:
    in_new_process(REFUSED)


def test_the_number_of_threads_goes_up_and_down(rng: np.random.Generator) -> None:
    start, gradient = (rng.standard_normal(300_000).astype(np.float32) for _ in range(2))
    expected, theirs = start.copy(), fs.reference.Adam()
    w, ours = start.copy(), fs.Adam()
    for threads in (1, 2, 7, 3, 1024, 2, 5, 1):
        fs.set_num_threads(threads)
        ours.update(w, gradient)
        theirs.update(expected, gradient)
        np.testing.assert_array_equal(w, expected, err_msg=str(threads))
