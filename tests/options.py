"""Options of a step in combinations: a table in which each value of an option meets each value of every other."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cases import schedule

Case = dict[str, Any]


def average_schedule(iterations: int) -> float:
    return min(0.9, (1 + iterations) / (10 + iterations))


def is_matrix(_: Any, w: Any) -> bool:
    return np.ndim(w) == 2


# First match wins: the second set and the predicate match "transposed" too.
GROUPS = [
    ("thousand", {"lr": 0.3, "weight_decay": 0.05, "decoupled": True}),
    ({"seven", "transposed"}, {"lr": schedule, "maximize": True, "clip_value": 0.2}),
    (is_matrix, {"weight_decay": 0.2, "decoupled": False, "average": 0.5}),
]

# norm: one that is given. bad: a number in a gradient of one of the steps.
FACTORS: dict[str, tuple[Any, ...]] = {
    "lr": (0.1, schedule),
    "scale": (1.0, 0.37),
    "maximize": (False, True),
    "clip_norm": (None, 0.7, 1e9),
    "clip_value": (None, 0.6),
    "weight_decay": (0.0, 0.1),
    "decoupled": (False, True),
    "cautious_decay": (False, True),
    "max_lr": (None, 0.4),
    "decay_after": (False, True),
    "count_updates": (False, True),
    "average": (None, 0.9, average_schedule),
    "groups": ((), GROUPS),
    "master": (False, True),
    "rounding": ("nearest", "stochastic"),
    "state_dtype": (None, "bfloat16"),
    "zero_grads": (False, True),
    "copies": (None, "float16", "bfloat16", "float32"),
    "skip_nonfinite": (False, True),
    "norm": (None, 400.0),
    "bad": (None, np.inf, np.nan),
    "gradients": ("same", "float32", "float64"),
}


def pairs_of(case: Case) -> set[Any]:
    """Pairs of options with the places of their values."""
    places = [(name, FACTORS[name].index(value)) for name, value in case.items()]
    return set(itertools.combinations(places, 2))


def all_pairs() -> set[Any]:
    values = [[(name, i) for i in range(len(values))] for name, values in FACTORS.items()]
    return {pair for a, b in itertools.combinations(values, 2) for pair in itertools.product(a, b)}


def _cases() -> Iterator[Case]:
    """Takes the best of some random cases until no pair is missing."""
    rng, missing = np.random.default_rng(0), all_pairs()
    while missing:
        drawn = [{name: values[rng.integers(len(values))] for name, values in FACTORS.items()} for _ in range(300)]
        best = max(drawn, key=lambda case: len(missing & pairs_of(case)))
        missing -= pairs_of(best)
        yield best


CASES = tuple(_cases())
