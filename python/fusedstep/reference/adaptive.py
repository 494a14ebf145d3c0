"""Rules that divide by the root of a sum or mean of squared gradients."""

from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array


class AdaGrad(Optimizer):
    """See fusedstep.AdaGrad."""

    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, lr: Any = 0.01, eps: float = 1e-7, *, eps_inside_root: bool = False, **options: Any) -> None:
        super().__init__(lr, **options)
        self.eps = eps
        self.eps_inside_root = eps_inside_root

    def step(self, t: Rounded, lr: float, w: Array, g: Array, h: Array) -> None:  # type: ignore[override]
        h += g * g
        inside, outside = (self.eps, 0.0) if self.eps_inside_root else (0.0, self.eps)
        w -= t(lr) * g / (np.sqrt(h + t(inside)) + t(outside))


class RMSProp(Optimizer):
    """See fusedstep.RMSProp."""

    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(
        self,
        lr: Any = 0.01,
        decay_rate: float = 0.99,
        eps: float = 1e-7,
        *,
        eps_inside_root: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.decay_rate = decay_rate
        self.eps = eps
        self.eps_inside_root = eps_inside_root

    def step(self, t: Rounded, lr: float, w: Array, g: Array, h: Array) -> None:  # type: ignore[override]
        h *= t(self.decay_rate)
        h += t(1 - self.decay_rate) * g * g
        inside, outside = (self.eps, 0.0) if self.eps_inside_root else (0.0, self.eps)
        w -= t(lr) * g / (np.sqrt(h + t(inside)) + t(outside))
