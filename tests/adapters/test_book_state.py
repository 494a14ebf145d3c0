"""The state of the book's optimizers, v, h, m and iter, against plain dicts and a plain number."""

import copy
from typing import Any

import numpy as np
import pytest

from book_formulas import OPTIMIZERS, Adam
from fusedstep import book


def or_in(d: Any) -> None:
    d |= {"b": np.full(2, 0.25)}


# What scripts do with v, h and m; the same is done to plain dicts.
CHANGES: dict[str, Any] = {
    "update": lambda d: d.update({"W": np.full(3, 0.5)}),
    "update by names": lambda d: d.update(W=np.full(3, 0.5), b=np.zeros(2)),
    "an array": lambda d: d.__setitem__("W", np.full(3, 0.5)),
    "integers": lambda d: d.__setitem__("W", np.array([1, 2, 3])),
    "a number": lambda d: d.__setitem__("W", 0),
    "in place": lambda d: np.multiply(d["W"], 0.5, out=d["W"]),
    "setdefault": lambda d: (d.setdefault("W", None), d.setdefault("c", np.zeros(4))),
    "delete and set": lambda d: (d.__delitem__("W"), d.__setitem__("W", np.zeros(3))),
    "pop": lambda d: d.update(W=d.pop("W") * 2, b=d.pop("b", None)),
    "popitem": lambda d: d.update([d.popitem()]),
    "or": or_in,
    "values": lambda d: [array.fill(0.125) for array in d.values()],
    "clear": lambda d: (d.clear(), d.update(W=np.zeros(3), b=np.ones(2))),
}


@OPTIMIZERS
@pytest.mark.parametrize("name", CHANGES)
def test_letters_change_as_plain_dicts_do(ours: Any, formula: Any, defaults: Any, name: str, rng: Any) -> None:
    optimizer, plain = ours(), formula(**defaults)
    params = {"W": rng.standard_normal(3), "b": rng.standard_normal(2)}
    expected = {key: w.copy() for key, w in params.items()}

    def step() -> None:
        grads = {key: rng.standard_normal(w.shape) for key, w in params.items()}
        optimizer.update(params, grads)
        plain.update(expected, grads)
        np.testing.assert_equal(params, expected)
        for letter, arrays in plain.arrays.items():
            np.testing.assert_equal(getattr(optimizer, letter), arrays)

    step()
    held = {letter: getattr(optimizer, letter) for letter in plain.arrays}
    for letter, arrays in plain.arrays.items():
        CHANGES[name](arrays)
        CHANGES[name](held[letter])
        for key in arrays:
            arrays[key] = np.broadcast_to(np.asarray(arrays[key], float), held[letter][key].shape).copy()
        view = getattr(optimizer, letter)
        np.testing.assert_equal(view, arrays)
        assert isinstance(view, dict)
        for plain_dict in (dict(view), view.copy(), {**view}, view | {}, {} | view, copy.deepcopy(view)):
            assert type(plain_dict) is dict
            np.testing.assert_equal(plain_dict, arrays)
        keys = list(view)
        assert keys == list(view.keys()) == [key for key, _ in view.items()] == list(reversed(view))[::-1]
        assert len(view) == len(arrays) == len(view.values())
        assert ("W" in view, "x" in view, view.get("x", 5)) == (True, False, 5)
        assert repr(view) == repr(dict(view))
    step()


@OPTIMIZERS
def test_letters_that_are_emptied_and_replaced(ours: Any, formula: Any, defaults: Any) -> None:
    optimizer = ours()
    letters = [letter for letter in "mvh" if hasattr(optimizer, letter)]
    if not letters:
        return
    params = {"W": np.ones(3)}
    ways: Any = (lambda d: d.clear(), lambda d: d.pop("W"), lambda d: d.popitem(), lambda d: d.__delitem__("W"))
    for empty in ways:
        optimizer.update(params, {"W": np.ones(3)})
        for letter in letters:
            empty(getattr(optimizer, letter))
            assert getattr(optimizer, letter) == {}
            assert "W" not in getattr(optimizer, letter)
            with pytest.raises(KeyError):
                getattr(optimizer, letter)["W"]
            with pytest.raises(KeyError):
                getattr(optimizer, letter).popitem()
        assert optimizer.state == {}
    for letter in letters:
        setattr(optimizer, letter, {"W": np.full(3, 2.0), "b": [1, 2]})
        setattr(optimizer, letter, getattr(optimizer, letter))
        np.testing.assert_equal(getattr(optimizer, letter), {"W": np.full(3, 2.0), "b": np.array([1.0, 2.0])})
    optimizer.update(params, {"W": np.ones(3)})
    if len(letters) == 2:
        optimizer.v.clear()
        with pytest.raises(ValueError, match=r"^state\['W'\]\['v'\] is missing$"):
            optimizer.update(params, {"W": np.ones(3)})


def test_the_count_of_adam_can_be_set() -> None:
    optimizer, plain = book.Adam(), Adam(lr=0.001, beta1=0.9, beta2=0.999)
    params, expected = {"W": np.ones(3)}, {"W": np.ones(3)}
    for count in (0, 5, 1000):
        for _ in range(2):
            optimizer.update(params, {"W": np.full(3, 0.3)})
            plain.update(expected, {"W": np.full(3, 0.3)})
        np.testing.assert_equal(params, expected)
        optimizer.iter = plain.t = count
        optimizer.iter += 1
        plain.t += 1
    for bad in (-1, 0.5, None, True):
        with pytest.raises((TypeError, ValueError), match=f"^iter is {bad}, expected"):
            optimizer.iter = bad  # type: ignore[assignment]


@OPTIMIZERS
@pytest.mark.parametrize("kind", [dict, list])
def test_integers_stay_after_an_error(ours: Any, formula: Any, defaults: Any, kind: Any) -> None:
    def container(values: list[Any]) -> Any:
        return values if kind is list else dict(zip("abc", values, strict=True))

    last = 2 if kind is list else "c"
    params, optimizer = container([-7, 2.0, "no number"]), ours()
    before = copy.copy(params)
    for grads in ([1, 0.5, 0.5], [1, 0.5, "x"], [1, 0.5, [0.5]]):
        with pytest.raises(TypeError, match=r"is a (str|list), expected"):
            optimizer.update(params, container(list(grads)))
        assert params == before
        assert list(map(type, params)) == list(map(type, before))
        assert optimizer.iterations == 0
        params[last] = before[last] = 3
    skipped, expected = container([-7, 2.0, 3]), container([-7.0, 2.0, 3.0])
    optimizer.update(skipped, container([1, 0.5, None]))
    ours().update(expected, container([1.0, 0.5, None]))
    assert skipped == expected
    assert type(skipped[last]) is int  # it is left alone
