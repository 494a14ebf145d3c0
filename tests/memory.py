"""Arrays as descriptions of where their elements lie, so that a test can lay them out twice: for us and the oracle."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

Array = np.ndarray[Any, Any]

GUARD = 64  # bytes before and after all that a buffer's views reach, which nobody may touch


@dataclass(frozen=True)
class View:
    """An array in a buffer; `at` is its first element's place, in bytes from the buffer's origin."""

    buffer: int
    at: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def item_size(self) -> int:
        return np.dtype(self.dtype).itemsize

    def span(self) -> tuple[int, int]:
        """The lowest byte, and that after the highest."""
        if 0 in self.shape:
            return self.at, self.at
        reaches = [(n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)]
        low, high = sum(min(0, reach) for reach in reaches), sum(max(0, reach) for reach in reaches)
        return self.at + low, self.at + high + self.item_size

    def starts(self) -> Array:
        """The first byte of each element."""
        starts: Array = np.array([self.at])
        for n, stride in zip(self.shape, self.strides, strict=True):
            starts = np.add.outer(starts, stride * np.arange(n)).ravel()
        return starts

    def places(self) -> Array:
        """All bytes of all elements."""
        return np.add.outer(self.starts(), np.arange(self.item_size)).ravel()

    def overlaps_itself(self) -> bool:
        starts = np.sort(self.starts())
        return bool((np.diff(starts) < self.item_size).any())

    def may_overlap(self, other: "View") -> bool:
        (low, high), (other_low, other_high) = self.span(), other.span()
        return self.buffer == other.buffer and low < other_high and other_low < high

    def overlaps(self, other: "View") -> bool:
        return self.may_overlap(other) and bool(np.isin(self.places(), other.places()).any())

    def phases(self) -> set[int]:
        """Where elements lie in a grid of their size."""
        phases = {self.at % self.item_size}
        for n, stride in zip(self.shape, self.strides, strict=True):
            if stride % self.item_size:
                phases = {(phase + i * stride) % self.item_size for phase in phases for i in range(min(n, 16))}
        return phases


def is_punned(views: Iterable[View]) -> bool:
    """Whether one's element may share a part of its bytes with another's, or be read as another type."""
    views = list(views)
    for i, a in enumerate(views):
        for b in views[: i + 1]:
            if a.may_overlap(b) and (a.dtype != b.dtype or len(a.phases() | b.phases()) > 1):
                return True
    return False


PALETTE = (0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e-20, -1e20)


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, special: bool) -> Array:
    """Normal numbers; every other one special if so asked."""
    result: Array = rng.standard_normal(shape).astype(dtype)
    if special:
        info = np.finfo(result.dtype)
        palette = np.array([*PALETTE, info.max, -info.max, info.tiny, info.smallest_subnormal, info.eps], "g")
        chosen = palette[rng.integers(0, len(palette), shape)].astype(dtype)
        result = np.where(rng.random(shape) < 0.5, chosen, result).astype(dtype)
    return result


def canonical(array: Array) -> Array:
    """A copy in which all NaN are the same: which of two operands a NaN is taken from is the compiler's affair."""
    copy: Array = np.array(array, order="C")
    copy[np.isnan(copy)] = np.nan
    return copy


def same_bits(a: Array, b: Array) -> bool:
    """Whether arrays have one type, one shape and the same bits, where all NaN count as the same."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tobytes() == b.tobytes() or canonical(a).tobytes() == canonical(b).tobytes()


class Memory:
    """Buffers of bytes drawn at random, which begin at a cache line and end beyond what the views reach."""

    def __init__(self, views: Iterable[View], rng: np.random.Generator) -> None:
        spans: dict[int, tuple[int, int]] = {}
        for view in views:
            low, high = view.span()
            old_low, old_high = spans.get(view.buffer, (0, 0))
            spans[view.buffer] = min(low, old_low), max(high, old_high)
        self.origins = {buffer: GUARD - low // GUARD * GUARD for buffer, (low, _) in spans.items()}
        self.buffers = {
            buffer: self._placed(rng.bytes(self.origins[buffer] + high + GUARD)) for buffer, (_, high) in spans.items()
        }

    @staticmethod
    def _placed(contents: bytes) -> Array:
        memory: Array = np.empty(len(contents) + GUARD, np.uint8)
        begin = -memory.ctypes.data % GUARD
        memory[begin : begin + len(contents)] = np.frombuffer(contents, np.uint8)
        return memory[begin : begin + len(contents)]

    def copy(self) -> Self:
        copy = object.__new__(type(self))
        copy.origins = self.origins
        copy.buffers = {buffer: self._placed(memory.tobytes()) for buffer, memory in self.buffers.items()}
        return copy

    def array(self, view: View) -> Array:
        at = self.origins[view.buffer] + view.at
        return np.ndarray(view.shape, view.dtype, self.buffers[view.buffer], at, view.strides)

    def contents(self) -> dict[int, bytes]:
        return {buffer: memory.tobytes() for buffer, memory in self.buffers.items()}

    def assert_same(self, expected: "Memory", written: Iterable[View]) -> None:
        """That every byte is as expected, but for which NaN is in the views that were written."""
        if self.contents() == expected.contents():
            return
        ours, theirs = self.copy(), expected.copy()
        for memory in (ours, theirs):
            for view in written:
                array = memory.array(view)
                array[np.isnan(array)] = np.nan
        for buffer, bytes_ in ours.buffers.items():
            np.testing.assert_array_equal(bytes_, theirs.buffers[buffer], err_msg=f"bytes of buffer {buffer}")
