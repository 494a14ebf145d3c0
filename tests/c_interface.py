"""The C interface through ctypes: its structs, constants and functions are read from the header."""

import ctypes
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import _native

Array = np.ndarray[Any, Any]

HEADER = Path(fs.get_include()) / "fusedstep.h"
_TEXT = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)

CODES = {
    name: int(value)
    for name, value in re.findall(r"FUSEDSTEP_(\w+) = (\d+)", _TEXT[: _TEXT.index("FUSEDSTEP_FLOAT32 =")])
}
LENGTHS = {f"[{name}]": int(length) for name, length in re.findall(r"#define (FUSEDSTEP_MAX_\w+) +(\d+)", _TEXT)}

_NUMBERS = {
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "double": ctypes.c_double,
}


def _c_type(base: str, pointer: bool) -> Any:
    base = base.replace("const ", "").strip()
    if pointer:
        return ctypes.c_char_p if base == "char" else ctypes.c_void_p
    return _NUMBERS[base]


def _fields(body: str) -> Iterable[tuple[str, Any]]:
    for declaration in filter(None, (" ".join(part.split()) for part in body.split(";"))):
        if function := re.fullmatch(r"(.*?)(\*?)\(\*(\w+)\)\((.*)\)", declaration):
            result, pointer, name, given = function.groups()
            arguments = [] if given == "void" else [re.sub(r"\w+$", "", each.strip()) for each in given.split(",")]
            types = [_c_type(each.replace("*", ""), "*" in each) for each in arguments]
            yield name, ctypes.CFUNCTYPE(_c_type(result, bool(pointer)), *types)  # without the GIL
            continue
        match = re.fullmatch(r"((?:const )?\w+) (.*)", declaration)
        assert match, declaration
        base, names = match.groups()
        for declarator in names.split(","):
            found = re.fullmatch(r"\s*(\*?)(\w+)(\[\w+\])?", declarator)
            assert found, declarator
            pointer, name, length = found.groups()
            kind = _c_type(base, bool(pointer))
            yield name, kind * LENGTHS[length] if length else kind


STRUCTS: dict[str, Any] = {
    name: type(name, (ctypes.Structure,), {"_fields_": list(_fields(body))})
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", _TEXT, re.DOTALL)
}
Error, Rule, Hyperparameter, Option, Settings, Item, Gradients = (
    STRUCTS[f"fusedstep_{name}"]
    for name in ("error", "rule", "hyperparameter", "option", "settings", "item", "gradients")
)


def _table() -> Any:
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule: Any = _native.c_api
    return STRUCTS["fusedstep_api"].from_address(get_pointer(capsule, b"fusedstep._native.c_api"))


API = _table()


OFF = -1.0  # the value of a hyper-parameter that may be off, which is None in Python

# Storage types: the number in the header, and how NumPy holds them. bfloat16 is uint16 there.
TYPES = {"float32": 1, "float64": 2, "float16": 3, "bfloat16": 4}


def dtype_of(storage: str) -> Any:
    return np.dtype(np.uint16 if storage == "bfloat16" else storage)


def arithmetic_of(storage: str) -> str:
    return "float64" if storage == "float64" else "float32"


def load(stored: Array, storage: str, arithmetic: str) -> Array:
    """Stored elements as new ones of the arithmetic's type."""
    if storage == "bfloat16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(arithmetic)
    return stored.astype(arithmetic)


def store(values: Array, storage: str) -> Array:
    """New elements, rounded to nearest even."""
    if storage != "bfloat16":
        with np.errstate(over="ignore"):
            return values.astype(storage)
    if values.dtype == np.float64:  # to 8 digits in one step; a bfloat16 that is subnormal would have fewer
        long = values.view(np.uint64)
        long = long + np.uint64((1 << 44) - 1) + (long >> np.uint64(45) & np.uint64(1))
        with np.errstate(over="ignore"):
            values = (long & ~np.uint64((1 << 45) - 1)).view(np.float64).astype(np.float32)
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return (np.where(np.isnan(values), bits | np.uint32(0x400000), rounded) >> np.uint32(16)).astype(np.uint16)


