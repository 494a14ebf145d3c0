"""Each element has one owner, shares begin where tiles do and are of about the same size, buckets are small."""

import itertools

import numpy as np
import pytest

from fusedstep.distributed._layout import TILE, Described, Layout, Part, clusters_of


def described(*shapes: tuple[int, ...], dtype: str = "float32", is_whole: bool = False) -> list[Described]:
    return [Described(i, shape, dtype, "", is_whole) for i, shape in enumerate(shapes)]


def check(layout: Layout, bucket_bytes: int) -> list[int]:
    """How many elements each process has."""
    found: dict[int, list[tuple[int, int]]] = {i: [] for i in range(len(layout.arrays))}
    for part in layout.parts:
        assert_buckets(part, bucket_bytes)
        for own in part.segments:
            for number, begin, end in own:
                assert begin % TILE == 0
                found[number].append((begin, end))
    for number, segments in found.items():
        segments.sort()
        size = layout.arrays[number].size
        assert [begin for begin, _ in segments] == [0, *(end for _, end in segments[:-1])]
        assert segments[-1][1] == size
        assert number not in layout.whole or len(segments) == 1
    return [sum(part.lengths[rank] for part in layout.parts) for rank in range(layout.ranks)]


def assert_buckets(part: Part, bucket_bytes: int) -> None:
    item = np.dtype(part.arithmetic).itemsize
    for rank, own in enumerate(part.segments):
        together = [segment for bucket in part.buckets for segment in bucket[rank]]
        assert sum(end - begin for _, begin, end in together) == part.lengths[rank]
        ends = {number: end for number, _, end in together}
        assert ends == {number: end for number, begin, end in own if begin < end}
    for bucket in part.buckets:
        elements = sum(end - begin for own in bucket for _, begin, end in own)
        assert elements * item <= max(bucket_bytes, TILE * item * len(bucket))


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("bucket_bytes", [1024, 1 << 16, 1 << 22])
def test_shares(ranks: int, bucket_bytes: int) -> None:
    shapes = ((3, 5), (), (0, 4), (70_001,), (1024,), (300, 300), (1,), (2047,))
    for dtype, is_whole in itertools.product(("float32", "float64", "bfloat16"), (False, True)):
        check(Layout(described(*shapes, dtype=dtype, is_whole=is_whole), [], ranks, bucket_bytes), bucket_bytes)
    mixed = [
        a._replace(dtype=("float64", "float16")[i % 2], is_whole=i % 3 == 0) for i, a in enumerate(described(*shapes))
    ]
    check(Layout(mixed, [[1, 3]], ranks, bucket_bytes), bucket_bytes)


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_three_billion_elements(ranks: int) -> None:
    size = 3_000_000_001
    shares = check(Layout(described((size,)), [], ranks, 1 << 26), 1 << 26)
    assert sum(shares) == size
    assert max(shares) - min(shares) <= 2 * TILE


def test_ten_thousand_arrays() -> None:
    shares = check(Layout(described(*[(1000 + i % 50,) for i in range(10_000)]), [], 8, 1 << 22), 1 << 22)
    assert max(shares) < 1.05 * min(shares)
    shares = check(
        Layout(described(*[(1000 + i % 50,) for i in range(10_000)], is_whole=True), [], 8, 1 << 22), 1 << 22
    )
    assert max(shares) < 1.001 * min(shares)


def test_ten_thousand_processes() -> None:
    shares = check(Layout(described((20_000_000,), (50,), (3000, 3000)), [], 10_000, 1 << 22), 1 << 22)
    assert sum(shares) == 29_000_050
    assert max(shares) <= 5 * TILE


def test_arrays_that_share_memory() -> None:
    a, b = np.zeros(100, np.float32), np.zeros(100, np.float32)
    assert clusters_of([a[:50], b, a[40:], a[95:], b[:0]]) == [[0, 2, 3]]
    assert clusters_of([a, b]) == []
