"""A plugin of pytest that puts our estimators and optimizers in the place of scikit-learn's own, for its tests.

    python -m pytest -p sklearn_in_place --pyargs sklearn.neural_network.tests.test_mlp

_multilayer_perceptron keeps its own optimizers, because users' does too: our estimators make ours of them.
"""

from collections import Counter
from typing import Any

import pytest
import sklearn.neural_network
from sklearn.neural_network import _multilayer_perceptron, _stochastic_optimizers

import fusedstep.sklearn

for name in ("MLPClassifier", "MLPRegressor"):
    for module in (sklearn.neural_network, _multilayer_perceptron):
        setattr(module, name, getattr(fusedstep.sklearn, name))
for name in ("AdamOptimizer", "SGDOptimizer"):
    setattr(_stochastic_optimizers, name, getattr(fusedstep.sklearn, name))


STEPS = Counter[bool]()
_stepped = fusedstep.sklearn._stepped


def _counted(*given: Any) -> bool:
    made = _stepped(*given)
    STEPS[made] += 1
    return made


vars(fusedstep.sklearn)["_stepped"] = _counted


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"fusedstep made {STEPS[True]} steps, and left {STEPS[False]} to scikit-learn")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if STEPS[True] == 0:  # the tests would pass, too
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
