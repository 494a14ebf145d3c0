"""The C interface: the bits of the Python interface, and errors before anything is written."""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from c_interface import CYTHON, HEADER, SIGNATURES, SIZE, TABLE, VERSION
from fusedstep import book

Functions = dict[str, Callable[..., Any]]

CODES = dict(re.findall(r"FUSEDSTEP_(\w+) = (\d+)", HEADER.read_text()))
NULL_POINTER, BAD_SIZE, MISALIGNED, OVERLAP, OUT_OF_RANGE, UNKNOWN_RULE = (
    int(CODES[name]) for name in ("NULL_POINTER", "BAD_SIZE", "MISALIGNED", "OVERLAP", "OUT_OF_RANGE", "UNKNOWN_RULE")
)


@pytest.fixture(params=["table", "cython"])
def functions(request: pytest.FixtureRequest) -> Functions:
    return TABLE if request.param == "table" else CYTHON


def at(array: np.ndarray[Any, Any]) -> int:
    return array.ctypes.data


def pointers(arrays: list[np.ndarray[Any, Any]]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*map(at, arrays))


def pair(functions: Functions, name: str, dtype: Any) -> Callable[..., Any]:
    return functions[f"{name}_{np.dtype(dtype).name}"]


def test_the_table_is_what_the_header_says() -> None:
    assert len(SIGNATURES) == len(CYTHON) == 34
    assert VERSION == 1
    assert 8 + len(SIGNATURES) * ctypes.sizeof(ctypes.c_void_p) == SIZE
    assert CYTHON.keys() == SIGNATURES.keys()


def test_cython_has_the_headers_numbers() -> None:
    declared = HEADER.parents[1] / "cython_api.pxd"
    numbers = dict(re.findall(r"FUSEDSTEP_(\w+) = (\d+)", declared.read_text()))
    room = re.findall(r"#define FUSEDSTEP_(COEFFICIENTS) (\d+)", HEADER.read_text())
    assert numbers == CODES | dict(room)


