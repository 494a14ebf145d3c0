"""The memory of results that died: taken by new ones, up to a limit."""

import gc
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import _native

ROWS, CHANNELS = 1000, 1024
BYTES = 4 * ROWS * CHANNELS  # of a result
ROOM = BYTES + 3 * 65536  # that it may take


@pytest.fixture(autouse=True)
def _limit() -> Iterator[None]:
    limit = _native.get_buffer_cache()
    fs.set_buffer_cache(0)
    fs.set_buffer_cache(limit)
    yield
    fs.set_buffer_cache(0)
    fs.set_buffer_cache(limit)


def batch(seed: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal((ROWS, CHANNELS)).astype(dtype)


def result(x: Any) -> Any:
    return fs.batch_norm(x, np.ones(x.shape[1]), np.zeros(x.shape[1]))[0]


def test_a_new_result_takes_the_memory_of_a_dead_one() -> None:
    x, other = batch(1), batch(2)
    expected = result(other).copy()
    gc.collect()
    y = result(x)
    place = y.ctypes.data // 65536
    del y
    again = result(other)
    assert abs(again.ctypes.data // 65536 - place) <= 1
    np.testing.assert_array_equal(again, expected)


def test_live_results_and_their_views_keep_their_memory() -> None:
    batches = [batch(seed) for seed in range(4)]
    results = [result(x) for x in batches]
    copies = [y.copy() for y in results]
    for i, y in enumerate(results):
        assert not any(np.shares_memory(y, z) for z in results[:i])
    views = [y[::2, 5:] for y in results]
    del y, results
    more = [result(x + 1) for x in batches]
    for view, copy in zip(views, copies, strict=True):
        np.testing.assert_array_equal(view, copy[::2, 5:])
        assert not any(np.shares_memory(view, z) for z in more)


def kept_bytes(limit: int, results: int) -> int:
    fs.set_buffer_cache(limit)
    x = batch(1)
    tracemalloc.start()
    try:
        alive = [result(x) for _ in range(results)]
        alive.clear()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("limit", "kept"), [(0, 0), (BYTES // 2, 0), (ROOM, 1), (2 * ROOM, 2), (10 * ROOM, 3)])
def test_what_is_kept_stays_below_the_limit(limit: int, kept: int) -> None:
    assert kept * BYTES <= kept_bytes(limit, 3) <= kept * ROOM + 65536


def test_a_smaller_limit_frees_what_is_kept() -> None:
    fs.set_buffer_cache(10 * ROOM)
    x = batch(1)
    tracemalloc.start()
    try:
        result(x)
        before = tracemalloc.get_traced_memory()[0]
        fs.set_buffer_cache(0)
        assert before - tracemalloc.get_traced_memory()[0] >= BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("order", ["C", "F", "transposed"])
def test_results_lie_as_their_input(order: str, dtype: Any) -> None:
    x = np.random.default_rng(1).standard_normal((20, 30, 40, 50)).astype(dtype)
    x = x.transpose(2, 0, 3, 1) if order == "transposed" else np.asarray(x, order=order)  # type: ignore[call-overload]
    y = result(x)
    assert (y.shape, y.dtype, y.strides) == (x.shape, x.dtype, x.strides)
    assert y.flags.writeable
    assert y.ctypes.data % 64 == 0
    assert (y.flags.c_contiguous, y.flags.f_contiguous) == (x.flags.c_contiguous, x.flags.f_contiguous)


def test_results_of_many_threads() -> None:
    batches = [batch(seed) for seed in range(4)]
    expected = [result(x).copy() for x in batches]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(20) if not np.array_equal(result(batches[i]), expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_sizes_that_are_none() -> None:
    with pytest.raises(ValueError, match="-1, expected 0 or more bytes"):
        fs.set_buffer_cache(-1)
    with pytest.raises(TypeError, match="expected an integer"):
        fs.set_buffer_cache(1.5)  # type: ignore[arg-type]


SHORT = """
import resource
import numpy as np
import fusedstep as fs

MIB = 1 << 20
x, large = np.ones((24 * MIB // 8, 8)), np.ones({size} * MIB // 8)
kept = [fs.dropout(x, 0.5, seed=1) for _ in range(2)]
del kept  # 384 MiB that are kept for other results
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 64 * MIB,) * 2)
{call}
"""
CALLS = {
    "state": "fs.Momentum().update(large, np.broadcast_to(0.5, large.shape))",
    "strided state": "fs.Momentum().update(large[::2], np.broadcast_to(0.5, large[::2].shape))",
    "a result of another size": "fs.dropout(large, 0.5, seed=1)",
}


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS, which Linux enforces")
@pytest.mark.parametrize("name", CALLS)
def test_where_memory_is_short_what_is_kept_is_given_up(name: str) -> None:
    code = SHORT.format(size=256 if name == "strided state" else 128, call=CALLS[name])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
