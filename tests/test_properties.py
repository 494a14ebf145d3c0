"""Properties of updates: whatever the arrays, however they lie, the reference's bits, one key after another."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject

from memory import Memory, View, is_punned, same_bits
from strategies import Case, cases, container, share, underflows


class CopiedInTurn:
    """Gradients of which each is copied when it is its key's turn."""

    def __init__(self, grads: dict[Any, Any]) -> None:
        self.grads = grads

    def __getitem__(self, key: Any) -> Any:
        gradient = self.grads[key]
        return gradient.copy() if isinstance(gradient, np.ndarray) else gradient


class Side:
    """A case's arrays and optimizer, ours or the reference's."""

    def __init__(self, case: Case, memory: Memory, optimizer: Any) -> None:
        self.case, self.memory, self.optimizer = case, memory, optimizer
        self.params = {key: self.value(param) for key, param in zip(case.keys, case.params, strict=True)}
        for key, arrays in case.state.items():
            optimizer.state[key] = {letter: memory.array(view) for letter, view in arrays.items()}

    def value(self, given: Any) -> Any:
        return self.memory.array(given) if isinstance(given, View) else given

    def grads(self, absent: set[Any]) -> dict[Any, Any]:
        pairs = zip(self.case.keys, self.case.grads, strict=True)
        grads = {key: None if key in absent else self.value(gradient) for key, gradient in pairs}
        for gradient in grads.values():
            if isinstance(gradient, np.ndarray) and self.case.read_only:
                gradient.flags.writeable = False
        return grads


def step_of_the_reference(side: Side, absent: set[Any]) -> bool:
    """Makes one, and says whether a number became subnormal."""
    with underflows() as seen:
        side.optimizer.update(side.params, CopiedInTurn(side.grads(absent)))
    return bool(seen)


def our_step(side: Side, absent: set[Any]) -> None:
    """Makes one with the container that the case has; the arrays must stay those that were given."""
    case = side.case
    params = container(case.kind, case.keys, list(side.params.values()))
    grads = side.grads(absent)
    if case.kind == "array":
        side.optimizer.update(params, grads[0])
        return
    if case.kind in ("list", "tuple"):
        side.optimizer.update(params, container(case.kind, (), [*grads.values(), "one more"]))
    else:
        side.optimizer.update(params, {"one more": None, **grads})
    for key, before in side.params.items():
        if isinstance(before, np.ndarray):
            assert params[key] is before
        side.params[key] = params[key]


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
