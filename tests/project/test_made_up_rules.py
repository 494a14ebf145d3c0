"""Five edits make a rule: a rule with four states, and one with norms of its own, in a copy of the project.

The copy is built, and its own tests, which run over rules and rows, are run on the two rules.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from c_interface import TYPES
from native_build import ROOT, run

pybind11 = pytest.importorskip("pybind11")
ninja = pytest.importorskip("ninja")
pytest.importorskip("cmake")
pytestmark = pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")

STAGES = """
// Made up: Adam's moments, the sum of squares and the last gradient.
template <class T> struct Fourfold {
    T step, c1, c2, pull, eps;

    void operator()(T& w, const T& g, T& m, T& v, T& s, T& last) const {
        m += c1 * (g - m);
        v += c2 * (g * g - v);
        s += g * g;
        w -= step * (m + pull * (g - last)) / (std::sqrt(v) + std::sqrt(s) + eps);
        last = g;
    }
};

// Made up: momentum whose step is scaled by the ratio of two norms.
template <class T> struct Trusting {
    T a, ratio;

    void operator()(T& w, const T& g, T& v) const {
        v = a * v + g;
        w -= ratio * v;
    }
};
"""
ROWS_IN_CPP = """
        {"fourfold",
         {"m", "v", "s", "last"},
         with_options(0.03, {{"beta1", 0.9, Limit::kBelowOne},
                             {"beta2", 0.99, Limit::kBelowOne},
                             {"pull", 0.75, Limit::kNotNegative},
                             {"eps", 1e-6, Limit::kNotNegative}}),
         true,
         [](Program& p) {
             const auto [beta1, beta2, pull, eps] = own<4>(p);
             const double step = p.values[kLearningRate] / (1 - std::pow(beta1, static_cast<double>(p.t)));
             p.call("fourfold", {kParameter, kGradient, kState, kState + 1, kState + 2, kState + 3},
                    {step, 1 - beta1, 1 - beta2, pull, eps});
         }},
        {"trusting",
         {"v"},
         with_options(0.05, {kMomentum}),
         false,
         [](Program& p) {
             p.end_pass({kParameter, kGradient});
             const auto [a] = own<1>(p);
             p.call("trusting", {kParameter, kGradient, kState}, {a, 0});
             p.between = [](Program& program, int, const double* squares) {
                 const double w = std::sqrt(squares[0]), g = std::sqrt(squares[1]);
                 const double ratio = w > 0 && g > 0 ? w / g : 1;
                 program.set("trusting", 1, program.values[kLearningRate] * ratio);
             };
         }},
"""
REFERENCE_IMPORTS = """import math
import numpy as np
from fusedstep.reference.storage import sum_of_squares
"""
REFERENCE = '''

class Fourfold(Optimizer):
    """Made up."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "v", "s", "last")
    counts_steps: ClassVar[bool] = True

    def __init__(self, lr=0.03, beta1=0.9, beta2=0.99, pull=0.75, eps=1e-6, **options):
        super().__init__(lr, **options)
        self.beta1, self.beta2, self.pull, self.eps = beta1, beta2, pull, eps

    def step(self, t, lr, w, g, m, v, s, last, *, steps):
        m += t(1 - self.beta1) * (g - m)
        v += t(1 - self.beta2) * (g * g - v)
        s += g * g
        step = lr / (1 - self.beta1**steps)
        w -= t(step) * (m + t(self.pull) * (g - last)) / (np.sqrt(v) + np.sqrt(s) + t(self.eps))
        last[...] = g


class Trusting(Optimizer):
    """Made up."""

    state_names: ClassVar[tuple[str, ...]] = ("v",)

    def __init__(self, lr=0.05, momentum=0.9, **options):
        super().__init__(lr, **options)
        self.momentum = momentum

    def step(self, t, lr, w, g, v):
        squares = sum_of_squares(w), sum_of_squares(g)
        norms = [math.sqrt(square) for square in squares]
        ratio = lr * (norms[0] / norms[1] if norms[0] > 0 and norms[1] > 0 else 1)
        v[...] = t(self.momentum) * v + g
        w -= t(ratio) * v
'''
CLASSES = '''

class Fourfold(Optimizer):
    """Made up."""

    _rule = "fourfold"

    def __init__(self, lr=0.03, beta1=0.9, beta2=0.99, pull=0.75, eps=1e-6, *, weight_decay=0.0, **options):
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1, self.beta2, self.pull, self.eps = beta1, beta2, pull, eps


