"""Random numbers for initial weights, and the checks of their arguments."""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedstep._fans import Fans
from fusedstep._limits import checked, checked_dtype, shown

Array = NDArray[Any]
Axis: TypeAlias = int | None
Mode: TypeAlias = Literal["fan_in", "fan_out"]
# Quoted, as below, so that importing this does not import numpy.random, which NumPy imports at first use.
RNG: TypeAlias = (
    "np.random.Generator | np.random.BitGenerator | np.random.SeedSequence | Sequence[int] | NDArray[Any] | int | None"
)


def normal(shape: Sequence[int], variance: float, gain: float, dtype: DTypeLike, rng: RNG) -> Array:
    deviation = checked("gain", gain) * math.sqrt(variance)
    dtype, generator = checked_dtype(dtype), checked_rng(rng)
    check_size(shape)
    return (deviation * generator.standard_normal(shape)).astype(dtype, copy=False)


def uniform(shape: Sequence[int], variance: float, gain: float, dtype: DTypeLike, rng: RNG) -> Array:
    limit = checked("gain", gain) * math.sqrt(3 * variance)
    dtype, generator = checked_dtype(dtype), checked_rng(rng)
    check_size(shape)
    return (limit * generator.uniform(-1.0, 1.0, shape)).astype(dtype, copy=False)


def check_size(shape: Sequence[int]) -> None:
    if math.prod(map(int, shape)) >= 2**60:
        raise ValueError(f"shape is {shown(shape)}, expected fewer elements")


def checked_fan(mode: Any, found: Fans) -> int:
    if not isinstance(mode, str) or mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode is {shown(mode)}, expected 'fan_in' or 'fan_out'")
    return found.fan_in if mode == "fan_in" else found.fan_out


def checked_rng(value: Any) -> "np.random.Generator":
    expected = "expected a numpy.random.Generator, a seed >= 0 or None"
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError("not a seed")
        return np.random.default_rng(value)
    except Exception as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"rng is {shown(value)}, {expected}") from error
