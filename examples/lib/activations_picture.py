"""Draws what `activations.py` found: histograms of what each layer gives, a row for each kind of initial weights."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import LogLocator, NullLocator

from lib.activation_results import NAMES, RANGES, Results, figures_of
from lib.network import Array
from lib.style import COLOURS, GREY, slides

ROWS = {
    "std 1": "weights\nof std 1",
    "std 0.01": "weights\nof std 0.01",
    "Xavier": "LeCun, Xavier:\nstd 0.1",
    "He": "He:\nstd 0.14",
}
BINS = {"sigmoid": np.linspace(0, 1, 41), "tanh": np.linspace(-1, 1, 42), "relu": np.logspace(-9, 6, 76)}
SMALL = 9
WHY = {
    "sigmoid": "Peaks and gaps from layer 3 on: a unit gives nearly the same for all inputs, and a peak is a few units",
    "tanh": "Single bars: all results are within one bin around 0",
    "relu": "Zeros are left out, which have no place on a logarithmic axis; the dark line is at the standard deviation",
}


def _short(value: float) -> str:
    """Two digits, without an exponent from a thousandth to a million."""
    if 1e-3 <= value < 1e6:
        return f"{float(f'{value:.1e}'):,.{max(0, 1 - int(np.floor(np.log10(value))))}f}".replace(",", "\N{THIN SPACE}")
    return f"{value:.0e}".replace("e-0", "e\N{MINUS SIGN}")


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"


def _title(activation: str, results: Results) -> str:
    last = {name: figures_of(activation, layers[-1]) for name, layers in results.items()}
    small, xavier, he = (_short(last[name].std) for name in ("std 0.01", "Xavier", "He"))
    if activation == "relu":
        large = _short(last["std 1"].std)
        return f"ReLU: std 1 grows to {large}, 0.01 fades to {small}, Xavier to {xavier}, He keeps {he}"
    large = _percent(last["std 1"].lost)
    if activation == "sigmoid":
        return f"Sigmoid: std 1 saturates {large}, std 0.01 spreads only {small}, Xavier {xavier}"
    return f"{NAMES[activation]}: std 1 saturates {large}, std 0.01 fades to {small}, Xavier keeps {xavier}"


def _side_by_side(figure: FigureBase, activation: str, results: Results) -> None:
    """A panel for each layer, where all results are in one range."""
    bins, (low, high) = BINS[activation], RANGES[activation]
    for row, (name, label) in enumerate(ROWS.items()):
        bottom = 0.625 - 0.19 * row
        figure.text(0.012, bottom + 0.07, label, color=COLOURS[row], weight="bold", va="center")
        for column, y in enumerate(results[name]):
            ax = figure.add_axes((0.145 + 0.171 * column, bottom, 0.155, 0.165))
            counts, _ = np.histogram(y, bins)
            ax.stairs(counts / counts.max(), bins, fill=True, color=COLOURS[row])
            ticks = [low, (low + high) / 2, high]
            ax.set_xticks(ticks, [f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks])
            first, _, last = ax.get_xticklabels()  # those at the ends would meet their neighbours'
            first.set_horizontalalignment("left")
            last.set_horizontalalignment("right")
            figures = figures_of(activation, y)
            text = f"std {_short(figures.std)}\n{_percent(figures.lost)} saturated"
            ax.text(0.5, 1, text, color=GREY, fontsize=SMALL, ha="center", va="top", transform=ax.transAxes)
            ax.set(xlim=(low, high), ylim=(0, 1.6), yticks=[])
            ax.spines["left"].set_visible(False)
            ax.tick_params(labelbottom=row == len(ROWS) - 1, labelsize=SMALL)
            if row == 0:
                ax.set_title(f"layer {column + 1}", loc="center", fontsize=11)


def _below_each_other(figure: FigureBase, activation: str, results: Results) -> None:
    """A strip for each layer, on an axis that is wide enough for results of fifteen powers of ten."""
    bins = BINS[activation]
    for x, text in ((0.163, "layer"), (0.872, "std"), (0.945, "zero")):
        figure.text(x, 0.815, text, color=GREY, fontsize=SMALL, ha="right" if text == "layer" else "left")
    for row, (name, label) in enumerate(ROWS.items()):
        ax = figure.add_axes((0.175, 0.65 - 0.184 * row, 0.685, 0.155))
        ax.text(-0.238, 0.5, label, color=COLOURS[row], weight="bold", va="center", transform=ax.transAxes)
        _strips(ax, activation, results[name], COLOURS[row])
        ax.set(xscale="log", xlim=bins[[0, -1]], yticks=[])
        ax.xaxis.set_major_locator(LogLocator(numticks=99))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(axis="x", color="#E4E4E4", linewidth=0.7)
        ax.axvline(1, color=GREY, linewidth=0.7, zorder=1)
        ax.set_axisbelow(True)
        ax.spines["left"].set_visible(False)
        ax.tick_params(labelbottom=row == len(ROWS) - 1, labelsize=SMALL)
    ax.set_xlabel("results of the units", fontsize=SMALL)


def _strips(ax: Axes, activation: str, layers: list[Array], colour: str) -> None:
    bins = BINS[activation]
    for i, y in enumerate(layers):
        base, figures = len(layers) - 1 - i, figures_of(activation, y)
        counts, _ = np.histogram(y, bins)
        ax.stairs(base + 0.9 * counts / counts.max(), bins, baseline=base, fill=True, color=colour, zorder=2)
        ax.plot([figures.std] * 2, [base, base + 0.9], color="black", linewidth=1.5, zorder=3)
        middle = (base + 0.4) / len(layers)
        for x, text, side in ((-0.02, f"{i + 1}", "right"), (1.018, _short(figures.std), "left")):
            ax.text(x, middle, text, color=GREY, fontsize=SMALL, ha=side, va="center", transform=ax.transAxes)
        text = _percent(figures.lost)
        ax.text(1.124, middle, text, color=GREY, fontsize=SMALL, va="center", transform=ax.transAxes)
    ax.set_ylim(0, len(layers))


def draw(results: dict[str, Results], subtitle: str, out: Path) -> None:
    """Writes the picture, of which each activation is a part; the suffix of `out` says in which format.

    Raises:
        OSError: It can't be written.
    """
    headlines = [(_title(name, found), f"{subtitle}\n{WHY[name]}") for name, found in results.items()]
    with slides(out, headlines) as figures:
        for figure, (activation, found) in zip(figures, results.items(), strict=True):
            panels = _below_each_other if activation == "relu" else _side_by_side
            panels(figure, activation, found)
