"""Draws what `digits_mpi.py` found: the curves of all trainings over each other, their times, and their memory."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lib.data_parallel import Training
from lib.style import COLOURS, GREY, SMALL, STYLE, PlainLog, save

UPDATE, REST = "#333333", "#DDDDDD"
# The first curve is the widest, so that each of those that cover each other is seen.
LINES = ((COLOURS[5], 7.0), (COLOURS[0], 3.5), (COLOURS[1], 1.0))


def _ranks(t: Training) -> str:
    return f"{t.ranks} rank{'s' if t.ranks > 1 else ''}"


def _curves(ax: Axes, trainings: list[Training], curves: list[list[float]]) -> None:
    for t, curve, (colour, width) in zip(trainings, curves, LINES, strict=False):
        ax.plot(curve, color=colour, linewidth=width, label=_ranks(t), solid_capstyle="butt")
    ax.set(xlim=(0, len(curves[0]) - 1), xlabel="epoch")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _bars(ax: Axes, trainings: list[Training], parts: list[list[tuple[float, str]]], number: str) -> None:
    longest = max(sum(value for value, _ in bar) for bar in parts)
    for y, (t, bar) in enumerate(zip(trainings, parts, strict=True)):
        left = 0.0
        for value, colour in bar:
            ax.barh(y, value, 0.6, left, color=colour)
            left += value
        ax.text(-0.02 * longest, y, _ranks(t), ha="right", va="center", color=GREY, fontsize=SMALL)
        ax.text(left + 0.015 * longest, y, f"{left:{number}}", va="center", color=GREY, fontsize=SMALL)
    ax.set(xlim=(0, longest), ylim=(len(LINES) - 0.5, -0.5), yticks=[])
    ax.spines["left"].set_visible(False)


def _title(trainings: list[Training]) -> str:
    first, last = trainings[0], trainings[-1]
    if first is last:
        return "A training on one rank, which has Adam's whole state"
    counts = [str(t.ranks) for t in trainings]
    share = max(last.state_bytes) / max(first.state_bytes)
    return (
        f"The same training on {', '.join(counts[:-1])} and {counts[-1]} ranks; with {counts[-1]}, each has "
        f"{100 * share:.0f} % of Adam's state"
    )


def draw(trainings: list[Training], out: Path, subtitle: str) -> None:
    """Writes the picture; the suffix of `out` says in which format.

    Raises:
        OSError: It can't be written.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((9, 4.5), dpi=200)
        figure.text(0.012, 0.94, _title(trainings), weight="bold", fontsize=11)
        figure.text(0.012, 0.89, subtitle, color=GREY)
        left, middle = (figure.add_axes((x, 0.11, 0.255, 0.7)) for x in (0.065, 0.395))
        top, bottom = (figure.add_axes((0.745, y, 0.205, 0.235)) for y in (0.535, 0.11))
        _curves(left, trainings, [t.losses for t in trainings])
        left.set(yscale="log", title="Loss", ylabel="cross-entropy of all training images")
        left.yaxis.set_minor_formatter(PlainLog())  # after an epoch there may be no power of ten in the limits
        left.legend(loc="upper right", labelcolor=GREY)
        _curves(middle, trainings, [t.accuracies for t in trainings])
        middle.set(title="Accuracy on the test images", ylim=(0, 1.03))
        middle.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
        _bars(top, trainings, [[(t.update, UPDATE), (t.gradient, REST)] for t in trainings], ".2f")
        top.set_title("Time of a step", pad=19)
        top.set_xlabel("ms (median)")
        top.legend(
            [Patch(color=colour) for colour in (UPDATE, REST)],
            ["update", "gradient"],
            loc="lower left",
            bbox_to_anchor=(0, 0.99),
            ncols=2,
            columnspacing=1,
            handlelength=0.8,
            handletextpad=0.4,
            borderpad=0,
            borderaxespad=0.2,
            labelcolor=GREY,
            fontsize=SMALL,
        )
        _bars(bottom, trainings, [[(max(t.state_bytes) / 1e3, COLOURS[2])] for t in trainings], ".0f")
        bottom.set(title="Adam's state on each rank", xlabel="KB")
        save(figure, out)
