"""Turns pytest-benchmark's JSON into a Markdown table and pictures: `python -m benchmarks.report JSON --out DIR`."""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.workloads import BOOK, IN_PLACE, LIMIT, OURS, OURS_OUT


@dataclass(frozen=True)
class Row:
    """A row of a group; times in seconds."""

    group: str
    kind: str
    row: str
    rule: str
    dtype: str
    work: str
    threads: int
    median: float
    low: float  # quartiles
    high: float
    rate: float | None  # GB/s
    extra: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What a file of pytest-benchmark holds."""

    rows: list[Row]
    processor: str
    date: str
    versions: str

    def of(self, kind: str) -> list[Row]:
        """The rows of a kind of benchmark."""
        return [row for row in self.rows if row.kind == kind]

    @property
    def subtitle(self) -> str:
        """Where the figures are from."""
        return f"{self.processor}, {self.date}, {self.versions}"


def read(path: Path) -> Run:
    """Reads a file that `pytest benchmarks --benchmark-json` wrote.

    Raises:
        OSError: It can't be read.
        ValueError: It isn't such a file, or none of its benchmarks are ours.
    """
    data = json.loads(path.read_text())
    try:
        ours = [b for b in data["benchmarks"] if "kind" in b["extra_info"]]
        rows = [_row(b) for b in ours]
        date = data["datetime"][:10]
        machine = data["machine_info"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what pytest-benchmark writes: no {error}") from error
    if not rows:
        raise ValueError(f"{path} holds none of these benchmarks")
    info = ours[0]["extra_info"]
    processors = f"{info['processor']} ({max(row.threads for row in rows)} threads at most, {info['isa']})"
    versions = f"fusedstep {info['fusedstep']}, NumPy {info['numpy']}, Python {machine['python_version']}"
    return Run(rows, processors, date, ", ".join([versions, *info.get("peers", [])]))


def _row(benchmark: dict[str, Any]) -> Row:
    about, stats = benchmark["extra_info"], benchmark["stats"]
    return Row(
        benchmark["group"],
        about["kind"],
        about["row"],
        about["rule"],
        about["dtype"],
        about["work"],
        about["threads"],
        stats["median"],
        stats["q1"],
        stats["q3"],
        about.get("GB/s"),
        about,
    )


def duration(seconds: float) -> str:
    """A time with three digits and its unit."""
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}" if seconds < 999.5 * unit else f"{seconds / unit:.0f} {name}"
    return f"{seconds * 1e9:.3g} ns"


def groups(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by group, in the order in which they were measured."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.group, []).append(row)
    return found


def median_of(rows: Iterable[Row], name: str) -> float | None:
    """The median time of the row of that name."""
    return next((row.median for row in rows if row.row == name), None)


def best(rows: Iterable[Row]) -> dict[str, Row]:
    """Each row by its name, with the number of threads that is its fastest."""
    found: dict[str, Row] = {}
    for row in rows:
        if row.row not in found or row.median < found[row.row].median:
            found[row.row] = row
    return found


# The columns of the summary, and the rows of which the fastest counts.
_BESIDE = {
    "NumPy (book)": (BOOK,),
    "NumPy (in place)": (IN_PLACE,),
    "PyTorch": ("PyTorch", "PyTorch (fused)", "PyTorch (foreach)"),
    "limit": (LIMIT,),
}


def _in_summary(row: Row) -> bool:
    if row.kind == "update":
        return (row.rule, row.dtype) == ("Adam", "float32")
    return row.kind in ("batch norm", "dropout", "training") or (row.kind, row.rule) == ("many", "Adam")


def _summary(run: Run) -> list[str]:
    works: dict[tuple[str, ...], list[Row]] = {}
    for row in run.rows:
        if _in_summary(row):
            works.setdefault((row.kind, row.rule, row.dtype, row.work), []).append(row)
    lines = ["", "## Time of others / time of fusedstep", ""]
    lines += ["Each with its best number of threads; batch normalisation and dropout with `out=`.", ""]
    lines += ["| | fusedstep | " + " | ".join(_BESIDE) + " |", "|---|--:" + "|--:" * len(_BESIDE) + "|"]
    for (kind, rule, dtype, work), rows in works.items():
        fastest = best(rows)
        ours = fastest.get(OURS_OUT, fastest.get(OURS))
        if ours is None:
            continue
        names = {
            "batch norm": f"batch normalisation {work} {rule}",
            "dropout": f"dropout {work} {rule}",
            "training": f"training iteration {work}",
        }
        cells = [f"{names.get(kind, f'{rule}, {work}')}, {dtype}", duration(ours.median)]
        for alternatives in _BESIDE.values():
            times = [fastest[name].median for name in alternatives if name in fastest]
            cells.append(f"{min(times) / ours.median:.2g}" if times else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _times(of: float | None, row: Row) -> str:
    return "" if of is None else f"{of / row.median:.2f}"


def _group_table(name: str, rows: list[Row]) -> list[str]:
    book, limit = median_of(rows, BOOK), median_of(rows, LIMIT)
    lines = ["", f"### {name[0].upper() + name[1:]}", "", "| | median | IQR | GB/s | book / it | limit / it |"]
    lines.append("|---|--:|--:|--:|--:|--:|")
    for row in rows:
        rate = "" if row.rate is None else f"{row.rate:.1f}"
        spread = f"{100 * (row.high - row.low) / row.median:.0f} %"
        cells = [row.row, duration(row.median), spread, rate, _times(book, row), _times(limit, row)]
        lines.append("| " + " | ".join(cells) + " |")
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


def markdown(run: Run, pictures: Iterable[str]) -> str:
    """The report."""
    lines = ["# Benchmarks", "", f"{run.subtitle}.", ""]
    lines.append(
        "The limit is a loop with the same reads and writes and next to no arithmetic, measured in the same run. "
        "A ratio above 1 means that the row is the faster one. IQR is the range of the middle half of the rounds, "
        "as a part of the median. GB/s counts the bytes that have to be moved."
    )
    lines += _summary(run)
    lines += [line for name in pictures for line in ("", f"![{Path(name).stem.replace('_', ' ')}]({name})")]
    for name, rows in groups(row for row in run.rows if row.kind != "memory").items():
        lines += _group_table(name, rows)
    return "\n".join([*lines, *_memory_table(run.of("memory"))]) + "\n"


def main() -> int:
    """Writes report.md and the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path, help="what `pytest benchmarks --benchmark-json FILE` wrote")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    arguments = parser.parse_args()
    try:
        run = read(arguments.json)
        arguments.out.mkdir(parents=True, exist_ok=True)
        from benchmarks.pictures import draw_all  # matplotlib is slow to import, and may be missing

        pictures = draw_all(run, arguments.out)
        report = arguments.out / "report.md"
        report.write_text(markdown(run, pictures))
    except (OSError, ValueError, ImportError) as error:
        print(f"benchmarks.report: {error}", file=sys.stderr)
        return 2
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
