"""What test_mpi.py starts in two processes: ResNet-50's list of arrays, every rule."""

import numpy as np
from mpi4py import MPI

import fusedstep as fs
from cases import ROWS
from fusedstep.distributed import Sharded
from memory import same_bits
from sharded_cases import bytes_of

SHAPES: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
inputs = 64
for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
    for block in range(blocks):
        convolutions = [(width, inputs, 1), (width, width, 3), (4 * width, width, 1)]
        if block == 0:
            convolutions.append((4 * width, inputs, 1))
        SHAPES += [shape for o, i, side in convolutions for shape in ((o, i, side, side), (o,), (o,))]
        inputs = 4 * width
SHAPES += [(1000, 2048), (1000,)]

comm = MPI.COMM_WORLD
fs.set_num_threads(1)
rng = np.random.default_rng(0)
numbers = [rng.standard_normal(size).astype(np.float32) for size in (3_000_000, 3_000_001)]


def arrays(source: int, factor: float) -> list[np.ndarray]:
    return [numbers[source][i : i + int(np.prod(s))].reshape(s) * np.float32(factor) for i, s in enumerate(SHAPES)]


every = [arrays(0, 0.01), arrays(1, 0.02)]
sums = [a + b for a, b in zip(*every, strict=True)]
for row in ROWS:
    alone, optimizer = row.optimizer(), row.optimizer()
    sharded = Sharded(optimizer, comm)
    theirs, ours = arrays(1, 0.05), arrays(1, 0.05)
    alone.update(theirs, sums, scale=0.5)
    sharded.update(ours, every[comm.Get_rank()])
    assert all(same_bits(a, b) for a, b in zip(ours, theirs, strict=True)), row.optimizer
    share, whole = bytes_of(optimizer.state), bytes_of(alone.state)
    assert share <= 0.51 * whole or whole == 0, (row.optimizer, share / whole)
print("right", flush=True)
