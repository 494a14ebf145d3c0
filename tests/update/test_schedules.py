"""Learning-rate schedules: by hand, by other formulas, at their boundaries, as values, and in an optimizer."""

import cmath
import copy
import dataclasses
import math
import pickle
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import KINDS, Row, assert_same_state
from fusedstep.schedules import AverageWarmup, Cosine, Exponential, Joined, LinearWarmup, Polynomial, StepDecay

# No rate of WORKED and no right side of FORMULAS makes more than eight roundings of half an eps each, relative to the
# largest number on the way, which is at most lr or end; an elementary function counts as two.
EPS = float(np.finfo(np.float64).eps)
FAR = 10**15


def inverse(t: int) -> float:
    return 1 / (t + 1)


def text(value: Any) -> str:
    # Without addresses of functions, which differ between processes.
    shown = repr(value) if dataclasses.is_dataclass(value) else getattr(value, "__name__", "")
    return re.sub(" at 0x[0-9a-f]+", "", shown)


WARM = Joined((LinearWarmup(0.4, 4), Cosine(0.4, 4), 0.05), (4, 8))

# A schedule, and the rates by the number of updates.
WORKED: tuple[tuple[Callable[[int], float], dict[int, float]], ...] = (
    (StepDecay(0.1, (30, 60, 90)), {0: 0.1, 29: 0.1, 30: 0.01, 59: 0.01, 60: 1e-3, 89: 1e-3, 90: 1e-4, FAR: 1e-4}),
    (StepDecay(0.8, [1, 2], factor=0.5), {0: 0.8, 1: 0.4, 2: 0.2, FAR: 0.2}),
    (StepDecay(0.3, (5,), factor=0), {4: 0.3, 5: 0.0, FAR: 0.0}),
    (StepDecay(0.3, ()), {0: 0.3, FAR: 0.3}),
    # a quarter in two updates is a half in one
    (Exponential(0.8, 0.25, every=2), {0: 0.8, 1: 0.4, 2: 0.2, 3: 0.1, 4: 0.05, FAR: 0.0}),
    (Exponential(0.8, 0.5), {0: 0.8, 1: 0.4, 3: 0.1}),
    (Exponential(0.8, 0.25, every=0.5), {0: 0.8, 1: 0.05}),
    (Exponential(0.8, 1.0, every=7), {0: 0.8, 3: 0.8, FAR: 0.8}),
    (Exponential(0.8, 0.0), {0: 0.8, 1: 0.0, FAR: 0.0}),
    (Polynomial(1.0, 4), {0: 1.0, 1: 0.75, 2: 0.5, 3: 0.25, 4: 0.0, 5: 0.0, FAR: 0.0}),
    (Polynomial(1.0, 4, end=0.2), {0: 1.0, 1: 0.8, 2: 0.6, 3: 0.4, 4: 0.2, 5: 0.2, FAR: 0.2}),
    (Polynomial(1.6, 4, power=2), {0: 1.6, 1: 0.9, 2: 0.4, 3: 0.1, 4: 0.0}),
    (Polynomial(0.8, 4, power=0.5), {0: 0.8, 3: 0.4, 4: 0.0}),
    (Polynomial(0.0, 2, end=0.5), {0: 0.0, 1: 0.25, 2: 0.5, FAR: 0.5}),
    (Polynomial(0.7, 1), {0: 0.7, 1: 0.0}),
    # cos(pi / 3) = 1/2, cos(pi / 2) = 0, cos(2 pi / 3) = -1/2
    (Cosine(0.8, 6), {0: 0.8, 2: 0.6, 3: 0.4, 4: 0.2, 6: 0.0, 7: 0.0, 12: 0.0, FAR: 0.0}),
    (Cosine(0.9, 6, end=0.1), {0: 0.9, 2: 0.7, 3: 0.5, 4: 0.3, 6: 0.1, 7: 0.1, 12: 0.1, FAR: 0.1}),
    (Cosine(0.7, 1), {0: 0.7, 1: 0.0}),
    (LinearWarmup(0.8, 4), {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8, 4: 0.8, FAR: 0.8}),
    (LinearWarmup(0.8, 1), {0: 0.8, 1: 0.8}),
    # cos(pi / 4) = sqrt(1/2): .2 (1 + sqrt(1/2)) at its first update
    (WARM, {0: 0.1, 3: 0.4, 4: 0.4, 5: 0.2 + 0.1 * math.sqrt(2), 6: 0.2, 8: 0.05, FAR: 0.05}),
    (Joined((0.5, WARM), (3,)), {0: 0.5, 2: 0.5, 3: 0.1, 6: 0.4, 9: 0.2, 11: 0.05}),
    (Joined((inverse, inverse), [2]), {0: 1.0, 1: 0.5, 2: 1.0, 3: 0.5, 5: 0.25}),
    (Joined([0.3], []), {0: 0.3, FAR: 0.3}),
    (AverageWarmup(0.5), {0: 0.1, 2: 0.25, 8: 0.5, 9: 0.5, FAR: 0.5}),
    (AverageWarmup(1), {0: 0.1, 8: 0.5, 80: 0.9, 8990: 0.999}),
)
SCHEDULES = [schedule for schedule, _ in WORKED]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=text)


