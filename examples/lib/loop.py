"""Trains one network on images, and keeps what a picture of the training needs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lib.mnist import Images
from lib.network import Array, Network, Params


class Optimizer(Protocol):
    """An optimizer of `fusedstep`."""

    def update(self, params: Any, grads: Any) -> None: ...


class WeightsAndBiases:
    """Two optimizers, so that weights alone decay: one for the parameters W1, W2, ..., one for all others."""

    def __init__(self, weights: Optimizer, others: Optimizer) -> None:
        self.weights = weights
        self.others = others

    def update(self, params: Params, grads: Params) -> None:
        """Updates all parameters in place."""
        weights = {name: w for name, w in params.items() if name.startswith("W")}
        self.weights.update(weights, grads)
        self.others.update({name: b for name, b in params.items() if name not in weights}, grads)


@dataclass
class History:
    """The loss of each batch, and the accuracies, from 0 to 1, after each epoch."""

    losses: list[float] = field(default_factory=list)
    train: list[float] = field(default_factory=list)
    test: list[float] = field(default_factory=list)


def scaled(pixels: NDArray[np.uint8], scale: int, dtype: Any = np.float64) -> Array:
    """Brightnesses as numbers from 0 to 1."""
    return pixels.astype(dtype) / scale


def moving_median(values: list[float], window: int) -> NDArray[np.float64]:
    """The median of each so many values that follow each other."""
    medians: NDArray[np.float64] = np.median(
        np.lib.stride_tricks.sliding_window_view(np.array(values), window), axis=-1
    )
    return medians


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """The rows of each batch of an epoch, shuffled; those left over at the end are not used in it."""
    shuffled = rng.permutation(count)
    for i in range(0, count - size + 1, size):
        yield shuffled[i : i + size]


def train(
    network: Network,
    optimizer: Optimizer,
    images: Images,
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    after_step: Callable[[], Any] = lambda: None,
) -> History:
    """Trains a network in place.

    Arguments:
        network: What to train.
        optimizer: What updates its parameters.
        images: What to train on, and to test on after each epoch.
        epochs: How often each image is seen.
        batch_size: The images in a step.
        rng: Where the batches come from.
        after_step: Called after each step.

    Raises:
        ValueError: There are fewer images than a batch needs.
    """
    if batch_size > len(images.x_train):
        raise ValueError(f"batch_size is {batch_size}, more than the {len(images.x_train)} training images")
    history = History()
    dtype = network.params["W1"].dtype
    x_test = scaled(images.x_test, images.scale, dtype)
    x_train = scaled(images.x_train, images.scale, dtype)
    for _ in range(epochs):
        for rows in batches(len(x_train), batch_size, rng):
            loss, grads = network.gradient(x_train[rows], images.t_train[rows])
            optimizer.update(network.params, grads)
            history.losses.append(loss)
            after_step()
        with _evaluated(optimizer, network.params):
            history.train.append(network.accuracy(x_train, images.t_train))
            history.test.append(network.accuracy(x_test, images.t_test))
    return history


@contextmanager
def _evaluated(optimizer: Any, params: Params) -> Iterator[None]:
    """With a Schedule-Free optimizer, parameters that are the means of their points."""
    has_modes = hasattr(optimizer, "eval")
    if has_modes:
        optimizer.eval(params)
    yield
    if has_modes:
        optimizer.train(params)
