"""Whether views share memory, against the addresses of all their elements."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from numpy.typing import NDArray

import fusedstep as fs
from strategies import share

Array = NDArray[Any]

STEPS = st.integers(-24, 24)  # of half an element, so that elements may overlap in part


def view_of(buffer: Array, start: int, shape: tuple[int, ...], steps: list[int]) -> Array:
    """Of float32, somewhere in a buffer of bytes; steps and start count pairs of bytes."""
    flat = buffer[2 * start : 2 * start + 4].view(np.float32)
    return as_strided(flat, shape, [2 * step for step in steps])


def addresses(view: Array) -> Array:
    starts = [
        view.__array_interface__["data"][0] + sum(i * s for i, s in zip(index, view.strides, strict=True))
        for index in np.ndindex(*view.shape)
    ]
    return np.array(starts, np.int64)


def overlaps_itself(view: Array) -> bool:
    starts = np.sort(addresses(view))
    return bool((np.diff(starts) < 4).any())


def shared(a: Array, b: Array) -> bool:
    apart = np.subtract.outer(addresses(a), addresses(b))
    return bool((np.abs(apart) < 4).any())


@share(0.5)
@given(st.data())
def test_views_that_share_memory_are_refused_and_no_others(data: st.DataObject) -> None:
    buffer = np.zeros(4000, np.uint8)
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3), "shape"))
    draw_steps = st.lists(STEPS, min_size=len(shape), max_size=len(shape))
    w, v = (view_of(buffer, 900 + data.draw(st.integers(0, 60)), shape, data.draw(draw_steps)) for _ in range(2))
    g = np.ones(shape, np.float32)

    def step() -> None:
        fs.step("momentum", {"w": w}, {"w": g}, {"w": {"v": v}}, t=1, lr=0.5, momentum=0.5)

    if overlaps_itself(w) or overlaps_itself(v):
        with pytest.raises(ValueError, match="elements that share memory"):
            step()
        assert not buffer.any()
    elif shared(w, v):
        with pytest.raises(ValueError, match="shares memory with"):
            step()
        assert not buffer.any()
    else:
        step()
        np.testing.assert_array_equal(w, np.full(shape, -0.5, np.float32))


def rows_apart(n: int, step: int) -> Array:
    """Of n rows of n elements, which would be apart if the rows began `step` elements from each other."""
    return as_strided(np.zeros(n * step + n), (n, n), (8 * step, 8))


# To write the addresses of all elements down would take seconds and gigabytes, or more than there is.
HUGE: dict[str, tuple[Callable[[], Any], bool]] = {
    "windows": (lambda: sliding_window_view(np.zeros(100_000), 1000, writeable=True), True),
    "windows of windows": (lambda: sliding_window_view(np.zeros((800, 800)), (30, 30), writeable=True), True),
    "every second window": (lambda: sliding_window_view(np.zeros(100_000), 1000, writeable=True)[::2], True),
    "windows side by side": (lambda: sliding_window_view(np.zeros(100_000), 100, writeable=True)[::100], False),
    "rows that share one element": (lambda: rows_apart(2000, 1999), True),
    "rows side by side": (lambda: rows_apart(2000, 2000), False),
    "turned and reversed": (lambda: np.zeros((600, 700, 2)).transpose(2, 0, 1)[:, ::-2, ::3], False),
    "prime steps": (lambda: as_strided(np.zeros(10_000_000), (1000, 1000), (8 * 1009, 8 * 1013)), False),
    "prime steps that meet": (lambda: as_strided(np.zeros(10_000_000), (1014, 1010), (8 * 1009, 8 * 1013)), True),
}


@pytest.mark.parametrize("name", HUGE)
def test_large_views_are_refused_and_accepted_at_once(name: str) -> None:
    make, overlaps = HUGE[name]
    w = make()
    g = as_strided(np.ones(1), w.shape, [0] * w.ndim)
    if overlaps:
        with pytest.raises(ValueError, match="elements that share memory"):
            fs.SGD().update(w, g)
    else:
        fs.SGD().update(w, g)
        assert (w == w.flat[0]).all()
        assert w.flat[0] != 0
