"""Trains a network on handwritten digits by data parallelism, and compares 1, 2 and 4 ranks.

    mpiexec -n 4 python examples/digits_mpi.py

Each rank computes the gradient of its slice of every batch, and `fusedstep.distributed.Sharded` adds the gradients up,
makes each rank's share of the step by Adam, and distributes the new parameters. The trainings follow each other, on as
many of 1, 2 and 4 ranks as MPI has started; all of them have the same initial weights and the same batches. The network
is that of digits.py without batch normalisation, whose statistics would have to be those of the whole batch. Prints a
table and draws a picture.
"""

from lib.command_line import Parser, main, whole

# isort: split
import argparse
import os
import sys
import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import fusedstep as fs
from lib import data
from lib.data_parallel import HIDDEN_LAYERS, Training, differences, train
from lib.mnist import Images

LR = 0.002
RANKS = (1, 2, 4)

NEEDS_MPI = 'digits_mpi.py needs MPI: pip install ".[examples,mpi]", then mpiexec -n 2 python examples/digits_mpi.py'
WHY = """\
The curves are the same up to rounding: each rank adds up the gradients of its slice of a batch before the ranks' sums
are added, so the number of ranks decides in which order a batch is added up, and training carries the differences on.
Parameters have the same bits on all ranks of a training. A difference of 0 is none; those of loss and parameters are
relative."""
SLOW = "{ranks} ranks share {cores}: the time of their steps is no measure of what a core each would give."


def _options() -> argparse.Namespace:
    parser = Parser(__doc__, "digits_mpi.png")
    parser.add_argument(
        "--epochs", type=whole(1, 10_000), default=50, help="passes over the training images (default: 50)"
    )
    parser.add_argument("--hidden", type=whole(1, 4096), default=100, help="units of a hidden layer (default: 100)")
    parser.add_argument(
        "--batch-size",
        type=whole(1, 1_000_000),
        default=100,
        help="images in a step of all ranks together, a multiple of their number (default: 100)",
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64", help="default: float64")
    return parser.parse_args()


def _wait_for_all(world: Any) -> None:
    """A barrier that sleeps: MPI's own barrier polls, which takes a core from the ranks that still train."""
    request = world.Ibarrier()
    while not request.Test():
        time.sleep(0.01)


def _prepare(world: Any, most: int) -> tuple[argparse.Namespace, Images]:
    """Options and images, which rank 0 reads for all. If it can't, it alone says why, and all ranks exit."""
    prepared: tuple[argparse.Namespace, Images] | None = None
    try:
        if world.Get_rank() == 0:
            options = _options()
            # Here, not above: it takes a second, in which Ctrl-C would end in a traceback; and before the training,
            # which would be lost if Matplotlib were missing.
            import lib.data_parallel_picture  # noqa: F401

            images = data.images()
            if options.batch_size > len(images.x_train):
                raise ValueError(
                    f"--batch-size {options.batch_size} is more than the {len(images.x_train)} training images"
                )
            if options.batch_size % most:
                raise ValueError(f"--batch-size {options.batch_size} is not a multiple of {most}, the number of ranks")
            prepared = options, images
    finally:
        prepared = world.bcast(prepared)
    if prepared is None:
        sys.exit()
    return prepared


def _table(trainings: list[Training]) -> str:
    head = (
        f"{'ranks':5}{'loss':>8}{'test':>7} |{'gradient':>9}{'update':>9}{'both':>9} |{'of a rank':>10}{'of all':>9} |"
        f"{'loss':>10}{'test':>8}{'parameters':>13}"
    )
    groups = f"{'':21}|{'ms in a step':^28}|{'state in KB':^20}|{'largest difference from 1 rank':^32}"
    lines = [groups.rstrip(), head, "-" * len(head)]
    for t in trainings:
        loss, test, params = differences(trainings[0], t)
        lines.append(
            f"{t.ranks:<5}{t.losses[-1]:8.1e}{t.accuracies[-1]:7.1%} |"
            f"{t.gradient:9.2f}{t.update:9.2f}{t.gradient + t.update:9.2f} |"
            f"{max(t.state_bytes) / 1e3:10.0f}{sum(t.state_bytes) / 1e3:9.0f} |"
            f"{loss:10.1g}{test:8.1%}{params:13.1g}"
        )
    return "\n".join(lines)


def _report(trainings: list[Training], options: argparse.Namespace, images: Images) -> None:
    from lib.data_parallel_picture import draw

    if not all(t.same_params for t in trainings):
        raise ValueError("the parameters should have the same bits on all ranks")
    count, pixels = images.x_train.shape
    task = (
        f"{count} handwritten digits of {pixels} pixels, batches of {options.batch_size}, {HIDDEN_LAYERS} hidden "
        f"layers of {options.hidden} units, {options.dtype}"
    )
    number = os.cpu_count() or 1
    cores = f"{number} core{'s' if number > 1 else ''}"
    print(f"{task}, {options.epochs * (count // options.batch_size)} iterations")
    print(f"NumPy {np.__version__}; fusedstep {fs.__version__}, {fs.isa()}; {cores}, one thread per rank\n")
    print(f"{_table(trainings)}\n\n{WHY}")
    if len(trainings) > 1:
        found = (differences(trainings[0], t) for t in trainings[1:])
        loss, test, params = (max(each) for each in zip(*found, strict=True))
        print(f"Largest differences: loss {loss:.1g}, test accuracy {test:.1%}, parameters {params:.1g}.")
    if trainings[-1].ranks > number:
        print(SLOW.format(ranks=trainings[-1].ranks, cores=cores))
    if len(trainings) < len(RANKS):
        print("For 1, 2 and 4 ranks: mpiexec -n 4 python examples/digits_mpi.py")
    draw(trainings, options.out, f"{task}; {cores}, one thread per rank")


def _run() -> None:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):  # RuntimeError: mpi4py is there, a library of MPI is not
        _options()  # --help works without
        sys.exit(NEEDS_MPI)
    world = MPI.COMM_WORLD
    rank = world.Get_rank()
    ranks = tuple(count for count in RANKS if count <= world.Get_size())
    options, images = _prepare(world, ranks[-1])
    iterations = options.epochs * (len(images.x_train) // options.batch_size)
    trainings = []
    # The ranks of a machine share its cores: a second thread in each would take a core from another rank, for which
    # all ranks then wait.
    fs.set_num_threads(1)
    with (
        threadpool_limits(1),
        tqdm(total=len(ranks) * iterations, unit="it", smoothing=0, disable=rank > 0) as bar,
    ):
        for count in ranks:
            bar.set_description(f"{count} rank{'s' if count > 1 else ''}")
            comm = world.Split(0 if rank < count else MPI.UNDEFINED, rank)
            if rank < count:
                trainings.append(
                    train(
                        comm,
                        images,
                        lr=LR,
                        epochs=options.epochs,
                        batch_size=options.batch_size,
                        hidden=options.hidden,
                        dtype=options.dtype,
                        seed=options.seed,
                        after_step=bar.update,
                    )
                )
                comm.Free()
            _wait_for_all(world)
    if rank == 0:
        _report(trainings, options, images)


if __name__ == "__main__":
    sys.exit(main(_run))
