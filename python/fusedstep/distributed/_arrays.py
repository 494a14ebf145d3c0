"""The parameters and gradients of a call, as arrays by key."""

import functools
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusedstep._rows import Rows
from fusedstep.optimizers.options import bfloat16

TYPES = ("float16", "bfloat16", "float32", "float64")


class Entry(NamedTuple):
    """A parameter, as it was given and as an array, and what belongs to it."""

    key: Any
    given: Any
    param: NDArray[Any]
    grad: NDArray[Any] | None
    copy: NDArray[Any] | None


def entries_of(params: Any, grads: Any, copies: Any = None) -> list[Entry]:
    """The parameters in their order, checked as far as one process can."""
    found: list[Entry] = []
    _walk((), params, grads, copies, found)
    return found


def _walk(path: tuple[Any, ...], param: Any, grad: Any, copy: Any, found: list[Entry]) -> None:
    if not isinstance(param, dict | list | tuple):
        key = path[0] if len(path) == 1 else path or 0
        found.append(_entry(key, path, param, grad, copy))
        return
    place = _place(path)
    is_dict = isinstance(param, dict)
    for name, given in (("grads", grad), ("copies", copy)):
        if given is not None and not isinstance(given, Mapping if is_dict else list | tuple):
            expected = "a dict" if is_dict else "a list or tuple"
            raise TypeError(f"{name}{place} is a {type(given).__name__}, expected {expected} like params{place}")
        if given is not None and not is_dict and len(given) != len(param):
            raise ValueError(f"{name}{place} has length {len(given)}, params{place} has {len(param)}")
    for key, inner in param.items() if isinstance(param, dict) else enumerate(param):
        if isinstance(grad, Mapping) and key not in grad:
            raise KeyError(f"grads{place} lacks {key!r}")
        other = None if copy is None or (is_dict and key not in copy) else copy[key]
        _walk((*path, key), inner, None if grad is None else grad[key], other, found)


def _place(path: tuple[Any, ...]) -> str:
    return "".join(f"[{part!r}]" for part in path)


def _entry(key: Any, path: tuple[Any, ...], param: Any, grad: Any, copy: Any) -> Entry:
    array = as_array("params", path, param)
    if not array.flags.writeable:
        raise ValueError(f"params{_place(path)} is read-only")
    arrays: list[NDArray[Any] | None] = []
    for name, given in (("grads", grad), ("copies", copy)):
        other = None if given is None else as_array(name, path, given)
        if other is not None and other.shape != array.shape:
            place = _place(path)
            raise ValueError(f"{name}{place} has shape {other.shape}, params{place} has {array.shape}")
        arrays.append(other)
    return Entry(key, param, array, *arrays)


@functools.cache
def name_of(dtype: np.dtype[Any]) -> str:
    """The name of a type, which NumPy makes anew each time."""
    return dtype.name


def as_array(name: str, path: tuple[Any, ...], given: Any) -> NDArray[Any]:
    """An array of the memory of an object, which is called by its name and path in errors."""
    if isinstance(given, np.ndarray) and not isinstance(given, np.ma.MaskedArray):
        array: NDArray[Any] = given
    elif isinstance(given, Rows):
        raise TypeError(f"{name}{_place(path)} is Rows, which can't be sharded: give the whole gradient")
    elif isinstance(given, np.ma.MaskedArray):
        raise TypeError(f"{name}{_place(path)} is a masked array, whose mask would be ignored")
    elif is_tensor(given):
        tensor = given.detach()
        if tensor.dtype == sys.modules["torch"].bfloat16:
            array = tensor.view(sys.modules["torch"].int16).numpy().view(bfloat16(f"{name}{_place(path)}"))
        else:
            array = tensor.numpy()
    elif isinstance(given, float | int | np.generic):
        kind = type(given).__name__
        raise TypeError(f"{name}{_place(path)} is a {kind}, which has no memory to share: give an array")
    elif hasattr(given, "__dlpack__"):
        array = np.from_dlpack(given)
    else:
        try:
            array = np.asarray(memoryview(given))
        except TypeError:
            kind = type(given).__name__
            raise TypeError(f"{name}{_place(path)} is a {kind}, expected an array of floats") from None
    if name_of(array.dtype) not in TYPES or not array.dtype.isnative:
        raise TypeError(f"{name}{_place(path)} has dtype {array.dtype}, expected {', '.join(TYPES)}")
    return array


def is_tensor(given: Any) -> bool:
    """Whether an object is a tensor of PyTorch, which isn't imported for this."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(given, torch.Tensor)


def flat(array: NDArray[Any]) -> Any:
    """The elements in row-major order: a view, or where there is none what reads and writes them one by one."""
    return array.reshape(-1) if array.flags.c_contiguous else array.flat


def require_writeable(entries: list[Entry]) -> None:
    """ValueError if a gradient can't be zeroed."""
    for entry in entries:
        if entry.grad is not None and not entry.grad.flags.writeable:
            raise ValueError(f"grads[{entry.key!r}] is read-only, so it can't be zeroed")
