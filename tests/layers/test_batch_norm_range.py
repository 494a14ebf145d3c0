"""Batch normalisation of very large, very small and unevenly spread numbers, within the bounds for all others."""

from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from batch_norm_cases import BOUND, Array, deviations, results

wide = pytest.mark.skipif(np.finfo(np.longdouble).maxexp <= 1024, reason="long double has no wider range than double")

EXPONENTS: list[tuple[Any, int]] = [
    *((np.float32, e) for e in (-44, -41, -38, -30, -23, -20, -15, -10, 10, 15, 18, 19, 20, 25, 30, 36, 38)),
    *((np.float64, e) for e in (-320, -308, -300, -200, -170, -155, -150, 150, 153, 155, 200, 250, 300, 307)),
]
SHAPES = [(64, 4), (2, 3), (300, 70), (8, 4, 5, 5), (2, 3, 40, 41)]
GAMMA, BETA = np.array([1.0, -0.5]), np.array([0.25, 2.0])


def scaled(rng: np.random.Generator, shape: tuple[int, ...], exponent: int, dtype: Any) -> Array:
    return (rng.uniform(-1, 1, shape).astype(np.longdouble) * np.longdouble(10) ** exponent).astype(dtype)


def check(x: Array, dout: Array, gamma: Array, beta: Array, eps: float = 1e-5, names: str = "") -> None:
    found = deviations(x, dout, gamma, beta, 1, names, eps)
    assert {name: d for name, d in found.items() if not d <= BOUND[name]} == {}


@wide
@pytest.mark.parametrize("eps", [1e-5, 0.0, "square"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "exponent"), EXPONENTS)
def test_all_magnitudes(dtype: Any, exponent: int, shape: tuple[int, ...], eps: Any, rng: np.random.Generator) -> None:
    fs.set_flush_subnormals(False)
    x = scaled(rng, shape, exponent, dtype)
    eps = 10.0 ** min(2 * exponent, 308) if eps == "square" else eps
    gamma, beta = np.resize(GAMMA, shape[1]), np.resize(BETA, shape[1])
    names = "y mean inv_std dbeta"
    if dtype == np.float64 and exponent < -307:
        # 1 / sqrt(eps) is finite, most other inv_std are not. The kernels round a subnormal mean twice.
        check(x, x, gamma, beta, eps, "y mean" if eps < 1e-300 else "y inv_std dbeta")
        return
    # Gradients whose dx and dgamma can be represented.
    largest = np.finfo(dtype).maxexp * 0.3 - 4
    for shift in (-3, 0, 3):
        dout = scaled(rng, shape, int(np.clip(exponent / 2 + shift, -largest, largest)), dtype)
        check(x, dout, gamma, beta, eps, names + " dx dgamma")


@wide
@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("shape", [(64, 4), (8, 4, 5, 5)], ids=str)
def test_gradients_of_all_magnitudes(shape: tuple[int, ...], flush: bool, dtype: Any, rng: np.random.Generator) -> None:
    fs.set_flush_subnormals(flush)
    top = 38 if dtype == np.float32 else 308
    for power in np.linspace(-0.9, 0.95, 8) * top:
        for other in np.linspace(-0.9, 0.9, 8) * top:
            if not -0.95 * top < other - power < 0.95 * top:
                continue  # dx
            x, dout = scaled(rng, shape, int(power), dtype), scaled(rng, shape, int(other), dtype)
            check(x, dout, np.ones(4), np.zeros(4), 0.0, "dx dgamma dbeta")


