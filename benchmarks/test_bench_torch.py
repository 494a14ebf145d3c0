"""Steps of PyTorch's parameters."""

import pytest

import fusedstep as fs
from benchmarks import peers, torch_steps
from benchmarks.conftest import Measure
from benchmarks.workloads import THREADS, small, threads_text, update_bytes


@pytest.mark.quick
@pytest.mark.parametrize("row", torch_steps.ROWS)
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("work", torch_steps.WORKS)
def test_step(measure: Measure, measuring: bool, work: str, threads: int, row: str) -> None:
    if why := peers.missing("torch"):
        pytest.skip(why)
    peers.set_torch_threads(threads)
    fs.set_num_threads(threads)
    given = torch_steps.WORKS[work]
    shapes = given.shapes
    if not measuring:
        shapes = shapes[:12] if len(shapes) > 1 else [(small(shapes[0][0]),)]
    measure(
        f"torch: {work} Adam float32 {threads_text(threads)}",
        torch_steps.checked(row, torch_steps.Parameters(shapes, given.clips)),
        update_bytes("Adam", shapes, "float32"),
        threads,
        kind="torch",
        row=row,
        rule="Adam",
        dtype="float32",
        work=work,
    )
