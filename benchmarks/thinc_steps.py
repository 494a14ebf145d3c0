"""Steps of thinc's optimizers as rows: its own, and fusedstep.thinc's."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.turns import Sides, Work
from benchmarks.workloads import Shapes, arrays, first_period, refill

LIBRARY, PACKAGE = "thinc", "thinc"
RULES = ("Adam", "RAdam", "SGD")
DTYPES = ("float32",)
_LR = 1e-3


def _pipe(width: int, windows: int, own: Shapes) -> Shapes:
    """The arrays of one of spaCy's pipes whose words go through hashed embeddings and windows of three words."""
    norm: Shapes = [(width, 3), (width,), (width,)]
    layers: Shapes = [(width, 3, 4 * width), *norm, *[(width, 3, 3 * width), *norm] * windows]
    return [(2000, width), (1000, width), (1000, width), (1000, width), *layers, *own]


# As spaCy makes them by default.
WORKS = {"spaCy's ner": _pipe(96, 4, [(64, 96), (64,), (3, 64, 2, 64), (64, 2), (1, 3, 64, 2), (6, 64), (6,)])}


def works(rule: str, work: str, dtype: str, threads: list[int]) -> Sides:
    """thinc's step and ours, clipped and with averages, after one of each has given the same numbers."""
    sides: list[tuple[Callable[[], Any], Callable[[], None]]] = []
    results = []
    for module in (importlib.import_module("thinc.optimizers"), importlib.import_module("fusedstep.thinc")):
        params, grads = (arrays(WORKS[work], dtype, seed) for seed in (1, 2))
        step = partial(_step, getattr(module, rule)(_LR, L2=0.01), params, grads)
        sides.append((step, partial(refill, grads, first_period(max(grads, key=np.size)))))
        step()
        results.append([w.copy() for w in params])
    for w, expected in zip(*results, strict=True):
        # One step of size 0.001, and two roundings of a weight.
        np.testing.assert_allclose(w, expected, rtol=2e-7, atol=1e-8)
    (theirs, setup), (ours, our_setup) = sides
    return [Work(theirs, 1, setup)], [Work(ours, n, our_setup) for n in threads]


def _step(optimizer: Any, params: list[Any], grads: list[Any]) -> None:
    for i, (w, g) in enumerate(zip(params, grads, strict=True)):
        optimizer((i, "W"), w, g)
