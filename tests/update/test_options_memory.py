"""Memory that options write: what may be shared, and errors that name the array and both values and change nothing."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import fusedstep as fs
from cases import KINDS, Row, assert_same_state

Array = np.ndarray[Any, np.dtype[Any]]
# All options at once, so that an error comes when much has been prepared.
ALL = {"clip_norm": 1.0, "clip_value": 0.5, "average": 0.9, "weight_decay": 0.1, "skip_nonfinite": True}


def ones(*shape: int) -> Array:
    return np.ones(shape or 3)


def unchangeable(dtype: Any = np.float64) -> Array:
    array = np.ones(3, dtype)
    array.flags.writeable = False
    return array


SHARED = np.arange(1.0, 7)
ZEROED = {"zero_grads": True}
REPEATED = as_strided(np.ones(1), (3,), (0,))
BAD: dict[str, tuple[Any, Any, dict[str, Any], type[Exception], str]] = {
    "gradient in its parameter": (
        {"a": SHARED[:3]},
        {"a": SHARED[2:5]},
        ZEROED,
        ValueError,
        r"^grads\['a'\] shares memory with params\['a'\], so the gradient can't be zeroed$",
    ),
    "gradient in a later parameter": (
        {"a": ones(), "b": SHARED[:3]},
        {"a": SHARED[2:5], "b": ones()},
        ZEROED,
        ValueError,
        r"^grads\['a'\] shares memory with an array of another parameter, so it can't be zeroed$",
    ),
    "gradient in an earlier parameter": (
        [SHARED[:3], ones()],
        [ones(), SHARED[2:5]],
        ZEROED,
        ValueError,
        r"^grads\[1\] shares memory with an array of another parameter, so it can't be zeroed$",
    ),
    "gradient in its copy": (
        {"a": ones()},
        {"a": SHARED[:3]},
        {"copies": {"a": SHARED[:3]}, **ZEROED},
        ValueError,
        r"^copies\['a'\] shares memory with grads\['a'\], so the gradient can't be zeroed$",
    ),
    "read-only gradient": (
        {"a": ones()},
        {"a": unchangeable()},
        ZEROED,
        ValueError,
        r"^grads\['a'\] is read-only, so it can't be zeroed$",
    ),
    "broadcast gradient": (
        {"a": ones()},
        {"a": np.broadcast_to(np.ones(1), 3)},
        ZEROED,
        ValueError,
        r"^grads\['a'\] is read-only, so it can't be zeroed$",
    ),
    "number as gradient": (
        {"a": ones(), "b": 1.0},
        {"a": ones(), "b": 1.0},
        ZEROED,
        TypeError,
        r"^grads\['b'\] is a float, which can't be zeroed$",
    ),
    "copy that is missing": (
        {"a": ones(), "b": ones()},
        {"a": ones(), "b": ones()},
        {"copies": {"a": ones()}},
        KeyError,
        "copies lacks 'b', which params has",
    ),
    "copies of another length": (
        [ones()],
        [ones()],
        {"copies": [ones(), ones()]},
        ValueError,
        r"^copies has length 2, params has 1$",
    ),
    "copy of another shape": (
        {"a": ones()},
        {"a": ones()},
        {"copies": {"a": ones(4)}},
        ValueError,
        r"^copies\['a'\] has shape \(4,\), params\['a'\] has \(3,\)$",
    ),
    "copy of integers": (
        {"a": ones()},
        {"a": ones()},
        {"copies": {"a": np.ones(3, np.int8)}},
        TypeError,
        r"^copies\['a'\] has dtype int8, expected float32, float64, float16 or bfloat16$",
    ),
    "read-only copy": (
        {"a": ones()},
        {"a": ones()},
        {"copies": {"a": unchangeable()}},
        ValueError,
        r"^copies\['a'\] is read-only$",
    ),
    "number as copy": (
        {"a": ones()},
        {"a": ones()},
        {"copies": {"a": 1.0}},
        TypeError,
        r"^copies\['a'\] is a float, expected an array$",
    ),
    "copy in its parameter": (
        {"a": SHARED[:3]},
        {"a": ones()},
        {"copies": {"a": SHARED[2:5]}},
        ValueError,
        r"^copies\['a'\] shares memory with params\['a'\]$",
    ),
    "copy in itself": (
        {"a": ones()},
        {"a": ones()},
        {"copies": {"a": REPEATED}},
        ValueError,
        r"^copies\['a'\] has elements that share memory: shape \(3,\), strides \(0,\)$",
    ),
    "norm": ({"a": ones()}, {"a": ones()}, {"norm": -1.0}, ValueError, r"^norm is -1.0, expected a number >= 0$"),
    "scale": (
        {"a": ones()},
        {"a": ones()},
        {"scale": float("nan")},
        ValueError,
        r"^scale is nan, expected a finite number >= 0$",
    ),
}


def contents(optimizer: fs.Optimizer, *containers: Any) -> Any:
    counts = optimizer.iterations, optimizer.skipped, optimizer.gradient_norm, dict(optimizer.steps)
    return copy.deepcopy((containers, optimizer.state, counts))


@pytest.mark.parametrize("row", KINDS)
@pytest.mark.parametrize("name", BAD)
def test_an_error_changes_nothing(name: str, row: Row) -> None:
    params, grads, options, error, message = BAD[name]
    if isinstance(params, dict):  # with an array that is taken before
        params, grads = {"first": ones(5)} | params, {"first": ones(5)} | grads
        options = options | ({"copies": {"first": None} | options["copies"]} if "copies" in options else {})
    optimizer = row.optimizer(**ALL)
    for _ in range(2):  # without state, and with it
        before = contents(optimizer, params, grads, options)
        with pytest.raises(error, match=message):
            optimizer.update(params, grads, **options)
        np.testing.assert_equal(contents(optimizer, params, grads, options), before)
        own = copy.deepcopy(params)
        optimizer.update(own, copy.deepcopy(own))


WRONG_STATE: dict[str, tuple[str, Callable[[], Array], str]] = {
    "shape": ("average", lambda: ones(4), r"^state\[0\]\['average'\] has shape \(4,\), params\[0\] has \(3,\)$"),
    "type": ("average", ones, r"^state\[0\]\['average'\] has dtype float64, params\[0\] has float16$"),
    "master": ("master", ones, r"^state\[0\]\['master'\] has dtype float64, params\[0\] has float16$"),
    "read-only": ("average", lambda: unchangeable(np.float32), r"^state\[0\]\['average'\] is read-only$"),
}


@pytest.mark.parametrize("name", WRONG_STATE)
def test_state_of_options_that_does_not_fit(name: str) -> None:
    letter, make, message = WRONG_STATE[name]
    optimizer, w = fs.Adam(average=0.9, master=True), np.ones(3, np.float16)
    optimizer.update([w], [ones()])
    optimizer.state[0][letter] = make()
    before = contents(optimizer, w)
    with pytest.raises(ValueError, match=message):
        optimizer.update([w], [ones()])
    np.testing.assert_equal(contents(optimizer, w), before)


def test_an_average_in_its_parameter() -> None:
    optimizer, w = fs.SGD(average=0.9), ones()
    optimizer.update([w], [ones()])
    optimizer.state[0]["average"] = w
    before = w.copy()
    with pytest.raises(ValueError, match=r"^state\[0\]\['average'\] shares memory with params\[0\]$"):
        optimizer.update([w], [ones()])
    np.testing.assert_array_equal(w, before)


def test_a_gradient_in_the_state() -> None:
    optimizer, w = fs.Momentum(), ones()
    optimizer.update({"a": w}, {"a": ones()})
    v = optimizer.state["a"]["v"]
    before = w.copy(), v.copy()
    for params, grads, message in (
        ({"a": w}, {"a": v}, r"^state\['a'\]\['v'\] shares memory with grads\['a'\], so the gradient can't be zeroed$"),
        (
            {"b": ones(), "a": w},
            {"b": v, "a": ones()},
            r"^grads\['b'\] shares memory with an array of another parameter",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.update(params, grads, zero_grads=True)
        np.testing.assert_array_equal((w, v), before)
        assert optimizer.iterations == 1


def test_rows_are_not_zeroed() -> None:
    w, rows = ones(), fs.Rows([0], ones(1))
    with pytest.raises(TypeError, match=r"^grads\[0\] is a Rows, which can't be zeroed: make a new one for each step$"):
        fs.SGD().update([w], [rows], zero_grads=True)
    assert (w == 1).all()
    assert rows.values.all()


def test_bfloat16_state_of_float64_parameters() -> None:
    pytest.importorskip("ml_dtypes")
    optimizer, params = fs.Momentum(state_dtype="bfloat16"), {"a": np.ones(3, np.float32), "b": ones()}
    message = r"^params\['b'\] has dtype float64, whose state can't be bfloat16$"
    with pytest.raises(ValueError, match=message):
        optimizer.update(params, {"a": ones(), "b": ones()})
    assert (params["a"] == 1).all()
    assert optimizer.state == {}


# Gradients of two parameters, in memory of numbers from 1.
SHARING: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "the same": lambda memory: (memory[:2000], memory[:2000]),
    "overlapping": lambda memory: (memory[:2000], memory[1000:3000]),
    "interleaved": lambda memory: (memory[:4000:2], memory[1:4001:2]),
    "reversed": lambda memory: (memory[:2000], memory[1999::-1]),
    "broadcast": lambda memory: (as_strided(memory, (2000,), (0,)), memory[:2000]),
}


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("row", KINDS)
def test_gradients_that_share_memory_are_zeroed_last(
    row: Row, name: str, isa: str, dtype: Any, threads: int, rng: np.random.Generator
) -> None:
    ours, theirs = row.optimizer(**ALL), row.reference(**ALL)
    params = [rng.standard_normal(2000).astype(dtype) for _ in range(2)]
    expected = [w.copy() for w in params]
    for _ in range(2):
        memory = rng.standard_normal(5000).astype(dtype)
        after = memory.copy()
        theirs.update(expected, list(SHARING[name](after)), zero_grads=True)
        ours.update(params, list(SHARING[name](memory)), zero_grads=True)
        np.testing.assert_array_equal(memory, after)
        assert ours.gradient_norm == theirs.gradient_norm
        np.testing.assert_array_equal(params, expected)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("zero_grads", [False, True])
@pytest.mark.parametrize("row", KINDS)
def test_parameters_that_share_memory_step_in_turn(
    row: Row, zero_grads: bool, isa: str, dtype: Any, threads: int, rng: np.random.Generator
) -> None:
    ours, theirs = row.optimizer(**ALL), row.reference(**ALL)
    memory, copied = (np.zeros(9000, dtype) for _ in range(2))
    memory[:] = rng.standard_normal(9000)
    expected, expected_copied = memory.copy(), copied.copy()

    def views(of: Array) -> list[Array]:
        return [of[:5000], of[3000:8000], of[5000:0:-1]]

    for _ in range(2):
        grads = [rng.standard_normal(5000).astype(dtype) for _ in range(3)]
        before = [g.copy() for g in grads]
        ours.update(views(memory), grads, zero_grads=zero_grads, copies=views(copied))
        theirs.update(views(expected), before, copies=views(expected_copied))
        np.testing.assert_array_equal(memory, expected)
        np.testing.assert_array_equal(copied, expected_copied)
        assert ours.gradient_norm == theirs.gradient_norm
        for g, b in zip(grads, before, strict=True):
            np.testing.assert_array_equal(g, 0 if zero_grads else b)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("row", KINDS)
def test_gradients_in_parameters_are_measured_as_given(
    row: Row, isa: str, dtype: Any, threads: int, rng: np.random.Generator
) -> None:
    # The norm is that of the gradients before the step; the second gradient has the first parameter's new values.
    ours, theirs = row.optimizer(**ALL), row.reference(**ALL)
    memory = rng.standard_normal(9000).astype(dtype)
    expected = memory.copy()

    for _ in range(2):
        ours.update([memory[:5000], memory[4000:]], [memory[1000:6000], memory[:5000]])
        theirs.update([expected[:5000], expected[4000:]], [expected[1000:6000], expected[:5000]])
        np.testing.assert_array_equal(memory, expected)
        assert ours.gradient_norm == theirs.gradient_norm
    assert_same_state(ours, theirs)


def test_a_copy_may_be_the_gradient() -> None:
    w, g = ones(), np.full(3, 2.0)
    fs.SGD(0.25).update([w], [g], copies=[g])
    np.testing.assert_array_equal(g, 0.5)
    np.testing.assert_array_equal(w, 0.5)


def test_sums_that_share_memory(dtype: Any) -> None:
    memory = np.arange(6, dtype=dtype)
    expected = memory.copy()
    norm = fs.accumulate([memory[:3]], [memory[2:5]])
    assert norm == fs.reference.accumulate([expected[:3]], [expected[2:5]])
    np.testing.assert_array_equal(memory, expected)
