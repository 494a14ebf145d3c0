"""The limit writes to every element that a rule writes to, and leaves every bit as it is."""

import importlib

import numpy as np
import pytest

import fusedstep as fs
from benchmarks import peers
from benchmarks.limit import Limit
from benchmarks.workloads import RULES, Array

SIZES = (0, 1, 7, 64, 1000, 100_003)


def _noise(size: int, dtype: np.dtype) -> Array:
    return np.random.default_rng(size).integers(0, 256, size * dtype.itemsize, np.uint8).view(dtype)


def _integers(array: Array) -> Array:
    return array.view(f"u{array.itemsize}")


@pytest.mark.parametrize("mask", [0, 2**64 - 1])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("states", range(5))
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16"])
def test_limit(name: str, whole: bool, states: int, threads: int, mask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "bfloat16" and (why := peers.missing("ml_dtypes")):
        pytest.skip(why)
    dtype = np.dtype(importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name)
    if whole and states == 0:
        pytest.skip("the average is a state")
    names = tuple("abcd"[: states - whole])
    monkeypatch.setitem(RULES, "rule", names)
    fs.set_num_threads(threads)
    state_type = np.promote_types(dtype, np.float32)
    params, grads = ({n: _noise(n, dtype) for n in SIZES} for _ in range(2))
    state = {n: {key: _noise(n, state_type) for key in (*names, "average")[:states]} for n in SIZES}
    written = {n: [params[n], *state[n].values()] for n in SIZES}
    expected = {
        n: [_integers(a) + (_integers(grads[n]) if mask else 0) for a in arrays] for n, arrays in written.items()
    }
    Limit("rule", state, mask, whole=whole).update(params, grads)
    for n in SIZES:
        for array, integers in zip(written[n], expected[n], strict=True):
            np.testing.assert_array_equal(_integers(array), integers)
        kept = _integers(_noise(n, dtype)) if mask or not whole else np.zeros_like(_integers(grads[n]))
        np.testing.assert_array_equal(_integers(grads[n]), kept)
