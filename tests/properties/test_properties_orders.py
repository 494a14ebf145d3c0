"""Properties of orders of calls: keys that come and go, arrays rebound, copies made in between, options changed."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fusedstep import book
from memory import Array, Memory, View, numbers, same_bits
from sides import CopiedInTurn
from strategies import SEEDS, Recipe, container, draw_each, draw_process, draw_recipe, share, underflows, values_of

TYPES = ("f4", "f8")
ELEMENTS = 100
KEYS = (0, 1, 2, 3)
SHAPES = ((3,), (), (2, 3), (8,), (0,), (17,), (2, 2, 2))
STEPS = (1, 2, -1, 3)


def loaded(optimizer: Any) -> Any:
    """Another optimizer that has taken over a snapshot, which does without a schedule and the book's order."""
    other = type(optimizer)(**({"legacy": True} if hasattr(optimizer, "legacy") else {}))
    other.update([np.ones(2)], [np.ones(2)])
    other.lr = optimizer.lr
    other.load_state_dict(optimizer.state_dict())
    return other


COPIES: dict[str, Any] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
    "state_dict": loaded,
}


def share_memory(arrays: list[Array]) -> bool:
    """Whether any two of these share an element, or an array shares it with itself."""
    places = [a.ctypes.data + View(0, 0, a.dtype.str, a.shape, a.strides).places() for a in arrays]
    together = np.concatenate(places)
    return len(set(together.tolist())) < len(together)


