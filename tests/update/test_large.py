"""Arrays of more than 2^31 elements: `pytest -m large`, with 11 GB of free memory, and 47 GB of free disk for all."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import reference

pytestmark = pytest.mark.large

Array = np.ndarray[Any, Any]
EDGE = 2**31
# Divisible by 3 and 7 for batch normalisation, and by no power of 2.
N = (EDGE // 21 + 5001) * 21
BYTES = 4 * N
CHUNK = 7 << 20  # elements that are looked at together
SPARE_MEMORY, SPARE_DISK = 2 << 30, 20 << 30  # for whoever else is on the machine

Needs = Callable[[int, int], None]


@pytest.fixture
def needs(tmp_path: Path) -> Needs:
    """Skips a test for which there is too little memory or, in tmp_path, too little disk (`--basetemp` moves it)."""

    def check(arrays: int, files: int) -> None:
        info = Path("/proc/meminfo")
        if not info.exists():
            pytest.skip("the system doesn't say how much memory is free")
        free = 1024 * int(next(line.split()[1] for line in info.read_text().splitlines() if "MemAvailable" in line))
        if free < arrays * BYTES + SPARE_MEMORY:
            pytest.skip(f"needs {(arrays * BYTES + SPARE_MEMORY) / 1e9:.1f} GB of memory, {free / 1e9:.1f} are free")
        free = shutil.disk_usage(tmp_path).free
        if files and free < files * BYTES + SPARE_DISK:
            pytest.skip(f"needs {(files * BYTES + SPARE_DISK) / 1e9:.1f} GB of disk, {free / 1e9:.1f} are free")

    return check


def file_of_zeros(path: Path) -> Array:
    """An array in a sparse file, which has no name any more, and goes with the array."""
    array: Array = np.memmap(path, np.float32, "w+", shape=(N,))
    path.unlink()
    return array


def places() -> list[slice]:
    """The head, both sides of 2^31 (also in bytes), the tail, and a sample at random."""
    starts = [0, EDGE // 4 - 500, EDGE // 2 - 500, EDGE - 500, N - 1000]
    starts += np.random.default_rng(31).integers(0, N // 1000, 50).tolist()
    return [slice(start, start + 1000) for start in starts[:5]] + [slice(1000 * i, 1000 * i + 64) for i in starts[5:]]


def chunks() -> Iterator[slice]:
    return (slice(begin, min(begin + CHUNK, N)) for begin in range(0, N, CHUNK))


def step_and_compare(
    ours: fs.Optimizer, theirs: reference.Optimizer, w: Array, g: Array, start: float, gradient: float
) -> None:
    """One step of all elements, which have the same value and gradient but for those at the places that are looked at.

    The reference makes the step for those places, and for the one element that all others are like.
    """
    rng = np.random.default_rng(5)
    for place in places():
        w[place] = rng.standard_normal(place.stop - place.start)
        if g.flags.writeable:
            g[place] = rng.standard_normal(place.stop - place.start)
    small = [w[place].copy() for place in places()] + [np.full(1, start, np.float32)]
    small_g = [g[place].copy() for place in places()] + [np.full(1, gradient, np.float32)]
    ours.update(w, g)
    theirs.update(small, small_g)
    for letter, array in {"w": w, **ours.state.get(0, {})}.items():
        expected = [of[letter] for of in theirs.state.values()] if letter != "w" else small
        for place, values in zip(places(), expected, strict=False):
            np.testing.assert_array_equal(array[place], values, strict=True)
        for place in places():
            array[place] = expected[-1]
        wrong = sum(np.count_nonzero(array[chunk] != expected[-1]) for chunk in chunks())
        assert wrong == 0, letter


def test_sgd_with_a_broadcast_gradient(needs: Needs) -> None:
    needs(1, 0)
    g = np.broadcast_to(np.float32(0.3), (N,))
    step_and_compare(fs.SGD(lr=0.7), reference.SGD(lr=0.7), np.zeros(N, np.float32), g, 0.0, 0.3)


def test_momentum_with_its_state_in_a_file(needs: Needs, tmp_path: Path) -> None:
    needs(1, 1)
    ours = fs.Momentum(lr=0.7, weight_decay=0.1)
    ours.state[0] = {"v": file_of_zeros(tmp_path / "v")}
    # The gradient takes no memory where nobody writes to it; weight decay moves the elements there.
    theirs = reference.Momentum(lr=0.7, weight_decay=0.1)
    w, g = np.full(N, 1.5, np.float32), np.zeros(N, np.float32)
    step_and_compare(ours, theirs, w, g, 1.5, 0.0)


def test_adam_in_files(needs: Needs, tmp_path: Path) -> None:
    needs(0, 3)
    ours = fs.Adam()
    ours.state[0] = {letter: file_of_zeros(tmp_path / letter) for letter in ("m", "v")}
    g = np.broadcast_to(np.float32(0.3), (N,))
    step_and_compare(ours, reference.Adam(), file_of_zeros(tmp_path / "w"), g, 0.0, 0.3)


def test_the_mean_of_a_list(needs: Needs) -> None:
    needs(1, 0)
    first = np.full(N, 3, np.float16)  # half as many bytes, as is the result
    for i, place in enumerate(places()):
        first[place] = i % 7
    second = np.broadcast_to(np.float16(1), (N,))
    mean = fs.weighted_mean([first, second], [1, 3])
    for i, place in enumerate(places()):
        np.testing.assert_array_equal(mean[place], np.float16((i % 7 + 3) / 4))
        mean[place] = 1.5
    assert sum(np.count_nonzero(mean[chunk] != 1.5) for chunk in chunks()) == 0


def test_rows_added_to_a_matrix(needs: Needs) -> None:
    needs(1, 0)
    matrix = np.zeros((N // 3, 3), np.float16)
    rows = np.array([0, EDGE // 6, EDGE // 3, len(matrix) - 1, 0])
    fs.add_rows(matrix, rows, np.arange(15, dtype=np.float16).reshape(5, 3))
    expected = [[12, 14, 16], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    np.testing.assert_array_equal(matrix[rows[:4]], expected)
    matrix[rows] = 0
    flat = matrix.reshape(-1)
    assert sum(np.count_nonzero(flat[chunk]) for chunk in chunks()) == 0


@pytest.mark.parametrize(("shape", "axis"), [((1, N), 0), ((N // 3, 3), 1)], ids=["one channel", "three columns"])
def test_batch_norm_in_place(needs: Needs, shape: tuple[int, ...], axis: int) -> None:
    needs(1, 0)
    # Each channel has each of these equally often: mean 3 and variance 4, so y = 2 (x - 3) / 2 + 1.
    pattern = np.tile(np.arange(7, dtype=np.float32), CHUNK // 7)
    flat = np.empty(N, np.float32)
    for chunk in chunks():
        flat[chunk] = pattern[: chunk.stop - chunk.start]
    x, channels = flat.reshape(shape), shape[axis]
    y, mean, inv_std = fs.batch_norm(x, np.full(channels, 2), np.ones(channels), eps=0.0, channel_axis=axis, out=x)
    assert y is x
    # The sums of batch normalisation have 64 additions of float32 at most in a row, see BOUND in batch_norm_cases.py:
    # the mean is off by 1 eps of the largest value, inv_std by 4 eps of itself, y by 3 eps of 2 (1 + 1.5) + 1.
    eps = float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(mean, 3, rtol=0, atol=6 * eps)
    np.testing.assert_allclose(inv_std, 0.5, rtol=4 * eps)
    expected = pattern - 2
    for chunk in chunks():
        np.testing.assert_allclose(flat[chunk], expected[: chunk.stop - chunk.start], rtol=0, atol=18 * eps)


def mask_of_groups(first: int, groups: int, seed: int) -> Array:
    """What reference.dropout_mask has for elements 64 first to 64 (first + groups), rate 0.5 and call 0."""
    numbers = np.arange(8 * first, 8 * (first + groups), dtype=np.uint64)
    counter = np.zeros((4, len(numbers)), np.uint32)
    counter[0], counter[1] = numbers & 0xFFFFFFFF, numbers >> 32
    words = reference.threefry4x32(counter, [seed, 0, 0, 0]).reshape(4, groups, 8).swapaxes(0, 1)
    # At a rate of one half the highest of an element's 32 bits decides.
    mask: Array = np.stack([words & 0x8000, words >> 16 & 0x8000], axis=1).ravel() != 0
    return mask


def test_dropout_in_place(needs: Needs) -> None:
    needs(1, 0)
    np.testing.assert_array_equal(mask_of_groups(0, 10, 9), reference.dropout_mask((640,), 0.5, 9))
    x = np.ones(N, np.float32)
    fs.dropout(x, 0.5, seed=9, out=x)
    for place in places():
        first, groups = place.start // 64, (place.stop - place.start) // 64 + 2
        mask = mask_of_groups(first, groups, 9)[place.start - 64 * first :][: place.stop - place.start]
        np.testing.assert_array_equal(x[place], np.where(mask, np.float32(2), np.float32(0)))
    kept, dropped = (sum(np.count_nonzero(x[chunk] == value) for chunk in chunks()) for value in (2, 0))
    assert kept + dropped == N
    # Six standard deviations of a binomial distribution: one seed in 10^9 would fail, and the seed is fixed.
    assert abs(kept - N / 2) < 6 * (N / 4) ** 0.5
