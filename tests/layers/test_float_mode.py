"""All of a call is made in the kernels' floating-point mode, whatever the caller's mode and the number of threads."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import _native

LIBM = ctypes.CDLL(None) if os.name == "posix" else None
# FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO
MODES: dict[str, tuple[int, ...]] = {"x86_64": (0x400, 0x800, 0xC00), "aarch64": (0x800000, 0x400000, 0xC00000)}
ROUNDINGS = MODES.get(os.uname().machine, ()) if os.name == "posix" else ()
Results = dict[str, Any]


@contextmanager
def rounding(mode: int) -> Iterator[None]:
    assert LIBM is not None
    old = LIBM.fegetround()
    assert LIBM.fesetround(mode) == 0
    try:
        yield
        assert LIBM.fegetround() == mode
    finally:
        LIBM.fesetround(old)


# Channels last and first, with and without segments; one region and two.
@pytest.mark.skipif(not ROUNDINGS, reason="the values of the C library's rounding modes are not known")
@pytest.mark.parametrize("shape", [(30, 70), (300, 700), (5000, 40), (2, 4, 100_000)], ids=str)
def test_layers_ignore_the_callers_rounding(shape: tuple[int, ...], threads: int, dtype: Any) -> None:
    rng = np.random.default_rng(5)
    x, dout = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    channels = shape[1]
    gamma, beta, start = (rng.standard_normal(channels) for _ in range(3))
    var = rng.random(channels)
    before = [start.astype(dtype), var.astype(dtype)]

    def results() -> Results:
        running_mean, running_var = (array.copy() for array in before)
        y, mean, inv_std = _native.batch_norm(x, gamma, beta, 1e-5, 1, None, running_mean, running_var, 0.9, True)
        dx, dgamma, dbeta = fs.batch_norm_backward(dout, x, gamma, mean, inv_std)
        inferred = fs.batch_norm_inference(x, gamma, beta, start, var)
        dropped = {f"dropout {rate}": fs.dropout(x, rate, seed=1) for rate in (0.1, 0.3, 0.7)}
        statistics = {"mean": mean, "inv_std": inv_std, "running mean": running_mean, "running var": running_var}
        return {"y": y, "inference": inferred, "dx": dx, "dgamma": dgamma, "dbeta": dbeta} | statistics | dropped

    expected = results()
    for mode in ROUNDINGS:
        with rounding(mode):
            got = results()
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array, err_msg=f"{name}, {mode:#x}", strict=True)


@pytest.mark.skipif(not ROUNDINGS, reason="the values of the C library's rounding modes are not known")
def test_dropout_scales_as_in_the_usual_rounding(threads: int) -> None:
    rates = np.random.default_rng(2).random(300).tolist()
    expected = [fs.dropout(np.ones(64), rate, seed=1) for rate in rates]
    for mode in ROUNDINGS:
        with rounding(mode):
            got = [fs.dropout(np.ones(64), rate, seed=1) for rate in rates]
        np.testing.assert_array_equal(got, expected)


def test_conversions_of_other_types_ignore_the_callers_rounding() -> None:
    rng = np.random.default_rng(5)
    x, dout = rng.standard_normal((40, 30)).astype(np.float32), rng.standard_normal((40, 30))
    gamma = rng.integers(2**60, 2**62, 30)  # rounded to double

    def results() -> tuple[Any, ...]:
        return *fs.batch_norm(x, gamma, gamma), *fs.batch_norm_backward(dout, x, gamma, np.zeros(30), np.ones(30))

    expected = results()
    for mode in ROUNDINGS:
        with rounding(mode):
            got = results()
        for array, right in zip(got, expected, strict=True):
            np.testing.assert_array_equal(array, right)


def test_a_subnormal_gradient_is_flushed_with_any_number_of_threads(threads: int, isa: str) -> None:
    """Its sums over segments are added up between two regions, and so outside of any task."""
    x = 1e10 * np.random.default_rng(0).standard_normal((2, 4, 100_000))
    x[0, :, 5] = x.mean(axis=(0, 2)) + 1e9
    dout = np.zeros_like(x)
    dout[0, :, 5] = 3e-308
    _, mean, inv_std = fs.batch_norm(x, np.ones(4), np.zeros(4))
    _, dgamma, dbeta = fs.batch_norm_backward(dout, x, np.ones(4), mean, inv_std)
    np.testing.assert_array_equal(dgamma, np.zeros(4))
    np.testing.assert_array_equal(dbeta, np.full(4, 3e-308))
    fs.set_flush_subnormals(False)
    _, dgamma, _ = fs.batch_norm_backward(dout, x, np.ones(4), mean, inv_std)
    assert (dgamma > 1e-309).all()
    assert (dgamma < np.finfo(float).tiny).all()


@pytest.mark.parametrize("flush", [True, False])
def test_subnormal_running_averages(flush: bool, dtype: Any) -> None:
    fs.set_flush_subnormals(flush)
    tiny = np.finfo(dtype).tiny
    mean, var = np.full(3, tiny, dtype), np.ones(3, dtype)
    _native.batch_norm(np.zeros((4, 3), dtype), np.ones(3), np.zeros(3), 1e-5, 1, None, mean, var, 0.5, True)
    np.testing.assert_array_equal(mean, np.full(3, 0 if flush else tiny / 2, dtype))
