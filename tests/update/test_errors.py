"""All or nothing: bad input raises an error that names the array and both values, and nothing has changed."""

import copy
import math
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import KINDS, Row

GOOD = {"W1": np.ones((2, 3)), "W2": np.ones((10, 100))}
GOOD_GRADS = {"W1": np.ones((2, 3)), "W2": np.ones((10, 100))}


def read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


BAD: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "shape": (
        GOOD,
        {**GOOD_GRADS, "W2": np.ones((100, 10))},
        ValueError,
        r"^grads\['W2'\] has shape \(100, 10\), params\['W2'\] has \(10, 100\)$",
    ),
    "broadcastable shape": (
        GOOD,
        {**GOOD_GRADS, "W2": np.ones(100)},
        ValueError,
        r"^grads\['W2'\] has shape \(100,\), params\['W2'\] has \(10, 100\)$",
    ),
    "shape in a list": (
        [np.ones(2), np.ones(3)],
        [np.ones(2), np.ones(4)],
        ValueError,
        r"^grads\[1\] has shape \(4,\), params\[1\] has \(3,\)$",
    ),
    "shape of one array": (np.ones(3), np.ones(4), ValueError, r"^grads has shape \(4,\), params has \(3,\)$"),
    "missing key": (GOOD, {"W1": np.ones((2, 3))}, KeyError, r"grads lacks 'W2', which params has"),
    "short list": ([np.ones(2), np.ones(3)], [np.ones(2)], ValueError, r"^grads has length 1, params has 2$"),
    "read-only": ({**GOOD, "W2": read_only(GOOD["W2"])}, GOOD_GRADS, ValueError, r"^params\['W2'\] is read-only$"),
    "integers": (
        {**GOOD, "W2": np.ones((10, 100), np.int64)},
        GOOD_GRADS,
        TypeError,
        r"^params\['W2'\] has dtype int64, expected float32, float64, float16 or bfloat16$",
    ),
    "objects": (
        {**GOOD, "W2": np.ones((10, 100), object)},
        GOOD_GRADS,
        TypeError,
        r"^params\['W2'\] has dtype object, expected float32, float64, float16 or bfloat16$",
    ),
    "swapped parameter": (
        {**GOOD, "W2": np.ones((10, 100), np.dtype(np.float32).newbyteorder())},
        GOOD_GRADS,
        TypeError,
        r"^params\['W2'\] has dtype [<>]f4, expected float32, float64, float16 or bfloat16$",
    ),
    "integer gradient": (
        GOOD,
        {**GOOD_GRADS, "W2": np.ones((10, 100), np.int8)},
        TypeError,
        r"^grads\['W2'\] has dtype int8, expected a floating-point type$",
    ),
    "complex gradient": (
        GOOD,
        {**GOOD_GRADS, "W2": np.ones((10, 100), complex)},
        TypeError,
        r"^grads\['W2'\] has dtype complex128, expected a floating-point type$",
    ),
    "integer number": (
        {"x": 1},
        {"x": 1.0},
        TypeError,
        r"^params\['x'\] has dtype int64, expected float32, float64, float16 or bfloat16$",
    ),
    "set for an array": (
        {"x": {1.0}},
        {"x": {1.0}},
        TypeError,
        r"^params\['x'\] is a set, expected an array of floats$",
    ),
    "list for a gradient": (
        GOOD,
        {**GOOD_GRADS, "W2": [1.0]},
        TypeError,
        r"^grads\['W2'\] is a list, expected an array of floats$",
    ),
    "mixed containers": (GOOD, [np.ones((2, 3))], TypeError, r"^params is a dict, grads is a list$"),
    "mixed containers, other way": ([np.ones(2)], {0: np.ones(2)}, TypeError, r"^params is a list, grads is a dict$"),
    "no container": (
        {1.0},
        {1.0},
        TypeError,
        r"^params is a set, expected a dict, list or tuple of arrays, or one array$",
    ),
    "shares memory with itself": (
        {**GOOD, "W2": np.lib.stride_tricks.as_strided(np.ones(109), (10, 100), (8, 8), writeable=True)},
        GOOD_GRADS,
        ValueError,
        r"^params\['W2'\] has elements that share memory: shape \(10, 100\), strides \(8, 8\)$",
    ),
}