@pytest.mark.parametrize(("schedule", "rates"), WORKED, ids=text)
def test_by_hand(schedule: Callable[[int], float], rates: dict[int, float]) -> None:
    largest = max(rates.values())
    for t, expected in rates.items():
        assert schedule(t) == pytest.approx(expected, rel=0, abs=4 * EPS * largest), t


# The same in other words, and how much less exact than the eight roundings these are: exp(x) has x roundings more.
FORMULAS: tuple[tuple[Callable[[int], float], Callable[[int], float], float], ...] = (
    (StepDecay(0.3, (7, 100, 250), 0.7), lambda t: 0.3 * math.prod(0.7 for start in (7, 100, 250) if t >= start), 0),
    (Exponential(0.3, 0.9, every=25), lambda t: 0.3 * math.exp(t / 25 * math.log(0.9)), 400 / 25 * -math.log(0.9)),
    (Polynomial(0.3, 300, 0.01), lambda t: float(np.interp(t, (0, 300), (0.3, 0.01))), 0),
    (
        Polynomial(0.3, 300, 0.01, 3),
        lambda t: float(Fraction(0.01) + (Fraction(0.3) - Fraction(0.01)) * Fraction(max(300 - t, 0), 300) ** 3),
        0,
    ),
    # |1 + e^(ix)|^2 / 4 = (1 + cos x) / 2
    (Cosine(0.3, 300, 0.01), lambda t: 0.01 + 0.29 / 4 * abs(1 + cmath.exp(1j * math.pi * min(t, 300) / 300)) ** 2, 0),
    (LinearWarmup(0.3, 300), lambda t: float(Fraction(0.3) * min(t + 1, 300) / 300), 0),
    (
        Joined((LinearWarmup(0.3, 50), StepDecay(0.3, (50, 100))), (50,)),
        lambda t: 0.3 * (t + 1) / 50 if t < 50 else 0.3 if t < 100 else 0.03 if t < 150 else 0.003,
        0,
    ),
)


@pytest.mark.parametrize(("schedule", "formula", "more"), FORMULAS, ids=text)
def test_by_another_formula(schedule: Callable[[int], float], formula: Callable[[int], float], more: float) -> None:
    ts = range(400)
    # half an eps for each of the eight roundings on either side
    tolerance = (8 + more) * EPS * 0.3
    np.testing.assert_allclose([schedule(t) for t in ts], [formula(t) for t in ts], rtol=0, atol=tolerance)


