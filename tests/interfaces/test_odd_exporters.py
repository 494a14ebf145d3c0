"""Objects that share memory, but not as one would expect: errors inside their protocols, and half of a protocol."""

import array
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fusedstep as fs


class Raises:
    """An array whose protocol fails."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @property
    def __array_interface__(self) -> dict[str, Any]:
        raise self.error


class Number:
    """A number that describes no memory; NumPy would copy it."""

    __array_interface__ = property(lambda self: {"shape": (), "typestr": "<f4", "version": 3})

    def __float__(self) -> float:
        return 1.0


class Once:
    """Gives its memory once."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def __dlpack__(self, **options: Any) -> Any:
        base, self.base = self.base, None
        return base.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class FarDevice:
    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1 << 70, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_what_is_no_fault_of_the_array_goes_through(error: BaseException) -> None:
    with pytest.raises(type(error)):
        fs.SGD().update([Raises(error)], [np.ones(1)])


def test_an_error_of_the_protocol_is_the_cause() -> None:
    with pytest.raises(TypeError, match=r"params\[0\] is a .*Raises whose memory can't be shared: gone") as raised:
        fs.SGD().update([Raises(ValueError("gone"))], [np.ones(1)])
    assert isinstance(raised.value.__cause__, ValueError)


def test_a_number_with_an_interface_is_not_updated_in_a_copy() -> None:
    optimizer = fs.SGD()
    with pytest.raises(TypeError, match=r"params\[0\] is a .*Number, expected"):
        optimizer.update([Number()], [np.ones((), np.float32)])
    assert optimizer.iterations == 0


def test_a_single_parameter_is_asked_once() -> None:
    memory = np.ones(3)
    try:
        fs.SGD(0.5).update(Once(memory), np.ones(3))
    except ValueError as error:  # NumPy before 2.2.5
        assert "is read-only" in str(error)  # noqa: PT017
    else:
        np.testing.assert_array_equal(memory, 0.5)


def test_a_device_that_no_one_knows() -> None:
    with pytest.raises(TypeError, match=r"params\[0\] is a .*FarDevice whose memory can't be shared"):
        fs.SGD().update([FarDevice()], [np.ones(1)])


def test_a_stand_in_for_torch_is_not_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(Tensor=object()))
    memory = array.array("d", [1.0])
    fs.SGD(0.5).update([memory], [np.ones(1)])
    assert memory[0] == 0.5


def test_a_gradient_that_is_copied_is_flushed_too() -> None:
    # Subnormal in its own type and not in the parameter's, in the parameter's memory and beside it.
    memory = np.zeros(4)
    within = memory.view(np.float32)[2:4]
    within[:] = 1e-40
    beside = np.full(3, 1e-40, np.float32)[1:]
    for gradient in (within, beside, beside[::-1]):
        w = memory[:2] if gradient is within else np.zeros(2)
        fs.SGD(1e3).update(w, gradient)
        assert w[0] == 0
