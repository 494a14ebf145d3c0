"""Containers in one another, drawn at random: the bits and state of the flat dict of their leaves."""

import re
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fusedstep as fs
from cases import ROWS, Row, assert_same_state
from strategies import SEEDS, share
from trees import copied, flat, leaves, mapped

KEYS = st.one_of(st.text("aW 1", max_size=2), st.integers(-2, 3), st.tuples(st.integers(0, 2)), st.just(None))
LEAVES = st.sampled_from((1, 0, 3, 65, 1025))
TREES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4).map(OrderedDict),
    ),
    max_leaves=12,
).filter(lambda tree: not isinstance(tree, int))


def gradients(draw: Any, params: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """With None in places, more keys, in another order, and lists for tuples; then the same, to be made flat."""
    if not isinstance(params, dict | list | tuple):
        array = None if draw(st.integers(0, 9)) == 9 else rng.standard_normal(params.shape)
        return array, array
    if draw(st.integers(0, 9)) == 9:
        return None, mapped(params, lambda _: None)
    if isinstance(params, dict):
        pairs = {key: gradients(draw, value, rng) for key, value in params.items()}
        own = {key: pairs[key][0] for key in reversed(pairs)} | {"no parameter": "nothing"}
        return own, {key: pair[1] for key, pair in pairs.items()}
    both = [gradients(draw, value, rng) for value in params]
    return draw(st.sampled_from((list, tuple)))([pair[0] for pair in both]), [pair[1] for pair in both]


@share(0.2)
@given(st.data(), TREES, st.sampled_from(ROWS), st.sampled_from(("f4", "f8")), SEEDS)
def test_nested_containers_are_the_flat_dict(data: st.DataObject, tree: Any, row: Row, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    params = mapped(tree, lambda n: rng.standard_normal(n).astype(dtype))
    expected = flat(copied(params))
    ours, theirs = row.optimizer(), row.reference()
    for _ in range(2):
        own, expected_own = gradients(data.draw, params, rng)
        if own is None:
            with pytest.raises(TypeError, match=r"^params is a .*, grads is a NoneType$"):
                ours.update(params, own)
            return
        ours.update(params, own)
        theirs.update(expected, flat(expected_own))
    for w, e in zip(flat(params).values(), expected.values(), strict=True):
        np.testing.assert_array_equal(w, e, strict=True)
    assert_same_state(ours, theirs)
    loaded = row.optimizer()
    loaded.load_state_dict(ours.state_dict())
    loaded.update(params, own)
    theirs.update(expected, flat(expected_own))
    assert_same_state(loaded, theirs)


def changeable(tree: Any) -> Any:
    """Arrays of ones in the structure, with lists for tuples."""
    if isinstance(tree, dict):
        return {key: changeable(value) for key, value in tree.items()}
    return [*map(changeable, tree)] if isinstance(tree, list | tuple) else np.ones(tree)


def named(path: tuple[Any, ...]) -> str:
    return re.escape("grads" + "".join(f"[{part!r}]" for part in path))


@share(0.2)
@given(st.data(), TREES.filter(leaves), st.sampled_from(("missing", "shape", "no container", "a container")))
def test_one_thing_wrong_in_the_structure_and_nothing_changes(data: st.DataObject, tree: Any, defect: str) -> None:
    params, grads = mapped(tree, np.ones), changeable(tree)
    path, length = data.draw(st.sampled_from(leaves(tree)))
    depth = data.draw(st.integers(0, len(path) - 1))
    if defect in ("shape", "a container"):
        depth = len(path) - 1
    outer, wrong = [], grads
    for part in path[: depth + 1]:
        outer.append(wrong)
        wrong = wrong[part]
    own = path[: depth + 1]
    if defect == "missing":
        del outer[-1][own[-1]]
        message = rf"{named(path[:depth])} (lacks {re.escape(repr(own[-1]))}, which params|has length \d, params)"
    elif defect == "no container":
        assume(len(own) < len(path))
        outer[-1][own[-1]] = 1.0
        message = rf"^params.* is a (dict|OrderedDict|collections\.OrderedDict|list|tuple), {named(own)} is a float$"
    else:
        outer[-1][own[-1]] = np.ones(length + 1) if defect == "shape" else {"x": np.ones(length)}
        message = rf"^{named(own)} (has shape|is a dict, expected an array of floats)"
    optimizer = fs.Adam()
    with pytest.raises((KeyError, TypeError, ValueError), match=message):
        optimizer.update(params, grads)
    for _, w in leaves(params):
        assert (w == 1).all()
    assert optimizer.iterations == 0
    assert len(optimizer.state) == len(optimizer._lengths) == 0
