"""Rows added to rows of a matrix, against numpy.add.at."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusedstep as fs

LAYOUTS: list[Callable[[Any], Any]] = [
    np.asfortranarray,
    lambda w: np.repeat(w, 2, axis=0)[::2],
    lambda w: np.repeat(w, 3, axis=1)[:, ::3],
    lambda w: w[::-1],
    lambda w: w.T.copy().T,
]
KINDS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
SHAPES = [(50, 7), (50,), (30, 3, 5), (20, 3000), (4, 0), (1, 64), (700, 100)]


def expected_of(target: Any, indices: Any, values: Any) -> Any:
    """By a loop: NumPy's own has no bfloat16."""
    expected = target.copy()
    for row, value in zip(indices, values, strict=True):
        wide: Any = np.float64 if np.float64 in (target.dtype, values.dtype) else np.float32
        expected[row] = (expected[row].astype(wide) + value.astype(wide)).astype(target.dtype)
    return expected


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits(kind: Any, shape: tuple[int, ...], isa: str, threads: int, rng: np.random.Generator) -> None:
    for count in (0, 1, 200, 3000):
        target = rng.standard_normal(shape).astype(kind)
        indices = rng.integers(0, shape[0], count)
        values = (rng.standard_normal((count, *shape[1:])) * 10.0 ** rng.integers(-4, 2)).astype(kind)
        expected, kept = expected_of(target, indices, values), values.copy()
        fs.add_rows(target, indices, values)
        np.testing.assert_array_equal(target, expected, strict=True)
        np.testing.assert_array_equal(values, kept)
        if kind is not ml_dtypes.bfloat16:
            again = rng.standard_normal(shape).astype(kind)
            by_numpy = again.copy()
            np.add.at(by_numpy, indices, values)
            fs.add_rows(again, indices, values)
            np.testing.assert_array_equal(again, by_numpy)


def test_layouts(isa: str, threads: int, rng: np.random.Generator) -> None:
    for made in LAYOUTS:
        target = made(rng.standard_normal((90, 40)).astype(np.float32))
        indices = rng.integers(0, 90, 500, dtype=np.int32)
        values: Any = made(rng.standard_normal((500, 40)))
        expected = target.copy()
        np.add.at(expected, indices, values)
        fs.add_rows(target, indices, values)
        np.testing.assert_array_equal(target, expected)
        fs.add_rows(target, indices.tolist(), np.broadcast_to(values[:1], (500, 40)))


@pytest.mark.parametrize("of_values", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("of_target", KINDS, ids=lambda kind: kind.__name__)
def test_types(of_target: Any, of_values: Any, isa: str, threads: int, rng: np.random.Generator) -> None:
    """The wider of both computes each sum, as in NumPy."""
    target = rng.standard_normal((20, 9)).astype(of_target)
    indices = rng.integers(0, 20, 400)
    values = rng.standard_normal((400, 9)).astype(of_values)
    expected = expected_of(target, indices, values)
    if ml_dtypes.bfloat16 not in (of_target, of_values):
        by_numpy = target.copy()
        np.add.at(by_numpy, indices, values)
        np.testing.assert_array_equal(by_numpy, expected)
    fs.add_rows(target, indices, values)
    np.testing.assert_array_equal(target, expected, strict=True)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_values_of_the_target_itself(kind: Any) -> None:
    target = np.arange(-6, 6).reshape(6, 2).astype(kind)
    expected = expected_of(target, [1, 2, 2], target[:3].copy())
    fs.add_rows(target, [1, 2, 2], target[:3])
    np.testing.assert_array_equal(target, expected)
    expected = expected_of(target, [0, 0, 5], target[::-2].copy())
    fs.add_rows(target, [0, 0, 5], target[::-2])
    np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("count", [2000, 300_000])
def test_indices_of_the_target_itself(count: int, threads: int) -> None:
    indices = np.zeros(count, np.int64)
    indices[1:] = 5
    target = indices.view(np.float64).reshape(count, 1)
    expected, values = target.copy(), np.full((count, 1), 1e300)
    np.add.at(expected, indices.copy(), values)
    fs.add_rows(target, indices, values)
    np.testing.assert_array_equal(target, expected)


def test_tensors() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch's tensors where that is installed")
    target = torch.zeros((4, 2), requires_grad=True)
    loss = (target * target).sum()
    fs.add_rows(target, [3, 3], torch.ones((2, 2), dtype=torch.bfloat16))
    assert target.tolist() == [[0, 0], [0, 0], [0, 0], [2, 2]]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    for tensor in (torch.ones((4, 2), dtype=torch.bfloat16), torch.ones((4, 2), requires_grad=True)):
        fs.add_rows(tensor, [0], tensor[1:2])
        assert tensor.tolist() == [[2, 2], [1, 1], [1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("target", "indices", "values", "error", "message"),
    [
        (np.zeros((3, 2)), [0, -1], np.ones((2, 2)), IndexError, r"^indices\[1\] is -1, target has 3 rows"),
        (np.zeros((3, 2)), [0, 3], np.ones((2, 2)), IndexError, r"^indices\[1\] is 3, target has 3 rows"),
        (np.zeros((3, 2)), [0], np.ones((1, 3)), ValueError, r"^values has shape \(1, 3\), target has shape \(3, 2\)"),
        (np.zeros((3, 2)), [0], np.ones((2, 2)), ValueError, r"values has shape \(2, 2\), indices has \(1,\)"),
        (np.zeros((3, 2)), [0.5], np.ones((1, 2)), TypeError, "indices has dtype float64, expected integers"),
        (
            np.zeros((3, 2)),
            [0],
            np.ones((1, 2), int),
            TypeError,
            "^values has dtype int64, expected an array of float32",
        ),
        (np.zeros((3, 2), int), [0], np.ones((1, 2)), TypeError, "target has dtype int64, expected float32"),
        (np.zeros(()), [0], np.ones(1), ValueError, r"^values has shape \(1,\), target has shape \(\)"),
        (np.broadcast_to(np.zeros(2), (3, 2)), [0], np.ones((1, 2)), ValueError, "target is read-only"),
        (
            np.lib.stride_tricks.as_strided(np.zeros(4), (3, 2), (8, 8)),
            [0],
            np.ones((1, 2)),
            ValueError,
            "target has elements that share memory",
        ),
        ([[0.0]], [0], np.ones((1, 1)), TypeError, "target is a list, expected an array"),
        (np.zeros((3, 2)), np.ma.array([0]), np.ones((1, 2)), TypeError, "indices is a masked array"),
        (np.zeros((3, 2)), [0], np.ma.ones((1, 2)), TypeError, "^values is a masked array"),
        (np.zeros((3, 2)), np.array([2**64 - 1], np.uint64), np.ones((1, 2)), IndexError, r"^indices\[0\] is 9223"),
    ],
)
def test_errors(target: Any, indices: Any, values: Any, error: type[Exception], message: str) -> None:
    before = np.array(target)
    with pytest.raises(error, match=message):
        fs.add_rows(target, indices, values)
    np.testing.assert_array_equal(target, before)
