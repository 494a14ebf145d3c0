"""Objects that are not NumPy arrays but share their memory: by every protocol, wherever an array is taken."""

import array
import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ALL_ROWS, Row, assert_same_state
from fusedstep import _native

WITH_AND_WITHOUT_STATE = [row for row in ALL_ROWS if row.id in ("SGD", "Adam")]


class Interface:
    """Has nothing but `__array_interface__`."""

    def __init__(self, base: Any) -> None:
        self.base = base

    @property
    def __array_interface__(self) -> dict[str, Any]:
        described: dict[str, Any] = self.base.__array_interface__
        return described


class DLPack:
    """Has nothing but what DLPack asks for."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def __dlpack__(self, **options: Any) -> Any:
        return self.base.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class UnversionedDLPack(DLPack):
    """Older than versions, so it can't say whether it may be written."""

    def __dlpack__(self, stream: Any = None) -> Any:  # type: ignore[override]
        return self.base.__dlpack__()


class CopyingDLPack(DLPack):
    """Can't be told not to copy."""

    def __dlpack__(self, *, copy: bool | None = None, **options: Any) -> Any:
        if copy is not None:
            raise TypeError("copy is not supported")
        return self.base.copy().__dlpack__(**options)


class Copies:
    """Has nothing but `__array__`, which may copy."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.ones(3)


class GPU:
    """An array in the memory of a GPU."""

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("not from here")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 1)


class BufferlessGPU(GPU):
    """One whose type has a buffer to give, but only on the CPU."""

    __array_interface__ = property(lambda self: self.no_such_thing)


class NumbaGPU:
    """One that has only CUDA's own protocol."""

    __cuda_array_interface__ = property(lambda self: {})


def torch_tensor(base: Any) -> Any:
    torch = pytest.importorskip("torch", reason="takes PyTorch's tensors where that is installed")
    return torch.from_numpy(base)


def torch_parameter(base: Any) -> Any:
    tensor = torch_tensor(base)
    return tensor.requires_grad_()


def ctypes_array(base: Any) -> Any:
    kind = ctypes.c_float if base.dtype == np.float32 else ctypes.c_double
    return (kind * base.size)(*base)


def array_array(base: Any) -> Any:
    return array.array("f" if base.dtype == np.float32 else "d", base)


def bytearray_cast(base: Any) -> Any:
    return memoryview(bytearray(base.tobytes())).cast(base.dtype.char)


# DLPack that NumPy imports is read-only before 2.2.5.
writes_by_dlpack = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.2.5", reason="NumPy's from_dlpack gives read-only arrays before 2.2.5"
)
VIEWS: dict[str, Callable[[Any], Any]] = {
    "memoryview": memoryview,
    "__array_interface__": Interface,
    "__dlpack__": DLPack,
    "torch": torch_tensor,
    "torch, requires grad": torch_parameter,
}
OWNERS: dict[str, Callable[[Any], Any]] = {"array.array": array_array, "ctypes": ctypes_array, "cast": bytearray_cast}
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda a: a,
    "transposed": lambda a: a.T,
    "gaps": lambda a: a[::2, ::3],
    "0-d": lambda a: a[:1, :1].reshape(()),
    "empty": lambda a: a[:0],
}


@dataclass
class Shared:
    given: Any  # what the library is given
    seen: Callable[[], Any]  # its memory, through what owns it


def viewed(protocol: str, base: Any) -> Shared:
    return Shared(VIEWS[protocol](base), lambda: base)


def _rows() -> list[Any]:
    rows = [
        pytest.param(protocol, layout, marks=[writes_by_dlpack] if protocol == "__dlpack__" else [])
        for protocol in VIEWS
        for layout in LAYOUTS
    ]
    return rows + [pytest.param(owner, "flat") for owner in OWNERS]


