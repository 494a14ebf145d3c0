"""Sums of gradients and new parameters on their way between processes."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusedstep import _native
from fusedstep.distributed._arrays import flat
from fusedstep.distributed._layout import Segment
from fusedstep.distributed.communicators import Communicator

Bytes = NDArray[np.uint8]


def lengths_of(pieces: Sequence[list[Segment]]) -> list[int]:
    """How many elements the pieces of each process have."""
    return [sum(end - begin for _, begin, end in own) for own in pieces]


def placed(counts: Sequence[int]) -> tuple[list[int], list[int]]:
    """The counts of consecutive parts, and the offset of each part."""
    begins = [0] * len(counts)
    for i in range(1, len(counts)):
        begins[i] = begins[i - 1] + counts[i - 1]
    return list(counts), begins


class Buffers:
    """Memory that is used again."""

    def __init__(self) -> None:
        self._free: list[Bytes] = []

    def take(self, n: int, dtype: Any) -> NDArray[Any]:
        """An uninitialised array of n elements."""
        count = n * np.dtype(dtype).itemsize
        fitting = [i for i, buffer in enumerate(self._free) if count <= len(buffer) <= 2 * count + 4096]
        buffer = self._free.pop(fitting[0]) if fitting else np.empty(count, np.uint8)
        return buffer[:count].view(dtype)

    def give(self, *arrays: NDArray[Any]) -> None:
        """Takes arrays back."""
        for array in arrays:
            while array.base is not None:
                array = array.base
            self._free.append(array)


class Reduction:
    """The sums of one bucket, of which each process gets its share."""

    def __init__(
        self,
        comm: Communicator,
        kind: Literal["fixed", "mpi"],
        buffers: Buffers,
        pieces: Sequence[list[Segment]],
        grads: Sequence[NDArray[Any] | None],
        wire: Any,
    ) -> None:
        self._kind, self._buffers, self._grads = kind, buffers, grads
        self._size, self._rank = comm.Get_size(), comm.Get_rank()
        self._pieces = pieces[self._rank]
        lengths = lengths_of(pieces)
        self._own = lengths[self._rank]
        longest = max(lengths)
        if kind == "fixed":
            lengths[self._rank] = 0  # these stay where they are
        counts, begins = placed(lengths if kind == "fixed" else [longest] * self._size)
        self._sent = buffers.take(begins[-1] + counts[-1], wire)
        for own, begin, count in zip(pieces, begins, counts, strict=True):
            if count > 0:
                self._pack(own, self._sent[begin : begin + count])
        if kind == "mpi":
            self._received = buffers.take(longest, wire)
            self._request = comm.Ireduce_scatter_block(self._sent, self._received)
            return
        self._received = buffers.take(self._own * (self._size - 1), wire)
        item = self._sent.itemsize
        senders = [0 if rank == self._rank else self._own * item for rank in range(self._size)]
        self._request = comm.Ialltoallv(
            [self._sent.view(np.uint8), ([count * item for count in counts], [begin * item for begin in begins])],
            [self._received.view(np.uint8), placed(senders)],
        )

    def _pack(self, pieces: list[Segment], target: NDArray[Any]) -> None:
        """One behind the other, and zeros behind them."""
        at = 0
        for number, first, last in pieces:
            grad = self._grads[number]
            target[at : at + last - first] = 0 if grad is None else flat(grad)[first:last]
            at += last - first
        target[at:] = 0

    def finish(self, sums: NDArray[Any]) -> None:
        """Waits, and adds up in the order of the processes."""
        self._request.Wait()
        if self._kind == "mpi":
            sums[:] = self._received[: self._own]
        else:
            if self._rank == 0:
                self._pack(self._pieces, sums)
            else:
                sums[:] = self._received[: self._own]
            for rank in range(1, self._size):
                if rank == self._rank:
                    self._add_own(sums)
                else:
                    begin = self._own * (rank - (rank > self._rank))
                    _native.accumulate([sums], [self._received[begin : begin + self._own]], 1.0)
        self._buffers.give(self._sent, self._received)

    def _add_own(self, sums: NDArray[Any]) -> None:
        at, targets, terms = 0, [], []
        for number, first, last in self._pieces:
            grad, target = self._grads[number], sums[at : at + last - first]
            at += last - first
            targets.append(target)
            terms.append(np.zeros_like(target) if grad is None else flat(grad)[first:last])
        _native.accumulate(targets, terms, 1.0)


class Gathering:
    """New elements of one bucket, which all processes get from their owners."""

    def __init__(
        self,
        comm: Communicator,
        buffers: Buffers,
        pieces: Sequence[list[Segment]],
        arrays: Sequence[NDArray[Any] | None],
    ) -> None:
        self._buffers, self._pieces, self._rank, self._arrays = buffers, pieces, comm.Get_rank(), arrays
        self._places = placed([sum(self._bytes(segment) for segment in own) for own in pieces])
        counts, begins = self._places
        self._sent = buffers.take(counts[self._rank], np.uint8)
        self._each(self._rank, self._sent, self._read)
        self._received = buffers.take(begins[-1] + counts[-1], np.uint8)
        self._request = comm.Iallgatherv(self._sent, [self._received, self._places])

    def finish(self) -> None:
        """Waits, and writes what the others have sent."""
        self._request.Wait()
        for rank, begin in enumerate(self._places[1]):
            if rank != self._rank:
                self._each(rank, self._received[begin:], self._write)
        self._buffers.give(self._sent, self._received)

    def _bytes(self, segment: Segment) -> int:
        array = self._arrays[segment[0]]
        return 0 if array is None else (segment[2] - segment[1]) * array.itemsize

    def _each(self, rank: int, data: Bytes, call: Callable[[Any, Any, Any], None]) -> None:
        at = 0
        for segment in self._pieces[rank]:
            array = self._arrays[segment[0]]
            if array is not None:
                count = self._bytes(segment)
                call(flat(array), slice(*segment[1:]), data[at : at + count].view(np.uint8))
                at += count

    @staticmethod
    def _read(elements: Any, where: slice, data: Bytes) -> None:
        data[:] = np.ascontiguousarray(elements[where]).view(np.uint8)

    @staticmethod
    def _write(elements: Any, where: slice, data: Bytes) -> None:
        dtype = elements.dtype if isinstance(elements, np.ndarray) else elements.base.dtype
        elements[where] = data.view(dtype)


def gather_all(comm: Communicator, own: Bytes, lengths: Sequence[int], most: int, keep: bool) -> Bytes | None:
    """The bytes of all processes one behind the other, in pieces of at most `most`; None if they aren't kept."""
    begins = placed(lengths)[1]
    result = np.empty(sum(lengths), np.uint8) if keep else None
    for at in range(0, max(lengths), most):
        counts, places = placed([min(most, max(0, length - at)) for length in lengths])
        received = np.empty(sum(counts), np.uint8)
        comm.Iallgatherv(np.ascontiguousarray(own[at : at + most]), [received, (counts, places)]).Wait()
        if result is not None:
            for begin, count, place in zip(begins, counts, places, strict=True):
                result[begin + at : begin + at + count] = received[place : place + count]
    return result
