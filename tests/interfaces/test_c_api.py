"""The C interface: its header, what it tells about itself, and errors before anything is written."""

import ctypes
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from c_interface import (
    API,
    CODES,
    LENGTHS,
    OFF,
    RULES,
    STRUCTS,
    TYPES,
    Error,
    Hyperparameter,
    HyperparameterOfRule,
    Item,
    Rule,
    Settings,
    new_arrays,
    options_of,
    settings_of,
    update,
)

HUGE = 2**63 - 1


def test_the_table_is_what_the_header_says() -> None:
    assert API.version == 2
    assert ctypes.sizeof(API) == API.size


@pytest.mark.parametrize("compiler", ["cc", "c++"])
def test_header_compiles_without_warnings(compiler: str, tmp_path: Path) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}, which compiles the header")
    source = tmp_path / ("a.c" if compiler == "cc" else "a.cpp")
    # An array of -1 elements is an error: the compiler lays structs out as the tests do.
    sizes = (f"typedef char a_{s}[sizeof({s}) == {ctypes.sizeof(STRUCTS[s])} ? 1 : -1];" for s in STRUCTS)
    lines = "#include <fusedstep.h>", *sizes, "int f(const fusedstep_api *fs) { return fs->set_num_threads(1); }\n"
    source.write_text("\n".join(lines))
    standard = "-std=c99" if compiler == "cc" else "-std=c++11"
    flags = [standard, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-I", fs.get_include()]
    subprocess.run([compiler, *flags, str(source)], check=True)


def test_threads_and_messages() -> None:
    assert API.set_num_threads(3) == 0
    assert fs.get_num_threads() == API.get_num_threads() == 3
    for bad in (0, -1, 1025, 2**31 - 1):
        assert API.set_num_threads(bad) == CODES["OUT_OF_RANGE"]
    assert fs.get_num_threads() == 3
    texts = [API.error_message(code) for code in CODES.values()]
    assert len(set(texts)) == len(CODES)
    assert API.error_message(len(CODES)) == API.error_message(-1) == b"not an error code of fusedstep"


# What it tells about the rules.


def test_rules_are_those_of_python() -> None:
    assert list(RULES) == list(fs.rules())
    for rule, description in fs.rules().items():
        assert RULES[rule].states == tuple(description["states"])
        defaults = {name: OFF if v is None else v for name, v in description["hyperparameters"].items()}
        assert {h.name: h.default for h in RULES[rule].hyperparameters} == defaults


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_describes_itself(rule: str) -> None:
    description = RULES[rule]
    names = [h.name for h in description.hyperparameters]
    assert names[:4] == ["lr", "weight_decay", "decoupled", "scale"]
    assert len(set(names)) == len(names)
    assert len(set(description.states)) == len(description.states) <= LENGTHS["[FUSEDSTEP_MAX_STATES]"]
    for h in description.hyperparameters:
        assert h.minimum <= h.default <= h.maximum
        assert not h.is_flag or (h.minimum, h.maximum) == (0, 1)
        assert h.is_option == (h.name not in dict(Settings._fields_))
    settings = settings_of(rule)
    assert (settings.size, settings.rule, settings.t) == (ctypes.sizeof(Settings), rule.encode(), 1)
    for h in description.hyperparameters[:4]:
        assert getattr(settings, h.name) == h.default


def outside(h: HyperparameterOfRule) -> list[float]:
    beyond = [math.nextafter(h.minimum, -math.inf), math.nextafter(h.maximum, math.inf), -math.inf, math.nan]
    return beyond + [0.5] * h.is_flag + [-0.5, -5e-324] * h.may_be_off


@pytest.mark.parametrize("rule", RULES)
def test_limits_of_any_rule(rule: str, rng: np.random.Generator) -> None:
    arrays = new_arrays(rng, 9, rule, "float32", "float32")
    arrays.average = np.zeros(9, np.float32)
    parameter = arrays.parameter.copy()
    for h in RULES[rule].hyperparameters:
        for value in outside(h):
            code = update([arrays.item(settings_of(rule, 1, **{h.name: value}))])
            assert code == (CODES["OUT_OF_RANGE"], 0, h.name), value
        np.testing.assert_array_equal(arrays.parameter, parameter)
    for h in RULES[rule].hyperparameters:
        for value in {h.minimum, min(h.maximum, 1e30), h.maximum}:
            # The largest number may overflow with another, which is an error of them together.
            code = update([arrays.item(settings_of(rule, 1, **{h.name: value}))])
            assert code == (0, -1, None) or (value > 1e300 and code == (CODES["OUT_OF_RANGE"], 0, "settings")), h.name


def test_descriptions_of_what_is_not_there() -> None:
    rule, h, settings = Rule(), Hyperparameter(), Settings()
    for index in (-1, len(RULES), 2**31 - 1, -(2**31)):
        assert API.describe_rule(index, ctypes.byref(rule), ctypes.sizeof(rule)) == CODES["OUT_OF_RANGE"]
    for index in (-1, len(RULES["adam"].hyperparameters)):
        code = API.describe_hyperparameter(b"adam", index, ctypes.byref(h), ctypes.sizeof(h))
        assert code == CODES["OUT_OF_RANGE"]
    for name, code in ((b"Adam", "UNKNOWN_RULE"), (b"", "UNKNOWN_RULE"), (None, "NULL_POINTER")):
        assert API.describe_hyperparameter(name, 0, ctypes.byref(h), ctypes.sizeof(h)) == CODES[code]
        assert API.defaults(name, ctypes.byref(settings), ctypes.sizeof(settings)) == CODES[code]
    assert API.describe_rule(0, None, ctypes.sizeof(rule)) == CODES["NULL_POINTER"]
    assert API.describe_hyperparameter(b"adam", 0, None, ctypes.sizeof(h)) == CODES["NULL_POINTER"]
    assert API.defaults(b"adam", None, ctypes.sizeof(settings)) == CODES["NULL_POINTER"]
    for size in (0, 8, ctypes.sizeof(rule) - 8, ctypes.sizeof(rule) + 4, 2**40):
        assert API.describe_rule(0, ctypes.byref(rule), size) == CODES["BAD_STRUCT"]
    for size in (0, 16, 25, 2**63):
        assert API.defaults(b"adam", ctypes.byref(settings), size) == CODES["BAD_STRUCT"]
    assert bytes(rule) == bytes(ctypes.sizeof(rule))
    assert bytes(settings) == bytes(ctypes.sizeof(settings))


# Structs of older and newer headers.


def in_struct_of(size: int, struct: Any, tail: int = 0) -> Any:
    """The same bytes in a struct of another size, filled up with `tail`."""
    return ctypes.create_string_buffer((bytes(struct) + bytes([tail]) * size)[:size], size)


def test_items_of_other_sizes(rng: np.random.Generator) -> None:
    shorter, size = Item.copy.offset, ctypes.sizeof(Item)
    for item_size, tail, expected in (
        (shorter, 0, "OK"),
        (size, 0, "OK"),
        (size + 8, 0, "OK"),
        (4096, 0, "OK"),
        (size + 8, 1, "BAD_STRUCT"),
        (4104, 0, "BAD_STRUCT"),
        (shorter - 8, 0, "BAD_STRUCT"),
        (size + 1, 0, "BAD_STRUCT"),
        (0, 0, "BAD_STRUCT"),
    ):
        arrays = [new_arrays(rng, 9, "sgd", "float32", "float32", "float32") for _ in range(2)]
        items = [each.item(settings_of("sgd", lr=1.0)) for each in arrays]
        given = b"".join(bytes(in_struct_of(item_size, item, tail)) for item in items)
        expected_parameters = [each.parameter - (each.gradient if expected == "OK" else 0) for each in arrays]
        buffer = ctypes.create_string_buffer(given, max(1, len(given)))
        assert API.update(2, buffer, item_size, None, None) == CODES[expected], (item_size, tail)
        for each, right in zip(arrays, expected_parameters, strict=True):
            np.testing.assert_array_equal(each.parameter, right)
            assert each.copy is not None
            assert np.isnan(each.copy).all() == (expected != "OK" or item_size == shorter)


def test_settings_of_other_sizes(rng: np.random.Generator) -> None:
    given = settings_of("momentum", lr=1.0, weight_decay=0.5, momentum=0.5)
    size, lr, decay = ctypes.sizeof(Settings), Settings.lr.offset, Settings.weight_decay.offset
    for length, tail, expected in (
        (lr, 0, settings_of("momentum")),
        (decay, 0, settings_of("momentum", lr=1.0)),
        (Settings.options.offset, 0, settings_of("momentum", lr=1.0, weight_decay=0.5)),
        (Settings.stochastic.offset, 0, given),
        (size, 0, given),
        (size + 64, 0, given),
        (size + 64, 7, None),
        (4096, 0, given),
        (4104, 0, None),
        (lr - 8, 0, None),
        (size - 4, 0, None),
        (0, 0, None),
    ):
        ours = new_arrays(rng, 9, "momentum", "float32", "float32")
        ours.states[0] += 1
        right = new_arrays(rng, 9, "momentum", "float32", "float32")
        right.parameter, right.gradient = ours.parameter.copy(), ours.gradient
        right.states[0] += 1
        other = in_struct_of(length or size, given, tail)
        ctypes.c_size_t.from_buffer(other).value = length
        code = update([ours.item(other)])
        assert code == ((CODES["BAD_STRUCT"], 0, "settings") if expected is None else (0, -1, None)), (length, tail)
        if expected is not None:
            assert update([right.item(expected)]) == (0, -1, None)
        np.testing.assert_array_equal(ours.parameter, right.parameter)


def test_defaults_for_other_sizes() -> None:
    whole = Settings()
    assert API.defaults(b"adam", ctypes.byref(whole), ctypes.sizeof(whole)) == 0
    for size in (24, 32, 72, 88, 128):
        whole.size = size
        buffer = ctypes.create_string_buffer(b"\xff" * 136, 136)
        assert API.defaults(b"adam", buffer, size) == 0
        assert buffer.raw == in_struct_of(size, whole).raw + b"\xff" * (136 - size)


@pytest.mark.parametrize("size", [0, 8, 20, 4104])
def test_an_error_struct_of_impossible_size(size: int, rng: np.random.Generator) -> None:
    arrays = new_arrays(rng, 9, "sgd", "float32", "float32")
    before = arrays.parameter.copy()
    error = Error(size, -7, b"untouched")
    item = arrays.item(settings_of("sgd"))
    code = API.update(1, ctypes.byref(item), ctypes.sizeof(item), None, ctypes.byref(error))
    assert (code, error.item, error.field) == (CODES["BAD_STRUCT"], -7, b"untouched")
    np.testing.assert_array_equal(arrays.parameter, before)


# Errors of an item: what is changed in a valid one, the code, the field.

Change = Callable[[Any, Any], Any]


def _set(name: str, value: Any) -> Change:
    return lambda item, settings: setattr(settings if hasattr(settings, name) else item, name, value)


def _state(index: int, value: Any) -> Change:
    def change(item: Any, settings: Any) -> None:
        item.state[index] = value

    return change


def _same(name: str, other: str, shift: int = 0) -> Change:
    return lambda item, settings: setattr(item, name, getattr(item, other) + shift)


def _state_is(index: int, other: str, shift: int = 0) -> Change:
    def change(item: Any, settings: Any) -> None:
        item.state[index] = getattr(item, other) + shift

    return change


def _rows(numbers: list[int], row_size: int, count: int | None = None) -> Change:
    def change(item: Any, settings: Any) -> None:
        item.kept_rows = np.array(numbers)
        item.rows, item.row_size = item.kept_rows.ctypes.data, row_size
        item.row_count = len(numbers) if count is None else count

    return change


def _all(*changes: Change) -> Change:
    def change(item: Any, settings: Any) -> None:
        for each in changes:
            each(item, settings)

    return change


def _options(*names: bytes | None, count: int | None = None, value: float = 0.5) -> Change:
    def change(item: Any, settings: Any) -> None:
        settings.kept = options_of({str(i): value for i in range(len(names))})
        for option, name in zip(settings.kept, names, strict=True):
            option.name = name
        settings.options = ctypes.addressof(settings.kept) if names else None
        settings.option_count = len(names) if count is None else count

    return change


ERRORS: tuple[tuple[Change, str, str | None], ...] = (
    (_set("n", -1), "BAD_SIZE", "n"),
    (_set("n", HUGE), "BAD_SIZE", "parameter"),
    (_set("n", 2**61), "BAD_SIZE", "parameter"),
    (_set("parameter", None), "NULL_POINTER", "parameter"),
    (_set("gradient", None), "NULL_POINTER", "gradient"),
    (_state(0, None), "NULL_POINTER", "state[0]"),
    (_state(1, None), "NULL_POINTER", "state[1]"),
    (_set("settings", None), "NULL_POINTER", "settings"),
    (_same("parameter", "parameter", 1), "MISALIGNED", "parameter"),
    (_same("gradient", "gradient", 1), "MISALIGNED", "gradient"),
    (_same("copy", "copy", 1), "MISALIGNED", "copy"),
    (_options(b"average"), "NULL_POINTER", "average"),
    (_all(_options(b"average"), _same("average", "parameter", 2)), "MISALIGNED", "average"),
    (_all(_options(b"average"), _same("average", "parameter")), "OVERLAP", "average"),
    (_all(_options(b"average"), _same("average", "copy", 8)), "OVERLAP", "copy"),
    (_set("zero_gradient", 2), "OUT_OF_RANGE", "zero_gradient"),
    (_set("zero_gradient", -1), "OUT_OF_RANGE", "zero_gradient"),
    (_all(_set("zero_gradient", 1), _same("gradient", "parameter")), "OVERLAP", "gradient"),
    (_all(_set("zero_gradient", 1), _same("gradient", "copy", 8)), "OVERLAP", "gradient"),
    (_all(_set("zero_gradient", 1), _state_is(1, "gradient")), "OVERLAP", "gradient"),
    (_rows([0, 1], -1), "BAD_SIZE", "row_size"),
    (_rows([0, 1], 5), "BAD_SIZE", "row_size"),
    (_rows([0, 1], 128), "BAD_SIZE", "row_size"),
    (_all(_set("n", 0), _rows([], HUGE)), "BAD_SIZE", "row_size"),
    (_rows([0, 1], 8, count=-1), "BAD_SIZE", "row_count"),
    (_rows([0, 1], 8, count=9), "BAD_SIZE", "row_count"),
    (_all(_rows([0, 1], 8), _set("rows", None)), "NULL_POINTER", "rows"),
    (_all(_rows([0, 1], 8), _same("rows", "rows", 4)), "MISALIGNED", "rows"),
    (_rows([0, 8], 8), "OUT_OF_RANGE", "rows"),
    (_rows([-1, 0], 8), "OUT_OF_RANGE", "rows"),
    (_rows([1, 1], 8), "OUT_OF_RANGE", "rows"),
    (_rows([2, 1], 8), "OUT_OF_RANGE", "rows"),
    (_all(_rows([0, 1], 8), _state_is(1, "parameter", 32)), "OVERLAP", "state[1]"),
    (_all(_rows([0], 8), _set("zero_gradient", 1), _same("gradient", "parameter", 224)), "OVERLAP", "gradient"),
    (_all(_rows([0], 8), _set("gradient", None)), "NULL_POINTER", "gradient"),
    (_same("settings", "settings", 4), "MISALIGNED", "settings"),
    (_state_is(1, "parameter"), "OVERLAP", "state[1]"),
    (_same("copy", "parameter"), "OVERLAP", "copy"),
    (_same("copy", "parameter", 8), "OVERLAP", "copy"),
    (_set("parameter_type", 0), "UNKNOWN_TYPE", "parameter_type"),
    (_set("parameter_type", 5), "UNKNOWN_TYPE", "parameter_type"),
    (_set("gradient_type", -1), "UNKNOWN_TYPE", "gradient_type"),
    (_set("state_type", 0), "UNKNOWN_TYPE", "state_type"),
    (_set("copy_type", 2**31 - 1), "UNKNOWN_TYPE", "copy_type"),
    (_set("state_type", TYPES["float64"]), "UNSUPPORTED_TYPE", "state_type"),
    (_set("state_type", TYPES["float16"]), "UNSUPPORTED_TYPE", "state_type"),
    (_set("parameter_type", TYPES["float64"]), "UNSUPPORTED_TYPE", "state_type"),
    (_all(_set("parameter_type", 2), _set("state_type", TYPES["bfloat16"])), "UNSUPPORTED_TYPE", "state_type"),
    (_set("rule", None), "NULL_POINTER", "rule"),
    (_set("rule", b"Adam"), "UNKNOWN_RULE", "rule"),
    (_set("rule", b""), "UNKNOWN_RULE", "rule"),
    (_set("t", 0), "OUT_OF_RANGE", "t"),
    (_set("t", -HUGE), "OUT_OF_RANGE", "t"),
    (_set("lr", -0.1), "OUT_OF_RANGE", "lr"),
    (_set("weight_decay", math.inf), "OUT_OF_RANGE", "weight_decay"),
    (_set("decoupled", 2.0), "OUT_OF_RANGE", "decoupled"),
    (_set("scale", math.nan), "OUT_OF_RANGE", "scale"),
    (_set("stochastic", 2), "OUT_OF_RANGE", "stochastic"),
    (_set("stochastic", -1), "OUT_OF_RANGE", "stochastic"),
    (_options(b"beta2", value=1.0), "OUT_OF_RANGE", "beta2"),
    (_options(b"clip_value", value=-0.5), "OUT_OF_RANGE", "clip_value"),
    (_options(b"average", value=1.5), "OUT_OF_RANGE", "average"),
    (_options(b"maximize"), "OUT_OF_RANGE", "maximize"),
    (_options(b"beta3"), "UNKNOWN_HYPERPARAMETER", "options"),
    (_options(b"lr"), "UNKNOWN_HYPERPARAMETER", "options"),
    (_options(b"momentum"), "UNKNOWN_HYPERPARAMETER", "options"),
    (_options(b"beta1", b"eps", b"beta1"), "UNKNOWN_HYPERPARAMETER", "options"),
    (_options(None), "NULL_POINTER", "options"),
    (_options(count=1), "NULL_POINTER", "options"),
    (_options(b"beta1", count=-1), "BAD_SIZE", "option_count"),
    (_options(b"beta1", count=2**40), "BAD_SIZE", "option_count"),
)


@pytest.mark.parametrize("position", [0, 2])
@pytest.mark.parametrize(("change", "code", "field"), ERRORS)
def test_an_error_in_an_item_leaves_all_alone(
    change: Change, code: str, field: str | None, position: int, rng: np.random.Generator
) -> None:
    arrays = [new_arrays(rng, 64, "adam", "float32", "float32", "float32") for _ in range(3)]
    items = [each.item(settings_of("adam", lr=0.5)) for each in arrays]
    all_arrays = [[each.parameter, each.gradient, *each.states, each.copy] for each in arrays]
    before = [[np.array(array) for array in each] for each in all_arrays]
    change(items[position], items[position].kept)
    assert update(items) == (CODES[code], position, field)
    for each, right in zip(all_arrays, before, strict=True):
        for array, values in zip(each, right, strict=True):
            np.testing.assert_array_equal(array, values)


def test_coefficients_that_overflow(rng: np.random.Generator) -> None:
    arrays = new_arrays(rng, 9, "adamw", "float64", "float64")
    before = arrays.parameter.copy()
    settings = settings_of("adamw", lr=1e300, weight_decay=1e300)
    assert update([arrays.item(settings)]) == (CODES["OUT_OF_RANGE"], 0, "settings")
    np.testing.assert_array_equal(arrays.parameter, before)


def test_errors_of_the_call() -> None:
    size = ctypes.sizeof(Item)
    for count, items, code, field in (
        (-1, None, "BAD_SIZE", b"count"),
        (HUGE, None, "BAD_SIZE", b"count"),
        (1, None, "NULL_POINTER", b"items"),
        (1, 4, "MISALIGNED", b"items"),
    ):
        error = Error(ctypes.sizeof(Error))
        assert API.update(count, items, size, None, ctypes.byref(error)) == CODES[code]
        assert (error.item, error.field) == (-1, field)
