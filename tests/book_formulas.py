"""The formulas of the book's optimizers, as one would write them from its pages."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from fusedstep import book

Arrays = dict[str, Any]


class Formula:
    """Keeps a dict of arrays for each letter, as the book's classes do."""

    def __init__(self, **hyperparameters: float) -> None:
        self.__dict__.update(hyperparameters)
        self.t = 0
        self.arrays: dict[str, Arrays] = {}

    def of(self, letter: str, w: Any, key: str) -> Any:
        return self.arrays.setdefault(letter, {}).setdefault(key, np.zeros_like(w))


class Sgd(Formula):
    lr: float

    def update(self, params: Arrays, grads: Arrays) -> None:
        for key in params:
            params[key] -= self.lr * grads[key]


class Momentum(Formula):
    lr: float
    momentum: float

    def update(self, params: Arrays, grads: Arrays) -> None:
        for key in params:
            v = self.of("v", params[key], key)
            v[...] = self.momentum * v - self.lr * grads[key]
            params[key] += v


class Nesterov(Momentum):
    def update(self, params: Arrays, grads: Arrays) -> None:
        for key in params:
            v = self.of("v", params[key], key)
            params[key] += self.momentum * self.momentum * v
            params[key] -= (1 + self.momentum) * self.lr * grads[key]
            v *= self.momentum
            v -= self.lr * grads[key]


class LegacyNesterov(Momentum):
    def update(self, params: Arrays, grads: Arrays) -> None:
        for key in params:
            v = self.of("v", params[key], key)
            v *= self.momentum
            v -= self.lr * grads[key]
            params[key] += self.momentum * self.momentum * v
            params[key] -= (1 + self.momentum) * self.lr * grads[key]


class AdaGrad(Formula):
    lr: float

    def update(self, params: Arrays, grads: Arrays) -> None:
        for key in params:
            h = self.of("h", params[key], key)
            h += grads[key] * grads[key]
            params[key] -= self.lr * grads[key] / (np.sqrt(h) + 1e-7)


class RmsProp(Formula):
    lr: float
    decay_rate: float

    def update(self, params: Arrays, grads: Arrays) -> None:
        for key in params:
            h = self.of("h", params[key], key)
            h *= self.decay_rate
            h += (1 - self.decay_rate) * grads[key] * grads[key]
            params[key] -= self.lr * grads[key] / (np.sqrt(h) + 1e-7)


class Adam(Formula):
    lr: float
    beta1: float
    beta2: float

    def update(self, params: Arrays, grads: Arrays) -> None:
        self.t += 1
        lr_t = self.lr * np.sqrt(1.0 - self.beta2**self.t) / (1.0 - self.beta1**self.t)
        for key in params:
            m, v = self.of("m", params[key], key), self.of("v", params[key], key)
            m += (1 - self.beta1) * (grads[key] - m)
            v += (1 - self.beta2) * (grads[key] ** 2 - v)
            params[key] -= lr_t * m / (np.sqrt(v) + 1e-7)


PAIRS: tuple[tuple[Any, Any, dict[str, float]], ...] = (
    (book.SGD, Sgd, {"lr": 0.01}),
    (book.Momentum, Momentum, {"lr": 0.01, "momentum": 0.9}),
    (book.Nesterov, Nesterov, {"lr": 0.01, "momentum": 0.9}),
    (partial(book.Nesterov, legacy=True), LegacyNesterov, {"lr": 0.01, "momentum": 0.9}),
    (book.AdaGrad, AdaGrad, {"lr": 0.01}),
    (book.RMSprop, RmsProp, {"lr": 0.01, "decay_rate": 0.99}),
    (book.Adam, Adam, {"lr": 0.001, "beta1": 0.9, "beta2": 0.999}),
)
OPTIMIZERS = pytest.mark.parametrize(("ours", "formula", "defaults"), PAIRS, ids=lambda x: getattr(x, "__name__", ""))
