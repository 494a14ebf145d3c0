"""The report's pictures."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import Against, Run, duration, works
from benchmarks.trainers import Shares
from benchmarks.workloads import BOOK, IN_PLACE, LIMIT, OURS, threads_text

# From Okabe & Ito's palette, which colour-blind people can tell apart; a marker for each as well.
LOOKS: dict[str, tuple[str, str]] = {
    OURS: ("#0072B2", "o"),
    BOOK: ("#E69F00", "s"),
    IN_PLACE: ("#D55E00", "D"),
    "PyTorch": ("#009E73", "^"),
    "PyTorch (fused)": ("#009E73", "^"),
    "PyTorch (foreach)": ("#7FCDB4", "v"),
    "PyTorch (default)": ("#7FCDB4", "v"),
    "PyTorch (sparse)": ("#009E73", "^"),
    "fusedstep (dense)": ("#56B4E9", "o"),
    "JAX + optax": ("#CC79A7", "P"),
    "thinc": ("#999933", "X"),
    "numba": ("#882255", "*"),
    "DeepSpeed": ("#777777", "p"),
}
BLACK, GREY = "#222222", "#555555"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
}
WIDTH = 9.0  # inches, of 100 pixels where the picture is shown


def _figure(height: float, title: str, subtitle: str, note: str = "") -> Figure:
    """A picture with a title, and its origin in two lines, of which the first ends with what needs an explanation."""
    figure = Figure((WIDTH, height), dpi=200)
    figure.text(0.012, 1 - 0.28 / height, title, weight="bold", fontsize=11)
    place, _, versions = subtitle.partition(", fusedstep")
    figure.text(0.012, 1 - 0.5 / height, f"{place}{note}", color=GREY, fontsize=8)
    figure.text(0.012, 1 - 0.68 / height, f"fusedstep{versions}", color=GREY, fontsize=7)
    return figure


def _row_axes(figure: Figure, count: int, left: float, gap: float, bottom: float, top: float) -> list[Axes]:
    """Axes beside each other; bottom and top in inches from the picture's edges, the others in parts of its width."""
    height = figure.get_figheight()
    width = (0.985 - left - gap * (count - 1)) / count
    box = bottom / height, (height - bottom - top) / height
    return [figure.add_axes((left + i * (width + gap), box[0], width, box[1])) for i in range(count)]


def _speed(run: Run) -> Figure | None:
    rows = [row for row in run.of("update") if (row.rule, row.dtype) == ("Adam", "float32") and row.rate]
    threads = sorted({row.threads for row in rows})
    if not rows:
        return None
    figure = _figure(4.3, "Adam, one float32 array: speed against its size", run.subtitle)
    axes = _row_axes(figure, len(threads), 0.075, 0.05, 1.05, 1.15)
    names = [name for name in (LIMIT, *LOOKS) if any(row.row == name for row in rows)]
    for ax, n in zip(axes, threads, strict=True):
        for name in names:
            points = sorted((int(row.work), row) for row in rows if row.row == name and row.threads == n)
            if not points:
                continue
            sizes = [size for size, _ in points]
            medians = [row.rate or 0.0 for _, row in points]
            # Quartiles of the time, turned into speeds.
            below = [(row.rate or 0.0) * (1 - row.median / row.high) for _, row in points]
            above = [(row.rate or 0.0) * (row.median / row.low - 1) for _, row in points]
            if name == LIMIT:
                ax.plot(sizes, medians, "--", color=BLACK, linewidth=1.5, label=name, zorder=1)
            else:
                colour, marker = LOOKS[name]
                style: dict[str, Any] = {"color": colour, "marker": marker, "linewidth": 2 if name == OURS else 1}
                ax.errorbar(
                    sizes, medians, (below, above), markersize=5, elinewidth=0.8, capsize=2, label=name, **style
                )
        ax.set(xscale="log", yscale="log", title=threads_text(n), xlabel="parameters")
    low, high = min(ax.get_ylim()[0] for ax in axes), max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.grid(axis="y", color="#EEEEEE")
        ax.set_axisbelow(True)
    axes[0].set_ylabel("GB/s (whiskers: quartiles)")
    handles, labels = axes[-1].get_legend_handles_labels()
    for ax in axes[:-1]:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.legend(handles, labels, loc="lower center", ncols=min(5, len(labels)), fontsize=8, labelcolor=GREY)
    return figure


