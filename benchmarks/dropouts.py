"""Dropout as rows: the book's, NumPy without temporaries, fusedstep, PyTorch, and the limit."""

import importlib
from collections.abc import Callable

import numpy as np

import fusedstep as fs
from benchmarks.norms import PYTORCH
from benchmarks.workloads import BOOK, IN_PLACE, LIMIT, OURS, OURS_OUT, Array, values

RATE = 0.3
DROPOUT_SIZES = (100_000, 10_000_000)
DIRECTIONS = ("forward", "backward")

Runs = tuple[Callable[[], Array], Callable[[], Array]]  # forward, which gives y, and backward, which gives dx


def _book(x: Array, dout: Array) -> Runs:
    mask: list[Array] = []

    def forward() -> Array:
        mask[:] = [np.random.rand(*x.shape) > RATE]  # noqa: NPY002
        y: Array = x * mask[0]
        return y

    forward()
    return forward, lambda: dout * mask[0]


def _in_place(x: Array, dout: Array) -> Runs:
    rng = np.random.default_rng(1)
    factors, y, dx = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    rate, scale = x.dtype.type(RATE), x.dtype.type(1 / (1 - RATE))

    def forward() -> Array:
        rng.random(dtype=x.dtype.type, out=factors)
        np.greater_equal(factors, rate, out=factors)
        np.multiply(factors, scale, out=factors)
        np.multiply(x, factors, out=y)
        return y

    forward()
    return forward, lambda: np.multiply(dout, factors, out=dx)


def _ours(out: bool) -> Callable[[Array, Array], Runs]:
    def make(x: Array, dout: Array) -> Runs:
        layer = fs.Dropout(RATE, seed=1)
        y, dx = (np.empty_like(x), np.empty_like(x)) if out else (None, None)
        layer.forward(x)
        return lambda: layer.forward(x, out=y), lambda: layer.backward(dout, dx)

    return make


def _limit(x: Array, dout: Array) -> Runs:
    y = np.empty_like(x)

    def copy(a: Array) -> Array:
        np.copyto(y, a)
        return y

    return lambda: copy(x), lambda: copy(dout)


def _torch(x: Array, dout: Array) -> Runs:
    torch = importlib.import_module("torch")
    aten = torch.ops.aten
    given, gradient = torch.from_numpy(x), torch.from_numpy(dout)
    saved = list(aten.native_dropout(given, RATE, True))

    def forward() -> Array:
        saved[:] = aten.native_dropout(given, RATE, True)
        y: Array = saved[0].numpy()
        return y

    return forward, lambda: aten.native_dropout_backward(gradient, saved[1], 1 / (1 - RATE)).numpy()


MAKERS: dict[str, Callable[[Array, Array], Runs]] = {
    BOOK: _book,
    IN_PLACE: _in_place,
    OURS: _ours(False),
    OURS_OUT: _ours(True),
    LIMIT: _limit,
    PYTORCH: _torch,
}


def problem(size: int) -> tuple[Array, Array]:
    """x and dout: numbers of either sign, none near zero."""
    return values(size, np.float32, 1), values(size, np.float32, 2)


def assert_right(row: str, given: Array, result: Array) -> None:
    """A row drops its part of what it is given, and scales the rest as it does."""
    if row == LIMIT:
        np.testing.assert_array_equal(result, given)
        return
    dropped = result == 0
    # The number of those is binomial.
    assert abs(dropped.mean() - RATE) < 5 * np.sqrt(RATE * (1 - RATE) / given.size)
    scale = 1.0 if row == BOOK else 1 / (1 - RATE)
    expected = np.where(dropped, 0, given.astype(np.float64) * scale)
    # The scale is rounded, and the product.
    np.testing.assert_allclose(result, expected, rtol=2 * float(np.finfo(given.dtype).eps), atol=0)
