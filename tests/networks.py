"""Parameters of a small network, for tests of groups and of Split."""

from typing import Any

import numpy as np

SHAPES = {"W1": (40, 30), "b1": (30,), "W2": (30, 5), "b2": (5,), "scale": ()}


def arrays(rng: np.random.Generator, dtype: Any = np.float32) -> dict[str, Any]:
    return {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in SHAPES.items()}


def copied(params: dict[Any, Any]) -> dict[Any, Any]:
    return {key: array.copy() for key, array in params.items()}


def is_narrow(key: Any, w: Any) -> bool:
    return bool(w.ndim < 2)