EXACT = (
    (StepDecay(0.3, (10,)), {0: 0.3, 9: 0.3}),
    (Exponential(0.3, 0.7, 3), {0: 0.3}),
    # .001 + (.01 - .001) rounds to another number than .01
    (Polynomial(0.01, 1000, end=0.001, power=0.9), {0: 0.01, 1000: 0.001, FAR: 0.001}),
    (Cosine(0.01, 1000, end=0.001), {0: 0.01, 1000: 0.001, FAR: 0.001}),
    # and .1 * 41 / 41 to another than .1
    (LinearWarmup(0.1, 41), {40: 0.1, 41: 0.1, FAR: 0.1}),
    (Joined((LinearWarmup(0.1, 41), Cosine(0.1, 59)), (41,)), {40: 0.1, 41: 0.1, 100: 0.0, FAR: 0.0}),
)


@pytest.mark.parametrize(("schedule", "rates"), EXACT, ids=text)
def test_ends_and_joins_are_met_to_the_bit(schedule: Callable[[int], float], rates: dict[int, float]) -> None:
    assert {t: schedule(t) for t in rates} == rates


@pytest.mark.parametrize(
    ("schedule", "steps", "direction"),
    [
        (Exponential(0.3, 0.99), 1000, -1),
        (Polynomial(0.3, 1000, 0.01), 1000, -1),
        (Polynomial(0.3, 1000, power=2), 1000, -1),
        (Polynomial(0.3, 1000, power=0.5), 1000, -1),
        (Polynomial(0.01, 1000, 0.3), 1000, 1),
        (Cosine(0.3, 1000), 1000, -1),
        (Cosine(0.3, 1000, 0.01), 1000, -1),
        (Cosine(0.01, 1000, 0.3), 1000, 1),
        (LinearWarmup(0.3, 1000), 999, 1),
    ],
    ids=text,
)
def test_strictly_monotone_until_its_end(schedule: Callable[[int], float], steps: int, direction: int) -> None:
    # The smallest change is the cosine's first, .29 (pi / 1000)^2 / 4 = 7e-7: far above a rounding.
    assert np.all(direction * np.diff([schedule(t) for t in range(steps + 1)]) > 0)


@every_schedule
@pytest.mark.parametrize("number", [int, np.int64, np.uint8], ids=lambda number: number.__name__)
def test_it_returns_a_python_float(schedule: Callable[[int], float], number: Any) -> None:
    for t in (0, 3, 40, 100):
        rate = schedule(number(t))
        assert type(rate) is float
        assert rate == schedule(t)


def test_a_joined_callable_may_return_another_float() -> None:
    rate = Joined((lambda _: np.float32(0.5),), ())(0)  # type: ignore[arg-type, return-value]
    assert type(rate) is float


@every_schedule
@pytest.mark.parametrize("how", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s)), dataclasses.replace])
def test_copies_are_equal(schedule: Any, how: Callable[[Any], Any]) -> None:
    other = how(schedule)
    assert other is not schedule
    assert type(other) is type(schedule)
    assert other == schedule
    assert hash(other) == hash(schedule)
    assert repr(other) == repr(schedule)
    assert [other(t) for t in range(20)] == [schedule(t) for t in range(20)]


def test_schedules_differ() -> None:
    assert len(set(SCHEDULES)) == len(SCHEDULES)
    polynomial: Any = Polynomial(0.1, 10)
    assert polynomial != Cosine(0.1, 10)


def test_equal_values_make_equal_schedules() -> None:
    assert StepDecay(1, [np.int64(3), 5]) == StepDecay(1.0, (3, 5))  # type: ignore[list-item]
    assert Joined([1, WARM], iter([3])) == Joined((1.0, WARM), (3,))  # type: ignore[arg-type]
    assert repr(StepDecay(np.float64(1), [np.int64(3)])) == "StepDecay(lr=1.0, at=(3,), factor=0.1)"  # type: ignore[list-item]
    assert repr(fs.Adam(lr=Cosine(1, 5))).startswith("Adam(lr=Cosine(lr=1.0, steps=5, end=0.0), ")


