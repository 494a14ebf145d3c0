"""Steps through the C interface: the bits of the Python interface, for every rule, storage type and option."""

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest

import cases
import fusedstep as fs
from c_interface import (
    API,
    RULES,
    TYPES,
    Arrays,
    HyperparameterOfRule,
    arithmetic_of,
    assert_same,
    copied,
    dtype_of,
    load,
    new_arrays,
    settings_of,
    store,
    update,
)
from fusedstep import _native, book, reference

SIZES = (0, 1, 7, 8, 9, 63, 64, 65, 1000, 40_003)


@dataclass(frozen=True)
class Row:
    """A rule as C, Python and the reference call it; the options have the same names in all three."""

    rule: str
    optimizer: Callable[..., fs.Optimizer]
    reference: Callable[..., reference.Optimizer]
    options: dict[str, float] = field(default_factory=dict)


_PLAIN_VELOCITY: dict[str, Any] = {"lr_in_velocity": False}
ROWS = (
    Row("sgd", fs.SGD, reference.SGD),
    Row("sgd", fs.SGD, reference.SGD, {"weight_decay": 0.3}),
    Row("momentum", fs.Momentum, reference.Momentum, {"momentum": 0.8}),
    Row("momentum", fs.Momentum, reference.Momentum, {"momentum": 1.0, "weight_decay": 0.3}),
    Row(
        "momentum_plain_velocity",
        partial(fs.Momentum, **_PLAIN_VELOCITY),
        partial(reference.Momentum, **_PLAIN_VELOCITY),
    ),
    Row("nesterov", fs.Nesterov, reference.Nesterov, {"momentum": 0.8}),
    Row("nesterov_new_velocity", partial(book.Nesterov, legacy=True), partial(reference.Nesterov, legacy=True)),
    Row("adagrad", fs.AdaGrad, reference.AdaGrad, {"weight_decay": 0.3}),
    Row("adagrad", fs.AdaGrad, reference.AdaGrad, {"eps": 1e-3, "eps_inside_root": 1}),
    Row("rmsprop", fs.RMSProp, reference.RMSProp, {"decay_rate": 0.7, "eps": 1e-3}),
    Row("rmsprop", fs.RMSProp, reference.RMSProp, {"eps": 1e-3, "eps_inside_root": 1}),
    Row("adam", fs.Adam, reference.Adam),
    Row("adam", fs.Adam, reference.Adam, {"beta1": 0.8, "beta2": 0.98, "eps": 1e-3, "weight_decay": 0.3}),
    Row("adam", fs.Adam, reference.Adam, {"eps": 1e-3, "eps_inside_root": 1}),
    Row("adamw", fs.AdamW, reference.AdamW),
    Row("adamw", fs.AdamW, reference.AdamW, {"weight_decay": 0.3, "eps": 1e-3, "eps_inside_root": 1}),
)
every_row = pytest.mark.parametrize("row", [pytest.param(row, id="-".join([row.rule, *row.options])) for row in ROWS])
every_rule = pytest.mark.parametrize("rule", RULES)


OWN_DECAY = {row.optimizer()._rule for row in cases.ROWS if row.reference.decays} | {"adafactor_momentum"}


def scalars_of(arrays: Arrays) -> list[Any]:
    """Views of the numbers beside the state."""
    return [] if arrays.scalars is None else [arrays.scalars[i, ...] for i in range(arrays.scalars.size)]


def python_options(row: Row) -> dict[str, Any]:
    return {name: bool(value) if name == "eps_inside_root" else value for name, value in row.options.items()}


@every_row
@pytest.mark.parametrize("storage", ["float32", "float64"])
def test_the_bits_of_python(row: Row, storage: str, rng: np.random.Generator) -> None:
    for n in SIZES:
        optimizer = row.optimizer(lr=0.1, **python_options(row))
        ours = new_arrays(rng, n, row.rule, storage, storage)
        expected = ours.parameter.copy()
        for t in (1, 2, 3):
            ours.gradient = rng.standard_normal(n).astype(storage)
            before = ours.gradient.copy()
            assert update([ours.item(settings_of(row.rule, t, lr=0.1, **row.options))]) == (0, -1, None)
            np.testing.assert_array_equal(ours.gradient, before)
            optimizer.update(expected, ours.gradient)
        np.testing.assert_array_equal(ours.parameter, expected, strict=True)
        for array, right in zip([*ours.states, *scalars_of(ours)], optimizer.state.get(0, {}).values(), strict=True):
            np.testing.assert_array_equal(array, right, strict=True)


