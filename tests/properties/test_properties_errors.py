"""All or nothing, as a property: one thing wrong anywhere in a call, and no byte of anything changes."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from memory import View
from sides import Side, our_step
from strategies import Case, cases, container, draw_each, share


@dataclass
class Call:
    """The arguments of an update, of which one is to be spoiled."""

    kind: str
    keys: list[Any]
    params: list[Any]
    grads: list[Any]
    optimizer: Any
    grads_kind: str = ""
    dropped: int | None = None

    def make(self) -> None:
        params = container(self.kind, self.keys, self.params)
        grads = container(self.grads_kind or self.kind, self.keys, self.grads)
        if self.dropped is not None:
            grads = grads[: self.dropped] if self.kind in ("list", "tuple") else dict(grads)
            if isinstance(grads, dict):
                del grads[self.keys[self.dropped]]
        self.optimizer.update(params, grads)


def another_shape(array: Any) -> Any:
    """An array of as many numbers, or nearly; what could be broadcast must be refused too."""
    return np.ones((*array.shape, 1), array.dtype)


def with_an_element_more(array: Any) -> Any:
    return np.ones((array.shape[0] + 1, *array.shape[1:]) if array.ndim else (1,), array.dtype)


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def sharing(array: Any) -> Any:
    """An array of the same type and shape, all of whose elements are one."""
    one = np.ndarray((1,), array.dtype, bytearray(16))
    return np.lib.stride_tricks.as_strided(one, array.shape, (0,) * array.ndim, writeable=True)


Defect = Callable[[Call, int], None]


def in_params(change: Callable[[Any], Any]) -> Defect:
    def spoil(call: Call, i: int) -> None:
        call.params[i] = change(call.params[i])

    return spoil


def in_grads(change: Callable[[Any], Any]) -> Defect:
    def spoil(call: Call, i: int) -> None:
        call.grads[i] = change(call.grads[i])

    return spoil


def in_state(change: Callable[[dict[str, Any], str, Any], None]) -> Defect:
    """The change gets the state of a parameter, its last letter, and the parameter."""

    def spoil(call: Call, i: int) -> None:
        arrays = call.optimizer.state[call.keys[i]]
        change(arrays, call.optimizer._state_names[-1], call.params[i])

    return spoil


def put(change: Callable[[Any, Any], Any]) -> Defect:
    def replace(arrays: dict[str, Any], letter: str, param: Any) -> None:
        arrays[letter] = change(arrays[letter], param)

    return in_state(replace)


def drop_gradient(call: Call, i: int) -> None:
    assume(call.kind != "array")
    call.dropped = i


def other_container(call: Call, i: int) -> None:
    call.grads_kind = "dict" if call.kind in ("list", "tuple", "array") else "list"


def whole_state(call: Call, i: int) -> None:
    call.optimizer.state[call.keys[i]] = None


def schedule_of(value: Any) -> Defect:
    def spoil(call: Call, i: int) -> None:
        call.optimizer.lr = lambda iterations: value

    return spoil


# (error, what the message says, what spoils it), @ being the key. Those of the state need an optimizer that has one,
# and a parameter with at least two elements.
DEFECTS: dict[str, tuple[type[Exception] | tuple[type[Exception], ...], str, Defect]] = {
    "gradient: a dimension more": (ValueError, "grads@ has shape", in_grads(another_shape)),
    "gradient: an element more": (ValueError, "grads@ has shape", in_grads(with_an_element_more)),
    "gradient: integers": (TypeError, "grads@ has dtype int64", in_grads(lambda a: np.ones(a.shape, np.int64))),
    "gradient: complex": (TypeError, "grads@ has dtype complex64", in_grads(lambda a: np.ones(a.shape, np.complex64))),
    "gradient: bool": (TypeError, "grads@ has dtype bool", in_grads(lambda a: np.ones(a.shape, np.bool_))),
    "gradient: a list": (TypeError, "grads@ is a list", in_grads(lambda a: [1.0])),
    "gradient: none for a key": ((KeyError, ValueError), ".?grads (lacks|has length)", drop_gradient),
    "gradients: another container": (TypeError, ".*grads is a", other_container),
    "parameter: read-only": (ValueError, "params@ is read-only", in_params(read_only)),
    "parameter: long": (
        TypeError,
        "params@ has dtype (float128|longdouble|float96)",
        in_params(lambda a: a.astype("g")),
    ),
    "parameter: swapped": (
        TypeError,
        "params@ has dtype [<>]f",
        in_params(lambda a: a.astype(a.dtype.newbyteorder())),
    ),
    "parameter: integers": (TypeError, "params@ has dtype int32", in_params(lambda a: np.ones(a.shape, np.int32))),
    "parameter: objects": (TypeError, "params@ has dtype object", in_params(lambda a: np.ones(a.shape, object))),
    "parameter: one element": (ValueError, "params@ has elements that share memory", in_params(sharing)),
    "parameter: an element more": (ValueError, "grads@ has shape", in_params(with_an_element_more)),
    "lr: nan": (ValueError, r"lr\(\d\) is nan", schedule_of(math.nan)),
    "lr: negative": (ValueError, r"lr\(\d\) is -1", schedule_of(-1)),
    "lr: text": (TypeError, r"lr\(\d\) is '1'", schedule_of("1")),
    "state: a dimension more": (ValueError, "state@ has shape", put(lambda a, w: another_shape(a))),
    "state: other type": (
        ValueError,
        "state@ has dtype",
        put(lambda a, w: a.astype("f8" if a.dtype == "f4" else "f4")),
    ),
    "state: swapped": (ValueError, "state@ has dtype", put(lambda a, w: a.astype(a.dtype.newbyteorder()))),
    "state: read-only": (ValueError, "state@ is read-only", put(lambda a, w: read_only(a))),
    "state: a list": (TypeError, "state@ is a list", put(lambda a, w: a.tolist())),
    "state: one element": (ValueError, "state@ has elements that share memory", put(lambda a, w: sharing(a))),
    "state: the parameter": (ValueError, "state@ shares memory with params@", put(lambda a, w: w)),
    "state: the parameter turned": (ValueError, "state@ shares memory with params@", put(lambda a, w: w[::-1])),
    "state: a letter less": (ValueError, "state@ is missing", in_state(lambda arrays, letter, w: arrays.pop(letter))),
    "state: none": (TypeError, "state@ is a NoneType, expected a dict", whole_state),
}


def named(message: str, call: Call, i: int) -> str:
    """The message as a pattern, with the key as it is shown; a letter follows that of the state."""
    key = re.escape(f"[{call.keys[i]!r}]")
    message = message.replace("state@ is a NoneType", f"state{key} is a NoneType")
    message = message.replace("state@", rf"state{key}\['\w+'\]")
    return "^" + message.replace("@", "" if call.kind == "array" else key)


def snapshot(optimizer: Any) -> Any:
    """All that an optimizer has, with the arrays' identity and bits."""
    state = {
        key: {letter: (id(a), a.tobytes() if isinstance(a, np.ndarray) else a) for letter, a in arrays.items()}
        if isinstance(arrays, dict)
        else arrays
        for key, arrays in optimizer.state.items()
    }
    return {**vars(optimizer), "state": state}


