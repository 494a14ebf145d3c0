"""Sums and norms of gradients, gradients of some rows, and the result of a stateless step."""

import copy
import dataclasses
import math
import pickle
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusedstep as fs
from fusedstep import _native


def test_sums_of_batches_and_their_norm() -> None:
    sums: Any = {"W": np.zeros(2, np.float32), "b": np.zeros((), np.float64)}
    batches: Any = [
        {"W": np.array([1.5, 2.5], ml_dtypes.bfloat16), "b": np.float32(4), "more": np.ones(3)},
        {"W": np.array([4.5, -2.5], np.float64)[::1], "b": None},
        {"W": None, "b": np.array(20.0)},
    ]
    norms = [fs.accumulate(sums, grads, 0.5) for grads in batches]
    assert sums["W"].tolist() == [3, 0]
    assert sums["b"] == 12
    assert norms == [math.sqrt(0.75**2 + 1.25**2 + 4), math.sqrt(9 + 4), math.sqrt(9 + 144)]
    assert fs.gradient_norm(sums) == norms[-1]
    assert type(norms[0]) is float
    w: Any = {"W": np.zeros(2, np.float32), "b": np.zeros(())}
    optimizer = fs.SGD(1.0, clip_norm=1.0)
    optimizer.update(w, sums, norm=norms[-1])
    assert optimizer.gradient_norm == norms[-1]
    assert w["b"] == -12 * (1.0 / (norms[-1] + 1e-6))


def test_norms_of_containers() -> None:
    assert fs.gradient_norm(np.array([3.0, 4.0])) == 5
    assert fs.gradient_norm([np.array([[3.0]], np.float32), None, np.full(1, 4, np.float16)]) == 5
    assert fs.gradient_norm({"W": np.full(16, 1e200), "b": np.ones(3)}) == math.inf
    assert math.isnan(fs.gradient_norm({"W": np.array([np.nan, 1.0])}))
    assert fs.gradient_norm({}) == fs.gradient_norm([np.ones((0, 3))]) == 0
    assert fs.gradient_norm({"W": fs.Rows([3, 1], np.array([[3.0], [4.0]]))}) == 5
    assert fs.gradient_norm({"a": [np.full(1, 3.0), (4.0, None)]}) == 5
    for wrong in ("W", {"W": np.ones(3, int)}, [["1"]]):
        with pytest.raises(TypeError):
            fs.gradient_norm(wrong)


def test_many_arrays_are_one_region(rng: np.random.Generator) -> None:
    fs.set_num_threads(2)
    sums = [np.zeros((200, 100), np.float32) for _ in range(30)]
    grads = [rng.standard_normal((200, 100)).astype(np.float32) for _ in range(30)]
    calls: tuple[Callable[[], float], ...] = (lambda: fs.accumulate(sums, grads), lambda: fs.gradient_norm(grads))
    for call in calls:
        before = _native.parallel_regions()
        norm = call()
        assert _native.parallel_regions() - before == 1
        assert norm == pytest.approx(
            math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in grads)), rel=1e-13
        )
    np.testing.assert_array_equal(sums, grads)


def test_a_sum_that_can_not_be_made_changes_nothing() -> None:
    sums = {"W": np.zeros(2), "b": np.zeros(3)}
    wrong: tuple[tuple[Any, type[Exception]], ...] = (
        ({"W": np.ones(2)}, KeyError),
        ({"W": np.ones(2), "b": np.ones(2)}, ValueError),
        ({"W": np.ones(2), "b": np.ones(3, int)}, TypeError),
        ([np.ones(2), np.ones(3)], TypeError),
    )
    for grads, error in wrong:
        with pytest.raises(error):
            fs.accumulate(sums, grads)
    assert not sums["W"].any()
    sums["b"].flags.writeable = False
    with pytest.raises(ValueError, match=r"b.* is read-only"):
        fs.accumulate(sums, {"W": np.ones(2), "b": np.ones(3)})
    assert not sums["W"].any()


# Rows.


def test_rows_are_checked_when_they_are_made() -> None:
    rows = fs.Rows([2, 0, 2], np.ones((3, 4), np.float32))
    assert rows.indices.dtype == np.int64
    assert rows.indices.flags.c_contiguous
    none: tuple[Any, ...] = ((), [], np.zeros(0, np.uint8))
    for indices in none:
        assert fs.Rows(indices, np.ones((0, 4))).indices.tolist() == []
    assert fs.Rows(np.arange(6, dtype=np.int16)[::-2], np.ones(3)).indices.tolist() == [5, 3, 1]
    wrong: tuple[tuple[Any, Any, type[Exception], str], ...] = (
        ([1.0], np.ones(1), TypeError, "indices has dtype float64, expected integers"),
        ([True], np.ones(1), TypeError, "indices has dtype bool, expected integers"),
        (np.zeros(0), np.ones(0), TypeError, "indices has dtype float64, expected integers"),
        ("a", np.ones(1), TypeError, "indices has dtype <U1, expected integers"),
        (1, np.ones(1), ValueError, r"indices has shape \(\), expected one axis"),
        ([[1]], np.ones(1), ValueError, r"indices has shape \(1, 1\), expected one axis"),
        ([1], np.ones((2, 3)), ValueError, r"values has shape \(2, 3\), indices has \(1,\)"),
        ([1], np.ones(()), ValueError, r"values has shape \(\), indices has \(1,\)"),
        ([1], [1.0], TypeError, "values is a list, expected an array"),
        ([1], 1.0, TypeError, "values is a float, expected an array"),
    )
    for indices, values, error, message in wrong:
        with pytest.raises(error, match=f"^{message}$"):
            fs.Rows(indices, values)


