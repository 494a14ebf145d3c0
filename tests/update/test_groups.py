"""Groups of parameters with hyper-parameters of their own."""

from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ALL_ROWS, ROWS, Row, schedule
from fusedstep import _native, reference
from networks import arrays, copied, is_narrow


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


# Where half of the default and a quarter would change nothing within a few steps.
OTHERS = {"eta_minus": 0.25, "step_max": 0.01, "t0": 0.0, "t_alpha": 5.0, "t_beta3": 5.0, "warmup_steps": 5.0}


def overrides_of(row: Row) -> dict[str, Any]:
    """Another value of each hyper-parameter."""
    own: dict[str, Any] = fs.rules()[row.optimizer()._rule]["hyperparameters"]
    return {
        name: 0.25 if default is None else not default if isinstance(default, bool) else default / 2 + 0.25
        for name, default in own.items()
        if name != "scale"
    } | {name: value for name, value in OTHERS.items() if name in own}


def changes_the_parameter(cls: Any, name: str) -> bool:
    """Whether a hyper-parameter does at a constant lr."""
    return name not in ("average", "t0", "weight_lr_power") and (cls, name) != (fs.ScheduleFreeSGD, "decoupled")


# Without which another value of a hyper-parameter has no effect here.
WITH: dict[str, dict[str, Any]] = {
    "relative_step": {"lr": 2.0},
    "eps2": {"eps2": 10.0},
    "eps1_as_floor": {"eps1": 0.1},
}
OVERRIDES = [(row.optimizer, name, value) for row in ROWS for name, value in overrides_of(row).items()]


@pytest.mark.parametrize(("cls", "name", "value"), OVERRIDES)
def test_any_hyperparameter_may_be_overridden(cls: Any, name: str, value: Any, rng: np.random.Generator) -> None:
    decay: dict[str, Any] = {"weight_decay": 0.1}
    if name in ("cautious_decay", "max_lr", "decay_after"):
        decay["decoupled"] = True
    decay |= WITH.get(name, {})
    ours, usual, other = cls(**decay, groups=[("W1", {name: value})]), cls(**decay), cls(**decay)
    setattr(other, name, value)
    params = arrays(rng, np.float64)
    without, having = copied(params), copied(params)
    for _ in range(8):  # RAdam has no epsilon in the first
        grads = arrays(rng, np.float64)
        ours.update(params, grads)
        usual.update(without, grads)
        other.update(having, grads)
    np.testing.assert_array_equal(params["W1"], having["W1"])
    assert (params["W1"] != without["W1"]).any() or not changes_the_parameter(cls, name)
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


def test_matches_of_nested_containers() -> None:
    def nested(number: float) -> Any:
        return {"conv": [np.full((2, 2), number), (np.full(2, number), np.full(1, number))], "b": np.full(1, number)}

    asked = []

    def match(key: Any, w: Any) -> bool:
        asked.append(key)
        return bool(w.shape == (1,))

    params = nested(0.0)
    optimizer = fs.SGD(1.0, groups=[(("conv", 1, 0), {"lr": 2.0}), ([("conv", 0)], {"lr": 3.0}), (match, {"lr": 4.0})])
    optimizer.update(params, nested(1.0))
    optimizer.update(params, nested(1.0))
    assert asked == [("conv", 1, 1), "b"]
    matrix, (first, second) = params["conv"]
    assert [float(w.flat[0]) for w in (matrix, first, second, params["b"])] == [-6, -4, -8, -8]


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
    assert repr(optimizer) == (
        "SGD(lr=0.01, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0, groups=(('a', {'lr': 0.5}),))"
    )


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
