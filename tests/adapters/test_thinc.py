"""fusedstep.thinc beside thinc's own optimizers: numbers, state, schedules, and its tests with ours in place."""

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest

original = pytest.importorskip("thinc.optimizers", reason="compares with thinc where that is installed")

from thinc.api import registry  # noqa: E402

from fusedstep import thinc as ours  # noqa: E402

HAS_SCHEDULES = hasattr(original.Optimizer, "last_score")  # thinc 9
STEPS = 60
SHAPES = [(64, 10), (10,), (3, 4, 5), (1,), (1100, 3)]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"L2": 0.1},
    {"L2": 0.1, "L2_is_weight_decay": False},
    {"L2": 0.1, "L2_is_weight_decay": False, "grad_clip": 0.0},
    {"L2": 2.0, "grad_clip": 0.3, "use_averages": False},
    {"grad_clip": 1e6},
    {"grad_clip": 0, "L2": 1},
]
OF_MOMENTS: list[dict[str, Any]] = [{"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}]
CASES = [
    (name, options)
    for name, more in (("Adam", [*OF_MOMENTS, {"beta1": 0.0}, {"beta2": 0.0}]), ("RAdam", OF_MOMENTS), ("SGD", []))
    for options in (*OPTIONS, *more)
    if options != {"beta1": 0.0}  # with beta2 thinc has no rule
]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each step was ours, in their order."""
    results: list[bool] = []
    stepped = ours.Optimizer._stepped

    def recorded(*given: Any) -> bool:
        results.append(stepped(*given))
        return results[-1]

    monkeypatch.setattr(ours.Optimizer, "_stepped", recorded)
    return results


def make(module: Any, name: str, options: dict[str, Any], lr: Any = 0.01) -> Any:
    return getattr(module, name)(lr, **options)


def gradients(rng: Any, steps: int) -> Iterator[dict[str, Any]]:
    """Of sizes from 0.001 to 1, so that some are clipped; some arrays are left out now and then."""
    for t in range(steps):
        size = 10.0 ** rng.integers(-3, 1)
        yield {
            str(shape): (size * rng.standard_normal(shape)).astype(np.float32)
            for i, shape in enumerate(SHAPES)
            if (t + i) % 5
        }


def drawn(rng: Any) -> dict[str, Any]:
    return {str(shape): rng.standard_normal(shape).astype(np.float32) for shape in SHAPES}


def step(optimizer: Any, weights: dict[str, Any], grads: dict[str, Any], **options: Any) -> None:
    for key, g in grads.items():
        w, returned = optimizer((7, key), weights[key], g.copy(), **options)
        assert returned.shape == g.shape
        assert not returned.any()
        assert np.shares_memory(w, weights[key])
        assert w.shape == weights[key].shape


def assert_close(own: Any, expected: Any, units: float) -> None:
    """Within units in the last place of the largest number of an array."""
    atol = units * np.spacing(np.abs(expected).max(initial=np.float32(1e-30)))
    np.testing.assert_allclose(own, expected, rtol=0, atol=atol)


def assert_same(optimizer: Any, other: Any, weights: dict[str, Any], expected: dict[str, Any], steps: int) -> None:
    # A step rounds a weight and a moment once or twice by half a unit, on either side.
    for key in weights:
        assert_close(weights[key], expected[key], steps)
    assert optimizer.nr_update == other.nr_update
    for name in ("mom1", "mom2", "averages"):
        arrays, right = getattr(optimizer, name), getattr(other, name)
        if right is None:
            assert arrays is None
            continue
        assert list(arrays) == list(right)
        for key in right:
            assert (arrays[key].shape, arrays[key].dtype) == (right[key].shape, right[key].dtype)
            assert_close(arrays[key], right[key], steps)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_numbers(name: str, options: dict[str, Any], isa: str, rng: Any, made: list[bool]) -> None:
    weights = drawn(rng)
    expected = copy.deepcopy(weights)
    optimizer, other = make(ours, name, options), make(original, name, options)
    for t, grads in enumerate(gradients(rng, STEPS)):
        for each, arrays in ((optimizer, weights), (other, expected)):
            step(each, arrays, grads, **({"lr_scale": 0.5} if t % 3 else {}))
            each.step_schedules()
    assert_same(optimizer, other, weights, expected, STEPS)
    assert made == [True] * len(made)
    assert len(made) > 200


def test_betas_are_rounded_to_float32(rng: Any) -> None:
    """thinc rounds the betas of the moments, but not of the correction; else 200 steps would differ by 30 units."""
    weights = {"W": rng.standard_normal((50, 40)).astype(np.float32)}
    expected = copy.deepcopy(weights)
    optimizer, other = ours.Adam(0.01), original.Adam(0.01)
    for _ in range(200):
        grads = {"W": np.abs(rng.standard_normal((50, 40))).astype(np.float32)}
        step(optimizer, weights, grads)
        step(other, expected, grads)
    assert_close(weights["W"], expected["W"], 8)


@pytest.mark.parametrize("lr", [[0.1, 0.01, 0.001], (value / 10 for value in (3, 2, 1))], ids=["list", "generator"])
def test_schedules_of_lists_and_generators(lr: Any, rng: Any) -> None:
    values = list(lr)
    weights = drawn(rng)
    expected = copy.deepcopy(weights)
    optimizer, other = (make(module, "Adam", {"L2": iter_of(values)}, iter_of(values)) for module in (ours, original))
    for grads in gradients(rng, 6):
        for each, arrays in ((optimizer, weights), (other, expected)):
            step(each, arrays, grads)
            each.step_schedules()
    assert_same(optimizer, other, weights, expected, 6)


def iter_of(values: list[float]) -> Iterator[float]:
    yield from values


@pytest.mark.skipif(not HAS_SCHEDULES, reason="thinc 8 has schedules that are generators")
def test_schedules_by_key_and_score(rng: Any) -> None:
    from thinc.schedules import Schedule

    def rate(schedule: Any, step: int, *, key: Any = None, last_score: Any = None) -> float:
        return 0.1 / (1 + step) / len(key[1]) * (last_score[1] if last_score else 1)

    weights = drawn(rng)
    expected = copy.deepcopy(weights)
    optimizer, other = (make(module, "Adam", {}, Schedule("rate", rate)) for module in (ours, original))
    for t, grads in enumerate(gradients(rng, 6)):
        for each, arrays in ((optimizer, weights), (other, expected)):
            step(each, arrays, grads)
            each.step_schedules()
            if t == 3:
                each.last_score = 0.5
    assert_same(optimizer, other, weights, expected, 6)


@pytest.mark.parametrize("name", ["Adam", "RAdam", "SGD"])
def test_training_continues_with_the_other(name: str, rng: Any) -> None:
    """From the same state, which is in the same attributes."""
    weights = drawn(rng)
    expected = copy.deepcopy(weights)
    optimizer, other = make(ours, name, {}), make(original, name, {})
    for t, grads in enumerate(gradients(rng, 20)):
        if t == 10:
            by_thinc = make(original, name, {})
            for slot in ("mom1", "mom2", "averages", "nr_update"):
                setattr(by_thinc, slot, getattr(optimizer, slot))
            optimizer = by_thinc
        if t == 15:
            optimizer = pickle.loads(pickle.dumps(optimizer))
            optimizer.__class__ = ours.Optimizer
            optimizer = copy.deepcopy(pickle.loads(pickle.dumps(optimizer)))
        step(optimizer, weights, grads)
        step(other, expected, grads)
    assert type(optimizer) is ours.Optimizer
    assert_same(optimizer, other, weights, expected, 20)


def as_double(w: Any) -> Any:
    return w.astype(np.float64)


def read_only(w: Any) -> Any:
    w.flags.writeable = False
    return w


def transposed(w: Any) -> Any:
    return np.asfortranarray(w)


def outcome(optimizer: Any, w: Any, g: Any) -> Any:
    """What a call gives: arrays, or the type of the error."""
    try:
        return [np.array(array) for array in optimizer((0, "W"), w, g)]
    except Exception as error:
        return type(error)


@pytest.mark.parametrize(
    "of_weights", [None, as_double, read_only, transposed], ids=lambda f: getattr(f, "__name__", "")
)
@pytest.mark.parametrize(
    "of_gradient", [None, as_double, read_only, transposed], ids=lambda f: getattr(f, "__name__", "")
)
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_other_arrays_are_left_to_thinc(
    of_weights: Any, of_gradient: Any, name: str, rng: Any, made: list[bool]
) -> None:
    w, g = (rng.standard_normal((5, 4)).astype(np.float32) for _ in range(2))
    results = []
    for module in (ours, original):
        given = [(change or np.copy)(array.copy()) for change, array in ((of_weights, w), (of_gradient, g))]
        results.append(outcome(make(module, name, {"use_averages": False}), *given))
    if isinstance(results[1], type):
        assert results[0] is results[1]
    else:
        for own, expected in zip(*results, strict=True):
            assert own.dtype == expected.dtype
            np.testing.assert_allclose(own, expected, rtol=1e-6, atol=1e-6)
    assert made == ([True] if of_weights is of_gradient is None else [])


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_empty_gradients(shape: Any, made: list[bool]) -> None:
    """thinc returns at once where the first axis is empty, also for weights of another shape."""
    results = []
    for module in (ours, original):
        optimizer = make(module, "SGD", {})
        w = np.ones((1, 2) if shape[0] == 0 else shape, np.float32)
        result = outcome(optimizer, w, np.zeros(shape, np.float32))
        shapes = result if isinstance(result, type) else [array.shape for array in result]
        results.append((shapes, w.tolist(), dict(optimizer.nr_update)))
    assert results[0] == results[1]
    assert made == []


@pytest.mark.parametrize(
    "options",
    [{"beta1": 0.0}, {"lr": -0.1}, {"eps": -1.0}, {"beta1": 1.0}, {"beta2": 1.5}, {"L2": -0.1}, {"grad_clip": -1.0}],
    ids=str,
)
def test_numbers_out_of_range_are_left_to_thinc(options: dict[str, Any], rng: Any, made: list[bool]) -> None:
    w, g = (rng.standard_normal((5, 4)).astype(np.float32) for _ in range(2))
    with np.errstate(all="ignore"):
        own, expected = (
            outcome(
                make(module, "Adam", {key: v for key, v in options.items() if key != "lr"}, options.get("lr", 0.1)),
                w.copy(),
                g.copy(),
            )
            for module in (ours, original)
        )
    if isinstance(expected, type):
        assert own is expected
    else:
        np.testing.assert_array_equal(own[0], expected[0])
    assert made == [False]


def test_what_a_step_of_ours_refuses_is_thincs_error(made: list[bool]) -> None:
    results = []
    for module in (ours, original):
        optimizer = make(module, "Adam", {})
        w = np.ones(4, np.float32)
        optimizer((0, "W"), w, np.ones(4, np.float32))
        optimizer.mom1[0, "W"] = np.zeros(3, np.float32)
        before = w.copy()
        results.append((outcome(optimizer, w, np.ones(4, np.float32)), dict(optimizer.nr_update)))
        np.testing.assert_array_equal(w, before)
    assert results[0] == results[1]
    assert isinstance(results[0][0], type)
    assert made == [True, False]


@pytest.mark.parametrize("name", ["Adam", "RAdam", "SGD"])
def test_arrays_that_were_pickled_are_stepped(name: str, made: list[bool]) -> None:
    optimizer, w = make(ours, name, {}), np.ones(4, np.float32)
    optimizer((0, "W"), w, np.ones(4, np.float32))
    optimizer, w = pickle.loads(pickle.dumps((optimizer, w)))
    optimizer((0, "W"), w, np.ones(4, np.float32))
    assert made == [True, True]


def test_an_average_of_another_shape_is_left_to_thinc(made: list[bool]) -> None:
    optimizer = make(ours, "SGD", {})
    optimizer.averages[0, "W"] = np.zeros(6, np.float32)
    with pytest.raises(ValueError, match="broadcast"):
        optimizer((0, "W"), np.ones((2, 3), np.float32), np.ones((2, 3), np.float32))
    assert made == [False]


def test_nonfinite_gradients_are_not_clipped(made: list[bool]) -> None:
    for value in (np.nan, np.inf):
        results = []
        for module in (ours, original):
            w, g = np.ones(3, np.float32), np.array([1, value, 1], np.float32)
            with np.errstate(all="ignore"):
                make(module, "SGD", {})((0, "W"), w, g)
            results.append(w)
        np.testing.assert_array_equal(results[0], results[1])
    assert made == [True, True]


def test_registry_and_signatures() -> None:
    for name in ("Adam", "RAdam", "SGD"):
        resolved = registry.resolve({"made": {"@optimizers": f"fusedstep.{name}.v1", "learn_rate": 0.5}})["made"]
        assert type(resolved) is ours.Optimizer
        assert isinstance(resolved, original.Optimizer)
        assert signature(getattr(ours, name)) == signature(getattr(original, name))
        expected = registry.resolve({"made": {"@optimizers": f"{name}.v1", "learn_rate": 0.5}})["made"]
        for slot in ("use_radam", "L2_is_weight_decay", "averages", "mom1"):
            assert getattr(resolved, slot) == getattr(expected, slot)
        with pytest.raises(Exception, match="learn_rat"):
            registry.resolve({"made": {"@optimizers": f"fusedstep.{name}.v1", "learn_rat": 0.5}})
        with pytest.raises(AttributeError):
            resolved.something = 1


def test_thincs_own_tests_pass_with_ours_in_place() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "thinc_in_place", "-p", "no:cacheprovider", "-c", os.devnull]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    done = subprocess.run(
        [*command, "-q", "-W", "ignore", "--pyargs", "thinc.tests.test_optimizers"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fusedstep made 2 steps, and left 0 to thinc" in done.stdout
