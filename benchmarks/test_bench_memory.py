"""Peak memory: an update needs nothing per element, batch normalisation its outputs and little besides."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from benchmarks.conftest import Measure
from benchmarks.workloads import THREADS, Array

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CHANNELS = 64
SHAPE = (8, CHANNELS, 128, 128)
# What an interpreter may grow by in a call whatever it does: pages of the allocator, stacks of threads that are new.
SLACK = 1 << 20
# Objects of Python: the call's arguments and results.
OBJECTS = 8 << 10


def _kib(name: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _peaks(function: Callable[[], Any]) -> tuple[int, int]:
    """By how many bytes a call's peak is above what was there before: of Python and NumPy; of the process."""
    function()  # what is made at a first call stays
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        function()
        numpy = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    _CLEAR.write_text("5")  # the peak starts anew
    resident = _kib("VmRSS")
    function()
    return numpy, 1024 * max(0, _kib("VmHWM") - resident)


def _update(strided: bool) -> Callable[[], Any]:
    w: Array = np.ones((2048, 2048), np.float32)
    g: Array = np.full((2048, 2048), 0.5, np.float32)
    params, grads = {"W": w}, {"W": g.T if strided else g}
    optimizer = fs.Adam()
    return lambda: optimizer.update(params, grads)


def _forward(out: bool) -> Callable[[], Any]:
    x = np.random.default_rng(1).standard_normal(SHAPE, np.float32)
    y = np.empty_like(x) if out else None
    gamma, beta = np.ones(CHANNELS, np.float32), np.zeros(CHANNELS, np.float32)
    return lambda: fs.batch_norm(x, gamma, beta, out=y)


def _backward(out: bool) -> Callable[[], Any]:
    x = np.random.default_rng(1).standard_normal(SHAPE, np.float32)
    dx = np.empty_like(x) if out else None
    gamma = np.ones(CHANNELS, np.float32)
    _, mean, inv_std = fs.batch_norm(x, gamma, gamma)
    return lambda: fs.batch_norm_backward(x, x, gamma, mean, inv_std, out=dx)


OUTPUT = 4 * int(np.prod(SHAPE))
# A chunk is 1024 elements of a parameter, its gradient and two states, in double.
SCRATCH = max(THREADS) * 4 * 1024 * 8
PER_CHANNEL = 64 * CHANNELS
CASES: dict[str, tuple[Callable[[], Callable[[], Any]], int, int]] = {
    # what is called, how many bytes NumPy may take for it, how many the process
    "update": (lambda: _update(False), 0, 0),
    "update, strided gradient": (lambda: _update(True), 0, SCRATCH),
    "batch norm forward": (lambda: _forward(False), OUTPUT + PER_CHANNEL, OUTPUT + PER_CHANNEL),
    "batch norm forward, out=": (lambda: _forward(True), PER_CHANNEL, PER_CHANNEL),
    "batch norm backward": (lambda: _backward(False), OUTPUT + PER_CHANNEL, OUTPUT + PER_CHANNEL),
    "batch norm backward, out=": (lambda: _backward(True), PER_CHANNEL, PER_CHANNEL),
}


@pytest.mark.quick
@pytest.mark.skipif(not _CLEAR.exists(), reason="Linux counts the peak")
@pytest.mark.parametrize("work", CASES)
def test_peak_memory(measure: Measure, work: str) -> None:
    make, numpy_bound, process_bound = CASES[work]
    function = make()
    numpy, process = _peaks(function)
    assert numpy <= numpy_bound + OBJECTS
    assert process <= process_bound + SLACK
    bounds = {"peak_numpy": numpy, "peak_process": process, "bound": process_bound}
    about = {"kind": "memory", "row": "fusedstep", "rule": "", "dtype": "float32", "work": work}
    measure(f"peak memory: {work}", function, 0, max(THREADS), **about, **bounds)
