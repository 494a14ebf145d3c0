"""What fusedstep.dezero leaves to DeZero: the same bits, and its errors."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dezero_trials import (
    SHAPES,
    Parameter,
    Target,
    Variable,
    assert_same,
    drawn,
    names,
    of_all_sizes,
    ours,
    parameters,
    theirs,
)


class Subclass(np.ndarray[Any, Any]):
    pass


class Float(float):
    pass


# Of three parameters the first and the last are plain; the number says how many of them are ours.
LEFT: dict[str, tuple[Any, Any, dict[str, Any], int]] = {
    "float64 gradient of float32": (drawn(0, dtype=np.float32), drawn(1), {}, 2),
    "float32 gradient of float64": (drawn(0), drawn(1, dtype=np.float32), {}, 2),
    "float16": (drawn(0, dtype=np.float16), drawn(1, dtype=np.float16), {}, 2),
    "other byte order": (drawn(0, dtype=">f8"), drawn(1, dtype=">f8"), {}, 2),
    "integers": (np.arange(3), drawn(1, 3), {}, 2),
    "int gradient": (drawn(0), np.arange(3), {}, 2),
    "subclass of ndarray": (drawn(0).view(Subclass), drawn(1), {}, 2),
    "gradient in a subclass of ndarray": (drawn(0), drawn(1).view(Subclass), {}, 2),
    "scalar": (np.float64(2.5), np.array(0.3), {}, 2),
    "float32 scalar": (np.float32(2.5), np.array(0.3, np.float32), {}, 2),
    "float": (2.5, np.array(0.3), {}, 2),
    "no data": (None, drawn(1), {}, 2),
    "gradient that broadcasts": (drawn(0), drawn(1, 3), {}, 0),
    "gradient that is too large": (drawn(0, 3), drawn(1), {}, 0),
    "read-only": (np.broadcast_to(drawn(0, 3), (5, 3)), drawn(1), {}, 0),
    "negative": (drawn(0), drawn(1), {"lr": -0.1}, 0),
    "not finite": (drawn(0), drawn(1), {"lr": float("inf")}, 0),
    "huge": (drawn(0), drawn(1), {"lr": 10**400}, 0),
    "complex": (drawn(0), drawn(1), {"lr": 1j}, 0),
    "array": (drawn(0), drawn(1), {"lr": np.array(0.1)}, 0),
    "np.float32": (drawn(0), drawn(1), {"lr": np.float32(0.1)}, 0),
    "np.float64": (drawn(0, dtype=np.float32), drawn(1, dtype=np.float32), {"lr": np.float64(0.1)}, 2),
    "np.float64 for float64": (drawn(0), drawn(1), {"lr": np.float64(0.1)}, 3),
    "subclass of float": (drawn(0, dtype=np.float32), drawn(1, dtype=np.float32), {"lr": Float(0.1)}, 2),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", LEFT)
@names
def test_what_is_left_to_dezero(name: str, case: str, fused: list[int]) -> None:
    data, gradient, given, count = LEFT[case]
    if name == "Adam" and given:
        given = {"alpha": given["lr"]}
        count = 3 if case in ("subclass of float", "array") else count  # lr is a product
    if name == "AdaDelta" and given:
        given = {"eps": given["lr"]}

    def make(module: Any) -> Any:
        params = parameters(np.float64, [(4, 2)] * 3)
        params[1].data = copy.copy(data) if np.asarray(data).flags.writeable else data
        return getattr(module, name)(**given).setup(Target(params)), params

    def draw(t: int, params: list[Any], _: Any) -> None:
        for i in (0, 2):
            params[i].grad = Variable(drawn(t + 10 * i, (4, 2)))
        params[1].grad = Variable(np.asarray(gradient * (t + 1)) if gradient.ndim == 0 else gradient * (t + 1))

    sides = [make(module) for module in (ours, theirs)]
    if case in ("integers", "no data", "gradient that is too large", "read-only", "huge", "complex"):
        for optimizer, params in sides:
            draw(0, params, optimizer)
            with pytest.raises((TypeError, ValueError, OverflowError)) as error:
                optimizer.update()
            assert str(error.traceback[-1].path) == theirs.__file__
    else:
        assert_same(make, draw)
    assert all(made == count for made in fused)
    assert bool(fused) == bool(count)


def doubled(base: Any) -> Any:
    class Doubled(base):  # type: ignore[misc]
        def update_one(self, param: Any) -> None:
            super().update_one(param)
            param.data *= 2

    return Doubled


def without_init(base: Any) -> Any:
    class Own(base):  # type: ignore[misc]
        def __init__(self) -> None:
            theirs.Optimizer.__init__(self)
            self.t = 0

        def update_one(self, param: Any) -> None:
            param.data -= 0.1 * param.grad.data

    return Own


def set_on_the_instance(base: Any) -> Any:
    def make() -> Any:
        optimizer = base()
        optimizer.update_one = lambda param: base.update_one(optimizer, param) or base.update_one(optimizer, param)
        return optimizer

    return make


def scheduled(base: Any) -> Any:
    class Scheduled(base):  # type: ignore[misc]
        updates = 0

        @property
        def lr(self) -> float:
            return 0.1 / (1 + self.updates)

        @lr.setter
        def lr(self, value: float) -> None:
            pass

        def update(self) -> None:
            super().update()
            self.updates += 1

    return Scheduled


SUBCLASSES: dict[Callable[[Any], Any], bool] = {
    doubled: False,
    without_init: False,
    set_on_the_instance: False,
    scheduled: True,
}


@pytest.mark.parametrize("subclass", SUBCLASSES)
@names
def test_subclasses(name: str, subclass: Callable[[Any], Any], dtype: Any, fused: list[int]) -> None:
    def make(module: Any) -> Any:
        params = parameters(dtype)
        return subclass(getattr(module, name))().setup(Target(params)), params

    assert_same(make, of_all_sizes)
    assert fused == [len(SHAPES)] * (5 if SUBCLASSES[subclass] else 0)


class Positive(Parameter):  # type: ignore[misc]
    @property
    def data(self) -> Any:
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        self._data = np.maximum(value, 0)


@names
def test_data_that_is_a_property(name: str, dtype: Any, fused: list[int]) -> None:
    def make(module: Any) -> Any:
        params = [Positive(drawn(i, dtype=dtype)) for i in range(3)]
        return getattr(module, name)(0.1).setup(Target(params)), params

    assert_same(make, of_all_sizes)
    assert fused == [3] * 5


@names
def test_state_of_another_type(name: str, fused: list[int]) -> None:
    """As after weights are loaded in another type, into a parameter that has been trained."""

    def make(module: Any) -> Any:
        params = parameters(np.float32)
        return getattr(module, name)().setup(Target(params)), params

    def draw(t: int, params: list[Any], optimizer: Any) -> None:
        if t == 2:
            params[0].data = params[0].data.astype(np.float64)
        of_all_sizes(t, params, optimizer)

    assert_same(make, draw)
    assert fused == [6] * (5 if name == "SGD" else 2)
