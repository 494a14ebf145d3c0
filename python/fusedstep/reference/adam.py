"""Adam."""

import math
from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array


class Adam(Optimizer):
    """See fusedstep.Adam."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "v")

    counts_steps: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        eps_inside_root: bool = False,
        eps_corrected: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.eps_inside_root = eps_inside_root
        self.eps_corrected = eps_corrected

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array, *, steps: int
    ) -> None:
        correction = 1 - self.beta2**steps
        root = math.sqrt(correction)
        step = lr * root / (1 - self.beta1**steps)
        inside = self.eps * (correction if self.eps_corrected else 1) if self.eps_inside_root else 0.0
        outside = 0.0 if self.eps_inside_root else self.eps * (root if self.eps_corrected else 1)
        m += t(1 - self.beta1) * (g - m)
        v += t(1 - self.beta2) * (g * g - v)
        w -= t(step) * m / (np.sqrt(v + t(inside)) + t(outside))


class AdamW(Adam):
    """See fusedstep.AdamW."""

    def __init__(self, *args: Any, weight_decay: float = 0.01, decoupled: bool = True, **options: Any) -> None:
        super().__init__(*args, weight_decay=weight_decay, decoupled=decoupled, **options)
