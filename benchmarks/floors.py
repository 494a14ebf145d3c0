"""The floors of speed: what is compared with what, and by which ratio it has to win."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

import fusedstep as fs
from benchmarks import dropouts, norms, peers
from benchmarks.baselines import options
from benchmarks.limit import Limit
from benchmarks.rows import UpdateCase, checked_first_step
from benchmarks.training import Training
from benchmarks.workloads import (
    BOOK,
    LIMIT,
    LISTS,
    LR,
    NETWORKS,
    NORMS,
    OURS,
    OURS_OUT,
    RULES,
    THREADS,
    Array,
    Shapes,
    threads_text,
    values,
)
from fusedstep import reference

ALL = max(THREADS)


@dataclass(frozen=True)
class Work:
    """What is timed, with how many threads; `setup` goes before each call and is not timed."""

    run: Callable[[], Any]
    threads: int = ALL
    setup: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Floor:
    """A ratio of two times.

    Attributes:
        name: The work.
        floor: What the ratio has to be.
        aim: What it should be.
        make: Gives the works of numerator and denominator, between whose alternatives the fastest counts.
        at_most: Whether floor and aim are upper bounds.
        package: What has to be installed.
    """

    name: str
    floor: float
    aim: float
    make: Callable[[], tuple[list[Work], list[Work]]] = field(repr=False)
    at_most: bool = False
    package: str | None = None


def _update(row: str, rule: str, dtype: str, shapes: Shapes, threads: int) -> Work:
    case = UpdateCase(row, rule, dtype, "", shapes, threads)
    return Work(checked_first_step(case, shapes).step, threads)


def _updates(row: str, rule: str, dtype: str, shapes: Shapes) -> tuple[list[Work], list[Work]]:
    """A row with one thread against ours with the best number of threads."""
    return [_update(row, rule, dtype, shapes, 1)], [_update(OURS, rule, dtype, shapes, n) for n in THREADS]


def _limit(rule: str, dtype: str, size: int, threads: int) -> tuple[list[Work], list[Work]]:
    """The limit against ours on the same arrays: where in memory others happen to be makes a difference."""
    params, grads = {"W": values(size, dtype, 1)}, {"W": values(size, dtype, 2)}
    optimizer = getattr(fs, rule)(LR, **options(rule))
    optimizer.update(params, grads)  # makes the state
    limit = Limit(rule, optimizer.state).prepare(params, grads)
    return [Work(limit, threads)], [Work(partial(optimizer.update, params, grads), threads)]


def _norm(row: str, work: str, backward: bool, threads: int) -> tuple[list[Work], list[Work]]:
    shape, axis = NORMS[work]
    p = norms.problem(shape, axis, np.float32)
    theirs, ours = (Work(norms.MAKERS[name](p)[backward], threads) for name in (norms.PYTORCH, row))
    return [theirs], [ours]


def _subnormal() -> tuple[list[Work], list[Work]]:
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


def _training(work: str) -> tuple[list[Work], list[Work]]:
    return [Work(Training(BOOK, work).step)], [Work(Training(OURS, work).step)]


def _products() -> tuple[list[Work], list[Work]]:
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
        return Work(run, ALL, lambda: optimizer.update(params, grads))

    return [work(fs.Adam())], [work(reference.Adam())]


def _update_floors() -> Iterator[Floor]:
    for rule in RULES:
        for dtype, size in (("float32", 40_000_000), ("float64", 20_000_000)):
            for n in THREADS:
                make = partial(_limit, rule, dtype, size, n)
                name = f"{rule}, {size // 1_000_000} million {dtype}, {threads_text(n)}: limit / ours"
                yield Floor(name, 0.95, 0.98, make)
    for dtype, size, floor, aim in (
        ("float32", 500_000, 0.93, 0.98),
        ("float32", 30_000, 0.6, 0.8),
        ("float64", 16_000, 0.4, 0.6),
    ):
        make = partial(_limit, "Adam", dtype, size, 1)
        yield Floor(f"Adam, {size} {dtype}, 1 thread: limit / ours", floor, aim, make)
    for work, dtype, row, floor, aim in (
        ("1000", "float32", BOOK, 3.5, 5),
        ("1000", "float32", "PyTorch (fused)", 10, 15),
        ("200 x 1000", "float32", BOOK, 15, 25),
        ("200 x 1000", "float32", "PyTorch (fused)", 6, 10),
        ("784-100x4-10", "float64", BOOK, 4, 6),
    ):
        make = partial(_updates, row, "Adam", dtype, LISTS.get(work, [(1000,)]))
        package = None if row == BOOK else "torch"
        yield Floor(f"Adam, {work} {dtype}: {row} / ours", floor, aim, make, package=package)


# Floors and aims of forward and backward.
_NORM_FLOORS = {
    "(64, 256, 56, 56)": (5, 8, 2.5, 3.5),
    "(8192, 1024)": (2.5, 4, 2, 3),
    "(64, 56, 56, 256)": (2, 3, 1.5, 2),
    "(128, 1024)": (2, 4, 2, 3),
    "(100, 100)": (2, 4, 2, 3),
}


def _norm_floors() -> Iterator[Floor]:
    for work, (forward, forward_aim, backward, backward_aim) in _NORM_FLOORS.items():
        for n in THREADS:
            for direction, row, floor, aim in (
                ("forward, out=", OURS_OUT, forward, forward_aim),
                ("backward, out=", OURS_OUT, backward, backward_aim),
                ("forward, fresh output", OURS, 2, 4),
            ):
                make = partial(_norm, row, work, direction.startswith("backward"), n)
                name = f"batch normalisation {work} {direction}, {threads_text(n)}: PyTorch / ours"
                yield Floor(name, floor, aim, make, package="torch")


def _dropout(row: str, size: int, threads: int) -> tuple[list[Work], list[Work]]:
    """Both directions of a row against ours, without the time to get memory for a result."""
    x, dout = dropouts.problem(size)

    def work(name: str) -> Work:
        forward, backward = dropouts.MAKERS[name](x, dout)
        return Work(lambda: (forward(), backward()), threads)

    return [work(row)], [work(OURS_OUT)]


def _dropout_floors() -> Iterator[Floor]:
    for n in THREADS:
        for row, floor, aim, package in (
            (BOOK, 5, 10, None),
            (LIMIT, 0.5, 0.9, None),
            (norms.PYTORCH, 2, 4, "torch"),
        ):
            name = f"dropout, 10 million float32, forward and backward, {threads_text(n)}: {row} / ours"
            yield Floor(name, floor, aim, partial(_dropout, row, 10_000_000, n), package=package)


def floors() -> list[Floor]:
    """All of them."""
    return [
        *_update_floors(),
        *_norm_floors(),
        *_dropout_floors(),
        Floor("Adam, 500000 float32: step with subnormal moments / normal step", 1.2, 1.05, _subnormal, at_most=True),
        Floor("training iteration [100] * 5: NumPy / ours", 1.35, 1.5, partial(_training, "[100] * 5")),
        Floor("training iteration [1000] * 3: NumPy / ours", 1.5, 1.7, partial(_training, "[1000] * 3")),
        Floor("matrix products around our step / around NumPy's", 1.03, 1.0, _products, at_most=True),
    ]


def missing(floor: Floor) -> str | None:
    """Why a floor can't be measured here, if it can't."""
    return peers.missing(floor.package) if floor.package else None
