"""Rows of a matrix, sums of gradients and their norms, through the C interface."""

import ctypes
import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from c_interface import (
    CODES,
    RULES,
    TYPES,
    Arrays,
    arithmetic_of,
    assert_same,
    call_with_items,
    copied,
    gradients_of,
    new_arrays,
    seen,
    settings_of,
    update,
)
from fusedstep import _native

every_type = pytest.mark.parametrize("parameter", TYPES)

T = 3  # the number of the step
OK = (0, -1, None)


@pytest.mark.parametrize("rule", [rule for rule in RULES if not any(RULES[rule].shapes)])
@every_type
@pytest.mark.parametrize("numbers", [[], [0], [9], [1, 2, 7], list(range(10))])
def test_rows_are_stepped_as_arrays_of_their_own(
    rule: str, parameter: str, numbers: list[int], rng: np.random.Generator
) -> None:
    for size, stochastic in product((1, 33, 400), (False, True)):
        ours = new_arrays(rng, 10 * size, rule, parameter, "bfloat16", "float16")
        ours.states = [np.abs(rng.standard_normal(10 * size)).astype(state.dtype) for state in ours.states]
        ours.average = rng.standard_normal(10 * size).astype(arithmetic_of(parameter))
        ours.gradient = ours.gradient[: len(numbers) * size]
        ours.rows, ours.row_size, ours.zero_gradient = np.array(numbers, np.int64), size, True
        names = ("parameter", "copy", "average")
        right = copied(ours)
        chosen = {"weight_decay": 0.25, "average": 0.9, "stochastic": stochastic, "seed": 7}
        settings = settings_of(rule, T, **chosen)
        part = replace(
            copied(right),
            **{name: getattr(right, name).reshape(10, size)[numbers].ravel() for name in names},
            states=[state.reshape(10, size)[numbers].ravel() for state in right.states],
            rows=None,
            row_size=0,
        )
        gradients = [gradients_of(clips=1, clip_norm=0.5) for _ in range(2)]
        assert update([ours.item(settings)], gradients[0]) == update([part.item(settings)], gradients[1]) == OK
        assert bytes(gradients[0]) == bytes(gradients[1])
        for name in names:
            getattr(right, name).reshape(10, size)[numbers] = getattr(part, name).reshape(-1, size)
        for state, own in zip(right.states, part.states, strict=True):
            state.reshape(10, size)[numbers] = own.reshape(-1, size)
        right.gradient, right.scalars = part.gradient, part.scalars
        assert_same(ours, right)
        assert not right.gradient.any()


@pytest.mark.parametrize("rule", [rule for rule in RULES if any(RULES[rule].shapes)])
def test_rules_of_whole_matrices_refuse_rows(rule: str, rng: np.random.Generator) -> None:
    ours = new_arrays(rng, 64, rule, "float32", "float32")
    ours.rows, ours.row_size = np.array([1, 2], np.int64), 8
    before = copied(ours)
    assert update([ours.item(settings_of(rule, T))]) == (CODES["BAD_SIZE"], 0, "row_size")
    assert_same(ours, before)


def test_no_rows_need_no_pointers(rng: np.random.Generator) -> None:
    ours = new_arrays(rng, 12, "adam", "float32", "float32")
    before = copied(ours)
    item = ours.item(settings_of("adam"))
    item.gradient, item.row_size = None, 4
    assert update([item]) == OK
    assert_same(ours, before)


def test_numbers_of_rows_that_the_update_overwrites(rng: np.random.Generator) -> None:
    rows = np.array([1, 3], np.int64)
    parameter = rng.standard_normal(5000).astype(np.float32)
    gradient = np.ones(2500, np.float32)
    ours = Arrays(parameter, gradient, [], rows=rows, row_size=1250)
    other = Arrays(rows.view(np.float32), np.full(4, 1e9, np.float32), [])
    expected = parameter.copy()
    expected.reshape(4, 1250)[rows] -= 1
    settings = settings_of("sgd", lr=1.0)
    for items in ([other, ours], [ours, other]):
        rows[:] = 1, 3
        parameter[:] = expected
        parameter.reshape(4, 1250)[rows] += 1
        assert update([arrays.item(settings) for arrays in items]) == OK
        np.testing.assert_allclose(parameter, expected, rtol=0, atol=1e-6)


# Sums of gradients, and norms.


