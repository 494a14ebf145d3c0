"""Follow the regularized leader."""

from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array


class FTRL(Optimizer):
    """See fusedstep.FTRL."""

    state_names: ClassVar[tuple[str, ...]] = ("n", "z")
    starts: ClassVar[dict[str, str]] = {"n": "initial_accumulator"}

    def __init__(
        self,
        lr: Any = 1e-3,
        learning_rate_power: float = -0.5,
        initial_accumulator: float = 0.1,
        l1: float = 0.0,
        l2: float = 0.0,
        l2_shrinkage: float = 0.0,
        beta: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator = initial_accumulator
        self.l1 = l1
        self.l2 = l2
        self.l2_shrinkage = l2_shrinkage
        self.beta = beta

    def step(self, t: Rounded, lr: float, w: Array, g: Array, n: Array, z: Array) -> None:  # type: ignore[override]
        before = np.sqrt(n)
        n += g * g
        root = np.sqrt(n)
        z += (g + t(2 * self.l2_shrinkage) * w) - (root - before) / t(lr) * w
        inside = np.clip(z, -t(self.l1), t(self.l1))
        w[...] = (inside - z) / ((root + t(self.beta)) / t(lr) + t(2 * self.l2))
