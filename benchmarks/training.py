"""A training iteration of the book's batch-normalised network in float64: products, normalisation, update."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from benchmarks import norms
from benchmarks.baselines import Book, InPlace, options
from benchmarks.limit import Limit
from benchmarks.workloads import BOOK, IN_PLACE, LIMIT, LR, NETWORKS, OURS, Array
from fusedstep import BatchNorm, optimizers, reference
from lib.network import Network

ROWS = (BOOK, IN_PLACE, OURS, LIMIT)
_INPUTS, _CLASSES = 784, 10


class _Layer:
    """A row of `norms` as a layer of the network."""

    def __init__(self, row: str, num_features: int, dtype: DTypeLike) -> None:
        empty: Array = np.empty((0, num_features), dtype)
        self.gamma: Array = np.ones(num_features, dtype)
        self.beta: Array = np.zeros(num_features, dtype)
        self.dgamma: Array | None = np.zeros(num_features, dtype)
        self.dbeta: Array | None = np.zeros(num_features, dtype)
        self._row = row
        self._problem = norms.Problem(empty, empty, self.gamma, self.beta, 1, self.dgamma, self.dbeta)
        self._runs: norms.Runs | None = None

    def forward(self, x: Array, training: bool) -> Array:
        self._problem.x = x
        if self._runs is None:
            self._runs = norms.MAKERS[self._row](self._problem)
        return self._runs[0]()

    def backward(self, dout: Array) -> Array:
        assert self._runs is not None
        self._problem.dout = dout
        dx = self._runs[1]()
        self.dgamma, self.dbeta = self._problem.dgamma, self._problem.dbeta
        return dx


class Training:
    """A network and its optimizer, Adam, with a batch that stays the same.

    The loss falls, but in float64 there is no number in it that gets near the smallest in some thousand iterations.
    """

    def __init__(self, row: str, work: str) -> None:
        hidden, batch = NETWORKS[work]
        rng = np.random.default_rng(1)
        self._x: Array = rng.standard_normal((batch, _INPUTS))
        self._labels = rng.integers(0, _CLASSES, batch)
        self._optimizer: Any
        norm: Any
        if row == OURS:
            self._optimizer, norm = optimizers.Adam(LR, **options("Adam")), BatchNorm
        elif row == "reference":
            self._optimizer, norm = reference.Adam(LR, **options("Adam")), reference.BatchNorm
        else:
            self._optimizer = {BOOK: Book, IN_PLACE: InPlace, LIMIT: Limit}[row]("Adam")
            norm = lambda num_features, dtype: _Layer(row, num_features, dtype)  # noqa: E731
        self.network = Network([_INPUTS, *hidden, _CLASSES], np.random.default_rng(2), np.float64, norm)

    def step(self) -> None:
        """One iteration."""
        _, grads = self.network.gradient(self._x, self._labels)
        self._optimizer.update(self.network.params, grads)


def checked_training(row: str, work: str) -> Training:
    """Makes the first iteration and compares the parameters."""
    training, oracle = Training(row, work), Training("reference", work)
    before = {key: w.copy() for key, w in oracle.network.params.items()}
    training.step()
    oracle.step()
    # Where the gradient is 0 but for rounding, as that of a bias before batch normalisation is, Adam divides the
    # rounding by no less than eps; it is that of some thousand operations on numbers of size 1.
    tolerance = 0.0 if row == LIMIT else LR / options("Adam")["eps"] * 1000 * float(np.finfo(np.float64).eps)
    for key, w in (before if row == LIMIT else oracle.network.params).items():
        np.testing.assert_allclose(training.network.params[key], w, rtol=0, atol=tolerance)
    return training
