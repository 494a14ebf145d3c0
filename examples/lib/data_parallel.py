"""Trains one network in several processes, each of which takes its slice of every batch."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import fusedstep as fs
from fusedstep.distributed import Sharded
from lib.loop import batches, scaled
from lib.mnist import CLASSES, Images
from lib.network import Network, Params

HIDDEN_LAYERS = 4


@dataclass(frozen=True)
class Training:
    """The result of a training, on rank 0.

    Attributes:
        ranks: The number of processes.
        losses: The mean loss over all training images, before the training and after each epoch.
        accuracies: The accuracy, from 0 to 1, on the test images, at the same times.
        gradient: The median time of a forward and a backward pass for a slice, in ms.
        update: The median time of `Sharded.update`, in ms, including the wait for the other ranks' gradients.
        state_bytes: The memory of the optimizer's state on each rank.
        params: The parameters at the end.
        same_params: Whether they have the same bits on all ranks.
    """

    ranks: int
    losses: list[float]
    accuracies: list[float]
    gradient: float
    update: float
    state_bytes: list[int]
    params: Params
    same_params: bool


def train(
    comm: Any,
    images: Images,
    *,
    lr: float,
    epochs: int,
    batch_size: int,
    hidden: int,
    dtype: DTypeLike,
    seed: int,
    after_step: Callable[[], Any],
) -> Training:
    """Trains a network by Adam. All processes of the communicator must call this, with equal arguments.

    Arguments:
        comm: A communicator of mpi4py.
        images: The images to train on, and to test on after each epoch.
        lr: The learning rate.
        epochs: How often each image is seen.
        batch_size: The images in a step of all ranks together, a multiple of their number.
        hidden: The units of a hidden layer.
        dtype: float32 or float64.
        seed: For weights and batches, which don't depend on the number of processes.
        after_step: Called after each step.
    """
    rank, ranks = comm.Get_rank(), comm.Get_size()
    share = batch_size // ranks
    mine = slice(rank * share, (rank + 1) * share)
    sizes = [images.x_train.shape[1], *[hidden] * HIDDEN_LAYERS, CLASSES]
    network = Network(sizes, np.random.default_rng(seed), dtype)
    # A rank's gradient is the mean over its slice. All slices have the same size, so that the mean of the ranks'
    # gradients, which mean=True takes, is the mean over the batch.
    adam = fs.Adam(lr)
    sharded = Sharded(adam, comm, mean=True)
    x_train, x_test = (scaled(x, images.scale, dtype) for x in (images.x_train, images.x_test))
    losses: list[float] = []
    accuracies: list[float] = []
    times: list[tuple[float, float]] = []

    def evaluate() -> None:
        if rank == 0:
            losses.append(network.loss(x_train, images.t_train))
            accuracies.append(network.accuracy(x_test, images.t_test))

    order = np.random.default_rng([seed, 1])
    evaluate()
    for _ in range(epochs):
        for batch in batches(len(x_train), batch_size, order):
            rows = batch[mine]
            start = perf_counter()
            _, grads = network.gradient(x_train[rows], images.t_train[rows])
            middle = perf_counter()
            sharded.update(network.params, grads)
            times.append((middle - start, perf_counter() - middle))
            after_step()
        evaluate()
    state_bytes = sum(array.nbytes for arrays in adam.state.values() for array in arrays.values())
    digest = hashlib.sha256(b"".join(w.tobytes() for w in network.params.values())).digest()
    every = comm.allgather((state_bytes, digest))
    gradient, update = 1e3 * np.median(times, axis=0)
    return Training(
        ranks,
        losses,
        accuracies,
        float(gradient),
        float(update),
        [size for size, _ in every],
        network.params,
        len({digest for _, digest in every}) == 1,
    )


def differences(one: Training, other: Training) -> tuple[float, float, float]:
    """The largest differences of two trainings: of the loss after an epoch, of the accuracy, and of the parameters.

    That of the loss is relative to it, that of the parameters to the largest of them.
    """
    losses = np.array([one.losses, other.losses])
    relative = np.ptp(losses, axis=0) / np.maximum(losses.max(axis=0), np.finfo(np.float64).tiny)
    accuracies = np.ptp([one.accuracies, other.accuracies], axis=0)
    largest = max(float(np.abs(w).max()) for w in one.params.values())
    apart = max(float(np.abs(w - other.params[name]).max()) for name, w in one.params.items())
    return float(relative.max()), float(accuracies.max()), apart / largest
