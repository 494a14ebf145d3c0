"""Containers and keys with a mind of their own: what they say is used, and after an error nothing has changed."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fusedstep as fs

Array = NDArray[Any]


class Unscaled(dict[str, Array]):
    """Gradients that are unscaled where they are asked for, as by a loss scaler."""

    def __getitem__(self, key: str) -> Array:
        return super().__getitem__(key) / 1024


class Renamed(dict[str, Array]):
    """Keys that are found under other names."""

    def __missing__(self, key: str) -> Array:
        return self[key.removeprefix("layer.")]


GRADS: dict[str, Callable[[], dict[str, Array]]] = {
    "__getitem__": lambda: Unscaled(a=np.full(3, 1024.0), b=np.full(3, 2048.0)),
    "defaultdict": lambda: defaultdict(lambda: np.full(3, 2.0), a=np.ones(3)),
    "OrderedDict": lambda: OrderedDict(b=np.full(3, 2.0), a=np.ones(3)),
}


@pytest.mark.parametrize("name", GRADS)
def test_gradients_are_those_that_the_container_gives(name: str) -> None:
    params = {"a": np.ones(3), "b": np.ones(3)}
    fs.SGD(0.5).update(params, GRADS[name]())
    np.testing.assert_array_equal(params["a"], np.full(3, 0.5))
    np.testing.assert_array_equal(params["b"], np.zeros(3))


def test_parameters_are_those_that_the_container_gives() -> None:
    hidden = np.ones(3)

    class Views(dict[str, Array]):
        def __getitem__(self, key: str) -> Array:
            return super().__getitem__(key)[::2]

    fs.SGD(0.5).update(Views(w=hidden), {"w": np.ones(2)})
    np.testing.assert_array_equal(hidden, [0.5, 1, 0.5])
    with pytest.raises(KeyError, match=r"grads lacks 'layer\.b'"):
        fs.SGD().update({"layer.b": hidden}, Renamed(a=hidden) | {})


def test_state_and_counts_of_a_step_may_be_found_in_their_own_way() -> None:
    w, v = np.ones(2), np.zeros(2)
    state = Renamed()
    state["w"] = {"v": v}  # type: ignore[assignment]
    fs.step("momentum", {"layer.w": w}, {"layer.w": np.ones(2)}, state, t=defaultdict(lambda: 1), lr=0.5)
    assert (v != 0).all()


class Key:
    """Raises from the call of __hash__ on that is set."""

    def __init__(self, name: str) -> None:
        self.name, self.left = name, -1

    def __hash__(self) -> int:
        if self.left == 0:
            raise RuntimeError("no more hashes")
        self.left -= 1
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return self is other


@pytest.mark.parametrize("steps_before", [0, 1])
@pytest.mark.parametrize("make", [fs.SGD, fs.Momentum, fs.Adam])
def test_keys_that_raise_change_nothing(make: Callable[[], fs.Optimizer], steps_before: int) -> None:
    raised = 0
    for left in range(40):
        keys = [Key("a"), Key("b")]
        params: dict[Any, Any] = {"first": np.ones(2), keys[0]: np.ones(2), keys[1]: np.ones(2), "last": np.ones(2)}
        grads = {key: np.full(2, 0.5) for key in params}
        optimizer = make()
        for _ in range(steps_before):
            optimizer.update(params, grads)
        before = [w.copy() for w in params.values()]
        state = {name: {k: a.copy() for k, a in arrays.items()} for name, arrays in named(optimizer.state).items()}
        steps = named(optimizer.steps)
        keys[1].left = left
        try:
            optimizer.update(params, grads)
        except RuntimeError:
            raised += 1
            keys[1].left = -1
            assert optimizer.iterations == steps_before
            assert named(optimizer.steps) == steps
            assert list(named(optimizer.state)) == list(state)
            for name, arrays in named(optimizer.state).items():
                for k, a in arrays.items():
                    np.testing.assert_array_equal(a, state[name][k])
            for w, old in zip(params.values(), before, strict=True):
                np.testing.assert_array_equal(w, old)
        else:
            keys[1].left = -1
            assert optimizer.iterations == steps_before + 1
            break
    assert raised > 0
    assert left < 39


def named(entries: dict[Any, Any]) -> dict[str, Any]:
    return {getattr(key, "name", key): value for key, value in entries.items()}


class Frozen(dict[str, Any]):
    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError("frozen")


class FrozenList(list[Any]):
    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("frozen")


class Meddles:
    """An array whose protocol does something first."""

    def __init__(self, array: Array, action: Callable[[], Any]) -> None:
        self.array, self.action = array, action

    @property
    def __array_interface__(self) -> Any:
        self.action()
        return self.array.__array_interface__


def frozen_dict(w: Array) -> tuple[Any, Any]:
    return Frozen(w=w, scale=1.0), {"w": np.ones(3), "scale": 1.0}


def frozen_list(w: Array) -> tuple[Any, Any]:
    return FrozenList([w, 1.0]), [np.ones(3), 1.0]


def cleared_list(w: Array) -> tuple[Any, Any]:
    params: list[Any] = []
    params += [Meddles(w, params.clear), 1.0]
    return params, [np.ones(3), 1.0]


def reordered_list(w: Array) -> tuple[Any, Any]:
    params: list[Any] = []
    params += [Meddles(w, params.reverse), 1.0, 2.0]
    return params, [np.ones(3), 1.0, 1.0]


@pytest.mark.parametrize("make", [frozen_dict, frozen_list, cleared_list, reordered_list])
@pytest.mark.parametrize("optimizer", [fs.SGD(), fs.Adam()], ids=["SGD", "Adam"])
def test_containers_that_cannot_take_numbers_change_nothing(optimizer: fs.Optimizer, make: Any) -> None:
    w = np.ones(3)
    with pytest.raises((TypeError, ValueError), match=r"frozen|params was changed during the update"):
        optimizer.update(*make(w))
    np.testing.assert_array_equal(w, np.ones(3))
    assert optimizer.iterations == 0
    assert optimizer.state == {}
    assert optimizer.steps == {}


def test_numbers_are_replaced_in_containers_of_other_types() -> None:
    written: list[Any] = []

    class Notes(OrderedDict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            written.append(value)
            super().__setitem__(key, value)

    params = Notes(scale=1.0)
    fs.SGD(0.5).update(params, {"scale": 1.0})
    assert params == {"scale": 0.5}
    assert written[-1] == 0.5