def another(h: HyperparameterOfRule) -> float:
    return 1 - h.default if h.is_flag else 0.5 if h.may_be_off else min(h.default / 2 + 0.25, h.maximum)


@every_rule
@pytest.mark.parametrize("storage", ["float32", "float64", "float16"])
def test_every_hyperparameter_has_the_bits_of_python(rule: str, storage: str, rng: np.random.Generator) -> None:
    values = {h.name: another(h) for h in RULES[rule].hyperparameters}
    flags = {h.name for h in RULES[rule].hyperparameters if h.is_flag}
    for chosen in (values, *({name: value} for name, value in values.items())):
        ours = new_arrays(rng, 1033, rule, storage, storage)
        ours.states = [np.abs(rng.standard_normal(state.size)).astype(state.dtype) for state in ours.states]
        if "average" in chosen:
            ours.average = rng.standard_normal(1033).astype(arithmetic_of(storage))
        right = copied(ours)
        hyperparameters: dict[str, Any] = {
            name: bool(value) if name in flags else value for name, value in chosen.items()
        }
        states = [*right.states, *([] if right.average is None else [right.average]), *scalars_of(right)]
        fs.step(rule, [right.parameter], [right.gradient], [states], t=5, **hyperparameters)
        assert update([ours.item(settings_of(rule, 5, **chosen))]) == (0, -1, None)
        assert_same(ours, right)


@every_row
@pytest.mark.parametrize("gradient", TYPES)
@pytest.mark.parametrize("parameter", TYPES)
def test_storage_types_round_the_reference(row: Row, parameter: str, gradient: str, rng: np.random.Generator) -> None:
    arithmetic = arithmetic_of(parameter)
    for n, copy in ((1, None), (65, "float32"), (1000, "bfloat16"), (2049, "float16"), (1025, "float64")):
        right = row.reference(lr=0.1, **python_options(row))
        ours = new_arrays(rng, n, row.rule, parameter, gradient, copy)
        for t in (1, 2, 3):
            ours.gradient = store(rng.standard_normal(n), gradient)
            w = load(ours.parameter, parameter, arithmetic)
            right.update([w], [load(ours.gradient, gradient, arithmetic)])
            states = list(right.state.get(0, {}).values())
            expected = Arrays(store(w, parameter), ours.gradient.copy(), states[: len(ours.states)])
            if copy:
                expected.copy = store(w, copy)
            assert update([ours.item(settings_of(row.rule, t, lr=0.1, **row.options))]) == (0, -1, None)
            assert_same(ours, expected)


@every_rule
@pytest.mark.parametrize("copy", TYPES)
@pytest.mark.parametrize("parameter", TYPES)
def test_storage_types_of_any_rule_round_its_arithmetic(
    rule: str, parameter: str, copy: str, rng: np.random.Generator
) -> None:
    arithmetic = arithmetic_of(parameter)
    for n, gradient in product((0, 9, 1025), TYPES):
        ours = new_arrays(rng, n, rule, parameter, gradient, copy)
        ours.states = [np.abs(rng.standard_normal(state.size)).astype(arithmetic) for state in ours.states]
        wide = Arrays(
            load(ours.parameter, parameter, arithmetic),
            load(ours.gradient, gradient, arithmetic),
            [state.copy() for state in ours.states],
            parameter_type=arithmetic,
            gradient_type=arithmetic,
            scalars=copied(ours).scalars,
        )
        settings = settings_of(rule, 3, weight_decay=0.01, scale=0.5)
        before = ours.gradient.copy()
        assert update([ours.item(settings)]) == update([wide.item(settings)]) == (0, -1, None)
        assert_same(
            ours,
            Arrays(store(wide.parameter, parameter), before, wide.states, store(wide.parameter, copy)),
        )


