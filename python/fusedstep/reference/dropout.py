"""Dropout and its random numbers."""

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.floating[Any]]]

_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))


def threefry4x32(counter: Any, key: Any, rounds: int = 13) -> Any:
    """Threefry-4x32 (Salmon et al. 2011): four random uint32 for each counter.

    Arguments:
        counter: uint32 of shape (4, n).
        key: Four uint32.
        rounds: The published default is 20; 13 mix well enough for dropout.

    Returns:
        uint32 of shape (4, n).
    """
    keys = np.zeros((5, 1), np.uint32)
    keys[:4, 0] = key
    keys[4] = np.bitwise_xor.reduce(keys[:4, 0]) ^ np.uint32(0x1BD11BDA)
    words = np.array(counter, np.uint32) + keys[:4]
    for r in range(rounds):
        # The two pairs that are mixed: words 0 and 1, 2 and 3 in one round, 0 and 3, 2 and 1 in the next.
        for x, y, by in zip((0, 2), (1, 3) if r % 2 == 0 else (3, 1), _ROTATIONS[r % 8], strict=True):
            words[x] += words[y]
            words[y] = words[y] << by | words[y] >> (32 - by)
            words[y] ^= words[x]
        if r % 4 == 3:
            k = r // 4 + 1
            words += keys[[(k + i) % 5 for i in range(4)]]
            words[3] += np.uint32(k)
    return words


def random_halves(size: int, key: tuple[int, int], third: int, fourth: int = 0) -> Any:
    """16 random bits for each element, as uint32.

    Elements come in groups of 64, from 8 counters each: first the lower halves of the counters' first words, of their
    second words ..., then the upper halves. A counter is its number, in two words, and two words more; the key is two
    numbers of 64 bits.
    """
    groups = -(-size // 64)
    numbers = np.arange(8 * groups, dtype=np.uint64)
    counter = np.zeros((4, len(numbers)), np.uint32)
    counter[0], counter[1], counter[2], counter[3] = numbers & 0xFFFFFFFF, numbers >> 32, third, fourth
    words = threefry4x32(counter, [half for number in key for half in (number & 0xFFFFFFFF, number >> 32)])
    words = words.reshape(4, groups, 8).swapaxes(0, 1)
    return np.stack([words & 0xFFFF, words >> 16], axis=1).ravel()[:size]


def dropout_mask(shape: Any, rate: float, seed: int, call: int = 0) -> Any:
    """The elements that fusedstep.dropout keeps, as an array of bool.

    The key of the generator is (seed, call); the counters' third word is 0 for the upper 16 bits of an element's 32
    random bits, and 1 for the lower 16.
    """
    upper, lower = (random_halves(math.prod(shape), (seed, call), part) for part in (0, 1))
    return ((upper << 16 | lower) >= min(round(rate * 2**32), 2**32 - 1)).reshape(shape)


def dropout(x: Array, rate: float = 0.5, *, seed: int, call: int = 0) -> Array:
    """See fusedstep.dropout."""
    t = x.dtype.type
    if rate > 1 - 2**-16:
        rate = min(round(rate * 2**32), 2**32 - 1) / 2**32
    y: Array = x * np.where(dropout_mask(x.shape, rate, seed, call), t(1 / (1 - rate)), t(0))
    return y


class Dropout:
    """See fusedstep.Dropout."""

    def __init__(self, rate: float = 0.5, seed: int = 0) -> None:
        self.rate = rate
        self.seed = seed
        self.calls: int = 0

    def forward(self, x: Array, training: bool = True) -> Array:
        """Drops a part of x in training."""
        if not training:
            return x
        self.saved: dict[str, Any] = {"rate": self.rate, "seed": self.seed, "call": self.calls}
        self.calls += 1
        return dropout(x, **self.saved)

    def backward(self, dout: Array) -> Array:
        """The gradient of the last forward pass in training."""
        return dropout(dout, **self.saved)
