"""The sums of gradients and new parameters of one layout."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusedstep import _native
from fusedstep.distributed._layout import TILE, Layout, Part
from fusedstep.distributed._transfers import Buffers, Gathering, Reduction, gather_all
from fusedstep.distributed.communicators import Communicator

_DEPTH = 2  # transfers under way at a time


class Shares:
    """A layout, with the sums of this process' share of the gradients.

    Arguments:
        comm: What connects the processes.
        kind: How gradients are added up.
        layout: The shares of all processes.
    """

    def __init__(self, comm: Communicator, kind: Literal["fixed", "mpi"], layout: Layout) -> None:
        self.layout = layout
        self.rank = comm.Get_rank()
        self.sums = [np.empty(part.lengths[self.rank], part.arithmetic) for part in layout.parts]
        self.wires: list[Any] = []  # the types in which gradients travel, of each part
        self._comm, self._kind = comm, kind
        self._buffers = Buffers()
        self._gatherings: deque[Gathering] = deque()

    def start_gathering(self, part: Part, arrays: Sequence[NDArray[Any] | None]) -> None:
        """Sends what this process owns of arrays, and takes what the others do."""
        for pieces in part.buckets if self.layout.ranks > 1 else ():
            self._gatherings.append(Gathering(self._comm, self._buffers, pieces, arrays))
            if len(self._gatherings) > _DEPTH:
                self._gatherings.popleft().finish()

    def finish_gathering(self) -> None:
        """Waits until all arrays are what they are everywhere."""
        while self._gatherings:
            self._gatherings.popleft().finish()

    def reduce(self, grads: list[NDArray[Any] | None], finish: Callable[[int], None] | None) -> None:
        """Adds up all gradients; calls finish for each part, in their order, when its sums are complete."""
        started: deque[tuple[Reduction, NDArray[Any]]] = deque()
        ends: deque[tuple[int, int]] = deque()  # parts, and how many reductions precede their ends
        count = done = 0

        def complete() -> None:
            while finish is not None and ends and ends[0][1] <= done:
                finish(ends.popleft()[0])

        for number, part in enumerate(self.layout.parts):
            sums, at = self.sums[number], 0
            for pieces in part.buckets:
                wire = self.wires[number]
                reduction = Reduction(self._comm, self._kind, self._buffers, pieces, grads, wire)
                length = sum(end - begin for _, begin, end in pieces[self.rank])
                started.append((reduction, sums[at : at + length]))
                at += length
                count += 1
                if len(started) > _DEPTH:
                    oldest, where = started.popleft()
                    oldest.finish(where)
                    done += 1
                    complete()
            ends.append((number, count))
        while started:
            oldest, where = started.popleft()
            oldest.finish(where)
            done += 1
            complete()
        complete()

    def norm(self, present: NDArray[np.bool_]) -> tuple[float, bool]:
        """That of all sums, tile after tile in the order of the parameters, as one process takes it."""
        arrays: list[NDArray[Any]] = []
        for part, sums in zip(self.layout.parts, self.sums, strict=True):
            at = 0
            for number, begin, end in part.segments[self.rank]:
                if present[number]:
                    arrays.append(sums[at : at + end - begin])
                at += end - begin
        squares, is_finite = _native.gradient_squares(arrays)
        counts = [
            sum(
                -(-(end - begin) // TILE)
                for part in self.layout.parts
                for i, begin, end in part.segments[r]
                if present[i]
            )
            for r in range(self.layout.ranks)
        ]
        own = np.concatenate([squares, [float(is_finite)]]).view(np.uint8)
        received = gather_all(self._comm, own, [8 * (count + 1) for count in counts], 1 << 27, True)
        assert received is not None
        every = received.view(np.float64)
        runs: list[tuple[int, int, int, int]] = []  # array, beginning in it, place, tiles
        at, finite = 0, True
        for rank in range(self.layout.ranks):
            for part in self.layout.parts:
                for number, begin, end in part.segments[rank]:
                    if present[number]:
                        tiles = -(-(end - begin) // TILE)
                        runs.append((number, begin, at, tiles))
                        at += tiles
            finite = finite and every[at] == 1
            at += 1
        ordered = [every[place : place + tiles] for _, _, place, tiles in sorted(runs)]
        return _native.norm_of_squares(np.concatenate([np.empty(0), *ordered])), finite
