"""Initial weights that keep the variance of the activations, or of the gradients, from layer to layer.

    w = gain sqrt(variance) z            *_normal:  z standard normal
    w = gain sqrt(3 variance) u          *_uniform: u uniform from -1 to 1, whose variance is 1/3

    lecun_*    variance = 1 / fan_in                   for linear units and those like tanh near 0
    xavier_*   variance = 2 / (fan_in + fan_out)       the same, a compromise with the gradients' variance
    he_*       variance = 2 / fan_in or 2 / fan_out    for ReLU, which halves the mean square

The fans are the numbers of inputs of an output and of outputs of an input; `fans` says from which axes they follow,
also in convolutions of several groups. The normal distributions are not truncated. Those of Keras and JAX are, at two
standard deviations: `truncated_normal`. `orthogonal` keeps the norm of each activation, not only the mean.

Numbers are drawn in float64 and rounded to the type asked for, so float32 and float64 start from the same weights up to
rounding. Biases need no initializer: `numpy.zeros`.
"""

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedstep._draws import RNG, Array, Axis, normal, uniform
from fusedstep._fans import Fans, Groups, fans
from fusedstep._he import he_normal, he_uniform
from fusedstep._orthogonal import orthogonal, truncated_normal
from fusedstep._types import DType, F

__all__ = [
    "Fans",
    "fans",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "truncated_normal",
    "xavier_normal",
    "xavier_uniform",
]


@overload
def lecun_normal(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
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
    groups: Groups = 1,
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
    groups: Groups = 1,
) -> Array: ...
def lecun_normal(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DTypeLike = np.float32,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
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
        groups: The groups of a convolution, or "depthwise", see `fans`.

    Returns:
        A new array of the shape and type.

    Raises:
        ValueError: The shape has no such axes or a fan of 0, or gain or a seed is out of range.
        TypeError: An argument is not of the type that is named here.
    """
    fan_in, _ = fans(shape, in_axis, out_axis, groups)
    return normal(shape, 1 / fan_in, gain, dtype, rng)


@overload
def lecun_uniform(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
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
    groups: Groups = 1,
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
    groups: Groups = 1,
) -> Array: ...
def lecun_uniform(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DTypeLike = np.float32,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
) -> Array:
    """LeCun's uniform initialisation (LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, section 4.6).

        from -limit to limit,  limit = gain sqrt(3 / fan_in)

    The variance of a linear unit's output is then the mean square of its inputs. The book and the slides call this
    Xavier: the standard deviation 1 / sqrt(n), n being the number of inputs. The slide on LeCun's writes the standard
    deviation sqrt(1 / fan_in) in place of the variance 1 / fan_in.

    Arguments, result and errors are those of `lecun_normal`.
    """
    fan_in, _ = fans(shape, in_axis, out_axis, groups)
    return uniform(shape, 1 / fan_in, gain, dtype, rng)


@overload
def xavier_normal(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
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
    groups: Groups = 1,
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
    groups: Groups = 1,
) -> Array: ...
def xavier_normal(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DTypeLike = np.float32,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
) -> Array:
    """Xavier Glorot's normal initialisation (Glorot & Bengio 2010).

        standard deviation = gain sqrt(2 / (fan_in + fan_out))

    The variance is the harmonic mean of 1 / fan_in, for activations, and 1 / fan_out, for gradients. The book and the
    slides call the standard deviation 1 / sqrt(n) Xavier, n being the number of inputs: here it is `lecun_normal`.

    Arguments, result and errors are those of `lecun_normal`.
    """
    fan_in, fan_out = fans(shape, in_axis, out_axis, groups)
    return normal(shape, 2 / (fan_in + fan_out), gain, dtype, rng)


@overload
def xavier_uniform(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
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
    groups: Groups = 1,
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
    groups: Groups = 1,
) -> Array: ...
def xavier_uniform(
    shape: Sequence[int],
    *,
    gain: float = 1.0,
    dtype: DTypeLike = np.float32,
    rng: RNG = None,
    in_axis: Axis = None,
    out_axis: Axis = None,
    groups: Groups = 1,
) -> Array:
    """Xavier Glorot's uniform initialisation (Glorot & Bengio 2010).

        from -limit to limit,  limit = gain sqrt(6 / (fan_in + fan_out))

    The variance is the harmonic mean of 1 / fan_in, for activations, and 1 / fan_out, for gradients. The book and the
    slides call the standard deviation 1 / sqrt(n) Xavier, n being the number of inputs: here it is `lecun_uniform`.

    Arguments, result and errors are those of `lecun_normal`.
    """
    fan_in, fan_out = fans(shape, in_axis, out_axis, groups)
    return uniform(shape, 2 / (fan_in + fan_out), gain, dtype, rng)


# Their names are those by which users import them.
for _function in (fans, he_normal, he_uniform, orthogonal, truncated_normal):
    _function.__module__ = __name__
