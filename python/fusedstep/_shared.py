"""Arrays of the memory of objects that are not NumPy's, for files."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedstep.optimizers.options import bfloat16
from fusedstep.optimizers.snapshots import is_bfloat16

KINDS = "biufc"  # numbers, of NumPy's kinds of types


def _is_tensor(given: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(given, torch.Tensor)


def array_of(name: str, given: Any) -> NDArray[Any]:
    """The array that an object is, or whose memory it shares."""
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be ignored; expected a plain array")
    try:
        array = _shared(given)
    except Exception as error:  # of the library whose object it is
        raise TypeError(f"{name} is a {type(given).__name__} whose memory can't be shared: {error}") from error
    if array is None:
        expected = "an optimizer, a layer, an array, a value, or a dict, list or tuple of them"
        raise TypeError(f"{name} is a {type(given).__name__}, expected {expected}{_advice(given)}")
    if not is_bfloat16(array.dtype) and array.dtype.kind not in KINDS:
        raise TypeError(f"{name} has dtype {array.dtype}, expected numbers")
    return array


def _shared(given: Any) -> NDArray[Any] | None:
    if isinstance(given, np.ndarray):
        return np.asarray(given)
    if _is_tensor(given):
        if given.device.type != "cpu":
            raise TypeError(f"it is on device {given.device}")
        torch, tensor = sys.modules["torch"], given.detach()
        if tensor.dtype == torch.bfloat16:
            array: NDArray[Any] = tensor.view(torch.int16).numpy().view(bfloat16("a tensor in bfloat16"))
            return array
        return np.asarray(tensor.numpy())
    if isinstance(given, bytes | bytearray):
        return None
    if hasattr(given, "__array_interface__"):
        return np.array(given, copy=False)
    if hasattr(given, "__dlpack__"):
        return np.from_dlpack(given)
    try:
        return np.asarray(memoryview(given))
    except TypeError:
        return None


def _advice(given: Any) -> str:
    """What saves an object of another kind."""
    if hasattr(given, "save_state"):
        return ": it has a method save_state of its own"
    if any(base.__module__.partition(".")[0] == "torch" for base in type(given).__mro__) and hasattr(
        given, "state_dict"
    ):
        return ": torch.save saves its state_dict()"
    return ""


def count_changes(objects: list[Any]) -> None:
    """Raises tensors' version counters, so that a backward pass which needs what they were is an error."""
    if tensors := [given for given in objects if _is_tensor(given)]:
        sys.modules["torch"].autograd.graph.increment_version(tensors)
