"""Updates as rows: NumPy as in *Deep Learning from Scratch*, NumPy without temporaries, fusedstep, and the limit."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fusedstep as fs
from benchmarks.limit import Limit
from benchmarks.workloads import BETA1, BETA2, DECAY, EPS, LR, MOMENTUM, RULES, WEIGHT_DECAY, Array

# Where the bias correction leaves epsilon alone, this one makes the first step that EPS makes elsewhere.
FIRST_EPS = EPS * math.sqrt(1 - BETA2)


@dataclass(frozen=True)
class Stepper:
    """One row's update: `step` makes it, `params` gives the parameters as they are then."""

    step: Callable[[], Any]
    params: Callable[[], list[Array]]


class _Numpy:
    """Goes through a dict of parameters, as the book's optimizers do."""

    # Arrays beside the states that are made once, for results of operations.
    scratch = 0

    def __init__(self, rule: str) -> None:
        self.letters = RULES[rule]
        self.rule: Callable[..., None] = getattr(self, rule.lower())
        self.iterations = 0
        self.state: dict[str, list[Array]] | None = None

    def update(self, params: dict[str, Array], grads: dict[str, Array]) -> None:
        if self.state is None:
            count = len(self.letters) + self.scratch
            self.state = {key: [np.zeros_like(w) for _ in range(count)] for key, w in params.items()}
        self.iterations += 1
        for key, w in params.items():
            self.rule(w, grads[key], *self.state[key])


class Book(_Numpy):
    """The book's operations in the book's order, temporaries and all."""

    def sgd(self, w: Array, g: Array) -> None:
        w -= LR * g

    def momentum(self, w: Array, g: Array, v: Array) -> None:
        v[...] = MOMENTUM * v - LR * g
        w += v

    def nesterov(self, w: Array, g: Array, v: Array) -> None:
        w += MOMENTUM * MOMENTUM * v
        w -= (1 + MOMENTUM) * LR * g
        v *= MOMENTUM
        v -= LR * g

    def adagrad(self, w: Array, g: Array, h: Array) -> None:
        h += g * g
        w -= LR * g / (np.sqrt(h) + EPS)

    def rmsprop(self, w: Array, g: Array, h: Array) -> None:
        h *= DECAY
        h += (1 - DECAY) * g * g
        w -= LR * g / (np.sqrt(h) + EPS)

    def adam(self, w: Array, g: Array, m: Array, v: Array) -> None:
        # NumPy's root makes this an np.float64, as it is in the book; the last line is then float64 for float32 too.
        step = LR * np.sqrt(1.0 - BETA2**self.iterations) / (1.0 - BETA1**self.iterations)
        m += (1 - BETA1) * (g - m)
        v += (1 - BETA2) * (g**2 - v)
        w -= step * m / (np.sqrt(v) + FIRST_EPS)

    def adamw(self, w: Array, g: Array, m: Array, v: Array) -> None:
        w *= 1 - LR * WEIGHT_DECAY
        self.adam(w, g, m, v)


class InPlace(_Numpy):
    """As few passes as NumPy can do: every result goes to an array that is there, nothing leaves the array's type."""

    scratch = 2

    def sgd(self, w: Array, g: Array, a: Array, b: Array) -> None:
        np.multiply(g, LR, out=a)
        w -= a

    def momentum(self, w: Array, g: Array, v: Array, a: Array, b: Array) -> None:
        v *= MOMENTUM
        np.multiply(g, LR, out=a)
        v -= a
        w += v

    def nesterov(self, w: Array, g: Array, v: Array, a: Array, b: Array) -> None:
        # With the new v, w + a^2 v - (1 + a) lr g is w + a v - lr g, which saves one product.
        v *= MOMENTUM
        np.multiply(g, LR, out=a)
        v -= a
        w -= a
        np.multiply(v, MOMENTUM, out=a)
        w += a

    def adagrad(self, w: Array, g: Array, h: Array, a: Array, b: Array) -> None:
        np.multiply(g, g, out=a)
        h += a
        self._descend(w, g, h, LR, EPS, a, b)

    def rmsprop(self, w: Array, g: Array, h: Array, a: Array, b: Array) -> None:
        h *= DECAY
        np.multiply(g, g, out=a)
        a *= 1 - DECAY
        h += a
        self._descend(w, g, h, LR, EPS, a, b)

    def adam(self, w: Array, g: Array, m: Array, v: Array, a: Array, b: Array) -> None:
        np.subtract(g, m, out=a)
        a *= 1 - BETA1
        m += a
        np.multiply(g, g, out=a)
        a -= v
        a *= 1 - BETA2
        v += a
        root = math.sqrt(1 - BETA2**self.iterations)
        self._descend(w, m, v, LR * root / (1 - BETA1**self.iterations), FIRST_EPS, a, b)

    def adamw(self, w: Array, g: Array, m: Array, v: Array, a: Array, b: Array) -> None:
        w *= 1 - LR * WEIGHT_DECAY
        self.adam(w, g, m, v, a, b)

    def _descend(self, w: Array, x: Array, h: Array, lr: float, eps: float, a: Array, b: Array) -> None:
        np.sqrt(h, out=a)
        a += eps
        np.multiply(x, lr, out=b)
        b /= a
        w -= b


def options(rule: str) -> dict[str, Any]:
    """The keyword arguments of a rule of `fusedstep` or `fusedstep.reference`."""
    return {
        "SGD": {},
        "Momentum": {"momentum": MOMENTUM},
        "Nesterov": {"momentum": MOMENTUM},
        "AdaGrad": {"eps": EPS},
        "RMSProp": {"decay_rate": DECAY, "eps": EPS},
        "Adam": {"beta1": BETA1, "beta2": BETA2, "eps": EPS},
        "AdamW": {"beta1": BETA1, "beta2": BETA2, "eps": EPS, "weight_decay": WEIGHT_DECAY},
    }[rule]


def _stepper(optimizer: Any, params: list[Array], grads: list[Array]) -> Stepper:
    named = {f"W{i}": w for i, w in enumerate(params)}, {f"W{i}": g for i, g in enumerate(grads)}
    return Stepper(lambda: optimizer.update(*named), lambda: params)


def book(rule: str, params: list[Array], grads: list[Array]) -> Stepper:
    """The book's code."""
    return _stepper(Book(rule), params, grads)


def in_place(rule: str, params: list[Array], grads: list[Array]) -> Stepper:
    """The best that NumPy can do."""
    return _stepper(InPlace(rule), params, grads)


def ours(rule: str, params: list[Array], grads: list[Array]) -> Stepper:
    """fusedstep, through its public interface."""
    return _stepper(getattr(fs, rule)(LR, **options(rule)), params, grads)


def limit(rule: str, params: list[Array], grads: list[Array]) -> Stepper:
    """The limit."""
    return Stepper(Limit(rule).prepare(dict(enumerate(params)), dict(enumerate(grads))), lambda: params)
