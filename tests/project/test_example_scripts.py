"""Every example on a few steps: it runs without a warning and writes its picture."""

import importlib.util
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


def needs(name: str) -> list[pytest.MarkDecorator]:
    missing = name.startswith("torch_") and importlib.util.find_spec("torch") is None
    return [pytest.mark.skip(reason="needs PyTorch")] if missing else []


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


def test_it_says_in_a_line_what_it_cannot_take(tmp_path: Path) -> None:
    for name in SCRIPTS:
        for arguments in (("--out", "picture.txt"), ("--out", str(tmp_path / "no" / "picture.png")), ("--seed", "x")):
            command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
            assert done.returncode == 2
            assert len(done.stderr.splitlines()) == 1
            assert f"{name}.py: error: argument {arguments[0]}: " in done.stderr
