"""An optimizer whose state is divided among the processes of a training."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusedstep._limits import checked, checked_choice, checked_count, checked_flag
from fusedstep._types import Copies, Grads, Params
from fusedstep.distributed import _files
from fusedstep.distributed._arrays import Entry, entries_of, name_of, require_writeable
from fusedstep.distributed._divided import Divided
from fusedstep.distributed._layout import TILE, Described, Layout, clusters_of
from fusedstep.distributed._shares import Shares
from fusedstep.distributed._state import scattered
from fusedstep.distributed._steps import Step, View, rounds_stochastically, steps_whole_arrays, takes_norm
from fusedstep.distributed.communicators import Communicator
from fusedstep.optimizers import Optimizer, Split
from fusedstep.optimizers.options import bfloat16
from fusedstep.state_files import save_state


class Sharded(Divided):
    """An optimizer for data-parallel training: each process has the state of its share of the parameters alone.

    Each process calls `update` with its own gradients and with parameters that are the same everywhere. The gradients
    are added up over the processes, each process makes the step for its share, and all get all new parameters. That is
    the first stage of ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054): of N parameters on n processes each one keeps
    the state of N / n, and sends and receives as much as for adding up gradients without it.

    With the reduction "fixed" the result has the bits of one process with the sums of the gradients in the order of the
    processes' numbers,

        optimizer.update(params, g[0] + g[1] + ... , scale=scale / n)

    whatever the number of threads, for any number of processes, every rule and every option. bfloat16 and float16
    gradients travel as they are and are added up in float32.

    Shares are cut between tiles of 1024 elements. Rules for which a step of one element depends on others (LAMB, LARS,
    StableAdamW, Adafactor, Muon), optimizers that round stochastically, and arrays that share memory have whole arrays
    on one process each, the largest first to the one that has least.

    Arguments:
        optimizer: An optimizer or a `fusedstep.Split`, which from now on is stepped by this alone. Set hyper-parameters
            there, to the same values in all processes. State that it already has must be the same everywhere.
        comm: A communicator of mpi4py, as MPI.COMM_WORLD, or another with the methods of `Communicator`.
        mean: Whether the sums are divided by the number of processes, which is a factor 1 / n in scale.
        reduction: "fixed": added in the order of the processes' numbers. "mpi": by MPI's reduction, in an order that
            isn't specified, so that the bits may depend on the number of processes and on the MPI library.
        bucket_bytes: How much travels at a time. While one bucket travels, the one before is added up and stepped.

    Attributes:
        optimizer: The optimizer that was given. Once there was an update, its state has this process' share: arrays
            that are cut are one-dimensional there.
        gradient_norm: As the optimizer's: that of the whole.
        skipped: As the optimizer's.

    Raises:
        TypeError: optimizer is no optimizer of fusedstep, or comm lacks a method.
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer | Split,
        comm: Communicator,
        mean: bool = True,
        reduction: Literal["fixed", "mpi"] = "fixed",
        *,
        bucket_bytes: int = 1 << 22,
    ) -> None:
        if not isinstance(optimizer, Optimizer | Split):
            raise TypeError(f"optimizer is a {type(optimizer).__name__}, expected one of fusedstep")
        if lacking := [name for name in _METHODS if not callable(getattr(comm, name, None))]:
            raise TypeError(f"comm is a {type(comm).__name__} without {', '.join(lacking)}, expected a communicator")
        super().__init__(optimizer, comm, checked_count("bucket_bytes", bucket_bytes))
        self.mean: bool = checked_flag("mean", mean)
        self.reduction: Literal["fixed", "mpi"] = checked_choice("reduction", reduction, "fixed", "mpi")
        if not TILE <= self.bucket_bytes <= 1 << 30:
            raise ValueError(f"bucket_bytes is {bucket_bytes}, expected {TILE} to {1 << 30}")

    @property
    def gradient_norm(self) -> float | None:
        """The norm of the last update's gradients, of all processes together."""
        return self.optimizer.gradient_norm

    @property
    def skipped(self) -> int:
        """The number of updates that skip_nonfinite has left out."""
        return self.optimizer.skipped

    def __repr__(self) -> str:
        return f"Sharded({self.optimizer!r}, rank {self._rank} of {self._ranks}, reduction={self.reduction!r})"

    # Steps.

    def update(
        self,
        params: Params,
        grads: Grads,
        *,
        scale: float = 1.0,
        zero_grads: bool = False,
        copies: Copies = None,
    ) -> None:
        """Makes one step in all processes, which must all call this.

        Arguments:
            params: As in `fusedstep.Optimizer.update`, with the same keys, shapes and types in all processes. Numbers
                and `fusedstep.Rows` are refused. Arrays that aren't in C order work, more slowly.
            grads: The gradients of this process. Where some processes have None and others a gradient, None counts as
                zeros; where all have None, the parameter is left alone.
            scale: A factor of all gradients; see above.
            zero_grads: Leaves zeros in the gradients, also if the update is skipped.
            copies: Rounded copies of the new parameters, in all processes.

        The first update, and one whose parameters have other keys, shapes or types, makes a new layout, for which the
        state is gathered in each process.

        Raises:
            ValueError, TypeError, KeyError: As `fusedstep.Optimizer.update`, in all processes if in one. Nothing has
                changed.
            RuntimeError: The step failed in a process after the gradients were exchanged, for want of memory for
                example. Parameters and state are then not to be used.
        """
        error: Exception | None = None
        # Errors, processes that need a layout, missing gradients, processes with two kinds of options.
        status = np.zeros(5, np.int64)
        entries: list[Entry] = []
        signature: list[Described] = []
        members: list[tuple[Optimizer, list[Any]]] = []
        factor = 1.0
        try:
            factor = checked("scale", scale) / (self._ranks if self.mean else 1)
            zero_grads = checked_flag("zero_grads", zero_grads)
            entries = entries_of(params, grads, copies)
            members = self._members(entries)
            signature = self._describe(entries)
            if zero_grads:
                require_writeable(entries)
            status[1] = not self._fits(signature, entries)
            status[2] = sum(entry.grad is None for entry in entries)
            status[3:] = takes_norm(self.optimizer), any(map(rounds_stochastically, self._optimizers))
        except Exception as caught:
            error = caught
            status[0] = 1
        totals = np.empty_like(status)
        self.comm.Allreduce(status, totals)
        if totals[0]:
            self._raise_together(error)
        if not set(totals[3:]) <= {0, self._ranks}:
            raise ValueError("the optimizer has other options in one process than in another")
        if totals[1]:
            self._make_layout(entries, signature)
        present = np.full(len(entries), self._ranks, np.int64)
        if totals[2]:
            self.comm.Allreduce(np.array([entry.grad is not None for entry in entries], np.int64), present)
        self._step(entries, present > 0, members, factor)
        if zero_grads:
            for entry in entries:
                if entry.grad is not None:
                    entry.grad[...] = 0

    def _members(self, entries: list[Entry]) -> list[tuple[Optimizer, list[Any]]]:
        """The optimizers with their parts, schedules being asked once; afterwards each key is of one of them."""
        made: list[tuple[Optimizer, list[Any]]] = []
        for optimizer in self._optimizers:
            parts = []
            for lr, others, (average, *options) in optimizer._parts():
                given = {"lr": lr, "average": average}
                for name, value in given.items():
                    if callable(value):
                        given[name] = optimizer._checked(name, value(optimizer.iterations))
                parts.append((given["lr"], others, (given["average"], *options)))
            made.append((optimizer, parts))
        known, assign = self._assignment()
        if assign is not None:
            for entry in entries:
                if entry.key not in known:
                    known[entry.key] = assign(entry.key, entry.given)
        return made

    def _describe(self, entries: list[Entry]) -> list[Described]:
        known, assign = self._assignment()
        whole = [steps_whole_arrays(one) for one in self._optimizers for _ in range(len(one.groups) + 1)]
        return [
            Described(
                entry.key,
                entry.param.shape,
                name_of(entry.param.dtype),
                "" if entry.copy is None else name_of(entry.copy.dtype),
                whole[known[entry.key] if assign is not None else 0],
            )
            for entry in entries
        ]

    def _fits(self, signature: list[Described], entries: list[Entry]) -> bool:
        """Whether the layout was made for these parameters, and its wire types hold these gradients exactly."""
        if self._shares is None or signature != self._shares.layout.arrays:
            return False
        for part, wire in zip(self._shares.layout.parts, self._shares.wires, strict=True):
            if wire != part.arithmetic:
                numbers = {number for own in part.segments for number, _, _ in own}
                if any((g := entries[i].grad) is not None and g.dtype != wire for i in numbers):
                    return False
        return True

    def _make_layout(self, entries: list[Entry], signature: list[Described]) -> None:
        """Divides parameters, and their state, anew."""
        grads = ["" if entry.grad is None else name_of(entry.grad.dtype) for entry in entries]
        agreed = signature, self.mean, self.reduction, self.bucket_bytes
        digest = hashlib.sha256(repr(agreed).encode()).digest()
        every = self.comm.allgather((digest, grads))
        made: list[Shares] = []

        def make() -> None:
            if any(other != digest for other, _ in every):
                raise ValueError("params have other keys, shapes or types, or Sharded other arguments, in one process")
            clusters = clusters_of([entry.param for entry in entries])
            for cluster in clusters:
                if len({signature[i].dtype for i in cluster}) > 1:
                    raise ValueError("arrays of different types share memory, which can't be sharded")
            layout = Layout(signature, clusters, self._ranks, self.bucket_bytes)
            shares = Shares(self.comm, self.reduction, layout)
            for part in layout.parts:
                numbers = {number for own in part.segments for number, _, _ in own}
                given = {names[i] for _, names in every for i in numbers} - {""}
                narrow = self.reduction == "fixed" and len(given) == 1 and given <= {"float16", "bfloat16"}
                name = given.pop() if narrow else part.arithmetic
                shares.wires.append(np.dtype(bfloat16("a bfloat16 gradient") if name == "bfloat16" else name))
            made.append(shares)

        self._together(make)
        whole = self._gather_state()

        def scatter() -> None:
            for optimizer, (state, steps) in zip(self._optimizers, whole, strict=True):
                scattered(optimizer, state, steps, made[0].layout, self._rank)

        self._together(scatter)
        self._shares = made[0]

    def _step(
        self,
        entries: list[Entry],
        present: NDArray[np.bool_],
        members: list[tuple[Optimizer, list[Any]]],
        factor: float,
    ) -> None:
        shares, optimizer = self._shares, self.optimizer
        assert shares is not None
        parts = shares.layout.parts
        measures = takes_norm(optimizer)
        scale = 1.0 if measures else factor  # sums are scaled before their norm is taken
        step = Step(shares, optimizer, entries, present, members, self._assignment(), scale)
        # Random bits depend on an array's place among all of the call.
        in_one = any(rounds_stochastically(one) for one, _ in members)

        def make(number: int) -> None:
            if not in_one:
                step.make([number], False)
            for arrays in step.results:
                shares.start_gathering(parts[number], arrays)

        shares.reduce([entry.grad for entry in entries], None if measures or in_one else make)
        if measures:
            if factor != 1:
                for sums in shares.sums:
                    np.multiply(sums, sums.dtype.type(factor), out=sums)
            step.norm, is_finite = shares.norm(present)
            step.clip_norm = optimizer.clip_norm
            if optimizer.skip_nonfinite and not is_finite:
                step.skip()
                return
        if in_one:
            step.make(range(len(parts)), True)
        if measures or in_one:
            for number in range(len(parts)):
                make(number)
        shares.finish_gathering()
        failed = np.zeros(1, np.int64)
        self.comm.Allreduce(np.array([step.error is not None], np.int64), failed)
        if failed[0]:
            self._raise_together(step.error, after=True)
        step.finish()

    # State.

    def state_dict(self) -> dict[str, Any]:
        """The snapshot of the whole that one process would have, in all processes, which must all call this."""
        return self._clone(self._gather_state()).state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a snapshot, which is the same in all processes: of any number of them, or of an optimizer.

        Raises:
            ValueError, TypeError: As `fusedstep.Optimizer.load_state_dict`, in all processes. Nothing has changed.
        """
        other = self._clone()
        self._together(lambda: other.load_state_dict(state_dict))
        self._adopt(other)

    def save_state(self, path: str | os.PathLike[str], per_rank: bool = False) -> None:
        """Writes the state to a file that `fusedstep.load_state` reads, too. All processes must call this.

        As with `fusedstep.save_state`, an old file is replaced as a whole, or stays.

        Arguments:
            path: The file, in a folder that all processes see.
            per_rank: Each process writes its share, to a file beside it whose name begins with that of path, which
                then has a list of them. Nothing is gathered; `load_state` alone reads that.

        Raises:
            OSError, TypeError: As `fusedstep.save_state`, in all processes.
        """
        if per_rank:
            _files.save_shares(os.fspath(path), self)
            return
        whole = self._clone(self._gather_state(keep=self._rank == 0))
        self._together(lambda: save_state(path, whole) if self._rank == 0 else None)

    def load_state(self, path: str | os.PathLike[str]) -> None:
        """Loads what `save_state` has written in any number of processes, or `fusedstep.save_state` in one.

        All processes must call this. Until the first update each of them has the whole state.

        Raises:
            ValueError, OSError: As `fusedstep.load_state`, in all processes. Nothing has changed.
        """
        other = self._clone()
        self._together(lambda: _files.load(os.fspath(path), other))
        self._adopt(other)

    # Parameters that are something else for a while.

    @contextlib.contextmanager
    def averaged(self, params: Params) -> Iterator[None]:
        """As `fusedstep.Optimizer.averaged`. All processes must enter and leave it."""
        with contextlib.ExitStack() as stack:
            self._exchange(params, lambda own: stack.enter_context(self.optimizer.averaged(own)))
            try:
                yield
            finally:
                self._exchange(params, lambda own: stack.close())

    def train(self, params: Params) -> None:
        """As that of Schedule-Free optimizers. All processes must call this."""
        self._exchange(params, self._method("train"), even_if_empty=True)

    def eval(self, params: Params) -> None:
        """As that of Schedule-Free optimizers. All processes must call this."""
        self._exchange(params, self._method("eval"), even_if_empty=True)

    def _method(self, name: str) -> Callable[[Any], Any]:
        if not hasattr(self.optimizer, name):
            raise AttributeError(f"{type(self.optimizer).__name__} has no {name}()")
        method: Callable[[Any], Any] = getattr(self.optimizer, name)
        return method

    def _exchange(self, params: Params, call: Callable[[Any], Any], even_if_empty: bool = False) -> None:
        """Calls a function for this process' share of the parameters; then all get all of them."""
        if self._shares is None:
            self._together(lambda: call(params))
            return
        shares, layout = self._shares, self._shares.layout
        entries: list[Entry] = []

        def change() -> None:
            entries.extend(entries_of(params, None))
            if [(entry.key, entry.param.shape) for entry in entries] != [(a.key, a.shape) for a in layout.arrays]:
                raise ValueError("params have other keys or shapes than those of the last update")
            segments = [segment for part in layout.parts for segment in part.segments[self._rank]]
            views = {entries[i].key: View(layout, entries[i].param, i, begin, end) for i, begin, end in segments}
            own = {key: view.array for key, view in views.items() if self._has_state(key)}
            if own or even_if_empty:
                call(own)
            for view in views.values():
                view.write()

        self._together(change)
        arrays = [entry.param for entry in entries]
        for part in layout.parts:
            shares.start_gathering(part, arrays)
        shares.finish_gathering()

    def _has_state(self, key: Any) -> bool:
        return any(key in one.state for one in self._optimizers)


_METHODS = ("Get_rank", "Get_size", "allgather", "Allreduce", "Ialltoallv", "Iallgatherv", "Ireduce_scatter_block")
