"""The package as it is installed, and the limits its source keeps."""

import importlib.metadata
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs

ROOT = Path(__file__).parents[2]


def test_version_is_in_one_place() -> None:
    assert fs.__version__ == importlib.metadata.version("fusedstep")
    files = [*(ROOT / "python").rglob("*.py"), *(ROOT / "csrc").rglob("*.?pp"), ROOT / "CMakeLists.txt"]
    assert [path.name for path in files if fs.__version__ in path.read_text()] == []


def test_a_linter_has_the_same_version_as_hook_and_in_its_group() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    revisions = re.findall(r"repo: \S+/(?:mirrors-)?(\S+?)(?:-pre-commit)?\n +rev: v?(\S+)", hooks)
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    entries = (entry.partition("==") for entry in groups["types"] + groups["lint"] if isinstance(entry, str))
    pinned = {name: version for name, equals, version in entries if equals}
    both = {name: version for name, version in revisions if name in pinned}
    assert len(both) == 7
    assert both == {name: pinned[name] for name in both}


def test_types_are_shipped() -> None:
    package = Path(inspect.getfile(fs)).parent
    assert (package / "py.typed").exists()
    assert (package / "_native.pyi").exists()


def test_import_prints_nothing_and_needs_only_numpy() -> None:
    code = (
        "import sys; before = set(sys.modules); import fusedstep, fusedstep.book;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "assert new - sys.stdlib_module_names <= {'fusedstep', 'numpy'}, new"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    fs.set_num_threads(3)
    assert fs.show_config() is None  # type: ignore[func-returns-value]
    printed = capsys.readouterr().out
    for part in (fs.__version__, "built with", "NumPy", *fs.isas(), f"[{fs.isa()}]", "threads: 3", "flushed to zero"):
        assert part in printed


def test_public_names_are_documented() -> None:
    modules = (fs, fs.initializers, fs.schedules)
    for name, value in ((name, getattr(module, name)) for module in modules for name in module.__all__):
        if inspect.isclass(value) or inspect.isroutine(value):
            assert inspect.getdoc(value), name
            members = inspect.getmembers(value, inspect.isroutine) if inspect.isclass(value) else []
            undocumented = [f"{name}.{m}" for m, f in members if not m.startswith("_") and not inspect.getdoc(f)]
            assert undocumented == []


def test_no_file_is_too_long() -> None:
    folders = ("csrc", "python", "tests", "benchmarks", "examples")
    suffixes = {".py", ".pyi", ".cpp", ".hpp"}
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    assert len(paths) > 20
    assert [path.name for path in paths if len(path.read_text().splitlines()) > 400] == []


def test_the_readmes_examples_run() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    left_out = ["common.optimizer"] + ["torch"] * (importlib.util.find_spec("torch") is None)
    ours = [block for block in blocks if not any(name in block for name in left_out)]
    assert ours
    names: dict[str, Any] = {}  # a block goes on from the ones before
    for block in ours:
        exec(block, names)
    np.testing.assert_allclose(names["params"]["W"], 0.999 * (1 - 1e-3 * 0.01) - 1e-3)  # Adam's step, then AdamW's
    assert names["dx"].shape == (32, 100)
    assert (names["weights"].shape, names["weights"].dtype) == ((784, 100), np.float32)
    assert names["sgd"].lr(10_000) == 0


def test_no_flags_that_break_the_promises() -> None:
    text = "".join(path.read_text() for path in (ROOT / "CMakeLists.txt", ROOT / "pyproject.toml"))
    assert not {flag for flag in ("-ffast-math", "-Ofast", "-march=native", "-fopenmp") if flag in text}


@pytest.mark.parametrize(
    "name", ["README.md", "README.ko.md", "CONTRIBUTING.md", "docs/chapter6.md", "docs/chapter6.ko.md"]
)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text())
    assert [link for link in links if not link.startswith("https://") and not (path.parent / link).exists()] == []
