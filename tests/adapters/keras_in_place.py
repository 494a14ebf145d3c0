"""A plugin of pytest that puts the classes of fusedstep.keras in the place of Keras' own, for Keras' own tests.

`nox -s keras` runs it. At the end it says how many steps these classes made, and how many they left to Keras' code.
"""

import sys
from typing import Any

import keras
import pytest
from keras.src import optimizers

import fusedstep.keras
from fusedstep.keras._optimizer import Fused

steps = {"made": 0, "left to Keras": 0}


def replace_classes() -> None:
    """Replaces each class wherever a module of Keras has it, and where Keras looks for it by name."""
    modules = [module for key, module in sys.modules.items() if key.partition(".")[0] == "keras"]
    for name in fusedstep.keras.__all__:
        theirs, ours = getattr(keras.optimizers, name), getattr(fusedstep.keras, name)
        for module in modules:
            if getattr(module, name, None) is theirs:
                setattr(module, name, ours)
        optimizers.ALL_OBJECTS_DICT[name.lower()] = ours


def count_steps() -> None:
    step = Fused._step

    def counted(self: Fused, grads: list[Any], variables: list[Any]) -> list[Any] | None:
        left = step(self, grads, variables)
        steps["made" if left is None else "left to Keras"] += 1
        return left

    Fused._step = counted  # type: ignore[method-assign]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requires_trainable_backend: it trains a model")
    replace_classes()
    count_steps()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if keras.backend.backend() == "numpy":
        for item in items:
            if item.get_closest_marker("requires_trainable_backend"):
                item.add_marker(pytest.mark.skip(reason="Keras' backend numpy computes no gradients to fit a model"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line("steps of fusedstep.keras: " + ", ".join(f"{n} {how}" for how, n in steps.items()))
