"""Training iterations."""

import pytest

from benchmarks import word2vec
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


@pytest.mark.quick
@pytest.mark.parametrize("row", word2vec.ROWS)
@pytest.mark.parametrize("draws", word2vec.DRAWS)
@pytest.mark.parametrize("rule", word2vec.RULES)
def test_word2vec(measure: Measure, rule: str, draws: str, row: str) -> None:
    measure(
        f"iteration of word2vec: {word2vec.WORK} drawn {draws} {rule} float32",
        word2vec.checked(row, rule, draws),
        0,
        max(THREADS),
        kind="word2vec",
        row=row,
        rule=rule,
        dtype="float32",
        work=f"{word2vec.WORK} drawn {draws}",
    )
