"""Whole steps as rows: a norm that is limited, Adam, an average of the weights, and zeros in the gradients."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fusedstep as fs
from benchmarks import baselines, peers
from benchmarks.limit import Limit
from benchmarks.rows import tolerance
from benchmarks.workloads import (
    BOOK,
    LIMIT,
    LR,
    OURS,
    Array,
    Shapes,
    arrays,
    assert_periodic_close,
    first_period,
    refill,
)
from fusedstep import reference

AVERAGE = 0.99  # the decay of the average
TORCH_FUSED, TORCH_DEFAULT, TENSORS = "PyTorch (fused)", "PyTorch (default)", "fusedstep (tensors)"


@dataclass(frozen=True)
class WholeStep:
    """One row's step: `step` makes it, `setup` puts the gradients there again, which it has left as zeros."""

    step: Callable[[], Any]
    setup: Callable[[], None]


# Gives the step, and a function for its averages.
Make = Callable[[list[Array], list[Array], float], tuple[Callable[[], Any], Callable[[], list[Array]]]]


def _named(arrays: list[Array]) -> dict[str, Array]:
    return {f"W{i}": array for i, array in enumerate(arrays)}


def _book(params: list[Array], grads: list[Array], clip_norm: float) -> Any:
    adam, named, means = baselines.Book("Adam"), (_named(params), _named(grads)), [w.copy() for w in params]

    def step() -> None:
        # As the book's second volume clips.
        norm = np.sqrt(sum(np.sum(g**2) for g in grads))
        rate = clip_norm / (norm + 1e-6)
        if rate < 1:
            for g in grads:
                g *= rate
        adam.update(*named)
        for mean, w in zip(means, params, strict=True):
            mean += (1 - AVERAGE) * (w - mean)
        for g in grads:
            g[...] = 0

    return step, lambda: means


def optimizer(clip_norm: float) -> fs.Adam:
    """Ours, with its options."""
    return fs.Adam(LR, **baselines.options("Adam"), clip_norm=clip_norm, average=AVERAGE)


def _ours(params: list[Array], grads: list[Array], clip_norm: float) -> Any:
    adam, named = optimizer(clip_norm), (_named(params), _named(grads))
    return lambda: adam.update(*named, zero_grads=True), lambda: list(adam.averages().values())


def _ours_on_tensors(params: list[Array], grads: list[Array], clip_norm: float) -> Any:
    adam, parameters = optimizer(clip_norm), peers.torch_parameters(params, grads)
    tensors = [parameter.grad for parameter in parameters]
    return lambda: adam.update(parameters, tensors, zero_grads=True), lambda: list(adam.averages().values())


def _limit(params: list[Array], grads: list[Array], clip_norm: float) -> Any:
    state: dict[int, dict[str, Array]] = {}
    run = Limit("Adam", state, whole=True).prepare(dict(enumerate(params)), dict(enumerate(grads)))
    return run, lambda: [state[i]["average"] for i in range(len(params))]


def _torch(**kind: bool) -> Make:
    def make(params: list[Array], grads: list[Array], clip_norm: float) -> Any:
        torch = importlib.import_module("torch")
        parameters = peers.torch_parameters(params, grads)
        adam = peers.torch_optimizer("Adam", parameters, **kind)
        means = [parameter.detach().clone() for parameter in parameters]

        def step() -> None:
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
            adam.step()
            with torch.no_grad():  # the operations of torch-ema
                for mean, parameter in zip(means, parameters, strict=True):
                    difference = mean - parameter
                    difference.mul_(1 - AVERAGE)
                    mean.sub_(difference)
            adam.zero_grad(set_to_none=False)

        return step, lambda: [mean.numpy() for mean in means]

    return make


MAKERS: dict[str, Make] = {
    BOOK: _book,
    OURS: _ours,
    TENSORS: _ours_on_tensors,
    LIMIT: _limit,
    TORCH_FUSED: _torch(fused=True),
    TORCH_DEFAULT: _torch(),
}
ROWS = (BOOK, OURS, LIMIT, TORCH_FUSED, TORCH_DEFAULT)


def package(row: str) -> str | None:
    """The package that a row needs."""
    return "torch" if row in (TENSORS, TORCH_FUSED, TORCH_DEFAULT) else None


def half_the_norm(grads: list[Array]) -> float:
    """The limit that clips a list of gradients to a half."""
    return float(np.sqrt(reference.sum_of_squares(*grads))) / 2


def checked(row: str, shapes: Shapes) -> WholeStep:
    """Makes a row's first two steps, of which only the first is clipped, and compares the result, all of it."""
    params, grads = arrays(shapes, np.float32, 1), arrays(shapes, np.float32, 2)
    largest = max(range(len(params)), key=lambda i: params[i].size)
    block, gradient = first_period(params[largest]), first_period(grads[largest])
    clip_norm = half_the_norm(grads)
    step, averages = MAKERS[row](params, grads, clip_norm)
    step()
    refill(grads, gradient / 4)
    step()
    w, mean, tolerance = _oracle(row, block, gradient, clip_norm)
    for actual, average, g in zip(params, averages(), grads, strict=True):
        assert_periodic_close(actual, w, tolerance)
        assert_periodic_close(average, mean, tolerance)
        assert not g.any()
    return WholeStep(step, lambda: refill(grads, gradient))


def _oracle(row: str, block: Array, gradient: Array, clip_norm: float) -> tuple[Array, Array, float]:
    """Parameter and average after the two steps, and by how much the row may miss them."""
    if row == LIMIT:
        return block, np.zeros_like(block), 0.0
    exact = row in (OURS, TENSORS)
    w, g = (a if exact else a.astype(np.float64) for a in (block.copy(), gradient))
    adam = reference.Adam(LR, **baselines.options("Adam"), clip_norm=clip_norm, average=AVERAGE)
    if not exact:  # the others' averages start with the parameter before the first step
        adam.state[0] = {name: np.zeros_like(w) for name in ("m", "v")} | {"average": w.copy()}
        adam.steps[0] = 0
    adam.update(w, g, norm=2 * clip_norm)
    adam.update(w, g / 4, norm=clip_norm / 2)
    if exact:
        return w, adam.averages()[0], 0.0
    # Two steps, as large together as their difference; an average is rounded as often as its parameter.
    return w, adam.averages()[0], 2 * tolerance("Adam", "float32", block, w)
