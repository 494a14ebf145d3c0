"""What callers really pass: each row of the table, for every rule, against the reference."""

import copy
import ctypes
import pickle
import sys
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import KINDS, Row, assert_same_state

pytestmark = pytest.mark.parametrize("row", KINDS)


def normal(rng: np.random.Generator, shape: Any, dtype: Any = np.float64) -> Any:
    return rng.standard_normal(shape).astype(dtype)


def same_steps(row: Row, params: Any, expected: Any, grads: Any, expected_grads: Any, steps: int = 3) -> None:
    """Steps both; the caller compares the parameters."""
    ours, theirs = row.optimizer(weight_decay=0.01), row.reference(weight_decay=0.01)
    for _ in range(steps):
        ours.update(params, grads)
        theirs.update(expected, expected_grads)
    assert_same_state(ours, theirs)


def test_arrays_are_updated_in_place(row: Row, rng: np.random.Generator) -> None:
    w = normal(rng, 10)
    params, reference, before = {"W": w}, w, w.copy()
    optimizer = row.optimizer()
    for _ in range(2):  # ADOPT's first update moves nothing
        assert optimizer.update(params, {"W": normal(rng, 10)}) is None
    assert params["W"] is w is reference
    assert (w != before).all()


@pytest.mark.parametrize("kind", [dict, list, tuple])
def test_containers(row: Row, kind: Any, dtype: Any, rng: np.random.Generator) -> None:
    def container(arrays: list[Any]) -> Any:
        return dict(zip("abc", arrays, strict=True)) if kind is dict else kind(arrays)

    arrays = [normal(rng, n, dtype) for n in (3, 0, 20)]
    expected = [w.copy() for w in arrays]
    grads = container([normal(rng, n, dtype) for n in (3, 0, 20)])
    same_steps(row, container(arrays), container(expected), grads, grads)
    for w, e in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(w, e)


def test_single_array_has_key_0(row: Row, rng: np.random.Generator) -> None:
    w, g = normal(rng, (4, 5)), normal(rng, (4, 5))
    expected = w.copy()
    same_steps(row, w, expected, g, g)
    np.testing.assert_array_equal(w, expected)


