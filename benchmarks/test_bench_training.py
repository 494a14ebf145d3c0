"""A training iteration."""

import pytest

from benchmarks.conftest import Measure
from benchmarks.training import ROWS, checked_training
from benchmarks.workloads import NETWORKS, THREADS


@pytest.mark.quick
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("work", NETWORKS)
def test_training_iteration(measure: Measure, work: str, row: str) -> None:
    measure(
        f"training iteration: {work} Adam float64",
        checked_training(row, work).step,
        0,
        max(THREADS),
        kind="training",
        row=row,
        rule="Adam",
        dtype="float64",
        work=work,
    )
