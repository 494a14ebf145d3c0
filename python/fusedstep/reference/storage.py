"""Storage types narrower than the arithmetic, and sums in an order that doesn't depend on threads."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

TILE = 1024
LANES = 8


def bfloat16_to_float32(bits: Any) -> Array:
    """The float32 numbers that have these uint16 as upper halves, and zeros as lower ones."""
    return np.asarray(np.asarray(bits, np.uint16).astype(np.uint32) << 16).view(np.float32)


def float32_to_bfloat16(values: Any) -> Array:
    """The upper halves of float32 numbers as uint16, rounded to nearest, ties to even; a NaN becomes a quiet NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).reshape(np.shape(values))
    rounded = bits + np.uint32(0x7FFF) + (bits >> 16 & 1)
    quiet = bits | np.uint32(0x400000)
    return np.asarray(np.where((bits & 0x7FFFFFFF) > 0x7F800000, quiet, rounded) >> 16).astype(np.uint16)


def is_bfloat16(array: Array) -> bool:
    """Whether an array is of the type that ml_dtypes adds to NumPy."""
    return array.dtype.name == "bfloat16"


def arithmetic_of(array: Array) -> Any:
    """The type in which a parameter is computed."""
    return np.dtype(np.float64 if array.dtype == np.float64 else np.float32)


def numbers(array: Array, dtype: Any) -> Array:
    """The elements in a type that is computed in; the array itself if it has that type."""
    if is_bfloat16(array):
        array = bfloat16_to_float32(array.view(np.uint16))
    return array if array.dtype == dtype else array.astype(dtype)


def stored(values: Array, dtype: Any) -> Array:
    """Numbers rounded to a storage type, to nearest, ties to even."""
    if dtype.name == "bfloat16":
        return float32_to_bfloat16(values).view(dtype)
    with np.errstate(over="ignore"):  # large numbers become infinity
        return values.astype(dtype)


def sum_of_squares(array: Array) -> float:
    """The sum of squares in float64, in the order of fusedstep's kernels. Its root is the norm.

    The elements make tiles of 1024, in row-major order. In a tile element i adds to lane i mod 8, then lanes are added
    in pairs that are 4, 2 and 1 apart. The tiles are added up in their order. The rounding errors of these additions
    are added up beside them, and join the sum at the end.
    """
    values = numbers(array, arithmetic_of(array)).ravel().astype(np.float64)
    tiles = -(-values.size // TILE)
    squares = np.zeros(tiles * TILE)
    squares[: values.size] = values * values  # zeros change no sum of squares
    lanes = np.zeros((tiles, LANES))
    for row in squares.reshape(tiles, TILE // LANES, LANES).swapaxes(0, 1):
        lanes += row
    for half in (4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half:]
    high = low = 0.0
    for term in lanes[:, 0].tolist():
        total = high + term
        part = total - high
        low += (high - (total - part)) + (term - part)
        high = total
    return high + low
