"""The rows of an update's group, and the check of what each computes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks import baselines, peers
from benchmarks.workloads import (
    BETA2,
    BOOK,
    DECAY,
    IN_PLACE,
    LIMIT,
    LR,
    OURS,
    Array,
    Shapes,
    arrays,
    assert_periodic_close,
    first_period,
)
from fusedstep import reference

Make = Callable[[str, list[Array], list[Array]], baselines.Stepper]

OWN: dict[str, Make] = {
    BOOK: baselines.book,
    IN_PLACE: baselines.in_place,
    OURS: baselines.ours,
    LIMIT: baselines.limit,
}


@dataclass(frozen=True)
class UpdateCase:
    """A row of a benchmark of updates."""

    row: str
    rule: str
    dtype: str
    work: str
    shapes: Shapes
    threads: int

    @property
    def peer(self) -> peers.Peer | None:
        """Which peer the row is, if it is one."""
        return peers.PEERS.get(self.row)

    def make(self, shapes: Shapes) -> tuple[baselines.Stepper, list[Array], list[Array]]:
        """The stepper with its parameters and gradients."""
        params, grads = arrays(shapes, self.dtype, 1), arrays(shapes, self.dtype, 2)
        make = self.peer.make if self.peer else OWN[self.row]
        return make(self.rule, params, grads), params, grads


def rows(rule: str, dtype: str, threads: int, largest: bool) -> list[str]:
    """The rows that there are of a rule; `largest` if all threads that there are may be used."""
    return [*OWN, *(name for name, peer in peers.PEERS.items() if peer.has(rule, dtype, threads, largest))]


def checked_first_step(case: UpdateCase, shapes: Shapes) -> baselines.Stepper:
    """Makes a row's first step and compares the result, all of it."""
    stepper, params, grads = case.make(shapes)
    largest = max(range(len(params)), key=lambda i: params[i].size)
    block, gradient = first_period(params[largest]), first_period(grads[largest])
    stepper.step()
    expected, tolerance = _oracle(case, block, gradient)
    for w, g in zip(stepper.params(), grads, strict=True):
        assert_periodic_close(w, expected, tolerance)
        assert_periodic_close(g, gradient, 0)
    return stepper


def _oracle(case: UpdateCase, block: Array, gradient: Array) -> tuple[Array, float]:
    """The parameters after the first step, and by how much the row may miss them."""
    if case.row == LIMIT:
        return block, 0.0
    exact = case.row == OURS
    w, g = (a if exact else a.astype(np.float64) for a in (block.copy(), gradient))
    getattr(reference, case.rule)(LR, **baselines.options(case.rule)).update(w, g)
    if exact:
        return w, 0.0
    return w, tolerance(case.rule, case.dtype, block, w)


def tolerance(rule: str, dtype: str, before: Array, after: Array) -> float:
    """By how much the parameters after a step of another library's may miss those of the formulas."""
    # A step is some ten roundings off, and the weight one more. Coefficients that are 1 - beta in the array's own type
    # have lost digits before that.
    eps = float(np.finfo(dtype).eps)
    lost = {"RMSProp": eps / (1 - DECAY), "Adam": eps / (1 - BETA2), "AdamW": eps / (1 - BETA2)}.get(rule, 0.0)
    step = float(np.abs(after - before).max())
    return eps * float(np.abs(after).max()) + (10 * eps + lost) * step


def bind(case: UpdateCase) -> None:
    """Sets the threads of the row's own library."""
    if case.peer is not None:
        case.peer.set_threads(case.threads)
