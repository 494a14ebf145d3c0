"""Draws what `learning_rates.py` found: the learning rates above, the losses that they led to below."""

from pathlib import Path

import numpy as np
from matplotlib.ticker import NullFormatter

from lib.learning_rate_results import Result, first_step
from lib.style import COLOURS, GREY, slide

RATE, LOSS = COLOURS[3], COLOURS[0]
LIGHT = "#C4C4C4"
SMALL = 10


def _title(results: list[Result]) -> tuple[str, str]:
    found = first_step(results)
    if found is None:
        return "Learning rates and losses", ""
    quarter, before, after, stays = found
    # The warm-up takes a twentieth of the training; in less than two epochs there is no dip to see.
    dip = "\nThe dip of the warm-up: its rate is small; as it grows the loss rises again." if quarter >= 10 else ""
    return (
        f"{quarter} epochs at a tenth of the learning rate bring the loss from {before:.2g} to {after:.2g}",
        f"With the rate kept as it was, the loss is {stays:.2g}. Test: the accuracy at the end.{dip}",
    )


def draw(results: list[Result], out: Path) -> None:
    """Writes the picture; the suffix of `out` says in which format.

    Raises:
        OSError: It can't be written.
    """
    constant = results[0]
    epochs = len(constant.losses)
    x_rates = np.linspace(0, epochs, len(constant.rates), endpoint=False)
    x_losses = np.arange(1, epochs + 1)
    marker = "o" if epochs == 1 else ""
    highest = max(constant.rates)
    every = [loss for r in results for loss in r.losses]
    limits = 0.7 * max(min(every), 1e-6), 1.4 * max(every)
    with slide(out, *_title(results), (12, 6.75)) as figure:
        grid = figure.add_gridspec(
            2,
            len(results),
            left=0.075,
            right=0.985,
            bottom=0.1,
            top=0.79,
            hspace=0.16,
            wspace=0.14,
            height_ratios=(2, 3),
        )
        for i, r in enumerate(results):
            top, bottom = figure.add_subplot(grid[0, i]), figure.add_subplot(grid[1, i])
            top.set_title(f"{r.name}\n", fontsize=12, weight="bold", pad=4)
            top.text(0, 1.05, f"test {r.test:.1%}".replace("%", " %"), transform=top.transAxes, color=GREY, fontsize=11)
            top.plot(x_rates, r.rates, color=RATE)
            top.set(xlim=(0, epochs), ylim=(0, 1.08 * highest), xticklabels=[], yticks=(0, highest / 2, highest))
            if r is not constant:
                bottom.plot(x_losses, constant.losses, color=LIGHT, linewidth=1, marker=marker)
            bottom.plot(x_losses, r.losses, color=LOSS, marker=marker)
            bottom.set(xlim=(0, epochs), yscale="log", ylim=limits)
            for ax in (top, bottom):
                ax.set_xticks([0, epochs / 4, epochs / 2, 3 * epochs / 4, epochs])
                ax.tick_params(labelleft=i == 0, labelsize=SMALL)
            bottom.yaxis.set_minor_formatter(NullFormatter())
            bottom.set_xticklabels(["0", "", f"{epochs / 2:g}", "", f"{epochs}"])
            bottom.get_xticklabels()[0].set_horizontalalignment("left")
            bottom.get_xticklabels()[-1].set_horizontalalignment("right")
            if i == 0:
                top.set_ylabel("learning rate", color=RATE, weight="bold")
                bottom.set_ylabel("loss, mean of an epoch", color=LOSS, weight="bold")
        figure.text(0.53, 0.02, "epoch (grey: the loss with the constant learning rate)", color=GREY, ha="center")