@every_type
@pytest.mark.parametrize("gradient", TYPES)
def test_sums_and_norms_have_the_bits_of_python(parameter: str, gradient: str, rng: np.random.Generator) -> None:
    for scale in (1.0, 0.3, 0.0):
        ours = [new_arrays(rng, n, "sgd", parameter, gradient) for n in (5, 0, 3000, 1025)]
        right = [copied(arrays) for arrays in ours]
        items = [arrays.item(settings_of("sgd")) for arrays in ours]
        items[0].gradient = items[2].settings = None
        norm, before = ctypes.c_double(-1), ctypes.c_double(-1)
        assert call_with_items("gradient_norm", items[2:], ctypes.byref(before)) == OK
        gradients: list[Any] = [seen(arrays.gradient, gradient) for arrays in right]
        assert before.value == _native.gradient_norm(gradients[2:])
        assert call_with_items("accumulate", items, scale, ctypes.byref(norm)) == OK
        sums = [seen(arrays.parameter, parameter) for arrays in right]
        assert norm.value == _native.accumulate(sums, [None, *gradients[1:]], scale)
        for own, other in zip(ours, right, strict=True):
            assert_same(own, other)
        assert call_with_items("accumulate", items, scale, None) == OK
        _native.accumulate(sums, [None, *gradients[1:]], scale)
        for own, other in zip(ours, right, strict=True):
            assert_same(own, other)


def test_sums_of_rows_whose_gradients_become_zero(rng: np.random.Generator) -> None:
    sums, gradient = np.ones((5, 7), np.float64), rng.standard_normal((2, 7)).astype(np.float32)
    expected = sums.copy()
    expected[[1, 4]] += gradient
    rows = np.array([1, 4], np.int64)
    arrays = Arrays(
        sums.ravel(), gradient.ravel(), [], None, "float64", "float32", zero_gradient=True, rows=rows, row_size=7
    )
    item, norm = arrays.item(settings_of("sgd")), ctypes.c_double()
    item.settings = None
    assert call_with_items("gradient_norm", [item], ctypes.byref(norm)) == OK
    assert norm.value == _native.gradient_norm([gradient])
    assert call_with_items("accumulate", [item], 1.0, None) == OK
    np.testing.assert_array_equal(sums, expected)
    assert not gradient.any()


@pytest.mark.parametrize("function", ["accumulate", "gradient_norm"])
def test_errors_of_sums_and_norms(function: str, rng: np.random.Generator) -> None:
    arrays = [new_arrays(rng, 64, "sgd", "float32", "float32", "float32") for _ in range(2)]
    before = [copied(each) for each in arrays]
    sums = function == "accumulate"

    def code(change: dict[str, Any], norm: Any, scale: float = 1.0) -> tuple[int, int, str | None]:
        items = [each.item(settings_of("sgd")) for each in arrays]
        for name, value in change.items():
            setattr(items[1], name, value)
        return call_with_items(function, items, *([scale] if sums else []), norm)

    norm = ctypes.c_double(-1)
    change: dict[str, Any]
    for change, expected in (
        ({"n": -1}, ("BAD_SIZE", 1, "n")),
        ({"gradient": arrays[1].gradient.ctypes.data + 1}, ("MISALIGNED", 1, "gradient")),
        ({"gradient_type": 5}, ("UNKNOWN_TYPE", 1, "gradient_type")),
        ({"row_size": 8, "row_count": 9}, ("BAD_SIZE", 1, "row_count")),
    ):
        assert code(change, ctypes.byref(norm)) == (CODES[expected[0]], *expected[1:])
    misaligned = ctypes.addressof((ctypes.c_double * 2)()) + 4
    assert code({}, misaligned) == (CODES["MISALIGNED"], -1, "norm")
    if sums:
        for scale in (-1.0, math.inf, math.nan):
            assert code({}, ctypes.byref(norm), scale) == (CODES["OUT_OF_RANGE"], -1, "scale")
        for change, expected in (
            ({"parameter": None}, ("NULL_POINTER", 1, "parameter")),
            ({"parameter": None, "gradient": None}, ("NULL_POINTER", 1, "parameter")),
            ({"parameter_type": 0}, ("UNKNOWN_TYPE", 1, "parameter_type")),
            ({"zero_gradient": 2}, ("OUT_OF_RANGE", 1, "zero_gradient")),
            ({"zero_gradient": 1, "gradient": arrays[1].parameter.ctypes.data}, ("OVERLAP", 1, "gradient")),
            ({"zero_gradient": 1, "gradient": arrays[0].parameter.ctypes.data}, ("OVERLAP", 1, "gradient")),
        ):
            assert code(change, ctypes.byref(norm)) == (CODES[expected[0]], *expected[1:]), change
    else:
        assert code({}, None) == (CODES["NULL_POINTER"], -1, "norm")
        assert code({"gradient": None}, ctypes.byref(norm)) == (CODES["NULL_POINTER"], 1, "gradient")
    assert norm.value == -1
    for own, right in zip(arrays, before, strict=True):
        assert_same(own, right)
