"""Dicts, lists and tuples in one another: the bits, state and errors of a flat dict whose keys are the paths."""

import copy
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fusedstep as fs
from cases import KINDS, Row, assert_same_state
from fusedstep import book, reference
from trees import STRUCTURES, copied, flat, mapped


def drawn(rng: np.random.Generator, structure: Any, dtype: Any = np.float64) -> Any:
    return mapped(structure, lambda n: rng.standard_normal(n).astype(dtype))


def assert_same_leaves(tree: Any, expected: dict[Any, Any]) -> None:
    assert list(flat(tree)) == list(expected)
    for leaf, array in zip(flat(tree).values(), expected.values(), strict=True):
        np.testing.assert_array_equal(leaf, array, strict=True)


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
@pytest.mark.parametrize("row", KINDS)
def test_the_bits_and_keys_of_a_flat_dict(row: Row, structure: Any, dtype: Any, rng: np.random.Generator) -> None:
    params = drawn(rng, structure, dtype)
    before, expected, plain = params, flat(copied(params)), flat(copied(params))
    ours, ours_plain, theirs = (make(weight_decay=0.01) for make in (row.optimizer, row.optimizer, row.reference))
    for _ in range(3):
        grads = drawn(rng, structure, dtype)
        ours.update(params, grads)
        ours_plain.update(plain, flat(grads))
        theirs.update(expected, flat(grads))
    assert_same_leaves(params, expected)
    assert_same_leaves(params, plain)
    assert all(a is b for a, b in zip(flat(params).values(), flat(before).values(), strict=True))
    assert_same_state(ours, theirs)
    assert list(ours.state) == list(ours_plain.state)


@pytest.mark.parametrize("other", [list, tuple])
def test_lists_and_tuples_may_stand_for_each_other(other: Any) -> None:
    params = [(np.ones(2), [np.ones(3)])]
    fs.SGD(1.0).update(params, other([[np.ones(2), other([np.ones(3)])]]))
    np.testing.assert_equal(params, [(np.zeros(2), [np.zeros(3)])])


def test_one_region(rng: np.random.Generator) -> None:
    fs.set_num_threads(2)
    params = drawn(rng, {"a": [50_000, (70_000, 3)], "b": 60_000})
    before = fs._native.parallel_regions()
    fs.Adam().update(params, copied(params))
    assert fs._native.parallel_regions() == before + 1


@pytest.mark.parametrize("row", KINDS)
def test_none_leaves_all_below_alone_and_extra_keys_are_ignored(row: Row) -> None:
    params: Any = {"a": {"W": np.ones(2), "b": [np.ones(3), 0.5]}, "c": (np.ones(2), {"d": (1.0,)})}
    expected = copy.deepcopy(params)
    optimizer = row.optimizer()
    optimizer.update(params, {"a": None, "c": (np.full(2, 0.5), None), "e": "no container"})
    reference, array = row.reference(), expected["c"][0]
    reference.update({("c", 0): array}, {("c", 0): np.full(2, 0.5)})
    np.testing.assert_equal(params, expected)
    assert_same_state(optimizer, reference)
    optimizer.update(params, {"a": {"W": None, "b": [None, None], "x": {}}, "c": [None, None]})
    np.testing.assert_equal(params, expected)
    assert optimizer.iterations == 2


class Pair(NamedTuple):
    W: Any
    b: Any


class Halved(dict[str, Any]):
    """Has what it has at half its size, and one key more."""

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key) / 2

    def __missing__(self, key: str) -> Any:
        return np.ones(2)