@every_schedule
def test_the_repr_makes_an_equal_schedule(schedule: Any) -> None:
    if "function" not in repr(schedule):
        assert eval(repr(schedule)) == schedule


@every_schedule
def test_it_cannot_be_changed(schedule: Any) -> None:
    for field in dataclasses.fields(schedule):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(schedule, field.name, 1)


NUMBER = "expected a finite number >= 0$"
POSITIVE = "expected a finite number > 0$"
UNIT = "expected a number from 0 to 1$"
BAD: tuple[tuple[Callable[[], Any], type[Exception], str], ...] = (
    *(
        (lambda make=make: make(-1), ValueError, rf"^lr is -1, {NUMBER}")
        for make in (
            lambda lr: StepDecay(lr, (1,)),
            lambda lr: Exponential(lr, 0.5),
            lambda lr: Polynomial(lr, 5),
            lambda lr: Cosine(lr, 5),
            lambda lr: LinearWarmup(lr, 5),
        )
    ),
    (lambda: AverageWarmup(1.5), ValueError, rf"^decay is 1.5, {UNIT}"),
    *(
        (lambda make=make: make(0), ValueError, r"^steps is 0, expected 1 or more$")
        for make in (
            lambda steps: Polynomial(0.1, steps),
            lambda steps: Cosine(0.1, steps),
            lambda steps: LinearWarmup(0.1, steps),
        )
    ),
    *(
        (lambda make=make: make(2.5), TypeError, r"^steps is 2.5, expected an integer$")
        for make in (
            lambda steps: Polynomial(0.1, steps),
            lambda steps: Cosine(0.1, steps),
            lambda steps: LinearWarmup(0.1, steps),
        )
    ),
    (lambda: Cosine("0.1", 5), TypeError, r"^lr is '0.1', expected a number$"),  # type: ignore[arg-type]
    (lambda: Cosine(math.nan, 5), ValueError, rf"^lr is nan, {NUMBER}"),
    (lambda: Cosine(10**400, 5), ValueError, rf"^lr is 10+, {NUMBER}"),
    (lambda: Cosine(inverse, 5), TypeError, r"^lr is <function inverse at .*>, expected a number$"),  # type: ignore[arg-type]
    (lambda: Cosine(0.1, 5, -0.1), ValueError, rf"^end is -0.1, {NUMBER}"),
    (lambda: Polynomial(0.1, 5, math.inf), ValueError, rf"^end is inf, {NUMBER}"),
    (lambda: Polynomial(0.1, 5, power=0), ValueError, rf"^power is 0, {POSITIVE}"),
    (lambda: Polynomial(0.1, 5, power=-1.0), ValueError, rf"^power is -1.0, {POSITIVE}"),
    (lambda: Polynomial(0.1, 5, power=math.inf), ValueError, rf"^power is inf, {POSITIVE}"),
    (lambda: Polynomial(0.1, 5, power="1"), TypeError, r"^power is '1', expected a number$"),  # type: ignore[arg-type]
    (lambda: Exponential(0.1, 0.5, 0), ValueError, rf"^every is 0, {POSITIVE}"),
    (lambda: Exponential(0.1, 0.5, math.nan), ValueError, rf"^every is nan, {POSITIVE}"),
    (lambda: Exponential(0.1, 0.5, 10**400), ValueError, rf"^every is 10+, {POSITIVE}"),
    (lambda: Exponential(0.1, 1.1), ValueError, rf"^decay_rate is 1.1, {UNIT}"),
    (lambda: Exponential(0.1, -0.5), ValueError, rf"^decay_rate is -0.5, {UNIT}"),
    (lambda: StepDecay(0.1, (3,), 10), ValueError, rf"^factor is 10, {UNIT}"),
    (lambda: StepDecay(0.1, (3,), math.nan), ValueError, rf"^factor is nan, {UNIT}"),
    (lambda: StepDecay(0.1, 30), TypeError, r"^at is 30, expected a sequence of integers$"),  # type: ignore[arg-type]
    (lambda: StepDecay(0.1, (3, 4.5)), TypeError, r"^at\[1\] is 4.5, expected an integer$"),  # type: ignore[arg-type]
    (lambda: StepDecay(0.1, (0, 3)), ValueError, r"^at\[0\] is 0, expected 1 or more$"),
    (lambda: StepDecay(0.1, (3, 3)), ValueError, r"^at is \(3, 3\), expected strictly increasing numbers of updates$"),
    (lambda: StepDecay(0.1, [3, 2]), ValueError, r"^at is \(3, 2\), expected strictly increasing numbers of updates$"),
    (lambda: Joined((0.1, 0.2), ()), ValueError, r"^schedules has length 2, expected 1, one more than at$"),
    (lambda: Joined((), ()), ValueError, r"^schedules has length 0, expected 1, one more than at$"),
    (lambda: Joined((0.1, 0.2, 0.3), (5, 4)), ValueError, r"^at is \(5, 4\), expected strictly increasing"),
    (lambda: Joined((0.1, -0.2), (5,)), ValueError, rf"^schedules\[1\] is -0.2, {NUMBER}"),
    (lambda: Joined((0.1, "0.2"), (5,)), TypeError, r"^schedules\[1\] is '0.2', expected a number$"),  # type: ignore[arg-type]
    (lambda: Joined(0.1, ()), TypeError, r"^schedules is 0.1, expected a sequence of schedules$"),  # type: ignore[arg-type]
)