def shared(protocol: str, layout: str, dtype: Any, rng: np.random.Generator) -> Shared:
    values = rng.standard_normal((40, 60)).astype(dtype)
    if layout != "flat":
        return viewed(protocol, LAYOUTS[layout](values))
    given = OWNERS[protocol](values.ravel())
    return Shared(given, lambda: np.array(list(given), dtype))


@pytest.mark.parametrize("row", WITH_AND_WITHOUT_STATE)
@pytest.mark.parametrize(("protocol", "layout"), _rows())
@pytest.mark.parametrize("kind", [dict, list, tuple, "single"])
def test_parameters(row: Row, protocol: str, layout: str, kind: Any, dtype: Any, rng: np.random.Generator) -> None:
    w = shared(protocol, layout, dtype, rng)
    expected = w.seen().copy()
    ours, theirs = row.optimizer(weight_decay=0.01), row.reference(weight_decay=0.01)
    params = w.given if kind == "single" else {0: w.given} if kind is dict else kind([w.given])
    for _ in range(3):
        g = np.asarray(rng.standard_normal(expected.shape))
        ours.update(params, g if kind == "single" else {0: g} if kind is dict else kind([g]))
        theirs.update([expected], [g])
    assert kind == "single" or params[0] is w.given
    np.testing.assert_array_equal(w.seen(), expected, strict=True)
    assert_same_state(ours, theirs)
    assert all(type(a) is np.ndarray for arrays in ours.state.values() for a in arrays.values())


@pytest.mark.parametrize("gradient_type", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("protocol", "layout"), _rows())
def test_gradients(protocol: str, layout: str, gradient_type: Any, dtype: Any, rng: np.random.Generator) -> None:
    if layout == "flat" and gradient_type == np.float16:
        pytest.skip("array.array and ctypes have no half type")
    g = shared(protocol, layout, gradient_type, rng)
    before = g.seen().copy()
    w = np.asarray(rng.standard_normal(before.shape).astype(dtype))
    expected = w.copy()
    ours, theirs = fs.Adam(), fs.reference.Adam()
    for _ in range(2):
        ours.update([w], [g.given])
        theirs.update([expected], [before])
    np.testing.assert_array_equal(w, expected)
    np.testing.assert_array_equal(g.seen(), before)


READ_ONLY: dict[str, Callable[[Any], Any]] = {
    "memoryview": lambda a: memoryview(a).toreadonly(),
    "bytes": lambda a: memoryview(a.tobytes()).cast("d"),
    "__array_interface__": lambda a: Interface(np.broadcast_to(a, a.shape)),
    "unversioned __dlpack__": UnversionedDLPack,
    "copying __dlpack__": CopyingDLPack,
    "__dlpack__": lambda a: DLPack(np.broadcast_to(a, a.shape)),
}

exports_read_only = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="NumPy's __dlpack__ refuses read-only arrays before 2.1"
)


@pytest.mark.parametrize(
    "protocol", [pytest.param(name, marks=exports_read_only if name == "__dlpack__" else ()) for name in READ_ONLY]
)
def test_read_only_memory(protocol: str, rng: np.random.Generator) -> None:
    w, g = np.ones(5), rng.standard_normal(5)
    given = READ_ONLY[protocol](g)
    fs.SGD(0.1).update([w], [given])
    np.testing.assert_array_equal(w, 1 - 0.1 * g)
    before = w.copy()
    with pytest.raises(ValueError, match=r"^params\[1\] is read-only$"):
        fs.SGD(0.1).update([w, given], [w, g])
    np.testing.assert_array_equal(w, before)


