"""Shows what five layers make of standard-normal inputs, depending on the activation and on how weights begin.

As in chapter 6 of *Deep Learning from Scratch*: 1000 inputs of 100 numbers, five hidden layers of 100 units, histograms
of what each layer gives, with weights of standard deviation 1 and 0.01 and those of LeCun, Xavier and He. Where a layer
has as many inputs as outputs, LeCun's and Xavier's are the same, so they share a row. ReLU's histograms have a
logarithmic axis, because its results span ten powers of ten; those that are zero are not in them. Prints the mean and
standard deviation of each layer, and what part of it is saturated, within 1 % of an end of its range, or zero.
"""

import argparse
import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fusedstep as fs
from lib.command_line import Parser, main
from lib.network import Array, Initial, Network, normal

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

INPUTS, UNITS, LAYERS, CLASSES = 1000, 100, 5, 10
INITIAL: dict[str, Initial] = {
    "std 1": normal(1),
    "std 0.01": normal(0.01),
    "LeCun": fs.initializers.lecun_normal,
    "Xavier": fs.initializers.xavier_normal,
    "He": fs.initializers.he_normal,
}
ROWS = {
    "std 1": "weights\nof std 1",
    "std 0.01": "weights\nof std 0.01",
    "Xavier": "LeCun, Xavier:\nstd 0.1",
    "He": "He:\nstd 0.14",
}
BINS = {"sigmoid": np.linspace(0, 1, 41), "tanh": np.linspace(-1, 1, 42), "relu": np.logspace(-9, 6, 46)}
TICKS: dict[str, list[float]] = {"sigmoid": [0, 0.5, 1], "tanh": [-1, 0, 1], "relu": [1e-5, 1, 1e5]}
NAMES = {"sigmoid": "Sigmoid", "tanh": "tanh", "relu": "ReLU"}


class Figures(NamedTuple):
    """What is printed of a layer's results."""

    mean: float
    std: float
    lost: float  # the part, from 0 to 1, whose gradient is (nearly) zero


def _figures(activation: str, y: Array) -> Figures:
    if activation == "relu":
        lost = y == 0
    else:
        low, high = BINS[activation][[0, -1]]
        margin = 0.01 * (high - low)
        lost = (y < low + margin) | (y > high - margin)
    return Figures(float(y.mean()), float(y.std()), float(lost.mean()))


def _results(activation: str, seed: int) -> dict[str, list[Array]]:
    """What each layer gives, for each way that weights begin. Inputs and random numbers are the same for all."""
    x: NDArray[np.float64] = np.random.default_rng([seed, 1]).standard_normal((INPUTS, UNITS))
    sizes = [*[UNITS] * (LAYERS + 1), CLASSES]
    return {
        name: Network(sizes, np.random.default_rng(seed), activation=activation, initial=initial).activations(x)
        for name, initial in INITIAL.items()
    }


def _table(activation: str, results: dict[str, list[Array]]) -> str:
    lost = "zero" if activation == "relu" else "sat."
    lines = [f"{NAMES[activation]:9}" + "".join(f"{f'layer {i}':>22}" for i in range(1, LAYERS + 1))]
    lines.append(f"{'':9}" + f"{'mean':>9}{'std':>8}{lost:>5}" * LAYERS)
    lines.append("-" * len(lines[1]))
    for name, layers in results.items():
        figures = [_figures(activation, y) for y in layers]
        lines.append(f"{name:9}" + "".join(f"{f.mean:9.1e}{f.std:8.1e}{f.lost:5.0%}" for f in figures))
    return "\n".join(lines)


def _short(value: float) -> str:
    """Two digits, without an exponent from a thousandth to a million."""
    if 1e-3 <= value < 1e6:
        return f"{float(f'{value:.1e}'):,.{max(0, 1 - int(np.floor(np.log10(value))))}f}".replace(",", "\N{THIN SPACE}")
    return f"{value:.0e}".replace("e-0", "e\N{MINUS SIGN}")


def _title(activation: str, results: dict[str, list[Array]]) -> str:
    last = {name: _figures(activation, layers[-1]) for name, layers in results.items()}
    best = "He" if activation == "relu" else "Xavier"
    small, good = (_short(last[name].std) for name in ("std 0.01", best))
    if activation == "relu":
        return f"ReLU: std 1 grows to {_short(last['std 1'].std)}, std 0.01 fades to {small}, He keeps {good}"
    large = f"{last['std 1'].lost:.0%}".replace("%", " %")
    small, good = (f"spreads only {small}", good) if activation == "sigmoid" else (f"fades to {small}", f"keeps {good}")
    return f"{NAMES[activation]}: std 1 saturates {large}, std 0.01 {small}, {best} {good}"


def _draw(figure: "FigureBase", activation: str, results: dict[str, list[Array]]) -> None:
    from lib.style import COLOURS, GREY

    bins = BINS[activation]
    lost = "zero" if activation == "relu" else "saturated"
    ticks = [f"$10^{{{np.log10(t):.0f}}}$" if activation == "relu" else f"{t:g}" for t in TICKS[activation]]
    ticks = [tick.replace("-", "\N{MINUS SIGN}") for tick in ticks]
    for row, (name, label) in enumerate(ROWS.items()):
        bottom = 0.635 - 0.19 * row
        figure.text(0.012, bottom + 0.07, label, color=COLOURS[row], weight="bold", va="center")
        for column, y in enumerate(results[name]):
            ax = figure.add_axes((0.145 + 0.171 * column, bottom, 0.155, 0.165))
            counts, _ = np.histogram(y, bins)
            ax.stairs(counts / max(1, counts.max()), bins, fill=True, color=COLOURS[row])
            if activation == "relu":
                ax.set_xscale("log")
            ax.set_xticks(TICKS[activation], ticks)
            if activation != "relu":  # the ticks at the ends would meet their neighbours'
                first, _, last = ax.get_xticklabels()
                first.set_horizontalalignment("left")
                last.set_horizontalalignment("right")
            ax.minorticks_off()
            figures = _figures(activation, y)
            text = f"std {_short(figures.std)}\n{figures.lost:.0%}".replace("%", f" % {lost}")
            ax.text(0.5, 1, text, color=GREY, fontsize=9, ha="center", va="top", transform=ax.transAxes)
            ax.set(xlim=bins[[0, -1]], ylim=(0, 1.6), yticks=[])
            ax.spines["left"].set_visible(False)
            ax.tick_params(labelbottom=row == len(ROWS) - 1, labelsize=9)
            if row == 0:
                ax.set_title(f"layer {column + 1}", loc="center", fontsize=11)


def _options() -> argparse.Namespace:
    parser = Parser(__doc__, "activations.png")
    parser.add_argument(
        "--activation", choices=tuple(BINS), help="the one to show (default: all of them, below each other)"
    )
    return parser.parse_args()


def _run() -> None:
    options = _options()
    from lib.style import slides  # before the work, which would be lost without Matplotlib

    chosen = [options.activation] if options.activation else list(BINS)
    results = {activation: _results(activation, options.seed) for activation in chosen}
    print("\n\n".join(_table(activation, found) for activation, found in results.items()))
    subtitle = (
        f"{INPUTS} normal inputs, {UNITS} units in a layer; title: layer {LAYERS}; "
        "each histogram is scaled to its highest bar"
    )
    titles = [_title(activation, found) for activation, found in results.items()]
    with slides(options.out, titles, subtitle) as figures:
        for figure, (activation, found) in zip(figures, results.items(), strict=True):
            _draw(figure, activation, found)


if __name__ == "__main__":
    sys.exit(main(_run))
