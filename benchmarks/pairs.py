"""Pairs that are measured in turns: fusedstep and another row, with an alternative for each number of threads."""

import importlib
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

import fusedstep as fs
from benchmarks import baselines, dropouts, norms, peers, touched_rows, whole_steps, word2vec
from benchmarks.limit import Limit
from benchmarks.rows import UpdateCase, checked_first_step
from benchmarks.training import checked_training
from benchmarks.turns import Sides, Work
from benchmarks.workloads import (
    BOOK,
    LIMIT,
    LR,
    NETWORKS,
    NORMS,
    OURS,
    OURS_OUT,
    SMALL_TENSORS,
    THREADS,
    WHOLE_STEPS,
    Array,
    Shapes,
    arrays,
    assert_periodic_close,
    first_period,
    refill,
    values,
)
from fusedstep import reference

BOTH = "forward and backward"


def _steps(row: str, rule: str, dtype: str, shapes: Shapes, threads: Sequence[int]) -> list[Work]:
    step = checked_first_step(UpdateCase(row, rule, dtype, "", shapes, max(threads)), shapes).step
    return [Work(step, n) for n in threads]


def update(row: str, rule: str, dtype: str, shapes: Shapes, threads: Sequence[int]) -> Sides:
    """A row's update, and ours with the best number of threads."""
    return _steps(row, rule, dtype, shapes, threads), _steps(OURS, rule, dtype, shapes, THREADS)


def limit(rule: str, dtype: str, shapes: Shapes, threads: Sequence[int]) -> Sides:
    """The limit, and our update of the same arrays: the place of arrays in memory makes a difference."""
    params, grads = (dict(enumerate(arrays(shapes, dtype, seed))) for seed in (1, 2))
    optimizer = getattr(fs, rule)(LR, **baselines.options(rule))
    optimizer.update(params, grads)  # makes the state
    least, ours = Limit(rule, optimizer.state).prepare(params, grads), partial(optimizer.update, params, grads)
    return [Work(least, n) for n in threads], [Work(ours, n) for n in threads]


def whole_step(row: str, ours: str, work: str, threads: Sequence[int], our_threads: Sequence[int]) -> Sides:
    """A row's whole step, and ours; the gradients are put back before each."""
    if row == LIMIT:
        return _whole_limit(WHOLE_STEPS[work], threads, our_threads)

    def works(name: str, threads: Sequence[int]) -> list[Work]:
        made = whole_steps.checked(name, WHOLE_STEPS[work])
        return [Work(made.step, n, made.setup) for n in threads]

    return works(row, threads), works(ours, our_threads)


def _whole_limit(shapes: Shapes, threads: Sequence[int], our_threads: Sequence[int]) -> Sides:
    params, grads, setup = _with_setup(shapes)
    named = dict(enumerate(params)), dict(enumerate(grads))
    optimizer = whole_steps.optimizer(whole_steps.half_the_norm(grads))
    optimizer.update(*named)
    least = Limit("Adam", optimizer.state, whole=True).prepare(*named)
    ours = partial(optimizer.update, *named, zero_grads=True)
    return [Work(least, n, setup) for n in threads], [Work(ours, n, setup) for n in our_threads]


def _with_setup(shapes: Shapes) -> tuple[list[Array], list[Array], Callable[[], None]]:
    """Parameters, gradients, and a function that puts the gradients back."""
    params, grads = (arrays(shapes, np.float32, seed) for seed in (1, 2))
    return params, grads, partial(refill, grads, first_period(max(grads, key=np.size)))


def options(work: str, tensors: bool) -> Sides:
    """Our whole step, and our step without options, of the same arrays or tensors on one thread."""
    params, grads, setup = _with_setup(WHOLE_STEPS[work])
    given: Any = (params, grads)
    if tensors:
        parameters = peers.torch_parameters(params, grads)
        given = parameters, [parameter.grad for parameter in parameters]
    whole = partial(whole_steps.optimizer(whole_steps.half_the_norm(grads)).update, *given, zero_grads=True)
    plain = partial(fs.Adam(LR, **baselines.options("Adam")).update, *given)
    return [Work(whole, 1, setup)], [Work(plain, 1, setup)]


def rows(row: str, rule: str, threads: Sequence[int], our_threads: Sequence[int]) -> Sides:
    """A row's step with a gradient of some rows of a matrix, and ours."""

    def works(name: str, threads: Sequence[int]) -> list[Work]:
        step = touched_rows.checked(name, rule)
        return [Work(step, n) for n in threads]

    return works(row, threads), works(OURS, our_threads)


def words(rule: str, draws: str) -> Sides:
    """An iteration of word2vec with the book's code, and with ours."""
    theirs, ours = ([Work(word2vec.checked(row, rule, draws))] for row in (BOOK, OURS))
    return theirs, ours


def norm(row: str, ours: str, work: str, direction: str, threads: Sequence[int], our_threads: Sequence[int]) -> Sides:
    """Batch normalisation by a row, and by ours."""
    shape, axis = NORMS[work]
    p = norms.problem(shape, axis, np.float32)

    def works(name: str, threads: Sequence[int]) -> list[Work]:
        run = norms.MAKERS[name](p)[direction == "backward"]
        norms.assert_right(name, direction, p, run())
        return [Work(run, n) for n in threads]

    return works(row, threads), works(ours, our_threads)


