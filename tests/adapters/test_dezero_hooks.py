"""DeZero's hooks with fusedstep.dezero: the same bits in parameters, gradients and state."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from dezero_trials import (
    Draw,
    Target,
    Variable,
    assert_same,
    drawn,
    names,
    of_all_sizes,
    ours,
    parameters,
    theirs,
)


def halve(params: list[Any]) -> None:
    for p in params:
        p.grad.data *= 0.5


def replace(params: list[Any]) -> None:
    for p in params:
        p.grad = Variable(p.grad.data + p.data)


def shorten(params: list[Any]) -> None:
    del params[0]


HOOKS: dict[str, Callable[[Any], list[Callable[[list[Any]], None]]]] = {
    "WeightDecay": lambda module: [module.WeightDecay(0.1)],
    "ClipGrad": lambda module: [module.ClipGrad(0.5)],
    "both": lambda module: [module.WeightDecay(0.1), module.ClipGrad(0.5)],
    "the other order": lambda module: [module.ClipGrad(0.5), module.WeightDecay(0.1)],
    "functions": lambda module: [halve, module.WeightDecay(0.1), replace],
    "shorter list": lambda module: [shorten, halve],
}


def apart(t: int, params: list[Any], _: Any) -> None:
    for i, p in enumerate(params[:3]):
        p.grad = Variable(drawn(t + 10 * i, (4, 3), p.data.dtype))


def mixed(t: int, params: list[Any], _: Any) -> None:
    """As in DeZero's Linear with NumPy 2: W is float64, b is float32."""
    params[1].data = params[1].data.astype(np.float32)
    for i, p in enumerate(params[:3]):
        p.grad = Variable(drawn(t + 10 * i, (4, 3)))


def one_array(t: int, params: list[Any], _: Any) -> None:
    """As of a sum of parameters."""
    apart(t, params, _)
    params[0].grad = params[1].grad


def views(t: int, params: list[Any], _: Any) -> None:
    array = drawn(t, (4, 9), params[0].data.dtype)
    for i, p in enumerate(params[:3]):
        p.grad = Variable(array[:, i : i + 3])


def the_data(t: int, params: list[Any], _: Any) -> None:
    apart(t, params, _)
    params[0].grad = params[0]


@pytest.mark.parametrize("draw", [apart, mixed, one_array, views, the_data])
@pytest.mark.parametrize("hooks", HOOKS)
@names
def test_hooks(name: str, hooks: str, draw: Draw, dtype: Any, fused: list[int]) -> None:
    def make(module: Any) -> Any:
        params = parameters(dtype, [(4, 3)] * 4)  # the last has no gradient
        optimizer = getattr(module, name)().setup(Target(params))
        for hook in HOOKS[hooks](module):
            optimizer.add_hook(hook)
        return optimizer, params

    assert_same(make, draw)
    if draw is apart:
        assert fused == [2 if hooks == "shorter list" else 3] * 5


@pytest.mark.parametrize("rate", [0.1, 0, np.float64(0.1), np.float32(0.1), np.array(0.1), -0.1])
@pytest.mark.parametrize("draw", [apart, mixed, one_array, views])
def test_decay(draw: Draw, rate: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one pass where that has DeZero's bits."""
    sums: list[int] = []

    def recorded(grads: Any, params: Any, scale: Any) -> None:
        fs.accumulate(grads, params, scale)
        sums.append(len(grads))

    monkeypatch.setattr(ours, "accumulate", recorded)

    def make(module: Any) -> Any:
        params = parameters(dtype, [(4, 3)] * 3)
        optimizer = module.SGD().setup(Target(params))
        optimizer.add_hook(module.WeightDecay(rate))
        return optimizer, params

    assert_same(make, draw)
    is_plain = type(rate) in (float, int) or (isinstance(rate, float) and dtype is np.float64)
    of_one_type = {"apart": 3, "mixed": 2 if dtype is np.float64 else 0}.get(draw.__name__, 0)
    count = of_one_type if is_plain and rate >= 0 else 0
    assert [own for own in sums if own] == ([count] * 5 if count else [])


class Sparse(theirs.WeightDecay):  # type: ignore[misc]
    def __call__(self, params: list[Any]) -> None:
        for p in params:
            p.grad.data += self.rate * np.sign(p.data)


def test_a_subclass_of_a_hook(dtype: Any) -> None:
    def make(module: Any) -> Any:
        params = parameters(dtype)
        optimizer = module.SGD().setup(Target(params))
        optimizer.add_hook(Sparse(0.1))
        return optimizer, params

    assert_same(make, of_all_sizes)


@names
def test_frozen_parameters(name: str, fused: list[int]) -> None:
    for module in (ours, theirs):
        params = parameters(np.float64, [(4, 3)] * 3)
        before = [p.data.copy() for p in params]
        optimizer = getattr(module, name)().setup(Target(params))
        optimizer.add_hook(module.FreezeParam(params[0], Target(params[1:2])))
        optimizer.add_hook(module.WeightDecay(0.1))
        for p in params:
            p.grad = Variable(drawn(9, (4, 3)))
        if module is theirs:
            with pytest.raises(AttributeError, match="NoneType"):
                optimizer.update()
            continue
        optimizer.update()
        assert [np.array_equal(p.data, old) for p, old in zip(params, before, strict=True)] == [True, True, False]
        assert all(list(own) == [id(params[2])] for own in vars(optimizer).values() if isinstance(own, dict))
    assert fused == [1]
