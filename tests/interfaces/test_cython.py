"""Cython code that trains without the GIL: the example, built against the installed package in a folder of its own."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from c_interface import CODES, HEADER, STRUCTS, TYPES

EXAMPLE = Path(__file__).parents[2] / "examples" / "cython"


def test_cython_has_the_headers_names() -> None:
    text = (HEADER.parents[1] / "cython_api.pxd").read_text()
    constants = re.findall(r"^ {8}FUSEDSTEP_(\w+)$", text, re.MULTILINE)
    assert constants == ["API_VERSION", "MAX_STATES", "MAX_SCALARS", *CODES, *(name.upper() for name in TYPES)]
    structs = re.findall(r"ctypedef struct (\w+):\n(.*?)\n\n", text, re.DOTALL)
    assert [name for name, _ in structs] == list(STRUCTS)
    for name, body in structs:
        # The last word of a declarator, or the name of a pointer to a function.
        flat = re.sub(r"\(\*(\w+)\)\([^)]*\) noexcept nogil", r"\1", body)
        fields = re.findall(r"(\w+)(?:\[\w+\])?(?=,|$)", flat, re.MULTILINE)
        assert fields == [field for field, *_ in STRUCTS[name]._fields_], name


@pytest.fixture(scope="module")
def softmax(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("needs a C compiler for what Cython makes")
    folder = tmp_path_factory.mktemp("cython")
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=folder, check=True)
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("softmax")
    finally:
        sys.path.remove(str(folder))


def arrays() -> tuple[Any, ...]:
    weights, bias = np.zeros((64, 10), np.float32), np.zeros(10, np.float32)
    return weights, bias, np.full_like(weights, np.nan), np.full_like(bias, np.nan), np.empty_like(bias)


def test_an_epoch_in_cython_gives_the_bits_of_the_python_interface(softmax: ModuleType) -> None:
    rng = np.random.default_rng(3)
    images, labels = rng.random((130, 64), np.float32), rng.integers(0, 10, 130, np.uint8)
    weights, bias, dweights, dbias, p = arrays()
    state = [np.zeros_like(a) for a in (weights, weights, bias, bias)]
    t = 0
    for _ in range(3):
        t = softmax.train_epoch(images, labels, 50, t, 0.01, weights, bias, dweights, dbias, p, *state)
    assert t == 9  # 50, 50 and 30 images, three times

    optimizer = fs.Adam(0.01)
    expected_weights, expected_bias, dweights, dbias, p = arrays()
    for first in [0, 50, 100] * 3:
        batch = slice(first, first + 50)
        softmax.batch_gradients(images[batch], labels[batch], expected_weights, expected_bias, dweights, dbias, p)
        optimizer.update([expected_weights, expected_bias], [dweights, dbias])
    assert weights.any()
    np.testing.assert_array_equal(weights, expected_weights)
    np.testing.assert_array_equal(bias, expected_bias)
    for array, right in zip(state, [a for i in (0, 1) for a in optimizer.state[i].values()], strict=True):
        np.testing.assert_array_equal(array, right)


def test_an_error_of_the_kernels_becomes_an_exception(softmax: ModuleType) -> None:
    images, labels = np.zeros((5, 64), np.float32), np.zeros(5, np.uint8)
    weights, bias, dweights, dbias, p = arrays()
    with pytest.raises(ValueError, match=r"array 0, lr: .* out of range"):
        softmax.train_epoch(images, labels, 5, 0, -1.0, weights, bias, dweights, dbias, p, weights, weights, bias, bias)
    with pytest.raises(ValueError, match=r"array 0, state\[0\]: .* overlaps another"):
        softmax.train_epoch(images, labels, 5, 0, 0.1, weights, bias, dweights, dbias, p, weights, weights, bias, bias)
    assert not weights.any()
