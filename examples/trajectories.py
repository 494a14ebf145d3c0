"""Walks down three surfaces by five rules: a long valley, a saddle, and a local minimum beside a deeper one.

The valley is the figure of chapter 6 of *Deep Learning from Scratch*, with its learning rates (RMSProp is not in it):
SGD zigzags across it. Near the saddle and the local minimum the gradient vanishes, so SGD waits or stays; momentum, at
the same learning rate, is carried on. Adam leaves the local minimum at 0.3, but stays in it at 0.1. Draws a row of
panels for each surface, prints where each path ends, and animates the picture if asked to. --rules takes any others.
"""

from lib.command_line import Parser, main, picture_path, whole

# isort: split
import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lib.rules import RULES, add_rules

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Path2D = NDArray[np.float64]  # shape (points, 2)

SHOWN = ("SGD", "Momentum", "AdaGrad", "RMSProp", "Adam")
MOST_FRAMES = 100


@dataclass(frozen=True)
class Surface:
    """A function of x and y, where the paths begin on it, and what part of it is drawn."""

    name: str
    formula: str
    f: Callable[[Any, Any], Any]
    gradient: Callable[[float, float], tuple[float, float]]
    start: tuple[float, float]
    lr: dict[str, float]  # of those rules for which it isn't that of lib/rules.py
    minimum: tuple[float, float]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    levels: list[float]


TILT = 0.15
VALLEY = Surface(
    "A long valley",
    "x²/20 + y²",
    lambda x, y: x**2 / 20 + y**2,
    lambda x, y: (x / 10, 2 * y),
    (-7.0, 2.0),
    {"SGD": 0.95, "Momentum": 0.1, "AdaGrad": 1.5, "RMSProp": 0.1, "Adam": 0.3},
    (0.0, 0.0),
    (-8.0, 2.6),
    (-2.7, 2.7),
    [0.05, 0.2, 0.5, 1, 2, 3.5, 5.5, 8],
)
SADDLE = Surface(
    "A saddle",
    "x²/2 - y²/2 + y⁴/4",
    lambda x, y: x**2 / 2 - y**2 / 2 + y**4 / 4,
    lambda x, y: (x, y**3 - y),
    (-2.0, 0.001),
    {"SGD": 0.1, "Momentum": 0.1, "AdaGrad": 0.5, "RMSProp": 0.05, "Adam": 0.3},
    (0.0, 1.0),
    (-2.3, 1.7),
    (-0.8, 1.7),
    [-0.22, -0.15, -0.07, -0.001, 0.15, 0.4, 0.8, 1.4, 2.2],
)
TWO_MINIMA = Surface(
    "A local minimum beside a deeper one",
    "x⁴/4 - x²/2 - 0.15 x + y²/2",
    lambda x, y: x**4 / 4 - x**2 / 2 - TILT * x + y**2 / 2,
    lambda x, y: (x**3 - x - TILT, y),
    (-1.8, 0.8),
    {"SGD": 0.1, "Momentum": 0.1, "AdaGrad": 0.5, "RMSProp": 0.05, "Adam": 0.3},
    (1.068, 0.0),
    (-2.15, 1.9),
    (-0.85, 1.05),
    [-0.37, -0.28, -0.18, -0.09, -0.03, 0.011, 0.1, 0.3, 0.6, 1.1],
)
SURFACES = (VALLEY, SADDLE, TWO_MINIMA)


def walk(surface: Surface, rule: str, iterations: int) -> Path2D:
    """The points that a rule visits, the start included."""
    optimizer = RULES[rule].make(lr_of(surface, rule))
    point = np.array([surface.start])  # a matrix, for Muon
    path = [surface.start]
    for _ in range(iterations):
        optimizer.update(point, np.array([surface.gradient(*point[0])]))
        path.append(tuple(point[0]))
    return np.array(path)


def lr_of(surface: Surface, rule: str) -> float:
    """The learning rate with which a rule walks."""
    return surface.lr.get(rule, RULES[rule].surface)


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def _number(value: float) -> str:
    return _minus(f"{round(float(value), 2) + 0.0:.2f}")


def _crossings(path: Path2D) -> int:
    """How often a path crosses the valley's floor, y = 0."""
    return int(np.sum(path[1:, 1] * path[:-1, 1] < 0))


def _on_saddle(path: Path2D) -> bool:
    return bool(abs(path[-1, 1]) < 0.1)


def _deeper(path: Path2D) -> bool:
    return bool(path[-1, 0] > 0.5)


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "none"


def _findings(paths: dict[str, dict[str, Path2D]], iterations: int) -> tuple[str, list[str]]:
    """The title of the picture, and that of each row."""
    steps = "1 step" if iterations == 1 else f"{iterations} steps"
    valley, saddle, minima = (paths[surface.name] for surface in SURFACES)
    crossings = {rule: _crossings(path) for rule, path in valley.items()}
    on_saddle = [rule for rule, path in saddle.items() if _on_saddle(path)]
    deeper = [rule for rule, path in minima.items() if _deeper(path)]
    rows = [
        "crossings of its floor: " + ", ".join(f"{rule} {count}" for rule, count in crossings.items()),
        f"still on it after {steps}: {_listed(on_saddle)}",
        f"in the deeper one after {steps}: {_listed(deeper)}",
    ]
    zigzags = crossings.get("SGD", 0) > iterations / 2
    if zigzags and on_saddle == ["SGD"] and "Momentum" in deeper and "SGD" not in deeper:
        title = f"In {steps} SGD zigzags, waits at a saddle and stays in a local minimum; momentum leaves both"
    else:
        title = f"Where {steps} of each rule lead{'s' * (iterations == 1)}"
    return title, [
        f"{surface.name},  f = {_minus(surface.formula)};  {row}" for surface, row in zip(SURFACES, rows, strict=True)
    ]


