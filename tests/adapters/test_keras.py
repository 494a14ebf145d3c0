"""fusedstep.keras on each backend, in a process of its own as Keras' backend is fixed when it is imported."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("keras_checks.py")


@pytest.mark.skipif(find_spec("keras") is None, reason="compares with Keras where that is installed")
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_keras(backend: str) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"compares on Keras' backend {backend} where {backend} is installed")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", CHECKS],
        env=os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