@pytest.mark.parametrize("number", [2.5, np.float64(2.5), np.float32(2.5)], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("kind", [dict, list])
def test_numbers_are_replaced(row: Row, number: Any, kind: Any) -> None:
    def container(value: Any) -> Any:
        return {0: value} if kind is dict else [value]

    params, expected = container(number), container(number)
    history = [params[0]]
    ours, theirs = row.optimizer(), row.reference()
    for gradient in (0.5, -1.5, 3.0):
        ours.update(params, container(type(number)(gradient)))
        theirs.update(expected, container(gradient))
        assert type(params[0]) is type(number)
        assert params[0] == expected[0]
        history.append(params[0])
    assert history[0] == 2.5
    assert len(set(history)) > 1


def test_number_in_a_tuple_is_refused(row: Row) -> None:
    with pytest.raises(TypeError, match=r"params\[0\] is a float, which can't be replaced in a tuple"):
        row.optimizer().update((1.0,), (1.0,))


def test_same_array_under_two_keys(row: Row, dtype: Any, threads: int, rng: np.random.Generator) -> None:
    w = normal(rng, 100_003, dtype)
    e = w.copy()
    grads = {"a": normal(rng, 100_003, dtype), "b": normal(rng, 100_003, dtype)}
    same_steps(row, {"a": w, "b": w}, {"a": e, "b": e}, grads, grads)
    np.testing.assert_array_equal(w, e)


def test_overlapping_parameters(row: Row, dtype: Any, threads: int, rng: np.random.Generator) -> None:
    w = normal(rng, 150_000, dtype)
    e = w.copy()
    grads = [normal(rng, 100_000, dtype), normal(rng, 100_000, dtype), normal(rng, 75_000, dtype)]
    same_steps(row, [w[:100_000], w[50_000:], w[::-2]], [e[:100_000], e[50_000:], e[::-2]], grads, grads)
    np.testing.assert_array_equal(w, e)


@pytest.mark.parametrize("shift", [0, 1, 7, -5000])
def test_gradient_overlaps_its_parameter(
    row: Row, shift: int, dtype: Any, threads: int, rng: np.random.Generator
) -> None:
    n = 100_000
    base = normal(rng, n + 10_000, dtype)
    expected = base.copy()

    def views(a: Any) -> tuple[Any, Any]:
        return a[5000 : 5000 + n], a[5000 + shift : 5000 + shift + n]

    (w, g), (we, ge) = views(base), views(expected)
    same_steps(row, w, we, g, ge)
    np.testing.assert_array_equal(base, expected)


def test_gradient_that_is_another_parameter(row: Row, dtype: Any, threads: int, rng: np.random.Generator) -> None:
    a, b = normal(rng, (300, 300), dtype), normal(rng, (300, 300), dtype)
    ea, eb = a.copy(), b.copy()
    same_steps(row, [a, b], [ea, eb], [b.T, a], [eb.T, ea])
    np.testing.assert_array_equal(a, ea)
    np.testing.assert_array_equal(b, eb)


@pytest.mark.parametrize("kind", [">f4", "f2"])
def test_gradient_of_another_type_that_lies_in_an_earlier_parameter(row: Row, kind: str, dtype: Any) -> None:
    def arrays() -> tuple[Any, Any, Any]:
        a = np.full(16, 1.5, dtype)
        # As bytes, what is in a is other numbers in another type; these are none of them NaN, before and after.
        return a, np.zeros(4), a.view(kind)[:4]

    (a, b, view), (ea, eb, expected_view) = arrays(), arrays()
    ours, theirs = row.optimizer(0.1), row.reference(0.1)
    with np.errstate(all="ignore"):
        ours.update([a, b], [np.ones(16), view])
        theirs.update([ea, eb], [np.ones(16), expected_view])
    assert not np.isnan(eb).all()  # which would be equal whatever was read
    np.testing.assert_array_equal(a, ea)
    np.testing.assert_array_equal(b, eb)


def test_gradient_and_parameter_of_both_kinds_of_overlap(row: Row, rng: np.random.Generator) -> None:
    w = normal(rng, 50)
    e = w.copy()
    same_steps(row, {"a": w, "b": w}, {"a": e, "b": e}, {"a": w, "b": w[::-1]}, {"a": e, "b": e[::-1]})
    np.testing.assert_array_equal(w, e)


def test_keys_that_come_later_and_rebound_arrays(row: Row, rng: np.random.Generator) -> None:
    ours, theirs = row.optimizer(), row.reference()
    params, expected = {"a": normal(rng, 5)}, {}
    expected["a"] = params["a"].copy()
    for step in range(4):
        if step == 1:
            params["b"] = normal(rng, 7)
            expected["b"] = params["b"].copy()
        if step == 2:
            params["a"] = normal(rng, 5)
            expected["a"] = params["a"].copy()
        grads = {key: normal(rng, w.shape) for key, w in params.items()}
        ours.update(params, grads)
        theirs.update(expected, grads)
    for key, w in params.items():
        np.testing.assert_array_equal(w, expected[key])
    assert_same_state(ours, theirs)


def test_one_optimizer_for_two_networks(row: Row, rng: np.random.Generator) -> None:
    ours, theirs = row.optimizer(), row.reference()
    networks = [{f"{net}{key}": normal(rng, 6) for key in "Wb"} for net in "xy"]
    expected = [{key: w.copy() for key, w in network.items()} for network in networks]
    for _ in range(3):
        for network, e in zip(networks, expected, strict=True):
            grads = {key: normal(rng, 6) for key in network}
            ours.update(network, grads)
            theirs.update(e, grads)
    for network, e in zip(networks, expected, strict=True):
        for key, w in network.items():
            np.testing.assert_array_equal(w, e[key])


def test_extra_gradients_are_ignored_and_none_skips(row: Row, rng: np.random.Generator) -> None:
    params = {"a": normal(rng, 5), "b": normal(rng, 5)}
    before = params["b"].copy()
    optimizer = row.optimizer()
    optimizer.update(params, {"c": "not an array", "b": None, "a": normal(rng, 5)})
    np.testing.assert_array_equal(params["b"], before)
    assert "b" not in optimizer.state
    optimizer.update([params["b"]], [None])
    np.testing.assert_array_equal(params["b"], before)
    optimizer.update(params["b"], None)
    np.testing.assert_array_equal(params["b"], before)
    assert optimizer.iterations == 3


REFILLED: dict[str, Any] = {
    "as it was": lambda optimizer: optimizer,
    "pickled": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
    "copied": copy.deepcopy,
}


@pytest.mark.parametrize("how", REFILLED)
@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_list_of_another_length_would_have_other_parameters_state(row: Row, how: str, length: int) -> None:
    optimizer = row.optimizer()
    optimizer.update([np.ones(2) for _ in range(3)], [np.ones(2), None, None])
    optimizer = REFILLED[how](optimizer)
    params, before = [np.ones(2) for _ in range(length)], optimizer.state_dict()
    if not optimizer.state:  # a rule without state takes any
        optimizer.update(params, params)
        return
    with pytest.raises(ValueError, match=rf"^params has length {length}, but the state is that of 3: give None for a"):
        optimizer.update(params, params)
    np.testing.assert_equal(params, [np.ones(2) for _ in range(length)])
    np.testing.assert_equal(optimizer.state_dict(), before)
    optimizer.update(tuple(np.ones(2) for _ in range(3)), [None, np.ones(2), None])
    optimizer.update({"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)})
    optimizer.update(np.ones(2), np.ones(2))
    for forget in (lambda: optimizer.state.clear(), lambda: setattr(optimizer, "state", {})):
        forget()
        optimizer.update(params, [np.ones(2)] * length)
        params.append(np.ones(2))
        length += 1


def test_a_loaded_state_says_the_least_length(row: Row) -> None:
    optimizer, loaded = row.optimizer(), row.optimizer()
    optimizer.update([np.ones(2) for _ in range(3)], [None, np.ones(2), None])
    loaded.update([np.ones(2)], [np.ones(2)])
    loaded.load_state_dict(optimizer.state_dict())
    if not loaded.state:
        return
    with pytest.raises(ValueError, match=r"^params has length 1, but the state is that of 2 or more: "):
        loaded.update([np.ones(2)], [np.ones(2)])
    loaded.update([np.ones(2) for _ in range(3)], [np.ones(2)] * 3)


@pytest.mark.parametrize("count", [1, 3])
def test_lists_differ_in_length(row: Row, count: int) -> None:
    params = [np.ones(2), np.ones(2)]
    with pytest.raises(ValueError, match=f"^grads has length {count}, params has 2$"):
        row.optimizer().update(params, [np.ones(2)] * count)
    np.testing.assert_equal(params, [np.ones(2), np.ones(2)])


def test_empty_and_zero_dimensional_arrays(row: Row, dtype: Any) -> None:
    params = [np.array(2.5, dtype), np.empty((0, 3), dtype), np.empty((3, 0), dtype).T, np.ones((1, 1), dtype)]
    expected = [w.copy() for w in params]
    grads = [np.array(1.5), np.empty((0, 3)), np.empty((0, 3)), np.broadcast_to(np.float32(2), (1, 1))]
    held = params[0]
    same_steps(row, params, expected, grads, grads)
    for w, e in zip(params, expected, strict=True):
        np.testing.assert_array_equal(w, e)
    assert params[0] is held
    row.optimizer().update({}, {})
    row.optimizer().update([], [])


def test_arrays_that_name_their_byte_order(row: Row, dtype: Any, rng: np.random.Generator) -> None:
    base = normal(rng, 20, dtype)
    w: Any = np.asarray(((ctypes.c_float if dtype == np.float32 else ctypes.c_double) * 20).from_buffer(base))
    assert w.dtype.byteorder == ("<" if sys.byteorder == "little" else ">")  # not "=", as elsewhere
    expected, g = base.copy(), normal(rng, 20)
    same_steps(row, [w], [expected], [g], [g])
    np.testing.assert_array_equal(base, expected)


def test_subclasses_of_arrays(row: Row, rng: np.random.Generator, tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "w", np.float32, "w+", shape=(20, 5))
    mapped[...] = normal(rng, (20, 5))
    expected, g = np.array(mapped), normal(rng, (20, 5))
    same_steps(row, {"w": mapped}, {"w": expected}, {"w": g}, {"w": g})
    np.testing.assert_array_equal(mapped, expected)


def test_schedule_gets_the_number_of_updates_made(row: Row) -> None:
    asked: list[int] = []

    def schedule(iterations: int) -> float:
        asked.append(iterations)
        return 0.1

    optimizer = row.optimizer(lr=schedule)
    w = np.ones(3)
    for _ in range(3):
        optimizer.update(w, w.copy())
    assert asked == [0, 1, 2]


def test_attributes_may_be_changed_between_updates(row: Row, rng: np.random.Generator) -> None:
    ours, theirs = row.optimizer(), row.reference()
    w, g = normal(rng, 9), normal(rng, 9)
    expected = w.copy()
    for lr, weight_decay in ((0.1, 0.0), (0.01, 0.5), (0.2, 0.0)):
        ours.lr = theirs.lr = lr
        ours.weight_decay = theirs.weight_decay = weight_decay
        ours.update(w, g)
        theirs.update(expected, g)
    np.testing.assert_array_equal(w, expected)


def test_odd_strides_whose_elements_are_distinct(row: Row, rng: np.random.Generator) -> None:
    def odd(base: Any) -> Any:
        return np.lib.stride_tricks.as_strided(base, (3, 2), (16, 24), writeable=True)

    base, g = normal(rng, 20), normal(rng, (3, 2))
    expected = base.copy()
    same_steps(row, odd(base), odd(expected), g, g)
    np.testing.assert_array_equal(base, expected)


def test_interleaved_state(row: Row, rng: np.random.Generator) -> None:
    ours, theirs = row.optimizer(), row.reference()
    w, g = normal(rng, 9), normal(rng, 9)
    expected = w.copy()
    for _ in range(2):
        ours.update(w, g)
        theirs.update(expected, g)
        buffer = np.empty((9, 1 + len(theirs.state_names)))
        for i, letter in enumerate(theirs.state_names):
            array = ours.state[0][letter]
            buffer[: array.size, i] = array
            ours.state[0][letter] = buffer[: array.size, i]
    np.testing.assert_array_equal(w, expected)
    assert_same_state(ours, theirs)


def test_the_order_of_an_ordered_dict(row: Row, rng: np.random.Generator) -> None:
    w = normal(rng, 9)
    expected = w.copy()
    grads = {"a": normal(rng, 9), "b": normal(rng, 9)}
    params, expected_params = OrderedDict(a=w, b=w), OrderedDict(a=expected, b=expected)
    params.move_to_end("a")
    expected_params.move_to_end("a")
    same_steps(row, params, expected_params, grads, grads)
    np.testing.assert_array_equal(w, expected)


def test_ten_thousand_arrays(row: Row, rng: np.random.Generator, threads: int) -> None:
    params = {i: normal(rng, 5) for i in range(10_000)}
    expected = {i: w.copy() for i, w in params.items()}
    same_steps(row, params, expected, params.copy(), expected.copy(), steps=1)
    for i, w in params.items():
        np.testing.assert_array_equal(w, expected[i])


def test_settings_hold_for_all_rules(row: Row) -> None:
    assert isinstance(row.optimizer(), fs.Optimizer)
    assert repr(row.optimizer()).startswith(type(row.optimizer()).__name__ + "(lr=")
