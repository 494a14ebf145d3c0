"""The ranges of the hyper-parameters."""

import math
import operator
from typing import Any

import numpy as np

from fusedstep import _native

# The upper limit of each kind, and whether it is allowed. The lower limit is 0, which is allowed. A kind after
# "optional " also allows None.
_KINDS = {"not negative": (math.inf, False), "up to one": (1.0, True), "below one": (1.0, False)}
_OPTIONAL = "optional "
HYPERPARAMETERS = {rule: own for rule, (_, own, *_) in _native.rules.items()}
LIMITS = {
    name: _KINDS[kind.removeprefix(_OPTIONAL)]
    for own in HYPERPARAMETERS.values()
    for name, (_, kind) in own.items()
    if kind != "flag"
} | {
    "clip_norm": (math.inf, False),
    "decay": (1.0, True),
    "rate": (1.0, False),
    "gain": (math.inf, False),
    "end": (math.inf, False),
    "dropout_ratio": (1.0, True),
    "weight": (math.inf, False),
}
_MOST_CHARACTERS = 1000


def shown(value: Any) -> str:
    """The value for an error message, whatever its own text is like."""
    try:
        text = repr(value)
    except Exception:  # of an integer of too many digits, or of a class with a fault
        text = object.__repr__(value)
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "..."


def _finite(name: str, value: Any) -> float:
    """The value as a float, NaN if it is not finite."""
    if type(value) is float:  # at once, for calls of a few microseconds
        return value if math.isfinite(value) else math.nan
    try:
        if isinstance(value, bool | np.bool_) or getattr(value, "ndim", 0) != 0:
            raise TypeError("not a single number")
        return float(value) if math.isfinite(value) else math.nan
    except (OverflowError, ValueError):  # too large, or a signaling NaN of decimal
        return math.nan
    except Exception as error:
        raise TypeError(f"{name} is {shown(value)}, expected a number") from error


def checked(name: str, value: Any, shown_name: str | None = None) -> float:
    """The value of a hyper-parameter as a float; ValueError if it is out of range, TypeError if it is no number."""
    shown_name = shown_name or name
    number = _finite(shown_name, value)
    largest, allowed = LIMITS[name]
    if 0 <= number < largest or (allowed and number == largest):
        return number
    limits = "a finite number >= 0" if largest == math.inf else f"a number from 0 to {'' if allowed else 'below '}1"
    raise ValueError(f"{shown_name} is {shown(value)}, expected {limits}")


def checked_flag(name: str, value: Any, shown_name: str | None = None) -> bool:
    """The value of a flag as a bool; TypeError if it is neither one nor 0 or 1."""
    if type(value) is bool:
        return value
    if isinstance(value, bool | np.bool_) or (isinstance(value, int | float | np.number) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{shown_name or name} is {shown(value)}, expected True or False")


def checked_if_own(rule: str | None, name: str, value: Any, shown_name: str | None = None) -> Any:
    """The checked value of an attribute if the rule has a hyper-parameter of this name; others may be anything."""
    _, kind = HYPERPARAMETERS.get(rule or "", {}).get(name, (None, None))
    if kind is None or name == "scale":  # which optimizers don't have
        return value
    if value is None and kind.startswith(_OPTIONAL):
        return None
    return (checked_flag if kind == "flag" else checked)(name, value, shown_name)


def checked_norm(value: Any) -> float:
    """A norm as a float, which may be infinite or NaN; ValueError if it is negative, TypeError if it is no number."""
    number = _finite("norm", value)
    try:
        if math.isnan(number):
            number = float(value)
    except (OverflowError, ValueError):
        number = -1.0
    if number < 0:
        raise ValueError(f"norm is {shown(value)}, expected a number >= 0")
    return number


def checked_choice(name: str, value: Any, *choices: str | None) -> Any:
    """One of some texts, or None; TypeError if it is neither, ValueError if it is another text."""
    for choice in choices:
        if value is choice or (isinstance(value, str) and value == choice):
            return choice
    error = ValueError if isinstance(value, str) else TypeError
    raise error(f"{name} is {shown(value)}, expected {' or '.join(map(repr, choices))}")


def checked_positive(name: str, value: Any) -> float:
    """A number above 0 as a float; ValueError if it is not, or not finite, TypeError if it is no number."""
    number = _finite(name, value)
    if not number > 0:
        raise ValueError(f"{name} is {shown(value)}, expected a finite number > 0")
    return number


def checked_integer(name: str, value: Any, expected: str = "an integer", whole: Any = None) -> int:
    """The value as an int; TypeError if it is no integer. whole: what the error shows in place of the value."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError("not a number")
        return operator.index(value)
    except Exception as error:
        raise TypeError(f"{name} is {shown(value if whole is None else whole)}, expected {expected}") from error


def checked_uint64(name: str, value: Any) -> int:
    """A number of 64 bits as an int; TypeError if it is no integer, ValueError if it is out of range."""
    number = checked_integer(name, value)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{name} is {shown(number)}, expected an integer from 0 to 2**64 - 1")
    return number


def checked_axis(value: Any) -> int:
    """The axis of the channels as an int of 64 bits; TypeError if it is no integer, ValueError if it is too large."""
    axis = value if type(value) is int else checked_integer("channel_axis", value)
    if not -(2**63) <= axis < 2**63:
        raise ValueError(f"channel_axis is {shown(value)}, expected an axis of x")
    return axis


def checked_dtype(value: Any) -> np.dtype[Any]:
    """float32 or float64 by any of its names; TypeError if it is another type or none."""
    try:
        dtype: np.dtype[Any] | None = None if value is None else np.dtype(value)  # NumPy reads None as float64
    except Exception:
        dtype = None
    if dtype is None or dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype is {shown(value)}, expected float32 or float64")
    return dtype


def checked_count(name: str, value: Any, smallest: int = 0) -> int:
    """A number of updates as an int; TypeError if it is no integer, ValueError if it is out of range."""
    count = checked_integer(name, value)
    if count < smallest:
        raise ValueError(f"{name} is {shown(count)}, expected {smallest} or more")
    if count >= 2**63 - 1:
        raise ValueError(f"{name} is {shown(count)}, expected a number below 2^63 - 1")
    return count
