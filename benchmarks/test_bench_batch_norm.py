"""Batch normalisation, forward and backward."""

from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from benchmarks import norms, peers
from benchmarks.conftest import Measure
from benchmarks.workloads import NORMS, THREADS, threads_text

QUICK = ("(100, 100)", "(128, 1024)", "(32, 64, 28, 28)", "(64, 256, 56, 56)")
CASES = [
    pytest.param(
        row,
        direction,
        work,
        threads,
        id=f"{direction}-{work}-{threads}-{row}",
        marks=[pytest.mark.quick] if work in QUICK and threads == max(THREADS) else [],
    )
    for direction in ("forward", "backward")
    for work in NORMS
    for threads in THREADS
    for row in norms.ROWS
]


@pytest.mark.parametrize(("row", "direction", "work", "threads"), CASES)
def test_batch_norm(measure: Measure, measuring: bool, row: str, direction: str, work: str, threads: int) -> None:
    if row == norms.PYTORCH:
        if why := peers.missing("torch"):
            pytest.skip(f"{row}: {why}")
        peers.set_torch_threads(threads)
    fs.set_num_threads(threads)
    shape, axis = NORMS[work]
    if not measuring:
        shape = tuple(min(n, 100) if i == axis else min(n, 32) for i, n in enumerate(shape))
    p = norms.problem(shape, axis, np.float32)
    run = norms.MAKERS[row](p)[direction == "backward"]
    result: Any = measure(
        f"batch normalisation: {work} {direction} float32 {threads_text(threads)}",
        run,
        p.x.nbytes * (2 if direction == "forward" else 3),
        threads,
        kind="batch norm",
        row=row,
        rule=direction,
        dtype="float32",
        work=work,
    )
    norms.assert_right(row, direction, p, result)
