"""An optimizer in several processes: what concerns all of them."""

import builtins
from collections.abc import Callable
from typing import Any

from fusedstep.distributed._shares import Shares
from fusedstep.distributed._state import gathered
from fusedstep.distributed._steps import Assignment
from fusedstep.distributed.communicators import Communicator
from fusedstep.optimizers import Optimizer, Split


class Divided:
    """An optimizer whose state may be divided, and the ways to have it whole; errors of one process in all."""

    def __init__(self, optimizer: Optimizer | Split, comm: Communicator, bucket_bytes: int) -> None:
        self.optimizer = optimizer
        self.comm = comm
        self.bucket_bytes = bucket_bytes
        self._rank, self._ranks = comm.Get_rank(), comm.Get_size()
        self._shares: Shares | None = None  # None: every process has the whole state

    def _assignment(self) -> Assignment:
        optimizer = self.optimizer
        if isinstance(optimizer, Split):
            optimizer._forget_groups()
            return optimizer._assigned, optimizer._member_of
        if not optimizer.groups:
            return {}, None
        known: dict[Any, int] = optimizer.__dict__.setdefault("_assigned", {})
        return known, optimizer._group_of

    @property
    def _optimizers(self) -> list[Optimizer]:
        optimizer = self.optimizer
        return [one for _, one in optimizer.pairs] if isinstance(optimizer, Split) else [optimizer]

    def _raise_together(self, error: Exception | None, after: bool = False) -> None:
        """Raises in all processes what has been raised in one."""
        texts = self.comm.allgather(None if error is None else (type(error).__name__, _text(error)))
        rank, (kind, text) = next((rank, text) for rank, text in enumerate(texts) if text is not None)
        if after:
            raise RuntimeError(
                f"process {rank} could not make its part of the step, parameters and state are not to be used: "
                f"{kind}: {text}"
            ) from error
        if error is not None:
            raise error
        cls = getattr(builtins, kind, RuntimeError)
        if not (isinstance(cls, type) and issubclass(cls, ValueError | TypeError | LookupError | MemoryError)):
            raise RuntimeError(f"process {rank}: {kind}: {text}")
        raise cls(f"process {rank}: {text}")

    def _gather_state(self, keep: bool = True) -> list[tuple[dict[Any, Any], dict[Any, int]]]:
        """The whole state of each optimizer and its counts, where they are kept."""
        if self._shares is None:
            return [(one.state, one.steps) for one in self._optimizers]
        return [gathered(self.comm, one, self._shares.layout, keep, self.bucket_bytes) for one in self._optimizers]

    def _clone(self, states: list[tuple[dict[Any, Any], dict[Any, int]]] | None = None) -> Optimizer | Split:
        """The optimizer with other state."""
        optimizers = self._optimizers
        states = [({}, {})] * len(optimizers) if states is None else states
        others = [
            one._with({"state": state, "steps": steps, "_lengths": {}})
            for one, (state, steps) in zip(optimizers, states, strict=True)
        ]
        if not isinstance(self.optimizer, Split):
            return others[0]
        split = object.__new__(Split)
        pairs = tuple((match, other) for (match, _), other in zip(self.optimizer.pairs, others, strict=True))
        split.__dict__.update(self.optimizer.__dict__ | {"pairs": pairs})
        return split

    def _adopt(self, other: Optimizer | Split) -> None:
        """Takes the attributes and the state of another optimizer of the same kind, which is whole."""
        if isinstance(self.optimizer, Split) and isinstance(other, Split):
            pairs = self.optimizer.pairs
            self.optimizer.__dict__.update(other.__dict__ | {"pairs": pairs})
            for (_, one), (_, loaded) in zip(pairs, other.pairs, strict=True):
                one.__dict__.update(loaded.__dict__)
        else:
            self.optimizer.__dict__.update(other.__dict__)
        self._shares = None

    def _together(self, call: Callable[[], object]) -> None:
        """Calls what may fail in one process; then it fails in all."""
        error: Exception | None = None
        try:
            call()
        except Exception as caught:
            error = caught
        if any(self.comm.allgather(error is not None)):
            self._raise_together(error)


def _text(error: Exception) -> str:
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
