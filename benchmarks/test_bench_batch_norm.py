"""Batch normalisation beside its NumPy formulas: `pytest benchmarks`."""

from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import reference

SHAPES = {"100x100": ((100, 100), 1), "32x64x28x28": ((32, 64, 28, 28), 1), "32x28x28x64": ((32, 28, 28, 64), -1)}


@pytest.mark.parametrize("library", [reference, fs], ids=["numpy", "fusedstep"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_batch_norm(benchmark: Any, direction: str, shape: str, dtype: Any, library: Any) -> None:
    benchmark.group = f"batch normalisation {direction} {shape} {dtype.__name__}"
    size, axis = SHAPES[shape]
    rng = np.random.default_rng(1)
    x, dout = (rng.standard_normal(size).astype(dtype) for _ in range(2))
    gamma, beta = np.ones(size[axis], dtype), np.zeros(size[axis], dtype)
    _, mean, inv_std = reference.batch_norm(x.astype(np.float64), gamma, beta, channel_axis=axis)
    if direction == "forward":
        result, *_ = benchmark(library.batch_norm, x, gamma, beta, channel_axis=axis)
        expected, *_ = reference.batch_norm(x.astype(np.float64), gamma, beta, channel_axis=axis)
    else:
        result, *_ = benchmark(library.batch_norm_backward, dout, x, gamma, mean, inv_std, channel_axis=axis)
        arguments = (dout.astype(np.float64), x.astype(np.float64), gamma, mean, inv_std)
        expected, *_ = reference.batch_norm_backward(*arguments, channel_axis=axis)
    # NumPy adds the numbers of a channel one after the other where it sums along the first axis.
    tolerance = x.size / size[axis] * np.finfo(dtype).eps
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
