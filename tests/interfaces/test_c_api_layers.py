"""Batch normalisation and dropout through the C interface: the bits of Python, errors before anything is written."""

from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from c_interface import CODES, STRUCTS, TYPES, call

OK = (0, -1, None)


def type_of(dtype: Any) -> int:
    return TYPES[np.dtype(dtype).name]


@pytest.mark.parametrize("shape", [(5, 3, 7), (64, 10, 1), (1, 1, 9), (2, 3, 5000), (0, 3, 2), (4, 0, 2)])
@pytest.mark.parametrize("in_place", [False, True])
def test_batch_norm(dtype: Any, shape: tuple[int, int, int], in_place: bool, rng: np.random.Generator) -> None:
    channels = shape[1]
    given, dout = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    gamma, beta, dgamma, dbeta = (rng.standard_normal(channels).astype(dtype) for _ in range(4))
    mean, var, inv_std = (np.full(channels, np.nan) for _ in range(3))
    common: dict[str, Any] = dict(zip(("outer", "channels", "inner"), shape, strict=True)) | {"type": type_of(dtype)}

    x = given.copy()
    y = x if in_place else np.full_like(x, np.nan)
    arrays = {"x": x, "y": y, "gamma": gamma, "beta": beta, "mean": mean, "var": var, "inv_std": inv_std}
    code = call("batch_norm_training", **common, **arrays, eps=1e-3)
    if shape[0] == 0:
        assert code == (CODES["BAD_SIZE"], -1, "outer")
        assert np.isnan(mean).all()
        return
    assert code == OK
    for ours, right in zip((y, mean, inv_std), fs.batch_norm(given, gamma, beta, 1e-3), strict=True):
        np.testing.assert_array_equal(ours, right, strict=True)
    np.testing.assert_allclose(1 / np.sqrt(var + 1e-3), inv_std, rtol=1e-15)  # two roundings

    x = given.copy()
    y = x if in_place else np.full_like(x, np.nan)
    arrays = {"x": x, "y": y, "gamma": gamma, "beta": beta, "mean": mean, "var": var}
    assert call("batch_norm_inference", **common, **arrays, eps=1e-3) == OK
    np.testing.assert_array_equal(y, fs.batch_norm_inference(given, gamma, beta, mean, var, 1e-3), strict=True)

    expected = fs.batch_norm_backward(dout, given, gamma, mean, inv_std)
    dx = dout if in_place else np.full_like(dout, np.nan)
    arrays = {"x": given, "dout": dout, "dx": dx, "gamma": gamma, "mean": mean, "inv_std": inv_std}
    assert call("batch_norm_backward", **common, **arrays, dgamma=dgamma, dbeta=dbeta) == OK
    for ours, right in zip((dx, dgamma, dbeta), expected, strict=True):
        np.testing.assert_array_equal(ours, right, strict=True)


@pytest.mark.parametrize("flush", [True, False])
def test_numbers_of_a_channel_are_flushed_as_in_python(dtype: Any, flush: bool) -> None:
    fs.set_flush_subnormals(flush)
    smallest = np.finfo(dtype).smallest_normal
    # The sum of dout is subnormal, and in float32 becomes so where it is rounded to the type of dbeta.
    x, dout = np.array([[-1], [1]], dtype), np.array([[1.5 * smallest], [-1.25 * smallest]], dtype)
    gamma = np.array([smallest / 4], dtype)
    mean, inv_std = np.zeros(1), np.ones(1)
    dx, dgamma, dbeta = np.full_like(x, np.nan), np.full_like(gamma, np.nan), np.full_like(gamma, np.nan)
    arrays = {"x": x, "dout": dout, "dx": dx, "gamma": gamma, "mean": mean, "inv_std": inv_std}
    shape = {"type": type_of(dtype), "outer": 2, "channels": 1, "inner": 1}
    assert call("batch_norm_backward", **shape, **arrays, dgamma=dgamma, dbeta=dbeta) == OK
    for ours, right in zip((dx, dgamma, dbeta), fs.batch_norm_backward(dout, x, gamma, mean, inv_std), strict=True):
        np.testing.assert_array_equal(ours, right, strict=True)
    assert (dbeta == 0) == flush


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.999, 1 - 2**-53, 2.5 * 2**-32, 1.5 * 2**-32])
def test_dropout(dtype: Any, rate: float) -> None:
    x = np.arange(1, 20_002, dtype=dtype)
    y = np.full_like(x, np.nan)
    common = {"type": type_of(dtype), "n": x.size, "rate": rate, "seed": 2**64 - 3, "call": 5}
    assert call("dropout", **common, x=x, y=y) == OK
    np.testing.assert_array_equal(y, fs.dropout(x, rate, seed=2**64 - 3, call=5))
    assert call("dropout", **common, x=x, y=x) == OK
    np.testing.assert_array_equal(y, x)


