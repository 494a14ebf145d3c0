"""The inputs of batch normalisation that its tests run over, and how far its results may be from the exact ones."""

from collections.abc import Callable
from typing import Any

import numpy as np

import fusedstep as fs

Array = np.ndarray[Any, Any]

# (shape, channel axis): no block full, blocks and groups of rows full and not, more rows than a segment has, more
# columns than a panel has, planes shorter and longer than a lane, a block and a segment, channels that fit no cache.
SHAPES = (
    ((1, 5), 1),
    ((2, 1), 1),
    ((7, 3), 1),
    ((9, 300), 1),
    ((100, 100), -1),
    ((1100, 257), 1),
    ((9001, 6), 1),
    ((200_003, 1), 1),
    ((5,), 0),
    ((3, 4, 5), 1),
    ((2, 3, 7, 7), 1),
    ((30_000, 2, 3), 1),
    ((1, 2, 63, 65), 1),
    ((6, 3, 33, 100), 1),
    ((5, 2, 200_003), 1),
    ((2, 700_003), 0),
    ((4, 10, 11, 6), 3),
    ((3, 40, 50, 129), -1),
)
IDS = [f"{shape}[{axis}]".replace(" ", "") for shape, axis in SHAPES]


def problem(shape: tuple[int, ...], axis: int, dtype: Any, offset: float = 3.0) -> tuple[Array, Array, Array, Array]:
    """x, dout, gamma, beta; the channels have different means and deviations."""
    rng = np.random.default_rng(len(shape))
    channels = np.moveaxis(np.empty(shape), axis, -1).shape[-1:]
    scale, shift = rng.uniform(0.5, 2, channels), rng.uniform(-1, 1, channels) * offset + offset
    x = np.moveaxis(np.moveaxis(rng.standard_normal(shape), axis, -1) * scale + shift, -1, axis)
    dout = rng.standard_normal(shape)
    gamma, beta = rng.standard_normal(channels), rng.standard_normal(channels)
    x, dout = np.ascontiguousarray(x, dtype), np.ascontiguousarray(dout, dtype)
    return x, dout, gamma.astype(dtype), beta.astype(dtype)


def results(x: Array, dout: Array, gamma: Array, beta: Array, axis: int, eps: float = 1e-5) -> dict[str, Array]:
    y, mean, inv_std = fs.batch_norm(x, gamma, beta, eps, axis)
    dx, dgamma, dbeta = fs.batch_norm_backward(dout, x, gamma, mean, inv_std, channel_axis=axis)
    with np.errstate(over="ignore", divide="ignore", under="ignore"):
        var = 1 / inv_std**2
    inference = fs.batch_norm_inference(x, gamma, beta, mean, var, eps=0.0, channel_axis=axis)
    return {"y": y, "mean": mean, "inv_std": inv_std, "dx": dx, "dgamma": dgamma, "dbeta": dbeta, "inf": inference}


def deviations(
    x: Array,
    dout: Array,
    gamma: Array,
    beta: Array,
    axis: int,
    names: str = "",
    eps: float = 1e-5,
    made: Callable[..., dict[str, Array]] = results,
) -> dict[str, float]:
    """Distances from the formulas in long double, in units of eps times what rounding the data alone may change."""
    got = made(x, dout, gamma, beta, axis, eps)
    # A channel is a row: NumPy adds along the last axis in pairs, along others one by one, which costs too much here.
    lx, ldout = (np.moveaxis(a, axis, 0).reshape(len(gamma), -1).astype(np.longdouble) for a in (x, dout))
    n = lx.shape[1]

    def total(a: Array) -> Array:
        return np.asarray(a.sum(axis=1, keepdims=True))

    first = lx[:, :1]  # where all numbers are large, long double has digits enough for their differences only
    mean_difference = total(lx - first) / n
    mean_difference += total((lx - first) - mean_difference) / n  # first may be far from the rest
    mean, centred = first + mean_difference, (lx - first) - mean_difference
    inv_std = 1 / np.sqrt(total(centred * centred) / n + np.longdouble(eps))
    xhat = centred * inv_std
    dbeta, dgamma = total(ldout), total(ldout * xhat)
    g, b = gamma[:, np.newaxis], beta[:, np.newaxis]
    scale = g * inv_std
    # What enters each result, by magnitude: its condition. The mean moves xhat by up to `off` eps: it comes from
    # deviations, and for float64 data backward and inference get it in one part, which is off by its own eps.
    off = 1 + np.abs(mean) * inv_std * (x.dtype == np.float64)
    size = {
        "y": np.abs(g) * (1 + np.abs(xhat)) + np.abs(b),
        "inf": np.abs(g) * (off + np.abs(xhat)) + np.abs(b),
        "mean": np.abs(lx).max(axis=1, keepdims=True),
        "inv_std": inv_std,
        "dx": np.abs(scale)
        * (
            np.abs(ldout)
            + (total(np.abs(ldout)) + np.abs(xhat) * total(np.abs(ldout * xhat))) / n
            + off * (np.abs(dgamma) + np.abs(xhat * dbeta)) / n
        ),
        "dgamma": total(np.abs(ldout * xhat)) + off * np.abs(dbeta),
        "dbeta": total(np.abs(ldout)),
    }
    exact = {
        "y": g * xhat + b,
        "inf": g * xhat + b,
        "mean": mean,
        "inv_std": inv_std,
        "dx": scale * (ldout - (dbeta + xhat * dgamma) / n),
        "dgamma": dgamma,
        "dbeta": dbeta,
    }
    unit, tiny = np.finfo(x.dtype).eps, np.finfo(x.dtype).tiny
    result = {}
    for name in names.split() or exact:
        flat = np.moveaxis(got[name], axis, 0) if got[name].shape == x.shape else got[name]
        error = np.abs(flat.reshape(exact[name].shape) - exact[name]) / np.maximum(size[name], tiny)
        result[name] = float(error.max() / unit)
    return result


# y is made of six roundings of the data's type (the difference, the rest of the mean, two for scale and shift, product,
# sum), each half an eps of its size, dx of nine. In a sum, no more than 64 additions of the data's type follow each
# other: 32 eps where all round one way, as for equal numbers, but sqrt(64) / 2 = 4 in all practice, where they don't.
BOUND = {"y": 3.0, "inf": 3.0, "mean": 1.0, "inv_std": 4.0, "dx": 4.5, "dgamma": 4.0, "dbeta": 4.0}
