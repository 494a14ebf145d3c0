"""The model's calls and bytes of a step of Sharded, against counted ones."""

import importlib.util
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from benchmarks import distributed
from benchmarks.results import origin
from benchmarks.workloads import LISTS, LR, Shapes, arrays
from fusedstep.distributed import Serial, Sharded

_COUNTED = ("Allreduce", "Ialltoallv", "Iallgatherv", "Ireduce_scatter_block", "allgather")


class Counting:
    """A communicator that counts calls, and the bytes of their arrays that are to and from other processes."""

    def __init__(self, comm: Any) -> None:
        self.moved: distributed.Transfers = {}
        self._comm = comm

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._comm, name)
        return self._counted(name, method) if name in _COUNTED else method

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*buffers: Any) -> Any:
            calls, sent, received = self.moved.get(name, (0, 0, 0))
            if len(buffers) == 2:  # else an object
                sent, received = sent + self._bytes(buffers[0]), received + self._bytes(buffers[1])
            self.moved[name] = calls + 1, sent, received
            return method(*buffers)

        return call

    def _bytes(self, buffer: Any) -> int:
        if not isinstance(buffer, list):
            return int(buffer.nbytes)
        array, (counts, _) = buffer
        return int(array.itemsize * (sum(counts) - counts[self._comm.Get_rank()]))


def check(comm: Any, shapes: Shapes, reduction: Any, bucket_bytes: int = distributed.BUCKET_BYTES) -> None:
    """Makes two steps, of which the first makes the layout and the second makes the model's calls."""
    counting = Counting(comm)
    sharded = Sharded(fs.Adam(LR), counting, reduction=reduction, bucket_bytes=bucket_bytes)
    params, grads = arrays(shapes, np.float32, 1), arrays(shapes, np.float32, 2)
    for _ in range(2):
        counting.moved.clear()
        sharded.update(params, grads)
    lengths = distributed.lengths_in(shapes, comm.Get_size(), bucket_bytes)
    assert counting.moved == distributed.transfers(lengths, reduction, lengths[:, comm.Get_rank()])


@pytest.mark.parametrize("reduction", ["fixed", "mpi"])
def test_calls_and_bytes_are_the_counted_ones(reduction: str) -> None:
    run = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "ranks.py"))["run"]
    check(Serial(), LISTS["ResNet-50"], reduction)
    for ranks in (2, 3, 4):
        run(ranks, lambda comm: check(comm, LISTS["ResNet-50"], reduction))
        run(ranks, lambda comm: check(comm, LISTS["784-100x4-10"], reduction, 1 << 14))


@pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed")
def test_calls_and_bytes_by_mpi() -> None:
    distributed.mpiexec(2, "-m", "benchmarks.test_distributed")


def test_times_by_hand() -> None:
    machine = distributed.Machine(latency=1.0, network=8.0, memory=16.0)
    lengths = np.array([[3, 5]])  # one bucket, two processes, of which the second decides
    # Allreduce: 2 calls of 2 messages, 48 bytes. Ialltoallv: 20 bytes arrive. Iallgatherv: 12 do.
    expected = {"latency": 6, "network": 80 / 8}
    # Packed 2 * 12, added up 5 * 8 + 5 * 12, gathered 2 * 32; Adam moves 28 bytes for an element.
    expected |= {"memory": (24 + 100 + 64) / 16, "update": 5 * 28 / 16}
    assert distributed.times(lengths, "fixed", machine) == expected
    # Ireduce_scatter_block: 1 message, half of 40 bytes; packed 32 + 40, added up 5 * 12 + 5 * 8, gathered 2 * 32.
    expected |= {"latency": 6, "network": (48 + 20 + 12) / 8, "memory": (72 + 100 + 64) / 16}
    assert distributed.times(lengths, "mpi", machine) == expected
    # Allreduce of all: packed 2 * 32, added up 3 / 2 * 32.
    expected = {"latency": 2, "network": 32 / 8, "memory": (64 + 48) / 16, "update": 8 * 28 / 16}
    assert distributed.times(lengths, "plain", machine) == expected


def test_table_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "RANKS", (1, 10))
    machine = distributed.Machine(1e-6, 1e9, 1e10)
    seconds = dict.fromkeys(distributed.WAYS, 0.1)
    measured = [{"ranks": n, "machine": machine._asdict(), "seconds": seconds} for n in (1, 2)]
    data = {"origin": origin() | {"most_threads": 2}, "measured": measured}
    lines = distributed.table(data)
    assert lines[2].startswith("| 1 | fixed | 100 ms | 92 ms | 0 ns | 0 ns | 20.4 ms | 71.6 ms | 1.09 |")
    assert lines[-1] == "2: 1 µs a message, 1 GB/s each way, 10 GB/s in memory for each process"
    for number, shown in enumerate((data, data | {"measured": []})):
        path = tmp_path / f"{number}.png"
        distributed.draw(shown, machine, path)
        assert path.stat().st_size > 10_000


if __name__ == "__main__":
    from mpi4py.MPI import COMM_WORLD

    for kind in ("fixed", "mpi"):
        check(COMM_WORLD, LISTS["ResNet-50"], kind)
