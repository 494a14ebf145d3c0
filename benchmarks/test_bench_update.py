"""Updates of one array and of many."""

from collections.abc import Iterator
from typing import Any

import pytest

import fusedstep as fs
from benchmarks.conftest import Measure
from benchmarks.rows import UpdateCase, bind, checked_first_step, rows
from benchmarks.workloads import LISTS, RULES, SIZES, THREADS, Shapes, small, threads_text, update_bytes

QUICK = {("Adam", "float32", work) for work in ("1000", "30000", "500000", "10000000", *LISTS)}
QUICK |= {("Adam", "float64", "784-100x4-10")}


def _cases() -> Iterator[Any]:
    works: dict[str, Shapes] = {**{str(size): [(size,)] for size in SIZES}, **LISTS}
    for rule in RULES:
        for dtype in ("float32", "float64"):
            for work, shapes in works.items():
                for threads in THREADS:
                    for row in rows(rule, dtype, threads, threads == max(THREADS)):
                        quick = (rule, dtype, work) in QUICK
                        yield pytest.param(
                            UpdateCase(row, rule, dtype, work, shapes, threads),
                            id=f"{rule}-{dtype}-{work}-{threads}-{row}",
                            marks=[pytest.mark.quick] if quick else [],
                        )


@pytest.mark.parametrize("case", list(_cases()))
def test_update(measure: Measure, measuring: bool, case: UpdateCase) -> None:
    if case.peer and (why := case.peer.missing()):
        pytest.skip(f"{case.row}: {why}")
    fs.set_num_threads(case.threads)
    bind(case)
    many = case.work in LISTS
    shapes = case.shapes
    if not measuring:
        shapes = shapes[:12] if many else [(small(shapes[0][0]),)]
    stepper = checked_first_step(case, shapes)
    measure(
        f"{'many arrays' if many else 'update'}: {case.work} {case.rule} {case.dtype} {threads_text(case.threads)}",
        stepper.step,
        update_bytes(case.rule, shapes, case.dtype),
        case.threads,
        kind="many" if many else "update",
        row=case.row,
        rule=case.rule,
        dtype=case.dtype,
        work=case.work,
    )
