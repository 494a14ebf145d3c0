"""Draws what `hyperparameters.py` found: where the best trials lie in the ranges searched, and their curves."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from search import Ranges, Trial
from style import COLOURS, GREY, SLIDE

BLUE, ORANGE = COLOURS[0], COLOURS[3]
LIGHT = "#BBBBBB"
ROWS, COLUMNS = 4, 5
SMALL = 9.5


def _power(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"{mantissa}$\cdot$10$^{{{int(exponent)}}}$"


def _span(best: list[Trial], name: str) -> tuple[float, float]:
    values = [trial.params[name] for trial in best]
    return min(values), max(values)


def _factor(span: tuple[float, float]) -> str:
    return f"{float(f'{span[1] / span[0]:.2g}'):,g}".replace(",", " ")


def _where(ax: Axes, trials: list[Trial], best: list[Trial], ranges: Ranges) -> None:
    numbers = {trial.number for trial in best}
    others = [trial for trial in trials if trial.number not in numbers]
    for group, colour, size in ((others, LIGHT, 22), (best, BLUE, 42)):
        x, y = ([trial.params[name] for trial in group] for name in ("lr", "weight_decay"))
        ax.scatter(x, y, size, colour, linewidths=0, clip_on=False, zorder=3)
    ax.axvspan(*_span(best, "lr"), color=BLUE, alpha=0.1, linewidth=0)
    ax.set(xscale="log", yscale="log", xlim=ranges["lr"], ylim=ranges["weight_decay"])
    ax.set(xlabel="learning rate", ylabel="weight decay")


def _curves(ax: Axes, trial: Trial, rank: int, last: int) -> None:
    epochs = len(trial.train)
    marker = "." if epochs == 1 else ""
    x = range(1, epochs + 1)
    ax.plot(x, trial.train, color=ORANGE, linestyle="--", linewidth=1.2, marker=marker, clip_on=False)
    ax.plot(x, trial.validation, color=BLUE, marker=marker, clip_on=False)
    ax.set(ylim=(0, 1), yticks=(0, 0.5, 1), yticklabels=("0", "", "100 %"), xlim=(0, epochs), xticks=(0, epochs))
    title = f"lr {_power(trial.params['lr'])}\ndecay {_power(trial.params['weight_decay'])}"
    begin, end = ax.get_xticklabels()
    begin.set_horizontalalignment("left")
    end.set_horizontalalignment("right")
    ax.set_title(title, fontsize=SMALL, pad=3)
    ax.tick_params(labelleft=rank % COLUMNS == 0, labelbottom=rank + COLUMNS >= last, labelsize=SMALL)


def draw(trials: list[Trial], best: list[Trial], ranges: Ranges, out: Path) -> None:
    """Writes the picture; the suffix of `out` says in which format.

    Arguments:
        trials: All of them.
        best: The best 20 at most, from the first on.
        ranges: What was searched.
        out: The file.

    Raises:
        OSError: It can't be written.
    """
    lr, decay = (_span(best, name) for name in ("lr", "weight_decay"))
    title = (
        f"The learning rates of the best {len(best)} of {len(trials)} trials lie within a factor of {_factor(lr)},\n"
        f"their weight decays anywhere within one of {_factor(decay)}"
    )
    subtitle = (
        f"learning rates {_power(lr[0])} to {_power(lr[1])}, weight decays {_power(decay[0])} to {_power(decay[1])}, "
        f"where both were searched over a factor of {_factor(ranges['lr'])}"
    )
    with mpl.rc_context(SLIDE):
        figure = Figure((12.8, 7.2))
        figure.text(0.012, 0.975, title, weight="bold", fontsize=17, va="top", linespacing=1.3)
        figure.text(0.012, 0.855, subtitle, color=GREY, fontsize=12.5)
        _where(figure.add_axes((0.07, 0.1, 0.29, 0.655)), trials, best, ranges)
        figure.text(0.07, 0.79, "Trials:", fontsize=12)
        figure.text(0.122, 0.79, f"the best {len(best)}", color=BLUE, weight="bold", fontsize=12)
        figure.text(0.215, 0.79, "the others", color="#777777", weight="bold", fontsize=12)
        figure.text(0.44, 0.79, "Accuracy:", fontsize=12)
        figure.text(0.511, 0.79, "— validation", color=BLUE, weight="bold", fontsize=12)
        figure.text(0.613, 0.79, "- - training", color=ORANGE, weight="bold", fontsize=12)
        figure.text(0.7, 0.79, "over the epochs, the best trial first", fontsize=12)
        grid = figure.add_gridspec(
            ROWS, COLUMNS, left=0.44, right=0.985, bottom=0.06, top=0.71, hspace=0.66, wspace=0.14
        )
        for i, trial in enumerate(best):
            _curves(figure.add_subplot(grid[divmod(i, COLUMNS)]), trial, i, len(best))
        figure.savefig(out)
