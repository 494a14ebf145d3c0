"""The gradient of an embedding, which is rows for optimizers, and the book's array for all other code."""

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from book2_formulas import assert_rows, matrix
from book_formulas import OPTIMIZERS
from fusedstep import book

DTYPES = pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])


def pair(rng: np.random.Generator, dtype: Any = "float32", rows: int = 6) -> tuple[Any, Any]:
    """A gradient of ours and the array that it stands for."""
    layer = book.Embedding(matrix(rng, (rows, 4), dtype))
    layer.forward(np.array([1, 5, 1, 2]))
    layer.backward(rng.standard_normal((4, 4)))
    return layer.grads[0], layer.grads[0].copy()


def in_place(name: str) -> Callable[[Any, Any], Any]:
    return lambda g, other: getattr(g, name)(other)


NO_ARRAY: Any = None

# What code does with gradients; each gets a gradient and another one of the same matrix.
USES: dict[str, Any] = {
    "power": lambda g, other: g**2,
    "products": lambda g, other: [0.1 * g, g * np.float32(2), np.float64(2) * g, g * other, g * g],
    "sums": lambda g, other: [0 + g, g + other, sum([g, other]), 1 - g, -g, abs(g)],
    "comparisons": lambda g, other: [g > 0, g == other, np.isnan(g), np.isfinite(g).all()],
    "in place": lambda g, other: in_place("__iadd__")(g, other),
    "itself": lambda g, other: in_place("__iadd__")(g, g),
    "array added": lambda g, other: in_place("__iadd__")(g, np.arange(24.0).reshape(6, 4)),
    "scaled": lambda g, other: in_place("__imul__")(g, 0.3),
    "scaled by NumPy": lambda g, other: in_place("__imul__")(g, np.float64(0.3)),
    "scaled by an array": lambda g, other: in_place("__imul__")(g, np.array(0.3)),
    "turned": lambda g, other: in_place("__imul__")(g, -1),
    "no more numbers": lambda g, other: in_place("__imul__")(g, np.inf),
    "divided": lambda g, other: in_place("__itruediv__")(g, 3),
    "subtracted": lambda g, other: in_place("__isub__")(g, other),
    "added and scaled": lambda g, other: in_place("__imul__")(in_place("__iadd__")(g, other), 0.7),
    "scaled and added": lambda g, other: in_place("__iadd__")(in_place("__imul__")(g, 0.7), other),
    "emptied": lambda g, other: g.__setitem__(..., 0),
    "filled": lambda g, other: [g.fill(3), g.__setitem__(..., other)],
    "row written": lambda g, other: g.__setitem__(1, 7.0),
    "row of a view": lambda g, other: g[1].fill(7.0),
    "element": lambda g, other: [float(g[1, 2]), g[0], g[g > 0], g[[1, 1]]],
    "transposed": lambda g, other: g.T.copy(),
    "methods": lambda g, other: [g.sum(), g.mean(axis=0), g.max(), g.tolist(), g.ravel().copy(), g.astype("d")],
    "functions": lambda g, other: [
        np.sum(g),
        np.sum(g**2),
        np.linalg.norm(g),
        np.dot(g, g.T),
        np.concatenate([g, other]),
    ],
    "clipped": lambda g, other: np.clip(g, -0.5, 0.5, out=g) is g,
    "ufunc into it": lambda g, other: np.multiply(other, 2, out=g) is g,
    "two results": lambda g, other: [np.modf(g, out=(g, NO_ARRAY))[0] is g, np.divmod(g, 0.5)],
    "added at": lambda g, other: np.add.at(g, [1, 1], 2.0),
    "reduced": lambda g, other: [np.add.reduce(g), np.maximum.accumulate(g), np.add.outer(g, other)],
    "about it": lambda g, other: [g.shape, g.ndim, g.size, len(g), g.dtype, g.nbytes, g.T.shape, list(map(len, g))],
    "array": lambda g, other: [np.asarray(g), np.array(g), np.array(g, "d"), np.asarray(g, dtype="d"), g[:]],
    "array changed": lambda g, other: np.asarray(g).fill(4),
    "copies changed": lambda g, other: [
        in_place("__iadd__")(a, 1) for a in (np.array(g), g.copy(), np.asarray(g, "d"))
    ],
    "into arrays": lambda g, other: [
        np.ones((6, 4), "f") - g,
        np.subtract(np.ones((6, 4)), g),
        np.ones((6, 4)).__imul__(g),
    ],
}


