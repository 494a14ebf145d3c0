"""State: what it is called, and how it is saved, copied and restored."""

import collections
import copy
import pickle
import types
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ALL_ROWS, Row, assert_same_state, schedule
from fusedstep import book


def advance(optimizer: Any, w: Any, rng: np.random.Generator, steps: int = 2) -> None:
    for _ in range(steps):
        optimizer.update({"W": w}, {"W": rng.standard_normal(w.shape)})


COPIES: dict[str, Any] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
    "state_dict": lambda optimizer: loaded(optimizer),
}


def loaded(optimizer: Any) -> Any:
    other = type(optimizer)(lr=0.9)
    other.update(np.ones(2), np.ones(2))
    other.load_state_dict(optimizer.state_dict())
    return other


@pytest.mark.parametrize("row", ALL_ROWS)
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_goes_on_as_the_original(row: Row, how: str, rng: np.random.Generator) -> None:
    original = row.optimizer(lr=0.05, weight_decay=0.01)
    w = rng.standard_normal(30)
    advance(original, w, rng)
    other, other_w, other_rng = COPIES[how](original), w.copy(), copy.deepcopy(rng)
    assert other.iterations == 2
    assert repr(other) == repr(original)
    advance(original, w, rng)
    advance(other, other_w, other_rng)
    np.testing.assert_array_equal(other_w, w)
    np.testing.assert_equal(other.state, original.state)
    assert other.steps == original.steps


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_keeps_the_order_of_the_books_nesterov(how: str) -> None:
    results = []
    for optimizer in (book.Nesterov(0.1, legacy=True), COPIES[how](book.Nesterov(0.1, legacy=True))):
        assert repr(optimizer) == "Nesterov(lr=0.1, momentum=0.9, legacy=True)"
        w = np.ones(3)
        advance(optimizer, w, np.random.default_rng(1))
        results.append(w)
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("row", ALL_ROWS)
def test_state_dict_is_a_snapshot(row: Row, rng: np.random.Generator) -> None:
    optimizer = row.optimizer(lr=schedule)
    w = rng.standard_normal(30)
    advance(optimizer, w, rng)
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    assert type(saved) is dict
    name = f"fusedstep.optimizers.{type(optimizer).__name__}"
    counts = {"steps"} if row.reference().counts_steps else set()
    assert saved.keys() == {"iterations", "skipped", name, "state"} | counts
    assert "lr" not in saved[name]
    assert "weight_decay" in saved[name]
    advance(optimizer, w, rng)
    np.testing.assert_equal(saved, before)
    optimizer.load_state_dict(saved)
    assert optimizer.lr is schedule
    advance(optimizer, w, rng)
    np.testing.assert_equal(saved, before)


@pytest.mark.parametrize(
    ("optimizer", "letters"),
    [
        (fs.SGD(), ""),
        (fs.Momentum(), "v"),
        (fs.Nesterov(), "v"),
        (fs.AdaGrad(), "h"),
        (fs.RMSProp(), "h"),
        (fs.Adam(), "mv"),
        (fs.AdamW(), "mv"),
    ],
    ids=repr,
)
def test_letters(optimizer: fs.Optimizer, letters: str) -> None:
    assert optimizer.state == {}
    optimizer.update([np.ones(2), np.ones((3, 4), np.float32)], [np.ones(2), np.ones((3, 4))])
    expected = {0: list(letters), 1: list(letters)} if letters else {}
    assert {key: list(arrays) for key, arrays in optimizer.state.items()} == expected
    for array in optimizer.state.get(1, {}).values():
        assert array.shape == (3, 4)
        assert array.dtype == np.float32


@pytest.mark.parametrize("cls", [fs.Momentum, book.Momentum])
@pytest.mark.parametrize("first", [True, False])
def test_the_form_of_a_velocity_can_not_change(cls: type[fs.Momentum], first: bool) -> None:
    optimizer = cls(0.1)
    optimizer.lr_in_velocity = first
    optimizer.lr_in_velocity = not first  # there is no velocity yet
    optimizer.lr_in_velocity = first
    optimizer.update(np.ones(2), np.ones(2))
    optimizer.lr_in_velocity = first
    message = f"^lr_in_velocity is {not first}, but the state was made with {first}: clear state first$"
    with pytest.raises(ValueError, match=message):
        optimizer.lr_in_velocity = not first
    assert optimizer.lr_in_velocity is first
    other = cls(0.1)
    other.load_state_dict(optimizer.state_dict())
    assert other.lr_in_velocity is first
    optimizer.state.clear()
    optimizer.lr_in_velocity = not first


@pytest.mark.parametrize("state", [collections.UserDict(), types.MappingProxyType({}), [], (), None], ids=repr)
def test_state_is_a_dict(state: Any) -> None:
    for optimizer in (fs.Adam(), book.Adam(), fs.SGD()):
        with pytest.raises(TypeError, match=f"^state is a {type(state).__name__}, expected a dict$"):
            optimizer.state = state


