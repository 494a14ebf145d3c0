"""Measures fusedstep beside every other row, in turns: `python -m benchmarks.compare --json FILE`.

A ratio is the time of the other row over the time of fusedstep, each with its best number of threads.
`benchmarks.report` makes a table and pictures of the file.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks import (
    dezero_steps,
    dropouts,
    every_rule,
    flower_steps,
    norms,
    pairs,
    peers,
    sklearn_steps,
    thinc_steps,
    torch_steps,
    touched_rows,
    whole_steps,
    word2vec,
)
from benchmarks.results import Against, duration, work_text, write_ratios
from benchmarks.training import ROWS
from benchmarks.turns import Sides, add_arguments, chosen, measure_in_new_process
from benchmarks.workloads import (
    BOOK,
    IN_PLACE,
    LIMIT,
    LISTS,
    NETWORKS,
    NORMS,
    OURS,
    OURS_OUT,
    SIZES,
    THREADS,
    WHOLE_STEPS,
    Shapes,
)

# NumPy's elementwise operations have one thread, whatever fusedstep has.
_SERIAL = (BOOK, IN_PLACE)


@dataclass(frozen=True)
class Pair:
    """A row and fusedstep at the same work."""

    kind: str
    row: str
    rule: str
    dtype: str
    work: str
    make: Callable[[], Sides] = field(repr=False)
    package: str | None = None

    @property
    def name(self) -> str:
        """The work in words."""
        return f"{work_text(self.kind, self.rule, self.dtype, self.work)}: {self.row}"


def _threads(row: str) -> tuple[int, ...]:
    return (1,) if row in _SERIAL else THREADS


def _updates(kind: str, dtype: str, works: dict[str, Shapes]) -> Iterator[Pair]:
    for work, shapes in works.items():
        for row in (BOOK, IN_PLACE):
            make = partial(pairs.update, row, "Adam", dtype, shapes, _threads(row))
            yield Pair(kind, row, "Adam", dtype, work, make)
        yield Pair(kind, LIMIT, "Adam", dtype, work, partial(pairs.limit, "Adam", dtype, shapes, THREADS))
        for row, peer in peers.PEERS.items():
            threads = [n for n in THREADS if peer.has("Adam", dtype, n, n == max(THREADS))]
            if threads:
                make = partial(pairs.update, row, "Adam", dtype, shapes, threads)
                yield Pair(kind, row, "Adam", dtype, work, make, peer.package)


def _whole_steps() -> Iterator[Pair]:
    for work in WHOLE_STEPS:
        for row in whole_steps.ROWS:
            if row != OURS:
                make = partial(pairs.whole_step, row, OURS, work, _threads(row), THREADS)
                yield Pair("whole step", row, "Adam", "float32", work, make, whole_steps.package(row))
    for rule in touched_rows.RULES:
        for row in touched_rows.ROWS:
            if row != OURS:
                make = partial(pairs.rows, row, rule, _threads(row), THREADS)
                yield Pair("rows", row, rule, "float32", touched_rows.WORK, make, touched_rows.package(row))


def _torch_steps() -> Iterator[Pair]:
    for work in torch_steps.WORKS:
        for row in torch_steps.ROWS:
            if row != torch_steps.OURS:
                make = partial(torch_steps.works, row, work, [*THREADS], [*THREADS])
                yield Pair("torch", row, "Adam", "float32", work, make, "torch")


def _libraries() -> Iterator[Pair]:
    """Optimizers of other libraries, and the classes that take their place."""
    for each in (sklearn_steps, thinc_steps, dezero_steps, flower_steps):
        for work, rule, dtype in itertools.product(each.WORKS, each.RULES, each.DTYPES):
            make = partial(each.works, rule, work, dtype, [*THREADS])
            yield Pair(each.LIBRARY, each.LIBRARY, rule, dtype, work, make, each.PACKAGE)


def _rules() -> Iterator[Pair]:
    for name, form in every_rule.FORMS.items():
        for row in (LIMIT, every_rule.TORCH):
            if row == LIMIT or form.torch:
                make = partial(every_rule.works, row, name, int(every_rule.WORK), [*THREADS])
                package = None if row == LIMIT else "torch"
                yield Pair("rule", row, name, "float32", every_rule.WORK, make, package)


def _layers() -> Iterator[Pair]:
    for direction in ("forward", "backward"):
        for row in (BOOK, IN_PLACE, LIMIT, norms.PYTORCH):
            package = "torch" if row == norms.PYTORCH else None
            for work in NORMS:
                make = partial(pairs.norm, row, OURS_OUT, work, direction, _threads(row), THREADS)
                yield Pair("batch norm", row, direction, "float32", work, make, package)
            for size in dropouts.DROPOUT_SIZES:
                make = partial(pairs.dropout, row, size, direction, _threads(row), THREADS)
                yield Pair("dropout", row, direction, "float32", str(size), make, package)


def all_pairs() -> list[Pair]:
    """All of them, in the order of the report."""
    training = [
        Pair("training", row, "Adam", "float64", work, partial(pairs.training, row, work))
        for work in NETWORKS
        for row in ROWS
        if row != OURS
    ]
    words = [
        Pair("word2vec", BOOK, rule, "float32", f"{word2vec.WORK} drawn {draws}", partial(pairs.words, rule, draws))
        for draws in word2vec.DRAWS
        for rule in word2vec.RULES
    ]
    return [
        *sorted(_layers(), key=lambda pair: (pair.kind, pair.rule == "backward")),
        *training,
        *words,
        *_updates("update", "float32", {str(size): [(size,)] for size in SIZES}),
        *_updates("many", "float32", LISTS),
        *_updates("many", "float64", LISTS),
        *_whole_steps(),
        *_torch_steps(),
        *_libraries(),
        *_rules(),
    ]


def main() -> int:
    """Measures, prints the ratios, writes the file; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="the file to write")
    add_arguments(parser)
    arguments = parser.parse_args()
    works = chosen(all_pairs(), arguments, parser)
    ratios = []
    for i, pair in enumerate(works, 1):
        if pair.package and (why := peers.missing(pair.package)):
            print(f"{pair.name}: not measured: {why}", flush=True)
            continue
        ratio = measure_in_new_process(f"{i}/{len(works)} {pair.name}", pair.make, arguments.rounds)
        ratios.append(Against(pair.kind, pair.row, pair.rule, pair.dtype, pair.work, ratio))
        quartiles = f"{ratio.low:.3g} - {ratio.high:.3g}"
        print(f"{pair.name}: {ratio.median:.3g} ({quartiles}), fusedstep {duration(ratio.denominator)}", flush=True)
    write_ratios(arguments.json, ratios)
    return 0


if __name__ == "__main__":
    sys.exit(main())
