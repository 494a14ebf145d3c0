"""Adafactor: state whose shape is not that of its parameter."""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from c_interface import CODES, Arrays, settings_of, update
from cases import assert_same_state
from fusedstep import reference
from fusedstep.reference.storage import sums_of_squares

# Of a row, a column, matrices of a few numbers, of rows longer than a tile, and of several blocks of rows.
SHAPES = [(), (1,), (1025,), (3, 4), (0, 2), (2, 0), (1, 5), (5, 1), (40, 50), (64, 5, 3, 3), (3, 3000), (3000, 3)]
SHAPES += [(2, 900, 70), (7, 2049), (100, 1000), (20_000,), (1500, 800), (20, 1032)]
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"beta1": 0.9, "weight_decay": 0.1},
    {"weight_decay": 0.1, "decay_first": True},
    {"eps1": None, "eps1_as_floor": True, "weight_decay": 0.1, "cautious_decay": True},
    {"lr": 0.1, "weight_decay": 0.1, "decoupled": False, "clip_norm": 1.0, "clip_value": 0.1, "average": 0.9},
    {"state_dtype": "bfloat16", "beta1": 0.5, "maximize": True},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_bits(options: dict[str, Any], dtype: Any, isa: str, rng: np.random.Generator) -> None:
    if "state_dtype" in options:
        pytest.importorskip("ml_dtypes")
        if dtype == np.float64:
            pytest.skip("float64 parameters have no bfloat16 state")
    params = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
    expected = [w.copy() for w in params]
    ours, theirs = fs.Adafactor(**options), reference.Adafactor(**options)
    for threads, scale in ((1, 0.5), (2, 1.0), (3, 0.5)):  # a gradient that is scaled is not read where it is
        fs.set_num_threads(threads)
        grads = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
        ours.update(params, grads, scale=scale)
        theirs.update(expected, grads, scale=scale)
        for w, e in zip(params, expected, strict=True):
            np.testing.assert_array_equal(w, e, strict=True)
    assert_same_state(ours, theirs)
    assert ours.state[3]["row"].shape == (3, 1)
    assert ours.state[9]["column"].shape == (64, 5, 1, 3)
    assert ours.state[2]["row"].shape == (0,)


def test_rows_are_summed_up_as_arrays_are(rng: np.random.Generator) -> None:
    for columns in (1, 7, 1024, 2500):
        rows = rng.standard_normal((3, columns)) * 10.0 ** rng.integers(-9, 9, columns)
        expected = [reference.sum_of_squares(row) for row in rows]
        assert sums_of_squares(rows).tolist() == expected


def test_a_matrix_by_hand() -> None:
    # Means of squares: rows 5 and 10, of mean 7.5; columns 10 and 5. u = g / sqrt(row / 7.5 column).
    w, g = np.full((2, 2), 2.0), np.array([[3.0, 1.0], [-4.0, 2.0]])
    g[0, 0], g[1, 0] = 2.0, 4.0
    g[0, 1], g[1, 1] = np.sqrt(6.0), 2.0
    optimizer = fs.Adafactor(0.5, eps1=0.0, clip_threshold=None)
    optimizer.update(w, g)
    moments = np.array([[5 / 7.5 * 10, 5 / 7.5 * 5], [10 / 7.5 * 10, 10 / 7.5 * 5]])
    np.testing.assert_allclose(optimizer.state[0]["row"], [[5.0], [10.0]], rtol=1e-15)
    np.testing.assert_allclose(optimizer.state[0]["column"], [[10.0, 5.0]], rtol=1e-15)
    np.testing.assert_allclose(w, 2 - 0.5 * 2 * g / np.sqrt(moments), rtol=1e-15)
    # rms(u) > .5: the step is divided by twice that.
    w = np.full((2, 2), 2.0)
    fs.Adafactor(0.5, eps1=0.0, clip_threshold=0.5).update(w, g)
    u = g / np.sqrt(moments)
    np.testing.assert_allclose(w, 2 - 0.5 * 2 * u / (np.sqrt(np.mean(u * u)) / 0.5), rtol=1e-15)


def test_rows_are_refused(rng: np.random.Generator) -> None:
    w = rng.standard_normal((3, 4))
    before = w.copy()
    for optimizer in (fs.Adafactor(), fs.Adafactor(beta1=0.9)):
        with pytest.raises(
            TypeError, match=r"^grads\['W'\] is a Rows, but 'adafactor\w*' takes moments of whole columns"
        ):
            optimizer.update({"W": w}, {"W": fs.Rows([1], np.ones((1, 4)))})
        assert (w == before).all()
        assert not optimizer.state
        assert optimizer.iterations == 0


def test_state_of_another_shape_is_refused() -> None:
    optimizer = fs.Adafactor()
    optimizer.update({"W": np.ones((3, 4))}, {"W": np.ones((3, 4))})
    for shape, expected in (
        ((4, 3), r", expected \(4, 1\)"),
        ((3, 4, 1), r"\(3, 4, 1\)"),
        ((3,), r", expected \(0,\)"),
    ):
        message = rf"^state\['W'\]\['row'\] has shape \(3, 1\), params\['W'\] has .*{expected}$"
        with pytest.raises(ValueError, match=message):
            optimizer.update({"W": np.ones(shape)}, {"W": np.ones(shape)})
    row = optimizer.state["W"]["row"]
    optimizer.state["W"]["column"] = row.T
    with pytest.raises(ValueError, match=r"^state\['W'\]\['column'\] shares memory with state\['W'\]\['row'\]$"):
        optimizer.update({"W": np.ones((3, 3))}, {"W": np.ones((3, 3))})


