"""Muon: momentum whose matrices are made orthogonal."""

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from fusedstep import _native
from fusedstep._limits import checked, checked_choice, checked_count, shown
from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import LearningRate, Options

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def _checked_coefficients(name: str, value: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(number) for number in value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {shown(value)}, expected three numbers") from error
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} is {shown(value)}, expected three finite numbers")
    return numbers


class Muon(Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), for matrices, m being 0 at first.

        m = m + (1 - momentum) (g - m)
        u = m + (1 - momentum) (g - m)        with nesterov, else m
        x = u / (norm(u) + eps)               transposed if it has more rows than columns
        x = a x + (b y + c y y) x             ns_steps times, y = x x^T and (a, b, c) = ns_coefficients
        w = w - lr factor x                   factor = sqrt(max(1, rows / columns))

    The iteration (Newton and Schulz) takes all singular values to about 1. Its matrix products are NumPy's, in float32;
    the rest is one pass before them and one after. Weight decay is decoupled.

    It is for the weights of hidden layers; the others (vectors, embeddings, the last layer) go to another optimizer,
    in the same call:

        fusedstep.Split([(lambda key, w: w.ndim == 2, Muon()), (lambda key, w: True, AdamW())])

    PyTorch iterates in bfloat16, so its numbers differ in the third digit; Keras has the factor of "match_rms_adamw".

    Arguments:
        lr: The learning rate, or a schedule.
        momentum: From 0 to 1.
        weight_decay: Decoupled weight decay.
        nesterov: Whether the step looks ahead.
        ns_coefficients: a, b and c.
        ns_steps: The number of iterations.
        eps: Keeps the quotient finite.
        adjust_lr: The factor: "original" for the one above, "match_rms_adamw" for 0.2 sqrt(max(rows, columns)) (Liu et
            al. 2025, arXiv:2502.16982), with which a step is as large as one of AdamW, None for 1.
        options: What all optimizers have; see `Options`.

    Raises:
        ValueError: In an update, a parameter is no matrix.
        TypeError: In an update, a gradient is `Rows`.
    """

    _rule = "muon"

    _choose_rule = MappingProxyType(
        {
            "ns_coefficients": _checked_coefficients,
            "ns_steps": checked_count,
            "eps": checked,
            "adjust_lr": lambda name, value: checked_choice(name, value, "original", "match_rms_adamw", None),
        }
    )

    decoupled: bool = True

    def __init__(
        self,
        lr: LearningRate = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        *,
        nesterov: bool = True,
        ns_coefficients: Sequence[float] = _COEFFICIENTS,
        ns_steps: int = 5,
        eps: float = 1e-7,
        adjust_lr: Literal["original", "match_rms_adamw"] | None = "original",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.momentum = momentum
        self.nesterov = nesterov
        self.ns_coefficients = ns_coefficients
        self.ns_steps = ns_steps
        self.eps = eps
        self.adjust_lr = adjust_lr

    def _finish(self, direction: NDArray[Any]) -> None:
        """Makes a direction orthogonal, in place, and gives it its size."""
        if direction.size == 0:
            return
        rows, columns = direction.shape
        a, b, c = self.ns_coefficients
        x: NDArray[Any] = np.ascontiguousarray(direction.T if rows > columns else direction, np.float32)
        x = x / np.float32(_native.gradient_norm(x) + self.eps)
        for _ in range(self.ns_steps):
            y = x @ x.T
            y = np.float32(b) * y + np.float32(c) * (y @ y)
            x = np.float32(a) * x + y @ x
        factor = {
            "original": math.sqrt(max(1, rows / columns)),
            "match_rms_adamw": 0.2 * math.sqrt(max(rows, columns)),
            None: 1.0,
        }[self.adjust_lr]
        np.multiply(x.T if rows > columns else x, np.float32(factor), out=direction)
