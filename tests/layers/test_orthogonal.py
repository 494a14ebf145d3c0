"""Truncated normal and orthogonal weights, and the fans of grouped convolutions, by properties derived here."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

from fusedstep import initializers
from fusedstep.initializers import fans

orthogonal: Any = initializers.orthogonal
truncated_normal: Any = initializers.truncated_normal
EPS = float(np.finfo(np.float64).eps)


# An output of a group sees the inputs of its group, an input reaches its group's outputs: by counting them.
@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((32, 1, 3, 3), {"groups": 32}, (9, 9)),
        ((64, 1, 3, 3), {"groups": 32}, (9, 18)),
        ((64, 8, 3, 5), {"groups": 4}, (120, 240)),
        ((64, 8, 3, 5), {"groups": 1}, (120, 960)),
        ((3, 5, 8, 64), {"groups": 4, "in_axis": -2, "out_axis": -1}, (120, 240)),
        ((3, 3, 1, 32), {"groups": 32, "in_axis": -2, "out_axis": -1}, (9, 9)),
        ((3, 3, 32, 1), {"groups": "depthwise", "in_axis": -2, "out_axis": -1}, (9, 9)),
        ((3, 3, 32, 2), {"groups": "depthwise", "in_axis": 2, "out_axis": 3}, (9, 18)),
        ((6, 4), {"groups": 2}, (6, 2)),
        ((8, 2, 7), {"groups": np.int64(8)}, (14, 7)),
    ],
    ids=str,
)
def test_fans_of_groups(shape: tuple[int, ...], options: dict[str, Any], expected: tuple[int, int]) -> None:
    assert fans(shape, **options) == expected
    for name in initializers.__all__:
        if name.startswith(("he_", "lecun_", "xavier_")):
            fan_in, fan_out = expected
            variance = {"he": 2 / fan_in, "lecun": 1 / fan_in, "xavier": 2 / (fan_in + fan_out)}[name.split("_")[0]]
            function = getattr(initializers, name)
            ratio = function(shape, rng=1, dtype=float, **options) / function(shape, rng=1, dtype=float)
            plain = fans(shape)
            plain_variance = {"h": 2 / plain[0], "l": 1 / plain[0], "x": 2 / sum(plain)}[name[0]]
            np.testing.assert_allclose(ratio, math.sqrt(variance / plain_variance), rtol=8 * EPS)


@pytest.mark.parametrize(
    "groups", [0, -1, 3, 10**400, 2.0, None, "deep", True, [2]], ids=lambda groups: str(groups)[:9]
)
def test_wrong_groups(groups: Any) -> None:
    for call in (fans, initializers.he_uniform):
        with pytest.raises((ValueError, TypeError), match=r"^groups is .*, expected (a divisor of|an integer or)"):
            call((32, 2, 3), groups=groups)


def deviation_of(cut: float) -> float:
    """By Simpson's rule over 10 000 intervals, whose error is below 1e-15 for so smooth a function."""
    z = np.linspace(-cut, cut, 10_001)
    weights = np.exp(-(z**2) / 2) * np.r_[1, np.tile([4, 2], 4999), 4, 1]
    return math.sqrt(float((weights * z**2).sum() / weights.sum()))


