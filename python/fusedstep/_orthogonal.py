"""Initial weights from a truncated normal distribution, and orthogonal ones."""

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedstep._draws import RNG, Array, check_size, checked_rng
from fusedstep._fans import checked_shape
from fusedstep._limits import checked, checked_dtype, checked_flag, checked_positive, shown
from fusedstep._types import DType, F


@overload
def truncated_normal(
    shape: Sequence[int], std: float, *, cut: float = 2.0, corrected: bool = False, rng: RNG = None
) -> NDArray[np.float32]: ...
@overload
def truncated_normal(
    shape: Sequence[int], std: float, *, cut: float = 2.0, corrected: bool = False, dtype: DType[F], rng: RNG = None
) -> NDArray[F]: ...
@overload
def truncated_normal(
    shape: Sequence[int], std: float, *, cut: float = 2.0, corrected: bool = False, dtype: DTypeLike, rng: RNG = None
) -> Array: ...
def truncated_normal(
    shape: Sequence[int],
    std: float,
    *,
    cut: float = 2.0,
    corrected: bool = False,
    dtype: DTypeLike = np.float32,
    rng: RNG = None,
) -> Array:
    """Weights from a normal distribution without its tails: numbers beyond `cut` deviations are drawn again.

        w = std z            z standard normal, given |z| <= cut
        w = std z / d        corrected, d being the standard deviation of that z: 0.8796256610342398 for cut 2

        d^2 = 1 - cut sqrt(2 / pi) exp(-cut^2 / 2) / erf(cut / sqrt(2))

    The first is Keras' and TensorFlow's TruncatedNormal and JAX's truncated_normal, which cut at 2; the deviation of
    the weights is then d std. The second is the distribution of Keras' and JAX's VarianceScaling, of which he_normal,
    glorot_normal and lecun_normal are cases there: with ``fan_in`` from `fans`, Keras' he_normal is
    ``truncated_normal(shape, math.sqrt(2 / fan_in), corrected=True)``. PyTorch's ``trunc_normal_`` has bounds a and b
    that don't scale with std: for -a = b they are cut = b / std.

    Arguments:
        shape: The lengths of two or more axes.
        std: The standard deviation before the cut, or after it if corrected; finite and >= 0.
        cut: The number of deviations, 1 or more.
        corrected: Whether the weights, cut, have the standard deviation std.
        dtype: float32 or float64.
        rng: As for `lecun_normal`.

    Returns:
        A new array of the shape and type. A number is rounded to float32 after the cut.

    Raises:
        ValueError: A length is negative, or std, cut or a seed is out of range.
        TypeError: An argument is not of the type that is named here.
    """
    lengths, deviation, limit = checked_shape(shape), checked("gain", std, "std"), checked_positive("cut", cut)
    if limit < 1:
        raise ValueError(f"cut is {shown(cut)}, expected 1 or more")
    if checked_flag("corrected", corrected):
        tails = limit * math.sqrt(2 / math.pi) * math.exp(-(limit**2) / 2) / math.erf(limit / math.sqrt(2))
        deviation /= math.sqrt(1 - tails)
    kind, generator = checked_dtype(dtype), checked_rng(rng)
    check_size(lengths)
    z = generator.standard_normal(lengths)
    flat = z.reshape(-1)
    beyond = np.flatnonzero(np.abs(flat) > limit)
    while beyond.size:
        flat[beyond] = generator.standard_normal(beyond.size)
        beyond = beyond[np.abs(flat[beyond]) > limit]
    z *= deviation
    return z.astype(kind, copy=False)


@overload
def orthogonal(shape: Sequence[int], *, gain: float = 1.0, rng: RNG = None) -> NDArray[np.float32]: ...
@overload
def orthogonal(shape: Sequence[int], *, gain: float = 1.0, dtype: DType[F], rng: RNG = None) -> NDArray[F]: ...
@overload
def orthogonal(shape: Sequence[int], *, gain: float = 1.0, dtype: DTypeLike, rng: RNG = None) -> Array: ...
def orthogonal(shape: Sequence[int], *, gain: float = 1.0, dtype: DTypeLike = np.float32, rng: RNG = None) -> Array:
    """Orthogonal weights (Saxe, McClelland & Ganguli 2014, arXiv:1312.6120), which keep the norm of what they multiply.

    The matrix of the first axis by all others has orthogonal columns of norm `gain`, or rows if it has fewer of them:
    gain Q of the QR decomposition of standard normal numbers, the columns of Q multiplied by the signs of R's diagonal.
    So Q is uniformly distributed over all such matrices (Haar's measure), which LAPACK's Q alone is not.

    More than two axes are flattened as by PyTorch's ``orthogonal_``: (outputs, inputs, *kernel) is a matrix of the
    outputs by the rest. For Keras' (*kernel, inputs, outputs), move the axis:
    ``np.moveaxis(orthogonal((n_out, n_in, 3, 3)), (2, 3, 1, 0), (0, 1, 2, 3))``.

    Arguments:
        shape: The lengths of two or more axes, all 1 or more.
        gain: The norm of the columns or rows; finite and >= 0.
        dtype: float32 or float64. The decomposition is one of float64.
        rng: As for `lecun_normal`. The last bits depend on the LAPACK that NumPy has.

    Returns:
        A new array of the shape and type, in order of rows.

    Raises:
        ValueError: A length is below 1, or gain or a seed is out of range.
        TypeError: An argument is not of the type that is named here.
    """
    lengths, norm = checked_shape(shape), checked("gain", gain)
    if min(lengths) == 0:
        raise ValueError(f"shape is {lengths}, expected lengths >= 1")
    kind, generator = checked_dtype(dtype), checked_rng(rng)
    check_size(lengths)
    rows, columns = lengths[0], math.prod(lengths[1:])
    numbers: Any = generator.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(numbers)
    q *= np.where(np.diagonal(r) < 0, -norm, norm)
    return np.ascontiguousarray(q if rows >= columns else q.T, kind).reshape(lengths)
