"""Batch normalisation: the same bits everywhere, and a stated distance from the exact result."""

import copy
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from batch_norm_cases import BOUND, IDS, SHAPES, Array, deviations, problem, results


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=IDS)
def test_same_bits_everywhere(shape: tuple[int, ...], axis: int, dtype: Any) -> None:
    arrays = problem(shape, axis, dtype)
    before = copy.deepcopy(arrays)
    expected: dict[str, Array] | None = None
    for isa in fs.isas():
        fs.use_isa(isa)
        for threads in (1, 2, 3, 7):
            fs.set_num_threads(threads)
            got = results(*arrays, axis)
            expected = expected or got
            for name, array in got.items():
                np.testing.assert_array_equal(array, expected[name], err_msg=f"{name}, {isa}, {threads}", strict=True)
    np.testing.assert_equal(arrays, before)


@pytest.mark.parametrize(("shape", "axis"), [((4099, 1031), 1), ((3, 7, 459, 461), 1)], ids=["columns", "planes"])
def test_results_written_past_the_caches_have_the_same_bits(
    shape: tuple[int, ...], axis: int, isa: str, dtype: Any, rng: np.random.Generator
) -> None:
    size = int(np.prod(shape))
    assert size * np.dtype(dtype).itemsize > 16 << 20  # the size from which the driver does it
    x, dout = (rng.standard_normal(shape, dtype) for _ in range(2))
    gamma, beta = (rng.standard_normal(shape[axis]) for _ in range(2))
    in_place, dx_in_place = x.copy(), dout.copy()  # these are never written past the caches
    _, mean, inv_std = fs.batch_norm(in_place, gamma, beta, channel_axis=axis, out=in_place)
    fs.batch_norm_backward(dx_in_place, x, gamma, mean, inv_std, axis, out=dx_in_place)
    for begin in (0, 1, 5):
        out = np.full(size + 16, 7, dtype)
        there = out[begin : begin + size].reshape(shape)
        fs.batch_norm(x, gamma, beta, channel_axis=axis, out=there)
        np.testing.assert_array_equal(there, in_place)
        fs.batch_norm_backward(dout, x, gamma, mean, inv_std, axis, out=there)
        np.testing.assert_array_equal(there, dx_in_place)
        assert (out[:begin] == 7).all()
        assert (out[begin + size :] == 7).all()


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=IDS)
def test_distance_from_the_exact_result(shape: tuple[int, ...], axis: int, dtype: Any, isa: str) -> None:
    found = deviations(*problem(shape, axis, dtype), axis)
    assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=IDS)
def test_sums_of_equal_numbers(shape: tuple[int, ...], axis: int, dtype: Any) -> None:
    x, dout, gamma, beta = problem(shape, axis, dtype)
    dout[...] = 1 / (dout.size // len(gamma))
    found = deviations(x, dout, gamma, beta, axis, "dbeta dgamma")
    assert {name: d for name, d in found.items() if d > 32} == {}


@pytest.mark.parametrize(("shape", "axis"), [((144, 8), 1), ((5000, 4), 1), ((8, 3, 40, 50), 1), ((9000, 3, 2), 1)])
def test_large_mean_in_float64_costs_the_forward_pass_no_digits(shape: tuple[int, ...], axis: int, isa: str) -> None:
    x, dout, gamma, beta = problem(shape, axis, np.float64, offset=0.0)
    found = deviations(x + 1e4, dout, gamma, beta, axis, "y mean inv_std")
    assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


@pytest.mark.parametrize(("shape", "axis"), [((64, 5), 1), ((5000, 7), 1), ((8, 3, 40, 50), 1), ((2, 2, 300_000), 1)])
def test_large_mean_in_float32_costs_no_digits(shape: tuple[int, ...], axis: int, isa: str) -> None:
    x, dout, gamma, beta = problem(shape, axis, np.float32, offset=0.0)
    x = (x + np.float32(1e4)).astype(np.float32)
    ratio = np.abs(x.mean(axis=(0, *range(2, x.ndim)), dtype=np.float64)) / x.std(
        axis=(0, *range(2, x.ndim)), dtype=np.float64
    )
    assert ratio.min() > 0.4e4
    found = deviations(x, dout, gamma, beta, axis)
    assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


def test_first_element_far_from_all_others(dtype: Any, isa: str) -> None:
    for shape in ((5000, 3), (4, 3, 2000)):
        x, dout, gamma, beta = problem(shape, 1, dtype)
        x[0, :, ...] = 1e4
        found = deviations(x, dout, gamma, beta, 1)
        assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


def test_blocks_with_different_means(dtype: Any, isa: str) -> None:
    for shape in ((6000, 3), (3, 3, 10_000)):
        x, dout, gamma, beta = problem(shape, 1, dtype)
        x += (
            np.linspace(-1000, 1000, shape[0] * (shape[2] if len(shape) > 2 else 1))
            .astype(dtype)
            .reshape(shape[0], 1, *shape[2:])
        )
        found = deviations(x, dout, gamma, beta, 1)
        assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


@pytest.mark.parametrize(("shape", "axis"), [((5, 3), 1), ((2, 3, 4, 5), 1), ((2, 3, 4), -1), ((1, 2, 3), 1)])
def test_gradient_by_central_differences(shape: tuple[int, ...], axis: int) -> None:
    x, dout, gamma, beta = problem(shape, axis, np.float64, offset=0.5)

    def loss() -> float:
        return float((fs.batch_norm(x, gamma, beta, eps=0.1, channel_axis=axis)[0] * dout).sum())

    _, mean, inv_std = fs.batch_norm(x, gamma, beta, eps=0.1, channel_axis=axis)
    gradients = fs.batch_norm_backward(dout, x, gamma, mean, inv_std, channel_axis=axis)
    # Truncation is of the order of h^2, rounding of eps / h; both are near 1e-10 for this h.
    h = 1e-5
    for array, gradient in zip((x, gamma, beta), gradients, strict=True):
        numeric = np.empty_like(array)
        for index in np.ndindex(array.shape):
            old = array[index]
            array[index] = old + h
            above = loss()
            array[index] = old - h
            numeric[index] = (above - loss()) / (2 * h)
            array[index] = old
        np.testing.assert_allclose(gradient, numeric, rtol=1e-8, atol=1e-8)


def test_constant_channels_are_shift_alone(dtype: Any) -> None:
    for shape in ((3000, 2), (4, 2, 3000)):
        y, mean, inv_std = fs.batch_norm(np.full(shape, 7.25, dtype), [2.0, 3.0], [0.5, -1.5], eps=0.25)
        np.testing.assert_array_equal(mean, 7.25)
        np.testing.assert_array_equal(inv_std, 2.0)
        np.testing.assert_array_equal(y[:, 0], 0.5)
        np.testing.assert_array_equal(y[:, 1], -1.5)
