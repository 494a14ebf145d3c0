"""The benchmarks: `pytest benchmarks`, `python -m benchmarks.report`, `python -m benchmarks.guard`."""

import sys
from pathlib import Path

# The network whose training is measured is that of the examples, and the book's second volume that of the tests. Both
# are folders of scripts and no packages.
sys.path += [str(Path(__file__).parent.parent / folder) for folder in ("examples", "tests")]
