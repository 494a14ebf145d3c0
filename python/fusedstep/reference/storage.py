"""Storage types narrower than the arithmetic, and sums in an order that doesn't depend on threads."""

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

TILE = 1024
LANES = 8

# Of the narrow types: the bits of the fraction, the smallest normal exponent, the largest finite number.
_NARROW = {"float16": (10, -14, 65504.0), "bfloat16": (7, -126, 2.0**128 - 2.0**120)}


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


def _units(values: Array, dtype: Any) -> tuple[Array, Array]:
    """Magnitudes in units of a narrow type's last digit, and the units, both exact; 0 for infinity and NaN."""
    fraction, smallest, _ = _NARROW[dtype.name]
    magnitudes = np.abs(np.where(np.isfinite(values), values, 0)).astype(np.float64)
    units = np.exp2(np.maximum(np.frexp(magnitudes)[1] - 1.0, smallest) - fraction)
    return magnitudes / units, units


def _signed(magnitudes: Array, values: Array) -> Array:
    """The magnitudes as float32 with the signs of values, which stay if they aren't finite."""
    finite = np.isfinite(values)
    with np.errstate(over="ignore"):
        signed = np.copysign(magnitudes, np.where(finite, values, 0)).astype(np.float32)
    return np.where(finite, signed, values).astype(np.float32)


def stored(values: Array, dtype: Any) -> Array:
    """Numbers rounded to a storage type, to nearest, ties to even, once."""
    with np.errstate(over="ignore"):  # large numbers become infinity
        if dtype.name != "bfloat16":
            return values.astype(dtype)
        if values.dtype == np.float64:
            quotients, units = _units(values, dtype)
            values = _signed(np.rint(quotients) * units, values)
    return float32_to_bfloat16(values).view(dtype)


def stored_randomly(values: Any, dtype: Any, bits: Any) -> Array:
    """float32 numbers rounded to float16 or bfloat16: up with the probability of the fraction that is dropped.

    bits are integers in 0..65535. A magnitude is rounded up if its number and the first 16 binary digits of the
    fraction have a sum of 65536 or more. The largest finite number isn't rounded up: infinite are only infinities, and
    numbers from the next power of two. A NaN stays one.
    """
    fraction, _, largest = _NARROW[dtype.name]
    quotients, units = _units(values, dtype)
    whole = np.floor(quotients)
    rounded = (whole + (np.floor((quotients - whole) * 65536) + bits >= 65536)) * units
    next_power = largest + 2.0 ** (math.frexp(largest)[1] - 1 - fraction)
    rounded = np.where(quotients * units < next_power, np.minimum(rounded, largest), rounded)
    return stored(_signed(rounded, values), dtype)


def sum_of_squares(*arrays: Array) -> float:
    """The sum of squares in float64, in the order of fusedstep's kernels. Its root is the norm.

    The elements of each array make tiles of 1024, in row-major order. In a tile element i adds to lane i mod 8, then
    lanes are added in pairs that are 4, 2 and 1 apart. The tiles are added up in their order, those of the first array
    first. The rounding errors of these additions are added up beside them, and join the sum at the end, unless it is
    infinite.
    """
    high = low = 0.0
    for term in (term for array in arrays for term in _tiles(array)):
        total = high + term
        part = total - high
        low += (high - (total - part)) + (term - part)
        high = total
    return high if math.isinf(high) else high + low


def sums_of_squares(rows: Array) -> Array:
    """The `sum_of_squares` of each row of a matrix."""
    high, low = np.zeros((2, len(rows)))
    for begin in range(0, rows.shape[1], TILE):
        part = rows[:, begin : begin + TILE].astype(np.float64)
        squares = np.zeros((len(rows), -(-part.shape[1] // LANES) * LANES))
        squares[:, : part.shape[1]] = part * part
        lanes = np.cumsum(squares.reshape(len(rows), -1, LANES), axis=1)[:, -1]
        for half in (4, 2, 1):
            lanes = lanes[:, :half] + lanes[:, half:]
        term = lanes[:, 0]
        total = high + term
        other = total - high
        low += (high - (total - other)) + (term - other)
        high = total
    return np.where(np.isinf(high), high, high + low)


def _tiles(array: Array) -> list[float]:
    values = numbers(array, arithmetic_of(array)).ravel().astype(np.float64)
    tiles = -(-values.size // TILE)
    squares = np.zeros(tiles * TILE)
    lanes = np.zeros((tiles, LANES))
    with np.errstate(over="ignore"):
        squares[: values.size] = values * values  # zeros change no sum of squares
        for row in squares.reshape(tiles, TILE // LANES, LANES).swapaxes(0, 1):
            lanes += row
        for half in (4, 2, 1):
            lanes = lanes[:, :half] + lanes[:, half:]
    result: list[float] = lanes[:, 0].tolist()
    return result
