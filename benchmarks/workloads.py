"""What is measured: rules, sizes of arrays, shapes of batch normalisation; and the bytes that they have to move."""

import os
from functools import cache
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Shapes: TypeAlias = list[tuple[int, ...]]

# Names of rows.
BOOK, IN_PLACE, OURS, LIMIT = "NumPy (book)", "NumPy (in place)", "fusedstep", "limit"
OURS_OUT = "fusedstep (out=)"

# The rules, with the letters of their states.
RULES: dict[str, tuple[str, ...]] = {
    "SGD": (),
    "Momentum": ("v",),
    "Nesterov": ("v",),
    "AdaGrad": ("h",),
    "RMSProp": ("h",),
    "Adam": ("m", "v"),
    "AdamW": ("m", "v"),
}
# With a constant gradient of this size at least (see `values`) and this learning rate, a million steps move a weight by
# less than 1e6 and leave every moment between 1e-4 and 1e7: no step meets an overflow or a subnormal number.
LR = 0.01
MOMENTUM, DECAY, BETA1, BETA2, WEIGHT_DECAY, EPS = 0.9, 0.99, 0.9, 0.999, 0.01, 1e-8

SIZES = (1_000, 30_000, 500_000, 10_000_000, 40_000_000)


def _dense(*widths: int) -> Shapes:
    return [shape for i, o in pairwise(widths) for shape in ((i, o), (o,))]


def _resnet() -> Shapes:
    """Convolutions (without bias) and normalisations of ResNet-50, its classifier: 25.6 million parameters."""
    shapes: Shapes = [(64, 3, 7, 7), (64,), (64,)]
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            convolutions = [(width, inputs, 1), (width, width, 3), (4 * width, width, 1)]
            if block == 0:
                convolutions.append((4 * width, inputs, 1))
            for o, i, side in convolutions:
                shapes += [(o, i, side, side), (o,), (o,)]
            inputs = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


# Lists of arrays that one update goes through.
LISTS: dict[str, Shapes] = {
    "200 x 1000": [(1000,)] * 200,
    "784-100x4-10": _dense(784, 100, 100, 100, 100, 10),
    "ResNet-50": _resnet(),
}

# Weights and biases of two small networks of PyTorch's, 17-64-64-6 and 17-64-64-1: an actor and a critic.
SMALL_TENSORS: Shapes = [
    shape for last in (6, 1) for o, i in ((64, 17), (64, 64), (last, 64)) for shape in ((o, i), (o,))
]

# What whole steps go through: a network of the book's, those two, and arrays out of the cache.
WHOLE_STEPS: dict[str, Shapes] = {
    "784-100x4-10": LISTS["784-100x4-10"],
    "actor-critic": SMALL_TENSORS,
    "ResNet-50": LISTS["ResNet-50"],
    "40000000": [(40_000_000,)],
}

# Shapes of batch normalisation, with their channel axes.
NORMS: dict[str, tuple[tuple[int, ...], int]] = {
    "(100, 100)": ((100, 100), 1),
    "(128, 1024)": ((128, 1024), 1),
    "(8192, 1024)": ((8192, 1024), 1),
    "(32, 64, 28, 28)": ((32, 64, 28, 28), 1),
    "(64, 256, 56, 56)": ((64, 256, 56, 56), 1),
    "(64, 56, 56, 256)": ((64, 56, 56, 256), 3),
}

# Hidden layers of the book's batch-normalised network, with the size of a batch.
NETWORKS: dict[str, tuple[list[int], int]] = {"[100] * 5": ([100] * 5, 100), "[1000] * 3": ([1000] * 3, 128)}

# One thread, and all that the process may use.
THREADS = tuple(sorted({1, len(os.sched_getaffinity(0))}))

# A prime, so that its repetitions are out of step with every chunk, vector and page.
_PERIOD = 100_003


def values(size: int, dtype: Any, seed: int) -> Array:
    """Numbers of either sign, from 0.5 to 1.5 in size, that repeat so that a small oracle checks them all."""
    return np.resize(_block(seed).astype(dtype), size)


@cache
def _block(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    block: Array = rng.uniform(0.5, 1.5, _PERIOD) * rng.choice((-1.0, 1.0), _PERIOD)
    return block


def arrays(shapes: Shapes, dtype: Any, seed: int) -> list[Array]:
    """Arrays of `values`."""
    return [values(int(np.prod(shape)), dtype, seed).reshape(shape) for shape in shapes]


def assert_periodic_close(actual: Array, block: Array, tolerance: float) -> None:
    """actual is block, a period or all of it, over and over, within an absolute tolerance; with 0 to the bit."""
    flat = actual.reshape(-1)
    for begin in range(0, flat.size, _PERIOD):
        part = flat[begin : begin + _PERIOD]
        if tolerance == 0:
            np.testing.assert_array_equal(part, block[: part.size], strict=True)
        else:
            np.testing.assert_allclose(part, block[: part.size], rtol=0, atol=tolerance)


def first_period(array: Array) -> Array:
    """A copy of what repeats in an array of `values`."""
    return array.reshape(-1)[:_PERIOD].copy()


def refill(arrays: list[Array], block: Array) -> None:
    """Puts the block of `first_period` into all arrays again."""
    for array in arrays:
        flat = array.reshape(-1)
        whole = flat.size // _PERIOD * _PERIOD
        flat[:whole].reshape(-1, _PERIOD)[...] = block[:_PERIOD] if whole else 0
        flat[whole:] = block[: flat.size - whole]


def threads_text(n: int) -> str:
    """A number of threads in words."""
    return "1 thread" if n == 1 else f"{n} threads"


def elements(shapes: Shapes) -> int:
    """How many numbers the arrays have."""
    return sum(int(np.prod(shape)) for shape in shapes)


def update_bytes(rule: str, shapes: Shapes, dtype: Any) -> int:
    """What an update moves at least: weights and states read and written, gradients read."""
    size = elements(shapes)
    state = np.promote_types(dtype, np.float32)
    return size * (3 * int(np.dtype(dtype).itemsize) + 2 * len(RULES[rule]) * state.itemsize)


def whole_step_bytes(shapes: Shapes) -> int:
    """What a whole step in float32 moves at least: Adam's 28, 4 for the norm, 8 for the average, 4 for the zeros."""
    return update_bytes("Adam", shapes, np.float32) + 16 * elements(shapes)


def small(size: int) -> int:
    """The size for a run that measures nothing."""
    return min(size, 3 * _PERIOD)
