"""The report's pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report import Row, Run, best, duration, groups, median_of
from benchmarks.workloads import BOOK, IN_PLACE, LIMIT, OURS, OURS_OUT, threads_text

# From Okabe & Ito's palette, which colour-blind people can tell apart; a marker for each as well.
LOOKS: dict[str, tuple[str, str]] = {
    OURS: ("#0072B2", "o"),
    OURS_OUT: ("#56B4E9", "o"),
    BOOK: ("#E69F00", "s"),
    IN_PLACE: ("#D55E00", "D"),
    "PyTorch": ("#009E73", "^"),
    "PyTorch (fused)": ("#009E73", "^"),
    "PyTorch (foreach)": ("#7FCDB4", "v"),
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


def _figure(height: float, title: str, run: Run) -> Figure:
    figure = Figure((WIDTH, height), dpi=200)
    figure.text(0.012, 1 - 0.28 / height, title, weight="bold", fontsize=11)
    place, _, versions = run.subtitle.partition(", fusedstep")
    figure.text(0.012, 1 - 0.5 / height, place, color=GREY, fontsize=8)
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
    figure = _figure(4.3, "Adam, one float32 array: speed against its size", run)
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
    axes[0].set_ylabel("GB/s (bars: IQR)")
    handles, labels = axes[-1].get_legend_handles_labels()
    for ax in axes[:-1]:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.legend(handles, labels, loc="lower center", ncols=min(5, len(labels)), fontsize=8, labelcolor=GREY)
    return figure


def _bars(ax: Axes, rows: list[Row], title: str, baseline: str) -> None:
    """Times as fast as the baseline; the spread is that of the row itself."""
    base = median_of(rows, baseline)
    assert base is not None
    shown = sorted(rows, key=lambda row: -row.median)
    for y, row in enumerate(shown):
        ratio = base / row.median
        spread = [[ratio - base / row.high], [base / row.low - ratio]]
        colour = BLACK if row.row == LIMIT else LOOKS[row.row][0]
        ax.barh(y, ratio, 0.68, color="none" if row.row == LIMIT else colour, edgecolor=colour, linestyle="-")
        ax.errorbar(ratio, y, xerr=spread, color=GREY, elinewidth=0.8, capsize=2)
        ax.text(base / row.low, y, f"  {ratio:.3g} x   {duration(row.median)}", va="center", fontsize=7.5, color=GREY)
    widest = max(base / row.low for row in rows)
    ax.set(yticks=range(len(shown)), xlim=(0, 1.55 * widest), title=title)
    ax.set_yticklabels([row.row for row in shown], fontsize=7.5)
    for label, row in zip(ax.get_yticklabels(), shown, strict=True):
        label.set(weight="bold" if row.row in (OURS, OURS_OUT) else "normal", color=BLACK)
    ax.tick_params(left=False)
    ax.spines["left"].set_visible(False)


def _panels(run: Run, title: str, panels: dict[str, list[Row]], columns: int = 2) -> Figure | None:
    panels = {name: rows for name, rows in panels.items() if median_of(rows, BOOK)}
    if not panels:
        return None
    lines = [list(panels.items())[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [0.85 + 0.2 * max(len(rows) for _, rows in line) for line in lines]
    figure = _figure(0.85 + sum(heights), title, run)
    total, top = figure.get_figheight(), 0.85
    for line, height in zip(lines, heights, strict=True):
        axes = _row_axes(figure, columns, 0.145, 0.155, total - top - height + 0.45, top + 0.35)
        for ax, (name, rows) in zip(axes, line, strict=False):
            _bars(ax, rows, name, BOOK)
        for ax in axes[len(line) :]:
            ax.remove()
        top += height
    return figure


def _many(run: Run) -> Figure | None:
    panels: dict[str, list[Row]] = {}
    for row in run.of("many"):
        if row.rule == "Adam":
            panels.setdefault(f"{row.work}, {row.dtype}", []).append(row)
    title = "Adam, many arrays: times as fast as the book's NumPy, best number of threads"
    return _panels(run, title, {name: list(best(rows).values()) for name, rows in panels.items()})


def _norms(run: Run) -> Figure | None:
    panels: dict[str, list[Row]] = {}
    for row in run.of("batch norm"):
        if row.threads == max(r.threads for r in run.of("batch norm")):
            panels.setdefault(f"{row.work} {row.rule}, {threads_text(row.threads)}", []).append(row)
    order = sorted(panels, key=lambda name: [row.work for row in run.of("batch norm")].index(panels[name][0].work))
    title = "Batch normalisation, float32: times as fast as the book's NumPy"
    return _panels(run, title, {name: panels[name] for name in order})


def _dropouts(run: Run) -> Figure | None:
    panels: dict[str, list[Row]] = {}
    for row in run.of("dropout"):
        panels.setdefault(f"{row.work} {row.rule}", []).append(row)
    title = "Dropout, float32: times as fast as the book's NumPy, best number of threads"
    return _panels(run, title, {name: list(best(rows).values()) for name, rows in panels.items()})


def _training(run: Run) -> Figure | None:
    panels = {f"hidden layers {rows[0].work}": rows for rows in groups(run.of("training")).values()}
    title = "Training iteration (batch normalisation, Adam, float64): times as fast as the book's NumPy"
    return _panels(run, title, panels)


PICTURES: dict[str, Callable[[Run], Figure | None]] = {
    "speed.png": _speed,
    "many_arrays.png": _many,
    "batch_norm.png": _norms,
    "dropout.png": _dropouts,
    "training.png": _training,
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
