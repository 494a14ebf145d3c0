"""Arrays in Flower's messages, for both of its interfaces."""

import io
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

FORMAT = "numpy.ndarray"  # Flower's name of what np.save writes

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

_VERSION_1 = npy.magic(1, 0)


class _Layout(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"]


@lru_cache(1024)  # the clients' arrays have the same headers, and parsing one takes longer than a small array's mean
def _layout(header: bytes) -> _Layout | None:
    shape, is_fortran, dtype = npy.read_array_header_1_0(io.BytesIO(header))
    return _Layout(shape, dtype, "F" if is_fortran else "C") if dtype in FLOATS else None


def view(data: bytes) -> NDArray[Any] | None:
    """The float32 or float64 array that np.save has written, in this memory; None if it is something else."""
    if data[:8] != _VERSION_1:
        return None
    begin = 10 + int.from_bytes(data[8:10], "little")
    try:
        layout = _layout(data[8:begin])
        return layout and np.ndarray(layout.shape, layout.dtype, data, begin, order=layout.order)
    except (TypeError, ValueError):  # damaged, so Flower raises an error of its own
        return None


def saved(array: NDArray[Any]) -> bytes:
    """The bytes that np.save writes, after one copy."""
    header = io.BytesIO()
    values = npy.header_data_from_array_1_0(array)
    npy.write_array_header_1_0(header, values)
    contents = np.ascontiguousarray(array.T if values["fortran_order"] else array)
    return b"".join((header.getvalue(), contents.data))


def are_averaged(lists: Sequence[Sequence[NDArray[Any] | None]], weights: Sequence[Any]) -> list[bool]:
    """For each place of the lists, whether the mean of their arrays is one that `weighted_mean` takes."""
    if not (min(weights) >= 0 and 0 < sum(weights) < math.inf):
        return [False] * len(lists[0])
    first = [array is not None and (array.dtype, array.shape) for array in lists[0]]
    return [
        own is not False and all(array is not None and (array.dtype, array.shape) == own for array in arrays)
        for own, *arrays in zip(first, *lists[1:], strict=True)
    ]
