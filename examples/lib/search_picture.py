"""Draws what `hyperparameters.py` found: where the best trials lie in the ranges searched, and their curves."""

from pathlib import Path

from matplotlib.axes import Axes

from lib.search import Ranges, Trial
from lib.style import COLOURS, slide

BLUE, ORANGE = COLOURS[0], COLOURS[3]
LIGHT = "#BBBBBB"
COLUMNS = 5
SMALL = 9


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


def _curves(ax: Axes, trial: Trial, *, left: bool, lowest: bool) -> None:
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
    ax.tick_params(labelleft=left, labelbottom=lowest, labelsize=SMALL)


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
        f"The best {len(best)} of {len(trials)} trials: learning rates within a factor of {_factor(lr)}, "
        f"weight decays within {_factor(decay)}"
    )
    subtitle = (
        f"Learning rates {_power(lr[0])} to {_power(lr[1])}, weight decays {_power(decay[0])} to {_power(decay[1])}, "
        f"where both were searched over a factor of {_factor(ranges['lr'])}.\n"
        "The band is the range of the best trials' learning rates"
    )
    with slide(out, title, subtitle, (12, 6.75)) as figure:
        _where(figure.add_axes((0.07, 0.1, 0.29, 0.7)), trials, best, ranges)
        figure.text(0.07, 0.83, "Trials:", fontsize=11)
        figure.text(0.122, 0.83, f"the best {len(best)}", color=BLUE, weight="bold", fontsize=11)
        figure.text(0.215, 0.83, "the others", color="#777777", weight="bold", fontsize=11)
        figure.text(0.44, 0.83, "Accuracy:", fontsize=11)
        figure.text(0.511, 0.83, "— validation", color=BLUE, weight="bold", fontsize=11)
        figure.text(0.613, 0.83, "- - training", color=ORANGE, weight="bold", fontsize=11)
        figure.text(0.7, 0.83, "over the epochs, the best trial first", fontsize=11)
        columns = min(len(best), COLUMNS)
        rows = -(-len(best) // columns)
        grid = figure.add_gridspec(
            rows, columns, left=0.44, right=0.985, bottom=0.06, top=0.755, hspace=0.66, wspace=0.14
        )
        for i, trial in enumerate(best):
            ax = figure.add_subplot(grid[divmod(i, columns)])
            _curves(ax, trial, left=i % columns == 0, lowest=i + columns >= len(best))
