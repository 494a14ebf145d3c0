"""Properties of updates: whatever the arrays, however they lie, the reference's bits, one key after another."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject

from memory import Memory, View, is_punned, same_bits
from sides import Side, our_step, step_of_the_reference
from strategies import Case, cases, share


def assert_same(ours: Side, theirs: Side) -> None:
    ours.memory.assert_same(theirs.memory, ours.case.written())
    for key, value in theirs.params.items():
        if not isinstance(value, np.ndarray):
            assert type(ours.params[key]) is type(value)
            assert same_bits(np.array(ours.params[key]), np.array(value))
    assert ours.optimizer.iterations == theirs.optimizer.iterations
    assert ours.optimizer.state.keys() == theirs.optimizer.state.keys()
    for key, arrays in theirs.optimizer.state.items():
        assert ours.optimizer.state[key].keys() == arrays.keys()
        for letter, array in arrays.items():
            assert same_bits(ours.optimizer.state[key][letter], array), f"state[{key!r}][{letter!r}]"


def has_nan(memory: Memory, views: list[View]) -> bool:
    return any(bool(np.isnan(memory.array(view)).any()) for view in views)


def assert_refused(side: Side, absent: set[Any]) -> None:
    """That an update with arrays that share memory as they must not is refused, and nothing is written."""
    before, iterations, keys = side.memory.contents(), side.optimizer.iterations, set(side.optimizer.state)
    with pytest.raises(ValueError, match=r"share memory|shares memory"):
        our_step(side, absent)
    assert side.memory.contents() == before
    assert (side.optimizer.iterations, set(side.optimizer.state)) == (iterations, keys)


def assert_updates_have_the_bits_of_the_reference(case: Case) -> None:
    memory = case.memory()
    ours = Side(case, memory, case.recipe.ours())
    theirs = Side(case, memory.copy(), case.recipe.theirs())
    punned = is_punned(case.views())
    for absent in case.absent:
        if case.faults(absent):
            assert_refused(ours, absent)
            return
        subnormal = step_of_the_reference(theirs, absent)
        if punned and has_nan(theirs.memory, case.views()):
            reject()  # which NaN it is decides what another type reads there
        case.process.apply(may_flush=not (case.special or punned or subnormal))
        our_step(ours, absent)
        assert_same(ours, theirs)


@share(1)
@given(cases())
def test_updates_have_the_bits_of_the_reference(case: Case) -> None:
    assert_updates_have_the_bits_of_the_reference(case)


@share(0.3)
@given(cases(long_and_sharing=True))
def test_long_arrays_in_one_another(case: Case) -> None:
    assert_updates_have_the_bits_of_the_reference(case)
