"""Whole steps, and steps of some rows of a matrix."""

import pytest

import fusedstep as fs
from benchmarks import peers, touched_rows, whole_steps
from benchmarks.conftest import Measure
from benchmarks.workloads import THREADS, WHOLE_STEPS, small, threads_text, whole_step_bytes


def _bind(row: str, package: str | None, threads: int) -> None:
    if package:
        if why := peers.missing(package):
            pytest.skip(f"{row}: {why}")
        peers.set_torch_threads(threads)
    fs.set_num_threads(threads)


@pytest.mark.quick
@pytest.mark.parametrize("row", whole_steps.MAKERS)
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("work", WHOLE_STEPS)
def test_whole_step(measure: Measure, measuring: bool, work: str, threads: int, row: str) -> None:
    _bind(row, whole_steps.package(row), threads)
    shapes = WHOLE_STEPS[work]
    if not measuring:
        shapes = shapes[:12] if len(shapes) > 1 else [(small(shapes[0][0]),)]
    made = whole_steps.checked(row, shapes)
    measure(
        f"whole step: {work} Adam float32 {threads_text(threads)}",
        made.step,
        whole_step_bytes(shapes),
        threads,
        setup=made.setup,
        kind="whole step",
        row=row,
        rule="Adam",
        dtype="float32",
        work=work,
    )


@pytest.mark.quick
@pytest.mark.parametrize("row", touched_rows.ROWS)
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("rule", touched_rows.RULES)
def test_rows(measure: Measure, rule: str, threads: int, row: str) -> None:
    _bind(row, touched_rows.package(row), threads)
    measure(
        f"rows: {touched_rows.WORK} {rule} float32 {threads_text(threads)}",
        touched_rows.checked(row, rule),
        touched_rows.moved(rule),
        threads,
        kind="rows",
        row=row,
        rule=rule,
        dtype="float32",
        work=touched_rows.WORK,
    )