def test_containers_are_asked_by_their_own_methods() -> None:
    params: Any = {"layers": [Pair(np.ones(2), np.ones(3)), OrderedDict(b=np.ones(3), W=np.ones(2))]}
    optimizer = fs.Momentum(1.0, 0.0)
    grads: Any = [Pair(np.full(2, 0.5), np.full(3, 0.25)), Halved(b=np.full(3, 1.0), W=np.full(2, 0.5))]
    optimizer.update(params, {"layers": grads})
    assert list(optimizer.state) == [("layers", 0, 0), ("layers", 0, 1), ("layers", 1, "b"), ("layers", 1, "W")]
    np.testing.assert_equal([*params["layers"][0]], [np.full(2, 0.5), np.full(3, 0.75)])
    np.testing.assert_equal(dict(params["layers"][1]), {"b": np.full(3, 0.5), "W": np.full(2, 0.75)})
    hidden = np.ones(4)
    state: Any = {"a": defaultdict(lambda: {"v": np.zeros(2)})}

    class Views(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return hidden[::2]

    fs.step("momentum", {"a": Views(w=None)}, {"a": {"w": np.ones(2)}}, state, t={"a": defaultdict(lambda: 1)}, lr=0.5)
    np.testing.assert_array_equal(hidden, [0.5, 1, 0.5, 1])
    assert list(state["a"]) == ["w"]


@pytest.mark.parametrize("number", [2.5, np.float64(2.5), np.float32(2.5)], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("row", KINDS)
def test_numbers_are_replaced_in_their_own_container(row: Row, number: Any) -> None:
    inner: Any = {"scale": number}
    params, expected = ([inner, [number]], (np.ones(2), number)), {}
    expected = {(0, 0, "scale"): number, (0, 1, 0): number}
    tail = params[0]
    ours, theirs = row.optimizer(), row.reference()
    for g in (0.5, -1.5, 3.0):
        ours.update(params, (({"scale": type(number)(g)}, [type(number)(g)]), None))
        theirs.update(expected, dict.fromkeys(expected, g))
    assert params[0] is tail
    assert params[0][0] is inner
    assert type(inner["scale"]) is type(tail[1][0]) is type(number)
    assert flat([tail]) == expected
    assert params[1][1] is number
    assert_same_state(ours, theirs)


def test_numbers_of_a_container_that_occurs_twice_are_updated_one_after_the_other() -> None:
    inner: Any = {"x": 1.0}
    fs.SGD(0.5).update({"a": inner, "b": [inner]}, {"a": {"x": 1.0}, "b": [{"x": 0.25}]})
    assert inner == {"x": 0.375}


def test_the_book_replaces_inner_numbers_too() -> None:
    params: Any = {"a": [1.0, np.ones(2)], "b": 2}
    book.SGD(0.5).update(params, {"a": [1.0, np.ones(2)], "b": 1})
    np.testing.assert_equal(params, {"a": [0.5, np.full(2, 0.5)], "b": 1.5})


def all_ways_to_restore(optimizer: fs.Optimizer, path: Path) -> list[fs.Optimizer]:
    loaded, from_file = copy.copy(optimizer), copy.copy(optimizer)
    loaded.state, from_file.state = {}, {}
    loaded.load_state_dict(optimizer.state_dict())
    fs.save_state(path, optimizer)
    fs.load_state(path, from_file)
    return [loaded, from_file, pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)]


@pytest.mark.parametrize("row", KINDS)
def test_saved_state_has_the_paths(row: Row, tmp_path: Path, rng: np.random.Generator) -> None:
    structure = {"layers": [{"W": 3, 7: 2}, (4, [5])], ("t", 1): {"b": 2}, "x": 1}
    params = drawn(rng, structure)
    grads = drawn(rng, structure)
    optimizer = row.optimizer()
    optimizer.update(params, grads | {"x": None})
    restored = all_ways_to_restore(optimizer, tmp_path / "state.npz")
    copies = [copied(params) for _ in restored]
    optimizer.update(params, grads)
    for other, own in zip(restored, copies, strict=True):
        assert other.iterations == 1
        other.update(own, grads)
        np.testing.assert_equal(own, params)
        assert list(other.state) == list(optimizer.state)
        np.testing.assert_equal(other.state_dict(), optimizer.state_dict())


def test_paths_that_no_file_can_have(tmp_path: Path) -> None:
    optimizer = fs.Momentum()
    optimizer.update({"a": {2.5: np.ones(2)}}, {"a": {2.5: np.ones(2)}})
    with pytest.raises(
        TypeError, match=r"the state has key 2\.5, expected a string or an integer, or a tuple of them$"
    ):
        fs.save_state(tmp_path / "state.npz", optimizer)


@pytest.mark.parametrize("row", KINDS)
def test_arrays_that_share_memory(row: Row, dtype: Any, rng: np.random.Generator) -> None:
    def tree(base: Any, other: Any) -> Any:
        return {"a": [base[:100], (base[50:],)], "b": {"same": base[:100], "turned": base[::-2]}, "c": other}

    w, v = rng.standard_normal(150).astype(dtype), rng.standard_normal(100).astype(dtype)
    expected, other = w.copy(), v.copy()
    ours, theirs = row.optimizer(), row.reference()
    for _ in range(3):
        ours.update(tree(w, v), {"a": [v, (w[50:],)], "b": {"same": v[::-1], "turned": None}, "c": w[50:]})
        theirs.update(
            flat(tree(expected, other)),
            flat({"a": [other, (expected[50:],)], "b": {"same": other[::-1], "turned": None}, "c": expected[50:]}),
        )
    np.testing.assert_array_equal(w, expected)
    np.testing.assert_array_equal(v, other)
    assert_same_state(ours, theirs)


def test_state_counts_and_hyperparameters_of_a_step(rng: np.random.Generator) -> None:
    structure = {"x": 5, "layers": [(3, 2), {"W": 4}]}
    params, grads = drawn(rng, structure), drawn(rng, structure)
    expected = flat(copied(params))
    zeros = {key: {"m": np.zeros_like(w), "v": np.zeros_like(w)} for key, w in expected.items()}
    x, *others = (list(arrays.values()) for arrays in zeros.values())
    fs.step(
        "adam",
        params,
        grads,
        {"x": x, "layers": {0: others[:2], 1: (zeros["layers", 1, "W"],)}},
        t={"x": 1, "layers": [(2, 3), {"W": 4}]},
        lr=[0.1, [[0.2, 0.3], (0.4,)]],
        weight_decay=(0.0, {0: (0.1, 0.0), 1: {"W": 0.2}}),
    )
    own = zip(expected, (1, 2, 3, 4), (0.1, 0.2, 0.3, 0.4), (0.0, 0.1, 0.0, 0.2), strict=True)
    for key, t, lr, weight_decay in own:
        theirs = reference.Adam(lr, weight_decay=weight_decay)
        theirs.state[0], theirs.steps[0] = {k: np.zeros_like(expected[key]) for k in "mv"}, t - 1
        theirs.update(expected[key], flat(grads)[key])
        np.testing.assert_equal(zeros[key], theirs.state[0])
    assert_same_leaves(params, expected)


def test_tensors(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="steps PyTorch's tensors where that is installed")
    structure = {"a": [3, (4, 5)], "b": {"c": 300_000}}
    arrays, grads = drawn(rng, structure), drawn(rng, structure)
    tensors = mapped(arrays, lambda w: torch.from_numpy(w.copy()).requires_grad_())
    ours, theirs = fs.Adam(), fs.Adam()
    for _ in range(2):
        ours.update(tensors, mapped(grads, torch.from_numpy))
        theirs.update(arrays, grads)
    np.testing.assert_equal(mapped(tensors, lambda w: w.detach().numpy()), arrays)
    assert list(ours.state) == list(theirs.state)
    with pytest.raises(ValueError, match=r"^grads\['a'\]\[0\] has shape \(2,\), params\['a'\]\[0\] has \(3,\)$"):
        ours.update(tensors, {"a": [torch.ones(2), None], "b": None})
