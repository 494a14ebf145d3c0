"""Steps of fusedstep.dezero and of DeZero's own optimizers, with everything compared."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fusedstep as fs

with pytest.MonkeyPatch.context() as _patch, warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of comparisons with "is" in its source
    _patch.setattr(np, "int", int, raising=False)  # DeZero 0.0.13 on PyPI is older than NumPy 1.24
    dezero = pytest.importorskip("dezero", reason="compares with DeZero where that is installed")

import fusedstep.dezero

Parameter, Variable = dezero.Parameter, dezero.Variable
ours, theirs = fusedstep.dezero, dezero.optimizers

Array = np.ndarray[Any, Any]

SHAPES = [(64, 10), (10, 3), (10,), (3,), (0, 4), ()]


names = pytest.mark.parametrize("name", ["SGD", "MomentumSGD", "AdaGrad", "AdaDelta", "Adam"])


class Target:
    def __init__(self, parameters: list[Any]) -> None:
        self.parameters = parameters

    def params(self) -> Iterator[Any]:
        yield from self.parameters


def drawn(seed: int, shape: Any = (5, 3), dtype: Any = np.float64) -> Array:
    return np.array(np.random.default_rng(seed).standard_normal(shape), dtype)


def parameters(dtype: Any, shapes: list[Any] = SHAPES) -> list[Any]:
    return [Parameter(drawn(i, shape, dtype)) for i, shape in enumerate(shapes)]


def bits(value: Any) -> Any:
    return type(value), np.asarray(value).dtype, np.asarray(value).shape, np.asarray(value).tobytes()


def everything(optimizer: Any, params: list[Any]) -> list[Any]:
    """What a step may change: data, gradients, and the state of each parameter in its order."""
    states = [own for _, own in sorted(vars(optimizer).items()) if isinstance(own, dict)]
    arrays = [p.data for p in params] + [p.grad.data for p in params if p.grad is not None]
    arrays += [own[id(p)] for own in states for p in params if id(p) in own]
    return [[bits(array) for array in arrays], [len(own) for own in states], getattr(optimizer, "t", None)]


Draw = Callable[[int, list[Any], Any], None]


def assert_same(make: Callable[[Any], tuple[Any, list[Any]]], draw: Draw, steps: int = 5) -> None:
    """Makes steps with both, and compares everything.

    Arguments:
        make: An optimizer with its target, and the parameters, from a module that has the classes.
        draw: Sets the gradients of a step.
        steps: How many.
    """
    sides = [make(module) for module in (ours, theirs)]
    for t in range(steps):
        for optimizer, params in sides:
            draw(t, params, optimizer)
            optimizer.update()
        one, other = (everything(*side) for side in sides)
        assert one == other


def of_all_sizes(t: int, params: list[Any], _: Any) -> None:
    rng = np.random.default_rng(t)
    for p in params:
        size = 10.0 ** rng.integers(-4, 4)
        g = size * rng.standard_normal(p.data.shape)
        p.grad = Variable(np.array(g if t < 150 else g * (g > 0), p.data.dtype))


def recorded_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of parameters of each step that was ours, for one at least."""
    steps: list[int] = []

    def recorded(rule: str, params: Any, *arguments: Any, **keywords: Any) -> Any:
        result = fs.step(rule, params, *arguments, **keywords)
        if params:
            steps.append(len(params))
        return result

    monkeypatch.setattr(ours, "step", recorded)
    return steps
