"""Which elements of which arrays belong to which process, and in which pieces they travel."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

TILE = 1024  # elements of one array whose squares are added up together, as in csrc/core

# Elements from one number to another of an array, by its number, in row-major order.
Segment: TypeAlias = tuple[int, int, int]


class Described(NamedTuple):
    """What the layout follows from: the same in all processes."""

    key: Any
    shape: tuple[int, ...]
    dtype: str
    copy: str  # the type of the copy, if there is one
    is_whole: bool  # a step of one element depends on others

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def arithmetic(self) -> str:
        """The type that is computed in."""
        return "float64" if self.dtype == "float64" else "float32"


class Part:
    """Arrays whose gradients are added up and whose new values are sent together.

    Attributes:
        arithmetic: The type of the sums.
        segments: The segments of each process.
        buckets: What travels at a time: for each process, a list of segments.
    """

    def __init__(self, arithmetic: str, segments: list[list[Segment]], longest: int) -> None:
        self.arithmetic = arithmetic
        self.segments = segments
        self.lengths = [sum(end - begin for _, begin, end in own) for own in segments]
        self.buckets = [
            [_cut(own, begin, begin + longest) for own in segments] for begin in range(0, max(self.lengths), longest)
        ]


class Layout:
    """The shares of all processes.

    Arrays are cut at the beginnings of tiles. Where a step of an element depends on others of its array, or where
    arrays share memory, one process has them as a whole.
    """

    def __init__(self, arrays: Sequence[Described], clusters: list[list[int]], ranks: int, bucket_bytes: int) -> None:
        self.arrays = list(arrays)
        self.ranks = ranks
        self.parts: list[Part] = []
        self.whole: set[int] = set()  # arrays that aren't cut
        alone = {i for cluster in clusters for i in cluster}
        loads = [0] * ranks
        for arithmetic in ("float32", "float64"):
            most = max(1, bucket_bytes // np.dtype(arithmetic).itemsize)
            longest = max(TILE, most // ranks)
            numbers = [i for i, array in enumerate(arrays) if array.arithmetic == arithmetic and i not in alone]
            split = [i for i in numbers if not arrays[i].is_whole and arrays[i].size > 0]
            for together in _grouped(split, [array.size for array in arrays], most):
                self.parts.append(Part(arithmetic, self._shares(together), longest))
            units = [[i] for i in sorted(set(numbers) - set(split))]
            units += [cluster for cluster in clusters if arrays[cluster[0]].arithmetic == arithmetic]
            self.whole.update(i for unit in units for i in unit)
            self.parts += [Part(arithmetic, own, longest) for own in self._whole(sorted(units), loads, longest)]

    def owners(self) -> list[dict[int, tuple[int, int]]]:
        """The processes that own elements of each array, from one to another."""
        found: list[dict[int, tuple[int, int]]] = [{} for _ in self.arrays]
        for part in self.parts:
            for rank, own in enumerate(part.segments):
                for number, begin, end in own:
                    found[number][rank] = begin, end
        return found

    def _shares(self, numbers: list[int]) -> list[list[Segment]]:
        """Arrays one behind the other, cut into nearly equal parts."""
        ends = [*itertools.accumulate(self.arrays[i].size for i in numbers)]
        shares: list[list[Segment]] = [[] for _ in range(self.ranks)]
        cuts = [ends[-1] * rank // self.ranks for rank in range(self.ranks + 1)]
        for number, end in zip(numbers, ends, strict=True):
            size = self.arrays[number].size
            # Rounded to tiles of this array.
            places = [min(max(0, (cut - (end - size) + TILE // 2) // TILE * TILE), size) for cut in cuts[1:-1]]
            for rank, (begin, stop) in enumerate(itertools.pairwise((0, *places, size))):
                if begin < stop:
                    shares[rank].append((number, begin, stop))
        return shares

    def _whole(self, units: list[list[int]], loads: list[int], longest: int) -> list[list[list[Segment]]]:
        """Arrays that aren't cut, the largest first to the process that has least, then in parts."""
        queues: list[list[list[int]]] = [[] for _ in range(self.ranks)]
        sizes = {id(unit): sum(self.arrays[i].size for i in unit) for unit in units}
        for unit in sorted(units, key=lambda unit: -sizes[id(unit)]):
            rank = min(range(self.ranks), key=lambda rank: loads[rank])
            loads[rank] += max(1, sizes[id(unit)])
            queues[rank].append(unit)
        parts: list[list[list[Segment]]] = []
        for queue in queues:
            queue.sort()
        while any(queues):
            part: list[list[Segment]] = []
            for queue in queues:
                own: list[Segment] = []
                length = 0
                while queue and (not own or length < longest):
                    unit = queue.pop(0)
                    length += sizes[id(unit)]
                    own += [(i, 0, self.arrays[i].size) for i in unit]
                part.append(own)
            parts.append(part)
        return parts


def _grouped(numbers: list[int], sizes: list[int], most: int) -> list[list[int]]:
    """Consecutive arrays, as many as make up a bucket."""
    groups: list[list[int]] = []
    room = 0
    for number in numbers:
        if room <= 0:
            groups.append([])
            room = most
        groups[-1].append(number)
        room -= sizes[number]
    return groups


def _cut(segments: list[Segment], begin: int, end: int) -> list[Segment]:
    """The elements from begin to end of segments one behind the other."""
    found: list[Segment] = []
    at = 0
    for number, first, last in segments:
        low, high = max(first, first + begin - at), min(last, first + end - at)
        if low < high:
            found.append((number, low, high))
        at += last - first
    return found


def clusters_of(arrays: Sequence[NDArray[Any]]) -> list[list[int]]:
    """The numbers of arrays that may share memory with each other, directly or by way of others."""
    bounds = sorted((*np.lib.array_utils.byte_bounds(array), i) for i, array in enumerate(arrays) if array.size)
    clusters: list[list[int]] = []
    reach = -1
    for begin, end, i in bounds:
        if begin >= reach:
            clusters.append([])
        clusters[-1].append(i)
        reach = max(reach, end)
    return [sorted(cluster) for cluster in clusters if len(cluster) > 1]
