"""What a training on several processes is connected by: mpi4py's communicators, or none."""

from typing import Any, Protocol

import numpy as np


class Request(Protocol):
    """A transfer that has been started."""

    def Wait(self) -> Any:  # noqa: N802 - mpi4py's name
        """Returns when it is done."""


class Communicator(Protocol):
    """What `Sharded` and `SyncBatchNorm` call: a part of mpi4py's communicators, whose names these are.

    mpi4py's COMM_WORLD is one, and `Serial` one of a single process. Arrays are NumPy's; those that have a part for
    each process are lists of the array and a pair: the numbers of elements, and where they begin.
    """

    def Get_rank(self) -> int:  # noqa: N802
        """The number of this process, from 0."""

    def Get_size(self) -> int:  # noqa: N802
        """The number of processes."""

    def allgather(self, sendobj: Any) -> list[Any]:
        """The objects that all processes give, in the order of their numbers."""

    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None:  # noqa: N802
        """Adds up the arrays of all processes."""

    def Ialltoallv(self, sendbuf: Any, recvbuf: Any) -> Request:  # noqa: N802
        """Starts to send a part of an array to each process, and to receive one from each."""

    def Iallgatherv(self, sendbuf: Any, recvbuf: Any) -> Request:  # noqa: N802
        """Starts to send an array to all processes, and to receive one from each."""

    def Ireduce_scatter_block(self, sendbuf: Any, recvbuf: Any) -> Request:  # noqa: N802
        """Starts to add up arrays, of which each process receives a part; all parts have the same length."""


class _Done:
    def Wait(self) -> bool:  # noqa: N802
        return True


class Serial:
    """A communicator of one process, without MPI: what runs on many runs on one, too."""

    def Get_rank(self) -> int:  # noqa: N802
        """0."""
        return 0

    def Get_size(self) -> int:  # noqa: N802
        """1."""
        return 1

    def allgather(self, sendobj: Any) -> list[Any]:
        """A list of the object."""
        return [sendobj]

    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None:  # noqa: N802
        """Copies the array."""
        np.copyto(recvbuf, sendbuf)

    def Ialltoallv(self, sendbuf: Any, recvbuf: Any) -> Request:  # noqa: N802
        """Copies the array."""
        return self._copy(sendbuf, recvbuf)

    def Iallgatherv(self, sendbuf: Any, recvbuf: Any) -> Request:  # noqa: N802
        """Copies the array."""
        return self._copy([sendbuf, ((len(sendbuf),), (0,))], recvbuf)

    def Ireduce_scatter_block(self, sendbuf: Any, recvbuf: Any) -> Request:  # noqa: N802
        """Copies the array."""
        np.copyto(recvbuf, sendbuf)
        return _Done()

    def _copy(self, sent: Any, received: Any) -> Request:
        (given, (counts, begins)), (taken, (_, places)) = sent, received
        taken[places[0] : places[0] + counts[0]] = given[begins[0] : begins[0] + counts[0]]
        return _Done()
