#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.10.14"]
# ///
"""What contributors run, each in an environment of its own: `nox -l` lists it, `nox -s NAME -- ARGUMENTS` runs one."""

import os

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"

PROJECT = nox.project.load_toml("pyproject.toml")
LINTERS = nox.project.dependency_groups(PROJECT, "lint")


def _run_in_place(session: nox.Session, plugin: str, *tests: str) -> None:
    """Runs another library's tests with our classes in the place of its own."""
    in_place = ("-p", plugin, "-c", os.devnull, "--rootdir", session.create_tmp(), "-W", "ignore", "-rs")
    session.run("python", "-m", "pytest", *in_place, "--pyargs", *tests, env={"PYTHONPATH": "tests/adapters"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check the form of code, texts, workflows and of the project itself."""
    session.install(*LINTERS)
    tracked = session.run("git", "ls-files", external=True, silent=True)
    files = tracked.split() if isinstance(tracked, str) else []
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("clang-format", "--dry-run", "--Werror", *(f for f in files if f.endswith((".cpp", ".hpp"))))
    session.run("codespell", *(f for f in files if not f.endswith(".png")))
    session.run("rumdl", "check", *(f for f in files if f.endswith(".md")))
    session.run("pre-commit", "validate-config")
    for schema, path in (
        ("github-workflows", ".github/workflows/tests.yml"),
        ("github-workflows", ".github/workflows/wheels.yml"),
        ("dependabot", ".github/dependabot.yml"),
        ("readthedocs", ".readthedocs.yaml"),
    ):
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", path)
    session.run("zizmor", "--offline", "--quiet", ".github")
    session.run("repo-review", "--show", "err", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types of everything that is Python."""
    extras = PROJECT["project"]["optional-dependencies"]
    mypy = [linter for linter in LINTERS if linter.startswith("mypy")]
    # The stub stands for the extension module, so there is nothing to build.
    session.install(*mypy, *PROJECT["project"]["dependencies"], *extras["test"], *extras["bench"], *extras["examples"])
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite (-P 3.13 for another interpreter; arguments go to pytest)."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(default=False)
@nox.parametrize("backend", ["numpy", "torch"])
def keras(session: nox.Session, backend: str) -> None:
    """Run Keras' own tests of its optimizers with the classes of fusedstep.keras in their place."""
    session.install(".[keras,torch]", "absl-py", "pytest")
    session.run(
        *("python", "-m", "pytest", "-p", "keras_in_place", "-p", "no:cacheprovider"),
        *("-c", os.devnull, "--rootdir", session.create_tmp(), "-W", "ignore", "--pyargs", "keras.src.optimizers"),
        *("-k", "not tensorboard"),  # which needs TensorFlow
        *session.posargs,
        env={"KERAS_BACKEND": backend, "PYTHONPATH": "tests/adapters"},
    )


@nox.session(default=False)
def sklearn(session: nox.Session) -> None:
    """Run scikit-learn's own tests of its networks with our classes in place, and ours beside them."""
    session.install(".[test,sklearn]", "pandas")  # which two of their tests need
    session.run("python", "-m", "pytest", "tests/adapters/test_sklearn.py", *session.posargs)
    tests = (f"sklearn.neural_network.tests.test_{name}" for name in ("mlp", "stochastic_optimizers"))
    _run_in_place(session, "sklearn_in_place", *tests)


@nox.session(default=False)
def thinc(session: nox.Session) -> None:
    """Run thinc's own tests of its optimizers with our classes in place, and ours beside them."""
    session.install(".[test,thinc]")
    _run_in_place(session, "thinc_in_place", "thinc.tests.test_optimizers")
    session.run("python", "-m", "pytest", "tests/adapters/test_thinc.py", *session.posargs)


@nox.session(default=False)
def spacy(session: nox.Session) -> None:
    """Train pipelines of spaCy, which has an older thinc, and run spaCy's own tests of training with our classes."""
    session.install(".[test,spacy]")
    _run_in_place(session, "thinc_in_place", "thinc.tests.test_optimizers", "spacy.tests.training.test_training")
    session.run(
        "python", "-m", "pytest", *(f"tests/adapters/test_{name}.py" for name in ("spacy", "thinc")), *session.posargs
    )


@nox.session(default=False)
def dezero(session: nox.Session) -> None:
    """Run the tests of fusedstep.dezero beside DeZero."""
    session.install(".[test,dezero]")
    names = ("dezero", "dezero_fallbacks", "dezero_hooks")
    session.run("python", "-m", "pytest", *(f"tests/adapters/test_{name}.py" for name in names), *session.posargs)


@nox.session(default=False)
def mpi(session: nox.Session) -> None:
    """Run the tests of fusedstep.distributed, those with MPI included."""
    session.install(".[test,mpi]")
    session.run("python", "-m", "pytest", "tests/distributed", *session.posargs)


@nox.session(default=False)
def flower(session: nox.Session) -> None:
    """Run the tests of fusedstep.flower beside Flower's own strategies."""
    session.install(".[test,flower]")
    session.run(
        "python",
        "-m",
        "pytest",
        "tests/adapters/test_flower.py",
        "tests/adapters/test_flower_edges.py",
        *session.posargs,
    )


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure beside NumPy, two minutes of it (arguments in place of --quick go to pytest)."""
    session.install(".[bench]")
    session.run("python", "-m", "pytest", "benchmarks", *(session.posargs or ["--quick"]))


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html, with every warning an error, and run its examples."""
    session.install(".", *nox.project.dependency_groups(PROJECT, "docs"))
    for builder in ("html", "doctest"):
        session.run(
            "python", "-m", "sphinx", "-W", "--keep-going", "-n", "-b", builder, "docs", f"docs/_build/{builder}"
        )


# The scripts make environments themselves.
@nox.session(default=False, venv_backend="none")
def wheels(session: nox.Session) -> None:
    """Build, check, install and test sdist and wheel (arguments: interpreters; PYTEST_ARGS narrows the tests)."""
    session.run("tools/try_wheel.sh", *(session.posargs or ["python3"]))


@nox.session(default=False, venv_backend="none")
def emulation(session: nox.Session) -> None:
    """Run on processors that this machine isn't, under QEMU (arguments go to tools/emulation.sh)."""
    session.run("tools/emulation.sh", *session.posargs)
    session.run("tools/aarch64.sh")


@nox.session(default=False, venv_backend="none")
def fuzz(session: nox.Session) -> None:
    """Fuzz the C interface under the sanitizers, for an hour (argument: seconds)."""
    session.run("tools/fuzz.sh", *session.posargs)


@nox.session(default=False, venv_backend="none")
def sanitizers(session: nox.Session) -> None:
    """Run the tests under the address and the thread sanitizer (arguments: one of them, and what pytest takes)."""
    for arguments in [session.posargs] if session.posargs else [["address"], ["thread"]]:
        session.run("tools/sanitizers.sh", *arguments)


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Update from many threads while children are forked, for long (arguments go to tools/soak.py)."""
    session.install(".")
    session.run("python", "tools/soak.py", *session.posargs)


if __name__ == "__main__":
    nox.main()
