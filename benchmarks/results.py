"""Figures of report and pictures: rows of pytest-benchmark, ratios of `benchmarks.compare`, and their words."""

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import fusedstep as fs
from benchmarks import peers
from benchmarks.turns import Ratio
from benchmarks.workloads import THREADS

# Whose optimizers are measured beside the classes that take their place; they are kinds of work, and rows.
LIBRARIES = ("scikit-learn", "thinc", "DeZero", "Flower")


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
class Against:
    """The time of a row over the time of fusedstep, each with its best number of threads, measured in turns."""

    kind: str
    row: str
    rule: str
    dtype: str
    work: str
    ratio: Ratio


@dataclass(frozen=True)
class Run:
    """The figures of two files, each with its origin in words."""

    rows: list[Row]
    subtitle: str
    ratios: list[Against]
    ratios_subtitle: str

    def of(self, kind: str) -> list[Row]:
        """The rows of a kind of benchmark."""
        return [row for row in self.rows if row.kind == kind]


def _processor() -> str:
    """Its name; /proc/cpuinfo is where Linux keeps it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def origin() -> dict[str, Any]:
    """What this machine and its libraries are; `subtitle_of` puts it in words."""
    return {
        "processor": _processor(),
        "most_threads": max(THREADS),
        "isa": fs.isa(),
        "date": datetime.now(UTC).date().isoformat(),
        "fusedstep": fs.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "peers": peers.versions(),
    }


def subtitle_of(o: dict[str, Any]) -> str:
    place = f"{o['processor']} ({o['most_threads']} threads at most, {o['isa']}), {o['date']}"
    versions = f"fusedstep {o['fusedstep']}, NumPy {o['numpy']}, Python {o['python']}"
    return ", ".join([place, versions, *o["peers"]])


def read(path: Path, ratios: Path | None) -> Run:
    """Reads a file of `pytest benchmarks --benchmark-json`, and one of `benchmarks.compare` if there is one.

    Raises:
        OSError: One can't be read.
        ValueError: One isn't such a file, or none of its benchmarks are ours.
    """
    data = json.loads(path.read_text())
    try:
        ours = [b for b in data["benchmarks"] if "kind" in b["extra_info"]]
        rows = [_row(b) for b in ours]
        if not rows:
            raise ValueError(f"{path} holds none of these benchmarks")
        subtitle = subtitle_of(ours[0]["extra_info"]["origin"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what pytest-benchmark writes: no {error}") from error
    return Run(rows, subtitle, *(_read_ratios(ratios) if ratios else ([], "")))


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


def write_ratios(path: Path, ratios: Iterable[Against]) -> None:
    """Writes a file for `read`."""
    path.write_text(json.dumps({"origin": origin(), "ratios": [asdict(one) for one in ratios]}, indent=1) + "\n")


def _read_ratios(path: Path) -> tuple[list[Against], str]:
    data = json.loads(path.read_text())
    try:
        ratios = [Against(**{**one, "ratio": Ratio(**one["ratio"])}) for one in data["ratios"]]
        return ratios, subtitle_of(data["origin"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what benchmarks.compare writes: no {error}") from error


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


def works(ratios: Iterable[Against]) -> dict[str, list[Against]]:
    """Ratios by their work in words, in the order in which they were measured."""
    found: dict[str, list[Against]] = {}
    for one in ratios:
        found.setdefault(work_text(one.kind, one.rule, one.dtype, one.work), []).append(one)
    return found


def work_text(kind: str, rule: str, dtype: str, work: str) -> str:
    """A work in words."""
    # What needs no word but the library's name.
    names = {library: f"{library}: {rule}, {work}" for library in LIBRARIES} | {
        "batch norm": f"batch normalisation {work} {rule}",
        "dropout": f"dropout {work} {rule}",
        "training": f"training iteration {work}",
        "word2vec": f"iteration of word2vec, {work}, {rule}",
        "whole step": f"{rule} + clipping + average + zeros, {work}",
        "rows": f"{rule}, rows: {work}",
        "rule": f"rule {rule}, {work}",
        "torch": f"PyTorch's parameters: {rule}, {work}",
    }
    return f"{names.get(kind, f'{rule}, {work}')}, {dtype}"
