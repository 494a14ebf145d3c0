"""What Sphinx can't check of the documentation: every public name is in it, and its C module builds and runs."""

import ast
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
from c_interface import load, store
from fusedstep import _native, reference

DOCS = Path(__file__).parents[2] / "docs"


# Modules with a page of their own, which need a library: not imported here.
ADAPTERS = ("dezero", "distributed", "flower", "keras", "sklearn", "thinc", "torch")


def _documented(text: str) -> list[str]:
    return re.findall(r"^\.\. (?:autoclass|class|autofunction|data):: (\w+)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_page_of_an_adapter_has_its_public_names(name: str) -> None:
    module = Path(fs.__file__).parent / name
    source = (module / "__init__.py" if module.is_dir() else module.with_suffix(".py")).read_text()
    (names,) = re.findall(r"^__all__ = (\[.*?\])", source, re.MULTILINE | re.DOTALL)
    assert sorted(_documented((DOCS / "api" / f"{name}.md").read_text())) == sorted(ast.literal_eval(names))


def test_the_reference_has_every_public_name() -> None:
    pages = [path for path in (DOCS / "api").glob("*.md") if path.stem not in ADAPTERS]
    text = "".join(path.read_text() for path in pages)
    names = _documented(text)
    if "\n.. every-optimizer::\n" in text:  # docs/_extensions/every_optimizer.py
        classes = [cls for cls in vars(fs).values() if isinstance(cls, type) and issubclass(cls, fs.Optimizer)]
        names += {cls.__name__ for cls in classes} - {"Optimizer"}
    modules = re.findall(r"^\.\. automodule:: fusedstep\.(\w+)\n   :members:", text, re.MULTILINE)
    assert sorted(names + modules) == sorted([*fs.__all__, "book"])


def test_the_module_in_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    text = (DOCS / "c_and_cython.md").read_text()
    (source,) = re.findall(r"^```c\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "offload.c").write_text(source)
    include = [f"-I{folder}" for folder in (sysconfig.get_path("include"), fs.get_include())]
    options = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    target = f"offload{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run(["cc", *options, *include, "offload.c", "-o", target], cwd=tmp_path, check=True)
    monkeypatch.syspath_prepend(tmp_path)
    train = importlib.import_module("offload").train
    del sys.modules["offload"]

    rng = np.random.default_rng(6)
    masters = [rng.standard_normal(n).astype(np.float32) for n in (3000, 41)]
    weights = [store(master, "bfloat16") for master in masters]
    expected = [master.copy() for master in masters]
    train(masters[0], weights[0], masters[1], weights[1], 5)

    optimizers = [reference.AdamW(weight_decay=decay) for decay in (0.1, 0.0)]
    for t in range(1, 6):
        gradients = [np.float32(0.5) * load(store(master, "bfloat16"), "bfloat16", "float32") for master in expected]
        clip = np.float32(1 / (_native.gradient_norm(gradients) + 1e-6))
        assert clip < 1
        for optimizer, master, gradient in zip(optimizers, expected, gradients, strict=True):
            optimizer.lr = min(1e-2 * t / 3, 1e-2)
            optimizer.update([master], [clip * gradient])
    for master, narrow, right in zip(masters, weights, expected, strict=True):
        np.testing.assert_array_equal(master, right)
        np.testing.assert_array_equal(narrow, store(right, "bfloat16"))

    with pytest.raises(ValueError, match=r"^array 0, copy: an array that is written overlaps another$"):
        train(masters[0], masters[0], masters[1], weights[1], 1)
    np.testing.assert_array_equal(masters[0], expected[0])
