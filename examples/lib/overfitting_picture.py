"""Draws the two trainings of `weight_decay.py` or `dropout.py` side by side, with the gaps that they end with."""

from pathlib import Path

from matplotlib.axes import Axes

from lib.overfitting import SAMPLES, Result
from lib.style import COLOURS, GREY, slide

TRAIN, TEST = COLOURS[3], COLOURS[0]


def _accuracies(ax: Axes, result: Result, right: float, lowest: float) -> None:
    epochs = len(result.history.train)
    x = range(1, epochs + 1)
    marker = "o" if epochs == 1 else ""
    train, test = ([100 * y for y in curve] for curve in (result.history.train, result.history.test))
    ax.plot(x, train, color=TRAIN, linewidth=1.4, marker=marker, zorder=3)
    ax.plot(x, test, color=TEST, linewidth=1.4, marker=marker, zorder=3)
    ax.axhline(right, color=GREY, linewidth=1, linestyle=":")
    ax.set(xlim=(0, epochs), ylim=(lowest, 100.5), xlabel="epoch")
    ax.set_title(f"{result.name[0].upper()}{result.name[1:]}", pad=10)
    # Beside the axes, each at its curve's end, or where that leaves too little room, above and below their middle.
    text = 0.11 * (100.5 - lowest) / 2
    ends = 100 * result.train, 100 * result.test
    middle, half = sum(ends) / 2, max(abs(ends[0] - ends[1]) / 2 - text, 0)
    up = 1 if ends[0] >= ends[1] else -1
    for name, end, colour, side in (("training", ends[0], TRAIN, up), ("test", ends[1], TEST, -up)):
        ax.annotate(
            f"{name}\n{end:.1f} %",
            (epochs, middle + side * half),
            (8, 0),
            textcoords="offset points",
            color=colour,
            weight="bold",
            va="bottom" if side > 0 else "top",
            fontsize=11,
            annotation_clip=False,
        )


def draw(results: list[Result], wrong_labels: int, out: Path) -> None:
    """Writes the picture; the suffix of `out` says in which format.

    Raises:
        OSError: It can't be written.
    """
    gaps = [f"{100 * (r.train - r.test):.1f}".replace("-", "\N{MINUS SIGN}") for r in results]
    title = f"Gap between training and test: {gaps[0]} points {results[0].name}, {gaps[1]} with it"
    # Of the first epochs only their end is of interest.
    lowest = 50 if min(min(r.train, r.test) for r in results) > 0.6 else 0
    wrong = f", {wrong_labels} % of them with a wrong label" if wrong_labels else ""
    subtitle = f"{SAMPLES} training images{wrong}"
    if results[1].norm < 0.9 * results[0].norm:
        subtitle += f"; norm of the weights {results[0].norm:.0f} on the left, {results[1].norm:.0f} on the right"
    subtitle += "\nDips: some steps were too long, so that the loss grew; the next epochs make up for it"
    with slide(out, title, subtitle) as figure:
        for i, result in enumerate(results):
            ax = figure.add_axes((0.075 + 0.485 * i, 0.12, 0.345, 0.66))
            _accuracies(ax, result, 100 - wrong_labels, lowest)
            if i == 0:
                ax.set_ylabel("accuracy in %")
                if wrong_labels:
                    x, y = 0.98 * len(result.history.train), 100 - wrong_labels
                    ax.text(x, y + 0.7, f"{y} % of the labels are right", color=GREY, ha="right")
