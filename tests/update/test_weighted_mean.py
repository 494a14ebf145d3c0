"""The weighted mean of lists of arrays, against the formula in NumPy."""

import gc
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusedstep as fs
from cases import SIZES
from fusedstep import _native

WEIGHTS = [10, 20.5, 5, 7, 1, 99, 0]


def formula(arrays: list[Any], weights: list[Any]) -> Any:
    kind: Any = np.float64 if arrays[0].dtype == np.float64 else np.float32
    factors = [kind(weight / sum(weights)) for weight in weights]
    mean = factors[0] * arrays[0].astype(kind)
    for factor, array in zip(factors[1:], arrays[1:], strict=True):
        mean = mean + factor * array.astype(kind)
    return mean.astype(arrays[0].dtype)


def drawn(rng: Any, kind: Any, shape: Any, count: int = len(WEIGHTS)) -> list[Any]:
    return [rng.standard_normal(shape).astype(kind) for _ in range(count)]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16], ids=lambda t: t.__name__)
def test_bits(kind: Any, isa: str, threads: int, rng: np.random.Generator) -> None:
    shapes: list[Any] = [*SIZES, (), (3, 4), (2, 0, 5), (2, 4097), 4 * 4096 + 1]
    arrays = [drawn(rng, kind, shape) for shape in shapes]
    before = [[array.copy() for array in terms] for terms in arrays]
    means = fs.weighted_mean([list(terms) for terms in zip(*arrays, strict=True)], WEIGHTS)
    for mean, terms, kept in zip(means, arrays, before, strict=True):
        np.testing.assert_array_equal(mean, formula(terms, WEIGHTS), strict=True)
        np.testing.assert_array_equal(terms, kept)


@pytest.mark.parametrize("count", [1, 2, 100])
def test_number_of_lists(count: int, rng: np.random.Generator) -> None:
    arrays = drawn(rng, np.float32, (30, 5), count)
    weights = [int(weight) for weight in rng.integers(1, 1000, count)]
    np.testing.assert_array_equal(fs.weighted_mean(iter(arrays), iter(weights)), formula(arrays, weights), strict=True)


def test_layouts_and_types(isa: str, rng: np.random.Generator) -> None:
    """The result has the type of the first array, whatever the others are."""
    arrays = drawn(rng, np.float64, (70, 33))
    given: list[Any] = [
        np.asfortranarray(arrays[0].astype(np.float32)),
        np.repeat(arrays[1], 2, axis=1)[:, ::2],
        arrays[2].astype(np.float32)[::-1][::-1],
        arrays[3].astype(">f4"),
        np.broadcast_to(arrays[4][:1].astype(np.float16), (70, 33)),
        np.frombuffer(b"\0" + arrays[5].tobytes(), np.uint8)[1:].view(np.float64).reshape(70, 33),
        arrays[6].astype(np.longdouble),
    ]
    for array in given:
        array.flags.writeable = False
    mean = fs.weighted_mean(given, WEIGHTS)
    np.testing.assert_array_equal(mean, formula(given, WEIGHTS), strict=True)
    assert mean.flags.c_contiguous
    assert mean.flags.writeable
    assert not any(np.shares_memory(mean, array) for array in given)
    in_double = [given[1], *given]
    np.testing.assert_array_equal(
        fs.weighted_mean(in_double, [1, *WEIGHTS]), formula(in_double, [1, *WEIGHTS]), strict=True
    )


def test_containers() -> None:
    lists: list[Any] = [
        {"conv": (np.ones(2), [np.full(1, 4, np.float32)]), "scale": 1.0, "bias": np.float32(3)},
        {"bias": np.float32(7), "scale": 5.0, "conv": [np.zeros(2), (np.zeros(1, np.float32),)]},
    ]
    mean = fs.weighted_mean(lists, [3, 1])
    assert list(mean) == ["conv", "scale", "bias"]
    assert type(mean["conv"]) is tuple
    assert type(mean["conv"][1]) is list
    assert mean["conv"][0].tolist() == [0.75, 0.75]
    assert mean["conv"][1][0].tolist() == [3]
    assert mean["scale"] == 2
    assert mean["bias"] == 4
    assert type(mean["bias"]) is np.float32
    assert fs.weighted_mean([[], []], [1, 2]) == []


