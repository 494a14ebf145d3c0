"""Updates of DeZero's optimizers as rows: its own, and fusedstep.dezero's."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.turns import Sides, Work

LIBRARY, PACKAGE = "DeZero", "dezero"
RULES = ("SGD", "MomentumSGD", "AdaGrad", "AdaDelta", "Adam")
DTYPES = ("float64",)  # and biases in float32, as DeZero makes them

# Units of a perceptron's layers after 784 pixels, or of an LSTM.
WORKS = {"MLP 1000, 10": (1000, 10), "MLP 1000, 1000, 10": (1000, 1000, 10), "LSTM 100": (100,)}


def _network(work: str) -> Any:
    """A network of the book with weights and gradients, in the types that DeZero makes them of."""
    np.random.seed(1)  # noqa: NPY002, which DeZero draws weights with
    units = WORKS[work]
    if len(units) == 1:
        network, x = importlib.import_module("dezero.layers").LSTM(*units), np.ones((30, 1))
    else:
        network, x = importlib.import_module("dezero.models").MLP(units), np.ones((100, 784), np.float32)
    (network(x) + network(x)).backward()  # some weights of an LSTM are for its second step
    return network


def works(rule: str, work: str, dtype: str, threads: list[int]) -> Sides:
    """DeZero's update and ours, after one of each has given the same bits."""
    vars(np).setdefault("int", int)  # for DeZero 0.0.13, which is older than NumPy 1.24
    updates: list[Callable[[], Any]] = []
    results = []
    for module in ("dezero.optimizers", "fusedstep.dezero"):
        network = _network(work)
        updates.append(getattr(importlib.import_module(module), rule)().setup(network).update)
        updates[-1]()
        results.append([p.data.copy() for p in network.params()])
    for w, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(w, expected, strict=True)
    return [Work(updates[0], 1)], [Work(updates[1], n) for n in threads]
