"""What `activations.py` finds of a layer: mean, standard deviation, and the part whose gradient is lost."""

from typing import NamedTuple

from lib.network import Array

# The results of an activation that saturates are between these.
RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
NAMES = {"sigmoid": "Sigmoid", "tanh": "tanh", "relu": "ReLU"}

Results = dict[str, list[Array]]  # of each layer, for each way that weights begin


class Figures(NamedTuple):
    """Mean and standard deviation of a layer's results, and the part, from 0 to 1, whose gradient is (nearly) zero."""

    mean: float
    std: float
    lost: float


def figures_of(activation: str, y: Array) -> Figures:
    """The figures of a layer; lost is what is zero, or within 1 % of an end of the range."""
    if activation == "relu":
        lost = y == 0
    else:
        low, high = RANGES[activation]
        margin = 0.01 * (high - low)
        lost = (y < low + margin) | (y > high - margin)
    return Figures(float(y.mean()), float(y.std()), float(lost.mean()))