def test_rows_can_not_be_changed_but_copied() -> None:
    rows = fs.Rows([1, 0], np.arange(4.0).reshape(2, 2))
    for name in ("indices", "values", "more"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(rows, name, np.ones((2, 2)))
    for other in (copy.deepcopy(rows), pickle.loads(pickle.dumps(rows))):
        assert other.indices.tolist() == [1, 0]
        np.testing.assert_array_equal(other.values, rows.values)
    assert repr(rows).startswith("Rows(indices=array([1, 0]), values=array([[0., 1.],")
    assert rows != copy.copy(rows)  # arrays have no single answer
    torch = pytest.importorskip("torch")
    assert fs.Rows(torch.tensor([3, 1]), torch.ones(2, 5)).indices.tolist() == [3, 1]


def dense(rows: fs.Rows, shape: tuple[int, ...]) -> Any:
    gradient = np.zeros(shape, rows.values.dtype)
    np.add.at(gradient, rows.indices, rows.values)
    return gradient


@pytest.mark.parametrize("cls", [fs.SGD, fs.AdaGrad])
def test_rows_have_the_bits_of_the_dense_gradient(cls: Any, dtype: Any, rng: np.random.Generator) -> None:
    w = rng.standard_normal((50, 7)).astype(dtype)
    v = w.copy()
    ours, theirs = cls(0.1, clip_value=2.0), cls(0.1, clip_value=2.0)
    for n in (0, 1, 20, 200):
        rows = fs.Rows(rng.integers(0, 50, n), rng.standard_normal((n, 7)).astype(dtype))
        ours.update({"W": w}, {"W": rows}, scale=0.5)
        theirs.update({"W": v}, {"W": dense(rows, v.shape)}, scale=0.5)
        np.testing.assert_array_equal(w, v)
    np.testing.assert_equal(ours.state, theirs.state)


def test_rules_with_moments_are_lazy() -> None:
    w = np.ones((4, 2))
    expected, part = w.copy(), w[[2, 0]]
    ours, theirs = fs.Adam(0.1, weight_decay=0.1), fs.Adam(0.1, weight_decay=0.1)
    for _ in range(3):
        ours.update([w], [fs.Rows([2, 0], np.ones((2, 2)))])
        theirs.update([part], [np.ones((2, 2))])
    expected[[2, 0]] = part
    np.testing.assert_array_equal(w, expected)
    for name, array in ours.state[0].items():
        np.testing.assert_array_equal(array[[2, 0]], theirs.state[0][name])
        assert not array[[1, 3]].any()
    assert ours.steps == {0: 3}


@pytest.mark.parametrize("indices", [[0, 4], [-1, 0], [2**62, 0]], ids=str)
def test_bad_indices_change_nothing(indices: Any) -> None:
    w, other = np.ones((4, 2)), np.ones(3)
    optimizer = fs.Adam()
    with pytest.raises(IndexError, match="W"):
        optimizer.update({"b": other, "W": w}, {"b": np.ones(3), "W": fs.Rows(indices, np.ones((2, 2)))})
    assert (w == 1).all()
    assert (other == 1).all()
    assert (optimizer.iterations, optimizer.state) == (0, {})


def test_rows_of_another_shape() -> None:
    for w, values in ((np.ones((4, 2)), np.ones((1, 3))), (np.ones((4, 2)), np.ones(1)), (np.ones(()), np.ones(1))):
        with pytest.raises(ValueError, match="shape"):
            fs.SGD().update([w], [fs.Rows([0], values)])
        assert (w == 1).all()


def test_sums_of_rows() -> None:
    sums = [np.full((4, 2), 3.0, np.float32)]
    norm = fs.accumulate(sums, [fs.Rows([1, 3, 1], np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))], 0.5)
    np.testing.assert_array_equal(sums[0], [[3, 3], [6, 7], [3, 3], [4.5, 5]])
    assert norm == math.sqrt(4 * 9 + 36 + 49 + 4.5**2 + 25)
    with pytest.raises(TypeError, match="can't be zeroed"):
        fs.SGD().update(sums, [fs.Rows([1], np.ones((1, 2)))], zero_grads=True)


# The result of a stateless step.


def test_the_result_of_a_step() -> None:
    w = np.zeros(2)
    result = fs.step("sgd", w, np.array([3.0, 4.0]), None, lr=1.0)
    assert result == (None, False)
    result = fs.step("sgd", w, np.array([3.0, 4.0]), None, lr=1.0, scale=2.0, clip_norm=100.0)
    assert (result.gradient_norm, result.skipped) == (10.0, False)
    assert w.tolist() == [-9, -12]
    result = fs.step("sgd", w, np.array([3.0, np.inf]), None, skip_nonfinite=True)
    assert result == fs.StepResult(math.inf, True)
    assert w.tolist() == [-9, -12]
    assert repr(result) == "StepResult(gradient_norm=inf, skipped=True)"
    assert fs.step("sgd", w, np.ones(2), None, norm=7.0, scale=2.0) == (14.0, False)
