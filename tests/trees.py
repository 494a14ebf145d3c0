"""Nested containers: the structures that tests run through, and what they do with them. A leaf is a length."""

from collections.abc import Callable
from typing import Any

import numpy as np

STRUCTURES: dict[str, Any] = {
    "list of tuples": [(3, 0), (20, 1)],
    "list of tuples, alone": [(7,)],
    "dict of dicts": {"conv": {"W": 3, "b": 1}, "affine": {"W": 20}},
    "dict with a list of dicts": {"x": 9, "layers": [{"W": 3}, {"W": 20, "b": 1}], "y": 4},
    "tuple of everything": ((3, [4, 5]), 6, {"x": 9}),
    "empty ones": [(3, 4), (), {}, [], (5,), {"a": ()}],
    "keys of many kinds": {0: {("b", 1): 3, 2.5: 4}, ("c", 0): 5, "": {None: {True: 6}}},
}


def mapped(tree: Any, make: Callable[[Any], Any]) -> Any:
    """The structure with other leaves."""
    if isinstance(tree, dict):
        return {key: mapped(value, make) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(value, make) for value in tree)
    return make(tree)


def copied(tree: Any) -> Any:
    return mapped(tree, np.copy)


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """The leaves with their paths."""
    if not isinstance(tree, dict | list | tuple):
        return [(path, tree)]
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return [leaf for part, value in pairs for leaf in leaves(value, (*path, part))]


def flat(tree: Any) -> dict[Any, Any]:
    """The leaves by the keys of their state."""
    return {path if len(path) > 1 else path[0]: leaf for path, leaf in leaves(tree)}


def wrapped(value: Any, depth: int) -> Any:
    """The value in lists, one in another."""
    for _ in range(depth):
        value = [value]
    return value
