"""Makes a Markdown table and pictures: `python -m benchmarks.report bench.json --ratios ratios.json --out DIR`."""

import argparse
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.results import LIBRARIES, Row, Run, duration, groups, read, work_text, works
from benchmarks.trainers import Shares, read_shares, table
from benchmarks.workloads import BOOK, IN_PLACE, LIMIT

# The columns of the summary, and the rows of which the fastest counts.
_BESIDE = {
    "NumPy (book)": (BOOK,),
    "NumPy (in place)": (IN_PLACE,),
    "PyTorch": ("PyTorch", "PyTorch (fused)", "PyTorch (foreach)", "PyTorch (default)", "PyTorch (sparse)"),
    "limit": (LIMIT,),
}

TRAININGS = "trainings.png"


def _summary(run: Run) -> list[str]:
    if not run.ratios:
        return []
    lines = ["", "## Time of others / time of fusedstep", ""]
    lines += [
        "Measured in turns, each with its best number of threads; batch normalisation and dropout with `out=`.",
        "",
    ]
    lines += ["| | fusedstep | " + " | ".join(_BESIDE) + " |", "|---|--:" + "|--:" * len(_BESIDE) + "|"]
    for name, ratios in works(one for one in run.ratios if one.kind not in LIBRARIES).items():
        cells = [name, duration(statistics.median(one.ratio.denominator for one in ratios))]
        for alternatives in _BESIDE.values():
            found = [one.ratio.median for one in ratios if one.row in alternatives]
            cells.append(f"{min(found):.2g}" if found else "")
        lines.append("| " + " | ".join(cells) + " |")
    libraries = [one for one in run.ratios if one.kind in LIBRARIES]
    if libraries:
        lines += ["", "### The library's own optimizer", "", "| | fusedstep | the library's |", "|---|--:|--:|"]
    for one in libraries:
        name = work_text(one.kind, one.rule, one.dtype, one.work)
        lines.append(f"| {name} | {duration(one.ratio.denominator)} | {one.ratio.median:.2g} |")
    return lines


def _group_table(name: str, rows: list[Row]) -> list[str]:
    lines = ["", f"### {name[0].upper() + name[1:]}", "", "| | median | IQR | GB/s |", "|---|--:|--:|--:|"]
    for row in rows:
        rate = "" if row.rate is None else f"{row.rate:.1f}"
        spread = f"{100 * (row.high - row.low) / row.median:.0f} %"
        lines.append(f"| {row.row} | {duration(row.median)} | {spread} | {rate} |")
    return lines


def _memory_table(rows: list[Row]) -> list[str]:
    if not rows:
        return []
    lines = ["", "### Peak memory above what was there before the call, KiB", ""]
    lines += ["| | Python and NumPy | process | allowed |", "|---|--:|--:|--:|"]
    for row in rows:
        kib = (f"{row.extra[key] / 1024:.0f}" for key in ("peak_numpy", "peak_process", "bound"))
        lines.append(f"| {row.work} | " + " | ".join(kib) + " |")
    return lines


def markdown(run: Run, pictures: Iterable[str], trainings: Sequence[Shares] = ()) -> str:
    """The report."""
    lines = ["# Benchmarks", "", f"{run.subtitle}.", ""]
    lines.append(
        "The limit is a loop with the same reads and writes and next to no arithmetic. Rows of a group are measured "
        "one after the other, at moments of different noise: their quotients are no comparison. IQR is the range of "
        "the middle half of the rounds, as a part of the median. GB/s counts the bytes that have to be moved."
    )
    lines += _summary(run)
    if trainings:
        lines += ["", "## Trainings", "", "With a library's own optimizer, and with fusedstep's in its place.", ""]
        lines += [*table(trainings), "", f"![trainings]({TRAININGS})"]
    lines += [line for name in pictures for line in ("", f"![{Path(name).stem.replace('_', ' ')}]({name})")]
    for name, rows in groups(row for row in run.rows if row.kind != "memory").items():
        lines += _group_table(name, rows)
    return "\n".join([*lines, *_memory_table(run.of("memory"))]) + "\n"


def main() -> int:
    """Writes report.md and the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path, help="what `pytest benchmarks --benchmark-json FILE` wrote")
    parser.add_argument("--ratios", type=Path, help="what `python -m benchmarks.compare --json FILE` wrote")
    parser.add_argument("--trainers", type=Path, help="what `python -m benchmarks.trainers --json FILE` wrote")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    arguments = parser.parse_args()
    try:
        run = read(arguments.json, arguments.ratios)
        trainings, subtitle = read_shares(arguments.trainers) if arguments.trainers else ([], "")
        arguments.out.mkdir(parents=True, exist_ok=True)
        from benchmarks.pictures import draw_all, draw_trainings  # matplotlib is slow to import, and may be missing

        pictures = draw_all(run, arguments.out)
        if trainings:
            draw_trainings(trainings, subtitle, arguments.out / TRAININGS)
        report = arguments.out / "report.md"
        report.write_text(markdown(run, pictures, trainings))
    except (OSError, ValueError, ImportError) as error:
        print(f"benchmarks.report: {error}", file=sys.stderr)
        return 2
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
