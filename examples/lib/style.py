"""How the examples' pictures look, colours, fonts, and labels beside the ends of curves; and how they are written."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import LogFormatter

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
    for i, line in enumerate(subtitle.split("\n")):
        figure.text(0.12 / width, 1 - (0.62 + 0.21 * i) / height, line, color=GREY)


def save(figure: Figure, out: Path) -> None:
    """Writes a picture, and prints where it is; the suffix of `out` says in which format.

    Raises:
        OSError: It can't be written.
    """
    figure.savefig(out)
    print(f"Picture: {out.resolve()}")


@contextmanager
def slide(out: Path, title: str, subtitle: str, size: tuple[float, float] = SLIDE_SIZE) -> Iterator[Figure]:
    """A figure to draw on, which is then written; the suffix of `out` says in which format.

    Arguments:
        out: The picture.
        title: What it shows.
        subtitle: How it was made, in grey; what looks odd in it is explained in a second line.
        size: Its width and height in inches.

    Raises:
        OSError: It can't be written.
    """
    with mpl.rc_context(SLIDE):
        figure = Figure(size)
        _headline(figure, size, title, subtitle)
        yield figure
        save(figure, out)


@contextmanager
def slides(out: Path, headlines: list[tuple[str, str]]) -> Iterator[list[FigureBase]]:
    """Figures below each other in one picture, each with its title and subtitle; see `slide`."""
    width, height = SLIDE_SIZE
    with mpl.rc_context(SLIDE):
        figure = Figure((width, len(headlines) * height))
        parts: list[FigureBase] = list(figure.subfigures(len(headlines), squeeze=False)[:, 0])
        for part, headline in zip(parts, headlines, strict=True):
            _headline(part, SLIDE_SIZE, *headline)
        yield parts
        save(figure, out)


class PlainLog(LogFormatter):
    """Numbers without an exponent beside those ticks of a logarithmic axis that get one."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def text_width(texts: Iterable[str]) -> float:
    """The width in inches of the widest of these in bold, in the font's present size."""
    size, font = mpl.rcParams["font.size"], FontProperties(weight="bold")
    return max(float(TextPath((0, 0), text, size, prop=font).get_extents().x1) for text in texts) / 72


def _spread(places: Sequence[float], gap: float, highest: float) -> list[float]:
    """Moves labels as little as it takes to have neighbours a gap apart and all between 0 and the highest place."""
    order = np.argsort(places, kind="stable")
    # Labels that push each other, each at its place less the gaps below it: there they are at the mean of their places.
    groups: list[list[float]] = []
    for i, j in enumerate(order):
        groups.append([places[j] - i * gap])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = np.array([np.mean(group) for group in groups for _ in group])
    gaps = gap * np.arange(len(places))
    moved = np.clip(moved, 0, max(0, highest - gaps[-1])) + gaps
    return [float(moved[i]) for i in np.argsort(order)]


def label_ends(ax: Axes, ends: list[tuple[str, str, float]]) -> None:
    """Writes names to the right of the axes, apart enough to be read, each with a line from its curve's end.

    Arguments:
        ax: Axes with their final place, limits and scale.
        ends: The name, colour and last value of each curve.
    """
    to_height = ax.transData + ax.transAxes.inverted()
    values = [float(to_height.transform((ax.get_xlim()[0], value))[1]) for _, _, value in ends]
    points = 72 * ax.bbox.height / ax.figure.dpi
    heights = [points * min(max(value, 0), 1) for value in values]
    size = mpl.rcParams["font.size"]
    places = _spread(heights, 1.25 * size, points)
    for (name, colour, _), height, place in zip(ends, heights, places, strict=True):
        ax.annotate(
            name,
            (1, height / points),
            (1.3 * size, place - height),
            xycoords="axes fraction",
            textcoords="offset points",
            color=colour,
            va="center",
            weight="bold",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 1},
        )
