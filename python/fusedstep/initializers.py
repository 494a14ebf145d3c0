"""Initial weights that keep the variance of the activations, or of the gradients, from layer to layer.

    w = gain sqrt(variance) z            *_normal:  z standard normal
    w = gain sqrt(3 variance) u          *_uniform: u uniform from -1 to 1, whose variance is 1/3

    lecun_*    variance = 1 / fan_in                   for linear units and those like tanh near 0
    xavier_*   variance = 2 / (fan_in + fan_out)       the same, a compromise with the gradients' variance
    he_*       variance = 2 / fan_in or 2 / fan_out    for ReLU, which halves the mean square

The fans are the numbers of inputs of an output and of outputs of an input; `fans` says from which axes they follow.
The normal distributions are not truncated. Those of Keras and JAX are, at two standard deviations.

Numbers are drawn in float64 and rounded to the type asked for, so float32 and float64 start from the same weights up to
rounding. Biases need no initializer: `numpy.zeros`.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedstep._fans import Fans, fans
from fusedstep._limits import checked, checked_dtype, shown
from fusedstep._types import DType, F

__all__ = [
    "Fans",
    "fans",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "xavier_normal",
    "xavier_uniform",
]

Array = NDArray[Any]
Axis: TypeAlias = int | None
Mode: TypeAlias = Literal["fan_in", "fan_out"]
# Quoted, as below, so that importing this does not import numpy.random, which NumPy imports at first use.
RNG: TypeAlias = (
    "np.random.Generator | np.random.BitGenerator | np.random.SeedSequence | Sequence[int] | NDArray[Any] | int | None"
)


@overload
def lecun_normal(
    shape: Sequence[int], *, gain: float = 1.0, rng: RNG = None, in_axis: Axis = None, out_axis: Axis = None
) -> NDArray[np.float32]: ...
@overload
def lecun_normal(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DType[F],
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
) -> NDArray[F]: ...
@overload
def lecun_normal(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DTypeLike,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
) -> Array: ...
def lecun_normal(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DTypeLike = np.float32,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
) -> Array:
    """LeCun's normal initialisation (LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, section 4.6).

        standard deviation = gain sqrt(1 / fan_in)

    The variance of a linear unit's output is then the mean square of its inputs. The book and the slides call this
    Xavier: the standard deviation 1 / sqrt(n), n being the number of inputs. The slide on LeCun's writes the standard
    deviation sqrt(1 / fan_in) in place of the variance 1 / fan_in.

    Arguments:
        shape: The lengths of two or more axes: two are (inputs, outputs), more are (outputs, inputs, *kernel).
        gain: Multiplies the standard deviation; finite and >= 0.
        dtype: float32 or float64.
        rng: A `numpy.random.Generator`, which advances; a seed or anything else that `numpy.random.default_rng`
            takes; or None, for other weights every time.
        in_axis: The axis of the inputs in another layout, see `fans`; given with out_axis or not at all.
        out_axis: The axis of the outputs in another layout.

    Returns:
        A new array of the shape and type.

    Raises:
        ValueError: The shape has no such axes or a fan of 0, or gain or a seed is out of range.
        TypeError: An argument is not of the type that is named here.
    """
    fan_in, _ = fans(shape, in_axis, out_axis)
    return _normal(shape, 1 / fan_in, gain, dtype, rng)


@overload
def lecun_uniform(
    shape: Sequence[int], *, gain: float = 1.0, rng: RNG = None, in_axis: Axis = None, out_axis: Axis = None
) -> NDArray[np.float32]: ...
@overload
def lecun_uniform(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DType[F],
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
) -> NDArray[F]: ...
@overload
def lecun_uniform(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DTypeLike,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
) -> Array: ...
def lecun_uniform(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DTypeLike = np.float32,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
) -> Array:
    """LeCun's uniform initialisation (LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, section 4.6).

        from -limit to limit,  limit = gain sqrt(3 / fan_in)

    The variance of a linear unit's output is then the mean square of its inputs. The book and the slides call this
    Xavier: the standard deviation 1 / sqrt(n), n being the number of inputs. The slide on LeCun's writes the standard
    deviation sqrt(1 / fan_in) in place of the variance 1 / fan_in.

    Arguments, result and errors are those of `lecun_normal`.
    """
    fan_in, _ = fans(shape, in_axis, out_axis)
    return _uniform(shape, 1 / fan_in, gain, dtype, rng)


@overload
def xavier_normal(
    shape: Sequence[int], *, gain: float = 1.0, rng: RNG = None, in_axis: Axis = None, out_axis: Axis = None
) -> NDArray[np.float32]: ...
@overload
def xavier_normal(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DType[F],
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
) -> NDArray[F]: ...
@overload
def xavier_normal(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DTypeLike,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
) -> Array: ...
def xavier_normal(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DTypeLike = np.float32,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
) -> Array:
    """Xavier Glorot's normal initialisation (Glorot & Bengio 2010).

        standard deviation = gain sqrt(2 / (fan_in + fan_out))

    The variance is the harmonic mean of 1 / fan_in, for activations, and 1 / fan_out, for gradients. The book and the
    slides call the standard deviation 1 / sqrt(n) Xavier, n being the number of inputs: here it is `lecun_normal`.

    Arguments, result and errors are those of `lecun_normal`.
    """
    fan_in, fan_out = fans(shape, in_axis, out_axis)
    return _normal(shape, 2 / (fan_in + fan_out), gain, dtype, rng)


@overload
def xavier_uniform(
    shape: Sequence[int], *, gain: float = 1.0, rng: RNG = None, in_axis: Axis = None, out_axis: Axis = None
) -> NDArray[np.float32]: ...
@overload
def xavier_uniform(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DType[F],
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
) -> NDArray[F]: ...
@overload
def xavier_uniform(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DTypeLike,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
) -> Array: ...
def xavier_uniform(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DTypeLike = np.float32,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
) -> Array:
    """Xavier Glorot's uniform initialisation (Glorot & Bengio 2010).

        from -limit to limit,  limit = gain sqrt(6 / (fan_in + fan_out))

    The variance is the harmonic mean of 1 / fan_in, for activations, and 1 / fan_out, for gradients. The book and the
    slides call the standard deviation 1 / sqrt(n) Xavier, n being the number of inputs: here it is `lecun_uniform`.

    Arguments, result and errors are those of `lecun_normal`.
    """
    fan_in, fan_out = fans(shape, in_axis, out_axis)
    return _uniform(shape, 2 / (fan_in + fan_out), gain, dtype, rng)


@overload
def he_normal(
    shape: Sequence[int],
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
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
) -> Array:
    """Kaiming He's normal initialisation (He et al. 2015, arXiv:1502.01852).

        standard deviation = gain sqrt(2 / fan_in),  or with fan_out in its place

    Half of a ReLU's inputs become 0, so twice LeCun's variance keeps the mean square: of the activations with fan_in,
    of the gradients with fan_out.

    Arguments:
        mode: Which fan: "fan_in" or "fan_out", or ValueError is raised.

    The other arguments, result and errors are those of `lecun_normal`.
    """
    fan = _checked_fan(mode, fans(shape, in_axis, out_axis))
    return _normal(shape, 2 / fan, gain, dtype, rng)


@overload
def he_uniform(
    shape: Sequence[int],
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
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
) -> Array:
    """Kaiming He's uniform initialisation (He et al. 2015, arXiv:1502.01852).

        from -limit to limit,  limit = gain sqrt(6 / fan_in),  or with fan_out in its place

    Half of a ReLU's inputs become 0, so twice LeCun's variance keeps the mean square: of the activations with fan_in,
    of the gradients with fan_out.

    Arguments:
        mode: Which fan: "fan_in" or "fan_out", or ValueError is raised.

    The other arguments, result and errors are those of `lecun_normal`.
    """
    fan = _checked_fan(mode, fans(shape, in_axis, out_axis))
    return _uniform(shape, 2 / fan, gain, dtype, rng)


def _normal(shape: Sequence[int], variance: float, gain: float, dtype: DTypeLike, rng: RNG) -> Array:
    deviation = checked("gain", gain) * math.sqrt(variance)
    dtype, generator = checked_dtype(dtype), _checked_rng(rng)
    _check_size(shape)
    return (deviation * generator.standard_normal(shape)).astype(dtype, copy=False)


def _uniform(shape: Sequence[int], variance: float, gain: float, dtype: DTypeLike, rng: RNG) -> Array:
    limit = checked("gain", gain) * math.sqrt(3 * variance)
    dtype, generator = checked_dtype(dtype), _checked_rng(rng)
    _check_size(shape)
    return (limit * generator.uniform(-1.0, 1.0, shape)).astype(dtype, copy=False)


def _check_size(shape: Sequence[int]) -> None:
    if math.prod(map(int, shape)) >= 2**60:
        raise ValueError(f"shape is {shown(shape)}, expected fewer elements")


def _checked_fan(mode: Any, found: Fans) -> int:
    if not isinstance(mode, str) or mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode is {shown(mode)}, expected 'fan_in' or 'fan_out'")
    return found.fan_in if mode == "fan_in" else found.fan_out


def _checked_rng(value: Any) -> "np.random.Generator":
    expected = "expected a numpy.random.Generator, a seed >= 0 or None"
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError("not a seed")
        return np.random.default_rng(value)
    except Exception as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"rng is {shown(value)}, {expected}") from error