@pytest.mark.parametrize(
    ("rule", "decoupled"),
    # A rule with a place of its own for decoupled decay differs from decay before the step.
    [(rule, decoupled) for rule in RULES for decoupled in (0, 1) if not (decoupled and rule in OWN_DECAY)],
)
@pytest.mark.parametrize("storage", ["float32", "float64"])
def test_scale_and_decay_of_any_rule(rule: str, decoupled: int, storage: str, rng: np.random.Generator) -> None:
    lr, decay, scale = 0.1, 0.3, 0.7
    kind = np.dtype(storage).type
    ours = new_arrays(rng, 1033, rule, storage, storage)
    ours.states = [np.abs(rng.standard_normal(state.size)).astype(storage) for state in ours.states]
    plain = copied(ours)
    plain.gradient *= kind(scale)
    if decoupled:
        plain.parameter *= kind(1 - lr * decay)
    else:
        plain.gradient += kind(decay) * plain.parameter
    all_options = {"lr": lr, "weight_decay": decay, "decoupled": decoupled, "scale": scale}
    assert update([ours.item(settings_of(rule, 2, **all_options))]) == (0, -1, None)
    assert update([plain.item(settings_of(rule, 2, lr=lr, weight_decay=0))]) == (0, -1, None)
    plain.gradient = ours.gradient
    assert_same(ours, plain)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_mix_of_items_is_one_region_a_pass(threads: int, rng: np.random.Generator) -> None:
    mix: list[tuple[Arrays, Any]] = []
    shared = settings_of("adam", 7, lr=0.02)
    for i, (rule, parameter, gradient) in enumerate(product(RULES, TYPES, TYPES)):
        n = (0, 1, 65, 1000, 2500)[i % 5] if i else 300_000  # enough for three threads
        own = settings_of(rule, 1 + i % 4, lr=0.01 * (1 + i % 3), weight_decay=0.1 * (i % 2), scale=1 / (1 + i % 2))
        settings = shared if rule == "adam" and i % 3 else own
        mix.append((new_arrays(rng, n, rule, parameter, gradient, (None, *TYPES)[i % 5]), settings))
    apart = [copied(arrays) for arrays, _ in mix]
    assert API.set_num_threads(1) == 0
    for arrays, (_, settings) in zip(apart, mix, strict=True):
        assert update([arrays.item(settings)]) == (0, -1, None)
    assert API.set_num_threads(threads) == 0
    before = _native.parallel_regions()
    assert update([arrays.item(settings) for arrays, settings in mix]) == (0, -1, None)
    assert _native.parallel_regions() - before in ((0,) if threads == 1 else (1, 2, 3))
    for (arrays, _), right in zip(mix, apart, strict=True):
        assert_same(arrays, right)