@pytest.mark.parametrize("compiler", ["cc", "c++"])
def test_header_compiles_without_warnings(compiler: str, tmp_path: Path) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"there is no {compiler}")
    source = tmp_path / ("a.c" if compiler == "cc" else "a.cpp")
    source.write_text("#include <fusedstep.h>\nint f(const fusedstep_api *fs) { return fs->set_num_threads(1); }\n")
    standard = "-std=c99" if compiler == "cc" else "-std=c++11"
    flags = [standard, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-I", fs.get_include()]
    subprocess.run([compiler, *flags, str(source)], check=True)


# Name, the Python interface, state arrays, whether it counts steps, arguments after them.
RULES: tuple[tuple[str, fs.Optimizer, int, bool, tuple[float, ...]], ...] = (
    ("sgd", fs.SGD(0.1, weight_decay=0.01), 0, False, (0.1, 0.01)),
    ("momentum", fs.Momentum(0.1, 0.8, weight_decay=0.01), 1, False, (0.1, 0.8, 0.01)),
    ("nesterov", fs.Nesterov(0.1, 0.8, weight_decay=0.01), 1, False, (0.1, 0.8, 0.01)),
    ("adagrad", fs.AdaGrad(0.1, 1e-3, weight_decay=0.01), 1, False, (0.1, 1e-3, 0.01)),
    ("rmsprop", fs.RMSProp(0.1, 0.7, 1e-3, weight_decay=0.01), 1, False, (0.1, 0.7, 1e-3, 0.01)),
    ("adam", fs.Adam(0.1, 0.8, 0.98, 1e-3, weight_decay=0.01), 2, True, (0.1, 0.8, 0.98, 1e-3, 0.01)),
    ("adamw", fs.AdamW(0.1, 0.8, 0.98, 1e-3, 0.02), 2, True, (0.1, 0.8, 0.98, 1e-3, 0.02)),
    ("adam", fs.Adam(0.1, 0.8, 0.98, 1e-3), 2, True, (0.1, 0.8, 0.98, 1e-3, 0.0)),
)


@pytest.mark.parametrize(("name", "optimizer", "states", "counts", "arguments"), RULES)
def test_steps_on_one_array(
    name: str,
    optimizer: fs.Optimizer,
    states: int,
    counts: bool,
    arguments: tuple[float, ...],
    functions: Functions,
    dtype: Any,
    rng: np.random.Generator,
) -> None:
    for n in (0, 1, 7, 65, 1000, 40_003):
        optimizer.state.clear()
        optimizer.iterations = 0
        ours = rng.standard_normal(n).astype(dtype)
        expected = ours.copy()
        state = [np.zeros(n, dtype) for _ in range(states)]
        for t in (1, 2, 3):
            gradient = rng.standard_normal(n).astype(dtype)
            before = gradient.copy()
            count = (t,) if counts else ()
            step = pair(functions, name, dtype)
            assert step(n, at(ours), at(gradient), *map(at, state), *count, *arguments) == 0
            optimizer.update(expected, gradient)
            np.testing.assert_array_equal(gradient, before)
        np.testing.assert_array_equal(ours, expected)
        for array, right in zip(state, optimizer.state.get(0, {}).values(), strict=True):
            np.testing.assert_array_equal(array, right)


# The rule's name, the Python interface, its coefficients' function and arguments, L2 weight decay.
MANY: tuple[tuple[str, fs.Optimizer, str, tuple[float, ...], float], ...] = (
    ("sgd", fs.SGD(0.1), "sgd", (0.1,), 0.0),
    ("momentum_plain_velocity", fs.Momentum(0.1, 0.8, False, weight_decay=0.3), "momentum", (0.1, 0.8), 0.3),
    ("momentum", fs.Momentum(0.1, 1.0), "momentum", (0.1, 1.0), 0.0),
    ("nesterov", fs.Nesterov(0.1, 0.8), "nesterov", (0.1, 0.8), 0.0),
    ("nesterov_new_velocity", book.Nesterov(0.1, 0.8, legacy=True), "nesterov", (0.1, 0.8), 0.0),
    ("adagrad", fs.AdaGrad(0.1, 1e-3, eps_inside_root=True), "adagrad", (0.1, 1e-3, 1), 0.0),
    ("rmsprop", fs.RMSProp(0.1, 0.7, 1e-3, eps_inside_root=True), "rmsprop", (0.1, 0.7, 1e-3, 1), 0.0),
    ("rmsprop", fs.RMSProp(0.1, 0.7, 1e-3), "rmsprop", (0.1, 0.7, 1e-3, 0), 0.0),
    ("adam", fs.Adam(0.1, 0.8, 0.98, 1e-3, eps_inside_root=True), "adam", (0.1, 0.8, 0.98, 1e-3, 1), 0.0),
    ("adamw", fs.AdamW(0.1, 0.8, 0.98, 1e-3, 0.02), "adamw", (0.1, 0.8, 0.98, 1e-3, 0.02, 0), 0.0),
    (
        "adamw",
        fs.AdamW(0.1, 0.8, 0.98, 1e-3, 0.02, eps_inside_root=True),
        "adamw",
        (0.1, 0.8, 0.98, 1e-3, 0.02, 1),
        0.0,
    ),
)


@pytest.mark.parametrize(("rule", "optimizer", "coefficients_of", "arguments", "decay"), MANY)
def test_steps_on_many_arrays(
    rule: str,
    optimizer: fs.Optimizer,
    coefficients_of: str,
    arguments: tuple[float, ...],
    decay: float,
    functions: Functions,
    dtype: Any,
    rng: np.random.Generator,
) -> None:
    optimizer.state.clear()
    optimizer.iterations = 0
    sizes = (ctypes.c_int64 * 6)(3, 0, 200_003, 1, 17, 64)  # enough for two threads
    ours = [rng.standard_normal(n).astype(dtype) for n in sizes]
    expected = [w.copy() for w in ours]
    states = len(optimizer._letters)
    state = [np.zeros(n, dtype) for n in sizes for _ in range(states)]
    coefficients = (ctypes.c_double * 8)()
    regions = fs._native.parallel_regions
    for t in (1, 2, 3):
        grads = [rng.standard_normal(n).astype(dtype) for n in sizes]
        count = (t,) if coefficients_of.startswith("adam") else ()
        address = ctypes.addressof(coefficients)
        assert functions[f"{coefficients_of}_coefficients"](address, *count, *arguments) == 0
        fs.set_num_threads(2)
        before = regions()
        step = pair(functions, "update", dtype)
        given = ctypes.addressof(sizes), pointers(ours), pointers(grads), pointers(state)
        assert step(rule.encode(), address, decay, len(sizes), *given) == 0
        assert regions() == before + 1
        optimizer.update(expected, grads)
    for i, (a, b) in enumerate(zip(ours, expected, strict=True)):
        np.testing.assert_array_equal(a, b)
        for array, right in zip(state[i * states :], optimizer.state.get(i, {}).values(), strict=False):
            np.testing.assert_array_equal(array, right)


def test_arrays_that_share_memory(functions: Functions, dtype: Any, rng: np.random.Generator) -> None:
    # The same array twice, a gradient that is its parameter, and one that lies across it.
    memory = rng.standard_normal(3000).astype(dtype)
    expected = memory.copy()
    ours = [memory[:1000], memory[500:1500], memory[2000:2900]]
    grads = [memory[:1000], memory[600:1600], memory[1990:2890]]
    sizes = (ctypes.c_int64 * 3)(*map(len, ours))
    coefficients = (ctypes.c_double * 8)(0.5)
    step = pair(functions, "update", dtype)
    given = ctypes.addressof(sizes), pointers(ours), pointers(grads), None
    assert step(b"sgd", ctypes.addressof(coefficients), 0.0, 3, *given) == 0
    for begin, n, gradient in ((0, 1000, 0), (500, 1000, 600), (2000, 900, 1990)):
        expected[begin : begin + n] -= dtype(0.5) * expected[gradient : gradient + n].copy()
    np.testing.assert_array_equal(memory, expected)


@pytest.mark.parametrize("shape", [(5, 3, 7), (64, 10, 1), (1, 1, 9), (2, 3, 5000), (0, 3, 2), (4, 0, 2)])
@pytest.mark.parametrize("in_place", [False, True])
def test_batch_norm(
    functions: Functions, dtype: Any, shape: tuple[int, int, int], in_place: bool, rng: np.random.Generator
) -> None:
    channels = shape[1]
    given, dout = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    gamma, beta, dgamma, dbeta = (rng.standard_normal(channels).astype(dtype) for _ in range(4))
    mean, var, inv_std = (np.full(channels, np.nan) for _ in range(3))
    x = given.copy()
    y = x if in_place else np.full_like(x, np.nan)
    addresses: tuple[float, ...] = at(gamma), at(beta), 1e-3, at(mean), at(var), at(inv_std)
    code = pair(functions, "batch_norm", dtype)(*shape, at(x), at(y), *addresses)
    if shape[0] == 0:
        assert code == BAD_SIZE
        assert np.isnan(mean).all()
        return
    assert code == 0
    for ours, right in zip((y, mean, inv_std), fs.batch_norm(given, gamma, beta, 1e-3), strict=True):
        np.testing.assert_array_equal(ours, right, strict=True)
    np.testing.assert_allclose(1 / np.sqrt(var + 1e-3), inv_std, rtol=1e-15)  # two roundings

    x = given.copy()
    y = x if in_place else np.full_like(x, np.nan)
    addresses = at(gamma), at(beta), at(mean), at(var)
    assert pair(functions, "batch_norm_inference", dtype)(*shape, at(x), at(y), *addresses, 1e-3) == 0
    np.testing.assert_array_equal(y, fs.batch_norm_inference(given, gamma, beta, mean, var, 1e-3), strict=True)

    expected = fs.batch_norm_backward(dout, given, gamma, mean, inv_std)
    dx = dout if in_place else np.full_like(dout, np.nan)
    addresses = at(gamma), at(mean), at(inv_std), at(dgamma), at(dbeta)
    assert pair(functions, "batch_norm_backward", dtype)(*shape, at(given), at(dout), at(dx), *addresses) == 0
    for ours, right in zip((dx, dgamma, dbeta), expected, strict=True):
        np.testing.assert_array_equal(ours, right, strict=True)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.999, 1 - 2**-53, 2.5 * 2**-32, 1.5 * 2**-32])
