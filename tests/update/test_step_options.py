"""fusedstep.step with the options of a step in all pairs, against the reference with the same state."""

from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ROWS, new_state
from fusedstep import reference
from memory import same_bits
from options import CASES

ml_dtypes = pytest.importorskip("ml_dtypes")
STORAGES = tuple(np.dtype(t) for t in (np.float32, np.float64, ml_dtypes.bfloat16))
SHAPES = [(3, 4), (), (0, 2), (1025,), (40, 50)]
SEED = 2**63 + 5
BY_OPTIMIZER = ("weight_decay", "decoupled", "clip_norm", "clip_value", "maximize", "skip_nonfinite", "rounding")
Array = np.ndarray[Any, np.dtype[Any]]


def now(value: Any, updates: int) -> Any:
    return value(updates) if callable(value) else value


@pytest.mark.parametrize("number", range(len(CASES)))
@pytest.mark.parametrize("storage", STORAGES, ids=str)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.optimizer.__name__)
def test_bits(row: Any, storage: Any, number: int, isa: str, rng: np.random.Generator) -> None:
    case, rule = CASES[number], row.optimizer()._rule
    chosen = {name: case[name] for name in BY_OPTIMIZER}
    theirs = row.reference(lr=case["lr"], average=case["average"], seed=SEED, **chosen)
    params = [np.asarray(rng.standard_normal(shape)).astype(storage) for shape in SHAPES]
    new = [new_state(rule, w, case["average"] is not None) for w in params]
    state = [list(own.values()) for own in new]
    expected = [w.copy() for w in params]
    theirs.state = {i: {name: a.copy() for name, a in own.items()} for i, own in enumerate(new) if own}
    copies = None if case["copies"] is None else [np.zeros(shape, case["copies"]) for shape in SHAPES]
    expected_copies = None if copies is None else [c.copy() for c in copies]
    common = {"scale": case["scale"], "zero_grads": case["zero_grads"]}
    for n in range(3):
        grads = [np.asarray(rng.standard_normal(shape)).astype(storage) for shape in SHAPES]
        norm = case["norm"]
        if case["bad"] is not None and n == (1 if case["skip_nonfinite"] else 2):
            grads[3][1024] = case["bad"]
            norm = None if norm is None else case["bad"]
        expected_grads = [g.copy() for g in grads]
        made, skipped = theirs.iterations, theirs.skipped
        with np.errstate(all="ignore"):
            theirs.update(expected, expected_grads, copies=expected_copies, norm=norm, **common)
        options = chosen | {"lr": now(case["lr"], made), "average": now(case["average"], made), "seed": SEED}
        result = fs.step(rule, params, grads, state, t=made + 1, copies=copies, norm=norm, **options, **common)
        np.testing.assert_equal(result, (theirs.gradient_norm, theirs.skipped > skipped))
        ours = [*params, *grads, *(copies or []), *(a for own in state for a in own)]
        others = [*expected, *expected_grads, *(expected_copies or [])]
        others += [array for own in theirs.state.values() for array in own.values()]
        for a, b in zip(ours, others, strict=True):
            assert same_bits(a, b)


def test_options_may_differ_between_arrays(rng: np.random.Generator) -> None:
    given: dict[str, Any] = {"maximize": [True, False], "clip_value": [None, 0.5], "average": [0.5, 0.9]}
    params = [rng.standard_normal(1000) for _ in range(2)]
    state = [[w.copy()] for w in params]
    grads = [rng.standard_normal(1000) for _ in range(2)]
    expected = [w.copy() for w in params]
    fs.step("sgd", params, grads, state, lr=0.1, **given)
    for i in range(2):
        theirs = reference.SGD(0.1, **{name: values[i] for name, values in given.items()})
        theirs.state[0] = {"average": expected[i].copy()}
        theirs.update(expected[i], grads[i])
        np.testing.assert_array_equal(params[i], expected[i])
        np.testing.assert_array_equal(state[i][0], theirs.state[0]["average"])


def test_a_master_is_the_parameter_and_the_narrow_array_its_copy(isa: str, rng: np.random.Generator) -> None:
    master = rng.standard_normal(5000).astype(np.float32)
    narrow = master.astype(ml_dtypes.bfloat16)
    w, theirs = narrow.copy(), reference.Adam(0.1, master=True)
    theirs.state[0] = {"m": np.zeros(5000, np.float32), "v": np.zeros(5000, np.float32), "master": master.copy()}
    state = [np.zeros(5000, np.float32), np.zeros(5000, np.float32)]
    for t in (1, 2, 3):
        g = rng.standard_normal(5000).astype(ml_dtypes.bfloat16)
        fs.step("adam", master, g, state, t=t, copies=narrow, lr=0.1)
        theirs.update(w, g)
    assert same_bits(narrow, w)
    np.testing.assert_array_equal(master, theirs.state[0]["master"])