@pytest.mark.parametrize(("make", "error", "message"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_values(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@every_schedule
def test_bad_counts(schedule: Callable[[Any], float]) -> None:
    with pytest.raises(ValueError, match=r"^t is -1, expected 0 or more$"):
        schedule(-1)
    with pytest.raises(TypeError, match=r"^t is 0.5, expected an integer$"):
        schedule(0.5)


@pytest.mark.parametrize("schedule", [StepDecay(0.1, (2, 4)), Cosine(0.1, 5, end=0.001), WARM], ids=text)
@pytest.mark.parametrize("by_hand", ["optimizer", "reference"])
@pytest.mark.parametrize("row", KINDS)
def test_the_optimizer_steps_as_with_rates_set_by_hand(
    row: Row, by_hand: str, schedule: Callable[[int], float], dtype: Any, rng: np.random.Generator
) -> None:
    scheduled, other = row.optimizer(lr=schedule), getattr(row, by_hand)(lr=0.9)
    w = rng.standard_normal(100).astype(dtype)
    expected = w.copy()
    for t in range(10):
        g = rng.standard_normal(100).astype(dtype)
        other.lr = schedule(t)
        other.update(expected, g)
        scheduled.update(w, g)
        np.testing.assert_array_equal(w, expected)
    assert scheduled.lr is schedule
    assert_same_state(scheduled, other)


def test_two_optimizers_share_a_schedule() -> None:
    schedule = StepDecay(0.5, (1,))
    one, other = fs.SGD(lr=schedule), fs.SGD(lr=schedule)
    w = np.zeros(1)
    for optimizer in (one, one, other):
        optimizer.update(w, np.ones(1))
    np.testing.assert_allclose(w, -(0.5 + 0.05 + 0.5), rtol=4 * EPS)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_an_optimizers_copy_goes_on_with_the_schedule(how: Callable[[Any], Any]) -> None:
    original = fs.Adam(lr=WARM)
    w = np.ones(3)
    for _ in range(5):
        original.update(w, w.copy())
    other, other_w = how(original), w.copy()
    assert other.lr == WARM
    original.update(w, np.ones(3))
    other.update(other_w, np.ones(3))
    np.testing.assert_array_equal(other_w, w)