class Exporter:
    """An array by DLPack whose export runs a function."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function, self.array = function, np.full(3, 2.0)

    def __dlpack__(self, **options: Any) -> Any:
        self.function()
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("change", ["clear", "append"])
def test_lists_that_change_meanwhile(change: str) -> None:
    given: list[Any] = []
    given += [Exporter(given.clear if change == "clear" else lambda: given.append(np.ones(1))), np.ones(3)]
    first, second = fs.weighted_mean([given], [1])
    assert first.tolist() == [2, 2, 2]
    assert second.tolist() == [1, 1, 1]


def test_tensors(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch's tensors where that is installed")
    arrays = drawn(rng, np.float32, 50, 3)
    given = [torch.tensor(array, requires_grad=True) for array in arrays]
    np.testing.assert_array_equal(fs.weighted_mean(given, [1, 2, 3]), formula(arrays, [1, 2, 3]), strict=True)
    narrow = [tensor.detach().bfloat16() for tensor in given]
    expected = formula([array.astype(ml_dtypes.bfloat16) for array in arrays], [1, 2, 3])
    np.testing.assert_array_equal(fs.weighted_mean(narrow, [1, 2, 3]), expected, strict=True)


def test_nonfinite_numbers_go_through() -> None:
    mean = fs.weighted_mean([np.array([np.inf, np.nan, np.inf, 1.0]), np.array([1.0, 1.0, -np.inf, np.inf])], [1, 0])
    np.testing.assert_array_equal(mean, [np.inf, np.nan, np.nan, np.nan])


def test_many_arrays_are_one_region(rng: np.random.Generator) -> None:
    fs.set_num_threads(2)
    lists = [drawn(rng, np.float32, (200, 100), 30) for _ in range(3)]
    before = _native.parallel_regions()
    fs.weighted_mean(lists, [1, 2, 3])
    assert _native.parallel_regions() - before == 1


def test_results_stay_when_others_are_made(rng: np.random.Generator) -> None:
    """Only the memory of a result that has died is used again."""
    arrays = drawn(rng, np.float32, 1 << 18, 2)
    first = fs.weighted_mean(arrays, [1, 1])
    kept = first.copy()
    for weight in range(2, 5):
        fs.weighted_mean(arrays, [1, weight])
        gc.collect()
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("lists", "weights", "error", "message"),
    [
        ([], [], ValueError, "lists has length 0, weights has 0, expected the same, at least 1"),
        ([np.ones(2)], [1, 2], ValueError, "lists has length 1, weights has 2, expected the same, at least 1"),
        ([np.ones(2), np.ones(3)], [1, 2], ValueError, r"lists[1] has shape (3,), lists[0] has (2,)"),
        ([[np.ones(2)], [np.ones(1), np.ones(1)]], [1, 2], ValueError, "lists[1] has length 2, lists[0] has 1"),
        ([{"a": np.ones(2)}, {"b": np.ones(2)}], [1, 2], ValueError, "lists[1] lacks 'a', which lists[0] has"),
        ([{"a": [1.0]}, {"a": {0: 1.0}}], [1, 2], TypeError, "lists[1]['a'] is a dict, lists[0]['a'] is a list"),
        ([{"a": [np.ones(2)]}, {"a": [np.ones(1)]}], [1, 1], ValueError, "lists[1]['a'][0] has shape (1,), "),
        ([np.ones(2), np.ones(2, int)], [1, 2], TypeError, "lists[1] has dtype int64, expected float32, float64, "),
        ([np.ones(2, int), np.ones(2)], [1, 2], TypeError, "lists[0] has dtype int64, expected float32, float64, "),
        ([np.ones(2, ">f4")], [1], TypeError, "lists[0] has dtype >f4, expected float32, float64, "),
        ([np.ma.ones(2)], [1], TypeError, "lists[0] is a masked array"),
        (["x"], [1], TypeError, "lists[0] is a str, expected an array"),
        ([np.ones(2)] * 2, [0, 0], ValueError, "the sum of weights is 0.0, expected a finite number above 0"),
        ([np.ones(2)] * 2, [1e308, 1e308], ValueError, "the sum of weights is inf, expected a finite number above 0"),
        ([np.ones(2)] * 2, [1, -1], ValueError, "weights[1] is -1, expected a finite number >= 0"),
        ([np.ones(2)], [np.nan], ValueError, "weights[0] is nan, expected a finite number >= 0"),
        ([np.ones(2)], 1, TypeError, "weights is 1, expected a list"),
        ([np.ones(2)], {0: 1.0}, TypeError, "weights is {0: 1.0}, expected a list"),
        (1, [1], TypeError, "lists is 1, expected a list"),
        ([np.ones(2)], ["1"], TypeError, "weights[0] is '1', expected a number"),
    ],
)
def test_errors(lists: Any, weights: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as found:
        fs.weighted_mean(lists, weights)
    assert str(found.value).startswith(message)
