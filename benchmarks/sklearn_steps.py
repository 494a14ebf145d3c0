"""Steps of scikit-learn's optimizers as rows: its own, and fusedstep.sklearn's."""

import importlib
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.turns import Sides, Work
from benchmarks.workloads import Shapes, arrays

LIBRARY, PACKAGE = "scikit-learn", "sklearn"
RULES = ("AdamOptimizer", "SGDOptimizer")
DTYPES = ("float32", "float64")


def _network(*units: int) -> Shapes:
    return [*pairwise(units), *((n,) for n in units[1:])]


# Those of the digits, by hidden layers.
WORKS = {
    "digits (100,)": _network(64, 100, 10),
    "digits (100, 100)": _network(64, 100, 100, 10),
    "digits (500, 500)": _network(64, 500, 500, 10),
}


def works(rule: str, work: str, dtype: str, threads: list[int]) -> Sides:
    """scikit-learn's step and ours, after one of each has given the same bits."""
    theirs = importlib.import_module("sklearn.neural_network._stochastic_optimizers")
    steps: list[Callable[[], Any]] = []
    results = []
    for module in (theirs, importlib.import_module("fusedstep.sklearn")):
        params, grads = (arrays(WORKS[work], dtype, seed) for seed in (1, 2))
        steps.append(partial(getattr(module, rule)(params).update_params, params, grads))
        steps[-1]()
        results.append([w.copy() for w in params])
    for w, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(w, expected, strict=True)
    return [Work(steps[0], 1)], [Work(steps[1], n) for n in threads]
