"""Split: optimizers of different rules for different parameters, in one step."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import assert_same_state
from fusedstep import _native, book, reference
from networks import arrays, copied, is_narrow


def make_split(**options: Any) -> fs.Split:
    return fs.Split(
        [
            (["W1", "W2"], fs.Momentum(0.1, groups=[("W2", {"lr": 0.2})])),
            (is_narrow, fs.Adam(0.3)),
        ],
        **options,
    )


def advance(split: Any, params: Any, rng: np.random.Generator, steps: int = 2) -> None:
    for _ in range(steps):
        split.update(params, arrays(rng))


def test_a_split_has_the_bits_of_its_optimizers(rng: np.random.Generator) -> None:
    split = make_split()
    parts: Any = [
        (["W1"], reference.Momentum(0.1)),
        (["W2"], reference.Momentum(0.2)),
        (["b1", "b2", "scale"], reference.Adam(0.3)),
    ]
    params = arrays(rng)
    expected = copied(params)
    for _ in range(3):
        grads = arrays(rng)
        split.update(params, grads)
        for keys, theirs in parts:
            theirs.update({key: expected[key] for key in keys}, grads)
    np.testing.assert_equal(params, expected)
    (_, momentum), (_, adam) = split.pairs
    assert_same_state(adam, parts[2][1])
    assert momentum.state.keys() == {"W1", "W2"}
    assert (momentum.iterations, adam.iterations, adam.steps) == (3, 3, {"b1": 3, "b2": 3, "scale": 3})
    assert (split.gradient_norm, split.skipped) == (None, 0)


def test_a_split_clips_by_the_norm_of_all_gradients() -> None:
    split = fs.Split([("a", fs.SGD(1.0)), ("b", fs.Momentum(1.0))], clip_norm=1.0)
    params = {"a": np.zeros(1), "b": np.zeros(1)}
    split.update(params, {"a": np.full(1, 6.0), "b": np.full(1, -8.0)}, scale=0.5)
    assert split.gradient_norm == 5
    c = 1.0 / (5.0 + 1e-6)
    assert (params["a"][0], params["b"][0]) == (-3 * c, 4 * c)
    assert [optimizer.gradient_norm for _, optimizer in split.pairs] == [None, None]
    split.clip_norm = None
    split.update(params, {"a": np.ones(1), "b": np.ones(1)}, norm=3.0, scale=2.0)
    assert split.gradient_norm == 6
    split.update(params, {"a": np.ones(1), "b": np.ones(1)})
    assert split.gradient_norm is None


def test_a_split_skips_all_or_nothing(rng: np.random.Generator) -> None:
    split = make_split(skip_nonfinite=True)
    params = arrays(rng)
    advance(split, params, rng)
    before, saved = copied(params), split.state_dict()
    grads = arrays(rng)
    grads["b2"][3] = np.inf
    split.update(params, grads)
    np.testing.assert_equal(params, before)
    assert split.skipped == 1
    np.testing.assert_equal(split.state_dict(), {**saved, "skipped": 1})
    assert not np.isfinite(split.gradient_norm)  # type: ignore[arg-type]


def test_a_split_is_one_region(rng: np.random.Generator) -> None:
    fs.set_num_threads(2)
    params = {i: rng.standard_normal((200, 100)) for i in range(30)}
    grads = {key: np.ones_like(w) for key, w in params.items()}
    split = fs.Split([([*range(10)], fs.SGD()), (lambda key, w: True, fs.Adam())])
    before = _native.parallel_regions()
    split.update(params, grads)
    assert _native.parallel_regions() - before == 1
    split.clip_norm = 1.0
    before = _native.parallel_regions()
    split.update(params, grads)
    assert _native.parallel_regions() - before <= 2


def test_groups_of_a_split_may_change() -> None:
    split = fs.Split([("a", fs.SGD(1.0)), ("b", fs.SGD(2.0))])
    params = {"a": np.zeros(1), "b": np.zeros(1)}
    ones = {"a": np.ones(1), "b": np.ones(1)}
    split.update(params, ones)
    split.pairs[0][1].groups = [("x", {}), ("a", {"lr": 10.0})]
    split.update(params, ones)
    assert (params["a"][0], params["b"][0]) == (-11, -4)
    split.pairs = [("b", split.pairs[0][1]), (["a", "b"], split.pairs[1][1])]  # type: ignore[assignment]
    split.update(params, ones)
    assert (params["a"][0], params["b"][0]) == (-13, -5)


def test_a_parameter_that_no_optimizer_has() -> None:
    split = fs.Split([("a", fs.SGD(1.0))])
    params = {"a": np.zeros(1), "b": np.zeros(1)}
    with pytest.raises(ValueError, match=r"^params\['b'\] fits no match of Split: add a pair"):
        split.update(params, {"a": np.ones(1), "b": np.ones(1)})
    assert params == {"a": 0, "b": 0}
    assert split.pairs[0][1].iterations == 0


def test_wrong_splits() -> None:
    one = fs.SGD()
    wrong: tuple[tuple[Any, type[Exception], str], ...] = (
        (3, TypeError, "pairs is 3, expected pairs of a match and an optimizer"),
        ([one], TypeError, "pairs is .*, expected pairs of a match and an optimizer"),
        ([("a", "b")], TypeError, r"pairs\[0\] has 'b', expected an optimizer of fusedstep"),
        ([("a", fs.Split([]))], TypeError, r"pairs\[0\] has Split\(.*\), expected an optimizer"),
        ([("a", one), ("b", one)], ValueError, r"pairs\[1\] has an optimizer that an earlier pair has: SGD\("),
        (
            [("a", fs.SGD(clip_norm=1.0))],
            ValueError,
            r"SGD\(.*\) has clip_norm or skip_nonfinite, expected them as arg",
        ),
        ([("a", fs.SGD(skip_nonfinite=True))], ValueError, r"SGD\(.*\) has clip_norm or skip_nonfinite, expected"),
        ([({}, one)], TypeError, r"pairs\[0\] matches {}, expected a key, a list or set of keys, or a function"),
    )
    for pairs, error, message in wrong:
        with pytest.raises(error, match=f"^{message}"):
            fs.Split(pairs)
    split = fs.Split([("a", one)])
    one.clip_norm = 1.0
    w = np.zeros(1)
    with pytest.raises(ValueError, match=r"has clip_norm or skip_nonfinite, expected them as arguments of Split$"):
        split.update({"a": w}, {"a": np.ones(1)})
    assert w == 0
    for name, value in (("clip_norm", -1), ("skip_nonfinite", "no"), ("skipped", -1)):
        with pytest.raises((TypeError, ValueError), match=f"^{name} is "):
            setattr(split, name, value)


def test_the_dialect_of_the_book_in_a_split() -> None:
    split = fs.Split([("a", book.Adam(0.1)), ("b", fs.Adam(0.1, eps=1e-7))])
    params = {"a": np.zeros(1), "b": np.zeros(1)}
    split.update(params, {"a": np.full(1, 1e-7), "b": np.full(1, 1e-7)})
    assert abs(params["a"]) < 0.1 * abs(params["b"])
    assert [optimizer.iterations for _, optimizer in split.pairs] == [1, 1]


def from_file(split: fs.Split) -> fs.Split:
    file, other = io.BytesIO(), make_split()
    fs.save_state(file, split)
    file.seek(0)
    fs.load_state(file, other)
    return other


def from_snapshot(split: fs.Split) -> fs.Split:
    other = make_split()
    other.load_state_dict(split.state_dict())
    return other


COPIES: dict[str, Callable[[fs.Split], fs.Split]] = {
    "file": from_file,
    "state_dict": from_snapshot,
    "pickle": lambda split: pickle.loads(pickle.dumps(split)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_split_goes_on_as_the_original(how: str, rng: np.random.Generator) -> None:
    split = make_split(clip_norm=2.0, skip_nonfinite=True)
    params = arrays(rng)
    advance(split, params, rng)
    split.update(params, {key: w * np.nan for key, w in params.items()})
    other, others, other_rng = COPIES[how](split), copied(params), copy.deepcopy(rng)
    assert (other.clip_norm, other.skip_nonfinite, other.skipped) == (2.0, True, 1)
    advance(other, others, other_rng)
    assert [optimizer.iterations for _, optimizer in split.pairs] == [2, 2]
    advance(split, params, rng)
    np.testing.assert_equal(others, params)
    np.testing.assert_equal(other.state_dict(), split.state_dict())


def test_snapshots_of_other_splits_change_nothing(rng: np.random.Generator) -> None:
    split = make_split()
    advance(split, arrays(rng), rng)
    before = split.state_dict()
    momentum, adam = before["optimizers"]
    name = "fusedstep.optimizers.Split"
    wrong: tuple[tuple[Any, type[Exception], str], ...] = (
        (None, TypeError, "the state dict is a NoneType, expected a dict"),
        (adam, ValueError, f"the state dict has .*, but lacks {name}, optimizers"),
        ({**before, name: {}}, ValueError, f"{name} has , expected clip_norm, skip_nonfinite"),
        ({**before, name: {"clip_norm": -1, "skip_nonfinite": False}}, ValueError, "clip_norm is -1"),
        ({**before, name: {"clip_norm": None, "skip_nonfinite": 3}}, TypeError, "skip_nonfinite is 3"),
        ({**before, "skipped": -1}, ValueError, "skipped is -1"),
        ({**before, "optimizers": {}}, TypeError, "optimizers is a dict, expected a list"),
        ({**before, "optimizers": [adam]}, ValueError, "the state dict has 1 optimizers, Split has 2"),
        ({**before, "optimizers": [adam, momentum]}, ValueError, "the state dict has .*, but lacks .*Momentum"),
        ({**before, "optimizers": [momentum, {**adam, "iterations": -1}]}, ValueError, "iterations is -1"),
    )
    for state_dict, error, message in wrong:
        with pytest.raises(error, match=f"^{message}"):
            split.load_state_dict(state_dict)
        np.testing.assert_equal(split.state_dict(), before)


def test_files_of_splits_and_of_optimizers_differ(rng: np.random.Generator) -> None:
    split, file = make_split(), io.BytesIO()
    advance(split, arrays(rng), rng)
    fs.save_state(file, split)
    one: Any
    for one, expected in ((fs.Adam(), "one optimizer"), (fs.Split([("a", fs.Adam())]), "a Split of 1")):
        file.seek(0)
        with pytest.raises(ValueError, match=f"has the state of a Split of 2, expected that of {expected}$"):
            fs.load_state(file, one)
    file = io.BytesIO()
    fs.save_state(file, fs.Adam())
    file.seek(0)
    with pytest.raises(ValueError, match=r"has the state of one optimizer, expected that of a Split of 2$"):
        fs.load_state(file, split)
