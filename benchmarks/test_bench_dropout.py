"""Dropout, forward and backward."""

import pytest

import fusedstep as fs
from benchmarks import dropouts, norms, peers
from benchmarks.conftest import Measure
from benchmarks.workloads import THREADS, small, threads_text

CASES = [
    pytest.param(
        row,
        direction,
        size,
        threads,
        id=f"{direction}-{size}-{threads}-{row}",
        marks=[pytest.mark.quick] if threads == max(THREADS) else [],
    )
    for direction in dropouts.DIRECTIONS
    for size in dropouts.DROPOUT_SIZES
    for threads in THREADS
    for row in dropouts.MAKERS
]


@pytest.mark.parametrize(("row", "direction", "size", "threads"), CASES)
def test_dropout(measure: Measure, measuring: bool, row: str, direction: str, size: int, threads: int) -> None:
    if row == norms.PYTORCH:
        if why := peers.missing("torch"):
            pytest.skip(f"{row}: {why}")
        peers.set_torch_threads(threads)
    fs.set_num_threads(threads)
    x, dout = dropouts.problem(size if measuring else small(size))
    backward = direction == "backward"
    result = measure(
        f"dropout: {size} {direction} float32 {threads_text(threads)}",
        dropouts.MAKERS[row](x, dout)[backward],
        2 * x.nbytes,
        threads,
        kind="dropout",
        row=row,
        rule=direction,
        dtype="float32",
        work=str(size),
    )
    dropouts.assert_right(row, dout if backward else x, result)
