"""All that a step does in its one pass, through the C interface: the bits of the Python interface."""

import ctypes
import math
from dataclasses import replace
from itertools import combinations, product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from c_interface import (
    API,
    CODES,
    OFF,
    RULES,
    TYPES,
    Array,
    Arrays,
    Gradients,
    Item,
    arithmetic_of,
    assert_same,
    copied,
    gradients_of,
    load,
    new_arrays,
    seen,
    settings_of,
    store,
    update,
)
from fusedstep import _native

every_rule = pytest.mark.parametrize("rule", RULES)
every_type = pytest.mark.parametrize("parameter", TYPES)

T = 3  # the number of the step
OK = (0, -1, None)

# Settings and options of the call by the names that Python has for them, and what the arrays are like.
FEATURES: tuple[dict[str, Any], ...] = (
    {"maximize": True},
    {"scale": 0.5},
    {"scale": 0.0},
    {"weight_decay": 0.25},
    {"weight_decay": 0.25, "decoupled": True},
    {"clip_value": 0.75},
    {"clip_value": 0.0},
    {"average": 0.0},
    {"average": 0.9},
    {"average": 1.0},
    {"clip_norm": 1.5},
    {"clip_norm": 1e9},
    {"clip_norm": 0.0},
    {"skip_nonfinite": True},
    {"skip_nonfinite": True, "element": np.nan},
    {"skip_nonfinite": True, "norm": math.inf},
    {"norm": 40.0},
    {"norm": math.inf},
    {"norm": math.nan},
    {"stochastic": True, "seed": 2**64 - 3},
    {"narrow_state": True, "seed": 5},
    {"copy": "bfloat16"},
    {"copy": "float64"},
    {"zero_grads": True},
    {"gradient": "float16"},
    {"gradient": "bfloat16"},
    {"element": np.inf},
    {"element": np.nan},
)
PAIRS = [a | b for a, b in combinations(FEATURES, 2) if not a.keys() & b.keys()]
assert len(PAIRS) > 250


