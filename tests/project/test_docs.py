"""What Sphinx can't check of the documentation: every public name is in it, and its C module builds and runs."""

import importlib
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import fusedstep as fs

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_has_every_public_name() -> None:
    text = "".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
    names = re.findall(r"^\.\. (?:autoclass|class|autofunction|data):: (\w+)$", text, re.MULTILINE)
    modules = re.findall(r"^\.\. automodule:: fusedstep\.(\w+)\n   :members:", text, re.MULTILINE)
    assert sorted(names + modules) == sorted([*fs.__all__, "book"])


def test_the_module_in_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    text = (DOCS / "c_and_cython.md").read_text()
    (source,) = re.findall(r"^```c\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "quadratic.c").write_text(source)
    include = [f"-I{folder}" for folder in (sysconfig.get_path("include"), fs.get_include())]
    options = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    target = f"quadratic{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run(["cc", *options, *include, "quadratic.c", "-o", target], cwd=tmp_path, check=True)
    monkeypatch.syspath_prepend(tmp_path)
    minimise = importlib.import_module("quadratic").minimise
    del sys.modules["quadratic"]

    w = np.linspace(-1, 1, 1001, dtype=np.float32)
    expected, optimizer = w.copy(), fs.Adam(lr=1e-2)
    minimise(w, 5)
    for _ in range(5):
        optimizer.update(expected, expected - 1)
    np.testing.assert_array_equal(w, expected)