def released() -> Any:
    view = memoryview(bytearray(24)).cast("d")
    view.release()
    return view


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "GPU": (GPU, r"is a test_shared_memory\.GPU on device cuda:1, expected memory of the CPU$"),
    "GPU without a buffer": (BufferlessGPU, r"is a test_shared_memory\.BufferlessGPU on device cuda:1, expected"),
    "GPU without DLPack": (NumbaGPU, r"is a test_shared_memory\.NumbaGPU on device cuda, expected memory of the CPU$"),
    "may copy": (Copies, r"is a Copies, which may copy \(__array__\), expected an array of floats$"),
    "released": (released, r"is a memoryview whose memory can't be shared: operation forbidden on released"),
    "bytes": (lambda: b"xyz", "has dtype uint8, expected"),
    "integers": (lambda: array.array("i", [1, 2, 3]), "has dtype int32, expected"),
    "complex": (lambda: Interface(np.ones(3, complex)), "has dtype complex128, expected"),
}


def refused(given: Any, message: str) -> None:
    """Neither as a parameter nor as a gradient nor as an input, and nothing has changed."""
    w, optimizer = np.ones(3), fs.Adam()
    for name, params, grads in (
        ("params['W']", {"a": w, "W": given}, {"a": w, "W": w}),
        ("grads['W']", {"a": w, "W": w.copy()}, {"a": w, "W": given}),
    ):
        with pytest.raises(TypeError, match=message) as caught:
            optimizer.update(params, grads)
        assert str(caught.value).startswith(name + " ")
    with pytest.raises(TypeError, match=r"^x "):
        fs.batch_norm(given, [1.0], [0.0], channel_axis=0)
    with pytest.raises(TypeError, match=r"^x "):
        fs.dropout(given, seed=0)
    np.testing.assert_array_equal(w, np.ones(3))
    assert optimizer.iterations == 0
    assert not optimizer.state


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name: str) -> None:
    make, message = BAD[name]
    refused(make(), message)


def test_a_single_object_on_a_gpu_is_refused() -> None:
    params: Any = GPU()
    with pytest.raises(TypeError, match=r"^params is a test_shared_memory\.GPU on device cuda:1, expected memory"):
        fs.SGD().update(params, np.ones(3))


BAD_TENSORS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "device": (
        lambda torch: torch.ones(3, device="meta"),
        r"is a torch\.Tensor on device meta, expected memory of the",
    ),
    "sparse": (lambda torch: torch.ones(3).to_sparse(), r"whose memory can't be shared: .*[sS]parse"),
    "conjugated": (lambda torch: torch.ones(3, dtype=torch.complex64).conj(), r"can't be shared: .*conjugate bit"),
    "negated": (lambda torch: torch.ones(3, dtype=torch.complex64).conj().imag, r"can't be shared: .*negative bit"),
    "integers": (lambda torch: torch.ones(3, dtype=torch.int64), "has dtype int64, expected"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_which_tensors_are_refused(name: str) -> None:
    torch = pytest.importorskip("torch", reason="takes PyTorch's tensors where that is installed")
    make, message = BAD_TENSORS[name]
    refused(make(torch), message)


def test_expanded_tensors_are_no_parameters() -> None:
    torch = pytest.importorskip("torch", reason="takes PyTorch's tensors where that is installed")
    with pytest.raises(ValueError, match=r"^params\[0\] has elements that share memory: shape \(3,\), strides \(0,\)$"):
        fs.SGD().update([torch.ones(1).expand(3)], [torch.ones(3)])


def test_a_loop_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="takes PyTorch's tensors where that is installed")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    parameters = dict(model.named_parameters())
    places = {name: p.data_ptr() for name, p in parameters.items()}
    expected = {name: p.detach().numpy().copy() for name, p in parameters.items()}
    ours, theirs = fs.Adam(), fs.reference.Adam()
    for _ in range(5):
        model.zero_grad()
        model(torch.randn(8, 5)).square().mean().backward()
        grads: dict[str, Any] = {name: p.grad for name, p in parameters.items()}
        theirs.update(expected, {name: g.numpy() for name, g in grads.items()})
        ours.update(parameters, grads)
    for name, p in model.named_parameters():
        assert p is parameters[name]
        assert p.requires_grad
        assert p.data_ptr() == places[name]
        np.testing.assert_array_equal(p.detach().numpy(), expected[name])