def dropout(row: str, size: int, direction: str, threads: Sequence[int], our_threads: Sequence[int]) -> Sides:
    """Dropout by a row, and by ours without the time to get memory for a result; a direction, or both."""
    x, dout = dropouts.problem(size)

    def works(name: str, threads: Sequence[int]) -> list[Work]:
        forward, backward = dropouts.MAKERS[name](x, dout)
        dropouts.assert_right(name, x, forward())
        dropouts.assert_right(name, dout, backward())
        runs = {"forward": forward, "backward": backward, BOTH: lambda: (forward(), backward())}
        return [Work(runs[direction], n) for n in threads]

    return works(row, threads), works(OURS_OUT, our_threads)


def training(row: str, work: str) -> Sides:
    """A row's training iteration, and ours."""
    theirs, ours = (Work(checked_training(name, work).step) for name in (row, OURS))
    return [theirs], [ours]


def subnormal() -> Sides:
    """A step whose moments are subnormal, and one whose numbers are normal."""

    def work(moment: float, gradient: float) -> Work:
        w: Array = np.ones(500_000, np.float32)
        g: Array = np.full_like(w, gradient)
        optimizer = fs.Adam()
        optimizer.update({"W": w}, {"W": g})
        state = optimizer.state["W"]

        def setup() -> None:
            state["m"].fill(moment)
            state["v"].fill(moment)

        return Work(lambda: optimizer.update({"W": w}, {"W": g}), 1, setup)

    return [work(1e-40, 0.0)], [work(0.1, 1.0)]


def products() -> Sides:
    """The matrix products of a training iteration, each after an update by ours, and after one by NumPy."""
    hidden, batch = NETWORKS["[1000] * 3"]
    rng = np.random.default_rng(1)

    def work(optimizer: Any) -> Work:
        widths = [784, *hidden, 10]
        pairs = list(pairwise(widths))
        params = {i: rng.standard_normal(pair) for i, pair in enumerate(pairs)}
        grads = {i: np.empty(pair) for i, pair in enumerate(pairs)}
        x, dout, dx = ([np.ones((batch, pair[end])) for pair in pairs] for end in (0, 1, 0))

        def run() -> None:
            for i, w in params.items():
                np.matmul(x[i], w, out=dout[i])
            for i, w in params.items():
                np.matmul(x[i].T, dout[i], out=grads[i])
                np.matmul(dout[i], w.T, out=dx[i])

        run()
        return Work(run, setup=lambda: optimizer.update(params, grads))

    return [work(fs.Adam())], [work(reference.Adam())]


def _float_type(name: str) -> np.dtype[Any]:
    return np.dtype(importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name)


@cache
def not_taken(name: str) -> str | None:
    """Why parameters of a type can't be measured here, if they can't."""
    if name == "bfloat16" and (why := peers.missing("ml_dtypes")):
        return why
    w = np.ones(8, _float_type(name))
    try:
        fs.Adam(0.5).update({"W": w}, {"W": w.copy()})
    except (TypeError, ValueError):
        return f"fs.Adam takes no {name} parameters"
    return None


def narrow(name: str, size: int, threads: int) -> Sides:
    """Adam on parameters and gradients of a narrow type, and on float32."""

    def work(dtype: np.dtype[Any]) -> Work:
        w, g = values(size, dtype, 1), values(size, dtype, 2)
        expected, gradient = (first_period(a).astype(np.float32) for a in (w, g))
        reference.Adam(LR, **baselines.options("Adam")).update({"W": expected}, {"W": gradient})
        optimizer = fs.Adam(LR, **baselines.options("Adam"))
        update = partial(optimizer.update, {"W": w}, {"W": g})
        update()
        # Weights are below 2, and rounded once to the nearest.
        eps = 2.0**-8 if name == "bfloat16" else float(np.finfo(dtype).eps)
        assert_periodic_close(w.astype(np.float32), expected, eps)
        return Work(update, threads)

    return [work(_float_type(name))], [work(np.dtype(np.float32))]


def tensors() -> Sides:
    """Adam on the parameters of two small networks as PyTorch's tensors, and as NumPy arrays."""
    params, grads = (arrays(SMALL_TENSORS, np.float32, seed) for seed in (1, 2))
    parameters = peers.torch_parameters(*(arrays(SMALL_TENSORS, np.float32, seed) for seed in (1, 2)))

    def work(params: Any, grads: Any) -> Work:
        optimizer = fs.Adam(LR, **baselines.options("Adam"))
        update = partial(optimizer.update, params, grads)
        update()
        return Work(update, 1)

    works = work(parameters, [parameter.grad for parameter in parameters]), work(params, grads)
    for parameter, w in zip(parameters, params, strict=True):
        np.testing.assert_array_equal(parameter.detach().numpy(), w)
    return [works[0]], [works[1]]