# Means over n draws may miss their expectations by 5 standard deviations.
@pytest.mark.parametrize("cut", [1.0, 1.5, 2, 4])
@pytest.mark.parametrize("corrected", [False, True])
def test_moments_of_the_truncated_normal(cut: float, corrected: bool) -> None:
    n, std, d = 1_000_000, 0.05, deviation_of(cut)
    w = truncated_normal((1000, n // 1000), std, cut=cut, corrected=corrected, dtype=np.float64, rng=8)
    z = w / std * (d if corrected else 1)
    assert np.abs(z).max() <= cut * (1 + 8 * EPS)
    assert abs(z.mean()) < 5 * d / math.sqrt(n)
    # z^2 is at most cut^2, so its variance is at most cut^2 d^2.
    assert abs((z**2).mean() - d**2) < 5 * cut * d / math.sqrt(n)
    within = math.erf(0.5 / math.sqrt(2)) / math.erf(cut / math.sqrt(2))
    assert abs((np.abs(z) < 0.5).mean() - within) < 5 * math.sqrt(within * (1 - within) / n)


def test_the_published_correction() -> None:
    plain = truncated_normal((30, 20), 1.0, dtype=float, rng=1)
    corrected = truncated_normal((30, 20), 1.0, corrected=True, dtype=float, rng=1)
    np.testing.assert_allclose(plain / corrected, 0.87962566103423978, rtol=1e-15)


SHAPES = ((1, 1), (5, 5), (40, 7), (7, 40), (64, 3, 3, 3), (3, 64, 2), (1, 9), (9, 1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("gain", [1.0, math.sqrt(2), 0.0])
def test_columns_or_rows_are_orthogonal(shape: tuple[int, ...], gain: float, dtype: Any) -> None:
    w = orthogonal(shape, gain=gain, dtype=dtype, rng=3)
    assert w.shape == shape
    assert w.dtype == dtype
    assert w.flags.c_contiguous
    assert w.flags.owndata or w.base is not None
    q: Any = w.reshape(shape[0], -1).astype(np.float64)
    q = q if q.shape[0] >= q.shape[1] else q.T
    # Householder: Q^T Q is I up to n m eps, times a small constant (Higham 2002, theorem 19.4). A rounding of each
    # element of two unit vectors changes their product by an eps of the type at most.
    bound = gain**2 * (8 * q.shape[0] * q.shape[1] * EPS + 2 * float(np.finfo(dtype).eps))
    assert np.abs(q.T @ q - gain**2 * np.eye(q.shape[1])).max() <= bound


def test_orthogonal_matrices_are_uniform() -> None:
    """Of Haar's orthogonal matrices of n rows: an element has mean 0 and variance 1 / n, the trace mean 0, variance 1.

    The determinants of half of them are -1. LAPACK's Q alone has a trace that is far from 0.
    """
    count, n = 4000, 4
    rng = np.random.default_rng(12)
    q = np.stack([orthogonal((n, n), dtype=float, rng=rng) for _ in range(count)])
    traces = np.trace(q, axis1=1, axis2=2)
    assert abs(traces.mean()) < 5 / math.sqrt(count)
    # The trace squared is at most n^2, its variance at most n^2 times its mean.
    assert abs((traces**2).mean() - 1) < 5 * n / math.sqrt(count)
    assert np.abs(q.mean(axis=0)).max() < 5 / math.sqrt(n * count)
    assert np.abs((q**2).mean(axis=0) - 1 / n).max() < 5 / math.sqrt(n * count)
    assert abs((np.linalg.det(q) > 0).mean() - 0.5) < 5 * 0.5 / math.sqrt(count)


def test_seeds_and_types() -> None:
    for function in (partial(orthogonal, (30, 20)), partial(truncated_normal, (30, 20), 0.1)):
        wide = function(dtype=np.float64, rng=5)
        np.testing.assert_array_equal(function(rng=5), wide.astype(np.float32), strict=True)
        np.testing.assert_array_equal(function(dtype="f8", rng=np.random.default_rng(5)), wide)
        rng = np.random.default_rng(5)
        assert (function(rng=rng) != function(rng=rng)).any()
        assert (function() != function()).any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: truncated_normal((3,), 1.0), ValueError, r"^shape is \(3,\), expected two axes or more$"),
        (lambda: truncated_normal((3, -1), 1.0), ValueError, r"^shape is \(3, -1\), expected lengths >= 0$"),
        (lambda: truncated_normal((3, 2), -1.0), ValueError, r"^std is -1.0, expected a finite number >= 0$"),
        (lambda: truncated_normal((3, 2), "1"), TypeError, r"^std is '1', expected a number$"),
        (lambda: truncated_normal((3, 2), 1.0, cut=0.5), ValueError, r"^cut is 0.5, expected 1 or more$"),
        (
            lambda: truncated_normal((3, 2), 1.0, cut=math.inf),
            ValueError,
            r"^cut is inf, expected a finite number > 0$",
        ),
        (
            lambda: truncated_normal((3, 2), 1.0, corrected="no"),
            TypeError,
            r"^corrected is 'no', expected True or False$",
        ),
        (lambda: truncated_normal((3, 2), 1.0, dtype=int), TypeError, r"^dtype is <class 'int'>, expected float32"),
        (lambda: truncated_normal((3, 2), 1.0, rng=-1), ValueError, r"^rng is -1, expected"),
        (lambda: orthogonal((3, 0)), ValueError, r"^shape is \(3, 0\), expected lengths >= 1$"),
        (lambda: orthogonal((3,)), ValueError, r"^shape is \(3,\), expected two axes or more$"),
        (lambda: orthogonal((3, 2), gain=math.nan), ValueError, r"^gain is nan, expected a finite number >= 0$"),
        (
            lambda: orthogonal((3, 2), dtype=np.float16),
            TypeError,
            r"^dtype is <class 'numpy.float16'>, expected float32",
        ),
        (lambda: orthogonal((3, 2), rng="x"), TypeError, r"^rng is 'x', expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