@pytest.mark.parametrize("types", [("float32", "float16"), tuple(TYPES)], ids=["one arithmetic", "both"])
def test_settings_that_take_turns(types: tuple[str, ...], rng: np.random.Generator) -> None:
    # Shared, equal, and others in between, more of them than are remembered.
    settings = [settings_of("adam", 1 + i // 2, lr=0.01 * (1 + i // 4)) for i in range(24)]
    mix = [
        (new_arrays(rng, 70, "adam", storage, "float32"), settings[i])
        for i, storage in ((i, storage) for i in (*range(24), *range(0, 24, 5), 0, 23, 0) for storage in types)
    ]
    apart = [copied(arrays) for arrays, _ in mix]
    for arrays, (_, own) in zip(apart, mix, strict=True):
        assert update([arrays.item(own)]) == (0, -1, None)
    assert update([arrays.item(own) for arrays, own in mix]) == (0, -1, None)
    for (arrays, _), right in zip(mix, apart, strict=True):
        assert_same(arrays, right)


def test_equal_programs_need_equal_bits(rng: np.random.Generator) -> None:
    # 0 and -0 are equal numbers, but as learning rates they leave different zeros.
    w, g = np.array([-0.0], np.float32), np.array([1.0], np.float32)
    ours = [Arrays(w.copy(), g, []) for _ in range(2)]
    settings = [settings_of("sgd", lr=lr) for lr in (0.0, -0.0)]
    assert update([arrays.item(own) for arrays, own in zip(ours, settings, strict=True)]) == (0, -1, None)
    assert [math.copysign(1, arrays.parameter[0]) for arrays in ours] == [-1, 1]


@pytest.mark.parametrize("storage", TYPES)
def test_items_that_share_memory_take_turns(storage: str, rng: np.random.Generator) -> None:
    # The same array twice, a gradient that is its parameter, and one that lies across it.
    memory = store(rng.standard_normal(3000), storage)
    expected = memory.copy()
    places = ((0, 1000, 0), (500, 1000, 600), (2000, 900, 1990), (0, 1000, 0))
    items = [
        Arrays(memory[w : w + n], memory[g : g + n], [], parameter_type=storage, gradient_type=storage)
        for w, n, g in places
    ]
    settings = settings_of("sgd", lr=0.5)
    assert update([arrays.item(settings) for arrays in items]) == (0, -1, None)
    arithmetic = arithmetic_of(storage)
    for w, n, g in places:
        gradient = load(expected[g : g + n], storage, arithmetic)
        values = load(expected[w : w + n], storage, arithmetic)
        expected[w : w + n] = store(values - values.dtype.type(0.5) * gradient, storage)
    np.testing.assert_array_equal(memory, expected)


def test_a_copy_may_take_the_gradients_place(rng: np.random.Generator) -> None:
    ours = new_arrays(rng, 5000, "adamw", "float32", "bfloat16")
    apart = copied(ours)
    apart.copy, apart.copy_type = np.empty_like(apart.gradient), "bfloat16"
    ours.copy, ours.copy_type = ours.gradient, "bfloat16"
    settings = settings_of("adamw")
    assert update([ours.item(settings)]) == update([apart.item(settings)]) == (0, -1, None)
    np.testing.assert_array_equal(ours.parameter, apart.parameter)
    np.testing.assert_array_equal(ours.copy, apart.copy)


SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, 1e30, -1e30, 65504.0, 65519.9, 65520.0, 2.0**-24, 2.0**-25, 1 / 3)
TIES = (1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-23, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-11 + 2.0**-23)
# Of float64: beside a tie by less than float32 can tell, and below all that is narrower.
DOUBLES = (1 + 2.0**-8 + 2.0**-40, 1 + 3 * 2.0**-8 - 2.0**-40, 1 + 2.0**-11 + 2.0**-40, 1e-60, -1e-60, 1e300, -1e300)


@pytest.mark.parametrize("copy", TYPES)
@pytest.mark.parametrize("parameter", TYPES)
def test_special_numbers(parameter: str, copy: str) -> None:
    values = np.array(SPECIAL + TIES + DOUBLES)
    if parameter != "float64":
        values = values[: -len(DOUBLES)]
    arithmetic = arithmetic_of(parameter)
    w = store(values.astype(arithmetic), parameter)
    ours = Arrays(w.copy(), np.zeros_like(w), [], np.zeros(w.size, dtype_of(copy)), parameter, parameter, copy)
    assert update([ours.item(settings_of("sgd", lr=0.0))]) == (0, -1, None)
    np.testing.assert_array_equal(load(ours.parameter, parameter, "float64"), load(w, parameter, "float64"))
    wide = load(w, parameter, arithmetic)
    assert ours.copy is not None
    np.testing.assert_array_equal(load(ours.copy, copy, "float64"), load(store(wide, copy), copy, "float64"))
    np.testing.assert_array_equal(np.signbit(load(ours.copy, copy, "float64")), np.signbit(wide))


def test_nothing_to_do() -> None:
    assert update([]) == (0, -1, None)
    assert API.update(0, None, 104, None, None) == 0
    ours = Arrays(np.empty(0, np.float32), np.empty(0, np.float32), [])
    item = ours.item(settings_of("adam"))
    item.parameter = item.gradient = None
    assert update([item]) == (0, -1, None)


def test_state_beyond_the_rules_is_ignored(rng: np.random.Generator) -> None:
    ours = new_arrays(rng, 9, "sgd", "float32", "float32")
    item = ours.item(settings_of("sgd"))
    item.state[0], item.state_type = 1, 77
    assert API.update(1, ctypes.byref(item), ctypes.sizeof(item), None, None) == 0