@dataclass(frozen=True)
class HyperparameterOfRule:
    name: str
    default: float
    minimum: float
    maximum: float
    is_flag: bool
    is_option: bool

    @property
    def may_be_off(self) -> bool:
        return self.minimum == OFF


@dataclass(frozen=True)
class RuleOfLibrary:
    name: str
    states: tuple[str, ...]
    hyperparameters: tuple[HyperparameterOfRule, ...]
    starts: tuple[str | None, ...]
    scalars: dict[str, float]
    shapes: tuple[str | None, ...]


def _hyperparameter(rule: bytes, index: int) -> HyperparameterOfRule:
    h = Hyperparameter()
    assert API.describe_hyperparameter(rule, index, ctypes.byref(h), ctypes.sizeof(h)) == 0
    flags = bool(h.is_flag), bool(h.is_option)
    return HyperparameterOfRule(h.name.decode(), h.default_value, h.minimum, h.maximum, *flags)


def _rules() -> Iterable[RuleOfLibrary]:
    for index in range(API.rule_count()):
        rule = Rule()
        assert API.describe_rule(index, ctypes.byref(rule), ctypes.sizeof(rule)) == 0
        assert all(name is None for name in rule.states[rule.state_count :])
        states = tuple(name.decode() for name in rule.states[: rule.state_count])
        count = range(rule.hyperparameter_count)
        starts = tuple(name and name.decode() for name in rule.starts[: rule.state_count])
        assert not any(rule.starts[rule.state_count :])
        assert not any(rule.scalars[rule.scalar_count :])
        names = (name.decode() for name in rule.scalars[: rule.scalar_count])
        scalars = dict(zip(names, rule.scalar_starts, strict=False))
        shapes = tuple(name and name.decode() for name in rule.shapes[: rule.state_count])
        assert not any(rule.shapes[rule.state_count :])
        hyperparameters = tuple(_hyperparameter(rule.name, i) for i in count)
        yield RuleOfLibrary(rule.name.decode(), states, hyperparameters, starts, scalars, shapes)


RULES = {rule.name: rule for rule in _rules()}


def options_of(values: Mapping[str, float]) -> Any:
    return (Option * len(values))(*((name.encode(), value) for name, value in values.items()))


def settings_of(rule: str, t: int = 1, **values: float) -> Any:
    """Settings with the rule's defaults for what is not given."""
    settings = Settings()
    assert API.defaults(rule.encode(), ctypes.byref(settings), ctypes.sizeof(settings)) == 0
    settings.t = t
    own = {name: value for name, value in values.items() if not hasattr(settings, name)}
    for name in values.keys() - own.keys():
        setattr(settings, name, values[name])
    settings.kept = options_of(own)
    settings.options, settings.option_count = ctypes.addressof(settings.kept), len(own)
    return settings


def seen(array: Array, storage: str) -> Array:
    """An array of the C interface as Python takes it."""
    return array.view(pytest.importorskip("ml_dtypes").bfloat16) if storage == "bfloat16" else array


