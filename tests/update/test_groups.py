"""Groups of parameters with hyper-parameters of their own, and optimizers of different rules in one step."""

import copy
import io
import pickle
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ALL_ROWS, ROWS, Row, assert_same_state, schedule
from fusedstep import _native, book, reference

SHAPES = {"W1": (40, 30), "b1": (30,), "W2": (30, 5), "b2": (5,), "scale": ()}


def arrays(rng: np.random.Generator, dtype: Any = np.float32) -> dict[str, Any]:
    return {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in SHAPES.items()}


def copied(params: dict[Any, Any]) -> dict[Any, Any]:
    return {key: array.copy() for key, array in params.items()}


def is_narrow(key: Any, w: Any) -> bool:
    return bool(w.ndim < 2)


@pytest.mark.parametrize("row", ALL_ROWS)
def test_each_group_has_the_bits_of_an_optimizer(row: Row, dtype: Any, rng: np.random.Generator) -> None:
    ours = row.optimizer(0.1, weight_decay=0.2, groups=[(is_narrow, {"weight_decay": 0.0}), (["W2"], {"lr": schedule})])
    parts: list[tuple[tuple[str, ...], reference.Optimizer]] = [
        (("b1", "b2", "scale"), row.reference(0.1, weight_decay=0.0)),
        (("W2",), row.reference(schedule, weight_decay=0.2)),
        (("W1",), row.reference(0.1, weight_decay=0.2)),
    ]
    params = arrays(rng, dtype)
    expected = copied(params)
    for _ in range(3):
        grads = arrays(rng, dtype)
        ours.update(params, grads)
        for keys, theirs in parts:
            theirs.update({key: expected[key] for key in keys}, grads)
    np.testing.assert_equal(params, expected)
    assert ours.iterations == 3
    for keys, theirs in parts:
        assert {key: ours.state.get(key, {}) for key in keys}.keys() >= theirs.state.keys()
        for key, state in theirs.state.items():
            np.testing.assert_equal(ours.state[key], state)
            assert ours.steps.get(key) == theirs.steps.get(key)


def overrides_of(row: Row) -> dict[str, Any]:
    """Another value of each hyper-parameter."""
    own: dict[str, Any] = fs.rules()[row.optimizer()._rule]["hyperparameters"]
    return {
        name: 0.25 if default is None else not default if isinstance(default, bool) else default / 2 + 0.25
        for name, default in own.items()
        if name != "scale"
    }


OVERRIDES = [(row.optimizer, name, value) for row in ROWS for name, value in overrides_of(row).items()]


@pytest.mark.parametrize(("cls", "name", "value"), OVERRIDES)
def test_any_hyperparameter_may_be_overridden(cls: Any, name: str, value: Any, rng: np.random.Generator) -> None:
    ours, usual, other = (
        cls(weight_decay=0.1, groups=[("W1", {name: value})]),
        cls(weight_decay=0.1),
        cls(weight_decay=0.1),
    )
    setattr(other, name, value)
    params = arrays(rng)
    without, having = copied(params), copied(params)
    for _ in range(2):
        grads = arrays(rng)
        ours.update(params, grads)
        usual.update(without, grads)
        other.update(having, grads)
    np.testing.assert_array_equal(params["W1"], having["W1"])
    assert name == "average" or (params["W1"] != without["W1"]).any()
    np.testing.assert_equal({**params, "W1": 0}, {**without, "W1": 0})
    np.testing.assert_equal(ours.state.get("W1"), other.state.get("W1"))


def test_the_average_of_a_group_may_be_a_schedule_or_none() -> None:
    asked = []

    def decay(t: int) -> float:
        asked.append(t)
        return 0.5

    optimizer = fs.SGD(1.0, average=0.0, groups=[("a", {"average": decay}), ("b", {"average": None})])
    params = {key: np.ones(2) for key in "abc"}
    for _ in range(2):
        optimizer.update(params, {key: np.ones(2) for key in "abc"})
    assert asked == [0, 1]
    assert {key: list(mean) for key, mean in optimizer.averages().items()} == {"a": [-0.5] * 2, "c": [-1.0] * 2}


def test_the_first_match_counts_and_is_asked_once_for_a_key() -> None:
    asked: list[Any] = []

    def match(key: Any, w: Any) -> bool:
        asked.append((key, w))
        return bool(key == "b")

    optimizer = fs.SGD(1.0, groups=[("a", {"lr": 2.0}), (match, {"lr": 3.0}), ({"b", "c"}, {"lr": 4.0})])
    params = {key: np.zeros(1) for key in "abc"}
    first = params["b"]
    ones = {key: np.ones(1) for key in "abcd"}
    optimizer.update(params, ones)
    assert [float(w[0]) for w in params.values()] == [-2.0, -3.0, -4.0]
    params |= {"b": np.zeros(1), "d": np.zeros(1)}
    optimizer.update(params, ones)
    assert [float(w[0]) for w in params.values()] == [-4.0, -3.0, -8.0, -1.0]
    assert [key for key, _ in asked] == ["b", "c", "d"]
    assert asked[0][1] is first
    optimizer.groups = [(match, {"lr": 0.0})]
    optimizer.update(params, ones)
    assert [key for key, _ in asked] == ["b", "c", "d", "a", "b", "c", "d"]
    assert params["b"] == -3.0
    optimizer.groups = ()
    optimizer.update(params, ones)
    assert params["b"] == -4.0