def test_dropout(functions: Functions, dtype: Any, rate: float) -> None:
    x = np.arange(1, 20_002, dtype=dtype)
    y = np.full_like(x, np.nan)
    step = pair(functions, "dropout", dtype)
    assert step(x.size, at(x), at(y), rate, 2**64 - 3, 5) == 0
    np.testing.assert_array_equal(y, fs.dropout(x, rate, seed=2**64 - 3, call=5))
    assert step(x.size, at(x), at(x), rate, 2**64 - 3, 5) == 0
    np.testing.assert_array_equal(y, x)


def test_threads_and_messages(functions: Functions) -> None:
    assert functions["set_num_threads"](3) == 0
    assert fs.get_num_threads() == functions["get_num_threads"]() == 3
    for bad in (0, -1, 1025, 2**31 - 1):
        assert functions["set_num_threads"](bad) == OUT_OF_RANGE
    assert fs.get_num_threads() == 3
    texts = [functions["error_message"](int(code)) for code in CODES.values()]
    assert len(set(texts)) == len(CODES) == 9
    assert functions["error_message"](9) == functions["error_message"](-1) == b"not an error code of fusedstep"


NONE = None
ADAM = (1, 0.1, 0.9, 0.999, 1e-8, 0.0)
HUGE = 2**63 - 1

