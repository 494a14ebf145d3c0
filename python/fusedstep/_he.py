"""Kaiming He's initial weights."""

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedstep._draws import RNG, Array, Axis, Mode, checked_fan, normal, uniform
from fusedstep._fans import Groups, fans
from fusedstep._types import DType, F


@overload
def he_normal(
    shape: Sequence[int],
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
) -> NDArray[np.float32]: ...
@overload
def he_normal(
    shape: Sequence[int],
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    dtype: DType[F],
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
) -> NDArray[F]: ...
@overload
def he_normal(
    shape: Sequence[int],
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    dtype: DTypeLike,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
) -> Array: ...
def he_normal(
    shape: Sequence[int],
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    dtype: DTypeLike = np.float32,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
) -> Array:
    """Kaiming He's normal initialisation (He et al. 2015, arXiv:1502.01852).

        standard deviation = gain sqrt(2 / fan_in),  or with fan_out in its place

    Half of a ReLU's inputs become 0, so twice LeCun's variance keeps the mean square: of the activations with fan_in,
    of the gradients with fan_out.

    Arguments:
        mode: Which fan: "fan_in" or "fan_out", or ValueError is raised.

    The other arguments, result and errors are those of `lecun_normal`.
    """
    fan = checked_fan(mode, fans(shape, in_axis, out_axis, groups))
    return normal(shape, 2 / fan, gain, dtype, rng)


@overload
def he_uniform(
    shape: Sequence[int],
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
) -> NDArray[np.float32]: ...
@overload
def he_uniform(
    shape: Sequence[int],
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    dtype: DType[F],
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
) -> NDArray[F]: ...
@overload
def he_uniform(
    shape: Sequence[int],
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    dtype: DTypeLike,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
) -> Array: ...
def he_uniform(
    shape: Sequence[int],
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    dtype: DTypeLike = np.float32,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
) -> Array:
    """Kaiming He's uniform initialisation (He et al. 2015, arXiv:1502.01852).

        from -limit to limit,  limit = gain sqrt(6 / fan_in),  or with fan_out in its place

    Half of a ReLU's inputs become 0, so twice LeCun's variance keeps the mean square: of the activations with fan_in,
    of the gradients with fan_out.

    Arguments:
        mode: Which fan: "fan_in" or "fan_out", or ValueError is raised.

    The other arguments, result and errors are those of `lecun_normal`.
    """
    fan = checked_fan(mode, fans(shape, in_axis, out_axis, groups))
    return uniform(shape, 2 / fan, gain, dtype, rng)