def test_rows_without_elements_may_be_anywhere() -> None:
    memory = np.zeros(8)
    fs.step("adafactor", memory[:5], np.ones(5), (memory[2:2], np.zeros(5)))
    assert memory[:5].all()


def test_strided_arrays(dtype: Any, rng: np.random.Generator) -> None:
    w, expected = np.asfortranarray(rng.standard_normal((30, 40)).astype(dtype)), None
    expected = w.copy()
    row, column = np.zeros((60, 1), dtype)[::-2], np.zeros((1, 80), dtype)[:, ::2]
    theirs = reference.Adafactor()
    for t in (1, 2):
        g = rng.standard_normal((40, 60)).astype(dtype).T[::2]
        fs.step("adafactor", w, g, (row, column), t=t)
        theirs.update(expected, g)
    np.testing.assert_array_equal(w, expected)
    np.testing.assert_array_equal(row, theirs.state[0]["row"])
    np.testing.assert_array_equal(column, theirs.state[0]["column"])


def test_a_zeroed_gradient_in_the_state_of_another_parameter_is_refused() -> None:
    w, state = [np.ones((3, 4)) for _ in range(2)], [(np.zeros((3, 1)), np.zeros((1, 4))) for _ in range(2)]
    g = np.ones((3, 4))
    memory = np.zeros(12)
    state[1] = (memory[:3].reshape(3, 1), np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"^grads\[0\] shares memory with an array of another parameter"):
        fs.step("adafactor", w, [memory.reshape(3, 4), g], state, zero_grads=True)
    assert (w[0] == 1).all()


def test_arrays_that_share_memory_are_updated_in_turn(rng: np.random.Generator) -> None:
    memory = rng.standard_normal(40)
    expected = memory.copy()
    g = [rng.standard_normal((4, 5)) for _ in range(2)]
    ours, theirs = fs.Adafactor(), reference.Adafactor()
    for array, optimizer in ((memory, ours), (expected, theirs)):
        optimizer.update([array[:20].reshape(4, 5), array[10:30].reshape(4, 5)], g)
    np.testing.assert_array_equal(memory, expected)


def test_numbers_that_are_not_finite(dtype: Any, rng: np.random.Generator) -> None:
    for bad in (np.nan, np.inf, 1e30):
        w, g = rng.standard_normal((2, 6, 5)).astype(dtype), rng.standard_normal((2, 6, 5)).astype(dtype)
        expected = w.copy()
        g[1, 2, 3] = bad
        with np.errstate(all="ignore"):
            reference.Adafactor().update(expected, g)
        fs.Adafactor().update(w, g)
        np.testing.assert_array_equal(w, expected)


def test_saved_state_continues(tmp_path: Path, rng: np.random.Generator) -> None:
    first, second = fs.Adafactor(beta1=0.9, average=0.9), fs.Adafactor(beta1=0.5, average=0.9)
    w, g = [rng.standard_normal((3, 4)), rng.standard_normal(5)], [rng.standard_normal((3, 4)), rng.standard_normal(5)]
    first.update(w, g)
    fs.save_state(tmp_path / "state.npz", first)
    fs.load_state(tmp_path / "state.npz", second)
    other = [array.copy() for array in w]
    first.update(w, g)
    second.update(other, g)
    np.testing.assert_equal(w, other)
    snapshot = second.state_dict()
    snapshot["state"][0]["column"] = snapshot["state"][0]["column"].astype(np.float32)
    with pytest.raises(ValueError, match=r"^state\[0\]\['column'\] has shape \(1, 4\) and dtype float32"):
        second.load_state_dict(snapshot)
    with pytest.raises(ValueError, match=r"^beta1 is 0.0, but the state was made with 0.9: clear state first$"):
        second.beta1 = 0.0
    second.beta1 = 0.5


@pytest.mark.parametrize("rule", ["adafactor", "adafactor_momentum"])
def test_the_c_interface(rule: str, dtype: Any, rng: np.random.Generator) -> None:
    storage = np.dtype(dtype).name
    w, g = rng.standard_normal((5, 30, 40)).astype(dtype), rng.standard_normal((5, 30, 40)).astype(dtype)
    expected = w.copy()
    theirs = fs.Adafactor(beta1=0.9 if rule == "adafactor_momentum" else 0.0)
    theirs.update(expected, g)
    states = [np.zeros_like(array) for array in theirs.state[0].values()]
    item = Arrays(w, g, states, parameter_type=storage, gradient_type=storage).item(settings_of(rule))
    item.matrix_rows, item.matrix_columns = 30, 40
    assert update([item]) == (0, -1, None)
    np.testing.assert_array_equal(w, expected)
    for ours, right in zip(states, theirs.state[0].values(), strict=True):
        np.testing.assert_array_equal(ours, right)
    for rows, columns in ((0, 40), (30, 0), (-1, 40), (7, 11), (2**40, 2**40)):
        item.matrix_rows, item.matrix_columns = rows, columns
        assert update([item]) == (CODES["BAD_SIZE"], 0, "matrix_rows")
    item.matrix_rows, item.matrix_columns = 30, 40
    item.state[1] = None
    assert update([item]) == (CODES["NULL_POINTER"], 0, "state[1]")
    item.row_size, numbers = 40, np.array([1])
    item.rows, item.row_count = ctypes.c_void_p(numbers.ctypes.data).value, 1
    assert update([item]) == (CODES["BAD_SIZE"], 0, "row_size")
    np.testing.assert_array_equal(w, expected)