# Names stand for places 1000 elements apart in one block; ODD is a misaligned one.
ERRORS: tuple[tuple[str, tuple[Any, ...], int], ...] = (
    ("adam", (8, NONE, "B", "C", "D", *ADAM), NULL_POINTER),
    ("adam", (8, "A", NONE, "C", "D", *ADAM), NULL_POINTER),
    ("adam", (8, "A", "B", "C", NONE, *ADAM), NULL_POINTER),
    ("adam", (-1, "A", "B", "C", "D", *ADAM), BAD_SIZE),
    ("adam", (HUGE, "A", "B", "C", "D", *ADAM), BAD_SIZE),
    ("adam", (2**61, "A", "B", "C", "D", *ADAM), BAD_SIZE),
    ("adam", (8, "ODD", "B", "C", "D", *ADAM), MISALIGNED),
    ("adam", (8, "A", "ODD", "C", "D", *ADAM), MISALIGNED),
    ("adam", (8, "A", "B", "C", "ODD", *ADAM), MISALIGNED),
    ("adam", (8, "A", "B", "A", "D", *ADAM), OVERLAP),
    ("adam", (1001, "A", "D", "B", "C", *ADAM), OVERLAP),
    ("adam", (8, "A", "B", "C", "D", 0, *ADAM[1:]), OUT_OF_RANGE),
    ("adam", (8, "A", "B", "C", "D", 1, -0.1, *ADAM[2:]), OUT_OF_RANGE),
    ("adam", (8, "A", "B", "C", "D", 1, np.nan, *ADAM[2:]), OUT_OF_RANGE),
    ("adam", (8, "A", "B", "C", "D", 1, 0.1, 1.0, *ADAM[3:]), OUT_OF_RANGE),
    ("adam", (8, "A", "B", "C", "D", 1, 0.1, 0.9, np.nan, *ADAM[4:]), OUT_OF_RANGE),
    ("adam", (8, "A", "B", "C", "D", *ADAM[:4], np.inf, 0.0), OUT_OF_RANGE),
    ("adam", (8, "A", "B", "C", "D", *ADAM[:5], -1.0), OUT_OF_RANGE),
    ("adamw", (8, "A", "B", "C", "D", *ADAM[:5], np.inf), OUT_OF_RANGE),
    ("sgd", (8, "A", "B", np.inf, 0.0), OUT_OF_RANGE),
    ("momentum", (8, "A", "B", "C", 0.1, 1.1, 0.0), OUT_OF_RANGE),
    ("nesterov", (8, "A", "B", "C", 0.1, -0.1, 0.0), OUT_OF_RANGE),
    ("adagrad", (8, "A", "B", "C", 0.1, np.nan, 0.0), OUT_OF_RANGE),
    ("rmsprop", (8, "A", "B", "C", 0.1, 1.0, 1e-8, 0.0), OUT_OF_RANGE),
    ("update", (b"adam", "D", 0.0, -1, NONE, NONE, NONE, NONE), BAD_SIZE),
    ("update", (b"adam", "D", 0.0, HUGE, "A", "B", "C", "A"), BAD_SIZE),
    ("update", (b"adam", "D", 0.0, 1, NONE, NONE, NONE, NONE), NULL_POINTER),
    ("update", (b"adam", NONE, 0.0, 1, "A", "B", "C", "C"), NULL_POINTER),
    ("update", (NONE, "D", 0.0, 1, "A", "B", "C", "C"), NULL_POINTER),
    ("update", (b"Adam", "D", 0.0, 1, "A", "B", "C", "C"), UNKNOWN_RULE),
    ("update", (b"adam", "D", np.nan, 1, "A", "B", "C", "C"), OUT_OF_RANGE),
    ("batch_norm", (2, 3, 4, NONE, "B", "C", "D", 1e-5, "MEAN", "VAR", "STD"), NULL_POINTER),
    ("batch_norm", (2, 3, 4, "A", "B", "C", "D", 1e-5, "MEAN", NONE, "STD"), NULL_POINTER),
    ("batch_norm", (2, 3, 4, "A", "B", "C", "D", np.nan, "MEAN", "VAR", "STD"), OUT_OF_RANGE),
    ("batch_norm", (2, -3, 4, "A", "B", "C", "D", 1e-5, "MEAN", "VAR", "STD"), BAD_SIZE),
    ("batch_norm", (2**40, 2**40, 1, "A", "B", "C", "D", 1e-5, "MEAN", "VAR", "STD"), BAD_SIZE),
    ("batch_norm", (2, 3, 4, "A", "B", "C", "B", 1e-5, "MEAN", "VAR", "STD"), OVERLAP),
    ("batch_norm", (2, 3, 4, "A", "B", "C", "D", 1e-5, "MEAN", "MEAN", "STD"), OVERLAP),
    ("batch_norm", (10, 11, 10, "A", "B", "C", "D", 1e-5, "MEAN", "VAR", "STD"), OVERLAP),
    ("batch_norm", (2, 3, 4, "A", "ODD", "C", "D", 1e-5, "MEAN", "VAR", "STD"), MISALIGNED),
    ("batch_norm_inference", (2, 3, 4, "A", "B", "C", "D", "MEAN", "B", 1e-5), OVERLAP),
    ("batch_norm_inference", (2, 3, 4, "A", "B", "C", "D", "MEAN", NONE, 1e-5), NULL_POINTER),
    ("batch_norm_inference", (2, 3, 4, "A", "B", "C", "D", "MEAN", "VAR", -1.0), OUT_OF_RANGE),
    ("batch_norm_backward", (2, 3, 4, "A", "B", "C", "D", "MEAN", "STD", "VAR", "VAR"), OVERLAP),
    ("batch_norm_backward", (2, 3, 4, "A", "B", "C", "C", "MEAN", "STD", "VAR", "D"), OVERLAP),
    ("batch_norm_backward", (2, 0, 4, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE), 0),
    ("batch_norm_backward", (0, 2, 4, NONE, NONE, NONE, "A", "B", "C", "D", "MEAN"), BAD_SIZE),
    ("dropout", (8, NONE, "B", 0.5, 0, 0), NULL_POINTER),
    ("dropout", (8, "A", "B", 1.0, 0, 0), OUT_OF_RANGE),
    ("dropout", (1001, "A", "B", 0.5, 0, 0), OVERLAP),
    ("dropout", (0, NONE, NONE, 0.5, 0, 0), 0),
)