def made(rng: np.random.Generator, rule: str, parameter: str, chosen: dict[str, Any]) -> list[Arrays]:
    all_arrays = []
    for n in (65, 0, 1, 1033):
        arrays = new_arrays(rng, n, rule, parameter, chosen.get("gradient", parameter), chosen.get("copy"))
        arrays.state_type = "bfloat16" if chosen.get("narrow_state") else arithmetic_of(parameter)
        arrays.states = [store(np.abs(rng.standard_normal(state.size)), arrays.state_type) for state in arrays.states]
        if "average" in chosen:
            arrays.average = rng.standard_normal(n).astype(arithmetic_of(parameter))
        if n > 1 and "element" in chosen:
            arrays.gradient[n // 2] = store(np.array(chosen["element"], np.float32), arrays.gradient_type)
        arrays.zero_gradient = "zero_grads" in chosen
        all_arrays.append(arrays)
    return all_arrays


def step_of_python(rule: str, all_arrays: list[Arrays], chosen: dict[str, Any]) -> tuple[float | None, bool]:
    values = fs.rules()[rule]["hyperparameters"]
    optimizer = SimpleNamespace(_rule=rule, count_updates=True, state={}, iterations=T - 1, **values)
    vars(optimizer).update({name: chosen[name] for name in chosen.keys() & vars(optimizer).keys() - {"scale"}})
    for key, arrays in enumerate(all_arrays):
        states = (seen(state, arrays.state_type or "") for state in arrays.states)
        optimizer.state[key] = dict(zip(RULES[rule].states, states, strict=True))
        assert arrays.scalars is not None
        for i, name in enumerate(RULES[rule].scalars):
            optimizer.state[key][name] = arrays.scalars[i : i + 1].reshape(())
        if arrays.average is not None:
            optimizer.state[key]["average"] = arrays.average
    options = [chosen.get(name, default) for name, default in (("seed", 0), ("stochastic", False))]
    copies = {i: seen(a.copy, a.copy_type) if a.copy is not None else None for i, a in enumerate(all_arrays)}
    result: tuple[float | None, bool] = _native.update(
        [(optimizer, [(0.1, None, (chosen.get("average"), False, *options, "narrow_state" in chosen))])],
        {i: seen(arrays.parameter, arrays.parameter_type) for i, arrays in enumerate(all_arrays)},
        {i: seen(arrays.gradient, arrays.gradient_type) for i, arrays in enumerate(all_arrays)},
        chosen.get("scale", 1.0),
        chosen.get("zero_grads", False),
        copies if "copy" in chosen else None,
        None,
        None,
        chosen.get("norm"),
        chosen.get("clip_norm"),
        chosen.get("skip_nonfinite", False),
    )
    return result


def settings_for(rule: str, chosen: dict[str, Any]) -> Any:
    known = {"stochastic", "seed", *(h.name for h in RULES[rule].hyperparameters)}
    return settings_of(rule, T, lr=0.1, **{name: chosen[name] for name in chosen.keys() & known})


def gradients_for(chosen: dict[str, Any]) -> Any:
    gradients = gradients_of(skip_nonfinite=chosen.get("skip_nonfinite", False), skipped=77, gradient_norm=-7.0)
    if "clip_norm" in chosen:
        gradients.clips, gradients.clip_norm = 1, chosen["clip_norm"]
    if "norm" in chosen:
        # Python's is of the gradients before they are scaled.
        gradients.norm_is_known, gradients.gradient_norm = 1, chosen["norm"] * chosen.get("scale", 1.0)
    return gradients


@every_rule
@every_type
def test_pairs_of_options_have_the_bits_of_python(rule: str, parameter: str, rng: np.random.Generator) -> None:
    for chosen in PAIRS:
        if parameter == "float64" and "narrow_state" in chosen:
            continue
        ours = made(rng, rule, parameter, chosen)
        right = [copied(arrays) for arrays in ours]
        gradients, settings = gradients_for(chosen), settings_for(rule, chosen)
        assert update([arrays.item(settings) for arrays in ours], gradients) == OK, chosen
        norm, skipped = step_of_python(rule, right, chosen)
        assert gradients.skipped == skipped, chosen
        np.testing.assert_equal(gradients.gradient_norm, -7.0 if norm is None else norm, str(chosen))
        for own, other in zip(ours, right, strict=True):
            assert_same(own, other)


@pytest.mark.parametrize("threads", [1, 3])
def test_two_regions_if_the_norm_is_measured(threads: int, rng: np.random.Generator) -> None:
    arrays = [new_arrays(rng, 600_000, "adam", "float32", "float32") for _ in range(2)]
    settings = settings_of("adam")
    assert API.set_num_threads(threads) == 0
    for gradients, regions in (
        (None, 1),
        (gradients_of(), 1),
        (gradients_of(clips=1, clip_norm=1.0), 2),
        (gradients_of(skip_nonfinite=1), 2),
        (gradients_of(clips=1, clip_norm=1.0, norm_is_known=1, gradient_norm=3.0), 1),
    ):
        before = _native.parallel_regions()
        assert update([each.item(settings) for each in arrays], gradients) == OK
        assert _native.parallel_regions() == before + regions * (threads > 1)


def test_settings_may_differ_where_gradients_are_clipped_together(rng: np.random.Generator) -> None:
    ours = [new_arrays(rng, 700, rule, storage, "float32") for rule, storage in product(RULES, TYPES)]
    factors = [0.25, -0.5, 2.0]
    settings = [settings_of(rule, scale=abs(c), maximize=c < 0) for rule in RULES for c in factors]
    chosen = [settings[3 * (i // 4) + i % 3] for i in range(len(ours))]
    items = [arrays.item(own) for arrays, own in zip(ours, chosen, strict=True)]
    right = [copied(arrays) for arrays in ours]
    gradients = gradients_of(clips=1, clip_norm=1.0)
    assert update(items, gradients) == OK
    for i, (own, other) in enumerate(zip(ours, right, strict=True)):
        dtype = arithmetic_of(other.parameter_type)
        other.gradient = other.gradient.astype(dtype) * np.dtype(dtype).type(factors[i % 3])
        other.gradient_type = dtype
        own.gradient = other.gradient
    norm = _native.gradient_norm([arrays.gradient for arrays in right])
    assert gradients.gradient_norm == norm > 10
    for arrays in right:
        arrays.gradient = arrays.gradient * arrays.gradient.dtype.type(1.0 / (norm + 1e-6))
    plain = [settings_of(rule) for rule in RULES for _ in TYPES]
    assert update([arrays.item(own) for arrays, own in zip(right, plain, strict=True)]) == OK
    for own, other in zip(ours, right, strict=True):
        other.gradient = own.gradient
        assert_same(own, other)


def test_nothing_together() -> None:
    for known, expected in ((0, 0.0), (1, 5.0)):
        gradients = gradients_of(clips=1, clip_norm=1.0, skipped=7, norm_is_known=known, gradient_norm=5.0)
        assert update([], gradients) == OK
        assert (gradients.gradient_norm, gradients.skipped) == (expected, 0)


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"size": 0}, "BAD_STRUCT", "gradients"),
        ({"size": ctypes.sizeof(Gradients) - 8}, "BAD_STRUCT", "gradients"),
        ({"size": ctypes.sizeof(Gradients) + 4}, "BAD_STRUCT", "gradients"),
        ({"size": 2**40}, "BAD_STRUCT", "gradients"),
        ({"clips": 2}, "OUT_OF_RANGE", "clips"),
        ({"skip_nonfinite": -1}, "OUT_OF_RANGE", "skip_nonfinite"),
        ({"norm_is_known": 3}, "OUT_OF_RANGE", "norm_is_known"),
        ({"clips": 1, "clip_norm": -1.0}, "OUT_OF_RANGE", "clip_norm"),
        ({"clips": 1, "clip_norm": math.inf}, "OUT_OF_RANGE", "clip_norm"),
        ({"clips": 1, "clip_norm": math.nan}, "OUT_OF_RANGE", "clip_norm"),
        ({"norm_is_known": 1, "gradient_norm": -1.0}, "OUT_OF_RANGE", "gradient_norm"),
        ({"norm_is_known": 1, "gradient_norm": -math.inf}, "OUT_OF_RANGE", "gradient_norm"),
    ],
)
def test_errors_of_what_concerns_all_items(
    fields: dict[str, Any], code: str, field: str, rng: np.random.Generator
) -> None:
    arrays = new_arrays(rng, 9, "sgd", "float32", "float32")
    arrays.zero_gradient = True
    before = copied(arrays)
    gradients = gradients_of(skipped=7, **fields)
    given = bytes(gradients)
    assert update([arrays.item(settings_of("sgd"))], gradients) == (CODES[code], -1, field)
    assert bytes(gradients) == given
    assert_same(arrays, before)