def test_damaged_snapshots_change_nothing() -> None:
    optimizer = fs.Adam()
    optimizer.update(np.ones(3), np.ones(3))
    good = optimizer.state_dict()
    name = "fusedstep.optimizers.Adam"

    def damaged(**changes: Any) -> dict[str, Any]:
        return {**copy.deepcopy(good), **changes}

    def of_another(cls: type[fs.Optimizer]) -> dict[str, Any]:
        other = cls(0.1)
        other.update(np.ones(3), np.ones(3))
        return other.state_dict()

    bad: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"iterations": 1}, ValueError, f"the state dict has iterations, but lacks {name}, state"),
        (
            of_another(fs.Momentum),
            ValueError,
            f"has fusedstep.optimizers.Momentum, iterations, skipped, state, but lacks {name}$",
        ),
        (
            of_another(fs.AdamW),
            ValueError,
            f"has fusedstep.optimizers.AdamW, iterations, skipped, state, steps, but lacks {name}$",
        ),
        (of_another(book.Adam), ValueError, f"has fusedstep.book.Adam, iterations, skipped, state, but lacks {name}$"),
        (
            damaged(**{name: {"lr": 0.1}}),
            ValueError,
            f"{name} has lr, expected amsgrad, average, beta1, .*, eps, eps_corrected, eps_inside_root, groups, lr, m",
        ),
        (damaged(**{name: {**good[name], "beta1": 2}}), ValueError, "beta1 is 2, expected a number from 0 to below 1"),
        (damaged(state={"W": {"m": np.ones(3)}}), ValueError, r"state\['W'\] has m, expected m, v"),
        (
            damaged(state={0: {"m": np.ones(3), "v": "a"}}),
            ValueError,
            r"state\[0\]\['v'\] has dtype <U1, expected float32",
        ),
        (damaged(state={0: {"m": np.ones(3), "v": None}}), ValueError, r"state\[0\]\['v'\] has dtype object, expected"),
        (damaged(iterations=None), TypeError, "iterations is None, expected an integer"),
        (damaged(iterations=2.7), TypeError, "iterations is 2.7, expected an integer"),
        (damaged(iterations=-5), ValueError, "iterations is -5, expected 0 or more"),
        (damaged(steps={0: -1}), ValueError, r"steps\[0\] is -1, expected 0 or more"),
        (damaged(steps={0: 1.5}), TypeError, r"steps\[0\] is 1.5, expected an integer"),
        (damaged(iterations=True), TypeError, "iterations is True, expected an integer"),
        (damaged(iterations=2**63 - 1), ValueError, "iterations is 9223372036854775807, expected a number below"),
        (damaged(steps={0: 10**400}), ValueError, r"steps\[0\] is 1000"),
        (damaged(steps=[1]), TypeError, "steps is a list, expected a dict"),
        (damaged(state=[good["state"][0]]), TypeError, "state is a list, expected a dict"),
        (damaged(state={0: [np.ones(3)] * 2}), TypeError, r"state\[0\] is a list, expected a dict"),
        (damaged(state={0: {"m": [1.0, [2.0]], "v": 1.0}}), ValueError, r"state\[0\]\['m'\] is no array"),
        (
            damaged(state={0: {"m": np.ones(3), "v": np.ones((3, 1))}}),
            ValueError,
            r"state\[0\]\['v'\] has shape \(3, 1\) and dtype float64, state\[0\]\['m'\] has \(3,\) and float64",
        ),
        (
            damaged(state={0: {"m": np.ones(3), "v": np.ones(3, np.float32)}}),
            ValueError,
            r"state\[0\]\['v'\] has shape \(3,\) and dtype float32",
        ),
        (damaged(**{name: None}), TypeError, f"{name} is a NoneType, expected a dict"),
        (
            damaged(**{name: {**good[name], "eps_inside_root": "no"}}),
            TypeError,
            "eps_inside_root is 'no', expected True",
        ),
        (damaged(**{name: {**good[name], "eps": "1"}}), TypeError, "eps is '1', expected a number"),
        (damaged(**{name: {**good[name], "eps": True}}), TypeError, "eps is True, expected a number"),
        (None, TypeError, "the state dict is a NoneType, expected a dict"),  # type: ignore[list-item]
        ([], TypeError, "the state dict is a list, expected a dict"),  # type: ignore[list-item]
    ]
    for state_dict, error, message in bad:
        with pytest.raises(error, match=message):
            optimizer.load_state_dict(state_dict)
        np.testing.assert_equal(optimizer.state_dict(), good)


def test_float32_state_stays_float32_after_loading() -> None:
    ours, theirs = fs.Adam(), fs.reference.Adam()
    w = np.linspace(-1, 1, 9, dtype=np.float32)
    expected = w.copy()
    for _ in range(3):
        ours.update(w, w)
        theirs.update(expected, expected)
        ours.load_state_dict(ours.state_dict())
    np.testing.assert_array_equal(w, expected)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (7, 5), (100, 100), (1000, 1000)])
def test_state_lies_where_processors_are_fast(shape: tuple[int, ...], dtype: Any) -> None:
    w: Any = np.ones(shape, dtype)
    optimizer = fs.Adam()
    optimizer.update([w], [w.copy()])
    moments = optimizer.state[0].values()
    assert all(a.shape == shape and a.dtype == dtype and a.flags.c_contiguous for a in moments)
    assert all(a.ctypes.data % 64 == 0 for a in moments)
    if w.nbytes >= 32768:
        places = [a.ctypes.data % 4096 for a in (w, *moments)]
        assert min(abs(a - b) for a in places for b in places if a is not b) >= 1024


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (book.Adam, {"eps": 1e-3, "weight_decay": 0.25, "eps_inside_root": True}),
        (book.Momentum, {"lr_in_velocity": False}),
        (book.RMSprop, {"eps_inside_root": True, "eps": 0.1}),
    ],
)
def test_what_is_no_argument_is_in_the_state_too(cls: type[Any], values: dict[str, Any]) -> None:
    ours, other = cls(lr=0.5), cls()
    for name, value in values.items():
        setattr(ours, name, value)
    ours.decay = 0.5  # not one of its own
    other.load_state_dict(ours.state_dict())
    assert {name: getattr(other, name) for name in values} == values
    assert other.lr == 0.5
    assert not hasattr(other, "decay")
    assert not set(values) & set(repr(ours).replace("(", ",").replace("=", ",").split(","))
