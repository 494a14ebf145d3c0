"""A plugin of pytest that puts our optimizers in the place of thinc's own, for thinc's and spaCy's tests.

python -m pytest -p thinc_in_place --pyargs thinc.tests.test_optimizers
"""

import sys
from collections import Counter
from typing import Any

import pytest
import thinc.api
import thinc.tests.test_optimizers

import fusedstep.thinc
from fusedstep.thinc import Optimizer

for name in fusedstep.thinc.__all__:
    theirs, ours = getattr(thinc.api, name), getattr(fusedstep.thinc, name)
    for module in [module for key, module in sys.modules.items() if key.partition(".")[0] in ("thinc", "spacy")]:
        if getattr(module, name, None) is theirs:
            setattr(module, name, ours)
    if name != "Optimizer":
        thinc.api.registry.optimizers.register(f"{name}.v1", func=ours)


STEPS = Counter[bool]()
_stepped = Optimizer._stepped


def _counted(self: Optimizer, *given: Any) -> bool:
    made = _stepped(self, *given)
    STEPS[made] += 1
    return made


vars(fusedstep.thinc)["Optimizer"]._stepped = _counted


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"fusedstep made {STEPS[True]} steps, and left {STEPS[False]} to thinc")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if STEPS[True] == 0:  # the tests would pass, too
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