def test_fields_that_are_off_are_ignored(rng: np.random.Generator) -> None:
    arrays = new_arrays(rng, 9, "sgd", "float32", "float32")
    item = arrays.item(settings_of("sgd", clip_value=OFF, average=OFF))
    item.average, item.rows, item.row_count = 1, 1, -5
    gradients = gradients_of(clip_norm=math.nan, gradient_norm=-3.0)
    assert update([item], gradients) == OK
    assert (gradients.gradient_norm, gradients.skipped) == (-3.0, 0)


def test_an_error_leaves_the_norm_alone(rng: np.random.Generator) -> None:
    arrays = [new_arrays(rng, 9, "sgd", "float32", "float32") for _ in range(2)]
    items = [each.item(settings_of("sgd")) for each in arrays]
    items[1].gradient = None
    gradients = gradients_of(clips=1, clip_norm=1.0, skipped=7, gradient_norm=8.0)
    given = bytes(gradients)
    assert update(items, gradients) == (CODES["NULL_POINTER"], 1, "gradient")
    assert bytes(gradients) == given


# Gradients that become zero and share memory.


def item_at(memory: Array, w: int, g: int, n: int, zero: bool, copy: int | None = None) -> Arrays:
    arrays = Arrays(memory[w : w + n], memory[g : g + n], [], zero_gradient=zero)
    return arrays if copy is None else replace(arrays, copy=memory[copy : copy + n])


@pytest.mark.parametrize(
    ("places", "item"),
    [
        # The gradient that becomes zero is another item's parameter, or its copy, before and after it.
        ([(0, 100, 50, True), (120, 200, 50, False)], 0),
        ([(120, 200, 50, False), (0, 100, 50, True)], 1),
        ([(0, 100, 50, True), (300, 200, 50, False, 149)], 0),
        ([(0, 500, 50, False), (300, 200, 50, False, 149), (600, 100, 50, True)], 2),
    ],
)
def test_zeros_in_what_other_items_write_are_an_error(
    places: list[tuple[Any, ...]], item: int, rng: np.random.Generator
) -> None:
    memory = rng.standard_normal(1000).astype(np.float32)
    before, settings = memory.copy(), settings_of("sgd")
    items = [item_at(memory, *place).item(settings) for place in places]
    assert update(items) == (CODES["OVERLAP"], item, "gradient")
    np.testing.assert_array_equal(memory, before)