class Trusting(Optimizer):
    """Made up."""

    _rule = "trusting"

    def __init__(self, lr=0.05, momentum=0.9, *, weight_decay=0.0, **options):
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.momentum = momentum
'''


def edit(path: Path, *changes: tuple[str, str]) -> None:
    """Puts text before each of some places, of which there is one."""
    text = path.read_text()
    for before, added in changes:
        assert text.count(before) == 1, (path, before)
        text = text.replace(before, added + before)
    path.write_text(text)


def five_edits(copy: Path) -> None:
    edit(
        copy / "csrc" / "kernels" / "stages.hpp",
        ("// Every stage, with the name", STAGES),
        (
            '    list.template rule<Sgd>("sgd");',
            '    list.template rule<Fourfold>("fourfold");\n    list.template rule<Trusting>("trusting");\n',
        ),
    )
    edit(copy / "csrc" / "core" / "rules_momentum.cpp", ('        {"nesterov", {"v"}', ROWS_IN_CPP))
    reference = copy / "python" / "fusedstep" / "reference" / "momentum.py"
    reference.write_text(REFERENCE_IMPORTS + reference.read_text() + REFERENCE)
    classes = copy / "python" / "fusedstep" / "optimizers" / "momentum.py"
    classes.write_text(classes.read_text() + CLASSES)
    family, package = classes.parent / "__init__.py", classes.parents[1] / "__init__.py"
    family.write_text(family.read_text().replace("SGD, Momentum", "SGD, Fourfold, Momentum, Trusting"))
    edit(package, ("    Momentum,", "    Fourfold,\n    Trusting,\n"))
    for names in (family, package):
        edit(names, ('    "Momentum",', '    "Fourfold",\n    "Trusting",\n'))
    edit(
        copy / "tests" / "cases.py",
        (
            "    Row(fs.SGD, reference.SGD,",
            """\
    Row(fs.Fourfold, reference.momentum.Fourfold, ({"pull": 0.0}, {"beta1": 0.0, "eps": 0.1})),
    Row(fs.Trusting, reference.momentum.Trusting, ({"momentum": 0.5},)),
""",
        ),
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("copy")
    for name in ("csrc", "python", "tests", "docs", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "_build"))
    for name in ("CMakeLists.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    five_edits(copy)
    cmake = (sys.executable, "-m", "cmake")
    common = ("-S", copy, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={Path(ninja.BIN_DIR) / 'ninja'}")
    # Without the optimisations across files that take longer than the tests.
    options = ("-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1", "-DSKBUILD_PROJECT_VERSION=0")
    python = (f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}")
    run(*cmake, *common, "-B", copy / "build", *options, *python)
    run(*cmake, "--build", copy / "build", "--target", "_native")
    (module,) = (copy / "build").glob("_native*.so")
    shutil.copy(module, copy / "python" / "fusedstep")
    run(*cmake, *common, "-B", copy / "native", *options, "-DFUSEDSTEP_NATIVE=ON")
    run(*cmake, "--build", copy / "native", "--target", "hashes")
    return copy


# An editable installation of the project would come before the path.
PYTEST = """
import sys
import pytest
sys.meta_path = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
import fusedstep
assert fusedstep.__file__.startswith(sys.argv[1]), fusedstep.__file__
sys.exit(pytest.main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("tests", "chosen", "at_least"),
    [
        # Types of arithmetic and storage, instruction sets, threads, options, layouts, state and its files, errors.
        ("tests/update", "Fourfold or Trusting or fourfold or trusting", 500),
        ("tests/interfaces/test_c_api_update.py", "fourfold or trusting", 20),
        ("tests/properties", "", 7),
        ("tests/project/test_docs.py", "public_name", 1),
    ],
)
def test_everything_else_follows(copy: Path, tests: str, chosen: str, at_least: int) -> None:
    command = [sys.executable, "-c", PYTEST, str(copy), tests, "-q", "-k", chosen, "-p", "no:cacheprovider"]
    environment = {"PYTHONPATH": str(copy / "python"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) >= at_least


def test_the_bits_of_all_instruction_sets_are_printed(copy: Path, isa: str) -> None:
    lines = run(copy / "native" / "tests" / "native" / "hashes", isa).splitlines()
    first = run(copy / "native" / "tests" / "native" / "hashes", "baseline").splitlines()
    assert lines == first
    names = {line.split("  ")[1] for line in lines}
    expected = (ROOT / "tests" / "native" / "hashes.txt").read_text().splitlines()
    assert set(expected) <= set(lines)
    rules = "fourfold", "trusting"
    assert names - {line.split("  ")[1] for line in expected} == {
        *(
            f"rule {rule}{decay} {dtype}"
            for rule in rules
            for decay in ("", " decay")
            for dtype in ("float32", "float64")
        ),
        *(f"options {rule} {storage}" for rule in rules for storage in TYPES),
    }
