"""The project's own build without Python: the kernels' object files, and the program that prints the bits of all."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built_in(folder: Path) -> Path:
    ninja = pytest.importorskip("ninja")
    pytest.importorskip("cmake")
    cmake = (sys.executable, "-m", "cmake")
    run(
        *cmake,
        *("-S", ROOT, "-B", folder, "-G", "Ninja", "-DSKBUILD_PROJECT_VERSION=0", "-DFUSEDSTEP_NATIVE=ON"),
        f"-DCMAKE_MAKE_PROGRAM={Path(ninja.BIN_DIR) / 'ninja'}",
    )
    run(*cmake, "--build", folder)
    return folder
