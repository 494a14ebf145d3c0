"""The steps of one process' share."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedstep import _native
from fusedstep.distributed._arrays import Entry, flat, is_tensor
from fusedstep.distributed._layout import Layout
from fusedstep.distributed._shares import Shares
from fusedstep.optimizers import Optimizer, Split

# The number of a parameter's member by its key, and what gives it for a new one if there are several.
Assignment = tuple[dict[Any, int], Callable[[Any, Any], int] | None]


class View:
    """The part of an array that a process owns: in its shape where that is all of it, else in one dimension."""

    def __init__(self, layout: Layout, param: NDArray[Any], number: int, begin: int, end: int) -> None:
        self._target: tuple[Any, slice] | None = None
        if number in layout.whole:
            self.array = param
            return
        elements = flat(param)
        self.array = elements[begin:end]
        if not isinstance(elements, np.ndarray):
            self._target = elements, slice(begin, end)

    def write(self) -> None:
        """Writes the part back if it is a copy."""
        if self._target:
            elements, where = self._target
            elements[where] = self.array


class Step:
    """The steps of this process' share."""

    def __init__(
        self,
        shares: Shares,
        optimizer: Optimizer | Split,
        entries: list[Entry],
        present: NDArray[np.bool_],
        members: list[tuple[Optimizer, list[Any]]],
        assignment: Assignment,
        scale: float,
    ) -> None:
        self._shares, self._optimizer, self._assignment = shares, optimizer, assignment
        self._entries, self._present, self._members, self._scale = entries, present, members, scale
        self._starts = [one.iterations for one, _ in members]
        self.norm: float | None = None
        self.clip_norm: float | None = None
        self.error: Exception | None = None
        params = [entry.param if there else None for entry, there in zip(entries, present, strict=True)]
        copies = [entry.copy if there else None for entry, there in zip(entries, present, strict=True)]
        self.results = [params] if all(copy is None for copy in copies) else [params, copies]

    def make(self, numbers: range | list[int], among_all: bool) -> None:
        """Steps the elements of some parts; or among all parameters, of which the others have no gradients."""
        if self.error is not None:
            return
        try:
            self._make(numbers, among_all)
        except Exception as error:
            self.error = error

    def _make(self, numbers: range | list[int], among_all: bool) -> None:
        entries, layout, rank = self._entries, self._shares.layout, self._shares.rank
        views: dict[int, tuple[View, Any, View | None]] = {}
        for part_number in numbers:
            sums, at = self._shares.sums[part_number], 0
            for number, begin, end in layout.parts[part_number].segments[rank]:
                if self._present[number]:
                    view = View(layout, entries[number].param, number, begin, end)
                    copy = entries[number].copy
                    views[number] = (
                        view,
                        sums[at : at + end - begin].reshape(view.array.shape),
                        None if copy is None else View(layout, copy, number, begin, end),
                    )
                at += end - begin
        params, grads, copies = {}, {}, {}
        for number in range(len(entries)) if among_all else sorted(views):
            key = entries[number].key
            mine = views.get(number)
            params[key] = entries[number].param if mine is None else mine[0].array
            grads[key] = None if mine is None else mine[1]
            if mine is not None and mine[2] is not None:
                copies[key] = mine[2].array
        known, assign = self._assignment
        for (one, _), start in zip(self._members, self._starts, strict=True):
            one.iterations = start
        _native.update(
            self._members,
            params,
            grads,
            self._scale,
            False,
            copies or None,
            None if assign is None else known,
            assign,
            self.norm,
            self.clip_norm,
            False,
        )
        for view, _, copy_view in views.values():
            view.write()
            if copy_view is not None:
                copy_view.write()

    def skip(self) -> None:
        """Leaves the step out, as skip_nonfinite does."""
        self._optimizer.skipped += 1
        self._optimizer.__dict__["gradient_norm"] = self.norm

    def finish(self) -> None:
        """Counts the step."""
        for (one, _), start in zip(self._members, self._starts, strict=True):
            one.iterations = start + 1
        self._optimizer.__dict__["gradient_norm"] = self.norm
        changed = [entry.given for entry, there in zip(self._entries, self._present, strict=True) if there]
        tensors = [given for given in changed if is_tensor(given)]
        if tensors:
            from torch.autograd.graph import increment_version

            increment_version(tensors)


def takes_norm(optimizer: Optimizer | Split) -> bool:
    """Whether a step needs the sums of all gradients before it begins."""
    return optimizer.clip_norm is not None or optimizer.skip_nonfinite


def rounds_stochastically(optimizer: Optimizer) -> bool:
    """Whether a step draws random bits, which belong to an array's place among all."""
    return optimizer.rounding == "stochastic" or optimizer.state_dtype is not None


def steps_whole_arrays(optimizer: Optimizer) -> bool:
    """Whether the step of an element depends on more than that element."""
    is_elementwise = _native.rules[optimizer._rule][6]
    return not is_elementwise or rounds_stochastically(optimizer)
