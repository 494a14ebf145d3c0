"""Ratios of times, measured in turns: both sides of a pair alternate, so that a slow minute slows both.

All comparisons of the benchmarks are made here. Each pair has a process of its own: whether results of PyTorch or of
fusedstep cost page faults depends on what the process has freed before.
"""

import argparse
import gc
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol, TypeAlias, TypeVar

import fusedstep as fs
from benchmarks.workloads import THREADS

_SAMPLE = 0.005  # seconds: long enough for the clock, short enough for neighbours to meet the same conditions
_SECONDS, _MOST = 1.5, 60  # a pair's rounds end after both the minimum and this time, or at this number
_PAUSE = 0.002  # seconds: other libraries' workers spin for a while, on the core that the next sample needs


@dataclass(frozen=True)
class Work:
    """A timed function with its number of threads; `setup` is called before each call and not timed."""

    run: Callable[[], Any]
    threads: int = max(THREADS)
    setup: Callable[[], Any] | None = None


# Numerator and denominator of a ratio; the fastest of each side's alternatives counts.
Sides: TypeAlias = tuple[list[Work], list[Work]]


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, their quartiles, and the median times in seconds."""

    median: float
    low: float
    high: float
    numerator: float
    denominator: float


def _set_threads(threads: int) -> None:
    fs.set_num_threads(threads)
    if "torch" in sys.modules:
        importlib.import_module("torch").set_num_threads(threads)


def _time(work: Work, calls: int) -> float:
    """Seconds per call."""
    _set_threads(work.threads)
    time.sleep(_PAUSE)
    if work.setup is None:
        if calls > 1:  # a call that is longer than a sample doesn't depend on the state of the cache
            work.run()
        start = time.perf_counter()
        for _ in range(calls):
            work.run()
        return (time.perf_counter() - start) / calls
    seconds = 0.0
    for _ in range(calls):
        work.setup()
        start = time.perf_counter()
        work.run()
        seconds += time.perf_counter() - start
    return seconds / calls


def _calls(work: Work) -> int:
    return max(1, min(10_000, round(_SAMPLE / max(_time(work, 3), 1e-7))))


def measure(sides: Sides, rounds: int) -> Ratio:
    """Measures for at least that many rounds; each times every alternative once, in the reverse order of the last."""
    above, below = sides
    works = [*above, *below]
    calls = [_calls(work) for work in works]
    times: list[list[float]] = [[] for _ in works]
    order = list(range(len(works)))
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        while len(times[0]) < rounds or (len(times[0]) < _MOST and time.perf_counter() - start < _SECONDS):
            for i in order:
                times[i].append(_time(works[i], calls[i]))
            order.reverse()
    finally:
        gc.enable()
    numerator = min(times[: len(above)], key=statistics.median)
    denominator = min(times[len(above) :], key=statistics.median)
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(median, low, high, statistics.median(numerator), statistics.median(denominator))


def _make_and_measure(make: Callable[[], Sides], rounds: int) -> Ratio:
    return measure(make(), rounds)


def measure_in_new_process(name: str, make: Callable[[], Sides], rounds: int) -> Ratio:
    """Measures the sides that `make` gives there, and shows the name on stderr meanwhile; `make` is pickled."""
    print(f"\r\033[K{name}", end="", file=sys.stderr, flush=True)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        ratio = process.submit(_make_and_measure, make, rounds).result()
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    return ratio


class Named(Protocol):
    """A pair with a name."""

    @property
    def name(self) -> str:
        """The work."""


N = TypeVar("N", bound=Named)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the choice of pairs and the number of rounds."""
    parser.add_argument("--only", default="", metavar="PATTERN", help="only work whose name contains this")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="samples of each side at least (default: 9)")


def chosen(pairs: Iterable[N], arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> list[N]:
    """The pairs that the arguments choose; ends the process for arguments that make no sense."""
    found = [pair for pair in pairs if arguments.only in pair.name]
    if not found:
        parser.error(f"no work's name contains {arguments.only!r}")
    if arguments.rounds < 2:
        parser.error(f"--rounds is {arguments.rounds}, expected 2 or more")
    return found
