"""Steps of a matrix, such as an embedding, of which a batch has touched some rows."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

import fusedstep as fs
from benchmarks import baselines, peers
from benchmarks.rows import tolerance
from benchmarks.workloads import BETA1, BETA2, BOOK, LR, OURS, Array, values
from fusedstep import reference

SHAPE, TOUCHED = (100_000, 100), 1000
WORK = f"{TOUCHED} of {SHAPE[0]} x {SHAPE[1]}"
RULES = ("SGD", "AdaGrad", "Adam")
DENSE, TORCH_SPARSE = "fusedstep (dense)", "PyTorch (sparse)"
ROWS = (BOOK, OURS, DENSE, TORCH_SPARSE)


def moved(rule: str) -> int:
    """The bytes that a step moves at least, if no row is touched twice."""
    states = {"SGD": 0, "AdaGrad": 1, "Adam": 2}[rule]
    return TOUCHED * SHAPE[1] * (12 + 8 * states)


def problem() -> tuple[Array, Array, Array]:
    """The matrix, the indices of the rows, some of them twice, and their gradients."""
    indices = np.random.default_rng(3).integers(0, SHAPE[0], TOUCHED)
    shapes = SHAPE, (TOUCHED, SHAPE[1])
    w, g = (values(shape[0] * shape[1], np.float32, seed).reshape(shape) for seed, shape in enumerate(shapes, 1))
    return w, indices, g


def _dense(indices: Array, values: Array) -> Array:
    gradient: Array = np.zeros(SHAPE, np.float32)
    np.add.at(gradient, indices, values)
    return gradient


def _book(rule: str, w: Array, indices: Array, values: Array) -> Callable[[], Any]:
    optimizer, gradient = baselines.Book(rule), np.empty_like(w)

    def step() -> None:
        # As the embedding of the book's second volume makes its gradient.
        gradient[...] = 0
        np.add.at(gradient, indices, values)
        optimizer.update({"W": w}, {"W": gradient})

    return step


def _ours(rule: str, w: Array, indices: Array, values: Array) -> Callable[[], Any]:
    optimizer = getattr(fs, rule)(LR, **baselines.options(rule))
    return lambda: optimizer.update({"W": w}, {"W": fs.Rows(indices, values)})


def _ours_dense(rule: str, w: Array, indices: Array, values: Array) -> Callable[[], Any]:
    optimizer, gradient = getattr(fs, rule)(LR, **baselines.options(rule)), _dense(indices, values)
    return lambda: optimizer.update({"W": w}, {"W": gradient})


def _torch(rule: str, w: Array, indices: Array, values: Array) -> Callable[[], Any]:
    torch = importlib.import_module("torch")
    torch.sparse.check_sparse_tensor_invariants.disable()  # as by default, without its warning
    parameter = torch.nn.Parameter(torch.from_numpy(w))
    parameter.grad = torch.sparse_coo_tensor(torch.from_numpy(indices[np.newaxis]), torch.from_numpy(values), SHAPE)
    if rule == "Adam":  # which leaves the bias correction out of epsilon
        optimizer = torch.optim.SparseAdam([parameter], lr=LR, betas=(BETA1, BETA2), eps=baselines.FIRST_EPS)
    else:
        optimizer = peers.torch_optimizer(rule, [parameter])
    step: Callable[[], Any] = optimizer.step
    return step


MAKERS = {BOOK: _book, OURS: _ours, DENSE: _ours_dense, TORCH_SPARSE: _torch}


def package(row: str) -> str | None:
    """The package that a row needs."""
    return "torch" if row == TORCH_SPARSE else None


def checked(row: str, rule: str) -> Callable[[], Any]:
    """Makes a row's first step and compares the result, all of it, with that of the dense gradient."""
    w, indices, values = problem()
    exact = row in (OURS, DENSE)
    expected, gradient = (a if exact else a.astype(np.float64) for a in (w.copy(), _dense(indices, values)))
    step = MAKERS[row](rule, w, indices, values)
    before = values.copy()
    step()
    getattr(reference, rule)(LR, **baselines.options(rule)).update({"W": expected}, {"W": gradient})
    if exact:
        np.testing.assert_array_equal(w, expected)
    else:
        start = problem()[0]
        np.testing.assert_allclose(w, expected, rtol=0, atol=tolerance(rule, "float32", start, expected))
    np.testing.assert_array_equal(values, before)
    return step
