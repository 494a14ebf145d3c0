"""A short run of the soak: threads, forks, bits, memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "tools" / "soak.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_short_soak() -> None:
    command = [sys.executable, "-W", "error", str(SOAK), "--updates", "4000", "--threads", "8", "--forks", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4000 updates in 8 threads, 10 forks," in done.stdout
