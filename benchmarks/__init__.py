"""The benchmarks: `pytest benchmarks`, `python -m benchmarks.report`, `python -m benchmarks.guard`."""

import sys
from pathlib import Path

# The network whose training is measured is that of the examples, which are scripts and no package.
sys.path.append(str(Path(__file__).parent.parent / "examples"))
