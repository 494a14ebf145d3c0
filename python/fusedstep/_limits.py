"""The ranges of the hyper-parameters."""

import math
import operator
from typing import Any

from fusedstep import _native

# The upper limit of each kind, and whether it is allowed. The lower limit is 0, which is allowed.
_KINDS = {"not negative": (math.inf, False), "up to one": (1.0, True), "below one": (1.0, False)}

# The limits of the rules' hyper-parameters, by name; flags have none.
RULE_LIMITS = {
    name: _KINDS[kind]
    for _, hyperparameters, _ in _native.rules.values()
    for name, (_, kind) in hyperparameters.items()
    if kind in _KINDS
}
LIMITS = RULE_LIMITS | {
    "decay": (1.0, True),
    "rate": (1.0, False),
    "gain": (math.inf, False),
    "end": (math.inf, False),
    "dropout_ratio": (1.0, True),
}


def _finite(name: str, value: Any) -> float:
    """The value as a float, NaN if it is not finite."""
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected a number") from None


def checked(name: str, value: Any, shown_name: str | None = None) -> float:
    """The value of a hyper-parameter as a float; ValueError if it is out of range, TypeError if it is no number."""
    shown_name = shown_name or name
    number = _finite(shown_name, value)
    largest, allowed = LIMITS[name]
    if 0 <= number < largest or (allowed and number == largest):
        return number
    limits = "a finite number >= 0" if largest == math.inf else f"a number from 0 to {'' if allowed else 'below '}1"
    raise ValueError(f"{shown_name} is {value!r}, expected {limits}")


def checked_positive(name: str, value: Any) -> float:
    """A number above 0 as a float; ValueError if it is not, or not finite, TypeError if it is no number."""
    number = _finite(name, value)
    if not number > 0:
        raise ValueError(f"{name} is {value!r}, expected a finite number > 0")
    return number


def checked_count(name: str, value: Any, smallest: int = 0) -> int:
    """A number of updates as an int; TypeError if it is no integer, ValueError if it is below the smallest."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected an integer") from None
    if count < smallest:
        raise ValueError(f"{name} is {count}, expected {smallest} or more")
    return count
