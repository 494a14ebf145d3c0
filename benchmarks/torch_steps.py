"""Steps of PyTorch's parameters as rows: by torch.optim's Adam, and by fusedstep.torch's."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.baselines import options
from benchmarks.rows import tolerance
from benchmarks.turns import Sides, Work
from benchmarks.whole_steps import TORCH_DEFAULT, TORCH_FUSED, half_the_norm
from benchmarks.workloads import LISTS, LR, SMALL_TENSORS, Shapes, arrays, assert_periodic_close, first_period
from fusedstep import reference

OURS = "fusedstep.torch"
ROWS = (OURS, TORCH_FUSED, TORCH_DEFAULT)


@dataclass(frozen=True)
class Parameters:
    """Shapes of parameters, and whether their gradients are clipped before the step."""

    shapes: Shapes
    clips: bool = False


WORKS = {
    "actor-critic, clipped": Parameters(SMALL_TENSORS, clips=True),
    "200 x 1000": Parameters(LISTS["200 x 1000"]),
    "ResNet-50": Parameters(LISTS["ResNet-50"]),
    "10000000": Parameters([(10_000_000,)]),
}


def checked(row: str, work: Parameters) -> Callable[[], Any]:
    """Makes a row's first step, compares the largest parameter, and returns the step."""
    params, grads = (arrays(work.shapes, np.float32, seed) for seed in (1, 2))
    largest = max(range(len(params)), key=lambda i: params[i].size)
    w, g = first_period(params[largest]), first_period(grads[largest])
    clip_norm = half_the_norm(grads) if work.clips else None
    step = _make(row, peers.torch_parameters(params, grads), clip_norm)
    before = w.copy()
    step()
    expected = w.astype(np.float64)
    # Clipped to half its norm; PyTorch has clipped its gradient itself.
    reference.Adam(LR, **options("Adam")).update(expected, g.astype(np.float64) * (0.5 if work.clips else 1.0))
    assert_periodic_close(params[largest], expected, tolerance("Adam", "float32", before, expected))
    return step


def _make(row: str, parameters: list[Any], clip_norm: float | None) -> Callable[[], Any]:
    torch = importlib.import_module("torch")
    step: Callable[[], Any]
    if row == OURS:
        ours = importlib.import_module("fusedstep.torch").Adam
        step = ours(parameters, LR, **peers.torch_adam(), max_norm=clip_norm).step
    else:
        step = peers.torch_optimizer("Adam", parameters, **({"fused": True} if row == TORCH_FUSED else {})).step
    if row == OURS or clip_norm is None:
        return step

    def clip_and_step() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        step()

    return clip_and_step


def works(row: str, work: str, threads: list[int], our_threads: list[int]) -> Sides:
    """A row's step, and ours."""
    sides = checked(row, WORKS[work]), checked(OURS, WORKS[work])
    return [Work(sides[0], n) for n in threads], [Work(sides[1], n) for n in our_threads]