@pytest.mark.parametrize(
    ("params", "match", "chosen"),
    [
        ([np.zeros(1), np.zeros(1)], 1, [1]),
        ([np.zeros(1), np.zeros(1)], [0, 1], [0, 1]),
        ([np.zeros(1), np.zeros((1, 1))], is_narrow, [0]),
        ((np.zeros(1), np.zeros(1)), frozenset({0}), [0]),
        ({("a", 0): np.zeros(1), "a": np.zeros(1), 0: np.zeros(1)}, ("a", 0), [("a", 0)]),
        ({("a", 0): np.zeros(1), "a": np.zeros(1), 0: np.zeros(1)}, ["a", 0], ["a", 0]),
        ({("a", 0): np.zeros(1), "a": np.zeros(1)}, [("a", 0)], [("a", 0)]),
        ({None: np.zeros(1), "a": np.zeros(1)}, None, [None]),
        ({"a": np.zeros(1)}, "b", []),
    ],
)
def test_matches(params: Any, match: Any, chosen: list[Any]) -> None:
    keys = list(params if isinstance(params, dict) else range(len(params)))
    grads = {key: np.ones_like(params[key]) for key in keys}
    optimizer = fs.SGD(1.0, groups=[(match, {"lr": 2.0})])
    optimizer.update(params, grads if isinstance(params, dict) else list(grads.values()))
    assert [key for key in keys if params[key].sum() == -2] == chosen
    assert all(params[key].sum() == -1 for key in keys if key not in chosen)


def test_a_single_array_has_the_key_0() -> None:
    w = np.zeros(2)
    fs.SGD(1.0, groups=[(0, {"lr": 2.0})]).update(w, np.ones(2))
    assert (w == -2).all()


def test_groups_are_one_region(rng: np.random.Generator) -> None:
    fs.set_num_threads(2)
    params = {i: rng.standard_normal((200, 100)) for i in range(30)}
    grads = {key: np.ones_like(w) for key, w in params.items()}
    optimizer = fs.Adam(groups=[([*range(10)], {"lr": 0.5}), ([*range(10, 20)], {"weight_decay": 0.1})])
    before = _native.parallel_regions()
    optimizer.update(params, grads)
    assert _native.parallel_regions() - before == 1


def test_groups_can_not_be_changed_in_place() -> None:
    given: dict[str, Any] = {"lr": 0.5}
    optimizer = fs.SGD(groups=[("a", given)])
    given["lr"] = 2.0
    ((match, overrides),) = optimizer.groups
    assert (match, dict(overrides)) == ("a", {"lr": 0.5})
    assert isinstance(overrides, MappingProxyType)
    assert repr(optimizer) == "SGD(lr=0.01, weight_decay=0.0, groups=(('a', {'lr': 0.5}),))"


WRONG: tuple[tuple[Any, type[Exception], str], ...] = (
    (3, TypeError, "groups is 3, expected pairs of a match and a dict of hyper-parameters"),
    (None, TypeError, "groups is None, expected pairs"),
    (["a"], TypeError, r"groups is \['a'\], expected pairs"),
    ([("a", 3)], TypeError, r"groups is \[\('a', 3\)\], expected pairs"),
    ([({}, {})], TypeError, r"groups\[0\] matches {}, expected a key, a list or set of keys, or a function"),
    ([("a", {}), ([{}], {})], TypeError, r"groups\[1\] matches \[{}\], expected a key"),
    (
        [("a", {"momentum": 0.5})],
        TypeError,
        r"groups\[0\] has 'momentum', expected hyper-parameters of adam: average, ",
    ),
    ([("a", {"scale": 0.5})], TypeError, r"groups\[0\] has 'scale', expected"),
    ([("a", {"clip_norm": 0.5})], TypeError, r"groups\[0\] has 'clip_norm', expected"),
    ([("a", {1: 0.5})], TypeError, r"groups\[0\] has 1, expected"),
    ([("a", {"lr": -1})], ValueError, r"groups\[0\]\['lr'\] is -1, expected a finite number >= 0"),
    ([("a", {"lr": None})], TypeError, r"groups\[0\]\['lr'\] is None, expected a number"),
    (
        [("a", {"beta1": schedule})],
        TypeError,
        r"groups\[0\]\['beta1'\] is <function schedule at .*>, expected a number",
    ),
    ([("a", {"average": 1.5})], ValueError, r"groups\[0\]\['average'\] is 1.5, expected a number from 0 to 1"),
    ([("a", {"clip_value": "1"})], TypeError, r"groups\[0\]\['clip_value'\] is '1', expected a number"),
    ([("a", {"decoupled": "no"})], TypeError, r"groups\[0\]\['decoupled'\] is 'no', expected True or False"),
)


@pytest.mark.parametrize(("groups", "error", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_wrong_groups(groups: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        fs.Adam(groups=groups)
    optimizer = fs.Adam(groups=[("a", {"lr": 0.5})])
    with pytest.raises(error, match=f"^{message}"):
        optimizer.groups = groups
    assert len(optimizer.groups) == 1


def test_an_error_of_a_match_or_a_schedule_changes_nothing() -> None:
    def match(key: Any, w: Any) -> bool:
        raise RuntimeError("no answer")

    params = {"a": np.ones(2), "b": np.ones(2)}
    grads = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = fs.Adam(groups=[("a", {"lr": 0.5}), (match, {})])
    with pytest.raises(RuntimeError, match="no answer"):
        optimizer.update(params, grads)
    optimizer.groups = [("a", {"lr": lambda t: -1.0})]
    with pytest.raises(ValueError, match=r"^lr\(0\) is -1.0, expected"):
        optimizer.update(params, grads)
    optimizer.groups = [("a", {"average": lambda t: 2.0})]
    with pytest.raises(ValueError, match=r"^average\(0\) is 2.0, expected"):
        optimizer.update(params, grads)
    assert optimizer.state == {}
    assert optimizer.iterations == 0
    assert all((w == 1).all() for w in params.values())


# Split.


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
