"""Checks the floors of speed by ratios within one run: `python -m benchmarks.guard`.

Each floor has a process of its own: whether PyTorch's outputs or ours cost page faults depends on what the process has
freed before. The times beside a ratio are of this machine at this moment, and so no promise.

Exit status: 0 if all that were measured hold, 1 if some fall short, 2 for wrong arguments.
"""

import argparse
import gc
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import fusedstep as fs
from benchmarks import peers
from benchmarks.floors import Floor, Work, floors, missing

_SAMPLE = 0.005  # seconds: long enough for the clock, short enough to be of one mood with its neighbours
_SECONDS, _MOST = 1.5, 60  # rounds go on for that long, or are that many
_PAUSE = 0.002  # seconds: other libraries' workers spin for a while, on the core that the next sample needs


def _time(work: Work, calls: int) -> float:
    """Seconds a call."""
    fs.set_num_threads(work.threads)
    if peers.missing("torch") is None:
        peers.set_torch_threads(work.threads)
    time.sleep(_PAUSE)
    if work.setup is None:
        if calls > 1:  # what takes longer than a sample doesn't live off the cache
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


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, their quartiles, and the median times in seconds."""

    median: float
    low: float
    high: float
    numerator: float
    denominator: float


def measure(floor: Floor, rounds: int) -> Ratio:
    """Numerator and denominator take turns; a ratio is of neighbours in time, so that a slow minute slows both.

    Of alternatives that with the smallest median counts.
    """
    above, below = floor.make()
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
            order.reverse()  # neither always comes after the other
    finally:
        gc.enable()
    numerator = min(times[: len(above)], key=statistics.median)
    denominator = min(times[len(above) :], key=statistics.median)
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(median, low, high, statistics.median(numerator), statistics.median(denominator))


def _measure(number: int, rounds: int) -> Ratio:
    return measure(floors()[number], rounds)


def _measure_in_new_process(number: int, rounds: int) -> Ratio:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_measure, number, rounds).result()


def _milliseconds(ratio: Ratio) -> str:
    return f"{ratio.numerator * 1e3:.3g} / {ratio.denominator * 1e3:.3g} ms"


def verdict(floor: Floor, ratio: float) -> str:
    """What the ratio says."""
    sign = -1 if floor.at_most else 1
    if sign * ratio < sign * floor.floor:
        return "falls short"
    return "reaches the aim" if sign * ratio >= sign * floor.aim else "holds"


def main() -> int:
    """Measures, prints the table, returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PATTERN", help="only work whose name contains this")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="samples of each side at least (default: 9)")
    arguments = parser.parse_args()
    chosen = {number: floor for number, floor in enumerate(floors()) if arguments.only in floor.name}
    if not chosen:
        parser.error(f"no work's name contains {arguments.only!r}")
    if arguments.rounds < 2:
        parser.error(f"--rounds is {arguments.rounds}, expected 2 or more")
    width = max(len(floor.name) for floor in chosen.values())
    print(f"{'work':<{width}}  {'times':>20}  {'ratio':>7}  {'quartiles':>13}  {'floor':>8}  {'aim':>7}  verdict")
    short, unmeasured = [], []
    for i, (number, floor) in enumerate(chosen.items(), 1):
        print(f"\r\033[K{i}/{len(chosen)} {floor.name}", end="", file=sys.stderr, flush=True)
        why = missing(floor)
        ratio = None if why else _measure_in_new_process(number, arguments.rounds)
        print("\r\033[K", end="", file=sys.stderr, flush=True)
        bound, aim = (f"{'<= ' if floor.at_most else ''}{value:g}" for value in (floor.floor, floor.aim))
        times, shown, spread, said = "", "", "", f"not measured: {why}"
        if ratio:
            times = _milliseconds(ratio)
            shown, spread = f"{ratio.median:.3g}", f"{ratio.low:.3g} - {ratio.high:.3g}"
            said = verdict(floor, ratio.median)
        print(f"{floor.name:<{width}}  {times:>20}  {shown:>7}  {spread:>13}  {bound:>8}  {aim:>7}  {said}", flush=True)
        if ratio is None:
            unmeasured.append(floor.name)
        elif said == "falls short":
            short.append(f"{floor.name}: {shown}, floor {bound}")
    print(f"\n{len(chosen) - len(short) - len(unmeasured)} hold, {len(short)} fall short", end="")
    print(f", {len(unmeasured)} not measured")
    for line in short:
        print(f"falls short: {line}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
