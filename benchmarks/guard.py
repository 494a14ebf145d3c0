"""Checks the floors of speed by ratios within one run: `python -m benchmarks.guard`.

The times beside a ratio are of this machine at this moment, and so no promise.

Exit status: 0 if all that were measured hold, 1 if some fall short, 2 for wrong arguments.
"""

import argparse
import sys

from benchmarks.floors import Floor, floors
from benchmarks.turns import Ratio, add_arguments, chosen, measure_in_new_process


def _milliseconds(ratio: Ratio) -> str:
    return f"{ratio.numerator * 1e3:.3g} / {ratio.denominator * 1e3:.3g} ms"


def verdict(floor: Floor, ratio: float) -> str:
    """Where the ratio stands."""
    sign = -1 if floor.at_most else 1
    if sign * ratio < sign * floor.floor:
        return "falls short"
    return "reaches the aim" if sign * ratio >= sign * floor.aim else "holds"


def main() -> int:
    """Measures, prints the table, returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    arguments = parser.parse_args()
    works = chosen(floors(), arguments, parser)
    width = max(len(floor.name) for floor in works)
    print(f"{'work':<{width}}  {'times':>20}  {'ratio':>7}  {'quartiles':>13}  {'floor':>8}  {'aim':>7}  verdict")
    short, unmeasured = [], []
    for i, floor in enumerate(works, 1):
        why = floor.missing()
        ratio = None if why else measure_in_new_process(f"{i}/{len(works)} {floor.name}", floor.make, arguments.rounds)
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
    print(f"\n{len(works) - len(short) - len(unmeasured)} hold, {len(short)} fall short", end="")
    print(f", {len(unmeasured)} not measured")
    for line in short:
        print(f"falls short: {line}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
