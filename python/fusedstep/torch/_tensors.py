"""Tensors of the state of PyTorch's optimizers: how they begin, and what is asked of parameters and gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch

from fusedstep._rows import Rows

NARROW = (torch.bfloat16, torch.float16)

# Processors take loads from one array for loads of what was just stored to another that has the same place in its page,
# as large tensors have: Adam of 10 million took 1.1 times as long.
_PAGE, _LINE, _LARGE = 4096, 64, 1 << 15


def zeros(p: Any, place: int) -> Any:
    """Zeros like a parameter; large ones begin a third of a page farther with each place from 0."""
    size = p.numel() * p.element_size()
    if size < _LARGE or not p.is_contiguous() or p.device.type != "cpu":
        return torch.zeros_like(p, memory_format=torch.preserve_format)
    memory = torch.zeros(size + _PAGE, dtype=torch.uint8)
    wanted = p.data_ptr() // _LINE * _LINE + (place + 1) * (_PAGE // 3 // _LINE * _LINE)
    begin = (wanted - memory.data_ptr()) % _PAGE
    return memory[begin : begin + size].view(p.dtype).view(p.shape)


def number(value: float) -> Any:
    """A tensor of one number as PyTorch keeps it in the state."""
    is_double = torch.get_default_dtype() == torch.float64
    return torch.tensor(value, dtype=torch.float64 if is_double else torch.float32)


def rows(grad: Any) -> Any:
    """A sparse gradient as `Rows`; dense where it has not just rows, or complex numbers."""
    if grad.sparse_dim() != 1 or grad.is_complex():
        return grad.to_dense()
    return Rows(grad._indices()[0].numpy(), grad._values().detach())


def is_view(p: Any) -> bool:
    """Whether a parameter is the conjugate or the negative of its memory."""
    return bool(p.is_conj() or p.is_neg())


def has_duplicates(parameters: list[Any]) -> bool:
    """Whether a parameter comes twice."""
    return len(set(parameters)) != len(parameters)


def take_changes(p: Any, master: Any) -> None:
    """Gives a master the elements of its parameter that are no rounding of its own, up or down."""
    with torch.no_grad():
        whole, limits = p.to(torch.float32), torch.finfo(p.dtype)
        is_rounding = (master - whole).abs() <= limits.eps * whole.abs() + limits.eps * limits.smallest_normal
        master.copy_(torch.where(is_rounding | (master == whole), master, whole))


@contextmanager
def averaged(optimizer: Any) -> Iterator[None]:
    """Gives an optimizer's parameters the values of their averages, and back."""
    params = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    pairs = [(p, optimizer.state[p]["average"]) for p in params if "average" in optimizer.state.get(p, {})]
    if not pairs:
        raise RuntimeError("there are no averages: no step has had the option average")
    kept = [p.detach().clone() for p, _ in pairs]
    try:
        with torch.no_grad():
            for p, average in pairs:
                p.copy_(average)
        yield
    finally:
        with torch.no_grad():
            for (p, _), before in zip(pairs, kept, strict=True):
                p.copy_(before)
