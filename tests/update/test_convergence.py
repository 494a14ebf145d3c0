"""Every rule gets to where it is said to get: on a quadratic, Rosenbrock's function and handwritten digits."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep.schedules import Cosine

Array = np.ndarray[Any, Any]
Setting = tuple[float, float]


@dataclass(frozen=True)
class Goal:
    """For each problem the learning rate, and the loss that is reached; twice of what was seen, at small losses 100
    times, as rounding decides the last steps there.

    Attributes:
        quadratic: x^2 / 20 + y^2 from (-7, 2) after 300 steps.
        rosenbrock: (1 - x)^2 + 100 (y - x^2)^2 from (-1.2, 1) after 3000 steps.
        digits: A layer of 32 on scikit-learn's digits, mean over all after 300 steps of batches of 100.
        cosine: Whether the learning rate falls to 0 along a cosine, as rules need whose steps don't shrink.
    """

    quadratic: Setting
    rosenbrock: Setting
    digits: Setting
    cosine: bool = False
    options: dict[str, Any] = field(default_factory=dict)


GOALS = {
    "ADOPT": Goal((10.0, 1e-10), (4.6, 1e-10), (0.1, 0.02), cosine=True),
    "ASGD": Goal((0.46, 2e-10), (0.0021, 0.002), (0.46, 0.2)),
    "AdEMAMix": Goal((2.2, 7e-10), (0.46, 1e-10), (0.022, 0.03), cosine=True, options={"beta3": 0.99}),
    "AdaBelief": Goal((1.0, 1e-10), (2.2, 1e-10), (0.022, 0.06)),
    "AdaGrad": Goal((10.0, 1e-10), (1.0, 0.002), (0.46, 0.2)),
    "Adadelta": Goal((10.0, 0.006), (0.1, 0.03), (10.0, 0.2)),
    "Adafactor": Goal((10.0, 2e-4), (0.046, 4e-3), (0.1, 0.04), cosine=True),
    "Adam": Goal((0.22, 1e-10), (4.6, 1e-10), (0.022, 0.07)),
    "AdamW": Goal((1.0, 1e-10), (0.46, 1e-10), (0.1, 0.05), cosine=True, options={"weight_decay": 0.0}),
    "Adamax": Goal((2.2, 1e-10), (0.46, 1e-10), (0.1, 0.09)),
    "Adan": Goal((10.0, 1e-10), (0.0022, 1e-5), (0.1, 0.03)),
    "FTRL": Goal((10.0, 1e-10), (1.0, 0.002), (0.46, 0.2)),
    "LAMB": Goal((0.46, 1e-10), (0.022, 2e-6), (0.022, 0.03), cosine=True),
    "LARS": Goal((10.0, 3e-7), (2.2, 1e-8), (10.0, 0.08), cosine=True),
    "LaProp": Goal((2.2, 1e-10), (0.46, 1e-10), (0.1, 0.03), cosine=True),
    "Lion": Goal((0.22, 2e-6), (0.01, 3e-8), (0.022, 0.05), cosine=True),
    "Momentum": Goal((0.22, 1e-10), (0.0022, 1e-10), (0.46, 0.05)),
    "Muon": Goal((0.46, 5e-9), (0.01, 1e-10), (0.1, 0.002), cosine=True, options={"weight_decay": 0.0}),
    "NAdam": Goal((0.46, 1e-10), (0.022, 3e-4), (0.022, 0.05)),
    "Nesterov": Goal((0.46, 1e-10), (0.001, 3e-10), (0.46, 0.04)),
    "RAdam": Goal((2.2, 1e-10), (0.0046, 0.5), (0.1, 0.09)),
    "RMSProp": Goal((0.1, 1e-10), (0.0022, 0.005), (0.022, 0.2)),
    "Rprop": Goal((10.0, 1e-10), (0.022, 5e-4), (0.1, 6e-8)),
    "SGD": Goal((0.46, 2e-10), (0.0021, 0.002), (0.46, 0.2)),
    "ScheduleFreeAdamW": Goal((10.0, 1e-10), (0.1, 0.002), (0.1, 0.02)),
    "ScheduleFreeSGD": Goal((4.6, 3e-8), (0.0046, 0.006), (2.2, 0.07)),
    "SignSGD": Goal((0.1, 1e-9), (1.0, 0.005), (0.022, 0.2), cosine=True),
    "Signum": Goal((0.1, 2e-4), (0.0022, 2e-5), (0.022, 0.02), cosine=True),
    "StableAdamW": Goal((2.2, 1e-10), (0.0022, 2e-7), (0.022, 0.07), options={"weight_decay": 0.0}),
    "Yogi": Goal((1.0, 1e-10), (0.46, 1e-10), (0.022, 0.08)),
}


def optimizer(name: str, lr: float, steps: int) -> Any:
    goal = GOALS[name]
    return getattr(fs, name)(Cosine(lr, steps) if goal.cosine else lr, **goal.options)


def test_every_rule_has_a_goal() -> None:
    classes = {value for value in vars(fs).values() if isinstance(value, type) and issubclass(value, fs.Optimizer)}
    assert {getattr(fs, name) for name in GOALS} == classes - {fs.Optimizer}


def descend(rule: Any, f: Callable[[Array], tuple[float, Any]], start: tuple[float, float], steps: int) -> float:
    w = np.array([start])  # a matrix, which Muon needs
    for _ in range(steps):
        rule.update(w, np.array([f(w[0])[1]]))
    if hasattr(rule, "eval"):
        rule.eval(w)
    return f(w[0])[0]


@pytest.mark.parametrize("name", GOALS)
def test_a_quadratic(name: str) -> None:
    def f(w: Array) -> tuple[float, Any]:
        x, y = w
        return x * x / 20 + y * y, (x / 10, 2 * y)

    lr, loss = GOALS[name].quadratic
    assert descend(optimizer(name, lr, 300), f, (-7.0, 2.0), 300) <= loss


@pytest.mark.parametrize("name", GOALS)
def test_rosenbrocks_function(name: str) -> None:
    def f(w: Array) -> tuple[float, Any]:
        x, y = w
        valley = y - x * x
        return (1 - x) ** 2 + 100 * valley**2, (-2 * (1 - x) - 400 * x * valley, 200 * valley)

    lr, loss = GOALS[name].rosenbrock
    assert descend(optimizer(name, lr, 3000), f, (-1.2, 1.0), 3000) <= loss


class Network:
    """64 pixels, a layer of 32, ten digits."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.params = {
            "W1": (rng.standard_normal((64, 32)) * math.sqrt(2 / 64)).astype(np.float32),
            "b1": np.zeros(32, np.float32),
            "W2": (rng.standard_normal((32, 10)) * math.sqrt(2 / 32)).astype(np.float32),
            "b2": np.zeros(10, np.float32),
        }

    def gradient(self, x: Array, y: Array) -> tuple[float, dict[str, Array]]:
        p = self.params
        hidden = np.maximum(x @ p["W1"] + p["b1"], 0)
        scores = hidden @ p["W2"] + p["b2"]
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        loss = float(-np.log(shares[rows, y] + 1e-30).mean())
        shares[rows, y] -= 1
        shares /= len(y)
        back = (shares @ p["W2"].T) * (hidden > 0)
        return loss, {"W1": x.T @ back, "b1": back.sum(axis=0), "W2": hidden.T @ shares, "b2": shares.sum(axis=0)}


@pytest.mark.parametrize("name", GOALS)
def test_digits(name: str) -> None:
    data = pytest.importorskip("sklearn.datasets", reason="trains on scikit-learn's digits")
    x, y = data.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16).astype(np.float32), y[order]
    lr, goal = GOALS[name].digits
    rule = optimizer(name, lr, 300)
    if name == "Muon":
        rule = fs.Split([(lambda _, w: w.ndim == 2, rule), (lambda *_: True, fs.AdamW(0.01))])
    network, rng = Network(), np.random.default_rng(2)
    for _ in range(300):
        batch = slice(None) if name == "Rprop" else rng.integers(0, len(x), 100)  # Rprop is for whole sets
        rule.update(network.params, network.gradient(x[batch], y[batch])[1])
    if hasattr(rule, "eval"):
        rule.eval(network.params)
    assert network.gradient(x, y)[0] <= goal
