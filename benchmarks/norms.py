"""Batch normalisation as rows: the book's formulas, NumPy without temporaries, fusedstep, PyTorch, and the limit."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fusedstep as fs
from benchmarks.workloads import BOOK, IN_PLACE, LIMIT, OURS, OURS_OUT, Array
from fusedstep import reference

NORM_EPS = 1e-5
PYTORCH = "PyTorch"
ROWS = (BOOK, IN_PLACE, OURS, OURS_OUT, LIMIT, PYTORCH)


@dataclass
class Problem:
    """A batch: x, the gradient dout with respect to the result, gamma, beta, and which axis holds the channels.

    x and dout may be replaced between calls; the backward pass of all but the limit and PyTorch sets dgamma and dbeta.
    """

    x: Array
    dout: Array
    gamma: Array
    beta: Array
    axis: int
    dgamma: Array | None = None
    dbeta: Array | None = None

    @property
    def axes(self) -> tuple[int, ...]:
        """All axes but that of the channels."""
        return tuple(i for i in range(self.x.ndim) if i != self.axis)

    def spread(self, values: Array) -> Array:
        """One value for each channel, so that it broadcasts."""
        return values.reshape([-1 if i == self.axis else 1 for i in range(self.x.ndim)])


Runs = tuple[Callable[[], Array], Callable[[], Array]]  # forward, which gives y, and backward, which gives dx


def problem(shape: tuple[int, ...], axis: int, dtype: Any) -> Problem:
    """Channels near 1 with a deviation near 1, which no number of calls changes."""
    rng = np.random.default_rng(1)
    channels = shape[axis]
    x, dout = (rng.standard_normal(shape, np.float32).astype(dtype, copy=False) for _ in range(2))
    x += 1
    gamma, beta = rng.uniform(0.5, 1.5, channels), rng.uniform(-1, 1, channels)
    return Problem(x, dout, gamma.astype(dtype), beta.astype(dtype), axis)


def _book(p: Problem) -> Runs:
    gamma, beta, count = p.spread(p.gamma), p.spread(p.beta), p.x.size // p.gamma.size
    saved: list[Array] = []

    def forward() -> Array:
        centred = p.x - p.x.mean(axis=p.axes, keepdims=True)
        std = np.sqrt(np.mean(centred**2, axis=p.axes, keepdims=True) + NORM_EPS)
        normal = centred / std
        saved[:] = centred, normal, std
        y: Array = gamma * normal + beta
        return y

    def backward() -> Array:
        centred, normal, std = saved
        p.dbeta = p.dout.sum(axis=p.axes)
        p.dgamma = np.sum(normal * p.dout, axis=p.axes)
        dnormal = gamma * p.dout
        dcentred = dnormal / std
        dstd = -np.sum((dnormal * centred) / (std * std), axis=p.axes, keepdims=True)
        dcentred += (2.0 / count) * centred * (0.5 * dstd / std)
        dx: Array = dcentred - np.sum(dcentred, axis=p.axes, keepdims=True) / count
        return dx

    forward()
    return forward, backward


def _in_place(p: Problem) -> Runs:
    gamma, beta, count = p.spread(p.gamma), p.spread(p.beta), p.x.size // p.gamma.size
    normal, y, dx = np.empty_like(p.x), np.empty_like(p.x), np.empty_like(p.x)
    inv_std = np.empty_like(gamma)

    def forward() -> Array:
        np.subtract(p.x, p.x.mean(axis=p.axes, keepdims=True), out=normal)
        np.multiply(normal, normal, out=y)
        inv_std[...] = 1 / np.sqrt(y.mean(axis=p.axes, keepdims=True) + p.x.dtype.type(NORM_EPS))
        np.multiply(normal, inv_std, out=normal)
        np.multiply(normal, gamma, out=y)
        np.add(y, beta, out=y)
        return y

    def backward() -> Array:
        np.multiply(normal, p.dout, out=dx)
        p.dgamma, p.dbeta = dx.sum(axis=p.axes), p.dout.sum(axis=p.axes)
        np.multiply(normal, p.spread(p.dgamma) / p.x.dtype.type(count), out=dx)
        np.subtract(p.dout, dx, out=dx)
        np.subtract(dx, p.spread(p.dbeta) / p.x.dtype.type(count), out=dx)
        np.multiply(dx, gamma * inv_std, out=dx)
        return dx

    forward()
    return forward, backward


def _ours(out: bool) -> Callable[[Problem], Runs]:
    def make(p: Problem) -> Runs:
        y, dx = (np.empty_like(p.x), np.empty_like(p.x)) if out else (None, None)
        mean, inv_std = p.gamma, p.gamma

        def forward() -> Array:
            nonlocal mean, inv_std
            result, mean, inv_std = fs.batch_norm(p.x, p.gamma, p.beta, NORM_EPS, p.axis, y)
            return result

        def backward() -> Array:
            result, p.dgamma, p.dbeta = fs.batch_norm_backward(p.dout, p.x, p.gamma, mean, inv_std, p.axis, dx)
            return result

        forward()
        return forward, backward

    return make


def _limit(p: Problem) -> Runs:
    y = np.empty_like(p.x)

    def forward() -> Array:
        np.copyto(y, p.x)
        return y

    return forward, lambda: np.add(p.x, p.dout, out=y)


def _torch(p: Problem) -> Runs:
    torch = importlib.import_module("torch")
    aten = torch.ops.aten
    # PyTorch wants the channels second; a view of channels-last memory is what it calls channels_last.
    x, dout = (torch.from_numpy(a).movedim(p.axis, 1) for a in (p.x, p.dout))
    gamma, beta = torch.from_numpy(p.gamma), torch.from_numpy(p.beta)
    _, mean, inv_std = aten.native_batch_norm(x, gamma, beta, None, None, True, 0.1, NORM_EPS)
    grads = [True, True, True]

    def back(t: Any) -> Array:
        result: Array = t.movedim(1, p.axis).numpy()
        return result

    return (
        lambda: back(aten.native_batch_norm(x, gamma, beta, None, None, True, 0.1, NORM_EPS)[0]),
        lambda: back(
            aten.native_batch_norm_backward(dout, x, gamma, None, None, mean, inv_std, True, NORM_EPS, grads)[0]
        ),
    )


MAKERS: dict[str, Callable[[Problem], Runs]] = {
    BOOK: _book,
    IN_PLACE: _in_place,
    OURS: _ours(False),
    OURS_OUT: _ours(True),
    LIMIT: _limit,
    PYTORCH: _torch,
}


def assert_right(row: str, direction: str, p: Problem, result: Array) -> None:
    """Compares a row's result, in three channels, with the formulas in float64."""
    if row == LIMIT:
        np.testing.assert_array_equal(result, p.x if direction == "forward" else p.x + p.dout)
        return
    chosen = sorted({0, p.gamma.size // 2, p.gamma.size - 1})
    x, dout, found = (np.take(a, chosen, p.axis).astype(np.float64) for a in (p.x, p.dout, result))
    gamma, beta = p.gamma[chosen].astype(np.float64), p.beta[chosen].astype(np.float64)
    expected, mean, inv_std = reference.batch_norm(x, gamma, beta, NORM_EPS, p.axis)
    if direction == "backward":
        expected, *_ = reference.batch_norm_backward(dout, x, gamma, mean, inv_std, p.axis)
    # A result is some ten roundings off, of numbers as large as those below. NumPy adds what is beside each other in
    # pairs (a rounding for each of 16 additions and each halving), and these sums one after the other. PyTorch adds the
    # rows of channels-last arrays likewise.
    roundings = 16 + (0 if row in (OURS, OURS_OUT) else 48 + int(np.prod(p.x.shape[: p.axis])))
    largest = 4 * max(float(np.abs(a).max()) for a in (x, dout, expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=roundings * float(np.finfo(p.x.dtype).eps) * largest)