@DTYPES
@pytest.mark.parametrize("use", USES)
def test_a_gradient_is_used_as_an_array(use: str, dtype: str, rng: np.random.Generator) -> None:
    (gradient, array), (other, other_array) = pair(rng, dtype), pair(rng, dtype)
    with np.errstate(invalid="ignore"):
        result, expected = USES[use](gradient, other), USES[use](array, other_array)
    if result is gradient:
        result, expected = None, None
    for got, right in zip(*(r if isinstance(r, list) else [r] for r in (result, expected)), strict=True):
        np.testing.assert_array_equal(got, right)
        assert np.asarray(got).dtype == np.asarray(right).dtype
    np.testing.assert_array_equal(gradient.copy(), array, strict=True)
    np.testing.assert_array_equal(other.copy(), other_array, strict=True)
    rows = gradient.rows()
    if isinstance(rows, fs.Rows):
        assert_rows(rows, array)
    else:
        np.testing.assert_array_equal(rows, array)
    # The next batch's gradient isn't touched by any of these.
    gradient.assign(np.array([[4, 4]]), np.ones((1, 2, 4)))
    np.testing.assert_array_equal(gradient.copy(), np.outer([0, 0, 0, 0, 2, 0], np.ones(4)))


@pytest.mark.parametrize(
    "use", ["in place", "itself", "scaled", "scaled by NumPy", "divided", "added and scaled", "emptied"]
)
def test_these_uses_keep_the_rows(use: str, rng: np.random.Generator) -> None:
    (gradient, array), (other, other_array) = pair(rng), pair(rng)
    USES[use](gradient, other), USES[use](array, other_array)
    assert_rows(gradient, array)
    assert isinstance(other.rows(), fs.Rows)


def test_reading_keeps_the_rows(rng: np.random.Generator) -> None:
    gradient, array = pair(rng)
    reads: Any = (lambda g: np.sum(g**2), lambda g: g.sum(), lambda g: 2 * g, lambda g: g.copy(), lambda g: g[1, 2])
    for read in reads:
        np.testing.assert_array_equal(read(gradient), read(array))
        assert_rows(gradient, array)
    assert "indices=array([" in repr(gradient)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gradient.nothing  # noqa: B018
    assert_rows(gradient, array)


def test_sums_of_unlike_gradients(rng: np.random.Generator) -> None:
    gradient, array = pair(rng, "float32")
    other, other_array = pair(rng, "float64")
    gradient += other
    array += other_array
    np.testing.assert_array_equal(gradient.copy(), array, strict=True)
    for held in (gradient, other):
        np.asarray(held)
    gradient, array = pair(rng)
    gradient += (held := pair(rng)[0])
    array += np.asarray(held)
    gradient += held  # whose array is the gradient now
    array += held
    np.testing.assert_array_equal(gradient.copy(), array, strict=True)
    gradient, array = pair(rng)
    with pytest.raises(ValueError, match="broadcast"):
        gradient += pair(rng, rows=7)[0]
    np.testing.assert_array_equal(gradient.copy(), array, strict=True)


VIEWS: dict[str, Any] = {
    "asarray": np.asarray,
    "slice": lambda g: g[:],
    "row": lambda g: g[4],
    "transposed": lambda g: g.T,
    "reshaped": lambda g: g.reshape(-1),
    "rows": lambda g: [*g][4],
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_stays_the_gradient(view: str, rng: np.random.Generator) -> None:
    layer = book.Embedding(matrix(rng, (6, 4)))
    (gradient,) = layer.grads
    held = VIEWS[view](gradient)
    for k in range(1, 4):
        layer.forward(np.array([4, k, 4]))
        layer.backward(np.full((3, 4), float(k)))
        expected = np.zeros((6, 4), np.float32)
        np.add.at(expected, [4, k, 4], float(k))
        np.testing.assert_array_equal(held, VIEWS[view](expected), strict=True)
        gradient *= 0.5
        held += 1
        np.testing.assert_array_equal(held, VIEWS[view](expected) * 0.5 + 1)
        np.testing.assert_array_equal(VIEWS[view](np.array(gradient)), held, strict=True)
        w = layer.params[0]
        expected = w - gradient.copy()
        book.SGD(1.0).update([w], [gradient])
        np.testing.assert_array_equal(w, expected)
        gradient[...] = 0
        assert not held.any()


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda g: pickle.loads(pickle.dumps(g))])
def test_copies(copied: Callable[[Any], Any], rng: np.random.Generator) -> None:
    for prepare in (lambda g: None, lambda g: g.copy(), np.asarray):
        gradient, array = pair(rng)
        prepare(gradient)
        other = copied(gradient)
        np.testing.assert_array_equal(other.copy(), array, strict=True)
        gradient *= 2
        gradient.array()
        np.testing.assert_array_equal(other.copy(), array, strict=True)
        other.assign(np.array([[1]]), np.ones((1, 1, 4)))
        np.testing.assert_array_equal(gradient.copy(), array * 2, strict=True)
        np.testing.assert_array_equal(other.copy().sum(), 4)


