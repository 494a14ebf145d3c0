"""Draws what `digits.py` found: the loss curves of NumPy and fusedstep over each other, and their times."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from lib.loop import moving_median
from lib.style import COLOURS, GREY, SMALL, STYLE, PlainLog, label_ends, save
from lib.training import Comparison

UPDATE, NORM, REST = "#333333", "#56B4E9", "#DDDDDD"


def _window(iterations: int) -> int:
    return max(1, iterations // 40)


def _smooth(losses: list[float]) -> NDArray[np.float64]:
    smooth = moving_median(losses, _window(len(losses)))
    return np.maximum(smooth, 1e-12)  # a float32 loss can be 0, which has no logarithm


def _curves(ax: Axes, comparisons: list[Comparison], limits: tuple[float, float]) -> None:
    iterations = len(comparisons[0].losses[0])
    x = np.arange(_window(iterations), iterations + 1)
    ends = []
    for c, colour in zip(comparisons, COLOURS, strict=False):
        numpy, fused = (_smooth(losses) for losses in c.losses)
        ax.plot(x, numpy, color=colour, alpha=0.3, linewidth=5)
        ax.plot(x, fused, color=colour, linewidth=1)
        ends.append((c.rule, colour, float(fused[-1])))
    ax.set(yscale="log", ylim=limits, xlim=(0, iterations), xlabel="iteration")
    ax.yaxis.set_minor_formatter(PlainLog())  # after a few iterations there may be no power of ten in the limits
    label_ends(ax, ends)


def _bars(ax: Axes, comparisons: list[Comparison]) -> None:
    longest = max(sum(times) for c in comparisons for times in c.times)
    for i, c in enumerate(comparisons):
        ax.text(0, i - 0.3, c.rule, va="center", weight="bold")
        for times, name, y in zip(c.times, ("NumPy", "fusedstep"), (i, i + 0.3), strict=True):
            left = 0.0
            for milliseconds, colour in zip(times, (UPDATE, NORM, REST), strict=True):
                ax.barh(y, milliseconds, 0.27, left, color=colour)
                left += milliseconds
            ax.text(-0.02 * longest, y, name, ha="right", va="center", color=GREY, fontsize=SMALL)
            ax.text(left + 0.015 * longest, y, f"{left:.2f}", va="center", color=GREY, fontsize=SMALL)
    ax.set(xlim=(0, longest), ylim=(len(comparisons) - 0.45, -0.5), yticks=[], xlabel="ms per iteration (median)")
    ax.spines["left"].set_visible(False)
    parts = [Patch(color=colour) for colour in (UPDATE, NORM, REST)]
    ax.legend(
        parts,
        ["update", "batch norm", "everything else"],
        loc="lower right",
        bbox_to_anchor=(1.13, 0.99),
        ncols=3,
        columnspacing=1,
        handlelength=0.8,
        handletextpad=0.4,
        borderpad=0,
        labelcolor=GREY,
        fontsize=SMALL,
    )


def _ratios(pairs: list[tuple[float, float]]) -> str:
    ratios = [numpy / fused for numpy, fused in pairs]
    low, high = f"{min(ratios):.1f}", f"{max(ratios):.1f}"
    return low if low == high else f"{low} to {high}"


def draw(comparisons: list[Comparison], out: Path, subtitle: str) -> None:
    """Writes the picture; the suffix of `out` says in which format.

    Raises:
        OSError: It can't be written.
    """
    plain = [c for c in comparisons if not c.norm]
    normed = [c for c in comparisons if c.norm]
    updates = _ratios([(c.times[0].update, c.times[1].update) for c in comparisons])
    norms = _ratios([(c.times[0].norm, c.times[1].norm) for c in normed])
    curves = [_smooth(losses) for c in comparisons for losses in c.losses]
    limits = 0.6 * min(float(y.min()) for y in curves), 1.5 * max(float(y.max()) for y in curves)
    with mpl.rc_context(STYLE):
        figure = Figure((9, 4.5), dpi=200)
        title = f"The same training: updates {updates} times as fast, batch normalisation {norms} times"
        figure.text(0.012, 0.94, title, weight="bold", fontsize=11)
        figure.text(0.012, 0.89, subtitle, color=GREY)
        left, middle, right = (
            figure.add_axes((x, 0.11, width, height))
            for x, width, height in ((0.065, 0.19, 0.7), (0.365, 0.19, 0.7), (0.74, 0.22, 0.66))
        )
        _curves(left, plain, limits)
        _curves(middle, normed, limits)
        _bars(right, normed)
        window = _window(len(comparisons[0].losses[0]))
        left.set(
            title="Loss without batch norm", ylabel=f"cross-entropy, median of {window} batch{'es' * (window > 1)}"
        )
        middle.set_title("Loss with batch norm")
        middle.tick_params(which="both", labelleft=False)
        right.set_title("Time with batch norm", pad=19)
        handles = [Line2D([], [], color=GREY, alpha=0.3, linewidth=5), Line2D([], [], color=GREY, linewidth=1)]
        left.legend(handles, ["NumPy", "fusedstep"], loc="upper right", labelcolor=GREY)
        save(figure, out)
