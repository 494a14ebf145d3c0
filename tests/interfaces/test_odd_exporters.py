"""Objects that share memory, but not as one would expect: errors inside their protocols, and half of a protocol."""

import array
import gc
import sys
import weakref
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


class OfScalar:
    """Shows the memory of a NumPy scalar, which makes a copy each time and keeps it in the interface alone."""

    def __init__(self, value: Any) -> None:
        self.value: Any = value
        self.memory: Any = None

    @property
    def __array_interface__(self) -> Any:
        interface = self.value.__array_interface__
        self.memory = weakref.ref(interface["__ref"])
        return interface


class Watches:
    """Looks whether another's memory is still there when its own is asked for."""

    def __init__(self, other: OfScalar) -> None:
        self.other, self.array, self.seen = other, np.ones(3), False

    @property
    def __array_interface__(self) -> dict[str, Any]:
        gc.collect()
        self.seen = self.other.memory is not None and self.other.memory() is not None
        return self.array.__array_interface__


def test_the_interface_is_kept_with_what_it_keeps() -> None:
    scalar = OfScalar(np.float64(0.5))
    watches = Watches(scalar)
    w = np.ones(())
    fs.SGD(1.0).update({"a": w, "b": watches}, {"a": scalar, "b": np.ones(3)})
    assert watches.seen
    assert w == 0.5


def test_a_parameter_whose_interface_is_of_a_copy_is_refused() -> None:
    w = np.ones(3)
    with pytest.raises(TypeError, match=r"params\['a'\] has an __array_interface__ of a copy"):
        fs.SGD().update({"b": w, "a": OfScalar(np.float64(2))}, {"a": np.ones(()), "b": w})
    assert (w == 1).all()


class AskedOnce:
    """Can be asked for its interface once."""

    def __init__(self, array: Any) -> None:
        self.array, self.asked = array, 0

    @property
    def __array_interface__(self) -> Any:
        self.asked += 1
        assert self.asked == 1, "asked again"
        return self.array.__array_interface__


def test_the_interface_is_asked_for_once() -> None:
    w, g = AskedOnce(np.ones(3)), AskedOnce(np.ones(3))
    fs.SGD(0.5).update([w], [g])
    np.testing.assert_array_equal(w.array, np.full(3, 0.5))
    x, out, dout = np.arange(8.0).reshape(4, 2), np.empty((4, 2)), np.ones((4, 2))
    layer = fs.BatchNorm(2, dtype=np.float64)
    layer.forward(AskedOnce(x), out=AskedOnce(out))
    layer.backward(AskedOnce(dout), out=AskedOnce(np.empty((4, 2))))
    layer.forward(AskedOnce(x), training=False)
    fs.batch_norm(AskedOnce(x), AskedOnce(np.ones(2)), AskedOnce(np.zeros(2)))
    fs.dropout(AskedOnce(x), 0.5, seed=1, out=AskedOnce(out))
    fs.Dropout(0.5).forward(AskedOnce(x))
