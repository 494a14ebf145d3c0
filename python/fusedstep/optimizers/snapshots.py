"""Snapshots of optimizers that are loaded: everything in them is checked before anything changes."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusedstep import _native
from fusedstep._limits import checked_count
from fusedstep.optimizers.options import OPTIONS, SCHEDULED, Groups, checked_overrides

if TYPE_CHECKING:
    from fusedstep.optimizers.base import Optimizer

# The states that options add to the rule's, always of a type that is computed in.
_EXTRA_STATES = ("average", "master")


def listed(names: Iterable[Any]) -> str:
    """Names for an error message."""
    return ", ".join(sorted(map(str, names)))


def checked_dict(name: str, value: Any) -> Mapping[Any, Any]:
    """A dict; TypeError if it is none."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a dict")
    return value


def checked_list(name: str, value: Any) -> list[Any]:
    """A list; TypeError if it is none."""
    if not isinstance(value, list):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a list")
    return value


def require_names(state_dict: Any, names: set[str]) -> None:
    """ValueError if a state dict has other names than these."""
    if set(checked_dict("the state dict", state_dict)) != names:
        raise ValueError(f"the state dict has {listed(state_dict) or 'nothing'}, expected {listed(names)}")


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether a type is the bfloat16 of ml_dtypes."""
    return dtype.name == "bfloat16"


def loaded_attributes(optimizer: "Optimizer", state_dict: dict[str, Any]) -> dict[str, Any]:
    """The attributes that a snapshot gives an optimizer."""
    name = optimizer._full_name()
    if missing := {"iterations", name, "state"} - set(checked_dict("the state dict", state_dict)):
        raise ValueError(f"the state dict has {listed(state_dict)}, but lacks {listed(missing)}")
    given = checked_dict(name, state_dict[name])
    defaults = _defaults(optimizer)
    known = {**defaults, **given}
    other = optimizer._with(
        {key: check(key, known[key]) for key, check in optimizer._choose_rule.items() if key in known}
    )
    settings = _loaded_settings(other, name, given, defaults)
    iterations = checked_count("iterations", state_dict["iterations"])
    given_state = checked_dict("state", state_dict["state"])
    state = {key: _copied_state(other, key, arrays) for key, arrays in given_state.items()}
    given_steps = checked_dict("steps", state_dict.get("steps", {}))
    steps = {
        key: checked_count(f"steps[{key!r}]", given_steps.get(key, iterations))
        for key in (state if other._counts_steps else ())
    }
    return settings | {
        "iterations": iterations,
        "skipped": checked_count("skipped", state_dict.get("skipped", 0)),
        "state": state,
        "steps": steps,
        "_lengths": {},
    }


def _defaults(optimizer: "Optimizer") -> dict[str, Any]:
    """Of the class, for arguments that an older version may not have had."""
    names = set(optimizer._hyperparameters()) - set(OPTIONS)
    return {name: getattr(type(optimizer), name) for name in names if hasattr(type(optimizer), name)}


def _loaded_settings(
    optimizer: "Optimizer", name: str, given: Mapping[Any, Any], defaults: dict[str, Any]
) -> dict[str, Any]:
    own = optimizer._hyperparameters()
    if not set(own) >= set(given) >= set(own) - {"lr", *OPTIONS, *defaults}:
        raise ValueError(f"{name} has {listed(given)}, expected {listed(own)}")
    loaded = defaults | {key: optimizer._checked(key, value) for key, value in given.items() if key != "groups"}
    # Of an older version. Schedules are not saved at all.
    lacking = set(OPTIONS) - set(given) - {"groups"} - (set(SCHEDULED) if set(OPTIONS) & set(given) else set())
    loaded = {key: getattr(type(optimizer), key) for key in lacking} | loaded
    if "groups" in given:
        loaded["groups"] = _loaded_groups(optimizer, checked_list("groups", given["groups"]))
    return loaded | {key: own[key] for key in SCHEDULED if callable(own[key])}


def _loaded_groups(optimizer: "Optimizer", given: list[Any]) -> Groups:
    if len(given) != len(optimizer.groups):
        raise ValueError(
            f"the state has {len(given)} groups, the optimizer has {len(optimizer.groups)}: give it the same ones, "
            "because matches are not saved"
        )
    loaded: list[tuple[Any, Mapping[str, Any]]] = []
    for i, (overrides, (match, own)) in enumerate(zip(given, optimizer.groups, strict=True)):
        name = f"groups[{i}]"
        if not set(own) >= set(checked_dict(name, overrides)) >= set(own) - set(SCHEDULED):
            raise ValueError(f"{name} has {listed(overrides)}, expected {listed(own)}")
        kept = {key: value for key, value in own.items() if callable(value)}
        loaded.append((match, checked_overrides(optimizer._rule, name, {**own, **overrides, **kept})))
    return tuple(loaded)


def _copied_state(optimizer: "Optimizer", key: Any, arrays: Any) -> dict[str, NDArray[Any]]:
    names, scalars, shapes = optimizer._state_names, optimizer._scalar_names, _native.rules[optimizer._rule][5]
    given = set(checked_dict(f"state[{key!r}]", arrays))
    expected = {*names, *scalars}
    if not expected <= given <= expected | set(_EXTRA_STATES):
        raise ValueError(f"state[{key!r}] has {listed(given) or 'nothing'}, expected {listed(expected) or 'nothing'}")
    copies: dict[str, NDArray[Any]] = {}
    for i, letter in enumerate((*names, *(name for name in _EXTRA_STATES if name in given))):
        shown_name = f"state[{key!r}][{letter!r}]"
        try:
            array = np.asarray(arrays[letter])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{shown_name} is no array: {error}") from error
        is_extra = letter in _EXTRA_STATES
        if array.dtype not in (np.float32, np.float64) and (is_extra or not is_bfloat16(array.dtype)):
            raise ValueError(f"{shown_name} has dtype {array.dtype}, expected float32 or float64")
        # What shape rows and columns must have follows from the parameter, when there is one.
        comparable = [other for other in copies if (other in shapes) == (letter in shapes)] or [*copies]
        for other in comparable[:1]:
            first = copies[other]
            dtype = np.float32 if is_extra and is_bfloat16(first.dtype) else first.dtype
            differs = array.shape != first.shape and not {letter, other} & shapes.keys()
            if differs or array.dtype != dtype:
                raise ValueError(
                    f"{shown_name} has shape {array.shape} and dtype {array.dtype}, "
                    f"state[{key!r}][{other!r}] has {first.shape} and {first.dtype}"
                )
        copies[letter] = _native.copy_apart(array, i)
    for name in scalars:
        number = np.asarray(arrays[name])
        if number.shape != () or number.dtype != np.float64:
            raise ValueError(
                f"state[{key!r}][{name!r}] has shape {number.shape} and dtype {number.dtype}, expected () and float64"
            )
        copies[name] = number.copy()
    return copies
