"""The dialect of the book, against its formulas as one would write them from its pages."""

from typing import Any

import numpy as np
import pytest

import fusedstep.book
from book_formulas import OPTIMIZERS, PAIRS
from fusedstep import book

SECOND_VOLUME = {"Embedding", "TimeEmbedding", "EmbeddingDot", "UnigramSampler", "NegativeSamplingLoss"}
OTHERS = {"BatchNormalization", "Dropout", *SECOND_VOLUME, "clip_grads", "remove_duplicate", "np"}


def test_every_optimizer_of_the_book_has_a_formula() -> None:
    optimizers = {ours.__name__ for ours, _, _ in PAIRS if isinstance(ours, type)}
    assert optimizers | OTHERS == set(book.__all__)


def test_star_import_gives_the_names_and_np() -> None:
    names: dict[str, Any] = {}
    exec("from fusedstep.book import *", names)
    optimizers = {"SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam"}
    assert set(names) - {"__builtins__"} == optimizers | OTHERS
    assert names["np"] is np


@OPTIMIZERS
def test_bits(ours: Any, formula: Any, defaults: dict[str, float], isa: str, threads: int, rng: Any) -> None:
    for arguments in ({}, {"lr": 0.1}, {"lr": 0.3, list(defaults)[-1]: 0.5}):
        optimizer, expected_optimizer = ours(**arguments), formula(**{**defaults, **arguments})
        params = {f"W{n}": rng.standard_normal((n, 7)) for n in (1, 50, 9001)}
        expected = {key: w.copy() for key, w in params.items()}
        for _ in range(5):
            grads = {key: rng.standard_normal(w.shape) for key, w in params.items()}
            optimizer.update(params, grads)
            expected_optimizer.update(expected, grads)
        for key in params:
            np.testing.assert_array_equal(params[key], expected[key])
            for letter, arrays in expected_optimizer.arrays.items():
                np.testing.assert_array_equal(getattr(optimizer, letter)[key], arrays[key])


# The book's Adam has a step of type np.float64, which makes its last line one of float64 in NumPy 2.
@pytest.mark.parametrize(("ours", "formula"), [pair[:2] for pair in PAIRS if pair[0] is not book.Adam])
def test_bits_in_float32(ours: Any, formula: Any, isa: str, rng: np.random.Generator) -> None:
    optimizer = ours(0.3)
    arguments = {"lr": 0.3, "momentum": 0.9, "decay_rate": 0.99}
    expected_optimizer = formula(**arguments)
    w = rng.standard_normal(9001).astype(np.float32)
    expected = w.copy()
    for _ in range(5):
        g = rng.standard_normal(w.shape).astype(np.float32)
        optimizer.update({"W": w}, {"W": g})
        expected_optimizer.update({"W": expected}, {"W": g})
    np.testing.assert_array_equal(w, expected, strict=True)


@OPTIMIZERS
@pytest.mark.parametrize("shared", ["not shared", "shared", "shared, gradients summed"])
def test_the_second_volumes_lists(ours: Any, formula: Any, defaults: Any, shared: str, rng: Any) -> None:
    """An array twice in the list takes two steps, with a state for each, unless the trainer made one of them."""
    optimizer, expected_optimizer = ours(0.1), formula(**{**defaults, "lr": 0.1})
    first, other = rng.standard_normal((50, 7)), rng.standard_normal(40)
    params = [first, other, rng.standard_normal((50, 7)) if shared == "not shared" else first]
    expected = [first.copy(), other.copy()]
    expected.append(params[2].copy() if shared == "not shared" else expected[0])
    for _ in range(5):
        grads = [rng.standard_normal(w.shape) for w in params]
        count = 3
        if shared == "shared, gradients summed":
            grads[0] += grads[2]
            count = 2
        optimizer.update(params[:count], grads[:count])
        expected_optimizer.update(dict(enumerate(expected[:count])), dict(enumerate(grads)))
    for w, e in zip(params, expected, strict=True):
        np.testing.assert_array_equal(w, e)
    for letter, arrays in expected_optimizer.arrays.items():
        np.testing.assert_equal(getattr(optimizer, letter), arrays)
    if letters := list(expected_optimizer.arrays):
        assert len(getattr(optimizer, letters[0])) == count


