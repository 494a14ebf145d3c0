"""With MPI: the same checks in processes, errors in one of them, and processes that are killed."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mpi4py", reason="mpi4py isn't installed")
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")

TESTS = Path(__file__).parents[1]
KILLS = int(os.environ.get("FUSEDSTEP_TEST_KILLS", "4"))


def mpiexec(ranks: int, script: str, *arguments: Any, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(MPIEXEC), "-n", str(ranks), sys.executable, str(TESTS / "distributed" / script), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_every_rule_and_layer(ranks: int) -> None:
    assert mpiexec(ranks, "mpi_checks.py").stdout.count("right") == ranks


def test_resnet50_on_two_ranks() -> None:
    """Same bits for every rule, and half the state."""
    assert mpiexec(2, "mpi_resnet.py").stdout.count("right") == 2


def test_killed_processes_lose_nothing(tmp_path: Path) -> None:
    """A process dies at any moment, again and again; training that goes on from the files has the same bits."""
    for folder in ("undisturbed", "killed"):
        (tmp_path / folder).mkdir()
    steps = 60 * KILLS
    mpiexec(2, "mpi_training.py", tmp_path / "undisturbed", steps)
    rng, resumed = random.Random(0), 0
    for _ in range(KILLS):
        dies = rng.randrange(2), rng.randrange(3), rng.randrange(10)
        done = mpiexec(2, "mpi_training.py", tmp_path / "killed", steps, *dies, check=False)
        assert done.returncode != 0, "it was done before it was killed"
        resumed += (tmp_path / "killed" / "step").exists()
    assert resumed > 0
    mpiexec(2, "mpi_training.py", tmp_path / "killed", steps)
    expected, found = (np.load(tmp_path / folder / "result.npz") for folder in ("undisturbed", "killed"))
    assert expected.files == found.files
    for name in expected.files:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
