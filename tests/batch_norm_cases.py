"""The inputs of batch normalisation that its tests run over."""

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


def results(x: Array, dout: Array, gamma: Array, beta: Array, axis: int) -> dict[str, Array]:
    y, mean, inv_std = fs.batch_norm(x, gamma, beta, channel_axis=axis)
    dx, dgamma, dbeta = fs.batch_norm_backward(dout, x, gamma, mean, inv_std, channel_axis=axis)
    inference = fs.batch_norm_inference(x, gamma, beta, mean, 1 / inv_std**2, eps=0.0, channel_axis=axis)
    return {"y": y, "mean": mean, "inv_std": inv_std, "dx": dx, "dgamma": dgamma, "dbeta": dbeta, "inf": inference}
