"""PyTorch's classes that fusedstep.torch has too, and tensors to step, for the tests of fusedstep.torch."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
ours = pytest.importorskip("fusedstep.torch")

NAMES = (
    *("SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "Adadelta"),
    *("Adamax", "NAdam", "RAdam", "Rprop", "ASGD", "Adafactor"),
)
MODULES = [pytest.param(torch.optim, id="theirs"), pytest.param(ours, id="ours")]
SHAPES = ((5, 7), (9,), ())


def parameter(*values: float, grad: float | None = 0.5, dtype: Any = torch.float32) -> Any:
    p = torch.tensor(values or (1.0, 2.0, 3.0), dtype=dtype, requires_grad=True)
    if grad is not None:
        p.grad = torch.full_like(p, grad)
    return p


def close(actual: Any, expected: Any, ulps: float = 20.0) -> None:
    """Two steps or so of numbers near 1, with about ten roundings each."""
    torch.testing.assert_close(actual, expected, rtol=ulps * torch.finfo(expected.dtype).eps, atol=0)


def numbers(*shape: int, seed: int = 1, dtype: Any = torch.float32) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def step(make: Any, p: Any, *grads: Any, **options: Any) -> Any:
    optimizer = make([p], **options)
    for grad in grads:
        p.grad = grad
        optimizer.step()
    return optimizer


def to_tensor(array: Any) -> Any:
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.copy().view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def to_array(tensor: Any) -> Any:
    if tensor.dtype == torch.bfloat16:
        return tensor.detach().view(torch.int16).numpy().view(np.dtype("bfloat16"))
    return tensor.detach().numpy()


def draw(seed: int, t: Any) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape)).astype(t) for shape in SHAPES]


def parameters(seed: int, t: Any) -> list[Any]:
    return [to_tensor(array) for array in draw(seed, t)]