@OPTIMIZERS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_have_the_numbers_of_dense_gradients(
    ours: Any, formula: Any, defaults: dict[str, float], dtype: str, threads: int, rng: np.random.Generator
) -> None:
    """The same bits as with the dense array, for all rules: rows are used where they give them."""
    optimizer, dense = ours(**defaults), ours(**defaults)
    expected_optimizer = formula(**defaults)
    w, b = matrix(rng, (300, 5), dtype), np.zeros(3, dtype)
    dense_w, expected = w.copy(), w.copy()
    layer = book.Embedding(w)
    for step in range(8):
        layer.forward(rng.integers(0, 40 * (step + 1) % 300 + 1, (20, 2)))
        layer.backward(rng.standard_normal((20, 2, 5)))
        gradient = layer.grads[0].copy()
        optimizer.update([w, b], [layer.grads[0], np.ones(3)])
        dense.update([dense_w, b.copy()], [gradient, np.ones(3)])
        expected_optimizer.update({"W": expected}, {"W": gradient})
        np.testing.assert_array_equal(w, dense_w)
        assert isinstance(layer.grads[0].rows(), fs.Rows)
    if dtype == "float64":
        np.testing.assert_array_equal(w, expected)


@pytest.mark.parametrize("container", ["list", "dict", "nested", "alone"])
def test_containers(container: str, rng: np.random.Generator) -> None:
    wrap: Any = {
        "list": lambda x: [x],
        "dict": lambda x: {"W": x},
        "nested": lambda x: x,
        "alone": lambda x: x,
    }[container]
    for optimizer in (book.SGD(0.1), book.Adam(0.1)):
        gradient, array = pair(rng)
        w = matrix(rng, (6, 4))
        expected = w.copy()
        params, grads = wrap(w), wrap(gradient)
        if container == "nested":
            params, grads = {"layers": [(w, np.zeros(2))]}, {"layers": [(gradient, None)]}
        optimizer.update(params, grads)
        type(optimizer)(0.1).update(expected, array)
        np.testing.assert_array_equal(w, expected)
        assert isinstance(gradient.rows(), fs.Rows)


OPTIONS: dict[str, Any] = {
    "weight_decay": 0.1,
    "average": 0.9,
    "clip_norm": 0.01,
    "maximize": True,
    "groups": [(0, {"weight_decay": 0.2})],
}


@pytest.mark.parametrize("rule", ["SGD", "AdaGrad", "Momentum"])
@pytest.mark.parametrize("option", OPTIONS)
def test_options_are_those_of_the_dense_gradient(rule: str, option: str, rng: np.random.Generator) -> None:
    results = []
    gradient, array = pair(rng)
    for given in (gradient, array):
        optimizer = getattr(book, rule)(0.1)
        setattr(optimizer, option, OPTIONS[option])
        w = np.ones((6, 4), np.float32)
        optimizer.update([w], [given])
        optimizer.update([w], [given], scale=0.5)
        results.append((w, optimizer.gradient_norm))
    np.testing.assert_equal(results[0], results[1])


def test_gradients_are_zeroed(rng: np.random.Generator) -> None:
    for rule in (book.SGD, book.Momentum):
        gradient, _ = pair(rng)
        w = np.ones((6, 4), np.float32)
        rule().update([w], [gradient], zero_grads=True)
        assert not gradient.copy().any()
        before = w.copy()
        rule().update([w], [gradient])
        np.testing.assert_array_equal(w, before)


def test_copies_have_all_rows(rng: np.random.Generator) -> None:
    for rule in (book.SGD, book.Adam):
        w, half = np.ones((6, 4), np.float32), np.zeros((6, 4), np.float16)
        rule(0.25).update([w], [pair(rng)[0]], copies=[half])
        np.testing.assert_array_equal(half, w.astype(np.float16))