def _table(paths: dict[str, dict[str, Path2D]]) -> str:
    lines = [f"{'surface':37}{'rule':18}{'lr':>6}{'end x':>9}{'end y':>9}{'f':>10}"]
    lines.append("-" * len(lines[0]))
    for surface in SURFACES:
        for rule, path in paths[surface.name].items():
            x, y = path[-1]
            lines.append(
                f"{surface.name:37}{rule:18}{lr_of(surface, rule):6g}{x:9.3f}{y:9.3f}{float(surface.f(x, y)):10.4f}"
            )
    return "\n".join(lines)


class _Panel:
    """One path on one surface, up to any of its points."""

    def __init__(self, ax: "Axes", surface: Surface, colour: str, path: Path2D) -> None:
        from lib.style import GREY

        self._surface, self._path = surface, path
        x, y = np.meshgrid(np.linspace(*surface.x_range, 160), np.linspace(*surface.y_range, 160))
        ax.contour(x, y, surface.f(x, y), surface.levels, colors="#BBBBBB", linewidths=0.7, linestyles="solid")
        ax.plot(*surface.minimum, "x", color=GREY, markersize=7, markeredgewidth=1.6)
        (self._line,) = ax.plot([], [], ".-", color=colour, linewidth=1.4, markersize=4.5)
        ax.plot(*surface.start, "o", color=colour, markerfacecolor="white", markersize=6, markeredgewidth=1.5)
        (self._end,) = ax.plot([], [], "o", color=colour, markersize=7)
        self._text = ax.text(0.97, 0.06, "", ha="right", transform=ax.transAxes)
        self._text.set_bbox({"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5})
        ax.set(xlim=surface.x_range, ylim=surface.y_range)
        ax.locator_params(nbins=3, integer=True)
        ax.spines[:].set_visible(True)
        ax.spines[:].set_color("#BBBBBB")
        ax.tick_params(length=2, labelsize=9)

    def show(self, last: int) -> None:
        """Draws the path up to this point."""
        self._line.set_data(*self._path[: last + 1].T)
        x, y = self._path[last]
        self._end.set_data([x], [y])
        self._text.set_text(f"f = {_number(self._surface.f(x, y))}")


def _draw(figure: "Figure", paths: dict[str, dict[str, Path2D]], row_titles: list[str]) -> list[_Panel]:
    from lib.style import colours_of

    panels = []
    rules = list(paths[SURFACES[0].name])
    colours, pitch = colours_of(rules), 0.96 / len(rules)
    width, height = 0.92 * pitch, 0.2
    for row, surface in enumerate(SURFACES):
        bottom = 0.6 - 0.28 * row
        figure.text(0.04, bottom + height + 0.012, row_titles[row], fontsize=11)
        for column, rule in enumerate(rules):
            ax = figure.add_axes((0.04 + pitch * column, bottom, width, height))
            if row == 0:
                ax.text(0.5, 1.2, rule, transform=ax.transAxes, ha="center", weight="bold", color=colours[rule])
            if column:
                ax.tick_params(labelleft=False)
            panels.append(_Panel(ax, surface, colours[rule], paths[surface.name][rule]))
    return panels


def _animate(figure: "Figure", panels: list[_Panel], iterations: int, gif: Path) -> None:
    from matplotlib.animation import PillowWriter
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    frames = np.unique(np.linspace(0, iterations, min(iterations + 1, MOST_FRAMES)).round().astype(int))
    writer = PillowWriter(fps=5)
    unfinished = gif.with_name(f"{gif.stem}.unfinished.gif")  # so that Ctrl-C leaves an older one as it was
    writer.setup(figure, str(unfinished), dpi=80)
    with tqdm([*frames, *[iterations] * 10], unit="frame", delay=1) as bar:
        for last in bar:
            for panel in panels:
                panel.show(last)
            writer.grab_frame()
    try:
        writer.finish()
        unfinished.replace(gif)
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"Animation: {gif.resolve()}")


def _options() -> argparse.Namespace:
    parser = Parser(__doc__, "trajectories.png")
    parser.add_argument(
        "--iterations", type=whole(1, 10_000), default=40, help="steps of each rule on each surface (default: 40)"
    )
    parser.add_argument(
        "--gif",
        type=partial(picture_path, formats=(".gif",)),
        metavar="FILE",
        help=f"animate the picture in at most {MOST_FRAMES} frames; takes about half a minute",
    )
    add_rules(parser, SHOWN, 6)
    return parser.parse_args()


def _run() -> None:
    options = _options()
    from lib.style import slide  # here, because it takes a second, in which Ctrl-C would end in a traceback

    iterations = options.iterations
    paths = {surface.name: {rule: walk(surface, rule, iterations) for rule in options.rules} for surface in SURFACES}
    print(_table(paths))
    title, row_titles = _findings(paths, iterations)
    subtitle = "○ start   ● end   \N{MULTIPLICATION SIGN} lowest point.  Each column is a rule, each dot a step."
    with slide(options.out, title, subtitle, (12, 6.75)) as figure:
        panels = _draw(figure, paths, row_titles)
        for panel in panels:
            panel.show(iterations)
    if options.gif:
        _animate(figure, panels, iterations, options.gif)


if __name__ == "__main__":
    sys.exit(main(_run))
