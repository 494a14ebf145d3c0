"""How the examples' pictures look: colours, fonts, and labels beside the ends of curves."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

# From Okabe & Ito's palette, which colour-blind people can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#333333")
# A rule has the same colour in every picture.
RULE_COLOURS = dict(zip(("SGD", "Momentum", "AdaGrad", "RMSProp", "Adam", "Nesterov", "AdamW"), COLOURS, strict=True))
GREY = "#555555"
SMALL = 7.5
STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
}
SLIDE: dict[Any, Any] = STYLE | {"font.size": 11, "axes.titlesize": 12, "lines.linewidth": 1.8, "savefig.dpi": 150}
SLIDE_SIZE = (10.0, 5.625)  # inches, 16:9


def colours_of(rules: Iterable[str]) -> dict[str, str]:
    """The colours of rules: the same in every picture for those of the chapter, the next free ones for others."""
    rules = list(rules)
    free = [colour for colour in COLOURS if colour not in {RULE_COLOURS.get(rule) for rule in rules}] or list(COLOURS)
    others = [rule for rule in rules if rule not in RULE_COLOURS]
    return {**RULE_COLOURS, **{rule: free[i % len(free)] for i, rule in enumerate(others)}}


def _headline(figure: FigureBase, size: tuple[float, float], title: str, subtitle: str) -> None:
    width, height = size
    figure.text(0.12 / width, 1 - 0.34 / height, title, weight="bold", fontsize=14.5)
    figure.text(0.12 / width, 1 - 0.62 / height, subtitle, color=GREY)


@contextmanager
def slide(out: Path, title: str, subtitle: str, size: tuple[float, float] = SLIDE_SIZE) -> Iterator[Figure]:
    """A figure to draw on, which is then written; the suffix of `out` says in which format.

    Arguments:
        out: The picture.
        title: What it shows.
        subtitle: How it was made, in grey.
        size: Its width and height in inches.

    Raises:
        OSError: It can't be written.
    """
    with mpl.rc_context(SLIDE):
        figure = Figure(size)
        _headline(figure, size, title, subtitle)
        yield figure
        figure.savefig(out)


@contextmanager
def slides(out: Path, titles: list[str], subtitle: str) -> Iterator[list[FigureBase]]:
    """Figures below each other in one picture, each with its title; see `slide`."""
    width, height = SLIDE_SIZE
    with mpl.rc_context(SLIDE):
        figure = Figure((width, len(titles) * height))
        parts: list[FigureBase] = list(figure.subfigures(len(titles), squeeze=False)[:, 0])
        for part, title in zip(parts, titles, strict=True):
            _headline(part, SLIDE_SIZE, title, subtitle)
        yield parts
        figure.savefig(out)


def _spread(positions: list[float], gap: float) -> list[float]:
    """Moves labels as little as it takes to have neighbours a gap apart."""
    order = np.argsort(positions)
    moved = np.array(positions)[order]
    for _ in range(100):
        for i in range(len(moved) - 1):
            push = max(0.0, (gap - (moved[i + 1] - moved[i])) / 2)
            moved[i] -= push
            moved[i + 1] += push
    return [float(moved[i]) for i in np.argsort(order)]


def label_ends(ax: Axes, ends: list[tuple[str, str, float]], gap: float = 0.05) -> None:
    """Writes names to the right of the axes, each where its curve ends, apart enough to be read.

    Arguments:
        ax: Axes with their final limits and scale.
        ends: The name, colour and last value of each curve.
        gap: The least distance of two names, as a part of the axes' height.
    """
    to_height = ax.transData + ax.transAxes.inverted()
    heights = [float(to_height.transform((ax.get_xlim()[0], value))[1]) for _, _, value in ends]
    for (name, colour, _), height in zip(ends, _spread(heights, gap), strict=True):
        ax.text(1.03, height, name, color=colour, va="center", weight="bold", transform=ax.transAxes)