# Names stand for places 1000 elements apart in one block; ODD is a misaligned one.
NAMES = ("A", "B", "C", "D", "E", "F", "G", "H")
_SHAPE = {"outer": 2, "channels": 3, "inner": 4}
_FORWARD = _SHAPE | {"eps": 1e-5, "x": "A", "y": "B", "gamma": "C", "beta": "D", "mean": "E", "var": "F"}
_BACKWARD = {"x": "A", "dout": "B", "dx": "C", "gamma": "D", "mean": "E", "inv_std": "F", "dgamma": "G", "dbeta": "H"}
VALID: dict[str, dict[str, Any]] = {
    "batch_norm_training": _FORWARD | {"inv_std": "G"},
    "batch_norm_inference": _FORWARD,
    "batch_norm_backward": _SHAPE | _BACKWARD,
    "dropout": {"n": 8, "x": "A", "y": "B", "rate": 0.5},
}
EMPTY = {"x": None, "y": None}
ERRORS: tuple[tuple[str, dict[str, Any], str, str | None], ...] = (
    *((name, {}, "OK", None) for name in VALID),
    *((name, {"type": 0}, "UNKNOWN_TYPE", "type") for name in VALID),
    *((name, {"type": TYPES["bfloat16"]}, "UNSUPPORTED_TYPE", "type") for name in VALID),
    *((name, {"type": 2**40 + 1}, "UNKNOWN_TYPE", "type") for name in VALID),
    *((name, {"x": None}, "NULL_POINTER", "x") for name in VALID),
    *((name, {"x": "ODD"}, "MISALIGNED", "x") for name in VALID),
    *((name, {"size": 24}, "BAD_STRUCT", "call") for name in VALID),
    *((name, {"size": 4104}, "BAD_STRUCT", "call") for name in VALID),
    ("batch_norm_training", {"var": None}, "NULL_POINTER", "var"),
    ("batch_norm_training", {"eps": np.nan}, "OUT_OF_RANGE", "eps"),
    ("batch_norm_training", {"channels": -3}, "BAD_SIZE", "channels"),
    ("batch_norm_training", {"outer": 2**40, "channels": 2**40}, "BAD_SIZE", "channels"),
    ("batch_norm_training", {"outer": 2**32, "inner": 2**32, "channels": 0}, "BAD_SIZE", "inner"),
    ("batch_norm_training", {"inner": 0}, "BAD_SIZE", "inner"),
    ("batch_norm_training", {"beta": "B"}, "OVERLAP", "y"),
    ("batch_norm_training", {"mean": "F"}, "OVERLAP", "var"),
    ("batch_norm_training", {"outer": 11, "channels": 10, "inner": 10}, "OVERLAP", "y"),
    ("batch_norm_inference", {"var": "B"}, "OVERLAP", "y"),
    ("batch_norm_inference", {"var": None}, "NULL_POINTER", "var"),
    ("batch_norm_inference", {"eps": -1.0}, "OUT_OF_RANGE", "eps"),
    ("batch_norm_inference", {"outer": 0, **EMPTY}, "OK", None),
    ("batch_norm_backward", {"dgamma": "H"}, "OVERLAP", "dbeta"),
    ("batch_norm_backward", {"dgamma": "C"}, "OVERLAP", "dx"),
    ("batch_norm_backward", {"outer": 0}, "BAD_SIZE", "outer"),
    ("dropout", {"rate": 1.0}, "OUT_OF_RANGE", "rate"),
    ("dropout", {"n": 1001}, "OVERLAP", "y"),
    ("dropout", {"n": -1}, "BAD_SIZE", "n"),
    ("dropout", {"n": 2**62}, "BAD_SIZE", "x"),
    ("dropout", {"n": 0, **EMPTY}, "OK", None),
)


@pytest.mark.parametrize(("name", "change", "code", "field"), ERRORS)
def test_errors_come_before_the_first_write(
    name: str, change: dict[str, Any], code: str, field: str | None, dtype: Any
) -> None:
    block = np.arange(8001, dtype=dtype)
    before = block.copy()
    places: dict[Any, int] = {place: block.ctypes.data + 1000 * i * block.itemsize for i, place in enumerate(NAMES)}
    places["ODD"] = places["A"] + 1
    given = {"type": type_of(dtype)} | VALID[name] | change
    given = {key: places[value] if isinstance(value, str) else value for key, value in given.items()}
    assert call(name, **given) == (CODES[code], -1, field)
    if code != "OK":
        np.testing.assert_array_equal(block, before)


def test_every_function_has_errors() -> None:
    functions = {name.removeprefix("fusedstep_") for name in STRUCTS if "batch_norm" in name or "dropout" in name}
    assert functions == VALID.keys()