class Training(RuleBasedStateMachine):
    """Everything that is not the optimizer's own lies in two buffers, one for each type, and so often overlaps."""

    recipe: Recipe

    @initialize(data=st.data(), seed=SEEDS)
    def begin(self, data: st.DataObject, seed: int) -> None:
        (self.special,) = draw_each(data.draw, (False, True))
        self.recipe = draw_recipe(data.draw, self.special)
        self.ours, self.theirs = self.recipe.ours(), self.recipe.theirs()
        self.buffers = [View(i, 0, t, (ELEMENTS,), (np.dtype(t).itemsize,)) for i, t in enumerate(TYPES)]
        rng = np.random.default_rng(seed)
        self.memory = Memory(self.buffers, rng)
        with np.errstate(all="ignore"):
            for view in self.buffers:
                self.memory.array(view)[...] = numbers(rng, view.shape, view.dtype, self.special)
        self.expected = self.memory.copy()
        self.params: dict[int, View] = {}

    def view(self, data: st.DataObject, shape: tuple[int, ...] | None = None, dtype: str = "") -> View:
        """An array in one of the buffers, in order of rows or columns, with steps or turned."""
        any_shape, any_type, step, at, by_columns = draw_each(
            data.draw, SHAPES, TYPES, STEPS, range(ELEMENTS), (False, True)
        )
        shape, dtype = any_shape if shape is None else shape, dtype or any_type
        item = np.dtype(dtype).itemsize
        faster = [shape[:d] if by_columns else shape[d + 1 :] for d in range(len(shape))]
        strides = tuple(item * step * math.prod(lengths) for lengths in faster)
        low, high = View(0, 0, dtype, shape, strides).span()
        places = ELEMENTS - (high - low) // item + 1
        return View(TYPES.index(dtype), -low + item * (at % places), dtype, shape, strides)

    @rule(data=st.data(), key=st.sampled_from(KEYS))
    def bind(self, data: st.DataObject, key: int) -> None:
        """Another array takes the place of a parameter's, or it is a new one."""
        old, (alike,) = self.params.get(key), draw_each(data.draw, (True, True, True, False))
        self.params[key] = self.view(data, old.shape, old.dtype) if old and alike else self.view(data)

    @rule(data=st.data(), key=st.sampled_from(KEYS))
    def give_state(self, data: st.DataObject, key: int) -> None:
        for letter, array in self.arrays(key).items():
            view = self.view(data, array.shape, array.dtype.str[1:])
            self.ours.state[key][letter] = self.memory.array(view)
            self.theirs.state[key][letter] = self.expected.array(view)

    def arrays(self, key: int) -> dict[str, Any]:
        """A parameter's state without the numbers beside it."""
        return {name: a for name, a in self.theirs.state.get(key, {}).items() if name not in self.theirs.scalars}

    def fits(self, key: int) -> bool:
        """Whether a parameter and its state are what an update needs."""
        param = self.expected.array(self.params[key])
        state = self.arrays(key)
        shapes = {name: self.theirs.state_shape(name, param.shape) for name in state}
        fit = all(a.shape == shapes[name] and a.dtype == param.dtype for name, a in state.items())
        return fit and not share_memory([param, *state.values()])

    @rule(data=st.data(), kind=st.sampled_from(("dict", "list", "tuple")), skipped=st.sampled_from((None, *KEYS)))
    def update(self, data: st.DataObject, kind: str, skipped: int | None) -> None:
        keys = list(self.params)
        grads = {key: self.view(data, self.params[key].shape) for key in keys if key != skipped}
        given = keys if kind == "dict" else KEYS  # the index is the key, and the length stays
        keys = [key for key in given if key in self.params]
        ours: list[Any] = [self.memory.array(grads[key]) if key in grads else None for key in given]
        params = [self.memory.array(self.params[key]) if key in self.params else np.empty(0) for key in given]
        params = container(kind, given, params)
        process = draw_process(data.draw)
        if not all(self.fits(key) for key in grads):
            process.apply(may_flush=False)
            with pytest.raises(ValueError, match=r"^state|shares memory"):
                self.ours.update(params, container(kind, given, ours))
            return
        theirs = {key: self.expected.array(grads[key]) if key in grads else None for key in keys}
        with underflows() as seen:
            self.theirs.update({key: self.expected.array(self.params[key]) for key in keys}, CopiedInTurn(theirs))
        process.apply(may_flush=not (self.special or seen))
        self.ours.update(params, container(kind, given, ours))

    @rule(how=st.sampled_from(sorted(COPIES)))
    def go_on_with_a_copy(self, how: str) -> None:
        self.ours = COPIES[how](self.ours)
        state = self.theirs.state
        self.theirs.state = {key: {x: a.copy() for x, a in arrays.items()} for key, arrays in state.items()}

    @rule(key=st.sampled_from(KEYS))
    def forget(self, key: int) -> None:
        self.params.pop(key, None)
        for optimizer in (self.ours, self.theirs):
            optimizer.state.pop(key, None)

    @rule(data=st.data())
    def change_an_option(self, data: st.DataObject) -> None:
        (name,) = draw_each(data.draw, tuple(self.recipe.options))
        (value,) = draw_each(data.draw, values_of(name, self.special))
        if name in self.ours._choose_rule and self.theirs.state:
            changed = Recipe(self.recipe.row, self.recipe.options | {name: value}).ours()
            # RMSProp's velocity has no rule of its own.
            other_velocity = name == "lr_in_velocity" and value != self.ours.lr_in_velocity
            if changed._rule != self.ours._rule or (other_velocity and "momentum" in self.ours._rule):
                with pytest.raises(ValueError, match=rf"^{name} is"):
                    setattr(self.ours, name, value)
                return
        setattr(self.ours, name, value)
        self.recipe = Recipe(self.recipe.row, self.recipe.options | {name: value})
        theirs = self.recipe.theirs()
        theirs.iterations, theirs.state, theirs.steps = self.theirs.iterations, self.theirs.state, self.theirs.steps
        self.theirs = theirs

    @rule(value=st.sampled_from((math.nan, -0.5, math.inf)))
    def fail_to_change_an_option(self, value: float) -> None:
        with pytest.raises(ValueError, match=r"^lr is .*, expected a finite number >= 0$"):
            self.ours.lr = value

    @invariant()
    def all_is_as_in_the_reference(self) -> None:
        if not hasattr(self, "memory"):
            return
        self.memory.assert_same(self.expected, self.buffers)
        assert self.ours.iterations == self.theirs.iterations
        assert {name: getattr(self.ours, name) for name in self.recipe.options} == self.recipe.options
        assert self.ours.state.keys() == self.theirs.state.keys()
        if not isinstance(self.ours, book.Adam):  # which counts for all parameters together
            counted = self.theirs.state if self.theirs.counts_steps else {}
            assert {key: self.ours.steps[key] for key in counted} == {key: self.theirs.steps[key] for key in counted}
        for key, arrays in self.theirs.state.items():
            assert self.ours.state[key].keys() == arrays.keys()
            for letter, array in arrays.items():
                assert same_bits(self.ours.state[key][letter], array), f"state[{key}][{letter!r}]"


TestOrders = Training.TestCase
TestOrders.settings = share(0.25)
