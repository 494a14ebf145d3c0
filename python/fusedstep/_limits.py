"""The ranges of the hyper-parameters."""

import math
from typing import Any

# The largest value of each, and whether that is allowed. The smallest is 0.
LIMITS = {
    "lr": (math.inf, False),
    "momentum": (1.0, True),
    "decay_rate": (1.0, False),
    "beta1": (1.0, False),
    "beta2": (1.0, False),
    "eps": (math.inf, False),
    "weight_decay": (math.inf, False),
    "decay": (1.0, True),
    "rate": (1.0, False),
}


def checked(name: str, value: Any, shown_name: str | None = None) -> float:
    """The value of a hyper-parameter as a float; ValueError if it is out of range, TypeError if it is no number."""
    shown_name = shown_name or name
    try:
        number = float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        number = math.nan
    except TypeError:
        raise TypeError(f"{shown_name} is {value!r}, expected a number") from None
    largest, allowed = LIMITS[name]
    if 0 <= number < largest or (allowed and number == largest):
        return number
    limits = "a finite number >= 0" if largest == math.inf else f"a number from 0 to {'' if allowed else 'below '}1"
    raise ValueError(f"{shown_name} is {value!r}, expected {limits}")
