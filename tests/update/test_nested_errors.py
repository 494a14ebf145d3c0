"""Dicts, lists and tuples in one another, with something wrong: errors name the path, and nothing has changed."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import KINDS, ROWS, Row
from trees import copied, flat, mapped, wrapped

STATEFUL = [row for row in KINDS if row.id != "SGD"]
ONE, TWO = np.ones(1), np.ones(2)


class Frozen(dict[str, Any]):
    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError("frozen")


ALREADY = {"a": {"W": np.ones(2)}, "b": [np.ones(3), (np.ones(1),)]}
ERRORS: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "missing key": (ALREADY, {"a": {}, "b": None}, KeyError, r"grads\['a'\] lacks 'W', which params\['a'\] has"),
    "missing container": (ALREADY, {"a": None}, KeyError, "grads lacks 'b', which params has"),
    "length": (ALREADY, {"a": None, "b": [None]}, ValueError, r"^grads\['b'\] has length 1, params\['b'\] has 2$"),
    "leaf for a dict": (
        ALREADY,
        {"a": TWO, "b": None},
        TypeError,
        r"^params\['a'\] is a dict, grads\['a'\] is a numpy.ndarray$",
    ),
    "leaf for a tuple": (
        ALREADY,
        {"a": None, "b": [None, 1.0]},
        TypeError,
        r"^params\['b'\]\[1\] is a tuple, grads\['b'\]\[1\] is a float$",
    ),
    "dict for a list": (
        ALREADY,
        {"a": None, "b": {0: np.ones(3), 1: None}},
        TypeError,
        r"^params\['b'\] is a list, grads\['b'\] is a dict$",
    ),
    "container for a leaf": (
        ALREADY,
        {"a": {"W": [1.0, 1.0]}, "b": None},
        TypeError,
        r"^grads\['a'\]\['W'\] is a list, expected an array of floats$",
    ),
    "none for everything": (ALREADY, None, TypeError, "^params is a dict, grads is a NoneType$"),
    "shape": (
        ALREADY,
        {"a": {"W": np.ones(2)}, "b": [np.ones(3), (np.ones(4),)]},
        ValueError,
        r"^grads\['b'\]\[1\]\[0\] has shape \(4,\), params\['b'\]\[1\]\[0\] has \(1,\)$",
    ),
    "integers": (
        {"a": {"W": np.ones(2), "n": np.ones(2, int)}},
        {"a": {"W": np.ones(2), "n": np.ones(2)}},
        TypeError,
        r"^params\['a'\]\['n'\] has dtype int64, expected",
    ),
    "no array": ([[np.ones(2), "x"]], [[np.ones(2), 1.0]], TypeError, r"^params\[0\]\[1\] is a str, expected an array"),
    "number in a tuple": (
        [np.ones(2), {"a": (1.0,)}],
        [np.ones(2), {"a": (1.0,)}],
        TypeError,
        r"^params\[1\]\['a'\]\[0\] is a float, which can't be replaced in a tuple$",
    ),
    "number in a frozen dict": (
        [np.ones(2), Frozen(a=1.0)],
        [np.ones(2), {"a": 1.0}],
        TypeError,
        "^frozen$",
    ),
    "depth": (wrapped(np.ones(2), 102), wrapped(np.ones(2), 102), ValueError, "nested more than 100 deep, or contains"),
    "great depth": (
        [np.ones(2), wrapped(np.ones(2), 100_000)],
        [np.ones(2), None],
        ValueError,
        "^params is nested more than 100 deep, or contains itself$",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("row", KINDS)
def test_errors_name_the_path_and_change_nothing(row: Row, name: str) -> None:
    params, grads, error, message = ERRORS[name]
    leaves = [] if "depth" in name else list(flat(params).values())
    before = copy.deepcopy(leaves)
    optimizer = row.optimizer()
    with pytest.raises(error, match=message):
        optimizer.update(params, grads)
    np.testing.assert_equal(leaves, before)
    assert optimizer.iterations == 0
    assert optimizer.state == optimizer.steps == optimizer._lengths == {}


def test_containers_that_contain_themselves() -> None:
    in_list: list[Any] = [np.ones(2)]
    in_list.append(in_list)
    in_dict: dict[str, Any] = {"W": np.ones(2)}
    in_dict["tuple"] = (in_dict, [in_dict])
    for params, none in ((in_list, [None, None]), (in_dict, {"W": None, "tuple": None}), ({"a": in_dict}, {"a": None})):
        for grads in (params, none):
            with pytest.raises(ValueError, match=r"^params is nested more than 100 deep, or contains itself$"):
                fs.Adam().update(params, grads)


def test_what_follows_the_structure_of_params_may_be_as_deep_as_it_likes() -> None:
    w, deep = wrapped(np.ones(2), 101), wrapped(1.0, 100_000)
    fs.Adam().update(w, copied(w))
    for given in (
        {"state": deep},
        {"state": [(np.ones(2), np.ones(2))], "t": deep},
        {"state": [(np.ones(2), np.ones(2))], "lr": deep},
    ):
        with pytest.raises((TypeError, ValueError)):
            fs.step("adam", [np.ones(2)], [np.ones(2)], **given)
    with pytest.raises(TypeError, match=r"^grads.* is a list, expected an array of floats$"):
        fs.Adam().update([np.ones(2)], deep)


def test_a_key_that_is_the_path_to_another_parameter() -> None:
    params: Any = {("a", "b"): np.ones(2), "a": {"b": np.ones(2), "c": np.ones(2)}}
    optimizer = fs.Momentum(0.5)
    message = r"^the state of params\[\('a', 'b'\)\] and of params\['a'\]\['b'\] would have one key$"
    with pytest.raises(ValueError, match=message):
        optimizer.update(params, params)
    assert optimizer.state == {}
    optimizer.update({("a", "b"): np.ones(2), "a": {"c": np.ones(2)}}, params)
    state = {("a", "b"): [np.zeros(2)], "a": {"b": [np.zeros(2)], "c": [np.zeros(2)]}}
    fs.step("momentum", params, copied(params), state, lr=0.5)  # has no such keys, as SGD
    fs.SGD(0.5).update(params, mapped(params, np.ones_like))
    np.testing.assert_equal(params, mapped(params, np.zeros_like))


def layers(*lengths: int) -> dict[str, Any]:
    return {"layers": [[np.ones(2) for _ in range(n)] for n in lengths], "x": np.ones(2)}


REFILLED: dict[str, Callable[[Any], Any]] = {
    "as it was": lambda optimizer: optimizer,
    "pickled": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
    "copied": copy.copy,
}


@pytest.mark.parametrize("how", REFILLED)
@pytest.mark.parametrize("row", STATEFUL)
def test_an_inner_list_of_another_length_would_have_other_parameters_state(row: Row, how: str) -> None:
    optimizer = row.optimizer()
    optimizer.update(layers(2, 3), layers(2, 3) | {"x": None})
    optimizer = REFILLED[how](optimizer)
    for lengths, path, length, known in (
        ((2, 2), r"\['layers'\]\[1\]", 2, 3),
        ((2, 4), r"\['layers'\]\[1\]", 4, 3),
        ((2,), r"\['layers'\]", 1, 2),
        ((2, 3, 1), r"\['layers'\]", 3, 2),
    ):
        params, before = layers(*lengths), optimizer.state_dict()
        with pytest.raises(
            ValueError, match=rf"^params{path} has length {length}, but the state is that of {known}: give None for a"
        ):
            optimizer.update(params, layers(*lengths))
        np.testing.assert_equal(params, layers(*lengths))
        np.testing.assert_equal(optimizer.state_dict(), before)
    optimizer.update(layers(2, 3), layers(2, 3))
    optimizer.update({"other": [np.ones(2)], "layers": {"a": np.ones(1)}}, {"other": [np.ones(2)], "layers": None})
    for key in [key for key in optimizer.state if key[0] == "layers"]:
        del optimizer.state[key]
    optimizer.update(layers(4), layers(4))
    with pytest.raises(ValueError, match=r"^params\['other'\] has length 2, but the state is that of 1: "):
        optimizer.update({"other": [ONE, ONE]}, {"other": [ONE, ONE]})
    with pytest.raises(ValueError, match=r"^params\['layers'\]\[0\] has length 3, but the state is that of 4: "):
        optimizer.update(layers(3), layers(3))


@pytest.mark.parametrize("row", STATEFUL)
def test_a_loaded_state_says_the_least_inner_lengths(row: Row) -> None:
    optimizer, loaded = row.optimizer(), row.optimizer()
    optimizer.update(layers(2, 3), {"layers": [[np.ones(2), None], [None, np.ones(2), None]], "x": np.ones(2)})
    loaded.update(layers(1), layers(1))
    loaded.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"^params\['layers'\] has length 1, but the state is that of 2 or more: "):
        loaded.update(layers(2), layers(2))
    with pytest.raises(ValueError, match=r"^params\['layers'\]\[1\] has length 1, but the state is that of 2 or more"):
        loaded.update(layers(2, 1), layers(2, 1))
    loaded.update(layers(1, 3, 0), layers(1, 3, 0))
    with pytest.raises(ValueError, match=r"^params\['layers'\]\[1\] has length 2, but the state is that of 3: "):
        loaded.update(layers(1, 2, 0), layers(1, 2, 0))


def test_state_has_the_length_of_the_outermost_list_too() -> None:
    optimizer = fs.Adam()
    optimizer.update([(np.ones(2), np.ones(1))], [(np.ones(2), np.ones(1))])
    with pytest.raises(ValueError, match=r"^params has length 2, but the state is that of 1: "):
        optimizer.update([(TWO, ONE), (TWO, ONE)], [None, None])


def test_bad_state_is_named_by_the_key_in_an_optimizer_and_by_the_path_in_a_step() -> None:
    params = {"a": [np.ones(2)]}
    optimizer = fs.Adam()
    optimizer.update(params, params)
    optimizer.state["a", 0]["m"] = np.ones(3)
    with pytest.raises(
        ValueError, match=r"^state\[\('a', 0\)\]\['m'\] has shape \(3,\), params\['a'\]\[0\] has \(2,\)$"
    ):
        optimizer.update(params, params)
    optimizer.state["a", 0]["m"] = params["a"][0]
    with pytest.raises(ValueError, match=r"^state\[\('a', 0\)\]\['m'\] shares memory with params\['a'\]\[0\]$"):
        optimizer.update(params, {"a": [np.ones(2)]})
    optimizer.state["a", 0]["m"] = np.zeros(2)
    optimizer.steps["a", 0] = -1
    with pytest.raises(ValueError, match=r"^steps\[\('a', 0\)\] is -1"):
        optimizer.update(params, params)


BAD_STEPS: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
    ({"state": {"a": TWO}}, TypeError, r"^state\['a'\] is a numpy.ndarray, expected a dict, list or tuple$"),
    ({"state": {"a": []}}, ValueError, r"^state\['a'\] has length 0, params\['a'\] has 1$"),
    ({"state": {"b": []}}, KeyError, "state lacks 'a', which params has"),
    ({"state": {"a": {}}}, KeyError, r"state\['a'\] lacks 0, which params\['a'\] has"),
    ({"state": {"a": [{"m": np.zeros(2)}]}}, ValueError, r"^state\['a'\]\[0\]\['v'\] is missing$"),
    ({"state": {"a": [(np.zeros(2),)]}}, ValueError, r"^state\['a'\]\[0\] has length 1, the rule has 2 states$"),
    ({"t": {"a": [0]}}, ValueError, r"^t\['a'\]\[0\] is 0, expected 1 or more$"),
    ({"t": {"a": 1}}, TypeError, r"^t\['a'\] is a int, expected a dict, list or tuple$"),
    ({"lr": {"a": [-1.0]}}, ValueError, r"^lr\['a'\]\[0\] is -1.0, expected a finite number >= 0$"),
    ({"lr": {"a": [[0.1]]}}, TypeError, r"^lr\['a'\]\[0\] is \[0.1\], expected a number$"),
    ({"lr": {"a": 0.1}}, TypeError, r"^lr\['a'\] is a float, expected a dict, list or tuple$"),
    ({"lr": [[0.1, 0.2]]}, ValueError, r"^lr\['a'\] has length 2, params\['a'\] has 1$"),
)


@pytest.mark.parametrize(("changed", "error", "message"), BAD_STEPS)
def test_errors_of_a_step(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"state": {"a": [(np.zeros(2), np.zeros(2))]}} | changed
    with pytest.raises(error, match=message):
        fs.step("adam", {"a": [TWO]}, {"a": [TWO]}, **given)
    assert (TWO == 1).all()


class Key:
    """Raises from the call of __hash__ on that is set."""

    left = -1

    def __hash__(self) -> int:
        if self.left == 0:
            raise RuntimeError("no more hashes")
        self.left -= 1
        return 5


@pytest.mark.parametrize("row", [row for row in ROWS if row.optimizer in (fs.SGD, fs.Adam)], ids=["SGD", "Adam"])
@pytest.mark.parametrize("steps_before", [0, 1])
def test_keys_that_raise_change_nothing(row: Row, steps_before: int) -> None:
    for left in range(40):
        key = Key()
        params = [np.ones(2), {"a": np.ones(2), key: (np.ones(2),)}]
        optimizer = row.optimizer()
        for _ in range(steps_before):
            optimizer.update(params, copied(params))
        before, grads, state = copied(params), copied(params), optimizer.state_dict()
        key.left = left
        try:
            optimizer.update(params, grads)
        except RuntimeError:
            key.left = -1
            np.testing.assert_equal(list(flat(params).values()), list(flat(before).values()))
            np.testing.assert_equal(list(optimizer.state_dict().values()), list(state.values()))
        else:
            break
    assert 0 < left < 39