@share(0.5)
@given(st.data(), cases(), st.sampled_from(sorted(DEFECTS)))
def test_one_thing_wrong_and_nothing_changes(data: st.DataObject, case: Case, name: str) -> None:
    error, message, spoil = DEFECTS[name]
    arrays = [i for i, w in enumerate(case.params) if isinstance(w, View)]
    warm, where = draw_each(data.draw, (False, True), range(len(arrays) or 1))
    of_state = name.startswith("state")
    warm = warm or of_state
    assume(arrays and not case.faults(set()))
    at = arrays[where]
    param = case.params[at]
    if of_state or "one element" in name:
        assume(case.recipe.state_names() or not of_state)
        assume(math.prod(param.shape) > 1 and param.shape[0] > 0)
    memory = case.memory()
    side = Side(case, memory, case.recipe.ours())
    case.process.apply(may_flush=False)
    if warm:
        our_step(side, set())
    optimizer = side.optimizer
    if of_state:  # the last one has the parameter's shape
        assume([*optimizer.state[case.keys[at]].values()][-1].shape == param.shape)
    call = Call(case.kind, list(case.keys), list(side.params.values()), list(side.grads(set()).values()), optimizer)
    with np.errstate(all="ignore"):
        spoil(call, at)
    before, contents = snapshot(optimizer), memory.contents()
    bits = [a.tobytes() for a in (*call.params, *call.grads) if isinstance(a, np.ndarray)]
    with pytest.raises(error, match=named(message, call, at)):
        call.make()
    assert memory.contents() == contents
    assert [a.tobytes() for a in (*call.params, *call.grads) if isinstance(a, np.ndarray)] == bits
    assert snapshot(optimizer) == before
