"""Rules whose step has the same size for every weight."""

from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array


class SignSGD(Optimizer):
    """See fusedstep.SignSGD."""

    def __init__(self, lr: Any = 1e-3, **options: Any) -> None:
        super().__init__(lr, **options)

    def step(self, t: Rounded, lr: float, w: Array, g: Array) -> None:  # type: ignore[override]
        w -= t(lr) * np.sign(g)


class Signum(Optimizer):
    """See fusedstep.Signum."""

    state_names: ClassVar[tuple[str, ...]] = ("m",)

    def __init__(self, lr: Any = 1e-3, momentum: float = 0.9, **options: Any) -> None:
        super().__init__(lr, **options)
        self.momentum = momentum

    def step(self, t: Rounded, lr: float, w: Array, g: Array, m: Array) -> None:  # type: ignore[override]
        m[...] = t(self.momentum) * m + t(1 - self.momentum) * g
        w -= t(lr) * np.sign(m)


class Lion(Optimizer):
    """See fusedstep.Lion."""

    state_names: ClassVar[tuple[str, ...]] = ("m",)

    def __init__(
        self, lr: Any = 1e-4, beta1: float = 0.9, beta2: float = 0.99, *, decoupled: bool = True, **options: Any
    ) -> None:
        super().__init__(lr, decoupled=decoupled, **options)
        self.beta1 = beta1
        self.beta2 = beta2

    def step(self, t: Rounded, lr: float, w: Array, g: Array, m: Array) -> None:  # type: ignore[override]
        w -= t(lr) * np.sign(t(self.beta1) * m + t(1 - self.beta1) * g)
        m[...] = t(self.beta2) * m + t(1 - self.beta2) * g