@dataclass
class Arrays:
    """One array of a step with all that belongs to it, stored as the types say."""

    parameter: Array
    gradient: Array
    states: list[Array]
    copy: Array | None = None
    parameter_type: str = "float32"
    gradient_type: str = "float32"
    copy_type: str = "float32"
    state_type: str | None = None  # None: the arithmetic's
    average: Array | None = None
    zero_gradient: bool = False
    rows: Array | None = None
    row_size: int = 0
    scalars: Array | None = None

    def item(self, settings: Any) -> Any:
        item = Item()
        item.n = self.parameter.size
        item.parameter, item.gradient = self.parameter.ctypes.data, self.gradient.ctypes.data
        for i, state in enumerate(self.states):
            item.state[i] = state.ctypes.data
        item.parameter_type, item.gradient_type = TYPES[self.parameter_type], TYPES[self.gradient_type]
        item.state_type = TYPES[self.state_type or arithmetic_of(self.parameter_type)]
        if self.copy is not None:
            item.copy, item.copy_type = self.copy.ctypes.data, TYPES[self.copy_type]
        if self.average is not None:
            item.average = self.average.ctypes.data
        item.zero_gradient, item.row_size = self.zero_gradient, self.row_size
        if self.rows is not None:
            item.rows, item.row_count = self.rows.ctypes.data, self.rows.size
        if self.scalars is not None:
            item.scalars = self.scalars.ctypes.data
        item.settings = ctypes.addressof(settings)
        item.kept = settings
        return item


def new_arrays(
    rng: np.random.Generator, n: int, rule: str, parameter: str, gradient: str, copy: str | None = None
) -> Arrays:
    """Random parameters and gradients, states as before the first step of defaults, and a poisoned copy."""
    arithmetic, own = arithmetic_of(parameter), RULES[rule]
    w = store(rng.standard_normal(n), parameter)
    starts = {None: np.zeros(n), "parameter": load(w, parameter, arithmetic)}
    starts |= {h.name: np.full(n, h.default) for h in own.hyperparameters}
    return Arrays(
        w,
        store(rng.standard_normal(n), gradient),
        # Of one row, no moments of rows are kept.
        [
            starts[start][: 0 if shape == "rows" else n].astype(arithmetic)
            for start, shape in zip(own.starts, own.shapes, strict=True)
        ],
        None if copy is None else store(np.full(n, np.nan, np.float32), copy),
        parameter,
        gradient,
        copy or "float32",
        scalars=np.array(list(own.scalars.values())),
    )


def copied(arrays: Arrays) -> Arrays:
    return deepcopy(arrays)


def assert_same(ours: Arrays, expected: Arrays) -> None:
    np.testing.assert_array_equal(ours.parameter, expected.parameter, strict=True)
    for state, right in zip(ours.states, expected.states, strict=True):
        np.testing.assert_array_equal(state, right, strict=True)
    for own, other in (
        (ours.copy, expected.copy),
        (ours.average, expected.average),
        (ours.scalars, expected.scalars),
    ):
        if other is not None:
            assert own is not None
            np.testing.assert_array_equal(own, other, strict=True)
    np.testing.assert_array_equal(ours.gradient, expected.gradient, strict=True)


def gradients_of(**fields: Any) -> Any:
    return Gradients(**({"size": ctypes.sizeof(Gradients)} | fields))


def update(items: list[Any], gradients: Any = None) -> tuple[int, int, str | None]:
    """One step: the code, and the item and the field of the error."""
    return call_with_items("update", items, None if gradients is None else ctypes.byref(gradients))


def call_with_items(function: str, items: list[Any], *arguments: Any) -> tuple[int, int, str | None]:
    error = Error(ctypes.sizeof(Error), -2, b"not written")
    array = (Item * len(items))(*items)
    code = getattr(API, function)(len(items), array, ctypes.sizeof(Item), *arguments, ctypes.byref(error))
    return code, error.item, error.field.decode() if error.field else None


def call(name: str, **fields: Any) -> tuple[int, int, str | None]:
    """A function of batch normalisation or dropout; arrays may be given as such."""
    struct = STRUCTS[f"fusedstep_{name}"]
    given = {key: value.ctypes.data if isinstance(value, np.ndarray) else value for key, value in fields.items()}
    error = Error(ctypes.sizeof(Error), -2, b"not written")
    code = getattr(API, name)(ctypes.byref(struct(**{"size": ctypes.sizeof(struct)} | given)), ctypes.byref(error))
    return code, error.item, error.field.decode() if error.field else None
