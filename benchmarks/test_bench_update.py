"""The updates beside their NumPy formulas: `pytest benchmarks`."""

from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import reference

RULES = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW")
# The shapes of a call's parameters: one small array, one that no cache holds, many small ones, the network of the book.
CALLS: dict[str, list[tuple[int, ...]]] = {
    "1000": [(1000,)],
    "10M": [(10_000_000,)],
    "200x1000": [(1000,)] * 200,
    "784-100x4-10": [s for i, o in ((784, 100), (100, 100), (100, 100), (100, 100), (100, 10)) for s in ((i, o), (o,))],
}


@pytest.mark.parametrize("library", [reference, fs], ids=["numpy", "fusedstep"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("rule", RULES)
def test_update(benchmark: Any, rule: str, call: str, dtype: Any, library: Any) -> None:
    benchmark.group = f"{rule} {call} {dtype.__name__}"
    rng = np.random.default_rng(1)
    params = {i: rng.standard_normal(shape).astype(dtype) for i, shape in enumerate(CALLS[call])}
    grads = {i: rng.standard_normal(shape).astype(dtype) for i, shape in enumerate(CALLS[call])}
    expected = {i: w.copy() for i, w in params.items()}
    optimizer = getattr(library, rule)()
    optimizer.update(params, grads)
    getattr(reference, rule)().update(expected, grads)
    for i, w in params.items():
        np.testing.assert_array_equal(w, expected[i])
    benchmark(optimizer.update, params, grads)