def far(kind: str, shape: tuple[int, ...], distance: float, rng: np.random.Generator) -> Array:
    x = rng.standard_normal(shape)
    rows = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    if kind == "ramp":
        return x + rows * (distance / shape[0])
    if kind == "decay":
        return x + distance * np.exp(-rows / 20)
    if kind == "lines":
        x[0, ..., :5, :] += distance
    elif kind == "later":
        x[(shape[0] + 9) // 10 : shape[0] // 3 + 1] += distance
    else:
        x[: int(kind)] += distance
    return x


FAR_ROWS = ("1", "32", "100", "later", "ramp", "decay")
FAR = [
    *((shape, kind) for shape in [(256, 40), (130, 40), (1000, 20), (5000, 6), (70_000, 2)] for kind in FAR_ROWS),
    *((shape, kind) for shape in [(16, 4, 56, 56), (4, 2, 300, 300)] for kind in ("lines", "1", "ramp", "later")),
]


@wide
@pytest.mark.parametrize(("shape", "kind"), FAR, ids=str)
def test_far_beginnings(shape: tuple[int, ...], kind: str, dtype: Any, rng: np.random.Generator) -> None:
    ones, zeros = np.ones(shape[1]), np.zeros(shape[1])
    for distance in (3.0, 30.0, 1e3, 1e6, 1e10):
        x, dout = far(kind, shape, distance, rng).astype(dtype), rng.standard_normal(shape).astype(dtype)
        check(x, dout, ones, zeros)


@pytest.mark.parametrize("shape", [(300, 70), (3000, 5), (6, 5, 400), (2, 3, 100_000)], ids=str)
def test_same_bits_everywhere(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> None:
    """Channels that need care beside others, in place too."""
    x, dout = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    big = np.finfo(dtype).max
    x[:, 0] *= big / 8
    x[:, 1] *= np.finfo(dtype).tiny
    x[: shape[0] // 10 + 1, 2, ...] += 1e7
    channels = shape[1]
    gamma, beta = rng.standard_normal(channels), rng.standard_normal(channels)
    first: dict[str, Array] | None = None
    for isa in fs.isas():
        fs.use_isa(isa)
        for threads in (1, 2, 7):
            fs.set_num_threads(threads)
            got = results(x, dout, gamma, beta, 1)
            first = first or got
            for name, array in got.items():
                np.testing.assert_array_equal(array, first[name], err_msg=name)
            for given, out in ((x.copy(), dout), (x, dout.copy())):
                over = given if given is not x else out
                dx, _, _ = fs.batch_norm_backward(out, given, gamma, got["mean"], got["inv_std"], out=over)
                np.testing.assert_array_equal(dx, got["dx"])
            over = x.copy()
            np.testing.assert_array_equal(fs.batch_norm(over, gamma, beta, out=over)[0], got["y"])


INFERENCE: list[tuple[float, ...]] = [  # gamma, beta, x, mean, var, eps
    (1e-30, 0.0, 1e-10, 0.0, 1e-100, 0.0),
    (1e300, -1.0, 1e-30, 0.0, 1e300, 1e-5),
    (1e30, 0.0, 1e-20, 1e-21, 1e-60, 1e-70),
    (1e-200, 0.0, 1e30, -1e30, 1e-300, 0.0),
    (0.5, 3.0, 3e38, -3e38, 1e76, 0.0),
    (0.5, 3.0, 3e38, -1.6e308, 1e300, 1e305),
    (1.0, 0.0, 1.0, 0.0, 1.7e308, 1.7e308),
    (1.0, 0.0, 1e-40, 0.0, 1e-80, 0.0),
]


@wide
@pytest.mark.parametrize("numbers", INFERENCE, ids=str)
def test_inference_with_coefficients_out_of_range(numbers: tuple[float, ...], dtype: Any) -> None:
    fs.set_flush_subnormals(False)
    gamma, beta, x, mean, var, eps = (np.longdouble(v) for v in numbers)
    x = np.longdouble(dtype(x))
    exact = gamma * (x - mean) / np.sqrt(var + eps) + beta
    given = [np.array([v], float) for v in (gamma, beta, mean, var)]
    y = fs.batch_norm_inference(np.full((2, 1), x, dtype), given[0], given[1], given[2], given[3], float(eps))
    if abs(exact) > np.finfo(dtype).max:
        assert np.isinf(y).all()
    else:
        size = abs(gamma) * (1 + abs((x - mean) / np.sqrt(var + eps))) + abs(beta)
        np.testing.assert_array_less(np.abs(y - exact), 3 * np.finfo(dtype).eps * size + np.finfo(dtype).tiny * 1e-6)


def test_infinity_and_nan_stay_in_their_channels(dtype: Any, rng: np.random.Generator) -> None:
    x, dout = (rng.standard_normal((50, 4)).astype(dtype) for _ in range(2))
    x[3, 1], x[3, 2] = np.inf, np.nan
    got = results(x, dout, np.ones(4), np.zeros(4), 1)
    for name, array in got.items():
        assert np.isnan(array[..., 1:3]).all() or name == "dbeta", name
        assert np.isfinite(array[..., ::3]).all(), name


def test_constant_channels_without_eps_are_not_numbers(dtype: Any) -> None:
    with np.errstate(all="raise"):
        y, mean, inv_std = fs.batch_norm(np.full((40, 2), 0.1, dtype), [1.0, 2.0], [0.0, 0.0], eps=0.0)
    assert np.isnan(y).all()
    np.testing.assert_array_equal(mean, float(dtype(0.1)))
    assert np.isinf(inv_std).all()
