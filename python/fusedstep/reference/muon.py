"""Muon."""

import math
from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array, sum_of_squares


class Muon(Optimizer):
    """See fusedstep.Muon. Matrix products are NumPy's, in float32, of row-major matrices."""

    state_names: ClassVar[tuple[str, ...]] = ("m",)
    decays: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        *,
        nesterov: bool = True,
        ns_coefficients: Any = (3.4445, -4.7750, 2.0315),
        ns_steps: int = 5,
        eps: float = 1e-7,
        adjust_lr: str | None = "original",
        decoupled: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, decoupled=decoupled, **options)
        self.momentum = momentum
        self.nesterov = nesterov
        self.ns_coefficients = ns_coefficients
        self.ns_steps = ns_steps
        self.eps = eps
        self.adjust_lr = adjust_lr

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, *, decay: float
    ) -> None:
        c = t(1 - self.momentum)
        m += c * (g - m)
        u = m + (c if self.nesterov else t(0)) * (g - m)
        if decay != 0:
            w *= t(1 - lr * decay)
        if w.size == 0:
            return
        rows, columns = w.shape
        x: Array = np.array(u.T if rows > columns else u, np.float32, order="C")
        x /= np.float32(math.sqrt(sum_of_squares(x)) + self.eps)
        a, b, c = (np.float32(number) for number in self.ns_coefficients)
        for _ in range(self.ns_steps):
            y = x @ x.T
            x = a * x + (b * y + c * (y @ y)) @ x
        factor = 1.0
        if self.adjust_lr == "original":
            factor = math.sqrt(max(1, rows / columns))
        elif self.adjust_lr == "match_rms_adamw":
            factor = 0.2 * math.sqrt(max(rows, columns))
        w -= t(lr) * (np.float32(factor) * (x.T if rows > columns else x)).astype(w.dtype)
