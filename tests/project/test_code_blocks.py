"""The code of the pages runs as it stands; doctests are run by Sphinx, the blocks of README and tour elsewhere."""

import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs

ROOT = Path(__file__).parents[2]

# What a page's reader has already: the statements that make it, by the library that they need.
SETTINGS = {
    "book2": ("numpy", ""),
    "dezero": ("dezero", "from dezero.models import MLP; model = MLP((3, 1))"),
    "distributed": (
        "mpi4py",
        "import numpy as np; params = {0: np.ones(3)}; batches = lambda rank: [(1, 2)]; gradients = lambda *xt: params",
    ),
    "flower": ("flwr", ""),
    "keras": ("keras", "import keras; model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])"),
    "sklearn": ("sklearn", ""),
    "thinc": ("thinc", ""),
    "torch": (
        "torch",
        "import torch, fusedstep.torch; model = torch.nn.Linear(3, 1).bfloat16(); PPO = lambda *_, policy_kwargs: None",
    ),
}


def _blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_every_page_with_code_is_tried() -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md") if _blocks(path.stem, "python")}
    assert pages - {"c_and_cython"} - {path.stem for path in (ROOT / "docs").glob("chapter6*.md")} == set(SETTINGS)


@pytest.mark.parametrize("page", SETTINGS)
def test_a_page(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library, setting = SETTINGS[page]
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    monkeypatch.setattr(np, "int", int, raising=False)  # for DeZero 0.0.13
    pytest.importorskip(library, reason=f"{library} is not installed")
    if page == "distributed":
        try:
            importlib.import_module("mpi4py.MPI")
        except (ImportError, RuntimeError):
            pytest.skip("there is no MPI library")
    names: dict[str, Any] = {}
    exec(setting, names)
    for block in _blocks(page, "python"):
        exec(block, names)
    assert {"book2": "fusedstep.book"}.get(page, f"fusedstep.{page}") in sys.modules


def _needs(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"there is no {program}")


def test_the_pieces_in_c(tmp_path: Path) -> None:
    _needs("cc")
    pieces = _blocks("c_and_cython", "text")
    assert len(pieces) == 3
    given = "const fusedstep_api *fs, size_t count, fusedstep_item *items, int64_t n, float *x, uint64_t step"
    used = "(void)fs, (void)count, (void)items, (void)n, (void)x, (void)step;"
    functions = [
        f"int piece_{i}({given}) {{\n{used}\n{piece}\nreturn {'code' if 'int code' in piece else '0'};\n}}\n"
        for i, piece in enumerate(pieces)
    ]
    (tmp_path / "pieces.c").write_text("\n".join(["#include <Python.h>", "#include <fusedstep.h>", *functions]))
    include = [f"-I{folder}" for folder in (sysconfig.get_path("include"), fs.get_include())]
    options = ["-std=c11", "-Wall", "-Werror", "-fsyntax-only"]
    subprocess.run(["cc", *options, *include, "pieces.c"], cwd=tmp_path, check=True)


def test_the_setup_of_a_module_in_c(tmp_path: Path) -> None:
    _needs("cc")
    (setup,), (source,) = _blocks("c_and_cython", "python"), _blocks("c_and_cython", "c")
    (tmp_path / "setup.py").write_text(setup)
    (tmp_path / "offload.c").write_text(source)
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert list(tmp_path.glob(f"offload*{sysconfig.get_config_var('EXT_SUFFIX')}"))


def test_the_cmake_of_a_module_in_cython(tmp_path: Path) -> None:
    _needs("cc")
    _needs("cmake")
    (whole,) = (block for block in _blocks("c_and_cython", "cmake") if block.startswith("cmake_minimum"))
    (tmp_path / "CMakeLists.txt").write_text(whole)
    shutil.copy(ROOT / "examples" / "cython" / "softmax.pyx", tmp_path)
    build = tmp_path / "build"
    configure = ["-S", str(tmp_path), "-B", str(build), f"-DPython_EXECUTABLE={sys.executable}"]
    for arguments in (configure, ["--build", str(build)]):
        subprocess.run(["cmake", *arguments], check=True, stdout=subprocess.DEVNULL)
    assert list(build.glob("softmax*.so")) or list(build.rglob("softmax*.pyd"))


@pytest.mark.skipif(importlib.util.find_spec("mesonbuild") is None, reason="meson is not installed")
def test_the_meson_of_a_module_in_cython(tmp_path: Path) -> None:
    _needs("cc")
    (whole,) = _blocks("c_and_cython", "meson")
    (tmp_path / "meson.build").write_text(whole)
    shutil.copy(ROOT / "examples" / "cython" / "softmax.pyx", tmp_path)
    meson = [sys.executable, "-m", "mesonbuild.mesonmain"]
    subprocess.run([*meson, "setup", "build"], cwd=tmp_path, check=True)
    subprocess.run([*meson, "compile", "-C", "build"], cwd=tmp_path, check=True)
    assert list((tmp_path / "build").glob("softmax*"))
