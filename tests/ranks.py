"""Processes that are threads: a communicator for tests, in which every transfer is a copy."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


class _World:
    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=60)
        self.given: list[Any] = [None] * size


class Threads:
    """One of several communicators whose processes are threads.

    Transfers are made when they are waited for, in the order in which they were started, and a process that reads
    its result before it has waited finds NaN or 255 there.
    """

    def __init__(self, world: _World, rank: int) -> None:
        self._world, self._rank = world, rank
        self._started: list[Callable[[], None]] = []

    def Get_rank(self) -> int:  # noqa: N802
        return self._rank

    def Get_size(self) -> int:  # noqa: N802
        return self._world.size

    def allgather(self, sendobj: Any) -> list[Any]:
        self._finish()
        return self._exchange(sendobj)

    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None:  # noqa: N802
        recvbuf[...] = sum(self.allgather(np.array(sendbuf)))

    def Ialltoallv(self, sendbuf: Any, recvbuf: Any) -> "_Request":  # noqa: N802
        sent, (counts, begins) = sendbuf

        def parts() -> list[Any]:
            return [sent[begin : begin + count].copy() for begin, count in zip(begins, counts, strict=True)]

        def receive(every: list[Any]) -> None:
            received, (taken, places) = recvbuf
            for given, count, place in zip(every, taken, places, strict=True):
                assert len(given[self._rank]) == count
                received[place : place + count] = given[self._rank]

        return self._start(recvbuf[0], parts, receive)

    def Iallgatherv(self, sendbuf: Any, recvbuf: Any) -> "_Request":  # noqa: N802
        def receive(every: list[Any]) -> None:
            received, (taken, places) = recvbuf
            for given, count, place in zip(every, taken, places, strict=True):
                assert len(given) == count
                received[place : place + count] = given

        return self._start(recvbuf[0], sendbuf.copy, receive)

    def Ireduce_scatter_block(self, sendbuf: Any, recvbuf: Any) -> "_Request":  # noqa: N802
        def receive(every: list[Any]) -> None:
            length = len(recvbuf)
            recvbuf[:] = sum(reversed([given[self._rank * length : (self._rank + 1) * length] for given in every]))

        return self._start(recvbuf, sendbuf.copy, receive)

    def _start(self, target: Any, give: Callable[[], Any], receive: Callable[[list[Any]], None]) -> "_Request":
        target[...] = 255 if target.dtype == np.uint8 else np.nan
        request = _Request(self)

        def transfer() -> None:
            receive(self._exchange(give()))
            request.is_done = True

        self._started.append(transfer)
        return request

    def _finish(self) -> None:
        while self._started:
            self._started.pop(0)()

    def _exchange(self, given: Any) -> list[Any]:
        self._world.given[self._rank] = given
        self._world.barrier.wait()
        every = list(self._world.given)
        self._world.barrier.wait()
        return every

    def abort(self) -> None:
        """Ends the other threads' waiting."""
        self._world.barrier.abort()


class _Request:
    def __init__(self, comm: Threads) -> None:
        self._comm = comm
        self.is_done = False

    def Wait(self) -> bool:  # noqa: N802
        while not self.is_done:
            self._comm._started.pop(0)()
        return True


def run(size: int, function: Callable[[Any], T]) -> list[T]:
    """Calls function(comm) in so many threads; the results in the order of the ranks, or the first exception."""
    world = _World(size)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def call(rank: int) -> None:
        comm = Threads(world, rank)
        try:
            results[rank] = function(comm)
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            errors.append(error)
            comm.abort()

    threads = [threading.Thread(target=call, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads)
    return results