def test_memory_is_held_until_the_update_is_over() -> None:
    numbers = array.array("d", [1.0, 2.0, 3.0])

    class Resizes(Interface):
        @property
        def __array_interface__(self) -> dict[str, Any]:
            with pytest.raises(BufferError):
                numbers.append(4.0)  # would move the memory of a parameter that has been looked at
            return super().__array_interface__

    fs.SGD(0.5).update([numbers, Resizes(np.ones(3))], [np.ones(3), np.ones(3)])
    numbers.append(4.0)
    assert list(numbers) == [0.5, 1.5, 2.5, 4.0]


def test_aliases_across_protocols(dtype: Any, rng: np.random.Generator) -> None:
    base: Any = rng.standard_normal(100_003).astype(dtype)
    expected = base.copy()
    ours, theirs = fs.Adam(), fs.reference.Adam()
    for _ in range(2):
        ours.update([Interface(base), memoryview(base)], [memoryview(base)[::-1], Interface(base)])
        theirs.update([expected, expected], [expected[::-1], expected])
    np.testing.assert_array_equal(base, expected)


@pytest.mark.parametrize("protocol", [pytest.param(p, marks=writes_by_dlpack if "dl" in p else ()) for p in VIEWS])
@pytest.mark.parametrize("layout", ["plain", "transposed", "gaps"])
def test_layers(protocol: str, layout: str, dtype: Any, rng: np.random.Generator) -> None:
    if "requires grad" in protocol:
        with pytest.raises(RuntimeError, match=r"^x requires a gradient"):
            _native.as_native("x", viewed(protocol, np.ones(3, dtype)).given)
        return

    def drawn() -> Any:
        return LAYOUTS[layout](rng.standard_normal((40, 60)).astype(dtype))

    def given(base: Any) -> Any:
        return viewed(protocol, base).given

    x, dout = drawn(), drawn()
    channels = x.shape[1]
    assert np.shares_memory(_native.as_native("x", given(x)), x)

    ours, theirs = (fs.BatchNorm(channels, dtype=dtype) for _ in range(2))
    for layer in (ours, theirs):
        layer.gamma[...] = np.linspace(0.5, 2, channels)
    gamma, running_mean = ours.gamma, ours.running_mean
    untyped: Any = ours
    untyped.gamma, untyped.running_mean = given(gamma), given(running_mean)
    y = ours.forward(given(x))
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, theirs.forward(x))
    np.testing.assert_array_equal(running_mean, theirs.running_mean)
    np.testing.assert_array_equal(ours.backward(given(dout)), theirs.backward(dout))
    for out in (np.full_like(x, np.nan), np.full_like(x, np.nan, order="F")):
        into = given(out)
        assert ours.forward(given(x), out=into) is into
        np.testing.assert_array_equal(out, y)
        assert ours.forward(given(x), training=False, out=into) is into
        np.testing.assert_array_equal(out, ours.forward(x, training=False))
    with pytest.raises(ValueError, match="out shares memory with x, which the backward pass needs"):
        ours.forward(given(x), out=given(x))

    drops, expected = fs.Dropout(seed=1), fs.Dropout(seed=1)
    out = np.full_like(x, np.nan)
    into = given(out)
    assert drops.forward(given(x), out=into) is into
    np.testing.assert_array_equal(out, expected.forward(x))
    np.testing.assert_array_equal(drops.backward(given(dout)), expected.backward(dout))


def test_values_of_channels_may_still_be_of_any_kind() -> None:
    x = np.linspace(-1, 1, 12).reshape(4, 3)
    expected, _, _ = fs.batch_norm(x, np.ones(3), np.zeros(3))
    for ones in (Copies(), [1, 1, 1], np.ones(3).data, array.array("i", [1, 1, 1])):
        given: Any = ones
        np.testing.assert_array_equal(fs.batch_norm(x, given, [0.0] * 3)[0], expected)