@pytest.mark.parametrize("zeros", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("second", [100, 120])
def test_gradients_that_share_memory_are_zeroed_last(
    zeros: tuple[bool, bool], second: int, rng: np.random.Generator
) -> None:
    memory = rng.standard_normal(1000).astype(np.float32)
    expected, settings = memory.copy(), settings_of("sgd", lr=0.5)
    places = ((0, 100), (50, second))
    for w, g in places:
        expected[w : w + 50] -= np.float32(0.5) * memory[g : g + 50]
    for (_, g), zero in zip(places, zeros, strict=True):
        expected[g : g + 50] *= not zero
    items = [item_at(memory, w, g, 50, zero).item(settings) for (w, g), zero in zip(places, zeros, strict=True)]
    assert update(items) == OK
    np.testing.assert_array_equal(memory, expected)


@pytest.mark.parametrize("places", [(0, 100, 40), (0, 100, 81), (0, 100, 119), (0, 100, 120)])
def test_zeros_of_rows_in_what_another_item_writes(places: tuple[int, ...], rng: np.random.Generator) -> None:
    memory = rng.standard_normal(1000).astype(np.float32)
    before, settings = memory.copy(), settings_of("sgd")
    w, g, other = places
    rows = item_at(memory, w, g, 40, True)
    rows = replace(rows, gradient=rows.gradient[:20], rows=np.array([1, 3]), row_size=10)
    plain = item_at(memory, other, 500, 20, False)
    expected = (CODES["OVERLAP"], 1, "gradient") if 80 < other < 120 else OK
    assert update([plain.item(settings), rows.item(settings)]) == expected
    assert (memory == before).all() == (expected != OK)


@pytest.mark.parametrize("gradient", ["float32", "float16"])
@pytest.mark.parametrize("rule", ["sgd", "adagrad"])
def test_rows_leave_zeros(rule: str, gradient: str, rng: np.random.Generator) -> None:
    arrays = new_arrays(rng, 9000, rule, "float32", gradient)
    arrays = replace(arrays, gradient=arrays.gradient[:6000].copy(), rows=np.array([0, 2]), row_size=3000)
    before = arrays.parameter.copy()
    arrays.zero_gradient = True
    assert arrays.gradient.all()
    assert update([arrays.item(settings_of(rule, lr=0.5))]) == OK
    assert not arrays.gradient.any()
    np.testing.assert_array_equal(arrays.parameter[3000:6000], before[3000:6000])
    assert (arrays.parameter[:3000] != before[:3000]).all()


def test_master_weights(rng: np.random.Generator) -> None:
    narrow = [store(rng.standard_normal(1000), "bfloat16") for _ in range(2)]
    masters = [load(weights, "bfloat16", "float32") for weights in narrow]
    gradients = [store(rng.standard_normal(1000), "bfloat16") for _ in range(2)]
    states = [np.zeros(1000, np.float32) for _ in range(4)]
    items = [
        Arrays(masters[i], gradients[i], states[2 * i : 2 * i + 2], narrow[i], "float32", "bfloat16", "bfloat16")
        for i in range(2)
    ]
    expected = [load(weights, "bfloat16", "float32") for weights in narrow]
    optimizer = fs.AdamW(0.01)
    for t in (1, 2, 3):
        # Copies are rounded to nearest, whatever is said of parameters.
        settings = settings_of("adamw", t, lr=0.01, stochastic=1, seed=t)
        assert update([arrays.item(settings) for arrays in items]) == OK
        optimizer.update(expected, [load(gradient, "bfloat16", "float32") for gradient in gradients])
    for master, weights, right in zip(masters, narrow, expected, strict=True):
        np.testing.assert_array_equal(master, right)
        np.testing.assert_array_equal(weights, store(right, "bfloat16"))


def test_new_fields_have_defaults_for_older_callers(rng: np.random.Generator) -> None:
    settings = settings_of("sgd", lr=1.0)
    for length in (Item.copy.offset, Item.average.offset, Item.zero_gradient.offset, Item.row_size.offset):
        arrays = new_arrays(rng, 12, "sgd", "float32", "float32", "float32")
        arrays.zero_gradient, arrays.row_size, arrays.rows = True, 4, np.array([1])
        expected = arrays.parameter - arrays.gradient
        given = ctypes.create_string_buffer(bytes(arrays.item(settings))[:length], length)
        assert API.update(1, given, length, None, None) == CODES["OK"]
        np.testing.assert_array_equal(arrays.parameter, expected)
        assert arrays.gradient.all() == (length < Item.row_size.offset)
