"""A plugin of pytest that puts the strategies of fusedstep.flower in the place of Flower's own, for Flower's own tests.

No package of Flower has these, so they run in a checkout, with its framework/py and this folder in PYTHONPATH:

    python -m pytest -p flower_in_place framework/py/flwr/server/strategy framework/py/flwr/serverapp/strategy

At the end it says how many steps these classes made, and how many they left to Flower's code.
"""

import importlib
from typing import Any

import flwr.server.strategy
import flwr.serverapp.strategy
import pytest

import fusedstep.flower.server
from fusedstep.flower import _steps

steps = {"made": 0, "left to Flower": 0}

for ours, theirs in ((fusedstep.flower, flwr.serverapp.strategy), (fusedstep.flower.server, flwr.server.strategy)):
    for name in ours.__all__:
        for module in (theirs, importlib.import_module(f"{theirs.__name__}.{name.lower()}")):
            setattr(module, name, getattr(ours, name))


def _counting(stepped: Any) -> Any:
    def counted(*given: Any) -> Any:
        made = stepped(*given)
        steps["left to Flower" if made is None else "made"] += 1
        return made

    return counted


for each in (_steps.FedOpt, _steps.Momentum):
    vars(_steps)[each.__name__]._stepped = _counting(each._stepped)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line("steps of fusedstep.flower: " + ", ".join(f"{n} {how}" for how, n in steps.items()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if steps["made"] == 0:  # the tests would pass, too
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
