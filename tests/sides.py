"""The two sides of a property of updates: a case's arrays with our optimizer or the reference's, and a step of each."""

from typing import Any

import numpy as np

from memory import Memory, View
from strategies import Case, container, underflows


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
            scalars = {name: np.array(value) for name, value in case.recipe.row.reference.scalars.items()}
            optimizer.state[key] = {letter: memory.array(view) for letter, view in arrays.items()} | scalars

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
        side.optimizer.update(params, container(case.kind, (), list(grads.values())))
    else:
        side.optimizer.update(params, {"one more": None, **grads})
    for key, before in side.params.items():
        if isinstance(before, np.ndarray):
            assert params[key] is before
        side.params[key] = params[key]
