"""Trains one network with NumPy and its twin with fusedstep, step by step in turn, and times the parts of a step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike

import fusedstep
from fusedstep import reference
from lib.loop import batches, scaled
from lib.mnist import CLASSES, Images
from lib.network import Array, MakeNorm, Network, Norm, Params

HIDDEN_LAYERS = 4
_SLICE = 1000  # images evaluated at once


class Times(NamedTuple):
    """The parts of an iteration, in milliseconds."""

    update: float
    norm: float
    rest: float


@dataclass(frozen=True)
class Comparison:
    """The result of a pair of trainings. Pairs hold NumPy first, then fusedstep."""

    rule: str
    norm: bool
    losses: tuple[list[float], list[float]]
    times: tuple[Times, Times]
    final_loss: float
    accuracy: float
    difference: float | None  # the largest, relative to the largest parameter; None if all bits are the same


class _Optimizer(Protocol):
    def update(self, params: Any, grads: Any) -> None: ...


class _Stopwatch:
    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, function: Callable[..., Array], *args: Any) -> Array:
        start = perf_counter()
        result = function(*args)
        self.seconds += perf_counter() - start
        return result


class _TimedNorm:
    """A batch-normalisation layer that stops the time it takes."""

    def __init__(self, watch: _Stopwatch, make: MakeNorm, num_features: int, *, dtype: DTypeLike) -> None:
        self._watch = watch
        self._layer: Norm = make(num_features, dtype=dtype)
        self.gamma, self.beta = self._layer.gamma, self._layer.beta
        self.dgamma: Array | None = None
        self.dbeta: Array | None = None

    def forward(self, x: Array, training: bool) -> Array:
        return self._watch.time(self._layer.forward, x, training)

    def backward(self, dout: Array) -> Array:
        dx = self._watch.time(self._layer.backward, dout)
        self.dgamma, self.dbeta = self._layer.dgamma, self._layer.dbeta
        return dx


class _Run:
    """One network in training."""

    def __init__(
        self, optimizer: _Optimizer, norm: MakeNorm | None, sizes: list[int], dtype: DTypeLike, seed: int
    ) -> None:
        self._optimizer = optimizer
        self._watch = _Stopwatch()
        timed = partial(_TimedNorm, self._watch, norm) if norm else None
        self.network = Network(sizes, np.random.default_rng(seed), dtype, timed)
        self.losses: list[float] = []
        self._seconds: list[Times] = []

    def step(self, x: Array, labels: Any) -> None:
        self._watch.seconds = 0.0
        start = perf_counter()
        loss, grads = self.network.gradient(x, labels)
        middle = perf_counter()
        self._optimizer.update(self.network.params, grads)
        end = perf_counter()
        self.losses.append(loss)
        self._seconds.append(Times(end - middle, self._watch.seconds, middle - start - self._watch.seconds))

    def times(self) -> Times:
        return Times(*(1e3 * float(np.median(part)) for part in zip(*self._seconds, strict=True)))


def _difference(expected: Params, actual: Params) -> float | None:
    if all(expected[key].tobytes() == actual[key].tobytes() for key in expected):
        return None
    largest = max(float(np.abs(w).max()) for w in expected.values())
    return max(float(np.abs(actual[key] - expected[key]).max()) for key in expected) / largest


def _mean(measure: Callable[[Array, Any], float], x: Any, labels: Any, scale: int, dtype: DTypeLike) -> float:
    """The mean of the measure over all images, slice by slice: all of MNIST would be half a gigabyte in float64."""
    total = 0.0
    for i in range(0, len(x), _SLICE):
        part = labels[i : i + _SLICE]
        total += len(part) * measure(scaled(x[i : i + _SLICE], scale, dtype), part)
    return total / len(x)


def compare(
    rule: str,
    lr: float,
    norm: bool,
    images: Images,
    *,
    epochs: int,
    batch_size: int,
    hidden: int,
    dtype: DTypeLike,
    seed: int,
    after_step: Callable[[], Any],
) -> Comparison:
    """Trains both networks from the same weights on the same batches.

    They take their steps in turn, so that whatever else the machine does slows both alike.

    Arguments:
        rule: The name of an optimizer of `fusedstep` and `fusedstep.reference`.
        lr: Its learning rate.
        norm: Whether batch normalisation follows the affine layers.
        images: What to train and test on.
        epochs: How often each image is seen.
        batch_size: The images in a step; those left over at the end of an epoch are not used in it.
        hidden: The units of a hidden layer.
        dtype: float32 or float64.
        seed: Where weights and batches come from.
        after_step: Called after each pair of steps.
    """
    sizes = [images.x_train.shape[1], *[hidden] * HIDDEN_LAYERS, CLASSES]
    plain, fused = (
        _Run(getattr(library, rule)(lr), library.BatchNorm if norm else None, sizes, dtype, seed)
        for library in (reference, fusedstep)
    )
    turns = [plain, fused]
    order = np.random.default_rng([seed, 1])
    for _ in range(epochs):
        for rows in batches(len(images.x_train), batch_size, order):
            x = scaled(images.x_train[rows], images.scale, dtype)
            for run in turns:
                run.step(x, images.t_train[rows])
            turns.reverse()  # neither always finds the batch in the cache
            after_step()
    return Comparison(
        rule,
        norm,
        (plain.losses, fused.losses),
        (plain.times(), fused.times()),
        _mean(fused.network.loss, images.x_train, images.t_train, images.scale, dtype),
        _mean(fused.network.accuracy, images.x_test, images.t_test, images.scale, dtype),
        _difference(plain.network.params, fused.network.params),
    )