@pytest.mark.parametrize("row", KINDS)
@pytest.mark.parametrize("warm", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("name", BAD)
def test_bad_arrays(row: Row, warm: bool, name: str) -> None:
    params, grads, error, message = BAD[name]
    optimizer = row.optimizer()
    if warm:
        optimizer.update({key: w.copy() for key, w in GOOD.items()}, GOOD_GRADS)
    params_before, grads_before = copy.deepcopy(params), copy.deepcopy(grads)
    before = optimizer.state_dict()
    with pytest.raises(error, match=message):
        optimizer.update(params, grads)
    np.testing.assert_equal(params, params_before)
    np.testing.assert_equal(grads, grads_before)
    np.testing.assert_equal(optimizer.state_dict(), before)


STATEFUL = [row for row in KINDS if row.id != "SGD"]


@pytest.mark.parametrize("row", STATEFUL)
def test_bad_state(row: Row) -> None:
    optimizer = row.optimizer()
    w, good = np.ones(5), np.ones(4)
    optimizer.update({"good": good, "W": w}, {"good": good.copy(), "W": w.copy()})
    letter = next(letter for letter, array in optimizer.state["W"].items() if array.shape == w.shape)

    def fails(error: type[Exception], message: str, params: dict[str, Any]) -> None:
        before, state = copy.deepcopy(params), copy.deepcopy(optimizer.state)
        with pytest.raises(error, match=message):
            optimizer.update(params, {key: np.ones_like(value) for key, value in params.items()})
        np.testing.assert_equal(params, before)
        np.testing.assert_equal(optimizer.state, state)
        assert optimizer.iterations == 1

    name = rf"^state\['W'\]\['{letter}'\]"
    fails(ValueError, name + r" has shape \(5,\), params\['W'\] has \(6,\)$", {"good": good, "W": np.ones(6)})
    other_type = r"^state\['W'\]\['\w+'\] has dtype float64, params\['W'\] has float32$"
    fails(ValueError, other_type, {"good": good, "W": np.ones(5, "f4")})
    own = optimizer.state["W"][letter]
    fails(ValueError, name + r" shares memory with params\['W'\]$", {"good": good, "W": own})
    optimizer.state["W"][letter] = read_only(own)
    fails(ValueError, name + r" is read-only$", {"good": good, "W": w})
    optimizer.state["W"][letter] = [0.0] * 5
    fails(TypeError, name + r" is a list, expected an array$", {"good": good, "W": w})
    optimizer.state["W"][letter] = np.lib.stride_tricks.as_strided(np.zeros(5), (5,), (0,), writeable=True)
    fails(ValueError, name + r" has elements that share memory: shape \(5,\), strides \(0,\)$", {"good": good, "W": w})
    del optimizer.state["W"][letter]
    fails(ValueError, name + r" is missing$", {"good": good, "W": w})
    optimizer.state["W"] = None
    fails(TypeError, r"^state\['W'\] is a NoneType, expected a dict$", {"good": good, "W": w})


@pytest.mark.parametrize("cls", [fs.Adam, fs.AdamW])
def test_state_arrays_that_share_memory(cls: type[fs.Adam]) -> None:
    optimizer = cls()
    optimizer.update(np.ones(5), np.ones(5))
    optimizer.state[0]["v"] = optimizer.state[0]["m"]
    with pytest.raises(ValueError, match=r"^state\[0\]\['v'\] shares memory with state\[0\]\['m'\]$"):
        optimizer.update(np.ones(5), np.ones(5))


BAD_VALUES = (
    ("lr", -0.1),
    ("lr", math.nan),
    ("lr", math.inf),
    ("lr", 10**400),
    ("weight_decay", -1e-3),
    ("weight_decay", math.inf),
    ("momentum", -0.1),
    ("momentum", 1.1),
    ("decay_rate", 1.0),
    ("decay_rate", -0.5),
    ("beta1", 1.0),
    ("beta1", -0.1),
    ("beta2", 1.0),
    ("beta2", math.nan),
    ("eps", -1e-8),
    ("eps", math.nan),
)


@pytest.mark.parametrize("row", KINDS)
@pytest.mark.parametrize(("name", "value"), BAD_VALUES, ids=str)
def test_bad_hyperparameters(row: Row, name: str, value: float) -> None:
    optimizer = row.optimizer()
    if not hasattr(optimizer, name):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            row.optimizer(**{name: 0.5})
        return
    before = getattr(optimizer, name)
    message = rf"^{name} is {value}, expected a (finite )?number"
    with pytest.raises(ValueError, match=message):
        row.optimizer(**{name: value})
    with pytest.raises(ValueError, match=message):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) == before
    with pytest.raises(TypeError, match=rf"^{name} is '0.5', expected a number$"):
        setattr(optimizer, name, "0.5")


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_bad_value_of_a_schedule(value: float) -> None:
    optimizer = fs.SGD(lr=lambda n: value if n == 1 else 0.1)
    w = np.ones(3)
    optimizer.update(w, np.ones(3))
    before = w.copy()
    with pytest.raises(ValueError, match=rf"^lr\(1\) is {value}, expected a finite number >= 0$"):
        optimizer.update(w, np.ones(3))
    np.testing.assert_array_equal(w, before)
    assert optimizer.iterations == 1


def test_a_failing_schedule_changes_nothing() -> None:
    def schedule(_: int) -> float:
        raise RuntimeError("no rate today")

    w = np.ones(3)
    optimizer = fs.Adam(lr=schedule)
    with pytest.raises(RuntimeError, match="no rate today"):
        optimizer.update(w, np.ones(3))
    assert optimizer.iterations == 0
    assert not optimizer.state
    np.testing.assert_array_equal(w, np.ones(3))