def _bars(ax: Axes, ratios: list[Against]) -> None:
    """The time of others over that of fusedstep, which is at 1."""
    shown = sorted(ratios, key=lambda one: -one.ratio.median)
    for y, one in enumerate(shown):
        ratio, name = one.ratio, one.row
        colour = BLACK if name == LIMIT else LOOKS[name][0]
        ax.barh(y, ratio.median, 0.68, color="none" if name == LIMIT else colour, edgecolor=colour, linestyle="-")
        spread = [[ratio.median - ratio.low], [ratio.high - ratio.median]]
        ax.errorbar(ratio.median, y, xerr=spread, color=GREY, elinewidth=0.8, capsize=2)
        text = f"  {ratio.median:.3g} x   {duration(ratio.numerator)}"
        ax.text(max(ratio.high, 1.0), y, text, va="center", fontsize=7.5, color=GREY)
    ax.axvline(1, color=LOOKS[OURS][0], linewidth=1.5, zorder=0)
    one = shown[0]
    work = f"{one.work} {one.rule}" if one.kind in ("batch norm", "dropout", "rows") else f"{one.work}, {one.dtype}"
    ours = duration(statistics.median(one.ratio.denominator for one in ratios))
    widest = max(1.0, *(one.ratio.high for one in ratios))
    ax.set(yticks=range(len(shown)), xlim=(0, 1.55 * widest), title=f"{work}: fusedstep {ours}")
    ax.set_yticklabels([one.row for one in shown], fontsize=7.5, color=BLACK)
    ax.tick_params(left=False)
    ax.spines["left"].set_visible(False)


def _panels(run: Run, kind: str, title: str) -> Figure | None:
    panels = list(works(one for one in run.ratios if one.kind == kind).values())
    if not panels:
        return None
    lines = [panels[i : i + 2] for i in range(0, len(panels), 2)]
    heights = [0.85 + 0.2 * max(len(ratios) for ratios in line) for line in lines]
    note = "; blue line: fusedstep; whiskers: quartiles of the rounds"
    figure = _figure(0.85 + sum(heights), f"{title}: time of others / time of fusedstep", run.ratios_subtitle, note)
    total, top = figure.get_figheight(), 0.85
    for line, height in zip(lines, heights, strict=True):
        axes = _row_axes(figure, 2, 0.145, 0.155, total - top - height + 0.45, top + 0.35)
        for ax, ratios in zip(axes, line, strict=False):
            _bars(ax, ratios)
        for ax in axes[len(line) :]:
            ax.remove()
        top += height
    return figure


def draw_trainings(trainings: Sequence[Shares], subtitle: str, path: Path) -> None:
    """Draws the time of an iteration with a library's own optimizer, and with ours, of which a part is the optimizer's.

    Raises:
        OSError: The picture can't be written.
    """
    with mpl.rc_context(STYLE):
        figure = _figure(1.55 + 0.42 * len(trainings), "Where the time of a training goes", subtitle)
        (ax,) = _row_axes(figure, 1, 0.115, 0, 0.7, 0.8)
        for i, own in enumerate(trainings):
            sides = (("its own", own.share_before, 1.0), ("fusedstep's", own.share_after, own.after / own.before))
            for j, (name, share, whole) in enumerate(sides):
                y, colour = i + 0.36 * j, LOOKS[BOOK if j == 0 else OURS][0]
                ax.barh(y, share * whole, 0.32, color=colour, label=f"optimizer, {name}" if i == 0 else None)
                rest = whole - share * whole
                ax.barh(y, rest, 0.32, share * whole, color="#DDDDDD", label="the rest" if i + j == 0 else None)
                seconds = duration(own.after if j else own.before)
                ax.text(whole, y, f"  {seconds}", va="center", fontsize=7.5, color=GREY)
        ax.set(yticks=[i + 0.18 for i in range(len(trainings))], xlim=(0, 1.12))
        ax.set_yticklabels([own.name for own in trainings], color=BLACK)
        ax.set_xlabel("time of an iteration / its time with the library's own optimizer")
        ax.invert_yaxis()
        ax.tick_params(left=False)
        ax.spines["left"].set_visible(False)
        handles, labels = ax.get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=3, fontsize=8, labelcolor=GREY)
        figure.savefig(path)


PICTURES: dict[str, Callable[[Run], Figure | None]] = {
    "speed.png": _speed,
    "many_arrays.png": partial(_panels, kind="many", title="Adam, many arrays"),
    "whole_step.png": partial(_panels, kind="whole step", title="Adam + clipping + average + zeros"),
    "torch.png": partial(_panels, kind="torch", title="Steps of PyTorch's parameters by Adam"),
    "rows.png": partial(_panels, kind="rows", title="Gradients of some rows of a matrix"),
    "batch_norm.png": partial(_panels, kind="batch norm", title="Batch normalisation, float32"),
    "dropout.png": partial(_panels, kind="dropout", title="Dropout, float32"),
    "training.png": partial(_panels, kind="training", title="Training iteration (batch normalisation, Adam)"),
}


def draw_all(run: Run, out: Path) -> list[str]:
    """Writes the pictures that the run has rows for, and returns their names.

    Raises:
        OSError: One can't be written.
    """
    drawn = []
    with mpl.rc_context(STYLE):
        for name, draw in PICTURES.items():
            if figure := draw(run):
                figure.savefig(out / name)
                drawn.append(name)
    return drawn
