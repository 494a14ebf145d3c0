"""Shows what five layers make of standard-normal inputs, depending on the activation and on how weights begin.

As in chapter 6 of *Deep Learning from Scratch*: 1000 inputs of 100 numbers, five hidden layers of 100 units, histograms
of what each layer gives, with weights of standard deviation 1 and 0.01 and those of LeCun, Xavier and He. Where a layer
has as many inputs as outputs, LeCun's and Xavier's are the same, so they share a row. ReLU's histograms have a
logarithmic axis, because its results span ten powers of ten; those that are zero are not in them. Prints the mean and
standard deviation of each layer, and what part of it is saturated, within 1 % of an end of its range, or zero.
"""

from lib.command_line import Parser, main

# isort: split
import argparse
import sys

import numpy as np
from numpy.typing import NDArray

import fusedstep as fs
from lib.activation_results import NAMES, Results, figures_of
from lib.network import Initial, Network, normal

INPUTS, UNITS, LAYERS, CLASSES = 1000, 100, 5, 10
INITIAL: dict[str, Initial] = {
    "std 1": normal(1),
    "std 0.01": normal(0.01),
    "LeCun": fs.initializers.lecun_normal,
    "Xavier": fs.initializers.xavier_normal,
    "He": fs.initializers.he_normal,
}


def _results(activation: str, seed: int) -> Results:
    """What each layer gives, for each way that weights begin. Inputs and random numbers are the same for all."""
    x: NDArray[np.float64] = np.random.default_rng([seed, 1]).standard_normal((INPUTS, UNITS))
    sizes = [*[UNITS] * (LAYERS + 1), CLASSES]
    return {
        name: Network(sizes, np.random.default_rng(seed), activation=activation, initial=initial).activations(x)
        for name, initial in INITIAL.items()
    }


def _table(activation: str, results: Results) -> str:
    lost = "zero" if activation == "relu" else "sat."
    lines = [f"{NAMES[activation]:9}" + "".join(f"{f'layer {i}':>22}" for i in range(1, LAYERS + 1))]
    lines.append(f"{'':9}" + f"{'mean':>9}{'std':>8}{lost:>5}" * LAYERS)
    lines.append("-" * len(lines[1]))
    for name, layers in results.items():
        figures = [figures_of(activation, y) for y in layers]
        lines.append(f"{name:9}" + "".join(f"{f.mean:9.1e}{f.std:8.1e}{f.lost:5.0%}" for f in figures))
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = Parser(__doc__, "activations.png")
    parser.add_argument(
        "--activation", choices=tuple(NAMES), help="the one to show (default: all of them, below each other)"
    )
    return parser.parse_args()


def _run() -> None:
    options = _options()
    # Here, not above: it takes a second, in which Ctrl-C would end in a traceback.
    from lib.activations_picture import draw

    chosen = [options.activation] if options.activation else list(NAMES)
    results = {activation: _results(activation, options.seed) for activation in chosen}
    print("\n\n".join(_table(activation, found) for activation, found in results.items()))
    subtitle = (
        f"{INPUTS} normal inputs, {UNITS} units in a layer; title: layer {LAYERS}; "
        "each histogram is scaled to its highest bar."
    )
    draw(results, subtitle, options.out)


if __name__ == "__main__":
    sys.exit(main(_run))