@pytest.mark.parametrize(("name", "given", "expected"), ERRORS)
def test_errors_come_before_the_first_write(
    name: str, given: tuple[Any, ...], expected: int, functions: Functions, dtype: Any
) -> None:
    block = np.arange(8000, dtype=dtype)
    before = block.copy()
    names = ("A", "B", "C", "D", "MEAN", "VAR", "STD")
    places = {place: at(block) + 1000 * i * block.itemsize for i, place in enumerate(names)}
    places["ODD"] = places["STD"] + 1
    arguments = [places[value] if isinstance(value, str) else value for value in given]
    assert pair(functions, name, dtype)(*arguments) == expected
    np.testing.assert_array_equal(block, before)


def test_an_error_in_the_last_array_leaves_the_first_alone(functions: Functions, dtype: Any) -> None:
    w, g = [np.ones(5, dtype) for _ in range(3)], [np.ones(5, dtype) for _ in range(3)]
    coefficients = (ctypes.c_double * 8)()
    step = pair(functions, "update", dtype)
    for last, place, factor, expected in (
        (-5, at(w[2]), 0.5, BAD_SIZE),
        (5, None, 0.5, NULL_POINTER),
        (5, at(w[2]) + 1, 0.5, MISALIGNED),
        (5, at(w[2]), np.inf, OUT_OF_RANGE),
    ):
        sizes = (ctypes.c_int64 * 3)(5, 5, last)
        coefficients[0] = factor
        weights = (ctypes.c_void_p * 3)(at(w[0]), at(w[1]), place)
        given = ctypes.addressof(sizes), weights, pointers(g), None
        assert step(b"sgd", ctypes.addressof(coefficients), 0.0, 3, *given) == expected
    assert all((array == 1).all() for array in w)


def test_coefficients_want_a_place(functions: Functions) -> None:
    for name, arguments in {"sgd": (0.1,), "adam": (1, 0.1, 0.9, 0.999, 1e-8, 0)}.items():
        assert functions[f"{name}_coefficients"](None, *arguments) == NULL_POINTER