@OPTIMIZERS
def test_lazy_steps_leave_other_rows_alone(ours: Any, formula: Any, defaults: Any, rng: np.random.Generator) -> None:
    optimizer, plain = ours(**defaults), getattr(ours, "func", ours)(**defaults)
    assert optimizer.lazy is False
    optimizer.lazy = True
    if hasattr(optimizer, "legacy"):
        plain.legacy = optimizer.legacy
    layer = book.Embedding(matrix(rng, (6, 4)))
    (w,) = layer.params
    expected, start = w.copy(), w.copy()
    for idx in ([1, 5, 1], [1, 2, 2]):
        layer.forward(np.array(idx))
        layer.backward(rng.standard_normal((3, 4)))
        optimizer.update([w], layer.grads)
        plain.update([expected], [fs.Rows(layer.grads[0].indices, layer.grads[0].values)])
        np.testing.assert_array_equal(w, expected)
    np.testing.assert_array_equal(w[[0, 3, 4]], start[[0, 3, 4]])


def test_other_optimizers_take_the_rows(rng: np.random.Generator) -> None:
    gradient, array = pair(rng)
    w, expected = np.ones((6, 4), np.float32), np.ones((6, 4), np.float32)
    fs.Adam(0.1).update(w, gradient)
    fs.Adam(0.1).update(expected, fs.Rows(gradient.indices, gradient.values))
    np.testing.assert_array_equal(w, expected)
    np.asarray(gradient)
    fs.SGD(1.0).update(w, gradient)
    np.testing.assert_array_equal(w, expected - array)


class Half(dict[str, Any]):
    """Gives what it has by halves, and for other keys ones."""

    def __getitem__(self, key: str) -> Any:
        return 0.5 * np.asarray(super().__getitem__(key)) if key in self else np.ones(3)


class Sequence(list[Any]):
    pass


CONTAINERS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "dict that answers itself": (lambda w: {"W": w}, lambda g: Half(W=g)),
    "dict that answers itself, nested": (lambda w: [{"W": w}], lambda g: [Half(W=g)]),
    "ordered dict": (lambda w: {"W": w}, lambda g: OrderedDict(W=g)),
    "ordered dict in a list": (lambda w: [{"W": w}], lambda g: [OrderedDict(W=g)]),
    "subclass of list": (lambda w: [w], lambda g: Sequence([g])),
    "subclass of list in a dict": (lambda w: {"layer": [w]}, lambda g: {"layer": Sequence([g])}),
    "tuple in a tuple": (lambda w: ((w,),), lambda g: ((g,),)),
}


@pytest.mark.parametrize("name", CONTAINERS)
@OPTIMIZERS
def test_containers_of_other_types(ours: Any, formula: Any, defaults: Any, name: str, rng: np.random.Generator) -> None:
    of_params, of_grads = CONTAINERS[name]
    results = []
    for is_dense in (False, True):
        w = matrix(np.random.default_rng(3), (6, 4), "float64")
        layer, optimizer = book.Embedding(w), ours(**defaults)
        for t in range(3):
            layer.forward(np.array([t, 5, t]))
            layer.backward(np.full((3, 4), 0.5 + t))
            g = np.array(copy.deepcopy(layer.grads[0])) if is_dense else layer.grads[0]
            optimizer.update(of_params(w), of_grads(g))
        results.append(w)
    np.testing.assert_array_equal(results[0], results[1])


def test_a_dict_with_answers_for_other_keys(rng: np.random.Generator) -> None:
    g, _ = pair(rng)
    w, b = np.zeros((6, 4), np.float32), np.zeros(3)
    book.SGD(lr=1.0).update({"W": w, "b": b}, Half(W=g))
    assert b.tolist() == [-1, -1, -1]


def test_lazy_is_saved() -> None:
    optimizer = book.Adam()
    optimizer.lazy = True
    saved = optimizer.state_dict()
    other = book.Adam()
    other.load_state_dict(saved)
    assert other.lazy is True
    for name in saved:
        if isinstance(saved[name], dict):
            saved[name].pop("lazy", None)
    other.load_state_dict(saved)
    assert other.lazy is False


def test_gradients_of_many_batches_are_added_up(rng: np.random.Generator) -> None:
    total, expected = pair(rng)
    for _ in range(300):
        other, array = pair(rng)
        total += other
        expected += array
    assert len(total._terms) <= 64
    np.testing.assert_array_equal(np.array(total), expected)