@OPTIMIZERS
def test_positional_arguments_and_attributes(ours: Any, formula: Any, defaults: dict[str, float]) -> None:
    optimizer = ours(*(0.5 for _ in defaults))
    assert {name: getattr(optimizer, name) for name in defaults} == dict.fromkeys(defaults, 0.5)
    assert {name: getattr(ours(), name) for name in defaults} == defaults
    letters = [letter for letter in "vhm" if hasattr(optimizer, letter)]
    assert all(getattr(optimizer, letter) is None for letter in letters)
    if ours is book.Adam:
        assert optimizer.iter == 0
    optimizer.update({"W": np.ones(3)}, {"W": np.ones(3)})
    assert all(getattr(optimizer, letter).keys() == {"W"} for letter in letters)
    if ours is book.Adam:
        assert optimizer.iter == 1
    for letter in letters:
        getattr(optimizer, letter)["W"] = [5.0, 6.0, 7.0]
        np.testing.assert_array_equal(optimizer.state["W"][letter], [5.0, 6.0, 7.0])
        getattr(optimizer, letter)["b"] = np.zeros(3)
    for letter in letters:
        setattr(optimizer, letter, {"W": np.zeros(3)})
        assert optimizer.state["W"][letter].tolist() == [0, 0, 0]
        for value in (5, "W", {1.0}):
            with pytest.raises(TypeError, match=f"^{letter} is .*, expected a dict or list of arrays, or None$"):
                setattr(optimizer, letter, value)
    for letter in letters:
        setattr(optimizer, letter, None)
        assert getattr(optimizer, letter) is None


# On this path ** and * round the squares of the gradients alike, as they do but for about one number in a thousand.
@OPTIMIZERS
@pytest.mark.parametrize("lr", [0.95, 0.1, 1.5, 0.3])
def test_the_naive_comparison_keeps_its_history(ours: Any, formula: Any, defaults: Any, lr: float) -> None:
    results = []
    for optimizer in (ours(**{**defaults, "lr": lr}), formula(**{**defaults, "lr": lr})):
        params, history = {"x": -7.0, "y": 2.0}, []
        for _ in range(30):
            history.append((params["x"], params["y"]))
            optimizer.update(params, {"x": params["x"] / 10.0, "y": 2.0 * params["y"]})
        results.append(history)
    assert results[0] == results[1]
    assert len(set(results[0])) == 30


