"""Every example on a few steps: it runs without a warning and writes its picture."""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
# What makes each script as short as it can be.
SCRIPTS: dict[str, tuple[str, ...]] = {
    "activations": (),
    "batch_norm": ("--epochs", "1"),
    "compare_optimizers": ("--epochs", "1"),
    "digits": ("--epochs", "1", "--hidden", "20"),
    "digits_mpi": ("--epochs", "1", "--hidden", "20"),
    "dropout": ("--epochs", "1"),
    "hyperparameters": ("--trials", "3", "--epochs", "1"),
    "initial_weights": ("--epochs", "1"),
    "learning_rates": ("--epochs", "1"),
    "one_step": ("--size", "1000", "--steps", "2"),
    "torch_policy": ("--own", "--steps", "2048", "--runs", "1"),
    "trajectories": ("--iterations", "3"),
    "weight_decay": ("--epochs", "1"),
}
NEEDED = ("matplotlib", "optuna", "sklearn", "threadpoolctl", "tqdm")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the extra `examples` lacks {', '.join(MISSING)}")


def test_every_script_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SCRIPTS)


@functools.cache
def has_mpi() -> bool:
    # In another process, because importing it initialises MPI.
    command = [sys.executable, "-c", "from mpi4py import MPI"]
    return (
        importlib.util.find_spec("mpi4py") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


def needs(name: str) -> list[pytest.MarkDecorator]:
    if name.startswith("torch_") and importlib.util.find_spec("torch") is None:
        return [pytest.mark.skip(reason="needs PyTorch")]
    if name.endswith("_mpi") and not has_mpi():
        return [pytest.mark.skip(reason="needs mpi4py and an MPI library, of the extra `mpi`")]
    return []


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in SCRIPTS])
def test_it_writes_a_picture(name: str, tmp_path: Path) -> None:
    from matplotlib.image import imread

    out = tmp_path / "picture.png"
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *SCRIPTS[name], "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()
    picture = imread(out)[..., :3]
    height, width, _ = picture.shape
    assert min(height, width) > 400
    # More than a headline on white: each quarter has something drawn in it.
    for part in (picture[: height // 2], picture[height // 2 :]):
        for quarter in (part[:, : width // 2], part[:, width // 2 :]):
            assert quarter.std() > 0.01


def test_a_policy_by_ppo(tmp_path: Path) -> None:
    for needed in ("torch", "stable_baselines3", "gymnasium"):
        pytest.importorskip(needed, reason="trains by stable-baselines3 where that is installed")
    command = [sys.executable, str(EXAMPLES / "torch_policy.py"), "--steps", "2048", "--runs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["PyTorch", "fusedstep"]
    assert (tmp_path / "torch_policy.png").stat().st_size > 10_000


def on_two_ranks(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # The one beside Python is of the MPI that the extra installs; another would start processes that are alone.
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    if mpiexec is None or not has_mpi():
        pytest.skip("needs mpi4py and, beside Python, mpiexec, of the extra `mpi`")
    command = [mpiexec, "-n", "2", sys.executable, "-W", "error", str(EXAMPLES / "digits_mpi.py"), *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=cwd, timeout=300
    )


def test_two_ranks_train_as_one_does(tmp_path: Path) -> None:
    done = on_two_ranks("--epochs", "2", "--hidden", "40", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    assert sum("handwritten digits" in line for line in lines) == 1
    cells = [line.replace("|", " ").split() for line in lines]
    one, two = (next(row for row in cells if row[:1] == [ranks]) for ranks in "12")
    assert one[1:3] == two[1:3]
    kilobytes, of_both, loss, _, params = (float(cell.rstrip("%")) for cell in two[6:])
    # Rounding is far below: a slice that is left out or counted twice shows in the first digits.
    assert loss < 1e-9
    assert params < 1e-9
    assert float(one[6]) == of_both
    assert kilobytes < 0.6 * of_both
    assert (tmp_path / "digits_mpi.png").stat().st_size > 10_000
    assert lines[-1] == "Picture: digits_mpi.png"


def test_one_rank_says_what_is_wrong_and_all_end(tmp_path: Path) -> None:
    done = on_two_ranks("--batch-size", "99", cwd=tmp_path)
    assert done.returncode == 1
    assert "digits_mpi.py: error: --batch-size 99 is not a multiple of 2" in done.stderr
    assert done.stderr.count("error") == 1


@pytest.mark.parametrize("error", ["ImportError", "RuntimeError"])
def test_a_line_says_that_mpi_is_missing(error: str, tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text(f"raise {error}('not here')\n")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "digits_mpi.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 1
    assert not done.stdout
    assert done.stderr == (
        'digits_mpi.py needs MPI: pip install ".[examples,mpi]", then mpiexec -n 2 python examples/digits_mpi.py\n'
    )


def test_it_says_in_a_line_what_it_cannot_take(tmp_path: Path) -> None:
    for name in SCRIPTS:
        for arguments in (("--out", "picture.txt"), ("--out", str(tmp_path / "no" / "picture.png")), ("--seed", "x")):
            command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
            assert done.returncode == 2
            assert len(done.stderr.splitlines()) == 1
            assert f"{name}.py: error: argument {arguments[0]}: " in done.stderr