@OPTIMIZERS
def test_integers_and_subclasses_that_begin_by_themselves(ours: Any, formula: Any, defaults: dict[str, float]) -> None:
    base = getattr(ours, "func", ours)

    class Own(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.__dict__.update(defaults)
            for letter in formula(**defaults).arrays:
                setattr(self, letter, {})

    for optimizer, usual in ((ours(), ours()), (Own(), base())):
        params: Any = {"x": -7, "W": np.ones(2)}
        optimizer.update(params, {"x": -0.7, "W": np.full(2, 0.5)})
        expected: Any = {"x": -7.0, "W": np.ones(2)}
        usual.update(expected, {"x": -0.7, "W": np.full(2, 0.5)})
        assert params["x"] == expected["x"]
        np.testing.assert_array_equal(params["W"], expected["W"])
    with pytest.raises(TypeError, match="int64"):
        ours().update({"W": np.ones(2, np.int64)}, {"W": np.ones(2)})
    values: Any = [-7, 2.0]
    ours().update(values, [0.1, 0.1])
    assert all(isinstance(value, float) for value in values)


def batch_normalization(x: Any, gamma: Any, beta: Any, dout: Any) -> Any:
    """Forward and backward over the first axis with epsilon 1e-6: y, mean, var, dx, dgamma, dbeta."""
    mean, var = x.mean(axis=0), x.var(axis=0)
    xhat = (x - mean) / np.sqrt(var + 1e-6)
    dbeta, dgamma = dout.sum(axis=0), (dout * xhat).sum(axis=0)
    dx = gamma / np.sqrt(var + 1e-6) * (dout - (dbeta + xhat * dgamma) / len(x))
    return gamma * xhat + beta, mean, var, dx, dgamma, dbeta


@pytest.mark.parametrize("shape", [(100, 50), (1, 5), (12, 3, 4, 5)], ids=str)
def test_batch_normalization(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    width = int(np.prod(shape[1:]))
    gamma, beta = rng.standard_normal(width), rng.standard_normal(width)
    layer = book.BatchNormalization(gamma, beta)
    assert (layer.momentum, layer.running_mean, layer.running_var) == (0.9, None, None)
    mean, var = np.zeros(width), np.zeros(width)
    # Sums of at most 100 numbers of size 1 to 10 in two orders, then divisions by deviations of about 1.
    close: Any = {"rtol": 1e-11, "atol": 1e-11 * (1e3 if shape[0] == 1 else 1)}
    for _ in range(3):
        x, dout = rng.standard_normal(shape) + 2, rng.standard_normal(shape)
        y, m, v, dx, dgamma, dbeta = batch_normalization(x.reshape(len(x), -1), gamma, beta, dout.reshape(len(x), -1))
        mean, var = 0.9 * mean + (1 - 0.9) * m, 0.9 * var + (1 - 0.9) * v
        got = layer.forward(x)
        assert got.shape == x.shape
        np.testing.assert_allclose(got.reshape(y.shape), y, **close)
        np.testing.assert_allclose(layer.backward(dout).reshape(dx.shape), dx, **close)
        np.testing.assert_allclose(layer.dgamma, dgamma, **close)
        np.testing.assert_allclose(layer.dbeta, dbeta, **close)
        np.testing.assert_allclose(layer.running_mean, mean, **close)
        np.testing.assert_allclose(layer.running_var, var, **close)
    x = rng.standard_normal(shape)
    expected = gamma * (x.reshape(len(x), -1) - mean) / np.sqrt(var + 1e-6) + beta
    np.testing.assert_allclose(layer.forward(x, train_flg=False).reshape(expected.shape), expected, **close)


def test_batch_normalization_keeps_the_running_averages_it_was_given(rng: np.random.Generator) -> None:
    mean, var = np.full(4, 3.0), np.full(4, 2.0)
    layer = book.BatchNormalization(np.ones(4), np.zeros(4), 0.5, mean, var)
    x = rng.standard_normal((6, 4))
    layer.forward(x, False)
    assert layer.running_mean is mean
    layer.forward(x)
    np.testing.assert_array_equal(mean, 3.0)
    np.testing.assert_allclose(layer.running_mean, 1.5 + 0.5 * x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(layer.running_var, 1.0 + 0.5 * x.var(axis=0), rtol=1e-14)


def test_batch_normalization_follows_parameters_updated_in_place(rng: np.random.Generator) -> None:
    params = {"gamma": np.ones(4), "beta": np.zeros(4)}
    layer = book.BatchNormalization(params["gamma"], params["beta"])
    x = rng.standard_normal((6, 4))
    first = layer.forward(x)
    layer.backward(np.ones_like(x))
    book.SGD(1.0).update(params, {"gamma": np.full(4, -1.0), "beta": np.full(4, -3.0)})
    np.testing.assert_allclose(layer.forward(x), 2 * first + 3, rtol=1e-14, atol=1e-14)


def test_batch_normalization_takes_what_the_books_does(rng: np.random.Generator) -> None:
    layer = book.BatchNormalization(np.ones((1, 4)), 0.0, running_mean=0.0, running_var=1.0)
    with pytest.raises(RuntimeError, match="backward needs a forward pass"):
        layer.backward(np.ones((6, 4)))
    x = rng.integers(0, 9, (6, 4))
    expected = book.BatchNormalization(np.ones(4), np.zeros(4), 0.9, np.zeros(4), np.ones(4))
    np.testing.assert_array_equal(layer.forward(x), expected.forward(x))
    np.testing.assert_array_equal(layer.backward(x), expected.backward(x.astype(np.float64)))
    np.testing.assert_array_equal(layer.running_var, expected.running_var)


def test_float32_data_and_float64_parameters(rng: np.random.Generator) -> None:
    layer = book.BatchNormalization(np.ones(4), np.zeros(4))
    x = rng.standard_normal((6, 4)).astype(np.float32)
    assert layer.forward(x).dtype == np.float64
    assert (
        fusedstep.book.BatchNormalization(np.ones(4, np.float32), np.zeros(4, np.float32)).forward(x).dtype
        == np.float32
    )


def test_dropout_draws_as_the_book_does() -> None:
    x, dout = np.arange(1.0, 13.0).reshape(3, 4), np.arange(12.0).reshape(3, 4)
    layer = book.Dropout(0.3)
    np.random.seed(1)  # noqa: NPY002
    kept = np.random.rand(3, 4) > 0.3  # noqa: NPY002
    expected_next = np.random.rand()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    np.testing.assert_array_equal(layer.forward(x), np.where(kept, x, 0.0))
    assert np.random.rand() == expected_next  # noqa: NPY002
    assert 0 < kept.sum() < 12
    np.testing.assert_array_equal(layer.mask, kept)
    np.testing.assert_array_equal(layer.forward(x, False), x * 0.7)
    np.testing.assert_array_equal(layer.backward(dout), np.where(kept, dout, 0.0))
    assert layer.forward(x.astype(np.float32)).dtype == np.float32
    assert (layer.params, layer.grads, book.Dropout().dropout_ratio) == ([], [], 0.5)


def test_dropout_checks_its_ratio_and_its_order() -> None:
    for ratio, error in ((-0.1, ValueError), (1.1, ValueError), (np.nan, ValueError), ("a", TypeError)):
        with pytest.raises(error, match=f"dropout_ratio is {ratio!r}, expected a number"):
            book.Dropout(ratio)  # type: ignore[arg-type]
    layer = book.Dropout(1.0)
    layer.forward(np.ones(3), train_flg=False)
    with pytest.raises(RuntimeError, match="backward needs a forward pass in training"):
        layer.backward(np.ones(3))
